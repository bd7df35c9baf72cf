"""Recording messages and reading them back."""

from __future__ import annotations

from ccn_mcp.domain.errors import BadInput, EmptyContent, TooLarge, UnknownConversation, UnknownRole
from ccn_mcp.domain.jcs import check_text
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import (
    CONTENT_BYTES_MAX,
    PAGE_CONVERSATIONS_MAX,
    PAGE_MESSAGES_DEFAULT,
    PAGE_MESSAGES_MAX,
    QUERY_CHARS_MAX,
    RESULT_CHARS_MAX,
    TITLE_CHARS_MAX,
)
from ccn_mcp.domain.models import (
    ROLES,
    ROLES_CALLER,
    Body,
    Conversation,
    ConversationQuery,
    Draft,
    Group,
    Message,
    MessageQuery,
    RecordQuery,
    SearchQuery,
)
from ccn_mcp.node.context import Caller, Context, iso, parse_time, short_text
from ccn_mcp.node.instances import lease_drafts
from ccn_mcp.node.results import History, HistoryConversation, HistoryHit, HistoryMessage, Recorded

_OWN_KEYS = "ccn:"
MESSAGE_OVERHEAD_CHARS = 160
"""What a message costs in a result besides its text."""


async def record_message(
    ctx: Context,
    caller: Caller,
    *,
    role: str,
    content: str,
    conversation_id: str | None = None,
    session_id: str | None = None,
    instance_id: str | None = None,
    name: str | None = None,
    idempotency_key: str | None = None,
) -> Recorded:
    """Append one message; durable when this returns.

    Raises:
        UnknownRole, EmptyContent, TooLarge, BadText, BadInput: nothing was stored.
        UnknownConversation, UnknownInstance, IdempotencyConflict: nothing was stored.
    """
    checked = check_content(content)
    check_role(role, caller)
    key = short_text(idempotency_key, "idempotency_key")
    if key is not None and key.startswith(_OWN_KEYS):
        raise BadInput(f"idempotency keys that begin with {_OWN_KEYS!r} are the server's own; choose another")
    instance = short_text(instance_id, "instance_id")
    conversation = await _conversation_for(
        ctx, caller, short_text(conversation_id, "conversation_id"), session_id, instance
    )
    body: Body = {
        "conversation": conversation,
        "principal": caller.principal,
        "role": role,
        "source": caller.source,
        "text": checked,
    }
    if instance is not None:
        body["instance"] = instance
    if (speaker := short_text(name, "name")) is not None:
        body["name"] = speaker
    if key is not None:
        body["key"] = key
    now = ctx.now_us()
    leases = await lease_drafts(ctx, instance, now)
    done = await ctx.store.append(
        Group((Draft(Kind.MESSAGE, now, body), *leases), touch={instance: now} if instance else {})
    )
    receipt = done.receipts[0]
    if instance:
        ctx.seen_us[instance] = now
    return {
        "conversation_id": conversation,
        "seq": receipt.seq,
        "n": receipt.n or 0,
        "head": str(done.head),
        "already_recorded": receipt.replayed,
        "notice": None,
    }


def check_content(content: str) -> str:
    """A message's text, byte for byte as it came.

    Raises:
        EmptyContent, TooLarge, BadText.
    """
    if not content.strip():
        raise EmptyContent("content is empty; there is nothing to record")
    check_text(content, "content")
    size = len(content.encode("utf-8"))
    if size > CONTENT_BYTES_MAX:
        raise TooLarge(
            f"content has {size:,} bytes; one message holds at most {CONTENT_BYTES_MAX:,}. "
            "Split it, or keep it in a file and record where it is"
        )
    return content


def check_role(role: str, caller: Caller) -> None:
    """System and tool messages come from hooks and imports only.

    Raises:
        UnknownRole.
    """
    allowed = ROLES if caller.source in ("hook", "import", "python") else ROLES_CALLER
    if role not in allowed:
        raise UnknownRole(f"role is {role!r}; use one of: {', '.join(allowed)}")


async def _conversation_for(
    ctx: Context, caller: Caller, conversation: str | None, session_id: str | None, instance: str | None
) -> str:
    if conversation is not None:
        return conversation
    session = short_text(session_id, "session_id") or caller.session_id
    if session is None and instance is not None:
        seats = await ctx.store.seats(instance_id=instance)
        if seats and isinstance(known := seats[0].snapshot.get("conversation"), str):
            return known
    return await open_conversation(ctx, caller, session=session)


