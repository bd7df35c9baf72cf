"""The six questions asked of a model that is called, with the Plate and without; and the start of an instance."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ccn_mcp import data
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Body, RecordQuery
from ccn_mcp.domain.plate import parse_plate
from ccn_mcp.domain.prompt import Recorder
from ccn_mcp.domain.talk import Asked, Reply
from ccn_mcp.node.continuity import Loading, load
from ccn_mcp.node.node import Node
from ccn_mcp.node.questioning import compare
from ccn_mcp.node.spawning import start
from tests.claude.scripted import Says, ScriptedModel
from tests.domain.test_recall import true_run
from tests.node.world import node_on

pytestmark = pytest.mark.anyio
MODEL = "claude-sonnet-5-5"
KNOWN = true_run(0)
UNKNOWN = [f"I was given nothing about that, number {at}." for at in range(6)]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with node_on(tmp_path / "ccn.db") as made:
        await made.set_plate(parse_plate(data.read("example_plate.md")))
        yield made


class Reader(ScriptedModel):
    """Answers from the Plate if it was given one, as a model does; `says` may change what it says."""

    def __init__(
        self, says: Callable[[Asked, dict[str, str]], dict[str, str]] = lambda _, said: said
    ) -> None:
        super().__init__()
        self._says = says

    async def answer(self, asked: Asked, reply: Reply, **told: Callable[[str], None]) -> None:
        assert asked.schema is not None
        names = [name for name in asked.schema["properties"] if name != "receipt"]
        said = dict(zip(names, KNOWN if asked.system else UNKNOWN, strict=False))
        if "receipt" in asked.schema["properties"]:
            found = re.search(r"^receipt: (\S+)$", "\n".join(asked.system), re.MULTILINE)
            said["receipt"] = found[1] if found else ""
        self._left.append(json.dumps(self._says(asked, said)))
        await super().answer(asked, reply, **told)


async def bodies(node: Node, kind: Kind) -> list[Body]:
    records = await node.ctx.store.records(RecordQuery(kinds=(kind,), oldest_first=True, limit=100))
    return [record.body for record in records if record.body is not None]


async def test_the_plate_makes_the_difference(node: Node) -> None:
    found = await compare(node.ctx, node.caller, port := Reader(), MODEL)
    assert found.makes_a_difference is True
    assert found.with_plate is not None
    assert found.without is not None
    assert (found.with_plate.state, found.without.state) == ("validated", "failed")
    assert "=== begin Plate " in port.asked[0].system[0]
    assert port.asked[1].system == ()
    assert len(port.asked[1].turns[0].blocks) == 1, "and no records either"
    answered = (await bodies(node, Kind.VALIDATION))[-1]
    assert (answered["state"], answered["answers"]) == ("validated", KNOWN)
    (control,) = await bodies(node, Kind.METRIC)
    assert (control["answers"], control["passed"]) == (UNKNOWN, 0)
    assert [body["purpose"] for body in await bodies(node, Kind.USAGE)] == ["validate", "validate"]
    assert (await bodies(node, Kind.INSTANCE))[-1]["event"] == "terminated"


async def test_a_model_that_knows_it_anyway_shows_nothing(node: Node) -> None:
    knows = Reader(
        lambda asked, _: dict(zip(asked.schema["properties"], KNOWN, strict=True)) if asked.schema else {}
    )
    found = await compare(node.ctx, node.caller, knows, MODEL)
    assert found.makes_a_difference is False
    assert "no difference" in found.note


@pytest.mark.parametrize(
    "reply", ["not JSON", "{}", '{"identity": 3}', Says(ended="overloaded_error", usage=None)]
)
async def test_without_an_answer_nothing_is_scored(node: Node, reply: str | Says) -> None:
    found = await compare(node.ctx, node.caller, ScriptedModel(reply), MODEL)
    assert found.makes_a_difference is None
    assert found.note
    assert [body["event"] for body in await bodies(node, Kind.VALIDATION)] == ["opened"]
    assert len(await bodies(node, Kind.USAGE)) == 1


async def test_a_plate_without_facts_is_not_asked_about(tmp_path: Path) -> None:
    async with node_on(tmp_path / "plain.db") as plain:
        found = await compare(plain.ctx, plain.caller, port := ScriptedModel(), MODEL)
        assert found.makes_a_difference is None
        assert "plate set FILE" in found.note
        assert port.asked == []
        assert (await plain.ctx.store.info()).store_id is None, "and nothing is recorded"


# ---- the start of an instance --------------------------------------------------------------------------


async def begun(node: Node) -> Loading:
    return await load(node.ctx, node.caller, session_id="s", recorder=Recorder.HOOK)


async def events(node: Node) -> list[object]:
    return [body["event"] for body in await bodies(node, Kind.INSTANCE)]


async def test_an_instance_starts_with_its_receipt_and_its_answers(node: Node) -> None:
    found = await start(node.ctx, node.caller, await begun(node), Reader(), MODEL)
    assert (found.state, found.tries, found.good) == ("validated", 1, True)
    assert await events(node) == ["opened", "loaded", "started"]


async def test_a_second_try_may_do(node: Node) -> None:
    told: list[str] = []
    tries: list[str] = []

    def late(_: Asked, said: dict[str, str]) -> dict[str, str]:
        tries.append("")
        return said if len(tries) == 2 else {**said, "receipt": "r_wrong"}

    found = await start(node.ctx, node.caller, await begun(node), Reader(late), MODEL, on_wait=told.append)
    assert (found.state, found.tries) == ("validated", 2)
    assert await events(node) == ["opened", "loaded", "try_failed", "started"]
    assert len(told) == 1


@pytest.mark.parametrize("wrong", [{"receipt": "r_wrong"}, {"identity": "", "mission": ""}])
async def test_after_three_tries_it_has_failed(node: Node, wrong: dict[str, str]) -> None:
    loaded = await begun(node)
    found = await start(node.ctx, node.caller, loaded, Reader(lambda _, said: {**said, **wrong}), MODEL)
    assert (found.state, found.tries, found.good) == ("failed", 3, False)
    assert await events(node) == ["opened", "loaded", "try_failed", "try_failed", "failed"]
    assert len(await bodies(node, Kind.USAGE)) == 3
    status = await node.consensus_status(for_person=True)
    assert [item["state"] for item in status["instances"]] == ["failed"]


async def test_no_answer_is_no_failed_try(node: Node) -> None:
    model = ScriptedModel(Says(ended="connection", usage=None))
    found = await start(node.ctx, node.caller, await begun(node), model, MODEL)
    assert (found.state, found.good) == ("unanswered", False)
    assert found.note
    assert await events(node) == ["opened", "loaded"]


async def test_a_session_is_bound_to_the_conversation_that_it_was_given(node: Node) -> None:
    first = await node.record_message("user", "The light is green.", session_id="before")
    given = first["conversation_id"]
    loaded = await load(node.ctx, node.caller, conversation_id=given, session_id="s", recorder=Recorder.HOOK)
    assert loaded.ids.conversation_id == given
    assert "> The light is green." in loaded.context.text
    again = await node.record_message("user", "Which?", session_id="s")
    assert again["conversation_id"] == given
    assert (await node.load_plate(session_id="s"))["instance_id"] == loaded.ids.instance_id
    assert (await node.verify_chain())["ok"]
