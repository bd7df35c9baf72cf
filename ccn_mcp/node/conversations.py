"""Conversations: finding or opening one, and recording messages in it. Reading them back is in `history.py`."""

from __future__ import annotations

from ccn_mcp.domain.erasure import AFTER, SESSION, SESSION_CONVERSATIONS_MAX
from ccn_mcp.domain.errors import (
    BadInput,
    Conflict,
    ConversationErased,
    EmptyContent,
    IdempotencyConflict,
    TooLarge,
    UnknownConversation,
    UnknownRole,
)
from ccn_mcp.domain.jcs import check_text
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.limits import CONTENT_BYTES_MAX, TITLE_CHARS_MAX
from ccn_mcp.domain.masking import mask
from ccn_mcp.domain.models import (
    ROLES,
    ROLES_CALLER,
    Body,
    Conversation,
    ConversationQuery,
    Draft,
    Group,
    MessageQuery,
    Record,
    RecordQuery,
)
from ccn_mcp.node.context import Caller, Context, echoed, iso, must_record, short_text
from ccn_mcp.node.instances import lease_drafts, own_seat
from ccn_mcp.node.results import HistoryConversation, Recorded

SESSIONS_KEPT_MAX = 1_024
HOOKED_MESSAGES_MAX = 20
"""How far back a message that a hook has recorded is looked for, when the model records it too."""

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
        UnknownConversation, UnknownInstance, IdempotencyConflict, Excluded: nothing was stored.
    """
    must_record(ctx)
    checked, masked = mask(check_content(content))
    check_role(role, caller)
    key = caller_key(idempotency_key)
    speaker = short_text(name, "name")
    instance = short_text(instance_id, "instance_id")
    # Whatever can be refused is refused before a conversation is opened for it.
    leases = await lease_drafts(ctx, instance, ctx.now_us())
    named, session = short_text(conversation_id, "conversation_id"), short_text(session_id, "session_id")
    conversation = await _conversation_for(ctx, caller, named, session, instance, key)
    hooked = ctx.settings.hooks and caller.source == "tool"
    if hooked and (twin := await _of_hook(ctx, conversation, role, checked)) is not None:
        return twin
    # After the conversation was opened, so that the log's times go forward.
    now = ctx.now_us()
    body: Body = {
        "conversation": conversation,
        "principal": caller.principal,
        "role": role,
        "source": caller.source,
        "text": checked,
    }
    body |= {at: value for at, value in (("instance", instance), ("name", speaker), ("key", key)) if value}
    if masked:
        body["masked"] = dict(masked)
    touch = {instance: now} if instance else {}
    try:
        done = await ctx.store.append(Group((Draft(Kind.MESSAGE, now, body), *leases), touch=touch))
    except UnknownConversation as error:
        ctx.sessions.clear()  # another store is in this one's place; the next call looks again
        if named is not None or not isinstance(error, ConversationErased):
            raise
        # What was erased stays closed; what is said anew in its session goes into another one.
        conversation = await open_conversation(ctx, caller, session=session or caller.session_id)
        body = {**body, "conversation": conversation}
        done = await ctx.store.append(Group((Draft(Kind.MESSAGE, now, body), *leases), touch=touch))
    receipt = done.receipts[0]
    if instance and not receipt.replayed:
        ctx.seen_us[instance] = now
    return _recorded(conversation, receipt.seq, receipt.n or 0, done.head, already=receipt.replayed)


def _recorded(conversation: str, seq: int, n: int, head: Head, *, already: bool) -> Recorded:
    return {
        "conversation_id": conversation,
        "seq": seq,
        "n": n,
        "head": str(head),
        "already_recorded": already,
        "notice": None,
    }


async def _of_hook(ctx: Context, conversation: str, role: str, text: str) -> Recorded | None:
    """The answer to what a hook has just recorded in this conversation; the other way: `interop/recording.py`.

    Where a hook records, it records everything, so a model that says the same is repeating it.
    """
    try:
        page = await ctx.store.page(MessageQuery(conversation, HOOKED_MESSAGES_MAX))
    except UnknownConversation:
        return None  # the append says it better
    for message in reversed(page.messages):
        if (message.source, message.role, message.text) == ("hook", role, text):
            head = (await ctx.store.info()).head
            return _recorded(conversation, message.seq, message.n, head, already=True)
    return None


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
        seat = await own_seat(ctx, caller, instance)
        if isinstance(known := seat.snapshot.get("conversation"), str):
            return known
    session = session or caller.session_id
    # An erased one too: the store knows what was said there, and refuses what was not.
    found, opening = await _of_session(ctx, caller, session) if session is not None else (None, None)
    if found is not None:
        return found
    if (first := await recorded_under(ctx, caller, key)) is not None and first.body is not None:
        # A retry finds its own conversation again. Opening another would make it a conflict.
        known = str(first.body.get("conversation", ""))
        if await in_scope(ctx, known) or await _is_erased(ctx, known):
            return known
        raise IdempotencyConflict("this idempotency key was used in another project; choose another one")
    return await _open_new(ctx, caller, session, opening)


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

    Raises:
        BadInput, Excluded.
    """
    must_record(ctx)
    key: str | None = None
    if session is not None:
        found, key = await _of_session(ctx, caller, session)
        if key is None and found is not None:
            return found
    return await _open_new(ctx, caller, session, key, title=title, scope=scope)


