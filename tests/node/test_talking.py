"""A conversation carried by this program: what a model is sent, what is recorded, and what falls out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from ccn_mcp import open_node
from ccn_mcp.domain.copies import Selection
from ccn_mcp.domain.errors import CostCeiling, NotFound
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import ERASURES_PER_BATCH_MAX, PAGE_MESSAGES_MAX
from ccn_mcp.domain.models import Body, RecordQuery
from ccn_mcp.domain.talk import Asked, text_of
from ccn_mcp.node import redaction
from ccn_mcp.node.node import Node
from ccn_mcp.node.summaries import newest_summary, record_summary
from ccn_mcp.node.talking import Talk
from ccn_mcp.ports import LanguageModel
from ccn_mcp.settings import Settings
from tests.claude.scripted import Says, ScriptedModel

pytestmark = pytest.mark.anyio

MODEL = "claude-sonnet-5-5"
WAIT_S = 30.0
SECRET = "ghp_" + "a1B2" * 9


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with open_node(tmp_path / "ccn.db", config_dir=tmp_path / "config") as opened:
        yield opened


async def talk_on(
    node: Node, port: LanguageModel, conversation: str | None = None, budget: int = 4_000
) -> Talk:
    talk = Talk(node.ctx, node.caller, port, MODEL, budget=budget)
    await talk.open(conversation)
    return talk


async def bodies(node: Node, kind: Kind) -> list[Body]:
    records = await node.ctx.store.records(RecordQuery(kinds=(kind,), oldest_first=True, limit=100))
    return [record.body for record in records if record.body is not None]


def written(folder: Path) -> bytes:
    """All bytes of all files."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def turns(asked: Asked) -> list[tuple[str, str]]:
    return [(turn.role, text_of(turn.blocks)) for turn in asked.turns]


async def test_both_sides_and_the_usage_are_recorded(node: Node) -> None:
    heard: list[str] = []
    talk = await talk_on(node, port := ScriptedModel(Says(("Good ", "evening."))))
    done = await talk.say("Hello", on_text=heard.append)
    assert heard == ["Good ", "evening."]
    said = await bodies(node, Kind.MESSAGE)
    assert [(body["role"], body["text"]) for body in said] == [
        ("user", "Hello"),
        ("assistant", "Good evening."),
    ]
    assert said[1]["answers"] == done.asked_seq
    assert said[1]["model"] == MODEL
    assert {body["instance"] for body in said} == {talk.instance_id}
    (usage,) = await bodies(node, Kind.USAGE)
    assert (usage["purpose"], usage["stop"], usage["complete"]) == ("chat", "end_turn", True)
    assert usage["conversation"] == talk.conversation_id
    assert port.asked[0].system[0].startswith("This context was put together by ccn_mcp")
    assert "UTC" in port.asked[0].note
    assert "UTC" not in "".join(port.asked[0].system), "no time in the part that is cached"
    assert (await node.verify_chain())["clock_regressions"] == 0


async def test_the_front_of_the_request_stays_the_same(node: Node) -> None:
    talk = await talk_on(node, port := ScriptedModel(*(f"answer {n}" for n in range(4))))
    for n in range(4):
        await talk.say(f"question {n}")
    assert len({asked.system for asked in port.asked}) == 1
    for before, after in zip(port.asked, port.asked[1:], strict=False):
        assert after.turns[: len(before.turns)] == before.turns


async def test_blocks_come_back_as_they_were(node: Node) -> None:
    thinking = {
        "type": "thinking",
        "thinking": "",
        "signature": "abc+/=",
        "new": [1, 2.5, None, "🦜"],
    }
    blocks = (thinking, {"type": "text", "text": "Yes.", "citations": None})
    first = await talk_on(node, ScriptedModel(Says(("Yes.",), blocks=blocks)))
    await first.say("Is it?")
    later = await talk_on(node, port := ScriptedModel("Still."), first.conversation_id)
    await later.say("And now?")
    assert port.asked[0].turns[1].blocks == blocks
    assert port.asked[0].turns[1].model == MODEL


