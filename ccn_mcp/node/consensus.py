"""Reports, evaluations, verdicts: the consensus over every instance in the store.

A report is appended first, then judged. Judging is optimistic: read the state, decide, append under a guard
that fails if anything that the decision depends on has come meanwhile, and start again. Whoever wins also
judges the other's report, so each report is judged exactly once, whatever process it came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ccn_mcp.domain import character, instances, turnout
from ccn_mcp.domain.character import RELATIONAL, TRAITS, Vector, from_blob, parse_vector, to_blob
from ccn_mcp.domain.errors import (
    BadInput,
    ConversationErased,
    ReceiptRequired,
    Refused,
    StoreMoved,
    VerificationFailed,
)
from ccn_mcp.domain.instances import Event, FailedTry, Instance, State, group_of
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.limits import GUARD_RETRIES_MAX, VOTERS_MAX
from ccn_mcp.domain.models import Body, Draft, Group, Guard, Record, RecordQuery, Seat
from ccn_mcp.node.baselines import Baseline, baseline_of
from ccn_mcp.node.context import Caller, Context, must_record, short_text
from ccn_mcp.node.conversations import caller_key, recorded_under
from ccn_mcp.node.instances import (
    instance_draft,
    lease_drafts,
    own_seat,
    receipt_hash,
    seat_of,
    seat_of_session,
)
from ccn_mcp.node.plates import PlateInForce, current_plate

if TYPE_CHECKING:
    from ccn_mcp.domain.consensus_record import Recorded
    from ccn_mcp.domain.consensus_types import GroupState

JUDGED_KINDS: Final = (Kind.VECTOR, Kind.CONSENSUS, Kind.INSTANCE, Kind.PLATE, Kind.VALIDATION)
"""What an evaluation depends on; a pinned baseline is a validation."""

CARRY_US: Final = 30 * 24 * 3600 * 1_000_000
"""How long the state keeps an instance that takes no part: a slow drift over days is still one drift."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One recorded evaluation, and where."""

    seq: int
    time_us: int
    recorded: Recorded
    head: Head | None = None


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
    vector = parse_vector(traits, scale=scale)
    metrics = parse_vector(relational, scale=scale, names=RELATIONAL) if relational is not None else None
    key = caller_key(idempotency_key)
    seat = await reporting_seat(ctx, caller, instance_id)
    now = ctx.now_us()
    instance, seq, replayed = await _append_report(ctx, caller, seat, vector, metrics, receipt, key, now)
    judgement = await _judge(ctx, instance.id, seq)
    return instance, seq, replayed, judgement


async def reporting_seat(ctx: Context, caller: Caller, instance_id: str | None) -> Seat:
    """The instance that is meant, by its id or by the client's session."""
    wanted = short_text(instance_id, "instance_id")
    if wanted is not None:
        return await own_seat(ctx, caller, wanted)
    if caller.session_id is not None:
        found = await seat_of_session(ctx, caller, caller.session_id)
        if found is not None:
            return found
    raise BadInput("instance_id is missing; call load_plate first and pass the instance_id that it returns")


async def _append_report(
    ctx: Context,
    caller: Caller,
    seat: Seat,
    vector: Vector,
    metrics: Vector | None,
    receipt: str | None,
    key: str | None,
    now: int,
) -> tuple[Instance, int, bool]:
    replay = await recorded_under(ctx, caller, key)
    instance = Instance.from_body(seat.snapshot)
    drafts: list[Draft] = [*(await lease_drafts(ctx, instance.id, now) if replay is None else ())]
    if replay is None and instance.state is State.DRIFTED:
        instance, event = await _reinitialise(ctx, seat, receipt, now)
        drafts.append(event)
    elif replay is None:
        instances.may_report(instance)
    seen = (await ctx.store.info()).head
    report = _report_draft(caller, instance, vector, key, now, seen)
    if metrics is not None:
        drafts.append(_metrics_draft(caller, instance, metrics, now))
    # A replay must not renew the lease: the same request again is not a sign of life.
    touch = {instance.id: now} if replay is None else {}
    done = await ctx.store.append(Group((report, *drafts), touch=touch))
    if not done.receipts[0].replayed:
        ctx.seen_us[instance.id] = now
    return instance, done.receipts[0].seq, done.receipts[0].replayed


