"""Commissioning: reports against a Plate become the baseline of a group, once the person pins it.

A model collects (`validate_character` with kind `commission`): one report per delivered Plate. The person pins or
cancels. A model that could pin would set the measure that it is held to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ccn_mcp.domain import commissioning
from ccn_mcp.domain.character import TRAITS, Vector, from_blob, parse_vector, to_blob
from ccn_mcp.domain.commissioning_record import CANCELLED, FORMAT, OPENED, PINNED, REPORTED, decode, encode
from ccn_mcp.domain.errors import BadInput, Conflict, NotFound, Refused, StoreMoved
from ccn_mcp.domain.instances import UNKNOWN_GROUP, Instance, State, group_of
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import GUARD_RETRIES_MAX
from ccn_mcp.domain.models import Body, Draft, Group, Guard, Record, RecordQuery, Seat
from ccn_mcp.node.baselines import Baseline, baseline_of, pinned_for
from ccn_mcp.node.consensus import plate_name
from ccn_mcp.node.context import Caller, Context, iso
from ccn_mcp.node.conversations import recorded_under
from ccn_mcp.node.instances import lease_drafts
from ccn_mcp.node.plates import PlateInForce, current_plate
from ccn_mcp.node.results import CommissionGroup, CommissionRound, Validation
from ccn_mcp.node.rubric import rubric

ENTRIES_MAX: Final = 20_000
"""Newest validation entries that are looked at for reports."""

_OPENED_KEY: Final = "ccn:commission:"
_REPORTED_KEY: Final = "ccn:commissioned:"

HOW: Final = (
    "Rate how you answer under this Plate on each of the 16 traits from 0 to 5 by the rubric; rate what you observe, "
    "not what the Plate asks for. Then call validate_character with instance_id, this run_id and scores, a map by name."
)
MORE: Final = (
    "Recorded. Each further report needs a Plate that was delivered anew: call load_plate first, best in a new "
    "conversation, because ratings that are copied from the last ones measure nothing."
)
READY: Final = "There are enough reports. The person pins the baseline in a terminal: ccn-mcp commission pin"


@dataclass(frozen=True, slots=True)
class Round:
    """What was collected for a group since its baseline was last pinned or its round cancelled."""

    group: str
    reports: tuple[Record, ...] = ()

    @property
    def vectors(self) -> list[Vector]:
        """The reports' vectors, in the order of the log."""
        return [from_blob(record.blob, len(TRAITS)) for record in self.reports]

    def said(self) -> CommissionRound:
        """The round for a model: counts and trait names, no numbers that it could copy."""
        wide = commissioning.disagreement(self.vectors) if len(self.reports) > 1 else ()
        enough = len(self.reports) >= commissioning.REPORTS_MIN
        return {
            "reports": len(self.reports),
            "needed": commissioning.REPORTS_MIN,
            "ready": enough and not wide,
            "disagree": list(wide) if enough else [],
        }


async def rounds(ctx: Context, plate: PlateInForce) -> dict[str, Round]:
    """Every group's round against this Plate; groups with a pinned baseline or a cancelled round only are there too."""
    found: dict[str, list[Record]] = {}
    query = RecordQuery(kinds=(Kind.VALIDATION,), limit=ENTRIES_MAX)
    for record in reversed(await ctx.store.records(query)):
        body = record.body or {}
        group, event = body.get("group"), body.get("event")
        if body.get("format") != FORMAT or not isinstance(group, str):
            continue
        if event in (PINNED, CANCELLED):
            found[group] = []
        elif event == REPORTED and body.get("plate_digest") == plate.plate.digest:
            found.setdefault(group, []).append(record)
    return {group: Round(group, tuple(records)) for group, records in found.items()}


# ---- what a model does ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An instance that may report: its group, and the delivery (hash of its receipt) that the report belongs to."""

    seat: Seat
    instance: Instance
    group: str
    delivery: str
    plate: PlateInForce
    round: Round = field(repr=False)


