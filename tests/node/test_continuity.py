"""load_plate: what an instance is given, where it goes on, and what it must not be shown."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from ccn_mcp.domain.errors import BadInput, UnknownConversation, UnknownInstance
from ccn_mcp.domain.instances import Event, Instance, State, terminated
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import CONTEXT_TOKENS_MAX, JSON_INT_MAX
from ccn_mcp.domain.models import Group, RecordQuery
from ccn_mcp.domain.prompt import RECORD_EMPTY, RECORDING, Recorder
from ccn_mcp.node.context import Caller
from ccn_mcp.node.instances import instance_draft, seat_of
from ccn_mcp.node.node import Node
from tests.node.test_conversations import calls_in
from tests.node.world import FakeClock, head_of, node_on, plate_of, scoped

pytestmark = pytest.mark.anyio
WAIT_S: Final = 30
SESSION_MARK: Final = "\n\nThis session, "


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "ccn.db"


async def events_of(node: Node, instance_id: str) -> list[object]:
    query = RecordQuery(kinds=(Kind.INSTANCE,), subject=instance_id, oldest_first=True, limit=100)
    return [record.body["event"] for record in await node.ctx.store.records(query) if record.body]


async def end(node: Node, instance_id: str) -> None:
    snapshot = Instance.from_body((await seat_of(node.ctx, instance_id)).snapshot)
    draft = instance_draft(terminated(snapshot), Event.TERMINATED, node.ctx.now_us())
    await node.ctx.store.append(Group((draft,)))


# ---- instances -----------------------------------------------------------------------------------------


async def test_a_new_instance_is_opened_and_the_same_one_renewed(db: Path) -> None:
    async with node_on(db) as node:
        first = await node.load_plate(title="Work")
        again = await node.load_plate(instance_id=first["instance_id"])
        other = await node.load_plate()
        assert again["instance_id"] == first["instance_id"] != other["instance_id"]
        assert again["conversation_id"] == first["conversation_id"] != other["conversation_id"]
        assert await events_of(node, first["instance_id"]) == ["opened", "loaded", "loaded"]
        for said in (first["instance_id"], first["conversation_id"], first["receipt"], first["head"]):
            assert said in first["text"]
        assert first["head"] == str(first["head"])


async def test_a_session_finds_its_instance_until_the_lease_has_run_out(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock, lease_us=900_000_000) as plain:
        node = plain.for_client("claude-code 2", "s")
        first = await node.load_plate()
        assert (await node.load_plate())["instance_id"] == first["instance_id"]
        assert (await plain.load_plate(session_id="s"))["instance_id"] == first["instance_id"]
        clock.pass_s(900)
        assert (await node.load_plate())["instance_id"] == first["instance_id"]
        clock.pass_s(901)
        late = await node.load_plate()
        assert late["instance_id"] != first["instance_id"]
        assert late["conversation_id"] == first["conversation_id"]


async def test_unknown_and_ended_instances_are_refused_without_a_trace(db: Path) -> None:
    async with node_on(db) as node:
        gone = (await node.load_plate())["instance_id"]
        await end(node, gone)
        before = await head_of(node)
        for wrong in ("i_nobody", gone):
            with pytest.raises(UnknownInstance):
                await node.load_plate(instance_id=wrong)
            with pytest.raises(UnknownInstance):
                await node.report_character_vector([0.5] * 16, instance_id=wrong)
            with pytest.raises(UnknownInstance):
                await node.consensus_status(instance_id=wrong)
        with pytest.raises(UnknownConversation):
            await node.load_plate(conversation_id="c_nobody")
        assert await head_of(node) == before


async def test_an_ended_instance_does_not_come_back_by_recording_after_its_lease(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock, lease_us=1_000_000) as node:
        gone = (await node.load_plate())["instance_id"]
        await end(node, gone)
        clock.pass_s(100)
        before = await head_of(node)
        with pytest.raises(UnknownInstance):
            await node.record_message("user", "hello", instance_id=gone)
        assert await head_of(node) == before


async def test_another_principals_instance_is_not_ones_own(db: Path) -> None:
    async with node_on(db) as node:
        mine = (await node.load_plate(session_id="s"))["instance_id"]
        thief = node.as_caller(Caller("thief", session_id="s"))
        before = await head_of(node)
        for act in (
            thief.load_plate(instance_id=mine),
            thief.report_character_vector([0.1] * 16, instance_id=mine),
            thief.report_character_vector([0.1] * 16),
            thief.consensus_status(instance_id=mine),
        ):
            with pytest.raises((UnknownInstance, BadInput)):
                await act
        assert await head_of(node) == before
        assert (await thief.load_plate())["instance_id"] != mine


async def test_a_record_after_the_lease_registers_the_instance_again(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock, lease_us=1_000_000) as node:
        mine = (await node.load_plate())["instance_id"]
        clock.pass_s(100)
        assert (await node.consensus_status())["connected"] == 0
        await node.record_message("user", "still here", instance_id=mine)
        assert await events_of(node, mine) == ["opened", "loaded", "returned"]
        assert (await node.consensus_status())["connected"] == 1


async def test_a_flag_is_not_taken_away_by_a_load_that_read_before_it(db: Path) -> None:
    """An evaluation may flag an instance between a load's read and its append."""
    async with node_on(db) as node:
        await node.set_plate(plate_of())
        mine = (await node.load_plate())["instance_id"]
        append, flagged_by = node.ctx.store.append, list[Group]()

        async def late(group: Group) -> Any:
            if not flagged_by:
                flagged_by.append(group)
                await node.report_character_vector([0.9] * 16, instance_id=mine)
            return await append(group)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(node.ctx.store, "append", late)
            loaded = await node.load_plate(instance_id=mine)
        seat = await seat_of(node.ctx, mine)
    assert seat.snapshot["state"] == State.DRIFTED
    assert loaded["directive"] is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"history_tokens": -1},
        {"history_tokens": CONTEXT_TOKENS_MAX + 1},
        {"history_tokens": 10**400},
        {"model": "x" * 81},
        {"model": "two\nlines"},
        {"thinking": "\ud800"},
        {"title": "x" * 201},
        {"session_id": "x" * 201},
        {"instance_id": "\x00"},
        {"conversation_id": "x" * 201},
    ],
    ids=str,
)
async def test_what_load_plate_refuses_leaves_no_trace(db: Path, wrong: dict[str, Any]) -> None:
    async with node_on(db) as node:
        before = await head_of(node)
        with pytest.raises(BadInput):
            await node.load_plate(**wrong)
        assert await head_of(node) == before


