"""Writers whose every call is recorded, and the check of what a power cut leaves of their store.

Run: `python -m tests.store.powercut FOLDER [FULL|NORMAL]` makes a store in a folder that is not there yet, writes,
checkpoints, erases, closes, and lets two more processes take turns. What is acknowledged is told on stdout at once.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from ccn_mcp.domain.errors import CcnError
from ccn_mcp.domain.models import Appended, Draft, Group
from ccn_mcp.store.secret import SecretFile
from ccn_mcp.store.sqlite import connect
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.disk import Files
from tests.store.model import opening, redaction, said
from tests.store.worker import ROOT, WAIT_S_MAX, tell

WAL_PAGES_MAX: Final = 60
"""Low, so that a short history checkpoints often."""

RETRIED_BEYOND: Final = 3
"""So many messages after the last acknowledged one are retried too: they may be there."""

STORE: Final = Path("data/ccn/ccn.db")
CONFIG: Final = "config"


# ---- the writers, traced -------------------------------------------------------------------------------


def word_of(name: str, number: int) -> str:
    """A word that only this message holds."""
    return f"zq{name}x{number}kw"


def message(name: str, number: int) -> Draft:
    """A writer's message; some are of several pages."""
    length = 9_000 if number % 10 == 7 else 40
    return said(f"{word_of(name, number)} " + "y" * length, name, key=f"{name}-{number}")


def open_log(folder: Path) -> SqliteLog:
    """The log in the folder, as a server of ours would open it."""
    secret = SecretFile(lambda: folder / CONFIG)
    return SqliteLog(folder / STORE, secret=secret, wal_pages_max=WAL_PAGES_MAX)


def append(log: SqliteLog, name: str, numbers: Sequence[int]) -> None:
    """Messages in one batch; told once they are acknowledged."""
    outcomes = log.append_batch([Group((message(name, number),)) for number in numbers])
    acknowledge(name, numbers, outcomes)


def acknowledge(name: str, numbers: Sequence[int], outcomes: Sequence[object]) -> None:
    for number, outcome in zip(numbers, outcomes, strict=True):
        assert isinstance(outcome, Appended), outcome
        tell(name=name, number=number, seq=outcome.receipts[0].seq)


def erase(log: SqliteLog, name: str, numbers: Sequence[int], seqs: Sequence[int]) -> None:
    """Erase messages by their seq; told with whether every file is clean."""
    tell(asked=[[name, number] for number in numbers])
    done = log.erase([redaction(seq) for seq in seqs])
    tell(erased=[[name, number] for number in numbers], pending=done.pending)


def lead(folder: Path) -> None:
    """The whole history."""
    log = open_log(folder)
    log.append_batch([Group((opening("a"),))])
    for number in range(12):
        append(log, "a", [number])
    append(log, "a", range(12, 20))
    # Entry 0 is the genesis, 1 opens the conversation.
    erase(log, "a", [3, 7], [5, 9])
    for number in range(20, 24):
        append(log, "a", [number])
    log.close()
    others = [
        subprocess.Popen([sys.executable, "-m", "tests.store.powercut", str(folder), "turns", name], cwd=ROOT)
        for name in ("b", "c")
    ]
    for other in others:
        assert other.wait(WAIT_S_MAX) == 0
    log = open_log(folder)
    with closing(sqlite3.connect(folder / STORE, isolation_level=None)) as reader:
        append(log, "a", [24])
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entry").fetchone()
        erase(log, "a", [10], [12])  # stays pending
        append(log, "a", [25])
        reader.execute("COMMIT")
        erase(log, "a", [], [])
        append(log, "a", [26])
    log.close()


async def take_turns(folder: Path, name: str) -> None:
    """A server's way of writing: a store, with appends at the same time."""
    async with SqliteStore(folder / STORE) as store:
        await store.append(Group((opening(name),)))
        for start in range(0, 12, 3):
            numbers = range(start, start + 3)
            outcomes = await asyncio.gather(*(store.append(Group((message(name, n),))) for n in numbers))
            acknowledge(name, numbers, outcomes)
        await store.info()


# ---- what was promised ---------------------------------------------------------------------------------