async def _candidate(ctx: Context, seat: Seat) -> _Candidate:
    instance = Instance.from_body(seat.snapshot)
    group = group_of(instance)
    plate = await current_plate(ctx)
    if group == UNKNOWN_GROUP:
        raise Refused(
            "a baseline belongs to one model, and this instance has not said which it is; call load_plate again with "
            "instance_id and your model id"
        )
    if instance.state is not State.ACTIVE or instance.nonce_hash is None or instance.plate_seq is None:
        raise Refused(
            "commissioning follows a fresh delivery of the Plate, and not a flag; call load_plate, then ask again"
        )
    if instance.plate_seq != plate.seq:
        raise Refused("the Plate has changed since it was delivered to this instance; call load_plate again")
    found = (await rounds(ctx, plate)).get(group, Round(group))
    if any((record.body or {}).get("delivery") == instance.nonce_hash for record in found.reports):
        raise Refused("this delivery of the Plate has its report already; call load_plate for another one")
    if len(found.reports) >= commissioning.REPORTS_MAX:
        raise Refused(f"there are {len(found.reports)} reports, which is all that are taken. {READY}")
    return _Candidate(seat, instance, group, instance.nonce_hash, plate, found)


async def open_run(ctx: Context, caller: Caller, seat: Seat) -> Validation:
    """Hand out a commissioning run with the rubric.

    Raises:
        Refused: the model is unknown, the Plate was not delivered afresh, or there are enough reports.
    """
    found = await _candidate(ctx, seat)
    now = ctx.now_us()
    run = ctx.entropy.name("v")
    body = _body(caller, found, OPENED, run) | {"key": f"{_OPENED_KEY}{run}"}
    head, _ = await _append(ctx, seat, Draft(Kind.VALIDATION, now, body), now)
    until = iso(now + ctx.settings.lease_us)
    return _result(
        found, run, "open", f"{HOW} The run expires at {until}.", head, text=rubric().text, round_=found.round
    )


async def take_scores(ctx: Context, caller: Caller, seat: Seat, run: str, scores: object) -> Validation:
    """Record the scores (0 to 5) of a run, once.

    Raises:
        BadVector: not 16 scores; the run stays open. NotFound: no such run, or it has expired.
        Conflict: the run or the delivery was used. Refused: as `open_run`.
    """
    vector = parse_vector(scores, scale="rubric")
    opened = await recorded_under(ctx, caller, f"{_OPENED_KEY}{run}")
    about = (opened.body or {}) if opened is not None else {}
    if opened is None or about.get("instance") != seat.instance_id:
        raise NotFound(f"this instance has no commissioning run {run!r}; ask for one with kind=commission")
    now = ctx.now_us()
    if now - opened.time_us > ctx.settings.lease_us:
        raise NotFound(f"the run {run!r} has expired; ask for another one with kind=commission")
    found = await _candidate(ctx, seat)
    if (about.get("group"), about.get("delivery")) != (found.group, found.delivery):
        raise Conflict(
            f"the model or the delivered Plate has changed since the run {run!r} was handed out; ask for another one "
            "with kind=commission"
        )
    body = _body(caller, found, REPORTED, run) | {
        # One report per delivery, whatever comes at the same time: the store takes a key once.
        "key": f"{_REPORTED_KEY}{found.delivery}",
        "measured_by": "self_report",
        "opened_seq": opened.seq,
        "vec": {"dtype": "f8le", "shape": [len(TRAITS)]},
    }
    draft = Draft(Kind.VALIDATION, now, body, to_blob(vector))
    head, seq = await _append(ctx, seat, draft, now)
    round_ = Round(found.group, (*found.round.reports, Record(seq, now, Kind.VALIDATION, body, draft.blob)))
    said = round_.said()
    note = READY if said["ready"] else MORE
    if said["disagree"]:
        note = f"{MORE} So far the reports disagree too much on: {', '.join(said['disagree'])}."
    return _result(found, run, "recorded", note, head, round_=round_)


def _body(caller: Caller, found: _Candidate, event: str, run: str) -> Body:
    body: Body = {
        "delivery": found.delivery,
        "event": event,
        "format": FORMAT,
        "group": found.group,
        "instance": found.instance.id,
        "plate_digest": found.plate.plate.digest,
        "plate_seq": found.plate.seq,
        "principal": caller.principal,
        "rubric_sha256": rubric().digest,
        "run": run,
        "source": caller.source,
    }
    if found.instance.conversation_id:
        body["conversation"] = found.instance.conversation_id
    return body


