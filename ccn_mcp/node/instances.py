"""Instances: finding one, renewing its lease, delivering the Plate and what goes with it."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from ccn_mcp.domain import instances
from ccn_mcp.domain.errors import BadInput, UnknownInstance
from ccn_mcp.domain.instances import Event, Instance, State
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import LEASE_TOUCH_S
from ccn_mcp.domain.models import Body, Draft, Group, Seat
from ccn_mcp.node.context import Caller, Context

MODEL_CHARS_MAX = 80


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
        UnknownInstance: there is none, or it is another principal's.
    """
    seat = await seat_of(ctx, instance_id)
    if seat.snapshot.get("principal") != caller.principal:
        raise UnknownInstance(
            f"the instance {instance_id!r} is another account's; call load_plate without instance_id to open "
            "your own"
        )
    return seat


async def seat_of_session(ctx: Context, caller: Caller, session: str) -> Seat | None:
    """The caller's live instance that a client session opened last, if any."""
    since = ctx.now_us() - ctx.settings.lease_us
    for seat in await ctx.store.seats(seen_since_us=since):
        known = seat.snapshot
        # One that has failed is passed over: its session goes on with another instance.
        alive = known.get("state") not in (State.TERMINATED, State.FAILED)
        if alive and known.get("session") == session and known.get("principal") == caller.principal:
            return seat
    return None


async def lease_drafts(ctx: Context, instance_id: str | None, now_us: int) -> tuple[Draft, ...]:
    """What has to be recorded before a lease is renewed: a return, if it had run out.

    Raises:
        UnknownInstance: there is no such instance, or it has been terminated.
    """
    if instance_id is None or now_us - ctx.seen_us.get(instance_id, -(1 << 62)) <= ctx.settings.lease_us:
        return ()
    seat = await seat_of(ctx, instance_id)
    if now_us - seat.seen_us <= ctx.settings.lease_us:
        return ()
    back = instances.returned(Instance.from_body(seat.snapshot))
    return (instance_draft(back, Event.RETURNED, now_us),)


async def renew_lease(ctx: Context, seat: Seat, now_us: int) -> None:
    """A call that only reads is a sign of life too; written at most every `LEASE_TOUCH_S`."""
    if now_us - max(seat.seen_us, ctx.seen_us.get(seat.instance_id, 0)) < LEASE_TOUCH_S * 1_000_000:
        return
    drafts = await lease_drafts(ctx, seat.instance_id, now_us)
    await ctx.store.append(Group(drafts, touch={seat.instance_id: now_us}))
    ctx.seen_us[seat.instance_id] = now_us


def receipt_hash(receipt: str | None) -> str | None:
    """What is stored of a receipt: reading the log must not be enough to present one."""
    return sha256(receipt.strip().encode("utf-8", "replace")).hexdigest() if receipt else None


def described(
    instance: Instance, *, client: str, model: str | None, thinking: str | None
) -> tuple[Instance, bool]:
    """The instance with what the caller says of its model; and whether that changed anything."""
    known = instances.corrected(instance, model=_name(model, "model"), thinking=_name(thinking, "thinking"))
    if client and client != known.client:
        known = replace(known, client=client)
    return known, known != instance


def _name(value: str | None, what: str) -> str | None:
    if value is None or not value.strip():
        return None
    value = value.strip()
    if len(value) > MODEL_CHARS_MAX or not value.isprintable():
        raise BadInput(f"{what} is not a name of at most {MODEL_CHARS_MAX} printable characters")
    return value
