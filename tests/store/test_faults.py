"""Everything that a disk, a person or another program does to a store: the error is ours, says what to do next,
and nothing that was acknowledged is lost.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp.domain.errors import (
    CcnError,
    StoreBusy,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreNewer,
    StoreReadOnly,
    StoreUnavailable,
)
from ccn_mcp.domain.models import Appended, Group, MessageQuery
from ccn_mcp.store import lock
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.sqlite import connect
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.model import opening, said, seeded
from tests.store.worker import COMMAND, ROOT, WAIT_S_MAX, Json, messages_of, plan, workers

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="the faults are made with POSIX means"),
]

NOBODY: Final = 65_534
WAIT_S: Final = 0.2
NEXT_STEP: Final = re.compile(
    r"give this account|choose another|choose a place|name a file|free some space|try again|put it back|"
    r"stop every program|copy the file away|update ccn-mcp|check (its|that|the)",
    re.IGNORECASE,
)


async def put(store: SqliteStore, *texts: str) -> Appended:
    """Messages in c1, each in a group of its own."""
    for text in texts:
        done = await store.append(Group((said(text),)))
    return done


async def make(db: Path, count: int = 5) -> str:
    """A closed store of c1 with `count` messages; its head."""
    async with SqliteStore(db) as store:
        await store.append(Group((opening(),)))
        return str((await put(store, *map(str, range(count)))).head)


async def texts_of(db: Path) -> list[str | None]:
    async with SqliteStore(db) as store:
        return [message.text for message in await messages_of(store, "c1")]


async def refusals(db: Path) -> dict[str, CcnError | None]:
    """What reading, appending and verifying each raise; anything but an error of ours goes through."""
    actions: dict[str, Callable[[SqliteStore], Awaitable[object]]] = {
        "read": lambda store: store.info(),
        "append": lambda store: store.append(Group((opening("other"),))),
        "verify": lambda store: store.verify(),
    }
    found: dict[str, CcnError | None] = {}
    for name, action in actions.items():
        found[name] = None
        try:
            async with asyncio.timeout(WAIT_S_MAX), SqliteStore(db, wait_s=WAIT_S) as store:
                await action(store)
        except CcnError as error:
            found[name] = error
            helpful(error)
    return found


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def helpful(error: CcnError | None) -> None:
    assert isinstance(error, StoreError), repr(error)
    assert NEXT_STEP.search(str(error)), f"no next step: {error}"


def run(*arguments: str, prefix: tuple[str, ...] = ()) -> list[Json]:
    """A worker's lines; it must end well."""
    done = subprocess.run(
        [*prefix, *COMMAND, *arguments],
        cwd=ROOT,
        capture_output=True,
        timeout=WAIT_S_MAX,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


# ---- paths ---------------------------------------------------------------------------------------------


async def test_a_path_that_is_a_folder(tmp_path: Path) -> None:
    for error in (await refusals(tmp_path)).values():
        assert isinstance(error, StoreUnavailable)
        assert "is a folder" in str(error)
    assert names_in(tmp_path) == []


async def test_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    found = await refusals(tmp_path / "file" / "ccn.db")
    assert isinstance(found["append"], StoreUnavailable)
    assert (tmp_path / "file").read_text() == "x"


async def test_a_name_that_is_too_long_and_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / ("x" * 300), tmp_path / "loop" / "ccn.db"):
        for error in (await refusals(path)).values():
            assert isinstance(error, StoreUnavailable)


@pytest.mark.parametrize(
    "name",
    [
        "with space.db",
        "häß 北京 🙂.db",
        "a?mode=ro&x.db",
        "a#b.db",
        "100%41.db",
        "a%00b.db",
        "'q\"uote;.db",
        "-wal",
        "new\nline.db",
        "back\\slash.db",
        os.fsdecode(b"\xff\xfe.db"),
    ],
)
async def test_any_file_name_works(tmp_path: Path, name: str) -> None:
    db = tmp_path / "folder ?#%20 ü" / name
    await make(db)
    assert await texts_of(db) == list("01234")
    assert verify_file(db).level == 1
    assert db.is_file()
    assert {path.name for path in db.parent.iterdir()} == {name, f"{name}.lock", f"{name}.queue"}


