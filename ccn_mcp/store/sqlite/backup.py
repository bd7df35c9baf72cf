"""A copy of a store while others write to it: one file, checked after writing, there whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccn_mcp.domain.errors import NoStore, StoreBusy, VerificationFailed
from ccn_mcp.domain.limits import STORE_WAIT_S_MAX
from ccn_mcp.domain.models import Verification
from ccn_mcp.store.sqlite import beside, connect
from ccn_mcp.store.sqlite.audit import verify_file

STEP_PAGES: Final = 1_000
COPIES_MAX: Final = 3
"""Copies that are begun again because a message was erased meanwhile."""

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, total) between steps; may raise to stop."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A finished backup; `checked` is the verification of the copy itself."""

    path: Path
    size: int
    store_id: bytes
    checked: Verification


def backup(
    source: Path, target: Path, *, replace: bool = False, progress: Progress | None = None
) -> BackedUp:
    """Write a copy of the store at `source`, as it is at one moment, to `target` (0600).

    Nothing that was erased is in it. Synchronous; an exception, `KeyboardInterrupt` too, leaves nothing behind.

    Raises:
        NoStore, StoreError: nothing was written. Conflict: `target` exists. VerificationFailed: the copy does not
            verify, so the store is damaged.
    """
    source = connect.real_path(source)
    told = progress or (lambda *_: None)
    if connect.is_empty(source):
        raise NoStore(f"there is no store at {source} yet, so there is nothing to back up")
    with beside.work_folder(target) as folder, beside.words_of(folder / "ccn.db", target):
        for _ in range(COPIES_MAX):
            part = folder / "ccn.db"
            part.unlink(missing_ok=True)
            store_id = _copy(source, part, told)
            checked = verify_file(part, progress=lambda done, total: told("Verifying", done, total))
            if checked.fault is not None:
                raise VerificationFailed(
                    f"the copy does not verify ({checked.fault.detail}), so no backup was written: the store itself is "
                    f"damaged. Run `ccn-mcp verify --db {source}`, and copy its files by hand to keep them as they are"
                )
            if not _erased_since(source, checked.entries):
                size = part.stat().st_size
                beside.put_in_place(part, target, replace=replace)
                return BackedUp(target, size, store_id, checked)
    raise StoreBusy(
        f"messages were erased while {source} was copied, {COPIES_MAX} times in a row, so no backup was written; "
        "try again in a moment"
    )


def _copy(source: Path, part: Path, told: Progress) -> bytes:
    """The store as it is at one moment; returns its id."""
    connect.make_file(part)
    with closing(open_to_read(source)) as reader:
        # A read transaction of its own: without it the copy would begin again after each write of another process.
        reader.execute("BEGIN")
        row = reader.execute("SELECT store_id FROM log").fetchone()
        if row is None:
            raise NoStore(f"there is no store at {source} yet, so there is nothing to back up")
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            reader.backup(
                copy,
                pages=STEP_PAGES,
                progress=lambda _, left, total: told("Copying", total - left, total),
            )
    with closing(connect.connect(part)) as copy:
        if copy.execute("SELECT 1 FROM erasure").fetchone() is not None:
            # Pending: the index may hold words of what was erased. What the write-ahead log holds is not copied.
            copy.execute("INSERT INTO message_fts (message_fts) VALUES ('optimize')")
            copy.execute("DELETE FROM erasure")
    store_id: bytes = row[0]
    return store_id


def open_to_read(path: Path) -> connect.Connection:
    """A reading connection to a store that must be there.

    Raises:
        NoStore.
    """
    reader = connect.connect_to_read(path, STORE_WAIT_S_MAX)
    if reader is None:
        raise NoStore(f"there is no store at {path} yet")
    return reader


def _erased_since(source: Path, size: int) -> bool:
    with closing(open_to_read(source)) as reader:
        return reader.execute(_NEWER_REDACTION, (size,)).fetchone() is not None


# `kind <> 1` lets SQLite use the partial index; 6 is a redaction.
_NEWER_REDACTION: Final = "SELECT 1 FROM record WHERE kind <> 1 AND kind = 6 AND seq >= ? LIMIT 1"