async def test_what_is_interrupted_is_kept_and_marked(node: Node) -> None:
    says = Says(("The tide ", "comes in"), hold_after=1)
    talk = await talk_on(node, port := ScriptedModel(says, "As I said."))
    asking = asyncio.create_task(talk.say("Tell me"))
    async with asyncio.timeout(WAIT_S):
        await says.held.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    said = await bodies(node, Kind.MESSAGE)
    assert (said[1]["text"], said[1]["ended"]) == ("The tide ", "cancelled")
    (usage,) = await bodies(node, Kind.USAGE)
    assert (usage["stop"], usage["complete"]) == ("cancelled", False)
    await talk.say("Go on")
    later = await talk_on(node, again := ScriptedModel("Yes."), talk.conversation_id)
    await later.say("And?")
    for asked in (port.asked[1], again.asked[0]):
        assert turns(asked)[1] == ("assistant", "The tide (this reply was interrupted here)")
    assert (await node.verify_chain())["ok"]


async def test_a_reply_that_never_came_leaves_what_was_said(node: Node) -> None:
    talk = await talk_on(node, port := ScriptedModel(Says(ended="overloaded_error", usage=None), "Here."))
    done = await talk.say("Hello?")
    assert done.seq is None
    assert done.reply.problem
    assert (await bodies(node, Kind.USAGE))[0]["stop"] == "overloaded_error"
    await talk.say("Are you there?")
    assert turns(port.asked[1]) == [("user", "Hello?"), ("user", "Are you there?")]
    assert [body["role"] for body in await bodies(node, Kind.MESSAGE)] == ["user", "user", "assistant"]


async def test_an_answer_that_was_asked_again_takes_the_place_of_the_first(node: Node) -> None:
    talk = await talk_on(node, port := ScriptedModel("first", "second", "third", "fourth"))
    first = await talk.say("Which?")
    await talk.again()
    await talk.again()
    later = await talk_on(node, again := ScriptedModel("Yes."), talk.conversation_id)
    await later.say("And?")
    assert turns(again.asked[0]) == [("user", "Which?"), ("assistant", "third"), ("user", "And?")]
    assert all(turns(asked) == [("user", "Which?")] for asked in port.asked)
    said = await bodies(node, Kind.MESSAGE)
    assert [body["text"] for body in said[:4]] == ["Which?", "first", "second", "third"]
    assert said[2]["instead_of"] == first.seq


async def test_nothing_can_be_asked_again_before_it_was_said(node: Node) -> None:
    with pytest.raises(NotFound, match="nothing was said yet"):
        await (await talk_on(node, ScriptedModel())).again()


async def test_a_secret_goes_to_the_model_and_not_into_the_record(node: Node, tmp_path: Path) -> None:
    blocks = (
        {"type": "thinking", "thinking": SECRET, "signature": "s"},
        {"type": "text", "text": f"It is {SECRET}."},
    )
    talk = await talk_on(node, port := ScriptedModel(Says((f"It is {SECRET}.",), blocks=blocks)))
    await talk.say(f"Keep {SECRET}")
    assert SECRET in turns(port.asked[0])[0][1]
    said = await bodies(node, Kind.MESSAGE)
    assert all(body["masked"] == {"github": 1} for body in said)
    assert SECRET.encode() not in written(tmp_path)


async def test_another_model_goes_on_without_the_first_ones_thoughts(node: Node) -> None:
    from ccn_mcp.domain.talk import replayed

    blocks = ({"type": "thinking", "thinking": "", "signature": "s"}, {"type": "text", "text": "One."})
    talk = await talk_on(node, port := ScriptedModel(Says(("One.",), blocks=blocks), "Two."))
    await talk.say("First")
    await talk.use("claude-opus-5-5")
    await talk.say("Second")
    asked = port.asked[1]
    assert asked.model == "claude-opus-5-5"
    assert replayed(asked.turns, asked.model)[1].blocks == blocks[1:]
    assert replayed(asked.turns, MODEL)[1].blocks == blocks


async def test_a_ceiling_stops_before_the_call(tmp_path: Path) -> None:
    chosen = Settings(db=tmp_path / "ccn.db", config_dir=tmp_path / "config", cost_conversation_pico=10)
    async with open_node(settings=chosen) as node:
        talk = await talk_on(node, port := ScriptedModel("never"))
        with pytest.raises(CostCeiling):
            await talk.say("Hello")
        assert port.asked == []
        assert await bodies(node, Kind.USAGE) == []


# ---- what falls out ------------------------------------------------------------------------------------


LONG = "The keeper counts the herons again. " * 30


