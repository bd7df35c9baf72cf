"""A writer that meets a fault of the disk and tries again, as a patient person would.

It creates a store, appends, checkpoints, erases and closes, tries each step again when it fails, and tells what was
acknowledged and every error. Run: `python -m tests.store.faulty FOLDER CALL MOST NUMBER...`: once per number, in a fork
of this process and a folder of that number. Faults come from outside: strace puts one at the call CALL that is the
MOST-th of its process, and before it begins, writer NUMBER makes as many of these calls in vain as it takes for its
own NUMBER-th to be that one.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from ccn_mcp.domain.errors import CcnError
from ccn_mcp.domain.models import Appended, Draft, Group
from ccn_mcp.store.secret import SecretFile
from ccn_mcp.store.sqlite.log import SqliteLog
from tests.store.model import opening, redaction, said

TRIES_MAX: Final = 3
MESSAGES: Final = 6
ERASED_AFTER: Final = 4
ERASED: Final = 1
"""The message that goes once four are there."""

WAL_PAGES_MAX: Final = 40
"""So low that there is a checkpoint among the appends."""

STORE: Final = Path("data/ccn.db")


def word_of(number: int) -> str:
    """A word that only this message holds."""
    return f"zqx{number}kwv"


def message(number: int) -> Draft:
    """The message of this number."""
    return said(f"{word_of(number)} is said", key=f"k{number}")


def tell(**fields: object) -> None:
    """One line on stdout; not by `write`, which the faults are for."""
    os.writev(1, [json.dumps(fields).encode() + b"\n"])


class Writer:
    """One log, opened again after a close that failed."""

    def __init__(self, folder: Path) -> None:
        self._log = SqliteLog(
            folder / STORE, secret=SecretFile(lambda: folder / "config"), wal_pages_max=WAL_PAGES_MAX
        )
        self._erased = 0

    def go(self) -> None:
        """Everything, in order, up to what cannot be done; told at the end whether all of it worked."""
        steps: list[Callable[[], None]] = [lambda: self._append(opening(key="open"))]
        for number in range(MESSAGES):
            steps.append(partial(self._append, message(number), number))
            if number == ERASED_AFTER:
                steps.append(self._erase)
        done = all(self._again(step) for step in [*steps, self._clean])
        done &= self._again(self._log.close)
        tell(done=done)

    def _again(self, step: Callable[[], None]) -> bool:
        for _ in range(TRIES_MAX):
            try:
                step()
            except CcnError as error:
                tell(code=error.code, message=str(error))
            else:
                return True
        return False

    def _append(self, draft: Draft, number: int | None = None) -> None:
        (outcome,) = self._log.append_batch([Group((draft,))])
        if not isinstance(outcome, Appended):
            raise outcome if outcome is not None else AssertionError
        if number == ERASED:
            self._erased = outcome.receipts[0].seq
        if number is not None:
            tell(number=number, seq=outcome.receipts[0].seq)

    def _erase(self) -> None:
        done = self._log.erase([redaction(self._erased)])
        tell(erased=self._erased, pending=done.pending)

    def _clean(self) -> None:
        for _ in range(TRIES_MAX):
            pending = self._log.erase([]).pending
            if not pending:
                tell(clean=True)
                return


# ---- one after the other ---------------------------------------------------------------------------------


def in_vain(call: str, times: int, scratch: int) -> None:
    """Make this call so often; it changes nothing."""
    made: dict[str, Callable[[], object]] = {
        "write": lambda: os.write(scratch, b""),
        "pwrite64": lambda: os.pwrite(scratch, b"", 0),
        "ftruncate": lambda: os.ftruncate(scratch, 0),
        "fsync": lambda: os.fsync(scratch),
        "fdatasync": lambda: os.fdatasync(scratch),
        "mkdir": Path("/").mkdir,
        "link": lambda: os.link("/", "/"),
        "unlink": Path("/").unlink,
    }
    for _ in range(times):
        with suppress(OSError):
            made[call]()


def serve(folder: Path, call: str, most: int, numbers: list[int]) -> None:
    """A writer per number; its lines are added to the file of that number, and how it ended is told."""
    scratch = os.open(folder / "scratch", os.O_RDWR | os.O_CREAT, 0o600)
    for number in numbers:
        child = os.fork()
        if child:
            tell(number=number, status=os.waitpid(child, 0)[1])
            continue
        try:
            lines = os.open(folder / f"{number}.lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(lines, 1)
            in_vain(call, most - number, scratch)
            Writer(folder / str(number)).go()
            os._exit(0)
        except BaseException:  # noqa: BLE001  # a fork must never go on as its parent
            tell(bug=traceback.format_exc())
            os._exit(1)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), list(map(int, sys.argv[4:])))
