"""SIGKILL at any instant: what was acknowledged is there, the chain is whole, a retry doubles nothing.

The instant is random by a seed: so many acknowledgements are read from the worker's pipe, then so much
counting is done; nothing waits for time. What the worker had told before it died counts as acknowledged,
even if it was read afterwards.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import RecordQuery
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.model import seeded
from tests.store.worker import Json, Worker, check, finish, plan, workers

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX"),
]

ACKNOWLEDGED_MAX: Final = 12
COUNTED_MAX: Final = 60_000
SOME: Final = 10
MANY: Final = 100


async def test_a_writer_is_killed_at_some_instants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await _kill_often(tmp_path / "ccn.db", SOME, capsys)


@pytest.mark.slow
async def test_a_writer_is_killed_at_many_instants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await _kill_often(tmp_path / "ccn.db", MANY, capsys)


async def _kill_often(db: Path, times: int, capsys: pytest.CaptureFixture[str]) -> None:
    rng, told, unacknowledged = seeded(20), dict[str, list[Json]](), 0
    for kill in range(times):
        name = f"k{kill}"
        with workers(plan(db, name, flights=rng.choice([1, 1, 4]))) as (victim,):
            told[name] = _kill_somewhere(victim, rng, rng.randint(1, ACKNOWLEDGED_MAX))
        await check(db, {name: told[name]}, whole=False)
        # The same keys again: what is there already is not written twice, acknowledged or not.
        before = await _messages(db)
        count = 1 + max(line["number"] for line in told[name])
        with workers(plan(db, name, count=count)) as retrying:
            (lines,) = finish(retrying)
        again = {line["seq"] for line in lines if "seq" in line and line["again"]}
        assert {line["seq"] for line in told[name]} <= again
        assert await _messages(db) - before == count - len(again)
        unacknowledged += len(again - {line["seq"] for line in told[name]})
        await check(db, {name: [line for line in lines if "seq" in line]}, whole=False)
    await check(db, told, whole=False)
    with capsys.disabled():
        print(
            f"\nkilled {times} times: {sum(map(len, told.values()))} messages acknowledged, none lost; "
            f"{unacknowledged} committed but not acknowledged, none doubled"
        )


@pytest.mark.parametrize("seed", range(6))
async def test_a_writer_is_killed_while_it_creates_the_store(tmp_path: Path, seed: int) -> None:
    await _kill_at_birth(tmp_path, seed)


@pytest.mark.slow
async def test_a_writer_is_killed_while_it_creates_the_store_at_many_instants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = Counter([await _kill_at_birth(tmp_path / str(seed), seed) for seed in range(100, 100 + MANY)])
    with capsys.disabled():
        print(f"\nkilled at birth {MANY} times: {dict(states)}")
    assert len(states) >= 3, "the kills came too early or too late to show anything"


async def _kill_at_birth(folder: Path, seed: int) -> str:
    db, rng = folder / "new" / "ccn.db", seeded(seed)
    with workers(plan(db, "first")) as (victim,):
        told = _kill_somewhere(victim, rng, 0, counted_max=COUNTED_MAX * 20)
    size = db.stat().st_size if db.exists() else None
    async with SqliteStore(db) as store:
        checked = await store.verify()
        assert checked.fault is None
        # A store that is not there yet, or a whole one: never a half.
        assert (checked.level, checked.entries) == (None, 0) or checked.level == 1
        genesis = await store.records(RecordQuery(kinds=(Kind.GENESIS,), limit=2))
        assert len(genesis) == (1 if checked.entries else 0)
    with workers(plan(db, "second", count=3)) as (next_one,):
        (lines,) = finish([next_one])
    await check(db, {"first": told, "second": lines}, whole=False)
    if size is None:
        return "no file"
    if size == 0:
        return "empty file"
    return "with entries" if checked.entries else "a file without entries"


@pytest.mark.parametrize("seed", range(3))
async def test_of_two_writers_one_is_killed_and_the_other_goes_on(tmp_path: Path, seed: int) -> None:
    db, rng, count = tmp_path / "ccn.db", seeded(seed), 150
    with workers(plan(db, "victim", flights=2), plan(db, "other", count=count)) as (victim, other):
        other.go()
        told = _kill_somewhere(victim, rng, rng.randint(5, 30))
        lines = other.rest()
    assert sorted(line["number"] for line in lines if "seq" in line) == list(range(count))
    await check(db, {"victim": told, "other": lines}, whole=False)


def _kill_somewhere(
    victim: Worker, rng: random.Random, acknowledged: int, *, counted_max: int = COUNTED_MAX
) -> list[Json]:
    """Lift the barrier, read so many acknowledgements, count a little, kill; every acknowledgement."""
    victim.go()
    lines = [victim.next_line() for _ in range(acknowledged)]
    for _ in range(rng.randrange(counted_max)):
        pass
    return [line for line in [*lines, *victim.kill()] if line is not None]


async def _messages(db: Path) -> int:
    async with SqliteStore(db) as store:
        return (await store.verify()).messages