# ---- the receipt ---------------------------------------------------------------------------------------


async def test_each_delivery_has_its_own_receipt_and_only_the_hash_is_stored(db: Path) -> None:
    async with node_on(db) as node:
        mine = (await node.load_plate())["instance_id"]
        receipts = [(await node.load_plate(instance_id=mine))["receipt"] for _ in range(3)]
        seat = await seat_of(node.ctx, mine)
    assert len(set(receipts)) == 3
    assert seat.snapshot["nonce_hash"] == sha256(receipts[-1].encode()).hexdigest()
    stored = b"".join([await anyio.Path(path).read_bytes() for path in db.parent.iterdir()])
    assert mine.encode() in stored
    for receipt in receipts:
        assert receipt.encode() not in stored


# ---- history -------------------------------------------------------------------------------------------


async def test_the_history_is_this_conversations_else_the_last_one_of_the_scope(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock) as node:
        empty = await node.load_plate()
        assert (empty["turns"], RECORD_EMPTY in empty["text"]) == (0, True)
        old = await node.record_message("user", "the old story", session_id="old")
        clock.pass_s(60)
        new = await node.load_plate(session_id="new")
        assert "the old story" in new["text"]
        assert new["conversation_id"] != old["conversation_id"]
        await node.record_message("user", "the new story", session_id="new")
        again = await node.load_plate(session_id="new")
        assert "the new story" in again["text"]
        assert "the old story" not in again["text"]
        back = await node.load_plate(session_id="third", conversation_id=old["conversation_id"])
        assert "the old story" in back["text"]


async def test_history_left_out_is_reached_by_the_calls_that_the_context_names(db: Path) -> None:
    async with node_on(db) as node:
        for at in range(250):
            await node.record_message("user", f"turn {at} " + "word " * 40, session_id="s")
        loaded = await node.load_plate(session_id="s", history_tokens=2_000)
        assert 0 < loaded["turns"] < 100
        seen = set(re.findall(r"turn (\d+) ", loaded["text"]))
        calls = calls_in(loaded["text"].replace("get_history()", ""))
        assert calls
        for _ in range(50):
            if not calls:
                break
            page = await node.get_history(**calls.pop(0))
            seen |= {str(message["text"]).split()[1] for message in page["messages"]}
            calls = [call for call in calls_in(page["left_out"]) if "after" not in call]
    assert seen == {str(at) for at in range(250)}


