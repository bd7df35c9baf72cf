"""Claude Code's transcripts that the record does not know: offered once, named by `doctor`, brought in where new.

A transcript is known by its session, which has a conversation in the record. Nothing here is written to the record.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

from ccn_mcp.domain.erasure import SESSION
from ccn_mcp.interop import privacy
from ccn_mcp.store.folders import make_folders
from ccn_mcp.store.sqlite import connect

FILE: Final = "first-use"
FILES_MAX: Final = 2_000
"""Newest transcripts that the start of a session looks at, by name and time; `doctor` looks at ten times as many."""

DOCTOR_FILES_MAX: Final = 10 * FILES_MAX
PEEK_BYTES: Final = 262_144
"""Of a transcript, to see whether anybody said something in it, and where."""

PEEKED_MAX: Final = 200
"""Unknown transcripts that the start of a session opens; the rest is counted as it is."""

KEPT_DAYS: Final = 30
"""Claude Code deletes a transcript that long after it was last written, unless `cleanupPeriodDays` is set."""

WAIT_S_MAX: Final = 2.0
_ASKED_AT_ONCE: Final = 500
_SAID: Final = re.compile(rb'"type"\s*:\s*"user"')
_FOLDER: Final = re.compile(rb'"cwd"\s*:\s*("(?:[^"\\]|\\.)*")')

OFFER: Final = (
    "ccn_mcp: {count} of Claude Code on this machine {are} not in the record, the oldest from {oldest}; Claude Code "
    "deletes them after {days} days. To bring them in: ccn-mcp import --claude-code (with --dry-run it only counts). "
    "This is said once; ccn-mcp doctor says it again."
)


class Left(NamedTuple):
    """How many transcripts are unknown, when the oldest of them was last written (seconds since 1970), which."""

    number: int
    oldest: float
    paths: list[Path]


def first_use(config: Path) -> tuple[int, bool]:
    """When a hook was first called for this account (microseconds since 1970), and whether that is now.

    Raises:
        OSError: it cannot be read or noted.
    """
    path = config / FILE
    make_folders(config)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return path.stat().st_mtime_ns // 1_000, False
    return path.stat().st_mtime_ns // 1_000, True


def transcripts(projects: Path, most: int) -> list[tuple[float, Path]]:
    """The newest transcripts of every project, newest first; those of subagents lie deeper and are left out."""
    found = [(_written(path), path) for folder in _folders(projects) for path in folder.glob("*.jsonl")]
    return sorted(found, reverse=True)[:most]


def _folders(projects: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (folder for folder in projects.iterdir() if folder.is_dir())


def _written(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def unknown(
    found: Iterable[tuple[float, Path]],
    db: Path,
    config: Path,
    *,
    besides: str = "",
    wanted: Callable[[str], bool] = lambda _folder: True,
    peeked_most: int = PEEKED_MAX,
) -> Left:
    """Those of these transcripts that the record does not know and in which something was said.

    Left out: the session `besides`, private sessions, and folders that are not `wanted`.

    Raises:
        StoreError: the record cannot be read.
    """
    named = {path.stem: (at, path) for at, path in found if path.stem != besides}
    known = known_sessions(db, list(named))
    left: list[tuple[float, Path]] = []
    for number, (session, (at, path)) in enumerate(
        (item for item in named.items() if item[0] not in known), 1
    ):
        if number <= peeked_most and not _to_import(path, wanted):
            continue
        if not _private(config, session):
            left.append((at, path))
    return Left(len(left), min((at for at, _ in left), default=0.0), [path for _, path in left])


def known_sessions(db: Path, sessions: list[str]) -> set[str]:
    """Those of these sessions that have a conversation in the record.

    Raises:
        StoreError: the record cannot be read.
    """
    path = connect.real_path(db)
    if not sessions or connect.is_empty(path):
        return set()
    known: set[str] = set()
    with connect.our_words(path), closing(connect.connect(path, WAIT_S_MAX)) as reader:
        for at in range(0, len(sessions), _ASKED_AT_ONCE):
            keys = [f"{SESSION}{session}" for session in sessions[at : at + _ASKED_AT_ONCE]]
            marks = ",".join("?" * len(keys))
            rows = reader.execute(
                f"SELECT key FROM record WHERE principal = 'local' AND key IN ({marks})",  # noqa: S608  # fixed text
                keys,
            )
            known.update(key[len(SESSION) :] for (key,) in rows)
    return known


def _to_import(path: Path, wanted: Callable[[str], bool]) -> bool:
    try:
        with path.open("rb") as source:
            data = source.read(PEEK_BYTES)
    except OSError:
        return False
    if _SAID.search(data) is None and len(data) < PEEK_BYTES:
        return False
    place = _FOLDER.search(data)
    folder = json.loads(place[1]) if place is not None else ""
    return not folder or wanted(folder)


def _private(config: Path, session: str) -> bool:
    try:
        return bool(privacy.marks(config, session))
    except OSError:
        return True


def days_kept(projects: Path) -> int:
    """How long Claude Code keeps a transcript here."""
    with suppress(OSError, ValueError):
        told = json.loads((projects.parent / "settings.json").read_bytes())
        days = told.get("cleanupPeriodDays") if isinstance(told, dict) else None
        if isinstance(days, int) and not isinstance(days, bool) and days >= 0:
            return days
    return KEPT_DAYS


def offer(left: Left, days: int) -> str:
    """The one line that a person is told about them; empty where there are none."""
    if not left.number:
        return ""
    count = "1 session" if left.number == 1 else f"{left.number:,} sessions"
    return OFFER.format(
        count=count, are="is" if left.number == 1 else "are", oldest=day(left.oldest), days=days
    )


def day(at: float) -> str:
    """The local date of a time in seconds since 1970."""
    return time.strftime("%Y-%m-%d", time.localtime(at))
