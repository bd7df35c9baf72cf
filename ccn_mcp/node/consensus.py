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
from ccn_mcp.domain.character import (
    TRAITS,
    Vector,
    from_blob,
)
from ccn_mcp.domain.errors import (
    ConversationErased,
    StoreMoved,
    VerificationFailed,
)
from ccn_mcp.domain.instances import Event, Instance, group_of
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.limits import GUARD_RETRIES_MAX, VOTERS_MAX
from ccn_mcp.domain.models import Body, Draft, Group, Guard, Record, RecordQuery, Seat
from ccn_mcp.node.baselines import Baseline, baseline_of
from ccn_mcp.node.context import Context
from ccn_mcp.node.instances import (
    instance_draft,
    seat_of,
)
from ccn_mcp.node.plates import PlateInForce, current_plate

if TYPE_CHECKING:
    from ccn_mcp.domain.consensus_record import Recorded
    from ccn_mcp.domain.consensus_types import GroupState

JUDGED_KINDS: Final = (Kind.VECTOR, Kind.CONSENSUS, Kind.INSTANCE, Kind.PLATE, Kind.VALIDATION)
"""What an evaluation depends on; a pinned baseline is a validation."""

RATINGS: Final = "ratings"
"""In a report that is an average: of how many. As a metric: the ratings themselves, a row each."""

JUDGE: Final = "judge"
"""`measured_by` of a vector that a judge has made (`judgements.py`); the instance's own say `self_report`."""

JUDGED_RUNNING_MAX: Final = 100
"""Judgements in a row among which an instance's own report is looked for."""

CARRY_US: Final = 30 * 24 * 3600 * 1_000_000
"""How long the state keeps an instance that takes no part: a slow drift over days is still one drift."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One recorded evaluation, and where."""

    seq: int
    time_us: int
    recorded: Recorded
    head: Head | None = None


# ---- judging -------------------------------------------------------------------------------------------


async def judge(ctx: Context, instance_id: str, report_seq: int) -> Judgement:
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
    base = await baseline_of(ctx, group, await current_plate(ctx))
    present = turnout.participants(
        [_seat(seat, since) for seat in seats.values()],
        now_us=now,
        lease_us=ctx.settings.lease_us,
        fresh_us=ctx.settings.fresh_us,
        ratings=base.repeats,
    )
    voting = {seat.instance.id for seat in present.voting}
    before: GroupState = last.recorded.state if last is not None else GroupState()
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
            resets=await _resets(ctx, group, last, base, set(seats)),
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
    """The group's instances that are connected or were lately; what ended for good is left out."""
    found = await ctx.store.seats(seen_since_us=now_us - max(CARRY_US, ctx.settings.lease_us))
    return [
        seat
        for seat in found
        if not (instance := Instance.from_body(seat.snapshot)).gone and group_of(instance) == group
    ]


def _seat(seat: Seat, last_judged: int) -> turnout.Seat:
    report: turnout.LatestReport | None = None
    if seat.report_seq is not None and seat.report_us is not None and seat.report_blob:
        report = turnout.LatestReport(
            seat.report_seq,
            from_blob(seat.report_blob, len(TRAITS)),
            seat.report_us,
            is_new=seat.report_seq > last_judged,
            ratings=ratings_of(seat.report_body),
        )
    return turnout.Seat(Instance.from_body(seat.snapshot), seat.seen_us, report)


def ratings_of(report: Body | None) -> int:
    """How many ratings a report is the average of."""
    count = (report or {}).get(RATINGS)
    return count if isinstance(count, int) else 1


async def _resets(
    ctx: Context, group: str, last: Judgement | None, base: Baseline, members: set[str]
) -> tuple[str, ...]:
    if last is not None and last.recorded.baseline != base.vector:
        # What was smoothed is a distance to another baseline; it says nothing about this one.
        return tuple(sorted(members))
    since = last.seq if last is not None else -1
    query = RecordQuery(kinds=(Kind.INSTANCE,), after=since, oldest_first=True, limit=10 * VOTERS_MAX)
    found: set[str] = set()
    known = last.recorded.state.members if last is not None else {}
    for record in await ctx.store.records(query):
        if record.body is None:
            continue
        name = str(record.body.get("instance"))
        # One that was in another group meanwhile starts anew here, whether or not others have reported since.
        moved = name in known and group_of(Instance.from_body(record.body)) != group
        if moved or record.body.get("event") == Event.REINITIALISED:
            found.add(name)
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
    """Whether the instance, as this seat shows it, has reported since the Plate was last delivered to it.

    What a judge has said of it is no report of its own.
    """
    own = await _own_report(ctx, seat)
    if own is None:
        return False
    if seat.snapshot_seq < own:
        return True
    query = RecordQuery(kinds=(Kind.INSTANCE,), subject=seat.instance_id, after=own, limit=50)
    events = [record.body.get("event") for record in await ctx.store.records(query) if record.body]
    return Event.LOADED not in events


async def _own_report(ctx: Context, seat: Seat) -> int | None:
    """Where the instance's newest report by itself is."""
    if seat.report_seq is None or (seat.report_body or {}).get("measured_by") != JUDGE:
        return seat.report_seq
    query = RecordQuery(kinds=(Kind.VECTOR,), subject=seat.instance_id, limit=JUDGED_RUNNING_MAX)
    found = await ctx.store.records(query)
    return next((one.seq for one in found if one.body and one.body.get("measured_by") != JUDGE), None)


def plate_name(plate: PlateInForce) -> str:
    """`name version (digest…)`, as results and prompts name a Plate."""
    return f"{plate.plate.name} {plate.plate.version} ({plate.plate.digest[:12]})"
