"""Erasing one message; many at once are in `redaction.py`.

Whether the person asked for it is decided by who calls: the command line, or the tool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain.errors import BadInput, NotFound
from ccn_mcp.domain.ledger import SEQ_MAX, Kind
from ccn_mcp.domain.limits import ERASURES_PER_BATCH_MAX
from ccn_mcp.domain.models import Body, Draft, MessageQuery, RecordQuery
from ccn_mcp.node.context import Caller, Context, echoed, short_text
from ccn_mcp.node.conversations import require_conversation
from ccn_mcp.node.results import Redacted
from ccn_mcp.node.summaries import covering

ERASED: Final = (
    "The content is gone from the store; its place, role and time stay, and so does the redaction entry. Backups, "
    "exports and what a client kept are copies of their own: delete them yourself."
)
PENDING: Final = (
    "It can no longer be read, but something is reading an older state of the store, so its bytes are still "
    "in the write-ahead log. They go with the next write after that, or when this is called again."
)


@dataclass(frozen=True, slots=True)
class Doomed:
    """What would be erased; `text` is None if it is gone already."""

    seq: int
    conversation_id: str
    role: str
    time_us: int
    text: str | None


async def find_message(ctx: Context, *, seq: int | None = None, at: tuple[str, int] | None = None) -> Doomed:
    """The message at `seq`, or number n of a conversation (`at`).

    Raises:
        NotFound: nothing is there. BadInput: it is no message. UnknownConversation.
    """
    if at is not None:
        seq = await _seq_of(ctx, *at)
    if seq is None or not 0 <= seq <= SEQ_MAX:
        raise BadInput(f"seq is {echoed(seq)}; give the position of a message, as get_history shows it")
    found = await ctx.store.records(RecordQuery(seqs=(seq,)))
    if not found:
        raise NotFound(f"there is no entry {seq} in this store; get_history shows the seq of each message")
    record = found[0]
    if record.kind != Kind.MESSAGE:
        raise BadInput(f"entry {seq} is no message; only messages can be erased")
    body = record.body
    if body is None:
        redactions = await ctx.store.records(RecordQuery(kinds=(Kind.REDACTION,), subject=str(seq)))
        body = (redactions[0].body if redactions else None) or {}
    text = body.get("text") if record.body is not None else None
    said = text if isinstance(text, str) else None
    return Doomed(seq, str(body.get("conversation", "")), str(body.get("role", "")), record.time_us, said)


async def _seq_of(ctx: Context, conversation: str, n: int) -> int:
    """The position of message `n`: positions and numbers grow together, so it is found by halving."""
    known = await require_conversation(ctx, conversation)
    if not 1 <= n <= known.messages:
        raise NotFound(f"{conversation} has no message {n}; it has {known.messages:,}")
    low, high = known.seq, known.last_seq
    while low + 1 < high:
        middle = (low + high) // 2
        page = await ctx.store.page(MessageQuery(conversation, 1, newest=False, after=middle))
        if page.messages and page.messages[0].n <= n:
            low = middle
        else:
            high = middle
    page = await ctx.store.page(MessageQuery(conversation, 1, newest=False, after=low))
    return page.messages[0].seq


async def redact_message(
    ctx: Context,
    caller: Caller,
    *,
    seq: int | None = None,
    conversation_id: str | None = None,
    n: int | None = None,
    reason: str | None = None,
) -> Redacted:
    """Erase the message at `seq`, or message `n` of a conversation. Erasing it again changes nothing.

    Raises:
        NotFound, BadInput, BadText, UnknownConversation: nothing was erased.
    """
    why = short_text(reason, "reason")
    conversation = short_text(conversation_id, "conversation_id")
    if (seq is None) == (conversation is None) or (conversation is None) != (n is None):
        raise BadInput("name the message by seq, or by conversation_id and n")
    at = (conversation, n) if conversation is not None and n is not None else None
    doomed = await find_message(ctx, seq=seq, at=at)
    body: Body = {"target": str(doomed.seq), "by": caller.principal, "source": caller.source}
    if why is not None:
        body["reason"] = why
    # A summary that was made of it, in part, says it in other words.
    also = await covering(ctx, doomed.conversation_id, doomed.seq, doomed.seq)
    now = ctx.now_us()
    for begin in range(0, len(also), ERASURES_PER_BATCH_MAX):
        batch = also[begin : begin + ERASURES_PER_BATCH_MAX]
        await ctx.store.erase(
            [Draft(Kind.REDACTION, now, {**body, "target": str(other)}) for other in batch], finish=False
        )
    done = await ctx.store.erase([Draft(Kind.REDACTION, now, body)])
    item = done.items[0]
    before = "It had been erased before. " if item.already else ""
    return {
        "seq": item.seq,
        "conversation_id": item.conversation or "",
        "erased": True,
        "pending": done.pending > 0,
        "head": str(done.head),
        "note": before + (PENDING if done.pending else ERASED),
    }