async def _append(ctx: Context, seat: Seat, draft: Draft, now: int) -> tuple[str, int]:
    drafts = (draft, *(await lease_drafts(ctx, seat.instance_id, now)))
    done = await ctx.store.append(Group(drafts, touch={seat.instance_id: now}))
    if done.receipts[0].replayed:
        raise Conflict("this delivery of the Plate has its report already; call load_plate for another one")
    ctx.seen_us[seat.instance_id] = now
    return str(done.head), done.receipts[0].seq


def _result(
    found: _Candidate, run: str, state: str, note: str, head: str, *, round_: Round, text: str | None = None
) -> Validation:
    return {
        "instance_id": found.instance.id,
        "run_id": run,
        "state": state,
        "questions": [],
        "plate_recall": None,
        "rubric": text,
        "commissioning": round_.said(),
        "record": None,
        "peers": None,
        "note": note,
        "head": head,
    }


# ---- what the person does ------------------------------------------------------------------------------


async def overview(ctx: Context) -> list[CommissionGroup]:
    """Every group that has reports or a pinned baseline, with all numbers: for the person."""
    plate = await current_plate(ctx)
    return [await _shown(ctx, plate, round_) for _, round_ in sorted((await rounds(ctx, plate)).items())]


async def _shown(ctx: Context, plate: PlateInForce, round_: Round) -> CommissionGroup:
    now: Baseline = await baseline_of(ctx, round_.group, plate)
    vectors = round_.vectors
    wide = commissioning.disagreement(vectors) if len(vectors) > 1 else ()
    measured = commissioning.commission(vectors) if len(vectors) >= commissioning.REPORTS_MIN else None
    deviations = commissioning.trait_deviations(vectors) if len(vectors) > 1 else ()
    pinned = await pinned_for(ctx, round_.group)
    return {
        "group": round_.group,
        "plate": plate_name(plate),
        "baseline_source": now.source,
        "baseline_entry": now.seq,
        "baseline": _named(now.vector),
        "sigma": round(now.sigma, 4),
        "repeats": now.repeats,
        "pinned_for_another_plate": pinned is not None and now.seq is None,
        "reports": len(vectors),
        "instances": len({str((record.body or {}).get("instance")) for record in round_.reports}),
        "copies": len(vectors) - len(set(vectors)),
        "needed": commissioning.REPORTS_MIN,
        "deviation": round(measured.deviation, 4) if measured is not None else None,
        "deviations": _named(deviations) if deviations else {},
        "disagree": list(wide),
        "ready": measured is not None and not wide,
    }


def _named(vector: Vector) -> dict[str, float]:
    return {name: round(value, 4) for name, value in zip(TRAITS, vector, strict=True)}


async def proposed(ctx: Context, group: str | None = None) -> CommissionGroup:
    """The group that `pin` would take, for the person to look at.

    Raises:
        As `pin`.
    """
    plate = await current_plate(ctx)
    round_ = _chosen(await rounds(ctx, plate), group)
    must_be_pinnable(round_)
    return await _shown(ctx, plate, round_)


async def pin(
    ctx: Context, caller: Caller, group: str | None = None, *, expected: int | None = None
) -> CommissionGroup:
    """Pin the baseline and noise of a group's reports; whether the person asked is the command line's to decide.

    `expected` is the number of reports that the person was shown.

    Raises:
        Conflict: there are more or fewer than expected by now.
        Refused: too few reports, or they disagree too much. BadInput: which group is meant. StoreMoved.
    """
    for _ in range(GUARD_RETRIES_MAX):
        size = (await ctx.store.info()).head.size
        plate = await current_plate(ctx)
        round_ = _chosen(await rounds(ctx, plate), group)
        must_be_pinnable(round_)
        if expected not in (None, len(round_.reports)):
            raise Conflict(
                f"there are {len(round_.reports)} reports by now, not {expected}; look at them again"
            )
        added, blob = encode(round_.vectors)
        body = _persons(caller, round_.group, PINNED, plate) | added
        body["reports"] = [record.seq for record in round_.reports]
        body["rubric_sha256"] = rubric().digest
        draft = Draft(Kind.VALIDATION, ctx.now_us(), body, blob)
        try:
            await ctx.store.append(Group((draft,), guard=Guard((Kind.VALIDATION, Kind.PLATE), size)))
        except StoreMoved:
            continue
        return await _shown(ctx, plate, Round(round_.group))
    raise StoreMoved("other writers kept coming first; nothing was pinned, try again")