async def test_a_link_and_its_target_are_one_store_with_one_turnstile(tmp_path: Path) -> None:
    db, link = tmp_path / "real" / "ccn.db", tmp_path / "links" / "link.db"
    link.parent.mkdir()
    link.symlink_to(db)
    async with SqliteStore(link) as first, SqliteStore(db) as second:
        await first.append(Group((opening(),)))
        for number in range(10):
            await put(first, f"a{number}")
            await put(second, f"b{number}")
        assert (await second.verify()).messages == 20
    assert [path.name for path in link.parent.iterdir()] == ["link.db"]


async def test_reading_and_verifying_what_is_not_there_creates_nothing(tmp_path: Path) -> None:
    db = tmp_path / "not" / "there" / "ccn.db"
    async with SqliteStore(db) as store:
        assert (await store.info()).store_id is None
        assert (await store.verify()).level is None
        with pytest.raises(CcnError):
            await store.page(MessageQuery("c1", limit=5))
    assert verify_file(db).entries == 0
    assert names_in(tmp_path) == []


async def test_an_empty_file_is_adopted(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    db.touch()
    async with SqliteStore(db) as store:
        assert (await store.info()).store_id is None
        assert (await store.verify()).level is None
    assert db.stat().st_size == 0
    assert names_in(tmp_path) == ["ccn.db"]
    await make(db)
    assert verify_file(db).level == 1


# ---- permissions ---------------------------------------------------------------------------------------


async def test_files_are_for_their_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        db = tmp_path / "a" / "b" / "ccn.db"
        async with SqliteStore(db) as store:
            await store.append(Group((opening(),)))
            await store.info()
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in db.parent.iterdir()}
    finally:
        os.umask(old)
    names = ("ccn.db", "ccn.db-wal", "ccn.db-shm", "ccn.db.lock", "ccn.db.queue")
    assert modes == dict.fromkeys(names, 0o600)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (db.parent, db.parent.parent)] == [0o700, 0o700]


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are for their owner."""
    folder = Path(tempfile.mkdtemp(prefix="ccn-faults-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def as_nobody(db: Path) -> dict[str, tuple[str | None, str]]:
    """What a user without rights is told; root is turned into one, anybody else is one already."""
    arguments = ("try", str(db), str(NOBODY)) if os.geteuid() == 0 else ("try", str(db))
    lines = run(*arguments)
    assert [line["action"] for line in lines] == ["read", "append", "verify"]
    for line in lines:
        assert line["code"] is None or NEXT_STEP.search(line["message"]), line
    return {line["action"]: (line["code"], line["message"]) for line in lines}


async def test_a_file_that_cannot_be_written() -> None:
    with open_folder() as folder:
        db = folder / "store" / "ccn.db"
        await make(db)
        db.parent.chmod(0o777)
        for path in db.parent.iterdir():
            path.chmod(0o666)
        db.chmod(0o444)
        before = db.read_bytes()
        told = as_nobody(db)
        assert told["append"][0] == StoreReadOnly.code, told
        assert told["read"][0] is None, told
        assert told["verify"][0] is None, told
        assert db.read_bytes() == before


async def test_a_folder_that_cannot_be_written() -> None:
    with open_folder() as folder:
        db = folder / "store" / "ccn.db"
        await make(db)
        db.chmod(0o444)
        db.parent.chmod(0o555)
        before = {path.name for path in db.parent.iterdir()}
        told = as_nobody(db)
        assert told["append"][0] == StoreReadOnly.code, told
        # SQLite has to make a -shm beside a WAL database, so even reading needs the folder.
        assert told["read"][0] in (StoreReadOnly.code, StoreUnavailable.code), told
        assert told["verify"][0] == told["read"][0], told
        assert {path.name for path in db.parent.iterdir()} == before
        db.parent.chmod(0o755)


async def test_a_folder_where_no_store_can_be_made() -> None:
    with open_folder() as folder:
        folder.chmod(0o555)
        for db in (folder / "ccn.db", folder / "deeper" / "ccn.db"):
            told = as_nobody(db)
            assert told["append"][0] == StoreReadOnly.code, told
            assert told["read"][0] is told["verify"][0] is None, told
        assert list(folder.iterdir()) == []


async def test_a_folder_and_a_file_that_cannot_be_looked_into() -> None:
    with open_folder() as folder:
        db = folder / "store" / "ccn.db"
        await make(db)
        # The other user's, even where the tests do not run as root.
        db.chmod(0)
        db.parent.chmod(0o755)
        for code, _ in as_nobody(db).values():
            assert code in (StoreUnavailable.code, StoreReadOnly.code)
        db.parent.chmod(0)
        for code, _ in as_nobody(db).values():
            assert code == StoreUnavailable.code
        db.parent.chmod(0o700)


# ---- full disks ----------------------------------------------------------------------------------------


def check_filled(lines: list[Json], codes: set[str]) -> None:
    *failures, last = lines
    assert len(failures) == 5
    assert {failure["code"] for failure in failures} <= codes, failures
    for failure in failures:
        assert NEXT_STEP.search(failure["message"]), failure
    assert (last["level"], last["fault"]) == (1, "None")
    assert set(last["acknowledged"]) <= set(last["there"]), "an acknowledged message is lost"
    # What failed and was not acknowledged is not there either: the process lived on and rolled it back.
    assert last["there"] == last["acknowledged"]


@pytest.mark.parametrize("size", [10, 3_000, 900_000])
def test_a_limit_on_the_size_of_files(tmp_path: Path, size: int) -> None:
    lines = run("fill", str(tmp_path / "ccn.db"), str(size), "", str(3_000_000 if size > 3_000 else 400_000))
    check_filled(lines, {"store_full", "store_unavailable"})
    assert verify_file(tmp_path / "ccn.db").level == 1


def test_a_limit_that_leaves_no_room_for_a_store_at_all(tmp_path: Path) -> None:
    for limit in (1, 4_096, 8_192, 50_000):
        lines = run("fill", str(tmp_path / f"{limit}.db"), "10", "", str(limit))
        check_filled(lines, {"store_full", "store_unavailable"})


@pytest.mark.parametrize("size", [10, 3_000, 900_000])
def test_a_file_system_that_is_full(tmp_path: Path, size: int) -> None:
    """A real one, in a mount namespace of its own; without the right to mount, the limit above stands for it."""
    small = tmp_path / "small"
    small.mkdir()
    script = (
        f'mount -t tmpfs -o size={8_000_000 if size > 3_000 else 1_500_000} tmpfs "$1" && '
        'dd if=/dev/zero of="$1/ballast" bs=1000 count=600 status=none && shift && exec "$@"'
    )
    prefix = ("unshare", "-m", "sh", "-c", script, "sh", str(small))
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no right to mount a file system here; test_a_limit_on_the_size_of_files covers the code")
    lines = run("fill", str(small / "ccn.db"), str(size), str(small / "ballast"), "0", prefix=prefix)
    check_filled(lines, {"store_full"})


def test_an_io_error_is_a_full_disk_only_where_nothing_can_have_been_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(code: int) -> CcnError:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        return connect.translate(error, tmp_path / "ccn.db")

    monkeypatch.setattr(connect, "FULL_BYTES", 0)
    assert isinstance(told(sqlite3.SQLITE_IOERR_SHMSIZE), StoreUnavailable)
    monkeypatch.setattr(connect, "FULL_BYTES", 1 << 62)
    assert isinstance(told(sqlite3.SQLITE_IOERR_SHMSIZE), StoreFull)
    unsure = told(sqlite3.SQLITE_IOERR_FSYNC)
    assert isinstance(unsure, StoreUnavailable)
    assert "may not have been recorded" in str(unsure)


async def test_a_checkpoint_that_fails_does_not_fail_the_batch_that_is_durable_already(
    tmp_path: Path,
) -> None:
    db = tmp_path / "ccn.db"

    class Failing(connect.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if "wal_checkpoint" in sql:
                failed.append(sql)
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *rest)

    failed: list[str] = []
    log = SqliteLog(db, wal_pages_max=0)
    real = connect.Connection
    try:
        connect.Connection = Failing  # type: ignore[misc]  # put back below
        (outcome,) = log.append_batch([Group((opening(),))])
    finally:
        connect.Connection = real  # type: ignore[misc]  # as it was
    log.close()
    assert isinstance(outcome, Appended)
    assert failed
    assert verify_file(db).entries == 2


# ---- other files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_random_bytes_in_the_middle(tmp_path: Path, seed: int) -> None:
    db, rng = tmp_path / "ccn.db", seeded(seed)
    head = await make(db, 60)
    data = bytearray(db.read_bytes())
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(4_096, len(data)), rng.choice([1, 16, 512, 4_096])
        data[at : at + size] = rng.randbytes(min(size, len(data) - at))
    db.write_bytes(data)
    try:
        checked = verify_file(db, head)
    except StoreCorrupt as error:
        helpful(error)
    else:
        # Either it is seen, or what was hit holds nothing of the record (an index, an unused page).
        assert checked.fault is not None or (checked.level == 3 and checked.known_head is True)
    for refusal in (await refusals(db)).values():
        assert refusal is None or isinstance(refusal, StoreCorrupt), repr(refusal)


@pytest.mark.parametrize("keep", [0.5, 0.1, 100, 4_095, 4_096])
async def test_a_file_that_was_cut_off(tmp_path: Path, keep: float) -> None:
    db = tmp_path / "ccn.db"
    await make(db, 60)
    data = db.read_bytes()
    db.write_bytes(data[: int(keep * len(data) if keep < 1 else keep)])
    for error in (await refusals(db)).values():
        assert isinstance(error, StoreCorrupt), repr(error)


@pytest.mark.parametrize(
    "header", [b"\0" * 100, b"SQLite format 4\0", b"#!/bin/sh\necho hello\n", b"\xff" * 4_096]
)
async def test_a_header_that_was_destroyed(tmp_path: Path, header: bytes) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    damaged = header + db.read_bytes()[len(header) :]
    db.write_bytes(damaged)
    for error in (await refusals(db)).values():
        assert isinstance(error, StoreCorrupt), repr(error)
    assert db.read_bytes() == damaged


@pytest.mark.parametrize("wal", [False, True])
async def test_a_database_of_another_application(tmp_path: Path, wal: bool) -> None:
    db = tmp_path / "other.db"
    with closing(sqlite3.connect(db)) as other:
        other.execute(f"PRAGMA journal_mode = {'wal' if wal else 'delete'}")
        other.execute("CREATE TABLE bookmark (url TEXT)")
        other.commit()
    before = db.read_bytes()
    for error in (await refusals(db)).values():
        assert isinstance(error, StoreForeign), repr(error)
    assert db.read_bytes() == before


async def test_a_format_of_a_later_version(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = db.read_bytes()
    for error in (await refusals(db)).values():
        assert isinstance(error, StoreNewer), repr(error)
        assert "99" in str(error)
    assert db.read_bytes() == before


# ---- the file is taken away while it is open -----------------------------------------------------------


async def test_a_store_that_is_deleted_while_it_is_open(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    async with SqliteStore(db) as store:
        await store.append(Group((opening(),)))
        await put(store, "before")
        aside = tmp_path / "aside.db"
        db.rename(aside)
        for _ in range(2):
            for call in (store.info, lambda: put(store, "into the void"), store.verify):
                with pytest.raises(StoreUnavailable, match="was removed while it was in use") as caught:
                    await call()
                helpful(caught.value)
        aside.rename(db)
        await put(store, "after")
    assert await texts_of(db) == ["before", "after"]


async def test_a_new_store_where_a_deleted_one_is_still_open(tmp_path: Path) -> None:
    """The -shm of the old one is in use; the new one must not be read through it."""
    db = tmp_path / "ccn.db"
    async with SqliteStore(db) as old:
        await old.append(Group((opening(),)))
        await put(old, *map(str, range(50)))
        await old.info()
        db.unlink()
        (read, append, verify) = run("try", str(db))
        assert [line["code"] for line in (read, append, verify)] == [None, None, None], (read, append, verify)
        # The store that was open goes on with the file that the path names now.
        assert (await old.info()).head.size == 2
        with pytest.raises(CcnError, match="there is no conversation"):
            await put(old, "x")
        assert (await old.verify()).level == 1
    assert verify_file(db).entries == 2


@pytest.mark.parametrize("first", ["read", "append", "verify"])
@pytest.mark.parametrize("had_read", [True, False])
async def test_a_store_that_is_replaced_while_it_is_open(tmp_path: Path, first: str, had_read: bool) -> None:
    """SQLite would read the newcomer through the old write-ahead log and overwrite it at the next checkpoint."""
    db, newcomer = tmp_path / "ccn.db", tmp_path / "new" / "ccn.db"
    await make(newcomer, 2)
    bytes_before = newcomer.read_bytes()
    async with SqliteStore(db) as store:
        await store.append(Group((opening(),)))
        await put(store, *map(str, range(30)))
        if had_read:
            await store.info()
        newcomer.rename(db)
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "read": store.info,
            "append": lambda: put(store, "where to?"),
            "verify": store.verify,
        }
        for name in sorted(calls, key=lambda name: name != first):
            with pytest.raises(StoreUnavailable, match="was replaced while it was in use") as caught:
                await calls[name]()
            helpful(caught.value)
        assert db.read_bytes() == bytes_before
        for suffix in ("-wal", "-shm"):
            db.with_name(db.name + suffix).unlink()
        assert (await store.info()).head.size == 4
        await put(store, "into the new one")
        assert (await store.verify()).level == 1
    assert await texts_of(db) == ["0", "1", "into the new one"]


async def test_a_write_ahead_log_that_is_deleted_meets_the_head_that_was_kept(tmp_path: Path) -> None:
    """Nothing can bring back what was only there, but the loss is seen."""
    db = tmp_path / "ccn.db"
    with workers(plan(db, "w", count=1)) as (first,):
        first.go()
        first.rest()
    with workers(plan(db, "w2")) as (victim,):
        victim.go()
        lines = [victim.next_line() for _ in range(5)]
        lines += victim.kill()
    head = str(verify_file_copy(db, tmp_path / "copy").head)
    db.with_name("ccn.db-wal").unlink()
    checked = verify_file(db, head)
    assert checked.fault is not None
    assert checked.fault.code == "known_head"
    assert verify_file(db).level == 1
    async with SqliteStore(db) as store:
        await store.append(Group((opening("c1"),)))
        assert (await store.verify()).level == 1


def verify_file_copy(db: Path, folder: Path) -> Any:
    """A check that leaves the original's write-ahead log alone."""
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(db.with_name(db.name + suffix), folder)
    return verify_file(folder / db.name)


