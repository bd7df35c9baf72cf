"""`load_plate`: what an instance is given so that it can go on where others stopped."""

from __future__ import annotations

from typing import Final, NamedTuple

from ccn_mcp.domain import instances
from ccn_mcp.domain.erasure import SESSION
from ccn_mcp.domain.errors import BadInput, StoreMoved
from ccn_mcp.domain.instances import Event, Instance, State, group_of
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import (
    CONTEXT_TOKENS_DEFAULT,
    CONTEXT_TOKENS_MAX,
    CONTEXT_TURNS_MAX,
    GUARD_RETRIES_MAX,
    TITLE_CHARS_MAX,
)
from ccn_mcp.domain.models import (
    Conversation,
    ConversationQuery,
    Group,
    Guard,
    Message,
    MessageQuery,
    RecordQuery,
    Seat,
)
from ccn_mcp.domain.prompt import (
    DIRECTIVE_RECEIPT,
    NOTICE_PLATE_CHANGED,
    Delivered,
    Ids,
    Notices,
    Recorder,
    Turn,
    assemble,
)
from ccn_mcp.node.consensus import described_state, has_reported, last_judgement, plate_name
from ccn_mcp.node.context import Caller, Context, echoed, must_record, short_text, shown_us
from ccn_mcp.node.conversations import open_conversation, require_conversation
from ccn_mcp.node.instances import (
    awake,
    described,
    holder_of,
    instance_draft,
    own_seat,
    receipt_hash,
    seat_of,
    seat_of_session,
)
from ccn_mcp.node.plates import PlateInForce, chosen_notice, delivered_plate
from ccn_mcp.node.results import Loaded

RECENT_MESSAGES: Final = 20
RECENT_CONVERSATIONS: Final = 20
"""How far back `load_plate` looks for the last conversation that has messages."""


async def load_plate(
    ctx: Context,
    caller: Caller,
    *,
    instance_id: str | None = None,
    conversation_id: str | None = None,
    session_id: str | None = None,
    model: str | None = None,
    thinking: str | None = None,
    title: str | None = None,
    history_tokens: int | None = None,
) -> Loaded:
    """Open or renew an instance in a conversation and deliver its context.

    Every delivery carries a fresh receipt; its hash is in the log, so that the instance can show later
    that this delivery arrived.

    Raises:
        UnknownInstance, UnknownConversation, InstanceFailed. Excluded: there may be no record of this session.
        BadInput: `history_tokens` out of range, or a name that is too long.
    """
    loaded = await load(
        ctx,
        caller,
        instance_id=instance_id,
        conversation_id=conversation_id,
        session_id=session_id,
        model=model,
        thinking=thinking,
        title=title,
        history_tokens=history_tokens,
    )
    return {
        "text": loaded.context.text,
        "instance_id": loaded.ids.instance_id,
        "conversation_id": loaded.ids.conversation_id,
        "receipt": loaded.ids.receipt,
        "head": loaded.ids.head,
        "tokens": loaded.context.tokens,
        "turns": loaded.context.turns_included,
        "plate": plate_name(loaded.plate),
        "directive": loaded.directive or None,
    }


class Loading(NamedTuple):
    """One delivery, before it is put into the words of a tool's result."""

    context: Delivered
    ids: Ids
    plate: PlateInForce
    directive: str


