"""Changes a store's key in processes that are killed, one at each step, and says what was found afterwards.

Run: `python -m tests.store.rotate_worker TEMPLATE WORK LOST`. For each step a copy of TEMPLATE is put at WORK and a
child is forked that changes the key and kills itself (SIGKILL) just before the step: a statement, a write, a sync,
or a change of a name. Then the store is used again. Each line on stdout is a JSON object; the last child ends by
itself.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, Final

from ccn_mcp.domain.models import Group
from ccn_mcp.store.keeper import FileKeeper
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.connect import real_path
from ccn_mcp.store.sqlite.log import SqliteLog
from tests.store.model import said

STEPS: Final = frozenset(
    {"execute", "link", "replace", "rename", "unlink", "remove", "fsync", "write", "flush", "mkstemp"}
)
STEPS_MAX: Final = 2_000
STORE_FILE: Final = Path("data") / "ccn.db"


def keeper_of(work: Path) -> FileKeeper:
    """The keeper of the store in the folder."""
    return FileKeeper(lambda: work / "config", real_path(work / STORE_FILE))


def change(work: Path, step: int, *, lost: bool) -> None:
    """Change the key; killed just before the step that many calls away."""
    left = step

    def count(_: object, event: str, argument: Any) -> None:
        nonlocal left
        if event == "c_call" and argument.__name__ in STEPS:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    log = SqliteLog(work / STORE_FILE, keeper=keeper_of(work))
    sys.setprofile(count)
    log.rotate_key(lost=lost)
    log.close()
    sys.setprofile(None)


def found(work: Path) -> dict[str, object]:
    """What is there once the store was used again."""
    keeper = keeper_of(work)
    log = SqliteLog(work / STORE_FILE, keeper=keeper)
    log.append_batch([Group((said("after"),))])
    log.close()
    checked = verify_file(work / STORE_FILE, keeper=keeper)
    return {
        "fault": None if checked.fault is None else checked.fault.detail,
        "level": checked.level,
        "entries": checked.entries,
        "signed_to": checked.signed_to,
        "files": sorted(path.suffix for path in (work / "config" / "keys").iterdir()),
    }


def main(template: Path, work: Path, *, lost: bool) -> None:
    """Every step."""
    for step in range(STEPS_MAX):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(template, work)
        child = os.fork()
        if child == 0:
            try:
                change(work, step, lost=lost)
            except BaseException as error:  # noqa: BLE001  # shown by the exit status
                print(error, file=sys.stderr)
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"step": step, "status": status, **found(work)}), flush=True)
        if status != -signal.SIGKILL:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), lost=sys.argv[3] == "lost")
