"""Judging at half the price: the runs go out as one batch, and are collected when the service is done (within a day).

The order is an entry, so any process can collect it, and collecting twice records once: each reply's cost and the
judgement have keys of their own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain.errors import IdempotencyConflict, JudgeFailed
from ccn_mcp.domain.judging import RUNS_DEFAULT, request
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Draft, Group, Record
from ccn_mcp.domain.talk import Asked, Reply
from ccn_mcp.node.context import Caller, Context, must_record
from ccn_mcp.node.conversations import recorded_under
from ccn_mcp.node.examining import LAST_DEFAULT, TOKENS_DEFAULT, Examined, again
from ccn_mcp.node.judge import Prepared, Say, conclude, prepare, read
from ccn_mcp.node.judgements import (
    SENT,
    Judged,
    Order,
    Tried,
    about,
    judgements,
    keep,
)
from ccn_mcp.node.rubric import rubric
from ccn_mcp.node.usage import check_ceiling, record_usage, usage_draft
from ccn_mcp.ports import Batches

ERASED: Final = (
    "a message that was to be judged has been erased since, so there is no judgement; its cost is recorded"
)
GONE: Final = "the service has this batch no longer, or never had it; order another one"


@dataclass(frozen=True, slots=True)
class Submitted:
    """A batch that is on its way, and the entry that says so."""

    judgement: str
    batch: str
    seq: int
    head: str


@dataclass(frozen=True, slots=True)
class Collected:
    """What collecting has brought: new judgements, a line for each order without one, how many are still at work."""

    judged: tuple[Judged, ...]
    problems: tuple[str, ...]
    waiting: int


async def submit(
    ctx: Context,
    caller: Caller,
    batches: Batches,
    model: str,
    conversation_id: str,
    *,
    instance: str | None = None,
    runs: int = RUNS_DEFAULT,
    last: int = LAST_DEFAULT,
    tokens: int = TOKENS_DEFAULT,
    vote: bool = True,
) -> Submitted:
    """Send a judgement's runs as one batch; its id is durable when this returns.

    Raises:
        As `judge.prepare`. CostCeiling: before anything is sent. JudgeFailed: it could not be sent.
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
    await check_ceiling(ctx, ready.asked, conversation_id, batch=True, times=runs)
    sending = asyncio.ensure_future(_submit(ctx, caller, batches, ready))
    try:
        return await asyncio.shield(sending)
    finally:
        # A Ctrl-C waits until the id of what was sent is recorded: it would be paid for and never collected.
        await asyncio.shield(sending)


async def _submit(ctx: Context, caller: Caller, batches: Batches, ready: Prepared) -> Submitted:
    order = ready.order
    batch = await batches.submit(dict.fromkeys(names(order), ready.asked))
    body = about(caller, order, ready.examined, batches.backend) | {"batch": batch, "event": SENT}
    done = await ctx.store.append(Group((Draft(Kind.VALIDATION, ctx.now_us(), body),)))
    return Submitted(order.id, batch, done.receipts[0].seq, str(done.head))


def names(order: Order) -> list[str]:
    """The names of an order's requests inside its batch."""
    return [f"{order.id}-{number}" for number in range(1, order.runs + 1)]


async def waiting(ctx: Context, caller: Caller) -> list[Record]:
    """The caller's orders that have no outcome yet, oldest first."""
    found: list[Record] = []
    for record in reversed(await judgements(ctx)):
        body = record.body or {}
        mine = body.get("event") == SENT and body.get("principal") == caller.principal
        if mine and await recorded_under(ctx, caller, f"ccn:judge:{body.get('judgement')}") is None:
            found.append(record)
    return found


async def collect(
    ctx: Context, caller: Caller, batches: Batches, *, on_line: Say = lambda _: None
) -> Collected:
    """Fetch what is ready of the caller's orders and record it; again, it finds nothing new.

    Raises:
        JudgeFailed: the service could not be asked. Excluded. StoreError. What came before is recorded.
    """
    must_record(ctx)
    judged: list[Judged] = []
    problems: list[str] = []
    pending = 0
    for record in await waiting(ctx, caller):
        order = _order(record)
        on_line(f"asking about {order.id}")
        replies = await batches.results(str((record.body or {}).get("batch")), _asked(order, None))
        if replies is None:
            pending += 1
            continue
        try:
            judged.append(await _conclude(ctx, caller, record, order, dict(replies), batches.backend))
        except JudgeFailed as error:
            problems.append(f"{order.id}: {error}")
    return Collected(tuple(judged), tuple(problems), pending)


async def _conclude(
    ctx: Context, caller: Caller, record: Record, order: Order, replies: dict[str, Reply], backend: str
) -> Judged:
    """Record the cost of every reply, then what they add up to."""
    seqs = (record.body or {}).get("messages")
    positions = [seq for seq in seqs if isinstance(seq, int)] if isinstance(seqs, list) else []
    found = await again(ctx, positions, order.instance_id)
    shown = found or Examined((), order.instance_id, 0)
    asked = _asked(order, found)
    tried: list[Tried] = []
    for name in names(order):
        reply = replies.get(name)
        if reply is not None:
            usage = await _recorded(ctx, caller, order, asked, reply, name, backend)
            tried.append(read(reply, shown, usage))
    try:
        if found is None or not tried:
            await keep(ctx, caller, order, shown, None, tried, backend)
            raise JudgeFailed(GONE if not tried else ERASED)
        return await conclude(ctx, caller, order, found, tried, backend)
    except IdempotencyConflict:
        # Another process has collected it in this moment; what it recorded stands.
        return await keep(ctx, caller, order, shown, None, tried, backend)


async def _recorded(
    ctx: Context, caller: Caller, order: Order, asked: Asked, reply: Reply, name: str, backend: str
) -> int:
    draft = usage_draft(
        ctx,
        caller,
        asked,
        reply,
        backend=backend,
        purpose="judge",
        conversation=order.conversation_id,
        instance=order.instance_id,
        batch=True,
        key=f"ccn:judge:{name}",
    )
    return (await record_usage(ctx, draft)).seq


def _order(record: Record) -> Order:
    body = record.body or {}
    instance, runs = body.get("instance"), body.get("runs")
    return Order(
        str(body.get("judgement")),
        str(body.get("conversation")),
        instance if isinstance(instance, str) else None,
        str(body.get("asked")),
        runs if isinstance(runs, int) else RUNS_DEFAULT,
        body.get("wanted") is True,
    )


def _asked(order: Order, found: Examined | None) -> Asked:
    """What each request of the order asked, as far as it can still be said."""
    return request(order.model, found.messages if found is not None else (), rubric().text)