# ---- busy ----------------------------------------------------------------------------------------------


async def test_another_program_that_holds_the_database(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    with closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        async with asyncio.timeout(WAIT_S_MAX), SqliteStore(db, wait_s=WAIT_S) as store:
            with pytest.raises(StoreBusy, match="nothing was written") as caught:
                await put(store, "x")
            helpful(caught.value)
            assert len(await messages_of(store, "c1")) == 5, "reading goes on in WAL mode"
            other.execute("ROLLBACK")
            await put(store, "y")
    assert await texts_of(db) == [*"01234", "y"]


async def test_a_turnstile_that_is_held(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    holder = Turnstile(db)
    with closing(holder), holder:
        async with asyncio.timeout(WAIT_S_MAX), SqliteStore(db, wait_s=WAIT_S) as store:
            with pytest.raises(StoreBusy, match=r"locked for 0\.2 s; nothing was written") as caught:
                await put(store, "x")
            helpful(caught.value)
            assert len(await messages_of(store, "c1")) == 5, "reading needs no turn"
            assert (await store.verify()).level == 1
        # The store was closed while the turnstile was held, and nothing hangs.
    assert await texts_of(db) == list("01234")


async def test_a_queue_that_is_held(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    holder, waiter = Turnstile(db), Turnstile(db, 0)
    with closing(holder), closing(waiter):
        with holder, pytest.raises(StoreBusy), waiter:
            pass
        # Who gave up has let go of the queue.
        with waiter:
            pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.EIO])
async def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_lock(_: int) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock, "_try_lock", no_lock)
    async with SqliteStore(tmp_path / "ccn.db") as store:
        with pytest.raises(StoreUnavailable, match="cannot lock") as caught:
            await store.append(Group((opening("c1"),)))
        helpful(caught.value)


