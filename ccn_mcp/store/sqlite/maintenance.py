"""Keeping the file small and quick: what `ccn-mcp maintain` does, and what a quiet moment does by itself.

Nothing here touches `entry`, and nothing that `verify` compares can go: each row of `record`, `conversation` and
`instance` is compared with the log. What can be given back is the write-ahead log, the index's pieces and free pages.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

from ccn_mcp.domain.errors import StoreFull
from ccn_mcp.domain.models import Maintained
from ccn_mcp.store.sqlite import beside, connect, erasure

Turn = Callable[[], AbstractContextManager[sqlite3.Connection]]
"""One turn of the turnstile, with the connection that writes."""

Tidy = Callable[[], tuple[bool, int]]
"""One step of cleaning up after erasures; see `SqliteLog.tidy`."""

HOLD_S_MAX: Final = 0.25
"""How long one turn may compute or wait for readers; only copying the write-ahead log may take longer."""

MERGE_PAGES: Final = 200
MERGE_STEPS_MAX: Final = 5_000
"""Steps of one `maintain`, each a turn of its own; at the end of them the index is as it is."""

ANALYSIS_ROWS_MAX: Final = 400
QUIET_WAL_BYTES_MAX: Final = 1_048_576
"""A longer write-ahead log is emptied in a quiet moment."""

ANALYSE_EVERY_S: Final = 24 * 3600.0
VACUUM_ROOM: Final = 2
"""Free space that VACUUM needs, in sizes of the file: a copy, and the write-ahead log that takes it back."""


def maintain(path: Path, turn: Turn, tidy: Tidy, *, vacuum: bool = False) -> Maintained:
    """Do all of it, in many short turns; with `vacuum` one long one. See `Store.maintain`.

    Raises:
        StoreFull: no room for `vacuum`; nothing was done. StoreError.
    """
    before = files_bytes(path)
    if vacuum:
        check_room(path, before)
    with turn() as connection:
        waiting = erasure.pending(connection)
    more, left = waiting > 0, 0
    while more:
        more, left = tidy()
    steps, merged = merge_index(turn)
    with turn() as connection:
        analysed = analyse(connection, "ANALYZE")
    if vacuum:
        with turn() as connection:
            connection.execute("VACUUM")
    with turn() as connection:
        emptied = checkpoint(connection)
    return Maintained(
        exists=True,
        bytes_before=before,
        bytes_after=files_bytes(path),
        erasures_finished=waiting - left,
        erasures_pending=left,
        wal_emptied=emptied,
        index_steps=steps,
        index_merged=merged,
        analysed=analysed,
        vacuumed=vacuum,
        leftovers=beside.clear_leftovers(path.parent),
    )


class Chores:
    """What a quiet moment of a long-lived process has to do; small, and each thing only when it is due."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._analysed_s: float | None = None

    def due(self) -> bool:
        """Whether there is anything; looks at a file's size only."""
        return self._analysis_due() or connect.wal_bytes(self._path) > QUIET_WAL_BYTES_MAX

    def do(self, connection: sqlite3.Connection) -> None:
        """Do it, within one turn."""
        if self._analysis_due():
            analyse(connection, "PRAGMA optimize")
            # Also if it was cut short: tomorrow will do.
            self._analysed_s = time.monotonic()
        if connect.wal_bytes(self._path) > QUIET_WAL_BYTES_MAX:
            checkpoint(connection)

    def _analysis_due(self) -> bool:
        return self._analysed_s is None or time.monotonic() - self._analysed_s > ANALYSE_EVERY_S


def checkpoint(connection: sqlite3.Connection) -> bool:
    """Copy the write-ahead log into the file and empty it; False where a reader needs it, or the disk is full."""
    with suppress(sqlite3.Error), _waiting(connection):
        busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return not busy
    return False


def merge_index(turn: Turn) -> tuple[int, bool]:
    """Merge the full-text index's pieces into one; returns the steps, and whether it is one piece now."""
    pages = -MERGE_PAGES  # the first step begins a merge of everything, the others go on with it
    for step in range(1, MERGE_STEPS_MAX + 1):
        with turn() as connection:
            before = connection.total_changes
            connection.execute("INSERT INTO message_fts (message_fts, rank) VALUES ('merge', ?)", (pages,))
            # FTS5 counts the command itself as one change; a step that did nothing makes no other.
            if connection.total_changes - before < 2:
                first, last = connection.execute(
                    "SELECT min(segid), max(segid) FROM message_fts_idx"
                ).fetchone()
                return step, first == last
        pages = MERGE_PAGES
    return MERGE_STEPS_MAX, False


def analyse(connection: sqlite3.Connection, statement: str) -> bool:
    """Refresh what the query planner knows; False where it took too long, and was given up."""
    connection.execute(f"PRAGMA analysis_limit = {ANALYSIS_ROWS_MAX}")
    until = time.monotonic() + HOLD_S_MAX
    connection.set_progress_handler(lambda: time.monotonic() > until, 10_000)
    try:
        connection.execute(statement)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return False
    finally:
        connection.set_progress_handler(None, 0)
    return True


def files_bytes(path: Path) -> int:
    """The store's file and its write-ahead log."""
    with suppress(OSError):
        return path.stat().st_size + connect.wal_bytes(path)
    return 0


def check_room(path: Path, size: int, times: int = VACUUM_ROOM) -> None:
    """Go on only if the disk has `times` the `size` to spare.

    Raises:
        StoreFull: nothing was done.
    """
    import shutil  # not needed to append

    free = shutil.disk_usage(path.parent).free
    if free < times * size:
        raise StoreFull(
            f"this needs about {times * size / 1e6:,.1f} MB of free space beside {path}, and {free / 1e6:,.1f} MB are "
            "there; nothing was done. Free some space and try again"
        )


@contextmanager
def _waiting(connection: sqlite3.Connection) -> Iterator[None]:
    """Readers are waited for no longer than a turn may last."""
    usual = connection.execute("PRAGMA busy_timeout").fetchone()[0]
    connection.execute(f"PRAGMA busy_timeout = {int(HOLD_S_MAX * 1_000)}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {usual}")
