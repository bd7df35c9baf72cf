"""Erasing many entries at once: what would go, then erasing it in batches that leave others their turn.

Everything is asked of the log again, so an erasure that was interrupted is finished by asking for it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ccn_mcp.domain.copies import FOLLOWING, NAMES, Selection, goes_too
from ccn_mcp.domain.errors import BadInput, NotFound, Refused, UnknownConversation
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import ERASURES_PER_BATCH_MAX
from ccn_mcp.domain.models import Body, ConversationQuery, Draft, Line, LineQuery, RecordQuery
from ccn_mcp.node.context import Caller, Context, short_text
from ccn_mcp.node.erasure import ERASED, PENDING
from ccn_mcp.node.results import RedactedMany
from ccn_mcp.node.summaries import covering

SEQS_MAX: Final = 500
LINES_AT_ONCE: Final = 500
RECORDS_AT_ONCE: Final = 200
CONVERSATIONS_AT_ONCE: Final = 500


@dataclass(slots=True)
class Plan:
    """What would go. Positions from `size` on were recorded later and stay."""

    selection: Selection
    size: int
    messages: int = 0
    already: int = 0
    first: Line | None = None
    last: Line | None = None
    conversations: set[str] = field(default_factory=set)
    following: dict[Kind, list[int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Entries to erase."""
        return self.messages + sum(map(len, self.following.values()))

    def counts(self) -> dict[str, int]:
        """Entries to erase, by what they are called."""
        every = {Kind.MESSAGE: self.messages, **{kind: len(seqs) for kind, seqs in self.following.items()}}
        return {NAMES[kind]: count for kind, count in every.items() if count}


async def plan(ctx: Context, selection: Selection) -> Plan:
    """Find what a selection would erase; changes nothing.

    Raises:
        BadInput: nothing is selected, or what is selected is no message. NotFound, UnknownConversation.
        Refused: the Plate is in force.
    """
    _check(selection)
    found = Plan(selection, (await ctx.store.info()).head.size)
    if selection.plate is not None:
        await _plan_plate(ctx, selection.plate, found)
    elif selection.seqs:
        await _check_seqs(ctx, selection.seqs, found)
    if selection.plate is None:
        await _plan_messages(ctx, found)
    if not selection.seqs:
        whole = await _whole(ctx, found) if selection.plate is None else frozenset[str]()
        await _plan_following(ctx, found, whole)
    await _plan_summaries(ctx, found)
    return found