def _report_draft(
    caller: Caller, instance: Instance, vector: Vector, key: str | None, now: int, seen: Head
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
    return Draft(Kind.VECTOR, now, body, to_blob(vector))


def _metrics_draft(caller: Caller, instance: Instance, metrics: Vector, now: int) -> Draft:
    body: Body = {
        "instance": instance.id,
        "metric": "relational",
        "principal": caller.principal,
        "source": caller.source,
        "vec": {"dtype": "f8le", "shape": [len(RELATIONAL)]},
    }
    if instance.conversation_id:
        body["conversation"] = instance.conversation_id
    return Draft(Kind.METRIC, now, body, to_blob(metrics))


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


# ---- judging -------------------------------------------------------------------------------------------


async def _judge(ctx: Context, instance_id: str, report_seq: int) -> Judgement:
    """The evaluation that judged this report: another process's if it was first, else ours."""
    for _ in range(GUARD_RETRIES_MAX):
        head = (await ctx.store.info()).head
        # Read anew each time: a correction may have moved the instance to another group.
        group = group_of(Instance.from_body((await seat_of(ctx, instance_id)).snapshot))
        last = await last_judgement(ctx, group)
        if last is not None and last.seq > report_seq:
            found = last if _judges(last, report_seq) else await _judgement_of(ctx, report_seq)
            if found is None and _overtaken(last, instance_id, report_seq):
                found = last
            if found is not None:
                return Judgement(found.seq, found.time_us, found.recorded, head)
        try:
            return await _evaluate(ctx, group, last, head.size)
        except (StoreMoved, ConversationErased):  # the second: an instance was erased with its conversation
            continue
    raise StoreMoved(
        "the report is recorded, but other reports kept coming first, so it has no verdict yet; "
        "the next report in this group brings it"
    )


def _judges(judgement: Judgement, report_seq: int) -> bool:
    return any(seat.is_new and seat.report_id == report_seq for seat in judgement.recorded.seats)


def _overtaken(judgement: Judgement, instance_id: str, report_seq: int) -> bool:
    # Two reports of one instance at once: the newer one was judged, so the older one never will be.
    return any(
        seat.instance == instance_id and seat.report_id > report_seq for seat in judgement.recorded.seats
    )


async def last_judgement(ctx: Context, group: str) -> Judgement | None:
    """The newest evaluation of a group."""
    found = await ctx.store.records(RecordQuery(kinds=(Kind.CONSENSUS,), subject=group, limit=1))
    return _decoded(found[0]) if found else None


async def _judgement_of(ctx: Context, report_seq: int) -> Judgement | None:
    query = RecordQuery(kinds=(Kind.CONSENSUS,), after=report_seq, oldest_first=True, limit=VOTERS_MAX)
    for record in await ctx.store.records(query):
        if _judges(found := _decoded(record), report_seq):
            return found
    return None


def _decoded(record: Record) -> Judgement:
    from ccn_mcp.domain.consensus_record import decode  # brings numpy in

    if record.body is None:
        raise VerificationFailed(f"the evaluation at entry {record.seq} cannot be read; run ccn-mcp verify")
    return Judgement(record.seq, record.time_us, decode(record.body, record.blob))


async def _evaluate(ctx: Context, group: str, last: Judgement | None, size: int) -> Judgement:
    from ccn_mcp.domain.consensus import evaluate
    from ccn_mcp.domain.consensus_record import encode, state_hash
    from ccn_mcp.domain.consensus_types import Action, GroupState, Report, Round

    now = ctx.now_us()
    since = last.seq if last is not None else -1
    seats = {seat.instance_id: seat for seat in await seats_of_group(ctx, group, now)}
    present = turnout.participants(
        [_seat(seat, since) for seat in seats.values()],
        now_us=now,
        lease_us=ctx.settings.lease_us,
        fresh_us=ctx.settings.fresh_us,
    )
    voting = {seat.instance.id for seat in present.voting}
    before: GroupState = last.recorded.state if last is not None else GroupState()
    base = await baseline_of(ctx, group, await current_plate(ctx))
    evaluation = evaluate(
        before,
        Round(
            group=group,
            reports=tuple(
                Report(
                    seat.instance.id,
                    seat.instance.principal,
                    seat.report.report_id,
                    seat.report.vector,
                    seat.report.is_new,
                )
                for seat in present.voting
                if seat.report is not None
            ),
            baseline=base.vector,
            baseline_source=base.source,
            sigma=base.sigma,
            resets=await _resets(ctx, last, base, set(seats)),
            carry=tuple(sorted((set(before.members) & set(seats)) - voting)),
        ),
    )
    body, blob = encode(evaluation, state_hash(before))
    drafts = [Draft(Kind.CONSENSUS, now, {**body}, blob)]  # type: ignore[dict-item]  # text, integers, booleans
    for name, verdict in evaluation.verdicts.items():
        if verdict.action is Action.REINIT:
            flagged = instances.flagged(Instance.from_body(seats[name].snapshot))
            drafts.append(instance_draft(flagged, Event.FLAGGED, now))
    done = await ctx.store.append(Group(tuple(drafts), guard=Guard(JUDGED_KINDS, size)))
    receipt = done.receipts[0]
    return _judged(receipt.seq, now, receipt.body, blob, done.head)


def _judged(seq: int, now: int, body: Body, blob: bytes, head: Head) -> Judgement:
    made = _decoded(Record(seq, now, Kind.CONSENSUS, body, blob))
    return Judgement(made.seq, made.time_us, made.recorded, head)


async def seats_of_group(ctx: Context, group: str, now_us: int) -> Sequence[Seat]:
    """The group's instances that are connected or were lately; terminated ones are left out."""
    found = await ctx.store.seats(seen_since_us=now_us - max(CARRY_US, ctx.settings.lease_us))
    return [
        seat
        for seat in found
        if seat.snapshot.get("state") != State.TERMINATED
        and group_of(Instance.from_body(seat.snapshot)) == group
    ]


def _seat(seat: Seat, last_judged: int) -> turnout.Seat:
    report: turnout.LatestReport | None = None
    if seat.report_seq is not None and seat.report_us is not None and seat.report_blob:
        report = turnout.LatestReport(
            seat.report_seq,
            from_blob(seat.report_blob, len(TRAITS)),
            seat.report_us,
            is_new=seat.report_seq > last_judged,
        )
    return turnout.Seat(Instance.from_body(seat.snapshot), seat.seen_us, report)


async def _resets(ctx: Context, last: Judgement | None, base: Baseline, members: set[str]) -> tuple[str, ...]:
    if last is not None and last.recorded.baseline != base.vector:
        # What was smoothed is a distance to another baseline; it says nothing about this one.
        return tuple(sorted(members))
    since = last.seq if last is not None else -1
    query = RecordQuery(kinds=(Kind.INSTANCE,), after=since, oldest_first=True, limit=10 * VOTERS_MAX)
    found: set[str] = set()
    for record in await ctx.store.records(query):
        if record.body is not None and record.body.get("event") == Event.REINITIALISED:
            found.add(str(record.body.get("instance")))
    return tuple(sorted(found & members))


# ---- in words ------------------------------------------------------------------------------------------

WHY: Final[Mapping[str, str]] = {
    "none": "the report lies within the noise around the baseline and of the others",
    "peer": "the report differs from the other instances', but it is on the baseline",
    "peer_while_group_moves": "the report differs from the others, and the group as a whole has moved "
    "off the baseline",
    "base_once": "this one report is further from the baseline than noise explains",
    "base_twice": "two reports in a row are further from the baseline than noise explains",
    "ewma": "the smoothed reports have moved away from the baseline",
}


def named(vector: Vector | None) -> dict[str, float]:
    """A vector with its trait names, to four digits."""
    return (
        {} if vector is None else {name: round(value, 4) for name, value in zip(TRAITS, vector, strict=True)}
    )


def described_state(vector: Vector | None) -> Sequence[str]:
    """A vector as sentences without numbers."""
    return character.describe(vector) if vector is not None else ()


async def has_reported(ctx: Context, seat: Seat) -> bool:
    """Whether the instance, as this seat shows it, has reported since the Plate was last delivered to it."""
    if seat.report_seq is None:
        return False
    if seat.snapshot_seq < seat.report_seq:
        return True
    query = RecordQuery(kinds=(Kind.INSTANCE,), subject=seat.instance_id, after=seat.report_seq, limit=50)
    events = [record.body.get("event") for record in await ctx.store.records(query) if record.body]
    return Event.LOADED not in events


def plate_name(plate: PlateInForce) -> str:
    """`name version (digest…)`, as results and prompts name a Plate."""
    return f"{plate.plate.name} {plate.plate.version} ({plate.plate.digest[:12]})"