async def load(
    ctx: Context,
    caller: Caller,
    *,
    instance_id: str | None = None,
    conversation_id: str | None = None,
    session_id: str | None = None,
    model: str | None = None,
    thinking: str | None = None,
    title: str | None = None,
    history_tokens: int | None = None,
    recorder: Recorder | None = None,
) -> Loading:
    """What `load_plate` does, for programs of ours too, which know who records (`recorder`).

    Where that is the program itself, it carries the conversation: there are no tools to name, and the conversation's
    own turns are sent as turns, not quoted. Where it is a hook, the session that is named will be a hook's, and
    whatever is recorded of it goes into this conversation.

    Raises:
        As `load_plate`.
    """
    must_record(ctx)
    budget = CONTEXT_TOKENS_DEFAULT if history_tokens is None else history_tokens
    if not 0 <= budget <= CONTEXT_TOKENS_MAX:
        raise BadInput(f"history_tokens is {echoed(budget)}; give a number from 0 to {CONTEXT_TOKENS_MAX}")
    heading = short_text(title, "title", TITLE_CHARS_MAX)
    session = short_text(session_id, "session_id") or caller.session_id
    wanted = short_text(conversation_id, "conversation_id")
    if wanted is not None:
        await require_conversation(ctx, wanted)
    seat = await _seat(ctx, caller, short_text(instance_id, "instance_id"), session)
    before = Instance.from_body(seat.snapshot) if seat is not None else None
    if before is not None:
        instances.may_load(before)
    described(before or _nobody(caller), client=caller.client, model=model, thinking=thinking)  # raises early
    conversation = wanted or (before.conversation_id if before is not None else None)
    if conversation is None:
        conversation = await open_conversation(ctx, caller, session=session, title=heading)
    plate = await delivered_plate(ctx, caller)
    receipt = ctx.entropy.name("r")
    instance, head = await _deliver(
        ctx,
        caller,
        before,
        conversation,
        session,
        plate,
        receipt,
        model=model,
        thinking=thinking,
        binds=recorder is Recorder.HOOK and wanted is not None,
    )
    ids = Ids(instance.id, conversation, head, receipt)
    context = await _assemble(ctx, instance, seat, plate, budget, ids, recorder)
    return Loading(context, ids, plate, _directive(instance))


async def _seat(ctx: Context, caller: Caller, instance_id: str | None, session: str | None) -> Seat | None:
    if instance_id is not None:
        return await awake(ctx, await own_seat(ctx, caller, instance_id))
    found = await seat_of_session(ctx, caller, session) if session is not None else None
    return await awake(ctx, found) if found is not None else None


def _nobody(caller: Caller) -> Instance:
    return instances.opened("i", caller.principal)


async def _deliver(
    ctx: Context,
    caller: Caller,
    before: Instance | None,
    conversation: str,
    session: str | None,
    plate: PlateInForce,
    receipt: str,
    *,
    model: str | None,
    thinking: str | None,
    binds: bool,
) -> tuple[Instance, str]:
    """Append the instance's next snapshot; returns it with the head of the log.

    `binds`: the entry takes the key under which the session would open a conversation of its own, so everybody who
    asks for the session's conversation finds this one.
    """
    now = ctx.now_us()
    if plate.seq is None:
        raise AssertionError("a delivered Plate is in the log")
    moved = before is None or before.conversation_id != conversation
    held = await holder_of(ctx, caller, conversation, before.id if before else None) if moved else None
    opened = instances.opened(
        ctx.entropy.name("i"), caller.principal, scope=ctx.settings.scope, client=caller.client
    )
    for attempt in range(GUARD_RETRIES_MAX):
        size = (await ctx.store.info()).head.size
        if before is not None:
            before = Instance.from_body((await seat_of(ctx, before.id)).snapshot)
        known, _ = described(before or opened, client=caller.client, model=model, thinking=thinking)
        known = instances.corrected(known, session_id=session, conversation_id=conversation)
        known = instances.handed_over(known, held) if moved else known
        instance = instances.loaded(known, plate_seq=plate.seq, nonce_hash=receipt_hash(receipt) or "")
        drafts = [instance_draft(instance, Event.LOADED, now)]
        if before is None:
            drafts.insert(0, instance_draft(known, Event.OPENED, now))
        if binds:
            drafts[0].body["key"] = f"{SESSION}{session}"
        # A snapshot that was read before an evaluation flagged the instance would take the flag away. In a
        # crowd the last attempt goes without the guard: a flag comes back with the next report.
        guarded = before is not None and attempt < GUARD_RETRIES_MAX - 1
        guard = Guard((Kind.INSTANCE,), size) if guarded else None
        try:
            done = await ctx.store.append(Group(tuple(drafts), guard=guard, touch={instance.id: now}))
        except StoreMoved:
            continue
        ctx.seen_us[instance.id] = now
        return instance, str(done.head)
    raise StoreMoved("other writers kept coming first; nothing was delivered, call load_plate again")


