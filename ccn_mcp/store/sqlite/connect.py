"""Opening the file: pragmas, identity, format version, and SQLite's errors in our words."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing, contextmanager, suppress
from pathlib import Path

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
from ccn_mcp.domain.limits import WAL_PAGES_MAX
from ccn_mcp.domain.merkle import Frontier
from ccn_mcp.domain.values import Value
from ccn_mcp.store.folders import make_folders
from ccn_mcp.store.lock import Turnstile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

APPLICATION_ID: Final = 0x63636E31
"""`ccn1`, in the file's header; `file` and `doctor` show it."""

FORMAT_VERSION: Final = 2
BUSY_S: Final = 5.0
"""How long SQLite itself waits; the turnstile makes such waits rare."""

PAGE_BYTES: Final = 4_096
CACHE_KIB: Final = 2_048
SCHEMAS: Final = tuple(Path(__file__).with_name(name) for name in ("schema.sql", "schema_2.sql"))
"""What each format version adds to the one before, from version 1 on: a new file runs through all of them."""

FULL_BYTES: Final = 131_072
"""A disk with less left counts as full: the log's index alone takes 32 KiB at a time."""

_SYNCS: Final = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)

Identity = tuple[int, int]
"""Device and inode: whether the path still names the file that is open."""


def real_path(path: Path) -> Path:
    """The file itself: SQLite keeps -wal and -shm beside it, so the locks have to be there too, one set for all."""
    return Path(os.path.realpath(path))


def identity_of(path: Path | str) -> Identity | None:
    """The identity of the file at `path`, None if there is none."""
    found = _look(path)
    return None if found is None else (found.st_dev, found.st_ino)


