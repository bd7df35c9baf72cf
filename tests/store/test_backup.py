"""A backup is whole and clean or not there; a restored store is the same history under an identity of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp.domain.character import TRAITS
from ccn_mcp.domain.errors import (
    Conflict,
    NoStore,
    NotFound,
    StoreBusy,
    StoreCorrupt,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    VerificationFailed,
)
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Draft, Group, SearchQuery
from ccn_mcp.domain.restoring import PASTS_MAX, Past, pasts_of
from ccn_mcp.store.sqlite import backup as backup_module
from ccn_mcp.store.sqlite import beside
from ccn_mcp.store.sqlite import restore as restore_module
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.backup import BackedUp, backup
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.restore import Restored, restoring
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.node.test_consensus_node import check_ledger
from tests.node.world import FakeClock, node_on, plate_of
from tests.store.model import T0, opening, redaction, report, said, snapshot
from tests.store.test_contract import ALL, everything
from tests.store.test_erasure import holders, reading
from tests.store.worker import ROOT, Worker, plan, workers

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="the faults are made with POSIX means"),
]
SECRET: Final = b"s" * 32
TOKEN: Final = "zqxj7wvk"  # noqa: S105  # a word that is nowhere else
WAIT_S: Final = 60.0


def secret(_create: bool) -> bytes:
    return SECRET


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "store" / "ccn.db"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept" / "b.db"


@pytest.fixture
async def store(db: Path) -> AsyncIterator[SqliteStore]:
    """Every kind of row that a store can hold, one of them erased."""
    async with SqliteStore(db, secret=secret) as made:
        await made.append(Group((opening(title="first", key="o1"), opening("c2", scope="work"), snapshot())))
        await made.append(Group((said("keep me", key="k1"), said("uno", "c2", at=5)), touch={"i1": T0 + 99}))
        await made.append(Group((said(f"the {TOKEN} word", key="gone", source="hook"),)))
        await made.append(Group((said("after", role="assistant"), report("i1", 0.25, at=7))))
        await made.append(Group((Draft(Kind.USAGE, T0 + 8, {"n": -1, "deep": [[], {"a": None}]}),)))
        await made.erase([redaction(GONE)])
        yield made


GONE: Final = 6


def restored(
    source: Path,
    target: Path,
    aside: Path | None = None,
    *,
    at: int = 5,
    now: Callable[[], None] | None = None,
) -> Restored:
    with restoring(source, target) as ready:
        ready.build(at, secret)
        if now is not None:
            now()
        return ready.put_in_place(aside)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def put_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def contents(path: Path) -> list[object]:
    """All that can be asked, but for who the store is."""
    async with SqliteStore(path, secret=secret) as store:
        _, records, *rest = await everything(store)
        found = (await store.search(SearchQuery("keep", 5))).hits
        return [list(records)[1:], rest, found]  # type: ignore[call-overload]  # a list of records


# ---- backup --------------------------------------------------------------------------------------------


async def test_a_backup_is_one_private_checked_file_with_the_head_of_that_moment(
    store: SqliteStore, db: Path, copy: Path
) -> None:
    head = (await store.info()).head
    told: list[tuple[str, int, int]] = []
    done = backup(db, copy, progress=lambda *step: told.append(step))
    await store.append(Group((said("later"),)))
    assert (done.path, done.size, done.checked.head) == (copy, len(bytes_of(copy)), head)
    assert done.checked.fault is None
    assert left_in(copy.parent) == [copy.name], "one file, without a log or locks beside it"
    assert mode_of(copy) == 0o600
    assert ("Copying", told[0][2], told[0][2]) in told
    assert verify_file(db, str(head)).known_head is True
    assert await contents(copy) != await contents(db)


async def test_nothing_that_was_erased_is_in_it_even_while_its_erasure_is_pending(
    store: SqliteStore, db: Path, copy: Path
) -> None:
    done = await store.append(Group((said("another secret vxq9zzw here"),)))
    with reading(db):
        assert (await store.erase([redaction(done.receipts[0].seq)])).pending
        assert holders(db, "vxq9zzw"), "the store's own files still hold it"
        found = backup(db, copy)
    again = await store.append(Group((said("a third secret vxq9zzx"),)))
    with closing(SqliteLog(db, secret=secret)) as other:
        # As after a kill: recorded, but the index is not merged yet.
        assert other.erase([redaction(again.receipts[0].seq)], finish=False).pending
        backup(db, copy.with_name("c.db"))
    assert b"vxq9zzx" not in bytes_of(copy.with_name("c.db"))
    assert TOKEN.encode() not in bytes_of(copy)
    assert b"vxq9zzw" not in bytes_of(copy)
    assert found.checked.erased == 2
    async with SqliteStore(copy) as other:
        assert (await other.info()).erasures_pending == 0


async def test_what_is_erased_while_it_is_copied_makes_it_begin_again(
    store: SqliteStore, db: Path, copy: Path
) -> None:
    seqs = [(await store.append(Group((said(f"w{number}"),)))).receipts[0].seq for number in range(9)]

    def backup_with(erasures: int) -> BackedUp:
        waiting = [seqs.pop() for _ in range(erasures)]

        def erase_one(what: str, done: int, total: int) -> None:
            if what == "Copying" and waiting:
                with closing(SqliteLog(db, secret=secret)) as other:
                    other.erase([redaction(waiting.pop(0))])

        return backup(db, copy, replace=True, progress=erase_one)

    assert backup_with(1).checked.erased == 2
    with pytest.raises(StoreBusy, match="try again"):
        backup_with(len(seqs))
    assert left_in(copy.parent) == [copy.name]


def acknowledged(worker: Worker) -> None:
    """Wait until it has written one more."""
    while "number" not in (worker.next_line() or pytest.fail("it ended")):
        pass


async def test_two_processes_write_while_it_is_copied(db: Path, copy: Path) -> None:
    with workers(plan(db, "a"), plan(db, "b")) as both:
        for worker in both:
            worker.go()
        for worker in both:
            acknowledged(worker)
        copies = []
        for number in range(4):
            before = verify_file(db).entries
            done = await asyncio.to_thread(backup, db, copy.with_name(f"{number}.db"))
            copies.append(done)
            assert done.checked.fault is None
            assert done.checked.entries >= before
        for worker in both:
            acknowledged(worker)  # writers go on
            worker.process.kill()
    for done in copies:
        assert verify_file(db, str(done.checked.head)).known_head is True
        assert verify_file(done.path).head == done.checked.head


async def test_a_write_between_two_steps_does_not_make_it_begin_again(
    store: SqliteStore, db: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_module, "STEP_PAGES", 1)
    head, done_before = (await store.info()).head, 0
    with closing(SqliteLog(db)) as other:

        def write_more(what: str, done: int, total: int) -> None:
            nonlocal done_before
            if what == "Copying":
                assert done > done_before, "it began again"
                done_before = done
                other.append_batch([Group((said("meanwhile"),))])

        found = backup(db, copy, progress=write_more)
    assert found.checked.head == head
    assert done_before > 10
    assert (await store.info()).head.size > head.size + 10


async def test_no_store_makes_no_backup(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(NoStore):
        backup(tmp_path / "none.db", copy)
    assert left_in(copy.parent) == []
    assert not (tmp_path / "none.db").exists()


async def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(
    store: SqliteStore, db: Path, copy: Path
) -> None:
    put_bytes(copy, b"mine")
    with pytest.raises(Conflict):
        backup(db, copy)
    assert bytes_of(copy) == b"mine"
    backup(db, copy, replace=True)
    assert verify_file(copy).fault is None


@pytest.mark.parametrize("phase", ["Copying", "Verifying"])
async def test_stopping_leaves_no_half_file_and_what_was_there(
    store: SqliteStore, db: Path, copy: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccn_mcp.domain.verification.PROGRESS_EVERY", 1)
    put_bytes(copy, b"mine")

    def stop(what: str, done: int, total: int) -> None:
        if what == phase:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup(db, copy, replace=True, progress=stop)
    assert left_in(copy.parent) == [copy.name]
    assert bytes_of(copy) == b"mine"
    await store.append(Group((said("the store goes on"),)))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Every file ends there, as on a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_leaves_nothing_behind(
    store: SqliteStore, db: Path, copy: Path, tmp_path: Path
) -> None:
    whole = backup(db, copy).size
    for limit in (0, 4_096, whole // 2, whole - 1):
        target = copy.with_name("full.db")
        with files_of_at_most(limit), pytest.raises((StoreFull, StoreUnavailable)):
            backup(db, target)
        assert left_in(copy.parent) == [copy.name]
        with (
            files_of_at_most(limit),
            pytest.raises((StoreFull, StoreUnavailable, StoreReadOnly)),
        ):
            restored(copy, tmp_path / "new.db")
        assert [name for name in left_in(tmp_path) if name.startswith((".ccn", "new.db"))] == []
    assert (await store.verify()).fault is None


async def test_a_damaged_store_gives_no_backup(store: SqliteStore, db: Path, copy: Path) -> None:
    await store.__aexit__(None, None, None)
    with closing(sqlite3.connect(db)) as other:
        other.execute("UPDATE record SET text = 'forged' WHERE seq = 4")
        other.commit()
    with pytest.raises(VerificationFailed, match="the store itself"):
        backup(db, copy)
    assert left_in(copy.parent) == []


KILLED: Final = """
import os, sys
from pathlib import Path
from ccn_mcp.store.sqlite.backup import backup
def hang(what, done, total):
    print("copying", flush=True)
    sys.stdin.readline()