class Promised(NamedTuple):
    """What had been acknowledged when the power went."""

    seqs: dict[tuple[str, int], int]
    asked: frozenset[tuple[str, int]]
    """To be erased: gone or still there."""

    erased: frozenset[tuple[str, int]]
    clean: frozenset[tuple[str, int]]
    """Erased, and no file was to hold it any more."""

    def and_then(self, told: dict[str, Any]) -> Promised:
        """This and one more acknowledgement."""
        if "asked" in told:
            return self._replace(asked=self.asked | {(name, number) for name, number in told["asked"]})
        if "erased" in told:
            erased = self.erased | {(name, number) for name, number in told["erased"]}
            return self._replace(erased=erased, clean=self.clean if told["pending"] else erased)
        return self._replace(seqs={**self.seqs, (told["name"], told["number"]): told["seq"]})


NOTHING: Final = Promised({}, frozenset(), frozenset(), frozenset())


# ---- the check of an image -----------------------------------------------------------------------------


def check(folder: Path, image: Files, promised: Promised) -> list[str]:
    """Write the image into the folder, open it with the program as it is, retry everything; what is wrong.

    The folder is made, and removed again.
    """
    try:
        for path, data in image.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return _check(folder, image, promised)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check(folder: Path, image: Files, promised: Promised) -> list[str]:
    wrong = [
        f"not clean: {word_of(*which)} in {path}"
        for which in sorted(promised.clean)
        for path, data in image.items()
        if word_of(*which).encode() in data
    ]
    try:
        return wrong + _check_store(folder, promised)
    except CcnError as error:
        return [*wrong, f"refused: {error}"]


def _check_store(folder: Path, promised: Promised) -> list[str]:
    db = folder / STORE
    checked = verify_file(db)
    if checked.fault is not None:
        return [f"fault: {checked.fault}"]
    if checked.level != 1 and promised.seqs:
        return ["lost: the store"]
    wrong = _missing(db, promised)
    log = open_log(folder)
    try:
        wrong += _retry(log, promised)
    finally:
        log.close()
    checked = verify_file(db)
    if (checked.level, checked.fault) != (1, None):
        wrong.append(f"fault after retries: {checked.fault}")
    texts = _texts(db)
    if len(set(texts.values())) != len(texts):
        wrong.append("doubled: a message is there twice")
    return wrong + _missing(db, promised)


def _texts(db: Path) -> dict[int, str]:
    if connect.is_empty(db):
        return {}
    connection = connect.connect_to_read(db, 1.0)
    if connection is None:
        return {}
    with closing(connection):
        return dict(connection.execute("SELECT seq, text FROM record WHERE kind = 1 AND text IS NOT NULL"))


def _missing(db: Path, promised: Promised) -> list[str]:
    texts = _texts(db)
    return [
        f"lost: message {which}"
        for which, seq in promised.seqs.items()
        if which not in promised.erased
        and texts.get(seq, "" if which not in promised.asked else message(*which).body["text"])
        != message(*which).body["text"]
    ] + [f"back: message {which}" for which in promised.erased if promised.seqs[which] in texts]


def _retry(log: SqliteLog, promised: Promised) -> list[str]:
    """Every acknowledged message again, and some that were to follow: the same answers, and nothing twice."""
    numbers: dict[str, int] = {"a": -1, "b": -1, "c": -1}
    for name, number in promised.seqs:
        numbers[name] = max(numbers[name], number)
    for name in numbers:
        log.append_batch([Group((opening(name),))])  # a conflict where it is open already
    which = [(name, number) for name, last in numbers.items() for number in range(last + 1 + RETRIED_BEYOND)]
    outcomes = log.append_batch([Group((message(*each),)) for each in which])
    wrong = []
    for each, outcome in zip(which, outcomes, strict=True):
        if not isinstance(outcome, Appended):
            wrong.append(f"refused: message {each}: {outcome}")
        elif each in promised.seqs and not (
            outcome.receipts[0].replayed and outcome.receipts[0].seq == promised.seqs[each]
        ):
            wrong.append(f"doubled: message {each}")
    return wrong


def main(folder: Path, synchronous: str = "FULL", name: str = "") -> None:
    """See the module's words."""
    if synchronous == "turns":
        asyncio.run(take_turns(folder, name))
        return
    changed = tuple(
        text.replace("synchronous = FULL", f"synchronous = {synchronous}") for text in connect.PRAGMAS
    )
    vars(connect).update(PRAGMAS=changed)
    lead(folder)


if __name__ == "__main__":
    os.umask(0o077)
    main(Path(sys.argv[1]), *sys.argv[2:])
