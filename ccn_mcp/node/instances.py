"""Instances: finding one, renewing its lease, delivering the Plate and what goes with it."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from typing import Final

from ccn_mcp.domain import instances
from ccn_mcp.domain.errors import BadInput, CcnError, StoreMoved, UnknownInstance
from ccn_mcp.domain.instances import Event, Instance, State
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import GUARD_RETRIES_MAX, LEASE_TOUCH_S
from ccn_mcp.domain.models import Body, Draft, Group, Guard, Seat
from ccn_mcp.node.context import Caller, Context, must_record
from ccn_mcp.node.rubric import rubric

MODEL_CHARS_MAX = 80
_NO_NAME: Final = re.compile(r"[^\w.:/@+|%\[\]()=,-]+")
HANDOVER_US: Final = 30 * 24 * 3600 * 1_000_000
"""How far back the instance is looked for that had a conversation before."""

LEAVING_MAX: Final = 100
"""Instances that a process ends when it ends, the newest ones; the others age out."""


def instance_draft(instance: Instance, event: Event, now_us: int) -> Draft:
    """A kind 9 entry: the whole snapshot and what happened."""
    body: Body = {**instance.to_body(event)}  # type: ignore[dict-item]  # text, integers and null only
    return Draft(Kind.INSTANCE, now_us, body)


async def seat_of(ctx: Context, instance_id: str) -> Seat:
    """The instance with this id.

    Raises:
        UnknownInstance.
    """
    found = await ctx.store.seats(instance_id=instance_id)
    if not found:
        raise UnknownInstance(
            f"there is no instance {instance_id!r} in this store; "
            "call load_plate without instance_id to open one"
        )
    return found[0]


async def own_seat(ctx: Context, caller: Caller, instance_id: str) -> Seat:
    """The caller's own instance with this id; ids are shown to others, so an id alone is no proof.

    Raises:
        UnknownInstance: there is none, or it is another principal's or another scope's.
    """
    seat = await seat_of(ctx, instance_id)
    if seat.snapshot.get("principal") != caller.principal:
        raise UnknownInstance(
            f"the instance {instance_id!r} is another account's; call load_plate without instance_id to open "
            "your own"
        )
    if seat.snapshot.get("scope") != ctx.settings.scope:
        raise UnknownInstance(
            f"the instance {instance_id!r} is another project's; call load_plate without instance_id to open one here"
        )
    return seat


async def seat_of_session(ctx: Context, caller: Caller, session: str) -> Seat | None:
    """The caller's instance that a client session opened last, if any; it may have left with its process."""
    since = ctx.now_us() - ctx.settings.lease_us
    for seat in await ctx.store.seats(seen_since_us=since):
        known = seat.snapshot
        if known.get("session") != session or known.get("principal") != caller.principal:
            continue
        # One that has failed is passed over: its session goes on with another instance.
        if known.get("state") != State.FAILED and not Instance.from_body(known).gone:
            return seat
    return None


async def awake(ctx: Context, seat: Seat) -> Seat:
    """The seat of an instance that calls: one that had left with its process is back from here on."""
    for _ in range(GUARD_RETRIES_MAX):
        instance = Instance.from_body(seat.snapshot)
        if not instance.away or not may_record(ctx):
            return seat
        now = ctx.now_us()
        size = (await ctx.store.info()).head.size
        back = instance_draft(instances.returned(instance), Event.RETURNED, now)
        try:
            await ctx.store.append(
                Group((back,), guard=Guard((Kind.INSTANCE,), size), touch={instance.id: now})
            )
        except StoreMoved:
            pass
        else:
            ctx.seen_us[instance.id] = now
        seat = await seat_of(ctx, instance.id)
    raise StoreMoved("other writers kept coming first; nothing was recorded, try again")


async def lease_drafts(ctx: Context, instance_id: str | None, now_us: int) -> tuple[Draft, ...]:
    """What has to be recorded before a lease is renewed: a return, if it had run out or the instance's process ended.

    Raises:
        UnknownInstance: there is no such instance, or it has been terminated.
    """
    if instance_id is None or now_us - ctx.seen_us.get(instance_id, -(1 << 62)) <= ctx.settings.lease_us:
        return ()
    seat = await seat_of(ctx, instance_id)
    instance = Instance.from_body(seat.snapshot)
    if now_us - seat.seen_us <= ctx.settings.lease_us and not instance.away:
        return ()
    return (instance_draft(instances.returned(instance), Event.RETURNED, now_us),)


async def renew_lease(ctx: Context, seat: Seat, now_us: int) -> None:
    """A call that only reads is a sign of life too; written at most every `LEASE_TOUCH_S`."""
    if ctx.settings.excluded is not None:
        return
    if now_us - max(seat.seen_us, ctx.seen_us.get(seat.instance_id, 0)) < LEASE_TOUCH_S * 1_000_000:
        return
    drafts = await lease_drafts(ctx, seat.instance_id, now_us)
    await ctx.store.append(Group(drafts, touch={seat.instance_id: now_us}))
    ctx.seen_us[seat.instance_id] = now_us