# ---- the triggers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE entry SET body = x'7b7d' WHERE seq = 2", "entries never change"),
        ("UPDATE entry SET time = 0 WHERE seq = 2", "entries never change"),
        ("UPDATE entry SET salt = NULL, body = NULL, blob = NULL WHERE seq = 2", "entries never change"),
        ("DELETE FROM entry WHERE seq = 2", "entries are never deleted"),
        ("DELETE FROM entry", "entries are never deleted"),
        ("INSERT OR REPLACE INTO entry SELECT * FROM entry WHERE seq = 2", "numbered without gaps"),
        (
            "REPLACE INTO entry SELECT 2, time, kind, leaf, commitment, salt, body, blob FROM entry",
            "without gaps",
        ),
        (
            "INSERT INTO entry SELECT 99, time, kind, leaf, commitment, salt, body, blob FROM entry",
            "without gaps",
        ),
        (
            "INSERT INTO entry SELECT -1, time, kind, leaf, commitment, salt, body, blob FROM entry",
            "without gaps",
        ),
        ("UPDATE OR REPLACE entry SET seq = 3 WHERE seq = 2", "entries never change"),
    ],
)
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
async def test_the_triggers_stop_accidents(
    tmp_path: Path, statement: str, reason: str, recursive: str
) -> None:
    db = tmp_path / "ccn.db"
    head = await make(db)
    with closing(sqlite3.connect(db)) as other:
        other.execute(f"PRAGMA recursive_triggers = {recursive}")
        with pytest.raises(sqlite3.IntegrityError, match=reason):
            other.execute(statement)
    assert verify_file(db, head).known_head is True


