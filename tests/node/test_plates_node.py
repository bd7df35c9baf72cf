"""The Plate in force: delivered, replaced, kept, and never taken from a log that does not match."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio
import pytest

from ccn_mcp import data
from ccn_mcp.domain.character import DEFAULT_BASELINE
from ccn_mcp.domain.errors import VerificationFailed
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Appended, Group, RecordQuery
from ccn_mcp.domain.plate import is_starter, parse_plate
from tests.node.world import BASE, head_of, node_on, plate_of

pytestmark = pytest.mark.anyio
WAIT_S: Final = 30


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "ccn.db"


async def test_the_starter_is_in_force_until_somebody_chooses(db: Path) -> None:
    async with node_on(db) as node:
        before = await head_of(node)
        shown = await node.plate()
        assert (is_starter(shown.plate), shown.seq) == (True, None)
        assert (shown.baseline, shown.baseline_source) == (DEFAULT_BASELINE, "default")
        assert await head_of(node) == before, "looking at it writes nothing"
        loaded = await node.load_plate()
        assert "Nobody has chosen a Plate yet" in loaded["text"]
        assert (await node.plate()).seq is not None, "from its first delivery on it is in the log"
        await node.load_plate()
        assert len(await node.plate_versions()) == 1


async def test_a_plate_is_set_once_kept_byte_for_byte_and_its_versions_stay(db: Path) -> None:
    one, two = plate_of(version="1"), plate_of(version="2", baseline=None)
    async with node_on(db) as node:
        first = await node.set_plate(one)
        assert (await node.set_plate(one)).seq == first.seq
        second = await node.set_plate(two)
        assert (first.baseline, first.baseline_source) == (BASE, "authored")
        assert (second.baseline, second.baseline_source) == (DEFAULT_BASELINE, "default")
        assert [item.plate.version for item in await node.plate_versions()] == ["2", "1"]
        await node.set_plate(one)
        assert [item.plate.version for item in await node.plate_versions()] == ["1", "2", "1"]
        records = await node.ctx.store.records(RecordQuery(kinds=(Kind.PLATE,), limit=3))
    assert [record.blob for record in records] == [one.source, two.source, one.source]


async def test_many_that_set_the_same_plate_at_once_set_it_once(db: Path) -> None:
    async with node_on(db, seed="a") as one, node_on(db, seed="b") as two:
        with anyio.fail_after(WAIT_S):
            async with anyio.create_task_group() as group:
                for node in (one, two) * 4:
                    group.start_soon(node.set_plate, plate_of())
                    group.start_soon(node.load_plate)
        versions = await one.plate_versions()
        # A load may have delivered the starter before; it is never put in force over a chosen one.
        assert versions[0].plate.version == "1"
        assert len([item for item in versions if item.plate.version == "1"]) == 1


async def test_the_starter_never_comes_after_a_plate_that_was_set_meanwhile(db: Path) -> None:
    async with node_on(db) as node:
        append, chosen = node.ctx.store.append, list[Group]()

        async def late(group: Group) -> Appended:
            if not chosen and any(draft.kind is Kind.PLATE for draft in group.drafts):
                chosen.append(group)
                await node.set_plate(plate_of())
            return await append(group)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(node.ctx.store, "append", late)
            loaded = await node.load_plate()
        assert chosen
        assert loaded["plate"].startswith("Test 1 (")
        assert (await node.plate()).plate.name == "Test"


async def test_a_newer_starter_replaces_an_older_one_but_never_a_chosen_plate(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = parse_plate(data.read("starter_plate.md") + b"\nOne line more.\n")
    old_starter = parse_plate(data.read("starter_plate.md"))
    both = frozenset({newer.digest, old_starter.digest})
    monkeypatch.setattr("ccn_mcp.domain.plate.STARTER_DIGESTS", both)
    async with node_on(db) as node:
        mine = (await node.load_plate())["instance_id"]
        monkeypatch.setattr("ccn_mcp.node.plates.data.read", lambda _: newer.source)
        assert (await node.plate()).plate.digest == newer.digest
        told = await node.load_plate(instance_id=mine)
        assert "One line more." in told["text"]
        await node.set_plate(plate_of())
        assert (await node.plate()).plate.name == "Test"


async def test_a_plate_that_was_changed_in_the_file_is_not_delivered(db: Path) -> None:
    async with node_on(db) as node:
        await node.set_plate(plate_of(body="Be honest."))
    with closing(sqlite3.connect(db)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute(
            "UPDATE entry SET blob = CAST(replace(CAST(blob AS TEXT), 'honest', 'sneaky') AS BLOB) "
            "WHERE length(blob) > 0"
        )
        connection.commit()
    async with node_on(db) as node:
        with pytest.raises(VerificationFailed, match="ccn-mcp verify"):
            await node.load_plate()
        assert not (await node.verify_chain())["ok"]