async def test_without_a_budget_there_is_no_history_but_the_way_to_it(db: Path) -> None:
    async with node_on(db) as node:
        await node.record_message("user", "the old story", session_id="s")
        await node.record_message("assistant", "its answer", session_id="s")
        loaded = await node.load_plate(session_id="s", history_tokens=0)
        assert loaded["turns"] == 0
        assert "the old story" not in loaded["text"]
        assert RECORD_EMPTY not in loaded["text"], "there are records, so it must not say that there are none"
        (call,) = calls_in(loaded["text"].replace("get_history()", ""))
        assert call["before"] == JSON_INT_MAX
        assert (await node.get_history(**call))["total"] == 2


async def test_what_has_happened_since_is_said_once(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock) as node:
        mine = await node.load_plate()
        other = await node.record_message("user", "elsewhere", session_id="other")
        clock.pass_s(60)
        since = await node.load_plate(instance_id=mine["instance_id"])
        tail = since["text"].split(SESSION_MARK)[1]
        assert f"new messages in 1 conversation(s), ids: {other['conversation_id']}" in tail
        quiet = await node.load_plate(instance_id=mine["instance_id"])
        assert "Since you were last here" not in quiet["text"]


async def test_another_scope_never_shows(db: Path) -> None:
    async with node_on(db, scope="one") as one:
        two = scoped(one, "two")
        secret = await two.record_message("user", "a secret of two", session_id="s2")
        await two.load_plate(session_id="s2", title="Secret title")
        mine = await one.load_plate()
        for _ in range(2):
            await two.record_message("user", "more of the secret", session_id="s2")
            loaded = await one.load_plate(instance_id=mine["instance_id"])
            assert "secret" not in loaded["text"].lower()
            assert secret["conversation_id"] not in loaded["text"]
        listed = await one.get_history()
        assert {item["scope"] for item in listed["conversations"]} == {"one"}
        assert (await one.get_history(query="secret"))["hits"] == []


async def test_a_hook_of_another_conversation_does_not_silence_this_one(db: Path) -> None:
    async with node_on(db) as node:
        hook = node.as_caller(Caller(source="hook"))
        await hook.record_message("user", "recorded by a hook", session_id="hooked")
        plain = await node.load_plate()
        assert "recorded by a hook" in plain["text"]
        assert RECORDING[Recorder.INSTANCE] in plain["text"]
        assert RECORDING[Recorder.HOOK] in (await node.load_plate(session_id="hooked"))["text"]
        await hook.open_conversation(session_id="just-opened")
        opened = await node.load_plate(session_id="just-opened", history_tokens=0)
        assert RECORDING[Recorder.HOOK] in opened["text"]


# ---- the Plate in it -----------------------------------------------------------------------------------


async def test_the_stable_part_is_the_same_at_every_load(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock) as node:
        await node.set_plate(plate_of())
        first = await node.load_plate(session_id="a")
        clock.pass_s(86_400)
        await node.record_message("user", "a day later", session_id="b")
        second = await node.load_plate(session_id="c", model="another", title="Another")
    stable = first["text"].split("\n\nNo records of earlier")[0].encode()
    assert len(stable) > 200
    assert second["text"].encode().startswith(stable)


async def test_a_changed_plate_is_announced_at_the_next_load_and_only_there(db: Path) -> None:
    async with node_on(db) as node:
        await node.set_plate(plate_of(version="1"))
        mine = (await node.load_plate())["instance_id"]
        await node.set_plate(plate_of(version="2", body="Work with even more care."))
        told = await node.load_plate(instance_id=mine)
        assert "version 1 before, 2 now" in told["text"]
        assert "even more care" in told["text"]
        assert told["plate"].startswith("Test 2 (")
        for quiet in (await node.load_plate(instance_id=mine), await node.load_plate()):
            assert "has replaced the Plate" not in quiet["text"]


async def test_numbers_are_not_in_the_context_and_state_only_after_a_report(db: Path) -> None:
    baseline = (0.137,) * 16
    async with node_on(db) as node:
        await node.set_plate(plate_of(baseline))
        mine = (await node.load_plate(session_id="a"))["instance_id"]
        silent = (await node.load_plate(session_id="b"))["instance_id"]
        await node.report_character_vector([0.141] * 16, instance_id=mine)
        texts = [
            (await node.load_plate(instance_id=silent))["text"],
            (await node.load_plate(instance_id=mine))["text"],
            (await node.load_plate(instance_id=mine))["text"],
        ]
        status = await node.consensus_status(instance_id=mine)
    for text in texts:
        assert not re.search(r"0?\.1[34]", text)
    assert ["Warmth:" in text for text in texts] == [False, True, False]
    assert status["consensus"] == {}, "it has loaded since it reported"