# ---- cancelling and closing ----------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("steps", range(12))
async def test_an_append_that_is_cancelled_at_any_step(tmp_path: Path, steps: int, fresh: bool) -> None:
    """Goal G10."""
    db = tmp_path / "ccn.db"
    if not fresh:
        await make(db)
    async with asyncio.timeout(WAIT_S_MAX), SqliteStore(db) as store:
        first = opening("cancelled") if fresh else said("cancelled")
        victim = asyncio.create_task(store.append(Group((first,))))
        neighbour = asyncio.create_task(store.append(Group((opening("neighbour"),))))
        for _ in range(steps):
            await asyncio.sleep(0)
        victim.cancel()
        with suppress(asyncio.CancelledError):
            await victim
        await neighbour
        done = await store.append(Group((said("next", "neighbour"),)))
        checked = await store.verify()
        assert (checked.level, checked.fault, checked.head) == (1, None, done.head)


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_reading_and_closing_cancelled_at_any_step_leave_no_thread(tmp_path: Path, steps: int) -> None:
    db = tmp_path / "ccn.db"
    await make(db)

    async def use() -> None:
        async with SqliteStore(db) as store:
            await store.info()

    victim = asyncio.create_task(use())
    for _ in range(steps):
        await asyncio.sleep(0)
    victim.cancel()
    with suppress(asyncio.CancelledError):
        await victim
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, WAIT_S_MAX)
            assert not thread.is_alive(), "it would keep the process from ending"


