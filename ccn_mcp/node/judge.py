"""The judge: a model reads a conversation and scores who replied in it. Costs are recorded before anything is believed.

One judgement is several runs of one request, each in a context of its own, by a model that is told nothing of whom it
rates. What is kept is in `judgements.py`; the same at half price, with time, in `judge_batch.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ccn_mcp.domain.errors import BadInput, BadJudgement, CostCeiling, JudgeFailed, Refused
from ccn_mcp.domain.judging import RUNS_DEFAULT, RUNS_MAX, RUNS_MIN, Run, combine, needed_of, parse, request
from ccn_mcp.domain.limits import PAGE_MESSAGES_MAX
from ccn_mcp.domain.models import MessageQuery
from ccn_mcp.domain.spending import FREE
from ccn_mcp.domain.talk import Asked, Reply
from ccn_mcp.node.calling import call
from ccn_mcp.node.context import Caller, Context, must_record
from ccn_mcp.node.examining import LAST_DEFAULT, REPLIES_MIN, TOKENS_DEFAULT, Examined, examined
from ccn_mcp.node.judgements import (
    Judged,
    Order,
    Tried,
    keep,
    last_attempt,
)
from ccn_mcp.node.rubric import rubric
from ccn_mcp.ports import LanguageModel

EVERY_MAX: Final = PAGE_MESSAGES_MAX
Say = Callable[[str], None]
Step = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a judgement would send: the conversation as picked, and the request that each run makes."""

    order: Order
    examined: Examined = field(repr=False)
    asked: Asked = field(repr=False)


async def prepare(
    ctx: Context,
    caller: Caller,
    model: str,
    conversation_id: str,
    *,
    instance: str | None = None,
    runs: int = RUNS_DEFAULT,
    last: int = LAST_DEFAULT,
    tokens: int = TOKENS_DEFAULT,
    vote: bool = True,
) -> Prepared:
    """Pick the conversation's newest messages and make the request; nothing is sent or recorded.

    Raises:
        BadInput: `runs` or `last` out of range. UnknownConversation. Refused: too few replies, or measuring is off.
    """
    if ctx.settings.character == "off":
        raise Refused(
            "the person has switched character measurement off (CCN_CHARACTER=off); nothing is judged then"
        )
    if not RUNS_MIN <= runs <= RUNS_MAX:
        raise BadInput(
            f"runs is {runs}; give {RUNS_MIN} to {RUNS_MAX}, because fewer say nothing of their spread"
        )
    found = await examined(ctx, caller, conversation_id, instance=instance, last=last, tokens=tokens)
    order = Order(ctx.entropy.name("j"), conversation_id, found.instance_id, model, runs, vote)
    return Prepared(order, found, request(model, found.messages, rubric().text))


async def judge(
    ctx: Context,
    caller: Caller,
    port: LanguageModel,
    model: str,
    conversation_id: str,
    *,
    instance: str | None = None,
    runs: int = RUNS_DEFAULT,
    last: int = LAST_DEFAULT,
    tokens: int = TOKENS_DEFAULT,
    vote: bool = True,
    on_wait: Say = lambda _: None,
    on_run: Step = lambda *_: None,
) -> Judged:
    """Have a model judge the newest replies of a conversation; durable when this returns.

    `vote` False keeps the result out of the consensus. `on_run` is told (done, total) after each run.

    Raises:
        JudgeFailed: too few replies of the judge can be used. CostCeiling: before a call that could pass it. What was
        spent until then is recorded, and that there was an attempt. As `prepare`. Excluded. StoreError.
    """
    must_record(ctx)
    ready = await prepare(
        ctx,
        caller,
        model,
        conversation_id,
        instance=instance,
        runs=runs,
        last=last,
        tokens=tokens,
        vote=vote,
    )
    tried: list[Tried] = []
    for number in range(runs):
        try:
            reply, usage = await call(
                ctx,
                caller,
                port,
                ready.asked,
                purpose="judge",
                conversation=conversation_id,
                instance=ready.order.instance_id,
                on_wait=on_wait,
            )
        except CostCeiling:
            if tried:
                await keep(ctx, caller, ready.order, ready.examined, None, tried, port.backend)
            raise
        tried.append(read(reply, ready.examined, usage.seq))
        on_run(number + 1, runs)
        if hopeless(tried, runs):
            break
    return await conclude(ctx, caller, ready.order, ready.examined, tried, port.backend)


def hopeless(tried: list[Tried], runs: int) -> bool:
    """Whether no further run can help: too many have failed, or the service refuses to begin."""
    failed = sum(one.run is None for one in tried)
    return tried[-1].ended in FREE or runs - failed < needed_of(runs)


async def conclude(
    ctx: Context, caller: Caller, order: Order, found: Examined, tried: list[Tried], backend: str
) -> Judged:
    """Record what the runs add up to.

    Raises:
        JudgeFailed: too few can be used; that is recorded.
    """
    usable = [one.run for one in tried if one.run is not None]
    needed = needed_of(order.runs)
    if len(usable) >= needed:
        return await keep(ctx, caller, order, found, combine(usable, order.runs), tried, backend)
    await keep(ctx, caller, order, found, None, tried, backend)
    problem = next((one.problem for one in reversed(tried) if one.problem), "")
    early = ", so it was not asked again" if len(tried) < order.runs else ""
    raise JudgeFailed(
        f"{len(usable)} of {len(tried)} replies of the judge can be used, and {needed} are needed{early}; there is no "
        f"judgement, and what they cost is recorded. The last problem: {problem}"
    )


def read(reply: Reply, found: Examined, usage: int) -> Tried:
    """What counts of a reply whose cost is recorded (entry `usage`)."""
    run: Run | None = None
    reason, problem = reply.ended, reply.problem
    if reply.whole:
        try:
            run = parse(reply.text, found.messages)
            reason = ""
        except BadJudgement as error:
            reason, problem = error.reason, str(error)
    return Tried(usage, reply.ended, reply.model, run, reason, problem)


async def due(ctx: Context, conversation_id: str, every: int) -> bool:
    """Whether `every` replies or more have come in this conversation since a judge was last asked about it.

    An attempt that failed counts as asked, so that a judge that always fails is not paid at every reply. The first one
    waits for as many replies as a judgement needs.

    Raises:
        BadInput: `every` is out of range. UnknownConversation.
    """
    if not 1 <= every <= EVERY_MAX:
        raise BadInput(f"judge every {every} replies is not possible; give 1 to {EVERY_MAX}")
    attempt = await last_attempt(ctx, conversation_id)
    after = attempt.seq if attempt is not None else None
    wanted = every if attempt is not None else max(every, REPLIES_MIN)
    page = await ctx.store.page(MessageQuery(conversation_id, wanted, after=after, role="assistant"))
    return len(page.messages) == wanted
