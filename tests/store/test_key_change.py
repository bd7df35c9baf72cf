"""Changing a store's key: what verifies before and after, what a retired key can do, and a kill at every step."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp.domain.checkpoint import Checkpoint, encode, origin_of, parse_key
from ccn_mcp.domain.errors import KeyUnusable
from ccn_mcp.domain.models import Body, Group, KeyChange, RecordQuery
from ccn_mcp.store.keeper import FileKeeper
from ccn_mcp.store.keys import Signer
from ccn_mcp.store.sqlite.signing import root_here
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.model import opening, said
from tests.store.rotate_worker import STORE_FILE
from tests.store.test_signing import checked, keeper_of, the_file, write
from tests.store.worker import ROOT

pytestmark = pytest.mark.anyio

WAIT_S_MAX: Final = 120
STEPS_MIN: Final = 20


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / STORE_FILE


@pytest.fixture
def keeper(tmp_path: Path, db: Path) -> FileKeeper:
    return keeper_of(tmp_path / "config", db)


async def rotate(db: Path, keeper: FileKeeper, *, lost: bool = False) -> KeyChange:
    async with SqliteStore(db, keeper=keeper) as store:
        return await store.rotate_key(lost=lost)


async def store_id_of(db: Path) -> bytes:
    async with SqliteStore(db) as store:
        found = (await store.info()).store_id
    assert found is not None
    return found


async def signer_of(db: Path, keeper: FileKeeper) -> Signer:
    found = keeper.ring.signer(await store_id_of(db), create=False)
    assert found is not None
    return found


def sizes(db: Path, *, kept: bool = False) -> list[int]:
    with closing(sqlite3.connect(db)) as connection:
        where = "WHERE kept = 1" if kept else ""
        return [row[0] for row in connection.execute(f"SELECT size FROM checkpoint {where} ORDER BY size")]


async def forge(db: Path, signer: Signer, size: int) -> None:
    """Put a head of the log as it is into the store, signed by this key."""
    store_id = await store_id_of(db)
    with the_file(db) as connection:
        root = root_here(connection, size).root
        note = signer.sign(encode(Checkpoint(origin_of(store_id), size, root))).encode()
        connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, 0)", (size, note))


# ---- G13 -------------------------------------------------------------------------------------------------


async def test_heads_before_and_after_each_change_verify_from_the_first_pinned_key(
    db: Path, keeper: FileKeeper
) -> None:
    before = await write(db, keeper, "one")
    first = await signer_of(db, keeper)
    keys = {str(first.key)}
    for text in ("two", "three", "four"):
        changed = await rotate(db, keeper)
        assert changed.old in keys
        assert changed.new not in keys
        keys.add(changed.new)
        assert changed.seq in sizes(db, kept=True), "the head before the change is kept for good"
        assert keeper.key(await store_id_of(db), create=False) == changed.new
        head = await write(db, keeper, text)
        found = checked(db, keeper)
        assert (found.level, found.fault, found.signed_to) == (2, None, head.size)
    assert before.size in sizes(db)
    assert keeper.pinned(await store_id_of(db)) == str(first.key), "the first key stays pinned"
    assert not keeper.ring.rotate(await store_id_of(db)).unfinished


async def test_a_retired_key_signs_no_later_head(db: Path, keeper: FileKeeper) -> None:
    before = await write(db, keeper, "one")
    thief = await signer_of(db, keeper)
    changed = await rotate(db, keeper)
    head = await write(db, keeper, "two")
    assert checked(db, keeper).level == 2
    await forge(db, thief, before.size)  # what it signed then, it may sign again
    assert checked(db, keeper).level == 2
    await forge(db, thief, head.size)
    found = checked(db, keeper)
    assert found.fault is not None
    assert (found.level, found.fault.code) == (0, "retired_key")
    assert f"entry {changed.seq} replaced" in found.fault.detail


async def test_a_new_key_signs_no_earlier_head(db: Path, keeper: FileKeeper) -> None:
    before = await write(db, keeper, "one")
    await rotate(db, keeper)
    await forge(db, await signer_of(db, keeper), before.size)
    found = checked(db, keeper)
    assert found.fault is not None
    assert (found.level, found.fault.code) == (0, "signature")


async def test_a_key_entry_that_nobody_signed_is_found(db: Path, keeper: FileKeeper, tmp_path: Path) -> None:
    await write(db, keeper, "one")
    shutil.rmtree(tmp_path / "config" / "keys")
    thief = keeper_of(tmp_path / "thief", db)
    # Who can write the store can say that the key was lost; who pinned the first key is told.
    first = await _first_key(db)
    await rotate(db, thief, lost=True)
    keeper.ring.trust(await store_id_of(db), parse_key(first))
    found = checked(db, keeper)
    assert found.fault is not None
    assert (found.level, found.fault.code) == (0, "signature")
    assert "anybody who could write" in found.fault.detail


async def _first_key(db: Path) -> str:
    async with SqliteStore(db) as store:
        (genesis,) = await store.records(RecordQuery(seqs=(0,)))
    body: Body = genesis.body or {}
    return str(body["signed_by"])


# ---- pins and lost keys ----------------------------------------------------------------------------------


async def test_a_pin_that_was_lost_after_a_change_counts_from_the_entry_of_the_current_key(
    db: Path, keeper: FileKeeper, tmp_path: Path
) -> None:
    await write(db, keeper, "one")
    changed = await rotate(db, keeper)
    store_id = await store_id_of(db)
    (tmp_path / "config" / "keys" / f"{store_id.hex()}.pin").unlink()
    head = await write(db, keeper, "two")
    assert keeper.pinned(store_id) == changed.new
    found = checked(db, keeper)
    assert (found.level, found.fault, found.signed_to) == (2, None, head.size)
    # What the key before it signed is not looked at any more; what it signs from here on is.
    with the_file(db) as connection:
        connection.execute("DELETE FROM checkpoint WHERE size > ?", (changed.seq,))
    found = checked(db, keeper)
    assert (found.level, found.signed_to) == (1, 0)
    assert "no head is signed by the key that this account trusts" in found.remarks[0]


async def test_a_lost_key_is_followed_by_a_new_one_that_is_pinned(
    db: Path, keeper: FileKeeper, tmp_path: Path
) -> None:
    await write(db, keeper, "one")
    with pytest.raises(KeyUnusable, match="not lost"):
        await rotate(db, keeper, lost=True)
    store_id = await store_id_of(db)
    (tmp_path / "config" / "keys" / f"{store_id.hex()}.key").unlink()
    with pytest.raises(KeyUnusable, match="--lost") as refused:
        await rotate(db, keeper)
    assert refused.value.reason == "missing"
    changed = await rotate(db, keeper, lost=True)
    assert changed.lost
    assert keeper.pinned(store_id) == changed.new == keeper.key(store_id, create=False)
    head = await write(db, keeper, "two")
    found = checked(db, keeper)
    assert (found.level, found.fault, found.signed_to) == (2, None, head.size)
    await rotate(db, keeper)
    assert checked(db, keeper).level == 2


async def test_a_store_that_a_hook_began_gets_its_first_key_and_the_next(
    db: Path, keeper: FileKeeper
) -> None:
    async with SqliteStore(db) as store:
        await store.append(Group((opening("c1"), said("one"))))
    changed = await rotate(db, keeper)
    assert changed.old is not None
    assert keeper.pinned(await store_id_of(db)) == changed.old
    found = checked(db, keeper)
    assert (found.level, found.signed_to) == (2, found.entries)


async def test_a_key_that_cannot_be_written_changes_nothing(db: Path, keeper: FileKeeper) -> None:
    head = await write(db, keeper, "one")
    signer = await signer_of(db, keeper)
    next_path = keeper.ring.rotate(await store_id_of(db)).next_path
    next_path.mkdir()  # in its way
    with pytest.raises(KeyUnusable):
        await rotate(db, keeper)
    next_path.rmdir()
    found = checked(db, keeper)
    assert (found.level, found.entries) == (2, head.size)
    assert await signer_of(db, keeper) == signer


async def test_a_server_that_runs_meanwhile_signs_with_the_new_key(db: Path, keeper: FileKeeper) -> None:
    other = keeper_of(keeper._folder(), db)
    async with SqliteStore(db, keeper=other) as server:
        await server.append(Group((opening("c1"), said("one"))))
        changed = await rotate(db, keeper)
        await server.append(Group((said("two"),)))
    found = checked(db, keeper)
    assert (found.level, found.fault, found.signed_to) == (2, None, found.entries)
    assert found.entries > changed.seq + 1


async def test_two_that_change_it_at_once_change_it_twice(db: Path, keeper: FileKeeper) -> None:
    await write(db, keeper, "one")
    other = keeper_of(keeper._folder(), db)
    first, second = await asyncio.gather(rotate(db, keeper), rotate(db, other))
    earlier, later = sorted((first, second), key=lambda change: change.seq)
    assert later.old == earlier.new
    head = await write(db, keeper, "two")
    found = checked(db, keeper)
    assert (found.level, found.fault, found.signed_to) == (2, None, head.size)


# ---- killed ----------------------------------------------------------------------------------------------


def killed(template: Path, work: Path, *, lost: bool) -> list[dict[str, Any]]:
    words = [sys.executable, "-m", "tests.store.rotate_worker", str(template), str(work)]
    done = subprocess.run(
        [*words, "lost" if lost else "here"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("lost", [False, True], ids=["here", "lost"])
async def test_a_change_that_is_killed_at_any_step_is_finished_by_the_next_signature(
    tmp_path: Path, lost: bool
) -> None:
    template = tmp_path / "template"
    keeper = keeper_of(template / "config", template / STORE_FILE)
    head = await write(template / STORE_FILE, keeper, "one")
    store_id = await store_id_of(template / STORE_FILE)
    if lost:
        (template / "config" / "keys" / f"{store_id.hex()}.key").unlink()
    *ended, last = killed(template, tmp_path / "work", lost=lost)
    assert last["status"] == 0
    assert len(ended) > STEPS_MIN
    assert {step["status"] for step in ended} == {-signal.SIGKILL}
    unchanged, changed = head.size + 1, head.size + 2
    for step in (*ended, last):
        assert step["entries"] in (unchanged, changed), step
        assert (step["fault"], step["level"]) == (None, 2), step
        keys = set(step["files"]) - {""}  # a draft that was never given its name
        if step["entries"] == changed:
            assert (step["signed_to"], keys) == (changed, {".key", ".pin"}), step
        elif not lost:
            assert step["signed_to"] == unchanged, step
            assert {".key", ".pin"} <= keys <= {".key", ".pin", ".next"}, step
    assert {step["entries"] for step in ended} == {unchanged, changed}, "killed before and after"