async def end_instances(
    ctx: Context, caller: Caller, *, instance_id: str | None = None, session_id: str | None = None
) -> list[str]:
    """End the caller's instance with this id, or all of this client session; returns the ids of those that ended now.

    For an end that somebody can tell: a client's hook, or a program. It is final, other than the end of a server
    process (`leave`); what nobody ends ages out with its lease.

    Raises:
        UnknownInstance: `instance_id` names none of the caller's. Excluded.
    """
    must_record(ctx)
    if instance_id is not None:
        meant = [await own_seat(ctx, caller, instance_id)]
    else:
        since = ctx.now_us() - HANDOVER_US
        meant = [
            seat
            for seat in await ctx.store.seats(seen_since_us=since)
            if session_id
            and seat.snapshot.get("session") == session_id
            and seat.snapshot.get("principal") == caller.principal
        ]
    return [seat.instance_id for seat in meant if await _end(ctx, seat.instance_id)]


async def _end(ctx: Context, instance_id: str) -> bool:
    for _ in range(GUARD_RETRIES_MAX):
        size = (await ctx.store.info()).head.size
        instance = Instance.from_body((await seat_of(ctx, instance_id)).snapshot)
        if instance.gone:
            return False
        draft = instance_draft(
            instances.terminated(instances.returned(instance)), Event.TERMINATED, ctx.now_us()
        )
        try:
            await ctx.store.append(Group((draft,), guard=Guard((Kind.INSTANCE,), size)))
        except StoreMoved:
            continue
        return True
    raise StoreMoved(f"other writers kept coming first; the instance {instance_id} was not ended, try again")


async def leave(ctx: Context) -> list[str]:
    """End the instances that this process has served, as its last act: they have no vote and are listed no longer.

    A chat may come back to another process: an instance's next call makes it what it was. One that another process
    has heard since is that one's, and stays. Returns the ids of those that ended. Never raises what a store can
    raise: what could not be ended ages out.
    """
    if not ctx.seen_us or not may_record(ctx):
        return []
    names = sorted(ctx.seen_us, key=lambda name: -ctx.seen_us[name])[:LEAVING_MAX]
    try:
        for _ in range(GUARD_RETRIES_MAX):
            size = (await ctx.store.info()).head.size
            drafts = [draft for name in names if (draft := await _leaving(ctx, name)) is not None]
            if not drafts:
                return []
            try:
                await ctx.store.append(Group(tuple(drafts), guard=Guard((Kind.INSTANCE,), size)))
            except StoreMoved:
                continue
            return [str(draft.body["instance"]) for draft in drafts]
    except CcnError:
        pass
    return []


async def _leaving(ctx: Context, name: str) -> Draft | None:
    try:
        seat = await seat_of(ctx, name)
    except UnknownInstance:
        return None  # erased meanwhile
    instance = Instance.from_body(seat.snapshot)
    if instance.state in (State.TERMINATED, State.FAILED) or seat.seen_us > ctx.seen_us[name]:
        return None
    return instance_draft(instances.left(instance), Event.TERMINATED, ctx.now_us())


async def holder_of(ctx: Context, caller: Caller, conversation_id: str, besides: str | None) -> str | None:
    """The caller's instance that was in this conversation last, `besides` the one that asks; ended ones count."""
    for seat in await ctx.store.seats(seen_since_us=ctx.now_us() - HANDOVER_US):
        known = seat.snapshot
        here = known.get("conversation") == conversation_id and known.get("principal") == caller.principal
        if here and seat.instance_id != besides:
            return seat.instance_id
    return None


def may_record(ctx: Context) -> bool:
    """Whether anything may be added to the record now."""
    try:
        must_record(ctx)
    except CcnError:
        return False
    return True


def receipt_hash(receipt: str | None) -> str | None:
    """What is stored of a receipt: reading the log must not be enough to present one."""
    return sha256(receipt.strip().encode("utf-8", "replace")).hexdigest() if receipt else None


def described(
    instance: Instance, *, client: str, model: str | None, thinking: str | None
) -> tuple[Instance, bool]:
    """The instance with what the caller says of its model; and whether that changed anything."""
    known = instances.corrected(
        instance,
        model=_name(model, "model"),
        thinking=_name(thinking, "thinking"),
        rubric=rubric().version,
    )
    if client and client != known.client:
        known = replace(known, client=client)
    return known, known != instance


def _name(value: str | None, what: str) -> str | None:
    if value is None or not value.strip():
        return None
    value = value.strip()
    if len(value) > MODEL_CHARS_MAX or not value.isprintable():
        raise BadInput(f"{what} is not a name of at most {MODEL_CHARS_MAX} printable characters")
    # Other instances read it in the consensus, which carries no free text of an instance: a name has no sentences.
    return _NO_NAME.sub("-", value)
