"""Reports: who may make one, of how many ratings, and what is recorded of it; then it is judged (`consensus.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from ccn_mcp.domain import instances
from ccn_mcp.domain.character import (
    RELATIONAL,
    TRAITS,
    Vector,
    average,
    parse_ratings,
    parse_vector,
    to_blob,
)
from ccn_mcp.domain.errors import BadInput, BadVector, ReceiptRequired, Refused
from ccn_mcp.domain.instances import Event, FailedTry, Instance, State, group_of
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.models import Body, Draft, Group, Guard, Seat
from ccn_mcp.node.baselines import baseline_of
from ccn_mcp.node.consensus import RATINGS, Judgement, judge
from ccn_mcp.node.context import Caller, Context, must_record, short_text
from ccn_mcp.node.conversations import caller_key, recorded_under
from ccn_mcp.node.instances import (
    awake,
    instance_draft,
    lease_drafts,
    own_seat,
    receipt_hash,
    seat_of,
    seat_of_session,
)
from ccn_mcp.node.plates import current_plate


async def report_vector(
    ctx: Context,
    caller: Caller,
    *,
    instance_id: str | None,
    traits: object,
    scale: str = "unit",
    relational: object = None,
    receipt: str | None = None,
    idempotency_key: str | None = None,
) -> tuple[Instance, int, bool, Judgement]:
    """Record a report and return (instance, the report's seq, whether it was a replay, its evaluation).

    Raises:
        BadVector, BadInput, UnknownInstance, IdempotencyConflict: no trace in the store.
        ReceiptRequired, InstanceFailed: the instance is flagged and did not show a valid receipt.
        Refused: character measurement is off.
    """
    must_record(ctx)
    if ctx.settings.character == "off":
        raise Refused(
            "the person has switched character measurement off (CCN_CHARACTER=off); carry on without it"
        )
    ratings = parse_ratings(traits, scale=scale)
    metrics = parse_vector(relational, scale=scale, names=RELATIONAL) if relational is not None else None
    key = caller_key(idempotency_key)
    seat = await reporting_seat(ctx, caller, instance_id)
    now = ctx.now_us()
    instance, seq, replayed = await _append_report(ctx, caller, seat, ratings, metrics, receipt, key, now)
    judgement = await judge(ctx, instance.id, seq)
    return instance, seq, replayed, judgement


async def reporting_seat(ctx: Context, caller: Caller, instance_id: str | None) -> Seat:
    """The instance that is meant, by its id or by the client's session."""
    wanted = short_text(instance_id, "instance_id")
    if wanted is not None:
        return await awake(ctx, await own_seat(ctx, caller, wanted))
    if caller.session_id is not None:
        found = await seat_of_session(ctx, caller, caller.session_id)
        if found is not None:
            return await awake(ctx, found)
    raise BadInput("instance_id is missing; call load_plate first and pass the instance_id that it returns")


async def _append_report(
    ctx: Context,
    caller: Caller,
    seat: Seat,
    ratings: Sequence[Vector],
    metrics: Vector | None,
    receipt: str | None,
    key: str | None,
    now: int,
) -> tuple[Instance, int, bool]:
    replay = await recorded_under(ctx, caller, key)
    instance = Instance.from_body(seat.snapshot)
    if replay is None:
        await _must_be_enough(ctx, instance, len(ratings))
    drafts: list[Draft] = [*(await lease_drafts(ctx, instance.id, now) if replay is None else ())]
    if replay is None and instance.state is State.DRIFTED:
        instance, event = await _reinitialise(ctx, seat, receipt, now)
        drafts.append(event)
    elif replay is None:
        instances.may_report(instance)
    seen = (await ctx.store.info()).head
    report = _report_draft(caller, instance, ratings, key, now, seen)
    if metrics is not None:
        drafts.append(_metrics_draft(caller, instance, "relational", (metrics,), now))
    if len(ratings) > 1:
        drafts.append(_metrics_draft(caller, instance, RATINGS, ratings, now))
    # A replay must not renew the lease: the same request again is not a sign of life.
    touch = {instance.id: now} if replay is None else {}
    done = await ctx.store.append(Group((report, *drafts), touch=touch))
    if not done.receipts[0].replayed:
        ctx.seen_us[instance.id] = now
    return instance, done.receipts[0].seq, done.receipts[0].replayed


async def _must_be_enough(ctx: Context, instance: Instance, given: int) -> None:
    base = await baseline_of(ctx, group_of(instance), await current_plate(ctx))
    if given < base.repeats:
        raise BadVector(
            "too_few_ratings",
            f"Commissioning found these ratings noisy, so a report is the average of {base.repeats}; this has {given}. "
            f"Send traits as a list of {base.repeats} ratings, each made anew from other answers of yours.",
        )


def _report_draft(
    caller: Caller, instance: Instance, ratings: Sequence[Vector], key: str | None, now: int, seen: Head
) -> Draft:
    body: Body = {
        "instance": instance.id,
        "principal": caller.principal,
        "seen": str(seen),
        "source": caller.source,
        "measured_by": "self_report",
        "vec": {"dtype": "f8le", "shape": [len(TRAITS)]},
    }
    if instance.conversation_id:
        body["conversation"] = instance.conversation_id
    if key is not None:
        body["key"] = key
    if len(ratings) > 1:
        body[RATINGS] = len(ratings)
    return Draft(Kind.VECTOR, now, body, to_blob(average(ratings)))


def _metrics_draft(
    caller: Caller, instance: Instance, metric: str, rows: Sequence[Vector], now: int
) -> Draft:
    width = len(rows[0])
    body: Body = {
        "instance": instance.id,
        "metric": metric,
        "principal": caller.principal,
        "source": caller.source,
        "vec": {"dtype": "f8le", "shape": [len(rows), width] if metric == RATINGS else [width]},
    }
    if instance.conversation_id:
        body["conversation"] = instance.conversation_id
    return Draft(Kind.METRIC, now, body, b"".join(map(to_blob, rows)))


async def _reinitialise(ctx: Context, seat: Seat, receipt: str | None, now: int) -> tuple[Instance, Draft]:
    """Judge the receipt of a flagged instance; a failed try is recorded before it is refused."""
    size = (await ctx.store.info()).head.size
    seat = await seat_of(ctx, seat.instance_id)
    outcome = instances.receipt(Instance.from_body(seat.snapshot), receipt_hash(receipt), now_us=now)
    if not isinstance(outcome, FailedTry):
        return outcome.instance, instance_draft(outcome.instance, Event.REINITIALISED, now)
    event = Event.TRY_FAILED if outcome.tries_left else Event.FAILED
    await ctx.store.append(
        Group((instance_draft(outcome.instance, event, now),), guard=Guard((Kind.INSTANCE,), size))
    )
    if not outcome.tries_left:
        instances.may_report(outcome.instance)  # raises: it has failed for good
    raise ReceiptRequired(
        f"this receipt is not the one of the Plate that was delivered last; {outcome.tries_left} tries left. "
        f"Call load_plate with instance_id={seat.instance_id}, then report again with the receipt at its end"
    )
