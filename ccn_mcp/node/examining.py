"""What a judge is shown: the newest messages of a conversation, and whose replies they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ccn_mcp.domain.errors import BadInput, Refused
from ccn_mcp.domain.instances import Instance
from ccn_mcp.domain.judging import Said, shown
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import MessageQuery, Record, RecordQuery, Seat
from ccn_mcp.domain.talk import text_block, tokens_of
from ccn_mcp.node.context import Caller, Context
from ccn_mcp.node.conversations import require_conversation
from ccn_mcp.node.instances import holder_of

LAST_DEFAULT: Final = 40
LAST_MAX: Final = 200
TOKENS_DEFAULT: Final = 20_000
TOKENS_MAX: Final = 100_000
"""Of the conversation, estimated; the newest whole messages that fit are shown to the judge."""

REPLIES_MIN: Final = 3
"""Fewer replies show too little of anything."""


@dataclass(frozen=True, slots=True)
class Examined:
    """The messages that the judge is shown, oldest first, and the instance whose replies they are, if it is known."""

    messages: tuple[Said, ...] = field(repr=False)
    instance_id: str | None
    newest_us: int

    @property
    def replies(self) -> int:
        """How many of them are rated."""
        return sum(said.reply for said in self.messages)


async def examined(
    ctx: Context,
    caller: Caller,
    conversation_id: str,
    *,
    instance: str | None = None,
    last: int = LAST_DEFAULT,
    tokens: int = TOKENS_DEFAULT,
) -> Examined:
    """The newest messages of a conversation, those of other instances than the examined one left out.

    That is `instance`, else whoever wrote the newest reply, else whose conversation it is. After a re-initialisation
    only what came since counts.

    Raises:
        BadInput, UnknownConversation. Refused: fewer than `REPLIES_MIN` replies.
    """
    if not 2 <= last <= LAST_MAX or not 500 <= tokens <= TOKENS_MAX:
        raise BadInput(f"give 2 to {LAST_MAX} messages and 500 to {TOKENS_MAX:,} tokens of the conversation")
    await require_conversation(ctx, conversation_id)
    records = await _records(ctx, conversation_id, last)
    who = instance or next((name for record in records if (name := _author(record))), None)
    who = who or await holder_of(ctx, caller, conversation_id, None)
    seat = await seat_if_any(ctx, who)
    since = Instance.from_body(seat.snapshot).reports_from_us if seat is not None else 0
    picked: list[Said] = []
    room = tokens
    for record in records:
        said = said_of(record)
        if said is None or record.time_us < since or (said.reply and _author(record) not in (None, who)):
            continue
        room -= tokens_of([text_block(shown([said]))])
        if room < 0:
            break
        picked.insert(0, said)
    replies = [said.seq for said in picked if said.reply]
    if len(replies) < REPLIES_MIN:
        everybody = sum(said.reply for record in records if (said := said_of(record)) is not None)
        of = f", of {everybody} here" if everybody > len(replies) else ""
        raise Refused(
            f"the newest instance of this conversation has {len(replies)} to judge{of}, and it takes {REPLIES_MIN} "
            "replies of one instance since it loaded its Plate; go on talking in one session, or name another one with "
            "--instance, or take more of the conversation in with --last and --tokens"
        )
    newest = next(record.time_us for record in records if record.seq == replies[-1])
    return Examined(tuple(picked), who, newest)


async def again(ctx: Context, seqs: Sequence[int], instance_id: str | None) -> Examined | None:
    """The messages that were shown to a judge earlier; None if one of them has been erased since."""
    query = RecordQuery(kinds=(Kind.MESSAGE,), seqs=tuple(seqs), limit=max(1, len(seqs)), oldest_first=True)
    records = await ctx.store.records(query)
    messages = [said for record in records if (said := said_of(record)) is not None]
    if not messages or len(messages) != len(seqs):
        return None
    return Examined(tuple(messages), instance_id, max(record.time_us for record in records))


async def _records(ctx: Context, conversation_id: str, last: int) -> list[Record]:
    """The newest messages with their bodies, newest first, without answers that others took the place of."""
    page = await ctx.store.page(MessageQuery(conversation_id, last))
    seqs = tuple(message.seq for message in page.messages)
    if not seqs:
        return []
    found = await ctx.store.records(RecordQuery(seqs=seqs, limit=len(seqs)))
    replaced = {record.body.get("instead_of") for record in found if record.body}
    kept = [record for record in found if record.seq not in replaced]
    return sorted(kept, key=lambda record: -record.seq)


def said_of(record: Record) -> Said | None:
    """The message as a judge reads it; None for one that was erased, is empty, or is neither side's."""
    body = record.body or {}
    role, text = body.get("role"), body.get("text")
    if role not in ("user", "assistant") or not isinstance(text, str) or not text.strip():
        return None
    return Said(record.seq, role == "assistant", text)


def _author(record: Record) -> str | None:
    """The instance that wrote a reply, where the record says it."""
    body = record.body or {}
    name = body.get("instance") if body.get("role") == "assistant" else None
    return name if isinstance(name, str) else None


async def seat_if_any(ctx: Context, instance_id: str | None) -> Seat | None:
    seats = await ctx.store.seats(instance_id=instance_id) if instance_id is not None else ()
    return seats[0] if seats else None
