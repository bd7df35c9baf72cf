"""Conversations: finding or opening one, and recording messages in it. Reading them back is in `history.py`."""

from __future__ import annotations

from ccn_mcp.domain.errors import BadInput, EmptyContent, TooLarge, UnknownConversation, UnknownRole
from ccn_mcp.domain.jcs import check_text
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import CONTENT_BYTES_MAX, TITLE_CHARS_MAX
from ccn_mcp.domain.models import (
    ROLES,
    ROLES_CALLER,
    Body,
    Conversation,
    ConversationQuery,
    Draft,
    Group,
    Record,
    RecordQuery,
)
from ccn_mcp.node.context import Caller, Context, echoed, iso, short_text
from ccn_mcp.node.instances import lease_drafts, seat_of
from ccn_mcp.node.results import HistoryConversation, Recorded

SESSIONS_KEPT_MAX = 1_024
_OWN_KEYS = "ccn:"


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
    key = caller_key(idempotency_key)
    speaker = short_text(name, "name")
    instance = short_text(instance_id, "instance_id")
    # Whatever can be refused is refused before a conversation is opened for it.
    leases = await lease_drafts(ctx, instance, ctx.now_us())
    named, session = short_text(conversation_id, "conversation_id"), short_text(session_id, "session_id")
    conversation = await _conversation_for(ctx, caller, named, session, instance, key)
    # After the conversation was opened, so that the log's times go forward.
    now = ctx.now_us()
    body: Body = {
        "conversation": conversation,
        "principal": caller.principal,
        "role": role,
        "source": caller.source,
        "text": checked,
    }
    if instance is not None:
        body["instance"] = instance
    if speaker is not None:
        body["name"] = speaker
    if key is not None:
        body["key"] = key
    group = Group((Draft(Kind.MESSAGE, now, body), *leases), touch={instance: now} if instance else {})
    try:
        done = await ctx.store.append(group)
    except UnknownConversation:
        ctx.sessions.clear()  # another store is in this one's place; the next call looks again
        raise
    receipt = done.receipts[0]
    if instance and not receipt.replayed:
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
        raise EmptyContent("content is empty; there is nothing to record, so leave this message out")
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
        raise UnknownRole(f"role is {echoed(role)}; use one of: {', '.join(allowed)}")


def caller_key(idempotency_key: str | None) -> str | None:
    """A caller's idempotency key.

    Raises:
        BadInput: too long, or one of the server's own.
    """
    key = short_text(idempotency_key, "idempotency_key")
    if key is not None and key.startswith(_OWN_KEYS):
        raise BadInput(f"idempotency keys that begin with {_OWN_KEYS!r} are the server's own; choose another")
    return key


async def recorded_under(ctx: Context, caller: Caller, key: str | None) -> Record | None:
    """The entry that the caller's key was used for, if any."""
    if key is None:
        return None
    found = await ctx.store.records(RecordQuery(principal=caller.principal, key=key))
    return found[0] if found else None


async def _conversation_for(
    ctx: Context,
    caller: Caller,
    conversation: str | None,
    session: str | None,
    instance: str | None,
    key: str | None,
) -> str:
    """The conversation that was named, else the session's, the instance's, the first try's, a new one.

    A session id of the call itself goes before the instance, the one of the client's environment after it:
    that one may be stale, and an instance may have been asked to continue another conversation.
    """
    if conversation is not None:
        return conversation
    if session is None and instance is not None:
        seat = await seat_of(ctx, instance)
        if isinstance(known := seat.snapshot.get("conversation"), str):
            return known
    session = session or caller.session_id
    if session is not None and (found := await conversation_of(ctx, caller, session)) is not None:
        return found
    if (first := await recorded_under(ctx, caller, key)) is not None and first.body is not None:
        # A retry finds its own conversation again. Opening another would make it a conflict.
        return str(first.body.get("conversation", ""))
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
    if (known := ctx.sessions.get((caller.principal, session))) is not None:
        return known
    query = RecordQuery(principal=caller.principal, key=f"{_OWN_KEYS}session:{session}")
    for record in await ctx.store.records(query):
        if record.body is not None and isinstance(found := record.body.get("conversation"), str):
            if len(ctx.sessions) >= SESSIONS_KEPT_MAX:
                ctx.sessions.clear()
            ctx.sessions[caller.principal, session] = found
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


def listed(item: Conversation) -> HistoryConversation:
    """A conversation as the list shows it."""
    return {
        "conversation_id": item.id,
        "title": item.title,
        "scope": item.scope,
        "messages": item.messages,
        "last_at": iso(item.last_us),
    }
