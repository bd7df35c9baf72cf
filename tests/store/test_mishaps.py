"""What people and machines do to a store in use: kills, two versions, copies, snapshots, deleted logs.

Where each of the usual mishaps is shown is listed in docs/reliability.md.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

import ccn_mcp
from ccn_mcp.domain.errors import CcnError, StoreCorrupt, StoreUnavailable
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Group, RecordQuery
from ccn_mcp.store.sqlite import connect
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.model import opening, seeded
from tests.store.test_faults import helpful, put, texts_of
from tests.store.worker import ROOT, Json, Worker, check, finish, plan, workers

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        sys.platform == "win32", reason="SIGKILL is POSIX, and an open file cannot be deleted"
    ),
]

ROUNDS: Final = 6
COPIES: Final = 40
OTHER_VERSION: Final = "9.9.9"


# ---- four writers, killed ------------------------------------------------------------------------------


@pytest.mark.slow
async def test_four_writers_are_killed_one_after_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db, rng, told, kills = tmp_path / "ccn.db", seeded(4), dict[str, list[Json]](), 0
    for number in range(ROUNDS):
        names = [f"r{number}{letter}" for letter in "abcd"]
        with workers(*(plan(db, name, flights=rng.choice([1, 3])) for name in names)) as running:
            for worker in running:
                worker.go()
            for worker in rng.sample(running, len(running)):
                had = [worker.next_line() for _ in range(rng.randint(0, 30))]
                told[worker.plan["name"]] = [line for line in [*had, *worker.kill()] if line is not None]
                kills += 1
        await check(db, {name: told[name] for name in names}, whole=False)
        # The same keys again, all four at once: none is written twice.
        again = {name: 1 + max((line["number"] for line in told[name]), default=0) for name in names}
        with workers(*(plan(db, name, count=count) for name, count in again.items())) as retrying:
            retried = dict(zip(names, finish(retrying), strict=True))
        for name, lines in retried.items():
            known = {line["seq"] for line in lines if line.get("again")}
            assert {line["seq"] for line in told[name]} <= known
        await check(db, retried, whole=False)
    await check(db, told, whole=False)
    with capsys.disabled():
        print(f"\n4 writers: {kills} killed, {sum(map(len, told.values()))} messages acknowledged, none lost")


# ---- two versions --------------------------------------------------------------------------------------


async def test_two_versions_of_the_program_write_one_log(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "ccn_mcp", other / "ccn_mcp", ignore=shutil.ignore_patterns("__pycache__"))
    (other / "tests").symlink_to(ROOT / "tests")
    source = other / "ccn_mcp" / "__init__.py"
    text, count = re.subn(
        r'__version__ = "[^"]+"', f'__version__ = "{OTHER_VERSION}"', source.read_text("utf-8")
    )
    assert count == 1
    source.write_text(text, "utf-8")
    db = tmp_path / "ccn.db"
    with workers(plan(db, "this", count=60, flights=3)) as (this,):
        running = [Worker(plan(db, "other", count=60, flights=3), other), this]
        told = dict(zip(["other", "this"], finish(running), strict=True))
    await check(db, told, whole=True)
    # The same conversation and key, said by the one version, is known to the other.
    with workers(plan(db, "other", count=60)) as retrying:
        (lines,) = finish(retrying)
    assert all(line["again"] for line in lines if "seq" in line)
    async with SqliteStore(db) as store:
        (genesis,) = await store.records(RecordQuery(kinds=(Kind.GENESIS,), limit=2))
    assert genesis.body is not None
    assert genesis.body["program"] in (f"ccn_mcp {OTHER_VERSION}", f"ccn_mcp {ccn_mcp.__version__}")


# ---- copies and snapshots ------------------------------------------------------------------------------


def leaves_of(db: Path) -> list[bytes]:
    connection = connect.connect_to_read(db, 1.0)
    assert connection is not None
    try:
        return [leaf for (leaf,) in connection.execute("SELECT leaf FROM entry ORDER BY seq")]
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("suffixes", [("",), ("", "-wal"), ("-wal", "")])
async def test_a_copy_taken_while_it_is_written_is_whole_or_refused(
    tmp_path: Path, suffixes: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """No copy passes as something that the record never was; a copy that is behind is a beginning of it."""
    db, copies = tmp_path / "ccn.db", list[Path]()
    with workers(plan(db, "busy", flights=4)) as (worker,):
        worker.go()
        for number in range(COPIES):
            for _ in range(25):  # far enough to meet checkpoints
                worker.next_line()
            folder = tmp_path / str(number)
            folder.mkdir()
            for suffix in suffixes:
                shutil.copy(db.with_name(db.name + suffix), folder)
            copies.append(folder / db.name)
        worker.kill()
    original, outcomes = leaves_of(db), Counter[str]()
    for copy in copies:
        try:
            found = verify_file(copy)
        except StoreCorrupt as error:
            helpful(error)
            outcomes["refused"] += 1
            continue
        if found.fault is not None:
            outcomes["fault"] += 1
            continue
        outcomes["a beginning"] += 1
        assert found.level in (None, 1)
        assert found.level is None or leaves_of(copy) == original[: found.entries]
    assert verify_file(db).fault is None
    with capsys.disabled():
        print(f"\n{COPIES} copies of {suffixes} while it is written: {dict(outcomes)}")


@pytest.mark.parametrize("later", [5, 60, 150, pytest.param(400, marks=pytest.mark.slow)])
async def test_an_old_snapshot_put_back_beside_a_newer_log_is_found(tmp_path: Path, later: int) -> None:
    """Restoring `ccn.db` alone after a crash: SQLite applies the newer log to the older file."""
    db, snapshot = tmp_path / "ccn.db", tmp_path / "backup" / "ccn.db"
    with workers(plan(db, "before", count=20)) as running:
        finish(running)
    snapshot.parent.mkdir()
    shutil.copy(db, snapshot)
    with workers(plan(db, "after")) as (victim,):
        victim.go()
        for _ in range(later):
            victim.next_line()
        victim.kill()
    kept = tmp_path / "kept"
    kept.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(db.with_name(db.name + suffix), kept)
    shutil.copy(snapshot, db)
    head = verify_file(kept / db.name).head
    try:
        found = verify_file(db, str(head))
    except CcnError as error:
        helpful(error)
    else:
        # Only a log that never started over holds everything since the snapshot.
        assert found.fault is not None or found.head == head


# ---- the write-ahead log is deleted while it is open ---------------------------------------------------


@pytest.mark.parametrize("gone", [("-wal",), ("-shm",), ("-wal", "-shm")])
@pytest.mark.parametrize("had_read", [True, False])
async def test_a_log_that_is_deleted_while_it_is_open_takes_no_more_and_loses_nothing(
    tmp_path: Path, gone: tuple[str, ...], had_read: bool
) -> None:
    """SQLite itself would go on writing to the deleted file, where no other process and no next start looks."""
    db = tmp_path / "ccn.db"
    async with SqliteStore(db) as store:
        await store.append(Group((opening(),)))
        await put(store, "one", "two")
        if had_read:
            await store.info()
        for suffix in gone:
            db.with_name(db.name + suffix).unlink()
        for call in (lambda: put(store, "into the void"), store.info, store.verify):
            with pytest.raises(StoreUnavailable, match="was removed while it was in use") as caught:
                await call()
            helpful(caught.value)
    assert await texts_of(db) == ["one", "two"]
    assert verify_file(db).level == 1


async def test_what_a_newcomer_wrote_beside_a_deleted_log_is_missed_by_whoever_kept_its_head(
    tmp_path: Path,
) -> None:
    """Not prevented: the newcomer cannot know, and of two ends of one log only one can stay. But it is found."""
    db, kept = tmp_path / "ccn.db", tmp_path / "kept"
    async with SqliteStore(db) as store:
        await store.append(Group((opening(),)))
        await put(store, "one", "two")
        for suffix in ("-wal", "-shm"):
            db.with_name(db.name + suffix).unlink()
        with workers(plan(db, "newcomer", count=1)) as running:
            finish(running)
        kept.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(db.with_name(db.name + suffix), kept)
        head = verify_file(kept / db.name).head
    assert await texts_of(db) == ["one", "two"]
    found = verify_file(db, str(head)).fault
    assert found is not None
    assert found.code == "known_head"