async def test_closing_while_appends_wait_finishes_or_refuses_each(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    await make(db, 1)
    holder = Turnstile(db)
    async with asyncio.timeout(WAIT_S_MAX):
        with closing(holder):
            holder.__enter__()
            async with SqliteStore(db, wait_s=5) as store:
                # More than one batch waits for a turn that comes once closing has begun.
                tasks = [asyncio.create_task(put(store, f"w{number}")) for number in range(1_500)]
                await asyncio.sleep(0)
                asyncio.get_running_loop().call_soon(holder.__exit__, None, None, None)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    late = [outcome for outcome in outcomes if not isinstance(outcome, Appended)]
    assert all(isinstance(outcome, StoreClosed) for outcome in late)
    assert len(await texts_of(db)) == 1 + len(outcomes) - len(late)
    with pytest.raises(StoreClosed):
        await store.verify()
    with pytest.raises(StoreClosed):
        await put(store, "x")


async def test_closing_while_the_turn_never_comes_refuses_each(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    await make(db, 1)
    holder = Turnstile(db)
    async with asyncio.timeout(WAIT_S_MAX):
        with closing(holder), holder:
            async with SqliteStore(db, wait_s=WAIT_S) as store:
                tasks = [asyncio.create_task(put(store, f"w{number}")) for number in range(20)]
                await asyncio.sleep(0)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, StoreBusy | StoreClosed) for outcome in outcomes), outcomes
    assert await texts_of(db) == ["0"]


