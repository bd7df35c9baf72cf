"""Private mode: since when a session is not recorded. One small file of marks per session, in the config folder.

Marks, not a switch: a transcript is read again later, and what was said in private must not come in then either.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256

from ccn_mcp.domain.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Final

FOLDER: Final = "private"
MARKS_BYTES_MAX: Final = 65_536
ON, AUTO, OFF = "on", "auto", "off"
"""Asked for by the person; by CCN_PRIVATE or an excluded folder, as long as that lasts; recorded again."""


class Mark(Value):
    """From this moment (microseconds since 1970) on."""

    kind: str
    at_us: int


def marks(folder: Path, session: str) -> list[Mark]:
    """A session's marks, oldest first.

    Raises:
        OSError: there are some, and they cannot be read: then nothing may be recorded.
    """
    try:
        with _file(folder, session).open("rb") as source:
            lines = source.read(MARKS_BYTES_MAX).decode("ascii", "replace").splitlines()
    except FileNotFoundError:
        return []
    found = [line.split() for line in lines]
    return [Mark(parts[0], int(parts[1])) for parts in found if len(parts) == 2 and parts[1].isdigit()]


def put(folder: Path, session: str, kind: str) -> None:
    """Add a mark, durably.

    Raises:
        OSError: it was not added.
    """
    from ccn_mcp.store.folders import make_folders

    make_folders(folder / FOLDER)
    handle = os.open(_file(folder, session), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, f"{kind} {time.time_ns() // 1_000}\n".encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def is_on(found: list[Mark]) -> bool:
    """Whether the session is private now."""
    return bool(found) and found[-1].kind != OFF


def settle(folder: Path, session: str, *, hidden: bool) -> list[Mark]:
    """The session's marks, once they say that it is `hidden` now for another reason than the person's word, or no more.

    Raises:
        OSError: they cannot be read or added to.
    """
    found = marks(folder, session)
    if hidden and not is_on(found):
        put(folder, session, AUTO)
    elif not hidden and found and found[-1].kind == AUTO:
        put(folder, session, OFF)
    else:
        return found
    return marks(folder, session)


def was_private(found: list[Mark], at_us: int) -> bool:
    """Whether what was said then was said in private."""
    before = [mark for mark in found if mark.at_us <= at_us]
    return is_on(before)


def _file(folder: Path, session: str) -> Path:
    # A session's id is the client's own text, and not always fit for a file's name.
    return folder / FOLDER / sha256(session.encode("utf-8", "surrogatepass")).hexdigest()[:32]