async def find_conversation(ctx: Context, caller: Caller, session: str) -> tuple[str | None, bool]:
    """The newest conversation of this client session, if any, and whether it is open: an erased one is not.

    Raises:
        Conflict: too many of the session's conversations were erased.
    """
    found, key = await _of_session(ctx, caller, session)
    return found, key is None


async def _open_new(
    ctx: Context,
    caller: Caller,
    session: str | None,
    key: str | None,
    *,
    title: str | None = None,
    scope: str | None = None,
) -> str:
    """A conversation opened under `key`, the one that `_of_session` gave; of two at once both get the first."""
    body: Body = {
        "conversation": ctx.entropy.name("c"),
        "principal": caller.principal,
        "scope": scope or ctx.settings.scope,
        "source": caller.source,
    }
    if session is not None:
        body["session"] = session
        body["key"] = key
    if (heading := short_text(title, "title", TITLE_CHARS_MAX)) is not None:
        body["title"] = heading
    done = await ctx.store.append(Group((Draft(Kind.CONVERSATION, ctx.now_us(), body),)))
    opened = str(done.receipts[0].body["conversation"])
    if session is not None:
        _remember(ctx, caller, session, opened)
    return opened


def _remember(ctx: Context, caller: Caller, session: str, conversation: str) -> None:
    if len(ctx.sessions) >= SESSIONS_KEPT_MAX:
        ctx.sessions.clear()
    ctx.sessions[caller.principal, session] = conversation


async def _of_session(ctx: Context, caller: Caller, session: str) -> tuple[str | None, str | None]:
    """The newest conversation that this client session opened, and None; else the key under which to open one.

    With a key, the conversation that is named was erased: the next one takes its place.

    Raises:
        Conflict: too many of the session's conversations were erased.
    """
    if (known := ctx.sessions.get((caller.principal, session))) is not None:
        return known, None
    newest, key = None, f"{SESSION}{session}"
    for _ in range(SESSION_CONVERSATIONS_MAX):
        records = await ctx.store.records(RecordQuery(principal=caller.principal, key=key))
        found = records[0].body.get("conversation") if records and records[0].body is not None else None
        if not isinstance(found, str):
            return newest, key
        if records[0].kind != Kind.REDACTION:
            _remember(ctx, caller, session, found)
            return found, None
        newest, key = found, f"{AFTER}{found}"
    raise Conflict(
        f"{SESSION_CONVERSATIONS_MAX} conversations of this session were erased; use another session_id"
    )


async def _is_erased(ctx: Context, conversation: str) -> bool:
    found = await ctx.store.conversations(ConversationQuery(1, id=conversation, erased=True))
    return bool(found) and found[0].erased


async def require_conversation(ctx: Context, conversation: str) -> Conversation:
    """The conversation with this id.

    Raises:
        UnknownConversation, ConversationErased.
    """
    found = await ctx.store.conversations(ConversationQuery(limit=1, id=conversation, erased=True))
    if found and found[0].erased:
        raise ConversationErased(
            f"the conversation {conversation!r} was erased by the person: that it was there stays in the record, and "
            "nothing of what was said. Leave conversation_id out to open a new one"
        )
    if not found:
        raise UnknownConversation(
            f"there is no conversation {conversation!r} in this store; leave conversation_id out to open "
            "a new one, or call get_history without arguments to list the existing ones"
        )
    return found[0]


async def in_scope(ctx: Context, conversation: str) -> bool:
    """Whether this conversation is one of the node's own scope."""
    query = ConversationQuery(limit=1, id=conversation, scope=ctx.settings.scope)
    return bool(await ctx.store.conversations(query))


def listed(item: Conversation) -> HistoryConversation:
    """A conversation as the list shows it."""
    return {
        "conversation_id": item.id,
        "title": item.title,
        "scope": item.scope,
        "messages": item.messages,
        "last_at": iso(item.last_us),
    }