async def cancel(
    ctx: Context, caller: Caller, group: str | None = None, *, baseline_too: bool = False
) -> CommissionGroup:
    """Leave a group's reports out of any baseline; with `baseline_too` also go back to the Plate's or the default one.

    Raises:
        BadInput: which group is meant. StoreMoved.
    """
    for _ in range(GUARD_RETRIES_MAX):
        size = (await ctx.store.info()).head.size
        plate = await current_plate(ctx)
        round_ = _chosen(await rounds(ctx, plate), group)
        pinned = await pinned_for(ctx, round_.group)
        body = _persons(caller, round_.group, CANCELLED, plate)
        body["keeps"] = pinned[0] if pinned is not None and not baseline_too else None
        body["reports"] = [record.seq for record in round_.reports]
        draft = Draft(Kind.VALIDATION, ctx.now_us(), body)
        try:
            await ctx.store.append(Group((draft,), guard=Guard((Kind.VALIDATION, Kind.PLATE), size)))
        except StoreMoved:
            continue
        return await _shown(ctx, plate, Round(round_.group))
    raise StoreMoved("other writers kept coming first; nothing was cancelled, try again")


def must_be_pinnable(round_: Round) -> None:
    """Go on only if these reports make a baseline.

    Raises:
        Refused: too few, or they disagree too much; it names the traits.
    """
    count, needed = len(round_.reports), commissioning.REPORTS_MIN
    if count < needed:
        raise Refused(
            f"{round_.group} has {count} reports, and a baseline needs {needed}; nothing was pinned"
        )
    wide = commissioning.disagreement(round_.vectors)
    if wide:
        deviations = dict(zip(TRAITS, commissioning.trait_deviations(round_.vectors), strict=True))
        said = ", ".join(f"{name} ({deviations[name]:.2f})" for name in wide)
        raise Refused(
            f"the reports disagree too much on {said}; nothing was pinned. Deviations may be at most "
            f"{commissioning.TRAIT_DEVIATION_MAX:.2f} for a trait and {commissioning.DEVIATION_MAX:.2f} over all. Make "
            "each report the average of several ratings, or say more plainly in the Plate what is meant; "
            "ccn-mcp commission cancel starts again"
        )


def _chosen(found: Mapping[str, Round], group: str | None) -> Round:
    names: Sequence[str] = sorted(found)
    if group is not None:
        if group not in found:
            raise BadInput(
                f"nothing was reported for the group {group!r}; ccn-mcp commission status lists the groups"
            )
        return found[group]
    if len(names) != 1:
        raise BadInput(
            f"name one of these with --group: {', '.join(names)}"
            if names
            else "there are no commissioning reports yet; ask an instance to call validate_character with "
            "kind=commission, after load_plate with its model"
        )
    return found[names[0]]


def _persons(caller: Caller, group: str, event: str, plate: PlateInForce) -> Body:
    return {
        "event": event,
        "format": FORMAT,
        "group": group,
        "plate_digest": plate.plate.digest,
        "plate_seq": plate.seq,
        "principal": caller.principal,
        "source": caller.source,
    }


def differs(record: Record, vectors: Mapping[int, Vector]) -> str | None:
    """Why a pinned baseline does not follow from its reports (position to vector); None if it does."""
    from ccn_mcp.domain.commissioning_record import differs as compared

    pinned = decode(record.body or {}, record.blob)
    return compared(record.body or {}, record.blob, [vectors[seq] for seq in pinned.reports])
