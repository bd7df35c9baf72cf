"""The six questions asked of a model that this program calls itself, with the Plate and without: does it matter?

The answers with it are an instance's run, scored and recorded like any other. Those without are a control: scored
against the same facts, recorded beside it, and no instance's. What the two show is that the delivered text makes the
difference, and nothing about character.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ccn_mcp.domain.errors import BadJson
from ccn_mcp.domain.jcs import Json, decode
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Body, Draft, Group
from ccn_mcp.domain.prompt import Recorder
from ccn_mcp.domain.recall import State, can_be_validated
from ccn_mcp.domain.talk import Asked, Turn, text_block
from ccn_mcp.node.calling import call
from ccn_mcp.node.context import Caller, Context
from ccn_mcp.node.continuity import Loading, load
from ccn_mcp.node.instances import end_instances, seat_of
from ccn_mcp.node.plates import current_plate
from ccn_mcp.node.results import PlateRecall, RecallQuestion
from ccn_mcp.node.validation import opened_run, scored_against, shown, validate_character
from ccn_mcp.ports import LanguageModel

TOKENS_MAX: Final = 4_000
RUNS_MAX: Final = 10
TITLE: Final = "Six questions"
HOW: Final = (
    "answer each of these questions in one or two full sentences, from what you were given and nothing else, within "
    "the given number of characters; where you were given nothing about it, say that you do not know:"
)
NO_FACTS: Final = (
    "The Plate in force has recall facts for fewer than five of the six questions, so answers would show nothing. "
    "Write some under `facts:` (docs/plate.md has an example), put it in force with ccn-mcp plate set FILE, then ask "
    "again."
)
VERDICTS: Final = {
    True: "With the Plate the answers fit it, without it they do not: the delivered text makes the difference.",
    False: "The Plate makes no difference that these answers show.",
}


class Arm(NamedTuple):
    """The answers of one arm; `problem` says why there are none."""

    answers: list[str]
    recall: PlateRecall | None
    state: str
    problem: str = ""


class Comparison(NamedTuple):
    """One run with the Plate and one without. Both None: the Plate has too few facts to ask about."""

    questions: list[RecallQuestion]
    with_plate: Arm | None
    without: Arm | None
    note: str

    @property
    def makes_a_difference(self) -> bool | None:
        """Whether it passed with the Plate and not without; None if that cannot be told."""
        if self.with_plate is None or self.without is None:
            return None
        if self.with_plate.recall is None or self.without.recall is None:
            return None
        return self.with_plate.state == State.VALIDATED and self.without.state != State.VALIDATED


async def compare(
    ctx: Context,
    caller: Caller,
    port: LanguageModel,
    model: str,
    *,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Ask the model the six questions with the Plate and without it; both are in the ledger, with what they cost.

    Raises:
        Refused: measuring is switched off. CostCeiling: nothing more was sent. StoreError.
    """
    if not can_be_validated((await current_plate(ctx)).plate.facts):
        return Comparison([], None, None, NO_FACTS)
    loaded = await load(ctx, caller, model=model, title=TITLE, recorder=Recorder.PROGRAM)
    try:
        return await _compared(ctx, caller, port, model, loaded, on_wait)
    finally:
        await end_instances(ctx, caller, instance_id=loaded.ids.instance_id)


async def _compared(
    ctx: Context,
    caller: Caller,
    port: LanguageModel,
    model: str,
    loaded: Loading,
    on_wait: Callable[[str], None],
) -> Comparison:
    instance = loaded.ids.instance_id
    opened = await validate_character(ctx, caller, instance_id=instance)
    run, questions = opened["run_id"], opened["questions"]
    if run is None:
        return Comparison(questions, None, None, opened["note"])
    parts = loaded.context.parts
    system = tuple(filter(None, (parts.plate, parts.state)))
    told = await _ask(ctx, caller, port, loaded, _asked(model, questions, system, parts.records), on_wait)
    if isinstance(told, Arm):
        return Comparison(questions, told, None, told.problem)
    control = await _ask(ctx, caller, port, loaded, _asked(model, questions), on_wait)
    record = await opened_run(ctx, caller, await seat_of(ctx, instance), run)
    scored = await validate_character(ctx, caller, instance_id=instance, run_id=run, answers=told)
    first = Arm(told, scored["plate_recall"], scored["state"])
    if isinstance(control, Arm):
        return Comparison(questions, first, control, control.problem)
    found = await scored_against(ctx, record, control)
    second = Arm(control, shown(found), found.state.value)
    await _keep_control(ctx, caller, loaded, model, run, second)
    compared = Comparison(questions, first, second, "")
    return compared._replace(note=VERDICTS[bool(compared.makes_a_difference)])


async def _ask(
    ctx: Context,
    caller: Caller,
    port: LanguageModel,
    loaded: Loading,
    asked: Asked,
    on_wait: Callable[[str], None],
) -> list[str] | Arm:
    """The six answers, or why there are none; what it cost is recorded either way."""
    reply, _ = await call(
        ctx,
        caller,
        port,
        asked,
        purpose="validate",
        conversation=loaded.ids.conversation_id,
        instance=loaded.ids.instance_id,
        on_wait=on_wait,
    )
    if not reply.whole:
        return Arm([], None, "unanswered", reply.problem)
    said = texts_in(reply.text)
    names = [str(name) for name in (asked.schema or {})["properties"]]
    if not said.keys() >= {*names}:
        return Arm([], None, "unanswered", "the model's answer is not the JSON that was asked for: ask again")
    return [said[name] for name in names]


async def _keep_control(
    ctx: Context, caller: Caller, loaded: Loading, model: str, run: str, arm: Arm
) -> None:
    body: Body = {
        "metric": "recall_control",
        "answers": [*arm.answers],
        "conversation": loaded.ids.conversation_id,
        "model": model,
        "passed": arm.recall["passed"] if arm.recall else 0,
        "principal": caller.principal,
        "run": run,
        "source": caller.source,
        "state": arm.state,
    }
    await ctx.store.append(Group((Draft(Kind.METRIC, ctx.now_us(), body),)))


def _asked(
    model: str, questions: Sequence[RecallQuestion], system: tuple[str, ...] = (), records: str = ""
) -> Asked:
    said = asking(questions)
    blocks = [text_block(text) for text in (records, said[:1].upper() + said[1:]) if text]
    schema = object_of(*(item["name"] for item in questions))
    return Asked(model, (Turn("user", tuple(blocks)),), system, max_tokens=TOKENS_MAX, schema=schema)


# ---- asking in JSON ------------------------------------------------------------------------------------


def asking(questions: Sequence[RecallQuestion]) -> str:
    """The questions in words, each with the name of its field."""
    return "\n".join(
        [HOW, *(f"- {item['name']} ({item['characters_max']}): {item['question']}" for item in questions)]
    )


def object_of(*names: str) -> dict[str, Json]:
    """The JSON Schema of an object of texts."""
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": [*names],
        "additionalProperties": False,
    }


def texts_in(text: str) -> dict[str, str]:
    """The texts of a JSON object; none where it is no such object."""
    try:
        found = decode(text)
    except BadJson:
        return {}
    return (
        {name: said for name, said in found.items() if isinstance(said, str)}
        if isinstance(found, dict)
        else {}
    )
