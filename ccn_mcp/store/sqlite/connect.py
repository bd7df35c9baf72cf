"""Opening the file: pragmas, identity, format version, and SQLite's errors in our words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ccn_mcp.domain.errors import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreNewer,
    StoreReadOnly,
    StoreUnavailable,
)

APPLICATION_ID: Final = 0x63636E31
"""`ccn1`, in the file's header; `file` and `doctor` show it."""

FORMAT_VERSION: Final = 1
BUSY_MS: Final = 5_000
"""How long SQLite itself waits; the turnstile makes such waits rare."""

CACHE_KIB: Final = 2_048
SCHEMA: Final = Path(__file__).with_name("schema.sql")

Identity = tuple[int, int]
"""Device and inode: whether the path still names the file that is open."""


def identity_of(path: Path) -> Identity | None:
    """The identity of the file at `path`, None if there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise StoreUnavailable(
            f"cannot look at {path}: {exc.strerror}; check its folder's permissions"
        ) from exc
    return found.st_dev, found.st_ino


def is_empty(path: Path) -> bool:
    """Whether there is nothing to read at `path` yet.

    Raises:
        StoreUnavailable: `path` is a directory.
    """
    if path.is_dir():
        raise StoreUnavailable(f"{path} is a folder; name a file in it, such as {path / 'ccn.db'}")
    try:
        return path.stat().st_size == 0
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as exc:
        raise StoreUnavailable(
            f"cannot look at {path}: {exc.strerror}; check its folder's permissions"
        ) from exc


def make_file(path: Path) -> None:
    """Make the folder (0700) and an empty file (0600), before SQLite would with the account's umask.

    Never called while this process has the file open: closing a descriptor drops POSIX locks.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except PermissionError as exc:
        raise StoreReadOnly(
            f"cannot create {path}: {exc.strerror}; give this account write access to the folder, "
            "or choose another place with --db or CCN_DB"
        ) from exc
    except OSError as exc:
        if exc.errno in (28, 122):  # ENOSPC, EDQUOT
            raise StoreFull(f"cannot create {path}: {exc.strerror}; free some space and try again") from exc
        raise StoreUnavailable(
            f"cannot create {path}: {exc.strerror}; choose another place with --db or CCN_DB"
        ) from exc


def uri_of(path: Path) -> str:
    """An SQLite URI that never creates the file; every byte of the path is kept."""
    return f"{path.absolute().as_uri()}?mode=rw"


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing store file in autocommit mode with our pragmas."""
    return prepare(sqlite3.connect(uri_of(path), uri=True, isolation_level=None, check_same_thread=False))


def prepare(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Per-connection settings; they write nothing."""
    for pragma in PRAGMAS:
        connection.execute(pragma)
    return connection


PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_MS}",
    "PRAGMA synchronous = FULL",
    # Checkpoints happen under the turnstile only: SQLite before 3.51.3 can lose a WAL reset race.
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA recursive_triggers = ON",
    "PRAGMA secure_delete = ON",
    "PRAGMA trusted_schema = OFF",
    f"PRAGMA cache_size = -{CACHE_KIB}",
)


def read_format(connection: sqlite3.Connection, path: Path) -> int:
    """The file's format version, 0 for a database without any table.

    Raises:
        StoreForeign: another application's database.
        StoreNewer: a format of a later version of this program.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION_ID:
        if version > FORMAT_VERSION:
            raise StoreNewer(
                f"{path} has format {version}, this program knows up to {FORMAT_VERSION}; nothing was "
                "changed. Update ccn-mcp, or choose another file with --db or CCN_DB"
            )
        return version
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application == version == tables == 0:
        return 0
    raise StoreForeign(
        f"{path} is a database of another application; nothing was changed. "
        "Choose another file with --db or CCN_DB"
    )


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file to the current format; called under the turnstile.

    WAL has to be set outside of a transaction. Everything else is one transaction, so a file is either
    not there yet or whole.
    """
    if read_format(connection, path) == FORMAT_VERSION:
        return
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(SCHEMA.read_text("utf-8")):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    # executescript() would commit the open transaction first, so the script is cut by SQLite's own rule.
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


@contextmanager
def our_words(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, each with a next step; the cause is kept."""
    try:
        yield
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc


def translate(exc: sqlite3.Error, path: Path) -> StoreError:
    """The error of ours that says what `exc` means for the person."""
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(f"{path} is in use by another program; nothing was written. Try again in a moment")
    if code == sqlite3.SQLITE_READONLY:
        return StoreReadOnly(
            f"{path} cannot be written; give this account write access to the file and its folder"
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(
            f"the disk that holds {path} is full; nothing was written. Free some space and try again"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorrupt(
            f"{path} is damaged or is not a database ({exc}); nothing was changed. "
            "Copy the file away, then run `ccn-mcp verify` and restore a backup"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreUnavailable(
            f"cannot open {path}; check that the folder exists and that this account may use it"
        )
    return StoreError(f"{path}: {exc}; nothing was written. Run `ccn-mcp doctor` for details")
