"""What a report and a look at the consensus answer, in words and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ccn_mcp.domain import instances, turnout
from ccn_mcp.domain.errors import StoreMoved, UnknownInstance, VerificationFailed
from ccn_mcp.domain.instances import Instance, State, group_of
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import RecordQuery, Seat
from ccn_mcp.domain.prompt import DIRECTIVE_RECHECK, DIRECTIVE_REINIT
from ccn_mcp.node.baselines import baseline_of
from ccn_mcp.node.consensus import (
    WHY,
    Judgement,
    has_reported,
    last_judgement,
    named,
    ratings_of,
)
from ccn_mcp.node.context import Caller, Context, iso, short_text
from ccn_mcp.node.instances import awake, own_seat, renew_lease, seat_of_session
from ccn_mcp.node.peers import waiting_directive
from ccn_mcp.node.plates import current_plate
from ccn_mcp.node.reporting import report_vector
from ccn_mcp.node.results import Consensus, Decision, Drift, InstanceStatus, Judged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DECISIONS_SHOWN: Final = 10
INSTANCES_SHOWN: Final = 50
IDLE_US: Final = 15 * 60 * 1_000_000
"""An instance that has been quiet for longer is shown as idle."""

NOT_REPORTED: Final = (
    "Trait numbers are shown to an instance once it has reported its own since it last loaded the Plate, "
    "so that it does not copy them."
)
AT_ONCE: Final = (
    ("When the task at hand is done, between tasks, call", "Now, before you go on, call"),
    ("Between tasks, call", "Now, before you go on, call"),
)
"""How a directive differs where the person has switched measurement `on`; `quiet` leaves a task in peace."""

FEW: Final = "With fewer than three reports there is no comparison with others; only the baseline counts."


async def report_character_vector(
    ctx: Context,
    caller: Caller,
    *,
    instance_id: str | None = None,
    traits: object,
    scale: str = "unit",
    relational: object = None,
    receipt: str | None = None,
    idempotency_key: str | None = None,
) -> Judged:
    """Record a report, judge it against the Plate's baseline and the other instances, say what follows.

    Raises:
        As `ccn_mcp.node.reporting.report_vector`.
    """
    instance, seq, replayed, judgement = await report_vector(
        ctx,
        caller,
        instance_id=instance_id,
        traits=traits,
        scale=scale,
        relational=relational,
        receipt=receipt,
        idempotency_key=idempotency_key,
    )
    verdict = judgement.recorded.verdicts.get(instance.id)
    if verdict is None:
        raise StoreMoved(
            f"the report is recorded (entry {seq}), but it does not count now: its instance is flagged, its lease "
            "or the report has run out, the baseline asks for more ratings by now, or the clock was set back. Call "
            "consensus_status, then report again"
        )
    action = str(verdict["action"])
    base = _drift(verdict["base_drift_e4"])
    return {
        "instance_id": instance.id,
        "seq": seq,
        "already_recorded": replayed,
        "action": action,
        "why": WHY[str(verdict["reason"])],
        "directive": directive_for(action, instance.id, at_once=ctx.settings.character == "on")
        or await waiting_directive(ctx, instance.id),
        "state": State.DRIFTED.value if action == "reinit" else State.ACTIVE.value,
        "group": judgement.recorded.group,
        "participants": len(judgement.recorded.seats),
        "peer_verdicts": verdict["peer"] is not None,
        "from_baseline": base,
        "from_consensus": _drift(verdict["drift_e4"]),
        "consistency": round(1 - base["rms"], 4),
        "smoothed": _drift(verdict["ewma_e4"]),
        "baseline_source": judgement.recorded.baseline_source,
        "ratings": (await baseline_of(ctx, judgement.recorded.group, await current_plate(ctx))).repeats,
        "flags": flags_of(verdict),
        "consensus": named(judgement.recorded.consensus),
        "head": str(judgement.head or (await ctx.store.info()).head),
    }


def directive_for(action: str, instance_id: str, *, at_once: bool = False) -> str | None:
    """What an action asks of the instance, in the program's own words."""
    template = {"reinit": DIRECTIVE_REINIT, "recheck": DIRECTIVE_RECHECK}.get(action)
    if template is None:
        return None
    text = template.format(instance_id=instance_id)
    return text.replace(*AT_ONCE[0]).replace(*AT_ONCE[1]) if at_once else text


def flags_of(verdict: Mapping[str, object]) -> list[str]:
    """The marks on a report: `duplicate`, `echo`. They change no verdict."""
    return [flag for flag in ("duplicate", "echo") if verdict[flag]]


def _drift(ten_thousandths: object) -> Drift:
    match ten_thousandths:
        case [int(rms), int(most)]:
            return {"rms": rms / 10_000, "max": most / 10_000}
    raise VerificationFailed("a recorded verdict has no drift; run ccn-mcp verify")


