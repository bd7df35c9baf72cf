"""What calls to a model have cost: usage entries, their sums, and the ceilings that stop a call before it is made.

Days and months are UTC. Sums are read from the log and nowhere else, so every process on the store counts the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ccn_mcp.domain.cost import Usage, dollars, pico_of, price, usage_of, worst_case
from ccn_mcp.domain.errors import BadInput, ConversationErased, CostCeiling
from ccn_mcp.domain.jcs import replace_unstorable
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.limits import ID_CHARS_MAX
from ccn_mcp.domain.models import Body, Draft, Group, Record, RecordQuery
from ccn_mcp.domain.spending import (
    ERASED,
    FREE,
    UNMADE,
    Call,
    Totals,
    bounded,
    call_of,
    day_of,
    total_of,
)
from ccn_mcp.domain.talk import Asked, text_block, tokens_of
from ccn_mcp.node.context import Caller, Context, must_record
from ccn_mcp.prices import own_file, table_of

if TYPE_CHECKING:
    from ccn_mcp.domain.cost import PriceTable
    from ccn_mcp.domain.spending import Purpose
    from ccn_mcp.domain.talk import Reply

ENTRIES_MAX: Final = 100_000
"""Usage entries of one period that are added up; a sum over more says that it is a lower bound."""

ENTRIES_AT_ONCE: Final = 500
SUMS_KEPT_MAX: Final = 1_000
"""Periods and conversations whose sums one process remembers."""

STRAY_US: Final = 24 * 3600 * 1_000_000
"""How far a clock may have gone back: entries are in the order of the log, not of time."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A usage entry: what it says, its position, and the head with it."""

    call: Call
    seq: int
    head: Head


def usage_draft(
    ctx: Context,
    caller: Caller,
    asked: Asked,
    reply: Reply,
    *,
    backend: str,
    purpose: Purpose,
    conversation: str | None = None,
    instance: str | None = None,
    batch: bool = False,
    key: str | None = None,
) -> Draft:
    """The entry of one call, to be appended with what came of it. Never raises: what was spent must be kept.

    The price is that of the model that answered, on this day; what the back end itself says goes before the table.
    A reply that broke off has a lower bound, and what it can have cost at the most. Prices that cannot be read leave
    the price unknown; `check_ceiling` tells of them before the call. `key` is an idempotency key, for a batch.
    """
    usage = usage_of(reply.usage)
    if usage is not None and batch and usage.service_tier is None:
        usage = replace(usage, service_tier="batch")
    said = None if reply.spent_usd is None else pico_of(reply.spent_usd)
    refused = usage is None and reply.ended in FREE  # with usage, it had begun
    # Claude Code makes several requests for one reply: the last one's refusal says nothing of those before it.
    free = reply.ended in UNMADE or (refused and said is None and backend != "claude_code")
    call = Call(
        purpose=purpose,
        backend=backend,
        asked=_name(asked.model) or "",
        served=_name(reply.model),
        stop=_name(reply.ended) or "",
        complete=reply.counted or free,
        at_us=ctx.now_us(),
        conversation=conversation,
        instance=instance,
        usage=usage,
        batch=batch,
        request_id=_name(reply.request_id),
        cost=0 if free else said,
    )
    with suppress(BadInput):
        call = bounded(call, worst_of(asked, batch=batch), table_of(ctx.settings))
    body: Body = {**call.to_body(), "principal": caller.principal, "source": caller.source}
    if key is not None:
        body["key"] = key
    return Draft(Kind.USAGE, call.at_us, body)


async def record_usage(ctx: Context, draft: Draft) -> Recorded:
    """Append what `usage_draft` made, by itself; durable when this returns.

    If its conversation was erased meanwhile, the entry leaves it out: what the call cost still counts.

    Raises:
        Excluded. StoreError. IdempotencyConflict: the key was used for another call.
    """
    must_record(ctx)
    try:
        done = await ctx.store.append(Group((draft,)))
    except ConversationErased:
        kept = {name: value for name, value in draft.body.items() if name not in ("conversation", "instance")}
        done = await ctx.store.append(Group((Draft(draft.kind, draft.time_us, kept),)))
    receipt = done.receipts[0]
    return Recorded(call_of(receipt.body), receipt.seq, done.head)


def worst_of(asked: Asked, *, batch: bool = False) -> Usage:
    """What a request can use at the most: an estimate of its prompt, and its longest reply."""
    sent = [text_block(part) for part in (*asked.system, asked.note)]
    tokens = tokens_of([*sent, *(block for turn in asked.turns for block in turn.blocks)])
    if asked.schema is not None:
        tokens += tokens_of([asked.schema])
    return worst_case(tokens, asked.max_tokens, batch=batch)


def _name(text: str) -> str | None:
    """An id, a model's name or a kind of error as a body can have it, whatever the service sent."""
    return replace_unstorable(text.strip()[:ID_CHARS_MAX])[0] or None


# ---- sums ----------------------------------------------------------------------------------------------


