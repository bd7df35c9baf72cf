"""A new instance in the person's own Claude Code: its context, and whether that arrived, before it is let go.

It is asked, by the same way as the session that follows, to return the receipt and to answer the recall questions.
That shows that the text was delivered and read; it is no test of character.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ccn_mcp.domain import instances
from ccn_mcp.domain.errors import StoreMoved
from ccn_mcp.domain.instances import Event, Instance, State
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import GUARD_RETRIES_MAX, REINIT_TRIES_MAX
from ccn_mcp.domain.models import Group, Guard
from ccn_mcp.domain.talk import Asked, Turn, text_block
from ccn_mcp.node.calling import call
from ccn_mcp.node.context import Caller, Context
from ccn_mcp.node.continuity import Loading
from ccn_mcp.node.instances import instance_draft, seat_of
from ccn_mcp.node.questioning import asking, object_of, texts_in
from ccn_mcp.node.results import RecallQuestion
from ccn_mcp.node.validation import validate_character
from ccn_mcp.ports import LanguageModel

TOKENS_MAX: Final = 4_000
TASK: Final = (
    "Before the person's first message: show that the context above arrived. Return a JSON object with `receipt`, the "
    "receipt that stands at the end of that context"
)


class Start(NamedTuple):
    """How a start ended: `state` is validated, not_validated (the receipt alone), failed, or unanswered."""

    state: str
    tries: int
    note: str

    @property
    def good(self) -> bool:
        """Whether the session may begin."""
        return self.state in ("validated", "not_validated")


async def start(
    ctx: Context,
    caller: Caller,
    loaded: Loading,
    port: LanguageModel,
    model: str,
    *,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Start:
    """Ask the instance for its receipt and its answers, up to `REINIT_TRIES_MAX` times; each is in the ledger.

    Raises:
        CostCeiling: nothing more was sent. StoreError.
    """
    instance_id = loaded.ids.instance_id
    for tries in range(1, REINIT_TRIES_MAX + 1):
        state, note = await _try(ctx, caller, loaded, port, model)
        if state == "unanswered":
            return Start(state, tries, note)
        if state != "failed":
            await _change(ctx, instance_id, lambda known: (instances.started(known), Event.STARTED))
            return Start(state, tries, note)
        after = await _change(ctx, instance_id, _failed)
        if after.state is State.FAILED:
            break
        on_wait(f"try {tries} of {REINIT_TRIES_MAX} failed: {note}")
    return Start("failed", REINIT_TRIES_MAX, note)


def _failed(instance: Instance) -> tuple[Instance, Event]:
    after = instances.not_started(instance).instance
    return after, Event.FAILED if after.state is State.FAILED else Event.TRY_FAILED


async def _try(
    ctx: Context, caller: Caller, loaded: Loading, port: LanguageModel, model: str
) -> tuple[str, str]:
    run: str | None = None
    questions: list[RecallQuestion] = []
    note = "the receipt came back; measuring is off (CCN_CHARACTER)"
    if ctx.settings.character != "off":
        opened = await validate_character(ctx, caller, instance_id=loaded.ids.instance_id)
        run, questions, note = opened["run_id"], opened["questions"], "the receipt came back"
    asked = _asked(loaded, model, questions)
    reply, _ = await call(
        ctx,
        caller,
        port,
        asked,
        purpose="spawn",
        conversation=loaded.ids.conversation_id,
        instance=loaded.ids.instance_id,
    )
    if not reply.whole:
        return "unanswered", reply.problem
    said = texts_in(reply.text)
    if said.get("receipt", "").strip() != loaded.ids.receipt:
        return "failed", "the receipt did not come back, so the context did not arrive"
    if run is None:
        return "not_validated", note
    answers = [said.get(item["name"], "") for item in questions]
    scored = await validate_character(
        ctx, caller, instance_id=loaded.ids.instance_id, run_id=run, answers=answers
    )
    return scored["state"], scored["note"]


def _asked(loaded: Loading, model: str, questions: Sequence[RecallQuestion]) -> Asked:
    task = f"{TASK}, and {asking(questions)}" if questions else f"{TASK}."
    schema = object_of("receipt", *(item["name"] for item in questions))
    turn = Turn("user", (text_block(task),))
    return Asked(model, (turn,), (loaded.context.text,), max_tokens=TOKENS_MAX, schema=schema)


async def _change(
    ctx: Context, instance_id: str, change: Callable[[Instance], tuple[Instance, Event]]
) -> Instance:
    """Append what became of the instance; another writer's word about it is never lost."""
    for _ in range(GUARD_RETRIES_MAX):
        size = (await ctx.store.info()).head.size
        after, event = change(Instance.from_body((await seat_of(ctx, instance_id)).snapshot))
        try:
            draft = instance_draft(after, event, ctx.now_us())
            await ctx.store.append(Group((draft,), guard=Guard((Kind.INSTANCE,), size)))
        except StoreMoved:
            continue
        return after
    raise StoreMoved("other writers kept coming first; start the instance again")