async def test_a_failure_that_nobody_foresaw_reaches_its_callers_and_stops_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, times = SqliteLog.append_batch, 0

    def once(self: SqliteLog, *arguments: Any) -> Any:
        nonlocal times
        times += 1
        if times == 1:
            raise RuntimeError("a bug")
        return real(self, *arguments)

    monkeypatch.setattr(SqliteLog, "append_batch", once)
    async with asyncio.timeout(WAIT_S_MAX), SqliteStore(tmp_path / "ccn.db") as store:
        tasks = [asyncio.create_task(store.append(Group((opening(f"c{n}"),)))) for n in range(1_500)]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert any(isinstance(outcome, RuntimeError) for outcome in outcomes)
        written = sum(isinstance(outcome, Appended) for outcome in outcomes)
        assert written == len(outcomes) - sum(isinstance(outcome, RuntimeError) for outcome in outcomes)
        assert written > 0
        assert (await store.verify()).entries == 1 + written


# ---- time ----------------------------------------------------------------------------------------------


async def test_a_clock_that_goes_backwards_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    async with SqliteStore(db) as store:
        await store.append(Group((opening(at=100),)))
        for at in (200, 50, 60, 10, 10, 300):
            await store.append(Group((said(str(at), at=at),)))
        checked = await store.verify()
    assert (checked.level, checked.fault, checked.clock_regressions) == (1, None, 2)
    assert await texts_of(db) == ["200", "50", "60", "10", "10", "300"]


# ---- what a commit costs -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_batch_costs_one_fdatasync_however_many_groups_it_holds(tmp_path: Path) -> None:
    """Goal G7. Seen from outside of the process, between one batch's line on stdout and the next one's."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.fail("strace is needed to count the syncs and was not found; `apt-get install strace`")
    trace = tmp_path / "trace.txt"
    prefix = (strace, "-f", "-o", str(trace), "-e", "trace=write,fsync,fdatasync", "-s", "20")
    for size in (1, 100):
        run("batches", str(tmp_path / f"{size}.db"), "20", str(size), prefix=prefix)
        counts: list[int] = []
        for line in trace.read_text().splitlines():
            if re.search(r'write\(1, "\{\\"batch\\"', line):
                counts.append(0)
            elif counts and re.search(r"\b(fdatasync|fsync)\(", line):
                counts[-1] += 1
        # The last count is that of closing, which checkpoints.
        assert counts[:-1] == [1] * 20, (size, counts)
