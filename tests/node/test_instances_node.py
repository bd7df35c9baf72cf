"""The ends of an instance, and who had a conversation before: what the log says of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccn_mcp.domain.errors import ReceiptRequired, UnknownInstance
from ccn_mcp.domain.instances import Event, Instance, State
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import RecordQuery
from ccn_mcp.node.context import Caller
from ccn_mcp.node.instances import leave, seat_of
from ccn_mcp.node.node import Node
from tests.node.world import FakeClock, head_of, node_on, plate_of, spread

pytestmark = pytest.mark.anyio


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "ccn.db"


async def instance(node: Node, instance_id: str) -> Instance:
    return Instance.from_body((await seat_of(node.ctx, instance_id)).snapshot)


async def events(node: Node, instance_id: str) -> list[object]:
    query = RecordQuery(kinds=(Kind.INSTANCE,), subject=instance_id, oldest_first=True, limit=100)
    return [record.body["event"] for record in await node.ctx.store.records(query) if record.body]


# ---- a clean exit --------------------------------------------------------------------------------------


async def test_a_clean_exit_ends_the_session_and_takes_its_vote(db: Path) -> None:
    async with node_on(db) as plain:
        await plain.set_plate(plate_of())
        node = plain.for_client("c", "s")
        mine = (await node.load_plate(model="m"))["instance_id"]
        other = (await plain.load_plate(model="m"))["instance_id"]
        await node.report_character_vector(spread(0.52))
        assert await node.end_instances() == [mine]
        assert await events(node, mine) == [Event.OPENED, Event.LOADED, Event.TERMINATED]
        assert (await instance(node, other)).state is State.ACTIVE
        judged = await plain.report_character_vector(spread(0.51), instance_id=other)
        assert judged["participants"] == 1, "an ended instance does not vote"
        assert [row["instance_id"] for row in (await plain.consensus_status())["instances"]] == [other]
        before = await head_of(node)
        assert await node.end_instances() == []
        assert await head_of(node) == before, "ending twice writes nothing"
        with pytest.raises(UnknownInstance, match="load"):
            await node.report_character_vector(spread(0.5), instance_id=mine)
        assert (await node.load_plate())["instance_id"] != mine


async def test_only_the_callers_own_instances_end(db: Path) -> None:
    async with node_on(db) as node:
        mine = (await node.for_client("c", "s").load_plate())["instance_id"]
        stranger = node.as_caller(Caller("somebody"))
        with pytest.raises(UnknownInstance):
            await stranger.end_instances(instance_id=mine)
        assert await stranger.end_instances(session_id="s") == []
        assert await node.end_instances() == [], "without id and session nobody is meant"
        assert (await instance(node, mine)).state is State.ACTIVE
        assert await node.end_instances(instance_id=mine) == [mine]


async def test_one_whose_process_crashed_ages_out(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock, seed="a") as first:
        mine = (await first.load_plate())["instance_id"]
    clock.pass_s(3_600)
    async with node_on(db, clock=clock, seed="b") as second:
        (row,) = (await second.consensus_status())["instances"]
        assert (row["instance_id"], row["state"]) == (mine, "idle")
        assert (await second.load_plate(instance_id=mine))["instance_id"] == mine
        clock.pass_s(13 * 3_600)
        assert (await second.consensus_status())["connected"] == 0
        assert (await instance(second, mine)).state is State.ACTIVE, "nobody ended it: it may come back"


# ---- the end of a process ------------------------------------------------------------------------------


async def test_an_instance_that_left_with_its_process_has_no_vote_and_comes_back_as_it_was(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock, seed="a") as first, node_on(db, clock=clock, seed="b") as second:
        await first.set_plate(plate_of())
        mine = (await first.load_plate(model="m"))["instance_id"]
        other = (await second.load_plate(model="m"))["instance_id"]
        moved = await first.report_character_vector(spread(0.60), instance_id=mine)
        assert await leave(first.ctx) == [mine]
        assert await leave(first.ctx) == [], "leaving twice writes nothing"
        gone = await instance(second, mine)
        assert (gone.state, gone.left_as) == (State.TERMINATED, State.ACTIVE)
        alone = await second.report_character_vector(spread(0.51), instance_id=other)
        assert alone["participants"] == 1
        assert [row["instance_id"] for row in (await second.consensus_status())["instances"]] == [other]
        clock.pass_s(3_600)
        again = await second.report_character_vector(spread(0.60), instance_id=mine)
        assert again["participants"] == 2
        assert again["smoothed"]["max"] > moved["smoothed"]["max"], "its E went on"
        assert (await events(second, mine))[-2:] == [Event.TERMINATED, Event.RETURNED]


async def test_any_call_brings_an_instance_back(db: Path) -> None:
    async with node_on(db) as node:
        await node.set_plate(plate_of())
        mine = await node.load_plate(model="m")
        name = mine["instance_id"]
        for call in (
            lambda: node.record_message("user", "still here", instance_id=name),
            lambda: node.record_message(
                "user", "here", instance_id=name, conversation_id=mine["conversation_id"]
            ),
            lambda: node.report_character_vector(spread(0.5), instance_id=name),
            lambda: node.consensus_status(instance_id=name),
            lambda: node.validate_character(instance_id=name, kind="commission"),
            lambda: node.load_plate(instance_id=name),
        ):
            assert await leave(node.ctx) == [name]
            node.ctx.seen_us.clear()  # as another process begins
            await call()
            assert (await instance(node, name)).state is State.ACTIVE
        assert (await node.verify_chain(deep=True))["ok"]


async def test_a_flag_is_not_lost_by_leaving(db: Path) -> None:
    async with node_on(db, seed="a") as first:
        await first.set_plate(plate_of())
        mine = (await first.load_plate(model="m"))["instance_id"]
        assert (await first.report_character_vector([0.9] * 16, instance_id=mine))["state"] == "drifted"
        assert await leave(first.ctx) == [mine]
    async with node_on(db, seed="b") as second:
        with pytest.raises(ReceiptRequired):
            await second.report_character_vector([0.5] * 16, instance_id=mine)
        receipt = (await second.load_plate(instance_id=mine))["receipt"]
        back = await second.report_character_vector(spread(0.52), instance_id=mine, receipt=receipt)
        assert (back["action"], back["state"]) == ("ok", "active")


async def test_one_that_another_process_has_heard_since_stays(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock, seed="a") as first, node_on(db, clock=clock, seed="b") as second:
        mine = (await first.load_plate())["instance_id"]
        clock.pass_s(1)
        await second.record_message("user", "in another window", instance_id=mine)
        assert await leave(first.ctx) == []
        assert await leave(second.ctx) == [mine]


async def test_a_session_finds_its_instance_again_and_one_that_was_ended_for_good_it_does_not(
    db: Path,
) -> None:
    async with node_on(db) as plain:
        node = plain.for_client("c", "s")
        mine = (await node.load_plate())["instance_id"]
        await leave(node.ctx)
        assert (await node.load_plate())["instance_id"] == mine
        await leave(node.ctx)
        assert await node.end_instances() == [mine], "a hook may tell the end after the server is gone"
        assert (await instance(node, mine)).gone
        assert (await node.load_plate())["instance_id"] != mine
        with pytest.raises(UnknownInstance):
            await node.report_character_vector(spread(0.5), instance_id=mine)


# ---- handover ------------------------------------------------------------------------------------------


async def test_a_conversation_that_goes_on_in_another_instance_names_the_one_before(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock) as node:
        first = await node.load_plate()
        here = first["conversation_id"]
        clock.pass_s(1)
        assert (await instance(node, first["instance_id"])).predecessor is None
        await node.end_instances(instance_id=first["instance_id"])
        second = await node.load_plate(conversation_id=here)
        assert (await instance(node, second["instance_id"])).predecessor == first["instance_id"]
        clock.pass_s(1)
        again = await node.load_plate(instance_id=second["instance_id"])
        assert (await instance(node, again["instance_id"])).predecessor == first["instance_id"]
        moved = await node.load_plate()
        assert (await instance(node, moved["instance_id"])).predecessor is None
        await node.load_plate(instance_id=moved["instance_id"], conversation_id=here)
        assert (await instance(node, moved["instance_id"])).predecessor == second["instance_id"]
        assert (await node.verify_chain(deep=True))["ok"]


async def test_another_accounts_instance_is_not_named(db: Path) -> None:
    async with node_on(db) as node:
        first = await node.load_plate()
        stranger = node.as_caller(Caller("somebody"))
        second = await stranger.load_plate(conversation_id=first["conversation_id"])
        assert (await instance(node, second["instance_id"])).predecessor is None


def test_a_snapshot_from_before_there_was_a_handover_is_read() -> None:
    old = Instance("i", "p").to_body(Event.OPENED)
    del old["predecessor"]
    assert Instance.from_body(old) == Instance("i", "p")
