"""Reading the record back: a page, a search, the list. Each says what it left out, and the call that brings it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.limits import (
    PAGE_CONVERSATIONS_MAX,
    PAGE_MESSAGES_DEFAULT,
    PAGE_MESSAGES_MAX,
    QUERY_CHARS_MAX,
    RESULT_CHARS_MAX,
)
from ccn_mcp.domain.models import ROLES, ConversationQuery, Message, MessageQuery, SearchQuery
from ccn_mcp.node.context import Context, echoed, iso, parse_time, short_text, shown_us
from ccn_mcp.node.conversations import listed, require_conversation
from ccn_mcp.node.results import History, HistoryConversation, HistoryHit, HistoryMessage

LIST_DEFAULT: Final = 20
EXCERPT_CHARS_MAX: Final = 1_000
AROUND_A_HIT: Final = ". Read around a hit with its conversation_id and before or after"
ENVELOPE_CHARS: Final = 2_000
"""What a page costs besides its messages, `left_out` included."""


async def get_history(
    ctx: Context,
    *,
    conversation_id: str | None = None,
    query: str | None = None,
    order: str = "newest",
    before: int | None = None,
    after: int | None = None,
    role: str | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    scope: str | None = None,
    chars_max: int = RESULT_CHARS_MAX,
) -> History:
    """A page of a conversation, the hits of a search, or the list of conversations.

    `scope` None means the node's own; `"*"` means every scope. A conversation that is named is read whatever
    its scope is.

    Raises:
        BadInput: an argument that cannot be used. UnknownConversation.
    """
    _check(order, role, limit, {"before": before, "after": after, "offset": offset})
    times = {"since": short_text(since, "since"), "until": short_text(until, "until")}
    wanted_scope = None if scope == "*" else scope or ctx.settings.scope
    conversation = short_text(conversation_id, "conversation_id")
    room = max(0, chars_max - ENVELOPE_CHARS)
    if (words := short_text(query, "query", QUERY_CHARS_MAX)) is not None:
        _refuse("a search", {"after": after, **times})
        wanted = SearchQuery(
            words,
            limit or LIST_DEFAULT,
            conversation_id=conversation,
            scope=wanted_scope if conversation is None else None,
            role=role,
            before=before,
        )
        return await _search(ctx, wanted, limit, room)
    if conversation is None:
        _refuse("the list of conversations", {"after": after, "role": role, **times})
        return await _list(ctx, wanted_scope, before, limit, room)
    page_query = MessageQuery(
        conversation_id=conversation,
        limit=limit or PAGE_MESSAGES_DEFAULT,
        newest=order == "newest",
        before=before,
        after=after,
        role=role,
        since_us=parse_time(times["since"], "since") if times["since"] else None,
        until_us=parse_time(times["until"], "until") if times["until"] else None,
    )
    same = {"conversation_id": conversation, "role": role, **times, "limit": limit}
    return await _page(ctx, page_query, same, offset, room)


def _check(order: str, role: str | None, limit: int | None, positions: Mapping[str, int | None]) -> None:
    if order not in ("newest", "oldest"):
        raise BadInput(f"order is {echoed(order)}; use newest or oldest")
    if role is not None and role not in ROLES:
        raise BadInput(f"role is {echoed(role)}; use one of: {', '.join(ROLES)}")
    if limit is not None and not 1 <= limit <= PAGE_MESSAGES_MAX:
        raise BadInput(f"limit is {echoed(limit)}; give a number from 1 to {PAGE_MESSAGES_MAX}")
    for name, value in positions.items():
        if value is not None and not 0 <= value < 2**63:
            raise BadInput(f"{name} is {echoed(value)}; give a whole number from 0")


def _refuse(what: str, given: Mapping[str, object]) -> None:
    # Passed over in silence, they would make an answer look like one to another question.
    if unused := [name for name, value in given.items() if value is not None]:
        raise BadInput(f"{what} does not take {', '.join(unused)}; leave that out, or give a conversation_id")


def call(**arguments: object) -> str:
    """`get_history(...)` as an instance would write it; what is None is left out."""
    said = (f"{name}={json.dumps(value)}" for name, value in arguments.items() if value is not None)
    return f"get_history({', '.join(said)})"


# ---- a page --------------------------------------------------------------------------------------------


async def _page(
    ctx: Context, query: MessageQuery, same: Mapping[str, object], offset: int, room: int
) -> History:
    """One page; `same` are the arguments that the calls in `left_out` repeat."""
    page = await ctx.store.page(query)
    if all(message.text is None for message in page.messages):
        await require_conversation(ctx, query.conversation_id)  # refuses an erased one
    kept, dropped = _fit(page.messages, query.newest, offset, room)
    older = page.older + (dropped if query.newest else 0)
    newer = page.newer + (0 if query.newest else dropped)
    return {
        "conversation_id": query.conversation_id,
        "total": page.total,
        "messages": kept,
        "hits": [],
        "conversations": [],
        "left_out": _left_out(same, kept, offset, older, newer),
    }


def _fit(
    messages: tuple[Message, ...], newest: bool, offset: int, room: int
) -> tuple[list[HistoryMessage], int]:
    """As many whole messages as fit, from the end that was asked for; a single long one is cut."""
    kept: list[HistoryMessage] = []
    for message in reversed(messages) if newest else messages:
        whole = _message(message, message.text[offset:] if message.text and not kept else message.text)
        cost = chars_of(whole)
        if cost > room and kept:
            break
        if cost > room and whole["text"]:
            text = whole["text"]
            whole["text"] = _cut(text, room - (cost - chars_of(text)))
            whole["cut"] = len(text) - len(whole["text"])
        kept.append(whole)
        room -= cost
    if newest:
        kept.reverse()
    return kept, len(messages) - len(kept)


def chars_of(value: object) -> int:
    """What `value` costs of RESULT_CHARS_MAX: clients count UTF-16 units of its JSON, and tokens.

    25,000 tokens are their other limit; at three bytes each, text of three bytes a character reaches it
    first, so a byte counts as 0.6 of a character at the least.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return max(len(text.encode("utf-16-le")) // 2, len(text.encode()) * 3 // 5)


def _cut(text: str, room: int) -> str:
    shown = text[: max(1, room)]
    while (cost := chars_of(shown)) > room and len(shown) > 1:
        shown = shown[: max(1, min(len(shown) - 1, len(shown) * room // cost))]
    return shown


def _message(message: Message, text: str | None) -> HistoryMessage:
    return {
        "seq": message.seq,
        "n": message.n,
        "at": iso(shown_us(message)),
        "role": message.role,
        "name": message.name,
        "text": text,
        "cut": 0,
    }


def _left_out(
    same: Mapping[str, object], kept: list[HistoryMessage], offset: int, older: int, newer: int
) -> str | None:
    if not kept:
        return f"{older + newer} lie outside before/after: {call(**same)}" if older + newer else None
    notes = []
    if older:
        notes.append(f"{older} older: {call(**same, before=kept[0]['seq'])}")
    if newer:
        notes.append(f"{newer} newer: {call(**same, after=kept[-1]['seq'], order='oldest')}")
    for message in kept:
        if message["cut"]:
            shown = offset + len(message["text"] or "")
            rest = call(
                conversation_id=same["conversation_id"], before=message["seq"] + 1, limit=1, offset=shown
            )
            notes.append(f"message {message['n']} goes on for {message['cut']} characters: {rest}")
    return "; ".join(notes) or None


# ---- a search, the list --------------------------------------------------------------------------------


async def _search(ctx: Context, query: SearchQuery, limit: int | None, room: int) -> History:
    """The newest hits; `limit` is the one that the call in `left_out` repeats."""
    if query.conversation_id is not None:
        await require_conversation(ctx, query.conversation_id)
    found = await ctx.store.search(query)
    older = {
        "query": query.text,
        "conversation_id": query.conversation_id,
        "role": query.role,
        "limit": limit,
    }
    room -= chars_of(call(**older))
    hits: list[HistoryHit] = []
    for match in found.hits:
        message = match.message
        hit: HistoryHit = {
            "seq": message.seq,
            "conversation_id": message.conversation_id,
            "n": message.n,
            "at": iso(shown_us(message)),
            "role": message.role,
            "excerpt": match.excerpt[:EXCERPT_CHARS_MAX],
        }
        room -= chars_of(hit)
        if room < 0 and hits:
            break
        hits.append(hit)
    rest = found.more or len(hits) < len(found.hits)
    return {
        "conversation_id": query.conversation_id,
        "total": len(hits),
        "messages": [],
        "hits": hits,
        "conversations": [],
        "left_out": f"older matches exist: {call(**older, before=hits[-1]['seq'])}{AROUND_A_HIT}"
        if rest and hits
        else None,
    }


async def _list(ctx: Context, scope: str | None, before: int | None, limit: int | None, room: int) -> History:
    most = min(limit or LIST_DEFAULT, PAGE_CONVERSATIONS_MAX)
    found = await ctx.store.conversations(ConversationQuery(most + 1, scope=scope, before=before))
    shown: list[HistoryConversation] = []
    for item in found[:most]:
        room -= chars_of(listed(item))
        if room < 0 and shown:
            break
        shown.append(listed(item))
    last = found[len(shown) - 1].last_seq if shown else None
    return {
        "conversation_id": None,
        "total": len(shown),
        "messages": [],
        "hits": [],
        "conversations": shown,
        "left_out": f"older conversations exist: {call(before=last, limit=limit)}"
        if len(found) > len(shown)
        else None,
    }