async def _assemble(
    ctx: Context,
    instance: Instance,
    before: Seat | None,
    plate: PlateInForce,
    budget: int,
    ids: Ids,
    recorder: Recorder | None,
) -> Delivered:
    own = await require_conversation(ctx, ids.conversation_id)
    shown, others = await _conversation_to_show(ctx, own)
    by_program = recorder is Recorder.PROGRAM
    if by_program and shown == own.id:
        shown = None
    messages: tuple[Message, ...] = ()
    earlier = 0
    if shown is not None:
        page = await ctx.store.page(MessageQuery(shown, CONTEXT_TURNS_MAX if budget else 1))
        messages = page.messages if budget else ()
        earlier = page.total - len(messages)
    return assemble(
        plate.plate,
        await _state(ctx, instance, before),
        [
            Turn(message.seq, message.role, message.text or "", message.text is None, shown_us(message))
            for message in messages
        ],
        budget_tokens=budget,
        deltas=await _deltas(ctx, before),
        # The ids of the session come first; what history was shown may be another conversation's.
        ids=None if by_program else ids,
        history_of=shown or ids.conversation_id,
        notices=Notices(
            now_us=ctx.now_us(),
            recorder=recorder or await _recorder(ctx, own),
            lines=await _lines(ctx, before, plate, [] if by_program else others),
            directive="" if by_program else _directive(instance),
            earlier_turns=earlier,
        ),
    )


async def _recorder(ctx: Context, own: Conversation) -> Recorder:
    """Who records: a hook, if it opened this conversation or wrote one of its newest messages.

    Another conversation's hook says nothing about this client: told so, it would record nothing.
    """
    opening = await ctx.store.records(RecordQuery(kinds=(Kind.CONVERSATION,), seqs=(own.seq,)))
    if opening and opening[0].body is not None and opening[0].body.get("source") == "hook":
        return Recorder.HOOK
    newest = await ctx.store.page(MessageQuery(own.id, RECENT_MESSAGES)) if own.messages else None
    hooked = newest is not None and any(message.source == "hook" for message in newest.messages)
    return Recorder.HOOK if hooked else Recorder.INSTANCE


async def _conversation_to_show(ctx: Context, own: Conversation) -> tuple[str | None, list[Conversation]]:
    """This conversation if it has messages, else the last one of the scope that has; and the others."""
    recent = await ctx.store.conversations(ConversationQuery(RECENT_CONVERSATIONS, scope=ctx.settings.scope))
    others = [item for item in recent if item.messages and item.id != own.id]
    if own.messages:
        return own.id, others
    return (others[0].id, others[1:]) if others else (None, [])


async def _state(ctx: Context, instance: Instance, before: Seat | None) -> tuple[str, ...]:
    """The consensus in words, for an instance that had reported before this load; nothing for others."""
    if before is None or not await has_reported(ctx, before):
        return ()
    last = await last_judgement(ctx, group_of(instance))
    return tuple(described_state(last.recorded.consensus)) if last is not None else ()


async def _deltas(ctx: Context, before: Seat | None) -> tuple[str, ...]:
    if before is None:
        return ()
    recent = await ctx.store.conversations(ConversationQuery(RECENT_CONVERSATIONS, scope=ctx.settings.scope))
    active = [item for item in recent if item.last_seq > before.snapshot_seq and item.messages]
    if not active:
        return ()
    return (
        f"new messages in {len(active)} conversation(s), ids: {', '.join(item.id for item in active[:5])}",
    )


async def _lines(
    ctx: Context, before: Seat | None, plate: PlateInForce, others: list[Conversation]
) -> tuple[str, ...]:
    lines: list[str] = []
    old_seq = before.snapshot.get("plate_seq") if before is not None else None
    if isinstance(old_seq, int) and old_seq != plate.seq:
        old = await ctx.store.records(RecordQuery(kinds=(Kind.PLATE,), seqs=(old_seq,)))
        version = old[0].body.get("version") if old and old[0].body else "unknown"
        lines.append(NOTICE_PLATE_CHANGED.format(old=version, new=plate.plate.version))
    if said := chosen_notice(ctx, plate):
        lines.append(said)
    if others:
        lines.append(f"other conversations of this scope: {len(others)}; get_history() lists them")
    return tuple(lines)


def _directive(instance: Instance) -> str:
    if instance.state is State.DRIFTED:
        return DIRECTIVE_RECEIPT.format(instance_id=instance.id)
    return ""