async def consensus_status(
    ctx: Context, caller: Caller, *, instance_id: str | None = None, for_person: bool = False
) -> Consensus:
    """Who is connected, in which state, and what was decided.

    `for_person` shows the consensus numbers in any case: a person does not copy them.

    Raises:
        UnknownInstance: `instance_id` names none.
    """
    now = ctx.now_us()
    mine = await _caller_seat(ctx, caller, short_text(instance_id, "instance_id"))
    if mine is not None:
        await renew_lease(ctx, mine, now)
    seats = [
        seat
        for seat in await ctx.store.seats(seen_since_us=now - ctx.settings.lease_us)
        if seat.snapshot.get("state") != State.TERMINATED
    ]
    group = _group(mine, seats)
    last = await last_judgement(ctx, group)
    shown = for_person or (mine is not None and await has_reported(ctx, mine))
    needed = await _ratings_needed(ctx, seats)
    shown_seats = [_status(seat, mine, last, ctx, now, needed) for seat in seats]
    voting = sum(
        status["votes"] and group_of(Instance.from_body(seat.snapshot)) == group
        for seat, status in zip(seats, shown_seats, strict=True)
    )
    source = (
        last.recorded.baseline_source
        if last is not None
        else (await baseline_of(ctx, group, await current_plate(ctx))).source
    )
    notes = [] if shown else [NOT_REPORTED]
    if mine is not None and (waits := await waiting_directive(ctx, mine.instance_id)) is not None:
        notes.append(waits)
    if voting < 3:
        notes.append(FEW)
    return {
        "instances": shown_seats[:INSTANCES_SHOWN],
        "connected": len(seats),
        "group": group,
        "voting": voting,
        "group_alarm": last is not None and last.recorded.group_alarm,
        "baseline_source": source,
        "consensus": named(last.recorded.consensus) if last is not None and shown else {},
        "decisions": await _decisions(ctx, group),
        "note": " ".join(notes),
        "head": str((await ctx.store.info()).head),
    }


async def _caller_seat(ctx: Context, caller: Caller, instance_id: str | None) -> Seat | None:
    if instance_id is not None:
        seat = await awake(ctx, await own_seat(ctx, caller, instance_id))
        if seat.snapshot.get("state") == State.TERMINATED:
            raise UnknownInstance(
                f"the instance {instance_id!r} has ended; call load_plate to open another one"
            )
        return seat
    found = await seat_of_session(ctx, caller, caller.session_id) if caller.session_id else None
    return await awake(ctx, found) if found is not None else None


def _group(mine: Seat | None, seats: Sequence[Seat]) -> str:
    """The caller's group, else that of the instance that was heard last."""
    seat = mine or (seats[0] if seats else None)
    return group_of(Instance.from_body(seat.snapshot)) if seat is not None else instances.UNKNOWN_GROUP


async def _ratings_needed(ctx: Context, seats: Sequence[Seat]) -> dict[str, int]:
    """By group, of how many ratings a report must be the average."""
    groups = {group_of(Instance.from_body(seat.snapshot)) for seat in seats}
    plate = await current_plate(ctx)
    return {group: (await baseline_of(ctx, group, plate)).repeats for group in sorted(groups)}


def _status(
    seat: Seat,
    mine: Seat | None,
    last: Judgement | None,
    ctx: Context,
    now: int,
    needed: Mapping[str, int],
) -> InstanceStatus:
    instance = Instance.from_body(seat.snapshot)
    verdicts: Mapping[str, Mapping[str, object]] = last.recorded.verdicts if last is not None else {}
    verdict = verdicts.get(instance.id)
    present = turnout.participants(
        [turnout.Seat(instance, seat.seen_us, _latest(seat))],
        now_us=now,
        lease_us=ctx.settings.lease_us,
        fresh_us=ctx.settings.fresh_us,
        ratings=needed[group_of(instance)],
    )
    why_not = present.excluded.get(instance.id)
    return {
        "instance_id": instance.id,
        "you": mine is not None and mine.instance_id == instance.id,
        "client": instance.client,
        "model": instance.model,
        "state": instances.shown_state(
            instance, last_seen_us=seat.seen_us, now_us=now, idle_us=IDLE_US
        ).value,
        "votes": why_not is None,
        "why_not": why_not.value if why_not is not None else None,
        "last_seen": iso(seat.seen_us),
        "reported": iso(seat.report_us) if seat.report_us is not None else None,
        "from_baseline": _drift(verdict["base_drift_e4"])["rms"] if verdict is not None else None,
        "from_consensus": _drift(verdict["drift_e4"])["rms"] if verdict is not None else None,
        "baseline_source": last.recorded.baseline_source
        if last is not None and verdict is not None
        else None,
        "action": str(verdict["action"]) if verdict is not None else None,
    }


def _latest(seat: Seat) -> turnout.LatestReport | None:
    if seat.report_seq is None or seat.report_us is None:
        return None
    ratings = ratings_of(seat.report_body)
    return turnout.LatestReport(seat.report_seq, (), seat.report_us, is_new=False, ratings=ratings)


async def _decisions(ctx: Context, group: str) -> list[Decision]:
    from ccn_mcp.domain.consensus_record import decode  # brings numpy in

    query = RecordQuery(kinds=(Kind.CONSENSUS,), subject=group, limit=DECISIONS_SHOWN)
    found: list[Decision] = []
    for record in await ctx.store.records(query):
        if record.body is None:
            continue
        recorded = decode(record.body, record.blob)
        for seat in recorded.seats:
            if seat.is_new:
                verdict = recorded.verdicts[seat.instance]
                found.append(
                    {
                        "seq": record.seq,
                        "at": iso(record.time_us),
                        "group": recorded.group,
                        "instance_id": seat.instance,
                        "action": str(verdict["action"]),
                        "why": WHY[str(verdict["reason"])],
                        "flags": flags_of(verdict),
                    }
                )
    return found[:DECISIONS_SHOWN]