backup(Path(sys.argv[1]), Path(sys.argv[2]), progress=hang)
"""


@contextmanager
def in_the_middle_of_a_backup(db: Path, copy: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-c", KILLED, str(db), str(copy)]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline()
        yield victim
        victim.kill()


async def test_what_a_killed_backup_leaves_is_cleared_by_the_next_and_that_of_a_live_one_is_not(
    store: SqliteStore, db: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "STALE_S", -1.0)
    with in_the_middle_of_a_backup(db, copy) as victim:
        (left,) = left_in(copy.parent)
        assert left.startswith(beside.PREFIX)
        backup(db, copy)
        assert left in left_in(copy.parent), "somebody is working there"
        os.kill(victim.pid, signal.SIGKILL)
    backup(db, copy, replace=True)
    assert left_in(copy.parent) == [copy.name]


# ---- restore -------------------------------------------------------------------------------------------


async def test_a_restored_store_answers_as_the_old_one_did_under_a_name_of_its_own(
    store: SqliteStore, db: Path, copy: Path, tmp_path: Path
) -> None:
    old, before = await store.info(), await contents(db)
    first = (await store.records(replace(ALL, limit=1)))[0]
    backup(db, copy)
    done = restored(copy, tmp_path / "new.db")
    assert await contents(tmp_path / "new.db") == before
    async with SqliteStore(tmp_path / "new.db", secret=secret) as other:
        info = await other.info()
        assert info.store_id == done.store_id != old.store_id
        genesis = (await other.records(replace(ALL, limit=1)))[0]
        assert genesis.time_us == first.time_us, "no clock goes backwards"
        assert (genesis.body or {})["restored_from"] == {
            "store_id": (old.store_id or b"").hex(),
            "head": f"{old.head.size}:{old.head.root.hex()}",
            "entries": old.head.size,
            "genesis": done.past.genesis.hex(),
            "at": 5,
        }
        checked = await other.verify()
        assert (checked.fault, checked.entries, checked.erased) == (None, old.head.size, 1)
        await other.append(Group((said("it goes on"),)))
        assert (await other.verify()).fault is None
    assert copy.parent.exists()
    assert left_in(copy.parent) == [copy.name], "reading it left nothing beside it"
    assert mode_of(tmp_path / "new.db") == 0o600


async def test_what_was_erased_or_said_before_does_not_come_again(
    store: SqliteStore, db: Path, copy: Path, tmp_path: Path
) -> None:
    backup(db, copy)
    restored(copy, tmp_path / "new.db")
    async with SqliteStore(tmp_path / "new.db", secret=secret) as other:
        size = (await other.info()).head.size
        for draft in (
            said("keep me", key="k1"),
            said(f"the {TOKEN} word", key="gone", source="hook"),
            said(f"the {TOKEN} word", key="a new key", source="import"),
        ):
            (receipt,) = (await other.append(Group((draft,)))).receipts
            assert receipt.replayed, draft
        assert (await other.info()).head.size == size
    assert TOKEN.encode() not in bytes_of(tmp_path / "new.db")


async def test_evaluations_replay_and_the_consensus_goes_on(db: Path, copy: Path, tmp_path: Path) -> None:
    rng, clock = random.Random(3), FakeClock()  # noqa: S311  # chooses test cases

    async def reports(node: Any, ids: list[str], count: int) -> None:
        for _ in range(count):
            row = [0.5 + rng.uniform(-0.03, 0.03) for _ in TRAITS]
            await node.report_character_vector(row, instance_id=rng.choice(ids))

    async with node_on(db, clock=clock, seed="a") as node:
        await node.set_plate(plate_of())
        ids = [(await node.load_plate(model="m"))["instance_id"] for _ in range(4)]
        await reports(node, ids, 20)
        counted = await check_ledger(node)
    backup(db, copy)
    restored(copy, tmp_path / "new.db")
    async with node_on(tmp_path / "new.db", clock=clock, seed="b") as node:
        assert await check_ledger(node) == counted
        await reports(node, ids, 5)
        assert await check_ledger(node) > counted
        assert (await node.verify_chain())["ok"]


async def test_old_heads_are_answered_with_both_heads(
    store: SqliteStore, db: Path, copy: Path, tmp_path: Path
) -> None:
    heads = [str((await store.info()).head)]
    await store.append(Group((said("one more"),)))
    last = (await store.info()).head
    backup(db, copy)
    await store.append(Group((said("after the backup"),)))
    newer = str((await store.info()).head)
    new = tmp_path / "new.db"
    done = restored(copy, new)
    assert verify_file(new, str(done.checked.head)).known_head is True
    for held, answer, code in (
        (heads[0], "every entry up to it is here", "restored_head"),
        (str(last), "every entry up to it is here", "restored_head"),
        (f"{last.size}:{last.root.hex()}", "every entry up to it is here", "restored_head"),
        (newer, "what came after the backup is not here", "known_head"),
        ("3:" + "ab" * 16, "another record", "known_head"),
    ):
        found = verify_file(new, held)
        assert (found.known_head, found.level) == (False, 0)
        assert found.fault is not None
        assert found.fault.code == code
        for part in (answer, held, str(last), str(done.checked.head), (await store.info()).store_id.hex()):  # type: ignore[union-attr]  # it has one
            assert part in found.fault.detail, found.fault.detail


async def test_a_store_restored_twice_knows_both_pasts(
    store: SqliteStore, db: Path, copy: Path, tmp_path: Path
) -> None:
    first = (await store.info()).head
    backup(db, copy)
    second = restored(copy, tmp_path / "two.db")
    async with SqliteStore(tmp_path / "two.db", secret=secret) as other:
        await other.append(Group((said("between"),)))
    backup(tmp_path / "two.db", copy.with_name("two.db"))
    restored(copy.with_name("two.db"), tmp_path / "three.db")
    async with SqliteStore(tmp_path / "three.db") as other:
        (genesis,) = await other.records(replace(ALL, limit=1))
        pasts = pasts_of(genesis.body or {})
        assert [past.head.size for past in pasts] == [first.size + 1, first.size]
        assert pasts[0].store_id == second.store_id
    assert verify_file(tmp_path / "three.db").fault is None
    found = verify_file(tmp_path / "three.db", str(first))
    assert "an earlier one" in str(found.fault)
    body = genesis.body or {}
    assert len(pasts_of({**body, "restored_before": [body["restored_from"]] * 99})) == PASTS_MAX
    assert pasts_of({"restored_from": "x", "restored_before": [1, {}, {"head": "2:zz"}]}) == ()


async def test_a_genesis_that_claims_another_past_is_a_fault(
    store: SqliteStore, db: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every hash fits, as for somebody who computes them all again, and still the claim is checked."""
    backup(db, copy)
    monkeypatch.setattr(
        restore_module,
        "Past",
        lambda store_id, head, genesis, at: Past(store_id, replace(head, root=bytes(32)), genesis, at),
    )
    with pytest.raises(VerificationFailed, match="do not add up to that head"):
        restored(copy, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("harm", ["content", "column", "cut", "garbage", "empty"])
async def test_a_backup_that_is_not_as_it_was_written_is_refused(
    store: SqliteStore, db: Path, copy: Path, tmp_path: Path, harm: str
) -> None:
    backup(db, copy)
    if harm == "garbage":
        put_bytes(copy, b"no database" * 1_000)
    elif harm == "empty":
        put_bytes(copy, b"")
    else:
        with closing(sqlite3.connect(copy, isolation_level=None)) as other:
            other.execute("DROP TRIGGER entry_unchanged")
            other.execute("DROP TRIGGER entry_kept")
            sql = {
                "content": "UPDATE entry SET body = x'7b7d' WHERE seq = 5",
                "column": "UPDATE record SET text = 'forged' WHERE seq = 4",
                "cut": "DELETE FROM entry WHERE seq = (SELECT max(seq) FROM entry)",
            }[harm]
            other.execute(sql)
    with pytest.raises((VerificationFailed, StoreCorrupt, NotFound)) as caught:
        restored(copy, tmp_path / "new.db")
    assert str(copy) in str(caught.value)
    assert beside.PREFIX not in str(caught.value)
    assert not (tmp_path / "new.db").exists()
    with pytest.raises(NotFound):
        restored(tmp_path / "typo.db", tmp_path / "new.db")


async def test_a_present_store_is_moved_aside_whole_and_only_if_nobody_has_it_open(
    store: SqliteStore, db: Path, copy: Path
) -> None:
    backup(db, copy)
    await store.append(Group((said("later"),)))
    head, aside = (await store.info()).head, db.with_name("aside.db")
    with pytest.raises(StoreBusy, match="Stop every client"):
        restored(copy, db, aside)
    assert (await store.info()).head == head
    assert not aside.exists()
    await store.__aexit__(None, None, None)
    with pytest.raises(Conflict):
        restored(copy, db)
    with closing(sqlite3.connect(db)) as idle:
        idle.execute("SELECT count(*) FROM entry").fetchone()
        with pytest.raises(StoreBusy):
            restored(copy, db, aside)
    done = restored(copy, db, aside)
    assert done.moved == aside
    assert verify_file(aside).head == head
    assert verify_file(db).head == done.checked.head
    assert not [name for name in left_in(db.parent) if name.startswith(beside.PREFIX)]


async def test_a_present_store_that_is_damaged_is_moved_aside_as_it_is(
    store: SqliteStore, db: Path, copy: Path
) -> None:
    backup(db, copy)
    await store.__aexit__(None, None, None)
    put_bytes(db, b"broken" * 2_000)
    with restoring(copy, db) as ready:
        assert ready.present is not None
        assert ready.present.head is None
    done = restored(copy, db, db.with_name("aside.db"))
    assert verify_file(db).head == done.checked.head
    assert bytes_of(db.with_name("aside.db")) == b"broken" * 2_000


async def test_a_move_that_fails_leaves_everything_as_it_was(
    store: SqliteStore, db: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup(db, copy)
    await store.__aexit__(None, None, None)
    head = verify_file(db).head

    def fails(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(beside, "put_in_place", fails)
    with pytest.raises(StoreReadOnly):
        restored(copy, db, db.with_name("aside.db"))
    assert verify_file(db).head == head
    assert not db.with_name("aside.db").exists()


async def test_a_store_that_appears_meanwhile_is_not_replaced(
    store: SqliteStore, db: Path, copy: Path, tmp_path: Path
) -> None:
    backup(db, copy)
    target = tmp_path / "new.db"
    with pytest.raises(Conflict):
        restored(copy, target, now=lambda: put_bytes(target, b"somebody's"))
    assert bytes_of(target) == b"somebody's"


async def test_what_was_erased_after_the_backup_is_erased_again(
    store: SqliteStore, db: Path, copy: Path
) -> None:
    done = await store.append(Group((said("later regretted vxq9zzw", key="k9"),)))
    backup(db, copy)
    assert b"vxq9zzw" in bytes_of(copy)
    await store.append(Group((said("more"),)))
    await store.erase([redaction(done.receipts[0].seq, reason="private")])
    await store.__aexit__(None, None, None)
    again = restored(copy, db, db.with_name("aside.db"))
    assert again.erased_again == 1
    assert holders(db, "vxq9zzw") == [], "the moved one is clean, too"
    assert verify_file(db).erased == 2
    async with SqliteStore(db, secret=secret) as other:
        last = (await other.records(replace(ALL, oldest_first=False, limit=1)))[0]
        assert (last.kind, (last.body or {})["reason"]) == (Kind.REDACTION, "private")
        (receipt,) = (await other.append(Group((said("later regretted vxq9zzw", key="k9"),)))).receipts
        assert receipt.replayed


@pytest.mark.parametrize("phase", ["Reading", "Verifying", "Restoring", "Checking"])
async def test_stopping_a_restore_changes_nothing(
    store: SqliteStore, db: Path, copy: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccn_mcp.domain.verification.PROGRESS_EVERY", 1)
    backup(db, copy)
    await store.__aexit__(None, None, None)
    before = left_in(db.parent)

    def stop(what: str, done: int, total: int) -> None:
        if what == phase:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        with restoring(copy, db, stop) as ready:
            ready.build(5, secret)
        pytest.fail("it was not stopped")
    assert left_in(db.parent) == before
