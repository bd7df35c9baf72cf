"""What is on record, for the six questions: messages that an answer may name, and whether a statement is in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ccn_mcp.domain import recall
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import ConversationQuery, MessageQuery, Record, RecordQuery, SearchQuery, Seat
from ccn_mcp.domain.plate import Plate
from ccn_mcp.node.context import Context

HISTORY_FACTS_MAX: Final = 20
"""Newest messages of the delivered conversation, any one of which an answer may name."""

HISTORY_CHARS_MAX: Final = 2_000
"""Of each of them."""

CONVERSATIONS_MAX: Final = 20
"""How far back the last conversation with messages is looked for, as `load_plate` does."""


async def recorded_before(ctx: Context, seat: Seat) -> dict[int, str]:
    """The newest messages that `load_plate` delivered to this instance, by position: its own conversation's, or the
    last one's of the scope. Empty where nothing is on record."""
    recent = await ctx.store.conversations(ConversationQuery(CONVERSATIONS_MAX, scope=ctx.settings.scope))
    talks = [item.id for item in recent if item.messages]
    own = seat.snapshot.get("conversation")
    if not talks:
        return {}
    page = await ctx.store.page(MessageQuery(own if own in talks else talks[0], HISTORY_FACTS_MAX))
    return {
        message.seq: message.text[:HISTORY_CHARS_MAX] for message in page.messages if message.text is not None
    }


async def recorded_at(ctx: Context, opened: Record) -> list[str]:
    """The messages that a run was opened with; those erased since are left out, and count no longer."""
    named = (opened.body or {}).get("history")
    seqs = tuple(seq for seq in named if isinstance(seq, int)) if isinstance(named, list) else ()
    if not seqs:
        return []
    query = RecordQuery(kinds=(Kind.MESSAGE,), seqs=seqs, limit=HISTORY_FACTS_MAX)
    texts = [(record.body or {}).get("text") for record in await ctx.store.records(query)]
    return [text[:HISTORY_CHARS_MAX] for text in texts if isinstance(text, str)]


async def unfounded(ctx: Context, plate: Plate, answers: Sequence[str], before: int) -> set[str]:
    """Memory questions whose answer states a number or a quotation that neither the Plate nor the record has.

    The record is what this scope had `before` that position, so that a run cannot be prepared by recording.
    """
    facts = (text for found in plate.facts.values() for fact in found for text in fact.accepted)
    given = "\n".join((plate.body, *plate.boundaries, *facts))
    found = set()
    for question, answer in zip(recall.ASKED, answers, strict=True):
        if question.name not in recall.MEMORY or len(answer) > question.chars_max:
            continue
        for stated in recall.specifics(answer):
            if not has(given, stated) and not await _is_recorded(ctx, stated, before):
                found.add(question.name)
    return found


async def _is_recorded(ctx: Context, text: str, before: int) -> bool:
    if not any(character.isalnum() for character in text):
        return True  # a quotation without a word says nothing
    query = SearchQuery(text, limit=HISTORY_FACTS_MAX, scope=ctx.settings.scope, before=before)
    hits = (await ctx.store.search(query)).hits
    return any(has(hit.message.text or "", text) for hit in hits)


def has(text: str, stated: str) -> bool:
    """Whether `stated` stands in `text` as whole words, whatever the line breaks and capitals."""
    wanted = re.escape(_flat(stated))
    return re.search(rf"(?<!\w){wanted}(?!\w)", _flat(text)) is not None


def _flat(text: str) -> str:
    return " ".join(text.casefold().split()).strip(".,;:!? ")
