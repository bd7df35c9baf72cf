"""What maintenance gives back, how long it holds the others up, and that a quiet moment is enough for it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp.domain.errors import StoreFull
from ccn_mcp.domain.models import Group
from ccn_mcp.store.secret import SECRET_BYTES
from ccn_mcp.store.sqlite import connect, erasure, maintenance, writer
from ccn_mcp.store.sqlite import log as log_module
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.model import opening, redaction, said
from tests.store.test_erasure import holders, reading

pytestmark = pytest.mark.anyio
WAIT_S: Final = 30.0
POLL_S: Final = 0.01
SECRET: Final = b"s" * SECRET_BYTES
TOKEN: Final = "zqxj7wvk"  # noqa: S105  # a word that is nowhere else


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "store" / "ccn.db"


async def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something that another thread does."""
    assert await asyncio.to_thread(_comes_true, true), f"never came: {what}"


def _comes_true(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WAIT_S
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def size_of(db: Path) -> int:
    return db.stat().st_size


@pytest.fixture(autouse=True)
def _signs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is still to be signed is waited for before the chores are."""
    monkeypatch.setattr(log_module, "SIGN_EVERY_S", 0.0)


def segments(db: Path) -> int:
    """Pieces of the full-text index."""
    with closing(sqlite3.connect(db)) as other:
        count: int = other.execute("SELECT count(DISTINCT segid) FROM message_fts_idx").fetchone()[0]
        return count


async def filled(store: SqliteStore, count: int = 60) -> None:
    await store.append(Group((opening(),)))
    for number in range(count):
        await store.append(Group((said(f"message {number} " + "filler " * 200),)))


async def test_the_write_ahead_log_is_emptied_and_the_index_is_one_piece(db: Path) -> None:
    async with SqliteStore(db) as store:
        await filled(store)
        assert connect.wal_bytes(db) > 100_000
        assert segments(db) > 1
        done = await store.maintain()
        assert (connect.wal_bytes(db), segments(db)) == (0, 1)
        assert done.bytes_after == size_of(db) < done.bytes_before
        assert done.wal_emptied
        assert done.index_merged
        assert done.index_steps > 1
        again = await store.maintain()
        assert again.index_steps <= 2
        assert (await store.verify()).level == 1


async def test_a_reader_keeps_the_write_ahead_log_and_it_is_said(db: Path) -> None:
    async with SqliteStore(db, secret=lambda _: SECRET) as store:
        await store.append(Group((opening(), said(f"the {TOKEN} word"))))
        with reading(db):
            await store.erase([redaction(2)])
            done = await store.maintain()
            assert (done.wal_emptied, done.erasures_finished, done.erasures_pending) == (False, 0, 1)
            assert holders(db, TOKEN)
        done = await store.maintain()
        assert (done.wal_emptied, done.erasures_finished, done.erasures_pending) == (True, 1, 0)
        assert holders(db, TOKEN) == []


async def test_vacuum_gives_free_pages_back_and_asks_for_room_first(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(db, secret=lambda _: SECRET) as store:
        await store.append(Group((opening(),)))
        for _ in range(20):
            await store.append(Group((said("large " * 20_000),)))
        await store.erase([redaction(seq) for seq in range(2, 20)])
        await store.maintain()
        size = size_of(db)
        usage = shutil.disk_usage(db.parent)
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size))
            with pytest.raises(StoreFull, match="free space"):
                await store.maintain(vacuum=True)
        assert size_of(db) == size
        done = await store.maintain(vacuum=True)
        assert done.vacuumed
        assert size_of(db) == done.bytes_after < size / 3
        assert (await store.verify()).level == 1


async def test_what_the_planner_learns_leaves_every_query_on_its_index(db: Path) -> None:
    def plans() -> list[str]:
        queries = (
            "SELECT 1 FROM record r WHERE r.kind = 1 AND r.conversation = 'c1' AND r.seq < 50 ORDER BY r.seq",
            "SELECT 1 FROM record WHERE kind <> 1 AND kind IN (4, 9) AND seq >= 3 LIMIT 1",
            "SELECT 1 FROM record r WHERE r.principal = 'me' AND r.key = 'k'",
            "SELECT 1 FROM record r WHERE r.subject = 'i1' AND r.kind IN (2)",
        )
        with closing(sqlite3.connect(db)) as other:
            return [
                row[3]
                for sql in queries
                for row in other.execute(f"EXPLAIN QUERY PLAN {sql}")
                if "r" in row[3]
            ]

    async with SqliteStore(db) as store:
        await filled(store, 300)
        before = plans()
        assert (await store.maintain()).analysed
        assert plans() == before
        assert all("USING" in plan and "SCAN" not in plan for plan in before)


async def test_an_analysis_that_takes_too_long_is_given_up(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteStore(db) as store:
        await filled(store, 10)
        monkeypatch.setattr(maintenance, "HOLD_S_MAX", -1.0)
        real = maintenance.analyse
        # Slow enough for SQLite to ask whether it should go on.
        endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        monkeypatch.setattr(maintenance, "analyse", lambda connection, _: real(connection, endless))
        assert (await store.maintain()).analysed is False
        assert (await store.verify()).level == 1


# ---- by itself -----------------------------------------------------------------------------------------


async def test_a_quiet_moment_empties_the_log_and_then_the_thread_sleeps(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "QUIET_WAL_BYTES_MAX", 0)
    calls: list[int] = []
    real = SqliteLog.do_chores

    def counted(self: SqliteLog, quiet: Callable[[], bool]) -> None:
        real(self, quiet)
        calls.append(connect.wal_bytes(db))

    monkeypatch.setattr(SqliteLog, "do_chores", counted)
    async with SqliteStore(db) as store:
        store._writer._quiet_s = 0.05
        await filled(store, 20)
        await until(lambda: bool(calls) and connect.wal_bytes(db) == 0, "an empty write-ahead log")
        done = len(calls)
        assert not store._log.has_chores(), "nothing is left, so the thread waits without a time-out"
        await store.append(Group((said("more"),)))
        await until(lambda: len(calls) > done and connect.wal_bytes(db) == 0, "the next quiet moment")
        assert (await store.verify()).level == 1


async def test_a_quiet_moment_finishes_an_erasure_that_a_reader_held_up(db: Path) -> None:
    async with SqliteStore(db, secret=lambda _: SECRET) as store:
        store._writer._quiet_s = 0.05
        await store.append(Group((opening(), said(f"the {TOKEN} word"))))
        with reading(db):
            assert (await store.erase([redaction(2)])).pending == 1
            assert holders(db, TOKEN)
        await until(lambda: holders(db, TOKEN) == [], "a clean file, though nobody writes")


async def test_chores_that_fail_stop_nobody_and_end(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def failing(self: SqliteLog, quiet: Callable[[], bool]) -> None:
        tries.append(1)
        raise RuntimeError("a bug")

    monkeypatch.setattr(SqliteLog, "do_chores", failing)
    monkeypatch.setattr(writer, "QUIET_TRIES_MAX", 3)
    async with SqliteStore(db) as store:
        store._writer._quiet_s = 0.01
        await store.append(Group((opening(),)))
        await until(lambda: len(tries) >= 3, "three tries")
        await store.append(Group((said("still there"),)))
        assert (await store.info()).head.size == 3


async def test_chores_hold_the_turn_in_the_face_of_a_reader_no_longer_than_they_may(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a turn waits for is bounded by its busy timeout: asked of SQLite itself, not of a clock."""
    waits: list[int] = []

    class Asked(connect.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if "wal_checkpoint(TRUNCATE)" in sql:
                waits.append(super().execute("PRAGMA busy_timeout").fetchone()[0])
            return super().execute(sql, *rest)

    monkeypatch.setattr(connect, "Connection", Asked)
    monkeypatch.setattr(maintenance, "QUIET_WAL_BYTES_MAX", 0)
    log = SqliteLog(db, secret=lambda _: SECRET)
    with closing(log):
        log.append_batch([Group((opening(), said("x")))])
        with reading(db):
            log.erase([redaction(2)])
            waits.clear()
            log.do_chores()
    assert waits
    assert max(waits) <= max(maintenance.HOLD_S_MAX * 1_000, erasure.WAIT_MS)