async def open_conversation(
    ctx: Context,
    caller: Caller,
    *,
    session: str | None = None,
    title: str | None = None,
    scope: str | None = None,
) -> str:
    """The conversation of this session, opened if there is none yet; without a session always a new one.

    Two processes that open the same session at once get the same conversation: the key decides.
    """
    if session is not None and (found := await conversation_of(ctx, caller, session)) is not None:
        return found
    body: Body = {
        "conversation": ctx.entropy.name("c"),
        "principal": caller.principal,
        "scope": scope or ctx.settings.scope,
        "source": caller.source,
    }
    if session is not None:
        body["session"] = session
        body["key"] = f"{_OWN_KEYS}session:{session}"
    if (heading := short_text(title, "title", TITLE_CHARS_MAX)) is not None:
        body["title"] = heading
    done = await ctx.store.append(Group((Draft(Kind.CONVERSATION, ctx.now_us(), body),)))
    return str(done.receipts[0].body["conversation"])


async def conversation_of(ctx: Context, caller: Caller, session: str) -> str | None:
    """The conversation that this client session opened, if any."""
    query = RecordQuery(principal=caller.principal, key=f"{_OWN_KEYS}session:{session}")
    for record in await ctx.store.records(query):
        if record.body is not None and isinstance(found := record.body.get("conversation"), str):
            return found
    return None


async def require_conversation(ctx: Context, conversation: str) -> Conversation:
    """The conversation with this id.

    Raises:
        UnknownConversation.
    """
    found = await ctx.store.conversations(ConversationQuery(limit=1, id=conversation))
    if not found:
        raise UnknownConversation(
            f"there is no conversation {conversation!r} in this store; leave conversation_id out to open "
            "a new one, or call get_history without arguments to list the existing ones"
        )
    return found[0]