def _look(path: Path | str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116  # asked thrice at every append, and a new Path costs more than the answer
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise StoreUnavailable(
            f"cannot look at {path}: {exc.strerror}; check its folder's permissions"
        ) from exc


class Opened(Value):
    """Which file was opened, and which -wal and -shm belong to it."""

    file: Identity | None
    companions: tuple[Identity | None, ...]


def companions_of(path: Path) -> tuple[Identity | None, ...]:
    """The identities of the store's -wal and -shm files."""
    return identity_of(f"{path}-wal"), identity_of(f"{path}-shm")


def still_there(path: Path, opened: Opened) -> bool:
    """Whether `path` still names the file that was opened; False if another one has taken its place.

    Raises:
        StoreUnavailable: the file is gone, or another one would be read through its write-ahead log and overwritten
            at the next checkpoint. Or that log is gone: what is written there, no other process or start finds.
    """
    found = identity_of(path)
    companions = companions_of(path)
    if found == opened.file:
        if companions != opened.companions and any(
            then not in (None, now) for now, then in zip(companions, opened.companions, strict=True)
        ):
            raise StoreUnavailable(
                f"{path}-wal or {path.name}-shm was removed while it was in use; nothing was written. Stop every "
                "program that uses it, which saves what they hold, then start again"
            )
        return True
    if found is None:
        raise StoreUnavailable(
            f"{path} was removed while it was in use; nothing was written to the file that is gone. "
            "Put it back, or restart to begin a new store"
        )
    left = [now for now, then in zip(companions, opened.companions, strict=True) if now == then]
    if any(left) and not is_empty(path):
        raise StoreUnavailable(
            f"{path} was replaced while it was in use; neither file was read or written. Stop every program that "
            f"uses it, delete {path.name}-wal and {path.name}-shm beside it, then start again"
        )
    return False


def wal_bytes(path: Path) -> int:
    """The size of the write-ahead log, 0 without one."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except OSError:
        return 0


def discard_leftovers(path: Path) -> None:
    """Remove the -wal and -shm of a store that was deleted, before an empty file takes its place.

    Called under the turnstile for a file of 0 bytes: SQLite itself would remove the -wal, but use the -shm.
    """
    for suffix in ("-wal", "-shm"):
        left = path.with_name(path.name + suffix)
        try:
            left.unlink(missing_ok=True)
        except OSError as exc:
            raise StoreUnavailable(
                f"cannot remove {left}, which is left of a store that was deleted: {exc.strerror}; nothing was "
                "written. Remove it yourself, or choose another place with --db or CCN_DB"
            ) from exc


def is_empty(path: Path) -> bool:
    """Whether there is nothing to read at `path` yet.

    Raises:
        StoreUnavailable: `path` is a directory.
    """
    found = _look(path)
    if found is None:
        return True
    if stat.S_ISDIR(found.st_mode):
        raise StoreUnavailable(f"{path} is a folder; name a file in it, such as {path / 'ccn.db'}")
    return found.st_size == 0


def make_file(path: Path) -> None:
    """Make the folders (0700) and an empty file (0600), before SQLite would with the account's umask.

    An existing file is left alone, unopened: closing a descriptor would drop this process's POSIX locks on it.
    """
    try:
        make_folders(path.parent)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except PermissionError as exc:
        raise StoreReadOnly(
            f"cannot create {path}: {exc.strerror}; give this account write access to the folder, "
            "or choose another place with --db or CCN_DB"
        ) from exc
    except OSError as exc:
        if exc.errno in (28, 122):  # ENOSPC, EDQUOT
            raise StoreFull(f"cannot create {path}: {exc.strerror}; free some space and try again") from exc
        if exc.errno == 30:  # EROFS
            raise StoreReadOnly(
                f"cannot create {path}: {exc.strerror}; choose another place with --db or CCN_DB"
            ) from exc
        raise StoreUnavailable(
            f"cannot create {path}: {exc.strerror}; choose another place with --db or CCN_DB"
        ) from exc


def uri_of(path: Path) -> str:
    """An SQLite URI that never creates the file; every byte of the path is kept."""
    return f"{path.absolute().as_uri()}?mode=rw"


class Connection(sqlite3.Connection):
    """A connection that may be told to close in turn: the last one of a file to close checkpoints it."""

    turnstile: Turnstile | None = None

    def close(self) -> None:
        """Close, in turn if there is a turnstile."""
        turnstile, self.turnstile = self.turnstile, None
        if turnstile is None:
            super().close()
            return
        with closing(turnstile):
            turnstile.close_in_turn(super().close)


def connect(path: Path, wait_s: float = BUSY_S) -> Connection:
    """Open an existing store file in autocommit mode with our pragmas, which write nothing."""
    connection = sqlite3.connect(
        uri_of(path),
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=min(wait_s, BUSY_S),
        factory=Connection,
    )
    try:
        for pragma in PRAGMAS:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path, wait_s: float) -> Connection | None:
    """A connection that can only read and closes in turn; None while another process creates the store.

    Raises:
        StoreForeign, StoreNewer: see `read_format`. sqlite3.Error: as SQLite says.
    """
    connection = connect(path, wait_s)
    try:
        connection.execute("PRAGMA query_only = ON")
        ready = read_format(connection, path) > 0
    except BaseException:
        connection.close()
        raise
    if not ready:
        connection.close()
        return None
    # From here on it is a store of ours, so lock files may appear beside it.
    connection.turnstile = Turnstile(path, wait_s)
    return connection


PRAGMAS: Final = (
    "PRAGMA synchronous = FULL",
    # Checkpoints happen under the turnstile only: SQLite before 3.51.3 can lose a WAL reset race.
    "PRAGMA wal_autocheckpoint = 0",
    # A WAL that had to grow shrinks again when it starts over, so its size tells what is left to copy.
    f"PRAGMA journal_size_limit = {WAL_PAGES_MAX * PAGE_BYTES}",
    "PRAGMA recursive_triggers = ON",
    "PRAGMA secure_delete = ON",
    "PRAGMA trusted_schema = OFF",
    f"PRAGMA cache_size = -{CACHE_KIB}",
)


_IDENTITY: Final = (
    "SELECT a.application_id, u.user_version, (SELECT count(*) FROM sqlite_master) "
    "FROM pragma_application_id a, pragma_user_version u"
)


def read_format(connection: sqlite3.Connection, path: Path) -> int:
    """The file's format version, 0 for a database without any table.

    Raises:
        StoreForeign: another application's database.
        StoreNewer: a format of a later version of this program.
    """
    # One statement, so that it sees one state of a file that another process is creating.
    row: tuple[int, int, int] = connection.execute(_IDENTITY).fetchone()
    application, version, tables = row
    if application == APPLICATION_ID:
        if version > FORMAT_VERSION:
            raise StoreNewer(
                f"{path} has format {version}, this program knows up to {FORMAT_VERSION}; nothing was "
                "changed. Update ccn-mcp, or choose another file with --db or CCN_DB"
            )
        return version
    if application == version == tables == 0:
        return 0
    raise StoreForeign(
        f"{path} is a database of another application; nothing was changed. "
        "Choose another file with --db or CCN_DB"
    )


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file to the current format; called under the turnstile.

    WAL has to be set outside of a transaction, and again where a restore was killed before it was. All else is one
    transaction, so a file is either not there yet or whole.
    """
    version = read_format(connection, path)
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreUnavailable(
            f"the file system of {path} cannot hold a store that several programs use (no shared memory); "
            "choose a place on a local disk with --db or CCN_DB"
        )
    if version == FORMAT_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for schema in SCHEMAS[version:]:
            for statement in _statements(schema.read_text("utf-8")):
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


def contradiction(path: Path, what: str) -> StoreCorrupt:
    """The file is a sound database, but its tables do not fit together: something else wrote to it."""
    return StoreCorrupt(
        f"the tables of {path} contradict each other ({what}); nothing was written. "
        "Copy the file away, then run `ccn-mcp verify` and restore a backup"
    )


def frontier_of(path: Path, size: int, frontier: bytes) -> Frontier:
    """The Merkle frontier that the log keeps.

    Raises:
        StoreCorrupt: it does not fit the size.
    """
    try:
        return Frontier.from_bytes(size, frontier)
    except ValueError as exc:
        raise contradiction(path, str(exc)) from exc


def translate(exc: sqlite3.Error, path: Path) -> StoreError:
    """The error of ours that says what `exc` means for the person."""
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    if str(exc).startswith("Could not decode to UTF-8"):
        return contradiction(path, "it holds text that is not UTF-8")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(f"{path} is in use by another program; nothing was written. Try again in a moment")
    if code == sqlite3.SQLITE_READONLY:
        return StoreReadOnly(
            f"{path} cannot be written; give this account write access to the file and its folder"
        )
    if code == sqlite3.SQLITE_CONSTRAINT:
        return contradiction(path, str(exc))
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(exc, path)):
        return StoreFull(
            f"the disk that holds {path} is full; nothing was written. Free some space and try again"
        )
    if code == sqlite3.SQLITE_IOERR:
        return StoreUnavailable(
            f"the disk that holds {path} failed ({exc}), so this may not have been recorded. Check its free space, "
            "quota and health, then try again. (A program that gave an idempotency key gives the same one.)"
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


def _is_full(exc: sqlite3.Error, path: Path) -> bool:
    """Whether no space is left: SQLite then cannot make the log's index either, and calls that an I/O error."""
    if getattr(exc, "sqlite_errorcode", 0) in _SYNCS:
        return False  # what was not synced is written, and may be found after a crash
    import shutil  # not needed to append

    with suppress(OSError):
        return shutil.disk_usage(path.parent).free < FULL_BYTES
    return False
