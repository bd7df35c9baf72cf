"""What calls to a model have cost, for the person: call by call, or added up. Reads only."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, TypedDict

from ccn_mcp.domain.cost import exact_dollars
from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.spending import ERASED, Call, Totals, call_of, day_of, priced, total_of
from ccn_mcp.node.context import Context, iso, short_text
from ccn_mcp.node.usage import ENTRIES_MAX, read_usage, spent
from ccn_mcp.prices import own_file, table_of

if TYPE_CHECKING:
    from ccn_mcp.domain.cost import PriceTable
    from ccn_mcp.domain.models import Record

By = Literal["call", "conversation", "day", "month"]

LINES_MAX: Final = 1_000
LINES_DEFAULT: Final = 20
NO_CONVERSATION: Final = "(no conversation)"
MODELS_SHOWN_MAX: Final = 20


class Sum(TypedDict):
    """Calls added up, in US dollars as decimal text. `usd` is None where no call has a known price.

    Unless `exact`, it is a lower bound: `unknown` calls have no price, `cut` ones broke off. `at_most` is None where
    nobody can say. `text` is the same in words.
    """

    name: str
    calls: int
    usd: str | None
    exact: bool
    at_most: str | None
    unknown: int
    cut: int
    erased: int
    tokens: dict[str, int]
    text: str


class CallLine(TypedDict):
    """One call. `as_of` is the date of the prices, None where the back end itself said what it cost."""

    seq: int
    at: str
    model: str
    asked: str
    purpose: str
    backend: str
    conversation_id: str | None
    stop: str
    complete: bool
    usd: str | None
    as_of: str | None
    batch: bool
    tokens: dict[str, int] | None
    text: str


class Limit(TypedDict):
    """A ceiling and, of the day's, what was spent of it."""

    setting: str
    usd: str
    spent: str | None


class Costs(TypedDict):
    """`prices` is the date of the table, `own_prices` that of the person's own over it. Newest first; days are UTC."""

    by: By
    prices: str
    own_prices: str | None
    prices_file: str
    calls: list[CallLine]
    sums: list[Sum]
    total: Sum
    ceilings: list[Limit]
    without_price: dict[str, int]
    left_out: str | None


async def costs(
    ctx: Context, *, by: By = "day", conversation_id: str | None = None, last: int = LINES_DEFAULT
) -> Costs:
    """The newest `last` calls, conversations, days or months, and the total of all of them.

    Raises:
        BadInput: `last` outside 1 to `LINES_MAX`, or the person's prices cannot be used.
    """
    if not 1 <= last <= LINES_MAX:
        raise BadInput(f"last is {last}; give a number from 1 to {LINES_MAX}")
    table = table_of(ctx.settings)
    read, whole = await read_usage(ctx, short_text(conversation_id, "conversation_id"), "")
    called = [(record, call_of(record.body)) for record in read if record.body is not None]
    groups: dict[str, Totals] = {}
    if by != "call":
        for record in read:
            name, sums = _group(record, by, table)
            groups[name] = groups.get(name, Totals()) + sums
    total = sum((_total(record, table) for record in read), Totals(unread=not whole))
    missing = Counter(call.model for _, call in called if call.usage and priced(call, table).cost is None)
    lines = len(called) if by == "call" else len(groups)
    notes = [f"{lines - last:,} older ones"] if lines > last else []
    if not whole:
        notes.append(f"what lies before the newest {ENTRIES_MAX:,} calls")
    return {
        "by": by,
        "prices": table.as_of,
        "own_prices": table.own,
        "prices_file": str(own_file(ctx.settings)),
        "calls": [_line(record, call, table) for record, call in called[:last]] if by == "call" else [],
        "sums": [_sum(name, sums) for name, sums in list(groups.items())[:last]],
        "total": _sum("total", total),
        "ceilings": await _ceilings(ctx),
        "without_price": dict(missing.most_common(MODELS_SHOWN_MAX)),
        "left_out": "; ".join(notes) or None,
    }


def _group(record: Record, by: By, table: PriceTable) -> tuple[str, Totals]:
    """Which line an entry belongs to, and what it adds there."""
    call = call_of(record.body) if record.body is not None else None
    day = day_of(record.time_us) if call is None else call.day
    if by == "conversation":
        name = (call.conversation if call else None) or NO_CONVERSATION
    else:
        name = day if by == "day" else day[:7]
    return name, _total(record, table)


def _total(record: Record, table: PriceTable) -> Totals:
    return ERASED if record.body is None else total_of(call_of(record.body), table)


def _sum(name: str, sums: Totals) -> Sum:
    return {
        "name": name,
        "calls": sums.calls,
        "usd": None if sums.calls and sums.unknown == sums.calls else exact_dollars(sums.pico),
        "exact": sums.exact,
        "at_most": None if sums.unbounded or sums.unread else exact_dollars(sums.most),
        "unknown": sums.unknown,
        "cut": sums.cut,
        "erased": sums.erased,
        "tokens": {"input": sums.input, "output": sums.output, "written": sums.written, "read": sums.read},
        "text": str(sums),
    }


def _line(record: Record, call: Call, table: PriceTable) -> CallLine:
    known = priced(call, table)
    used = call.usage
    return {
        "seq": record.seq,
        "at": iso(call.at_us),
        "model": call.model,
        "asked": call.asked,
        "purpose": call.purpose,
        "backend": call.backend,
        "conversation_id": call.conversation,
        "stop": call.stop,
        "complete": call.complete,
        "usd": None if known.cost is None else exact_dollars(known.cost),
        "as_of": known.as_of,
        "batch": call.batch,
        "tokens": None
        if used is None
        else {
            "input": used.input,
            "output": used.output,
            "write_5m": used.write_5m,
            "write_1h": used.write_1h,
            "read": used.read,
        },
        "text": str(total_of(call, table)),
    }


async def _ceilings(ctx: Context) -> list[Limit]:
    chosen = ctx.settings
    found: list[Limit] = []
    if chosen.cost_day_pico is not None:
        today = await spent(ctx, period=day_of(ctx.now_us()))
        found.append(
            {
                "setting": "CCN_COST_DAY_USD",
                "usd": exact_dollars(chosen.cost_day_pico),
                "spent": str(today),
            }
        )
    if (pico := chosen.cost_conversation_pico) is not None:
        found.append({"setting": "CCN_COST_CONVERSATION_USD", "usd": exact_dollars(pico), "spent": None})
    return found