async def long_talk(node: Node, summaries: Sequence[str | Says]) -> tuple[Talk, ScriptedModel]:
    """Four exchanges, of which the budget holds two or three; each overflow takes the next summary."""
    answers: list[str | Says | Exception] = [Says((f"answer {n}. {LONG}",), usage=None) for n in range(3)]
    port = ScriptedModel(*answers, *summaries, Says(("answer 3.",), usage=None))
    talk = await talk_on(node, port, budget=2_000)
    for n in range(4):
        await talk.say(f"question {n}. {LONG}")
    return talk, port


async def test_what_no_longer_fits_is_summarised_and_stays_in_the_record(node: Node) -> None:
    told: list[str] = []
    talk, port = await long_talk(node, ["They counted 17 herons."])
    asked = port.asked[3]
    assert "quoted material" in asked.system[0]
    assert "> question 0." in turns(asked)[0][1]
    last = turns(port.asked[4])
    assert last[0][0] == "user"
    assert "> They counted 17 herons." in last[0][1]
    assert "question 0" not in "".join(text for _, text in last)
    assert last[-1][1].startswith("question 3.")
    assert [body["purpose"] for body in await bodies(node, Kind.USAGE)].count("summary") == 1
    assert len(await bodies(node, Kind.MESSAGE)) == 8
    later = await talk_on(node, again := ScriptedModel("Yes."), talk.conversation_id)
    await later.say("And?", on_wait=told.append)
    assert "> They counted 17 herons." in turns(again.asked[0])[0][1], "a stored summary is used again"
    assert "question 0" not in "".join(text for _, text in turns(again.asked[0]))
    assert told == []


async def test_without_a_summary_the_talk_goes_on(node: Node) -> None:
    _, port = await long_talk(node, [Says(ended="overloaded_error", usage=None)])
    assert turns(port.asked[4])[-1][1].startswith("question 3.")
    assert "question 0" not in "".join(text for _, text in turns(port.asked[4]))
    assert await bodies(node, Kind.METRIC) == []


@pytest.mark.parametrize("how", ["one", "chosen", "whole"])
async def test_a_summary_goes_with_what_it_was_made_of(node: Node, tmp_path: Path, how: str) -> None:
    talk, _ = await long_talk(node, ["They counted 17 herons."])
    ctx, conversation = node.ctx, talk.conversation_id
    assert await newest_summary(ctx, conversation) is not None
    first = (await node.get_history(conversation_id=conversation, order="oldest", limit=1))["messages"][0][
        "seq"
    ]
    if how == "one":
        await node.redact_message(first)
    else:
        chosen = Selection(seqs=(first,)) if how == "chosen" else Selection(conversation_id=conversation)
        await redaction.erase(ctx, node.caller, await redaction.plan(ctx, chosen))
    assert await newest_summary(ctx, conversation) is None
    assert b"17 herons" not in written(tmp_path)
    assert (await node.verify_chain())["ok"]


async def test_a_summary_stays_where_something_else_is_erased(node: Node) -> None:
    talk, _ = await long_talk(node, ["They counted 17 herons."])
    last = (await node.get_history(conversation_id=talk.conversation_id, limit=1))["messages"][0]["seq"]
    await node.redact_message(last)
    assert await newest_summary(node.ctx, talk.conversation_id) is not None


async def test_an_interrupted_summary_loses_no_turns(node: Node) -> None:
    held = Says(("They ", "counted"), hold_after=1)
    answers: list[str | Says | Exception] = [Says((f"answer {n}. {LONG}",), usage=None) for n in range(3)]
    port = ScriptedModel(*answers, held, "They counted 17 herons.", "Here I am.")
    talk = await talk_on(node, port, budget=2_000)
    for n in range(3):
        await talk.say(f"question {n}. {LONG}")
    asking = asyncio.create_task(talk.say(f"question 3. {LONG}"))
    async with asyncio.timeout(WAIT_S):
        await held.held.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert await bodies(node, Kind.METRIC) == []
    await talk.say("And now?")
    assert "> question 0." in turns(port.asked[4])[0][1], "the next summary is of all of it"
    assert "> They counted 17 herons." in turns(port.asked[5])[0][1]
    assert turns(port.asked[5])[-1] == ("user", "And now?")


