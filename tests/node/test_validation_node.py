"""`validate_character` over a real store: handed out, answered once, kept word for word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from ccn_mcp import data
from ccn_mcp.domain.errors import BadInput, Conflict, NotFound, Refused, TooLarge, UnknownInstance
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import RecordQuery
from ccn_mcp.domain.plate import QUESTIONS, parse_plate
from ccn_mcp.node.context import Caller
from ccn_mcp.node.node import Node
from ccn_mcp.node.recollection import has
from tests.domain.test_recall import true_run
from tests.node.world import FakeClock, head_of, node_on, plate_of

pytestmark = pytest.mark.anyio
ANSWERS: Final = true_run(0)
LEASE_S: Final = 12 * 3600


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def node(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Node]:
    async with node_on(tmp_path / "ccn.db", clock=clock) as made:
        await made.set_plate(parse_plate(data.read("example_plate.md")))
        yield made


async def opened(node: Node) -> tuple[str, str]:
    mine = (await node.load_plate())["instance_id"]
    run = (await node.validate_character(instance_id=mine))["run_id"]
    assert run is not None
    return mine, run


async def test_a_run_is_handed_out_answered_and_kept(node: Node) -> None:
    mine = (await node.load_plate())["instance_id"]
    handed = await node.validate_character(instance_id=mine)
    assert handed["state"] == "open"
    assert handed["plate_recall"] is None
    assert [item["characters_max"] for item in handed["questions"]] == [200, 200, 300, 300, 150, 200]
    scored = await node.validate_character(instance_id=mine, run_id=handed["run_id"], answers=ANSWERS)
    assert scored["state"] == "validated"
    assert scored["plate_recall"] is not None
    assert scored["plate_recall"]["passed"] == 6
    assert scored["plate_recall"]["score"] == 1.0
    (kept,) = await node.ctx.store.records(RecordQuery(kinds=(Kind.VALIDATION,), subject=mine, limit=1))
    assert kept.body is not None
    assert kept.body["answers"] == ANSWERS
    assert (kept.body["run"], kept.body["state"]) == (handed["run_id"], "validated")
    assert (await node.verify_chain())["ok"]


async def test_wrong_answers_fail_and_are_kept_too(node: Node) -> None:
    mine, run = await opened(node)
    wrong = [f"I am not sure about {number}." for number in range(6)]
    scored = await node.validate_character(instance_id=mine, run_id=run, answers=wrong)
    assert scored["state"] == "failed"
    (kept,) = await node.ctx.store.records(RecordQuery(kinds=(Kind.VALIDATION,), subject=mine, limit=1))
    assert kept.body is not None
    assert kept.body["answers"] == wrong


@pytest.mark.parametrize("again", [ANSWERS, ANSWERS[::-1]])
async def test_a_run_is_used_once(node: Node, again: list[str]) -> None:
    mine, run = await opened(node)
    await node.validate_character(instance_id=mine, run_id=run, answers=ANSWERS)
    before = await head_of(node)
    with pytest.raises(Conflict):
        await node.validate_character(instance_id=mine, run_id=run, answers=again)
    assert await head_of(node) == before


async def test_two_processes_that_answer_at_once_use_it_once(
    node: Node, tmp_path: Path, clock: FakeClock
) -> None:
    mine, run = await opened(node)
    async with node_on(tmp_path / "ccn.db", clock=clock, seed="other") as other:
        done = await asyncio.gather(
            *(
                caller.validate_character(instance_id=mine, run_id=run, answers=ANSWERS)
                for caller in (node, other, node, other)
            ),
            return_exceptions=True,
        )
    assert sum(isinstance(item, Conflict) for item in done) == 3, done
    found = await node.ctx.store.records(RecordQuery(kinds=(Kind.VALIDATION,), subject=mine, limit=9))
    assert len(found) == 2


async def test_a_run_belongs_to_its_instance_and_principal(node: Node) -> None:
    mine, run = await opened(node)
    other = (await node.load_plate())["instance_id"]
    assert other != mine
    with pytest.raises(NotFound):
        await node.validate_character(instance_id=other, run_id=run, answers=ANSWERS)
    with pytest.raises(NotFound):
        await node.validate_character(instance_id=mine, run_id="v_unknown", answers=ANSWERS)
    stranger = node.as_caller(Caller(principal="somebody"))
    with pytest.raises(UnknownInstance):
        await stranger.validate_character(instance_id=mine, run_id=run, answers=ANSWERS)


async def test_a_run_expires_with_the_lease(node: Node, clock: FakeClock) -> None:
    mine, run = await opened(node)
    late, other = await opened(node)
    clock.pass_s(LEASE_S)
    scored = await node.validate_character(instance_id=mine, run_id=run, answers=ANSWERS)
    assert scored["state"] == "validated"
    clock.pass_s(1)
    with pytest.raises(NotFound, match="expired"):
        await node.validate_character(instance_id=late, run_id=other, answers=ANSWERS)


async def test_a_run_outlasts_the_process(node: Node, tmp_path: Path, clock: FakeClock) -> None:
    mine, run = await opened(node)
    async with node_on(tmp_path / "ccn.db", clock=clock, seed="next") as after:
        scored = await after.validate_character(instance_id=mine, run_id=run, answers=ANSWERS)
    assert scored["state"] == "validated"


async def test_the_plate_that_was_delivered_counts_and_not_a_later_one(node: Node) -> None:
    mine, run = await opened(node)
    await node.set_plate(plate_of(version="9"))
    scored = await node.validate_character(instance_id=mine, run_id=run, answers=ANSWERS)
    assert scored["state"] == "validated"
    assert (await node.validate_character(instance_id=mine))["state"] == "open"
    await node.load_plate(instance_id=mine)
    assert (await node.validate_character(instance_id=mine))["state"] == "not_validated"


async def test_a_plate_without_facts_is_neither_passed_nor_failed(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db") as node:
        mine = (await node.load_plate())["instance_id"]
        before = await head_of(node)
        found = await node.validate_character(instance_id=mine)
        assert (found["state"], found["run_id"], found["questions"]) == ("not_validated", None, [])
        assert await head_of(node) == before


@pytest.mark.parametrize(
    "answers", [[], ANSWERS[:5], [*ANSWERS, "x"], "text", {"identity": "x"}, [1] * 6, [None] * 6]
)
async def test_answers_that_are_not_six_texts_leave_the_run_open(node: Node, answers: object) -> None:
    mine, run = await opened(node)
    with pytest.raises(BadInput):
        await node.validate_character(instance_id=mine, run_id=run, answers=answers)
    with pytest.raises(BadInput):
        await node.validate_character(instance_id=mine, run_id=run, answers=["a\x00b"] * 6)
    with pytest.raises(TooLarge):
        await node.validate_character(instance_id=mine, run_id=run, answers=["x" * 2_001] * 6)
    scored = await node.validate_character(instance_id=mine, run_id=run, answers=ANSWERS)
    assert scored["state"] == "validated"


async def test_halves_of_a_call_and_measurement_off_are_refused(node: Node, tmp_path: Path) -> None:
    mine, run = await opened(node)
    with pytest.raises(BadInput):
        await node.validate_character(instance_id=mine, run_id=run)
    with pytest.raises(BadInput):
        await node.validate_character(instance_id=mine, answers=ANSWERS)
    with pytest.raises(BadInput, match="load_plate"):
        await node.validate_character()
    async with node_on(tmp_path / "ccn.db", character="off") as off:
        with pytest.raises(Refused):
            await off.validate_character(instance_id=mine)


# ---- what is on record ---------------------------------------------------------------------------------

SAID: Final = ("The ferry to Skarholm was late again.", "Noted: the Skarholm ferry is late, 73 minutes.")
NAMING: Final = "I look it up: what was said about the late ferry to Skarholm, for instance."


async def with_record(node: Node) -> tuple[str, str, list[str]]:
    """An instance with something on record before it, its run, and the questions as it was asked."""
    talk = (await node.load_plate())["conversation_id"]
    for role, text in zip(("user", "assistant"), SAID, strict=True):
        await node.record_message(role, text, conversation_id=talk)
    mine = (await node.load_plate())["instance_id"]
    handed = await node.validate_character(instance_id=mine)
    assert handed["run_id"] is not None
    return mine, handed["run_id"], [item["question"] for item in handed["questions"]]


async def answered(node: Node, mine: str, run: str, **changed: str) -> dict[str, str]:
    """The outcomes of a run whose answers are right but for the changed ones."""
    answers = [changed.get(name, text) for name, text in zip(QUESTIONS, ANSWERS, strict=True)]
    scored = await node.validate_character(instance_id=mine, run_id=run, answers=answers)
    assert scored["plate_recall"] is not None
    return scored["plate_recall"]["outcomes"]


async def test_where_something_is_on_record_the_answer_names_it(node: Node) -> None:
    mine, run, asked = await with_record(node)
    assert "was said" in asked[5]
    assert not any("was said" in question for question in asked[:5])
    assert (await answered(node, mine, run, continuity=NAMING))["continuity"] == "passed"


@pytest.mark.parametrize(
    "text",
    [
        "I look it up, whatever it is.",
        "I look it up: what was said about the slow train to Oslo, for instance.",
        "I look it up. Nothing was said about the late ferry to Skarholm.",
    ],
)
async def test_an_answer_that_names_nothing_on_record_is_missed(node: Node, text: str) -> None:
    mine, run, _ = await with_record(node)
    assert (await answered(node, mine, run, continuity=text))["continuity"] == "missing"


async def test_the_record_of_another_scope_or_after_the_run_proves_nothing(
    node: Node, tmp_path: Path, clock: FakeClock
) -> None:
    mine, run, _ = await with_record(node)
    stated = "The second series is running with its 48 pots, after 4711 samples."
    async with node_on(tmp_path / "ccn.db", clock=clock, seed="far", scope="elsewhere") as elsewhere:
        await elsewhere.record_message("user", "4711 samples")
    found = await node.validate_character(instance_id=mine)
    assert found["run_id"] is not None
    outcomes = await answered(node, mine, found["run_id"], milestone=stated, continuity=NAMING)
    assert outcomes["milestone"] == "unfounded"
    talk = (await node.get_history())["conversations"][0]["conversation_id"]
    await node.record_message("user", "4711 samples", conversation_id=talk)
    outcomes = await answered(node, mine, run, milestone=stated, continuity=NAMING)
    assert outcomes["milestone"] == "unfounded"
    again = (await node.validate_character(instance_id=mine))["run_id"]
    assert again is not None
    outcomes = await answered(node, mine, again, milestone=stated, continuity=NAMING)
    assert outcomes["milestone"] == "passed"


@pytest.mark.parametrize(
    ("name", "text", "outcome"),
    [
        ("milestone", "The second series has begun with 48 pots, and not with 99.", "passed"),
        ("milestone", "The second series has begun with 48 pots, 73 minutes late.", "passed"),
        ("milestone", "The second series has begun with 48 pots on 3 March 2026 at 15:30.", "passed"),
        (
            "milestone",
            "The second series has begun with 51 pots after the photometer calibration.",
            "unfounded",
        ),
        ("continuity", f'{NAMING} It says "the Skarholm ferry is late".', "passed"),
        ("continuity", f'{NAMING} It says "the Skarholm ferry was early".', "unfounded"),
    ],
)
async def test_numbers_and_quotations_in_memory_answers_stand_in_the_plate_or_the_record(
    node: Node, name: str, text: str, outcome: str
) -> None:
    mine, run, _ = await with_record(node)
    assert (await answered(node, mine, run, **{"continuity": NAMING, name: text}))[name] == outcome


async def test_a_record_that_was_erased_meanwhile_is_not_asked_for(node: Node) -> None:
    mine, run, _ = await with_record(node)
    for message in (await node.get_history(query="ferry"))["hits"]:
        await node.redact_message(message["seq"])
    outcomes = await answered(node, mine, run)
    assert outcomes["continuity"] == "passed"
    assert "was said" not in str((await node.validate_character(instance_id=mine))["questions"])


def test_a_number_is_in_a_text_as_a_whole_only() -> None:
    assert has("It has 48\npots.", "48")
    assert has("It has 48\nPots.", "48 pots.")
    assert not has("148 or 480 or x48", "48")