async def spent(ctx: Context, *, period: str = "", conversation: str | None = None) -> Totals:
    """What was spent in a period, in a conversation, or both.

    `period` is the beginning of an ISO date, UTC: `2026-11-22` a day, `2026-11` a month, nothing all time. The first
    question reads the period, later ones what came since.

    Raises:
        BadInput: the person's prices cannot be used.
    """
    table = table_of(ctx.settings)
    asked = (period, conversation)
    seq, sums = ctx.spending.get(asked, (-1, Totals()))
    if sums.unknown or sums.unread:  # a price that was not known may be known by now
        seq, sums = -1, Totals()
    records, whole = await read_usage(ctx, conversation, period, after=seq)
    for record in records:
        sums += _sum_of(record, period, table)
    sums = replace(sums, unread=sums.unread or not whole)
    if len(ctx.spending) >= SUMS_KEPT_MAX:
        ctx.spending.clear()
    if records:
        seq = max(seq, records[0].seq)
    ctx.spending[asked] = (seq, sums)
    return sums


def _sum_of(record: Record, period: str, table: PriceTable) -> Totals:
    if record.body is None:
        return ERASED if day_of(record.time_us).startswith(period) else Totals()
    call = call_of(record.body)
    return total_of(call, table) if call.day.startswith(period) else Totals()


async def read_usage(
    ctx: Context, conversation: str | None, period: str, *, after: int = -1, most: int = ENTRIES_MAX
) -> tuple[Sequence[Record], bool]:
    """Usage entries after a position, newest first, back to the beginning of the period; and whether that is all."""
    limit = min(ENTRIES_AT_ONCE, most)
    while True:
        query = RecordQuery(kinds=(Kind.USAGE,), subject=conversation, after=after, limit=limit)
        records = await ctx.store.records(query)
        if len(records) < limit or day_of(records[-1].time_us + STRAY_US) < period:
            return records, True
        if limit == most:
            return records, False
        limit = min(limit * 8, most)


# ---- ceilings ------------------------------------------------------------------------------------------


async def check_ceiling(
    ctx: Context, asked: Asked, conversation: str | None = None, *, batch: bool = False, times: int = 1
) -> None:
    """Go on only if the call stays below the ceilings whatever comes back; ask before each call.

    What counts is the most that it can use (`worst_of`). Calls that are made at once are asked for together, `times`
    of them: what is under way is in no entry yet. Where a ceiling is set, a model without a price is refused, and so
    is every call after one of which nobody can say what it cost at the most: the ceiling could not be kept.

    Raises:
        CostCeiling: says what was spent, the ceiling and its setting; the call must not be made.
        Excluded: what it used could not be recorded. BadInput: the person's prices cannot be used.
    """
    must_record(ctx)
    chosen, table, today = ctx.settings, table_of(ctx.settings), day_of(ctx.now_us())
    ceilings = [_Ceiling("today (UTC)", "CCN_COST_DAY_USD", chosen.cost_day_pico, today, None)]
    if conversation is not None:
        limit = chosen.cost_conversation_pico
        where = "in this conversation"
        ceilings.append(_Ceiling(where, "CCN_COST_CONVERSATION_USD", limit, "", conversation))
    for ceiling in ceilings:
        if ceiling.pico is None:
            continue
        found = price(asked.model, worst_of(asked, batch=batch), today, table)
        if found is None:
            raise CostCeiling(
                f"the price of {asked.model!r} is not known, so {ceiling.setting} could not be kept and the model was "
                f"not asked; add its price to {own_file(chosen)}, or unset {ceiling.setting}"
            )
        sums = await spent(ctx, period=ceiling.period, conversation=ceiling.conversation)
        _check(ceiling, ceiling.pico, sums, times * pico_of(found.usd))


class _Ceiling(NamedTuple):
    where: str
    setting: str
    pico: int | None
    period: str
    conversation: str | None


def _check(ceiling: _Ceiling, most: int, sums: Totals, coming: int) -> None:
    setting = ceiling.setting
    if sums.unbounded or sums.unread:
        calls = "one call" if sums.unbounded == 1 else f"{sums.unbounded:,} calls"
        why = f"nobody can say what {calls} cost" if sums.unbounded else "there are too many calls to add up"
        raise CostCeiling(
            f"{ceiling.where} the calls cost {sums}, and {why} at the most, so {setting} ({dollars(most)}) could not "
            f"be kept and the model was not asked; give each model its price (ccn-mcp cost shows which has none), or "
            f"unset {setting}"
        )
    if sums.most + coming > most:
        cut = f" (up to {dollars(sums.most)} with replies that broke off)" if sums.most > sums.pico else ""
        raise CostCeiling(
            f"{ceiling.where} the calls cost {sums}{cut}, this one could cost up to {dollars(coming)}, and the ceiling "
            f"is {dollars(most)}, so the model was not asked; raise {setting}, or make the prompt or the longest "
            "reply shorter"
        )