async def erase(
    ctx: Context,
    caller: Caller,
    planned: Plan,
    *,
    reason: str | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> RedactedMany:
    """Erase what was planned, in batches; each is durable, so whatever stops it, what was erased stays erased.

    Raises:
        BadInput, BadText: the reason. StoreError: some may be erased; do it again to go on.
    """
    about: Body = {"by": caller.principal, "source": caller.source}
    if (why := short_text(reason, "reason")) is not None:
        about["reason"] = why
    done: Counter[str] = Counter()
    async for kind, seqs in _batches(ctx, planned):
        now = ctx.now_us()
        drafts = [Draft(Kind.REDACTION, now, {**about, "target": str(seq)}) for seq in seqs]
        erased = await ctx.store.erase(drafts, finish=False)
        done[NAMES[kind]] += sum(not item.already for item in erased.items)
        progress(done.total(), planned.total)
    # What was left behind by an earlier erasure may go now, too.
    finished = await ctx.store.erase([])
    ctx.sessions.clear()
    ctx.spending.clear()
    return {
        "erased": dict(done),
        "already_erased": planned.already,
        "pending": finished.pending > 0,
        "head": str(finished.head),
        "note": PENDING if finished.pending else ERASED,
    }


async def _batches(ctx: Context, planned: Plan) -> AsyncIterator[tuple[Kind, Sequence[int]]]:
    for kind in (Kind.CONVERSATION, Kind.MESSAGE, *FOLLOWING[1:], Kind.PLATE):
        if kind == Kind.MESSAGE:
            if planned.messages:
                async for lines in _lines(ctx, planned, ERASURES_PER_BATCH_MAX):
                    yield kind, [line.seq for line in lines]
            continue
        seqs = planned.following.get(kind, [])
        for at in range(0, len(seqs), ERASURES_PER_BATCH_MAX):
            yield kind, seqs[at : at + ERASURES_PER_BATCH_MAX]


async def _lines(ctx: Context, planned: Plan, limit: int) -> AsyncIterator[Sequence[Line]]:
    """The messages of a plan, a page at a time."""
    wanted = planned.selection
    query = LineQuery(
        limit,
        wanted.seqs,
        wanted.conversation_id,
        wanted.since_us,
        wanted.until_us,
        wanted.person,
        before=planned.size,
    )
    while lines := await ctx.store.lines(query):
        yield lines
        query = replace(query, after=lines[-1].seq)


def _check(selection: Selection) -> None:
    if selection == Selection():
        raise BadInput(
            "nothing is selected; name messages by their seq, or give --conversation, --since and --until, --person "
            "or --plate"
        )
    if selection.plate is not None and selection != Selection(plate=selection.plate):
        raise BadInput("a Plate is erased by itself; leave the other selections out")
    if len(selection.seqs) > SEQS_MAX:
        raise BadInput(
            f"{len(selection.seqs):,} positions; at most {SEQS_MAX} at once, select by conversation or time"
        )
    since, until = selection.since_us, selection.until_us
    if since is not None and until is not None and since >= until:
        raise BadInput("nothing lies between since and until; until is the first moment that stays")


async def _check_seqs(ctx: Context, seqs: tuple[int, ...], found: Plan) -> None:
    there = {
        record.seq: record for record in await ctx.store.records(RecordQuery(seqs=seqs, limit=len(seqs)))
    }
    for seq in seqs:
        if seq not in there:
            raise NotFound(
                f"there is no entry {seq} in this store; history --json shows the seq of each message"
            )
        if there[seq].kind != Kind.MESSAGE:
            raise BadInput(
                f"entry {seq} is no message; what belongs to a conversation goes with it, a Plate by --plate"
            )
    found.already = sum(record.body is None for record in there.values())


async def _plan_messages(ctx: Context, found: Plan) -> None:
    if (conversation := found.selection.conversation_id) is not None and not await ctx.store.conversations(
        ConversationQuery(1, id=conversation, erased=True)
    ):
        raise UnknownConversation(
            f"there is no conversation {conversation!r} in this store; `history` lists them"
        )
    async for lines in _lines(ctx, found, LINES_AT_ONCE):
        found.first = found.first or lines[0]
        found.last = lines[-1]
        found.messages += len(lines)
        found.conversations.update(line.conversation_id for line in lines)


async def _plan_summaries(ctx: Context, found: Plan) -> None:
    """What a summary was made of is in it, in other words."""
    if found.first is None or found.last is None:
        return
    going = set(found.following.get(Kind.METRIC, ()))
    for conversation in found.conversations:
        going.update(await covering(ctx, conversation, found.first.seq, found.last.seq))
    if going:
        found.following[Kind.METRIC] = sorted(going)


async def _whole(ctx: Context, found: Plan) -> frozenset[str]:
    """Conversations of which nothing would be left to read, and those that an interrupted erasure has closed."""
    selection = found.selection
    whole = set[str]() if selection.whole_conversation is None else {selection.whole_conversation}
    query = ConversationQuery(CONVERSATIONS_AT_ONCE, erased=True)
    while page := await ctx.store.conversations(query):
        for item in page:
            touched = item.id in found.conversations
            if item.erased or (
                touched and await _readable(ctx, item.id) == await _matching(ctx, found, item.id)
            ):
                whole.add(item.id)
        query = replace(query, before=page[-1].last_seq)
    return frozenset(whole)


async def _readable(ctx: Context, conversation: str) -> int:
    return await _count(ctx, LineQuery(LINES_AT_ONCE, conversation_id=conversation))


async def _matching(ctx: Context, found: Plan, conversation: str) -> int:
    wanted = found.selection
    return await _count(
        ctx,
        LineQuery(
            LINES_AT_ONCE,
            (),
            conversation,
            wanted.since_us,
            wanted.until_us,
            wanted.person,
            before=found.size,
        ),
    )


async def _count(ctx: Context, query: LineQuery) -> int:
    count = 0
    while lines := await ctx.store.lines(query):
        count += len(lines)
        query = replace(query, after=lines[-1].seq)
    return count


async def _plan_following(ctx: Context, found: Plan, whole: frozenset[str]) -> None:
    where: dict[str, str] = {}
    query = RecordQuery(kinds=FOLLOWING, oldest_first=True, limit=RECORDS_AT_ONCE)
    while records := await ctx.store.records(query):
        for record in records:
            if record.seq < found.size and goes_too(record, found.selection, whole, where):
                found.following.setdefault(record.kind, []).append(record.seq)
        query = replace(query, after=records[-1].seq)


async def _plan_plate(ctx: Context, seq: int, found: Plan) -> None:
    records = await ctx.store.records(RecordQuery(kinds=(Kind.PLATE,), seqs=(seq,)))
    if not records:
        raise NotFound(
            f"entry {seq} is no Plate; `ccn-mcp plate show --versions` lists them with their entries"
        )
    newest = await ctx.store.records(RecordQuery(kinds=(Kind.PLATE,), limit=1))
    if newest[0].seq == seq:
        raise Refused(
            f"the Plate at entry {seq} is in force; set another one first with ccn-mcp plate set, then erase it"
        )
    if records[0].body is None:
        found.already = 1
    else:
        found.following[Kind.PLATE] = [seq]