# ---- reading -------------------------------------------------------------------------------------------


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

    `scope` None means the node's own; `"*"` means every scope.

    Raises:
        BadInput: an argument that cannot be used. UnknownConversation.
    """
    if order not in ("newest", "oldest"):
        raise BadInput(f"order is {order!r}; use newest or oldest")
    if role is not None and role not in ROLES:
        raise BadInput(f"role is {role!r}; use one of: {', '.join(ROLES)}")
    for name, value in (("before", before), ("after", after), ("offset", offset)):
        if value is not None and not 0 <= value < 2**63:
            raise BadInput(f"{name} is {value}; give a whole number from 0")
    wanted_scope = None if scope == "*" else scope or ctx.settings.scope
    conversation = short_text(conversation_id, "conversation_id")
    if query is not None and query.strip():
        words = short_text(query, "query", QUERY_CHARS_MAX) or ""
        return await _search(ctx, words, conversation, wanted_scope, role, _limited(limit, 20), chars_max)
    if conversation is None:
        return await _list(ctx, wanted_scope, before, _limited(limit, 20), chars_max)
    page_query = MessageQuery(
        conversation_id=conversation,
        limit=_limited(limit, PAGE_MESSAGES_DEFAULT),
        newest=order == "newest",
        before=before,
        after=after,
        role=role,
        since_us=parse_time(since, "since") if since else None,
        until_us=parse_time(until, "until") if until else None,
    )
    return await _page(ctx, page_query, offset, chars_max)


def _limited(limit: int | None, default: int) -> int:
    if limit is None:
        return default
    if not 1 <= limit <= PAGE_MESSAGES_MAX:
        raise BadInput(f"limit is {limit}; give a number from 1 to {PAGE_MESSAGES_MAX}")
    return limit


async def _page(ctx: Context, query: MessageQuery, offset: int, chars_max: int) -> History:
    page = await ctx.store.page(query)
    kept, dropped = _fit(page.messages, query.newest, offset, chars_max)
    older = page.older + (dropped if query.newest else 0)
    newer = page.newer + (0 if query.newest else dropped)
    return {
        "conversation_id": query.conversation_id,
        "total": page.total,
        "messages": kept,
        "hits": [],
        "conversations": [],
        "left_out": _left_out(kept, older, newer),
    }


def _fit(
    messages: tuple[Message, ...], newest: bool, offset: int, chars_max: int
) -> tuple[list[HistoryMessage], int]:
    """As many whole messages as fit, from the end that was asked for; a single long one is cut."""
    kept: list[HistoryMessage] = []
    left = chars_max
    for message in reversed(messages) if newest else messages:
        text = message.text
        if text is not None and not kept:
            text = text[offset:]
        # What JSON makes of it: quotes, backslashes and newlines cost two characters, controls six.
        cost = MESSAGE_OVERHEAD_CHARS + _json_chars(text or "")
        if cost > left and kept:
            break
        cut = offset if offset and not kept else 0
        if cost > left and text is not None:
            shown = _cut(text, left - MESSAGE_OVERHEAD_CHARS)
            cut += len(text) - len(shown)
            text = shown
        kept.append(_message(message, text, cut))
        left -= cost
    if newest:
        kept.reverse()
    return kept, len(messages) - len(kept)


def _json_chars(text: str) -> int:
    escapes = text.count('"') + text.count("\\") + text.count("\n") + text.count("\t") + text.count("\r")
    return len(text) + escapes


def _cut(text: str, room: int) -> str:
    shown = text[: max(0, room)]
    while (over := _json_chars(shown) - room) > 0:
        shown = shown[: len(shown) - max(1, over // 2)]
    return shown


def _message(message: Message, text: str | None, cut: int) -> HistoryMessage:
    return {
        "seq": message.seq,
        "n": message.n,
        "at": iso(message.time_us),
        "role": message.role,
        "name": message.name,
        "text": text,
        "cut": cut,
    }


def _left_out(kept: list[HistoryMessage], older: int, newer: int) -> str | None:
    notes = []
    if older and kept:
        notes.append(f"{older} older: call again with before={kept[0]['seq']}")
    if newer and kept:
        notes.append(f"{newer} newer: call again with after={kept[-1]['seq']}, order=oldest")
    if not kept and older + newer:
        notes.append(f"{older} older and {newer} newer lie outside before/after")
    notes += [
        f"message {message['n']} is cut by {message['cut']} characters: "
        f"call again with before={message['seq'] + 1}, limit=1, offset=N to start at character N"
        for message in kept
        if message["cut"]
    ]
    return "; ".join(notes) or None


async def _search(
    ctx: Context,
    words: str,
    conversation: str | None,
    scope: str | None,
    role: str | None,
    limit: int,
    chars_max: int,
) -> History:
    if conversation is not None:
        await require_conversation(ctx, conversation)
        scope = None
    found = await ctx.store.search(
        SearchQuery(words, limit, conversation_id=conversation, scope=scope, role=role)
    )
    hits: list[HistoryHit] = []
    left = chars_max
    for hit in found.hits:
        message = hit.message
        excerpt = hit.excerpt[:1_000]
        left -= MESSAGE_OVERHEAD_CHARS + _json_chars(excerpt)
        if left < 0 and hits:
            break
        hits.append(
            {
                "seq": message.seq,
                "conversation_id": message.conversation_id,
                "n": message.n,
                "at": iso(message.time_us),
                "role": message.role,
                "excerpt": excerpt,
            }
        )
    more = found.more or len(hits) < len(found.hits)
    return {
        "conversation_id": conversation,
        "total": len(hits),
        "messages": [],
        "hits": hits,
        "conversations": [],
        "left_out": "older matches exist: add a word or raise limit; "
        "read around a hit with its conversation_id and before/after"
        if more
        else None,
    }


async def _list(ctx: Context, scope: str | None, before: int | None, limit: int, chars_max: int) -> History:
    limit = min(limit, PAGE_CONVERSATIONS_MAX)
    found = await ctx.store.conversations(ConversationQuery(limit + 1, scope=scope, before=before))
    shown = found[:limit]
    while shown and len(shown) * (MESSAGE_OVERHEAD_CHARS + TITLE_CHARS_MAX) > chars_max:
        shown = shown[:-1]
    return {
        "conversation_id": None,
        "total": len(shown),
        "messages": [],
        "hits": [],
        "conversations": [listed(item) for item in shown],
        "left_out": f"older conversations exist: call again with before={shown[-1].last_seq}"
        if len(found) > len(shown) and shown
        else None,
    }


def listed(item: Conversation) -> HistoryConversation:
    """A conversation as the list shows it."""
    return {
        "conversation_id": item.id,
        "title": item.title,
        "scope": item.scope,
        "messages": item.messages,
        "last_at": iso(item.last_us),
    }