async def test_a_failed_summary_is_made_up_for_by_the_next_one(node: Node) -> None:
    talk, port = await long_talk(node, [Says(ended="overloaded_error", usage=None)])
    assert "left out" in turns(port.asked[4])[0][1], "the model is told"
    port.add(*(Says((f"answer {n}. {LONG}",), usage=None) for n in (4, 5)), "They counted 17 herons.", "Yes.")
    for n in range(4, 7):
        await talk.say(f"question {n}. {LONG}")
    (summary,) = await bodies(node, Kind.METRIC)
    first = (await node.get_history(conversation_id=talk.conversation_id, order="oldest", limit=1))[
        "messages"
    ][0]
    assert summary["since"] == first["seq"]
    assert "left out" not in turns(port.asked[-1])[0][1]


async def test_what_is_too_far_back_is_said_to_be_left_out(node: Node) -> None:
    conversation = await node.open_conversation()
    for n in range(PAGE_MESSAGES_MAX + 6):
        await node.record_message(("user", "assistant")[n % 2], f"m{n}", conversation_id=conversation)
    talk = await talk_on(node, port := ScriptedModel("Yes."), conversation)
    await talk.say("And?")
    assert turns(port.asked[0])[0] == ("user", "6 earlier turn(s) left out.")
    assert turns(port.asked[0])[1] == ("user", "m6")


async def test_what_is_erased_while_a_summary_is_made_is_in_none(node: Node) -> None:
    held = Says(("They counted ", "17 herons."), hold_after=1)
    answers: list[str | Says | Exception] = [Says((f"answer {n}. {LONG}",), usage=None) for n in range(3)]
    port = ScriptedModel(*answers, held, "Here I am.")
    talk = await talk_on(node, port, budget=2_000)
    for n in range(3):
        await talk.say(f"question {n}. {LONG}")
    asking = asyncio.create_task(talk.say(f"question 3. {LONG}"))
    async with asyncio.timeout(WAIT_S):
        await held.held.wait()
        first = (await node.get_history(conversation_id=talk.conversation_id, order="oldest", limit=1))[
            "messages"
        ][0]
        await node.redact_message(first["seq"])
        held.let_go.set()
        await asking
    assert await bodies(node, Kind.METRIC) == []


async def test_what_was_erased_is_not_sent_any_more(node: Node) -> None:
    talk = await talk_on(node, port := ScriptedModel("Noted.", "Yes."))
    done = await talk.say("Remember the herons.")
    await node.redact_message(done.asked_seq)
    await talk.say("And now?")
    assert "herons" not in "".join(text for _, text in turns(port.asked[1]))


async def test_every_summary_of_an_erased_message_goes(node: Node, tmp_path: Path) -> None:
    said = await node.record_message("user", "There are herons.")
    conversation, seq = said["conversation_id"], said["seq"]
    size = (await node.ctx.store.info()).head.size
    for n in range(ERASURES_PER_BATCH_MAX + 5):
        kept = await record_summary(
            node.ctx, conversation, f"17 herons, {n}", since=seq, to=seq, model=MODEL, size=size
        )
        assert kept is not None
    await node.redact_message(seq)
    assert await newest_summary(node.ctx, conversation) is None
    assert b"17 herons" not in written(tmp_path)


async def test_two_chats_that_summarise_at_once_keep_one(node: Node) -> None:
    said = await node.record_message("user", "There are herons.")
    conversation, seq = said["conversation_id"], said["seq"]
    size = (await node.ctx.store.info()).head.size
    kept = await asyncio.gather(
        *(
            record_summary(node.ctx, conversation, f"summary {n}", since=seq, to=seq, model=MODEL, size=size)
            for n in range(4)
        )
    )
    assert {one.text for one in kept if one is not None} <= {f"summary {n}" for n in range(4)}
    assert all(kept)
    assert (await node.verify_chain())["ok"]


async def test_a_failed_retry_leaves_the_answer(node: Node) -> None:
    talk = await talk_on(
        node, port := ScriptedModel("first", Says(ended="overloaded_error", usage=None), "second", "Yes.")
    )
    await talk.say("Which?")
    await talk.again()
    await talk.again()
    await talk.say("And?")
    assert turns(port.asked[3]) == [("user", "Which?"), ("assistant", "second"), ("user", "And?")]


async def test_a_second_cancel_leaves_the_reply_to_be_settled(node: Node) -> None:
    says = Says(("The tide ", "comes in"), hold_after=1)
    talk = await talk_on(node, ScriptedModel(says))
    asking = asyncio.create_task(talk.say("Tell me"))
    async with asyncio.timeout(WAIT_S):
        await says.held.wait()
        asking.cancel()
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await talk.settle()
    assert [body["text"] for body in await bodies(node, Kind.MESSAGE)] == ["Tell me", "The tide "]
