"""Computing every evaluation and every pinned baseline again from the log, and explaining one verdict."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Final

from ccn_mcp.domain.character import TRAITS, Vector, average, from_blob, to_blob
from ccn_mcp.domain.commissioning_record import FORMAT, PINNED
from ccn_mcp.domain.commissioning_record import decode as decode_pin
from ccn_mcp.domain.consensus_record import Recorded, decode, replay
from ccn_mcp.domain.consensus_types import Evaluation as Evaluated
from ccn_mcp.domain.consensus_types import GroupState
from ccn_mcp.domain.errors import BadInput, NotFound, VerificationFailed
from ccn_mcp.domain.explanation import Explanation, explain
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Record, RecordQuery
from ccn_mcp.node.baselines import COMMISSIONED, SAID
from ccn_mcp.node.commissioning import differs
from ccn_mcp.node.consensus import JUDGE, RATINGS, WHY, ratings_of
from ccn_mcp.node.context import Context, iso
from ccn_mcp.node.judgements import follows
from ccn_mcp.node.replay_results import Explained, Replayed, ReplayFault, RuleExplained
from ccn_mcp.ports import Progress

PAGE: Final = 100
FAULTS_SHOWN: Final = 100
RATINGS_NEAR: Final = 2
"""Metrics of one report: the relational ones and its ratings, which follow it in the same group."""

ROW_BYTES: Final = 8 * len(TRAITS)


@dataclass(slots=True)
class _Tally:
    """What was found so far, each group's state and its pinned baselines; `gaps`: an erased entry may have been one."""

    matching: int = 0
    pins: int = 0
    erased: list[int] = field(default_factory=list)
    faults: list[ReplayFault] = field(default_factory=list)
    states: dict[str, GroupState] = field(default_factory=dict)
    pinned: dict[str, set[Vector]] = field(default_factory=dict)
    gaps: bool = False

    def fault(self, seq: int, detail: str) -> None:
        self.faults.append({"seq": seq, "detail": detail})


async def replay_all(ctx: Context, group: str | None = None, progress: Progress | None = None) -> Replayed:
    """Compute every evaluation, and every pinned baseline, again and compare it bit for bit with the log.

    An evaluation that used a report which was erased since cannot be computed again; it is listed, and the ones after
    it go on from its recorded state.

    Raises:
        BadInput: `group` has no evaluation.
    """
    size = (await ctx.store.info()).head.size
    found = _Tally()
    async for record in _records(ctx, size):
        if record.kind is Kind.CONSENSUS:
            await _evaluation(ctx, record, group, found)
        elif record.body is None:
            found.gaps = True
        elif record.body.get("event") == PINNED:
            await _pin(ctx, record, group, found)
        if progress is not None:
            progress(record.seq, size)
    if group is not None and group not in found.states:
        raise BadInput(f"there is no evaluation of the group {group!r}; ccn-mcp status shows who reported")
    return {
        "ok": not found.faults,
        "evaluations": found.matching + len(found.erased) + len(found.faults),
        "matching": found.matching,
        "baselines": found.pins,
        "erased": found.erased[:FAULTS_SHOWN],
        "erased_count": len(found.erased),
        "faults": found.faults[:FAULTS_SHOWN],
        "fault_count": len(found.faults),
        "groups": sorted(found.states),
        "head": str((await ctx.store.info()).head),
    }


async def _records(ctx: Context, size: int) -> AsyncIterator[Record]:
    query = RecordQuery(kinds=(Kind.CONSENSUS, Kind.VALIDATION), oldest_first=True, limit=PAGE)
    while page := await ctx.store.records(query):
        for record in page:
            if record.seq >= size:
                return
            yield record
        query = replace(query, after=page[-1].seq)


async def _evaluation(ctx: Context, record: Record, group: str | None, found: _Tally) -> None:
    body = record.body or {}
    if group is not None and body.get("group") != group:
        return
    try:
        recorded = decode(body, record.blob)
        vectors, strangers = await _reports(ctx, recorded)
    except VerificationFailed as error:
        found.fault(record.seq, str(error))
        return
    before = found.states.get(recorded.group, GroupState())
    found.states[recorded.group] = recorded.state
    if strangers:
        found.fault(
            record.seq,
            f"entry {strangers[0]} is not the report of the instance that it is counted for, or not the average of its "
            "ratings",
        )
        return
    outcome = replay(before, body, record.blob, vectors)
    missing = [seat.report_id for seat in recorded.seats if seat.report_id not in vectors]
    if not isinstance(outcome, Evaluated):
        if missing and outcome.fields == ("reports",):
            found.erased.append(record.seq)
        else:
            found.fault(record.seq, outcome.message)
    elif recorded.baseline_source == COMMISSIONED and not _was_pinned(recorded, found):
        found.fault(record.seq, "it was measured against a baseline that was not pinned before it")
    else:
        found.matching += 1


def _was_pinned(recorded: Recorded, found: _Tally) -> bool:
    return found.gaps or recorded.baseline in found.pinned.get(recorded.group, set())


async def _reports(ctx: Context, recorded: Recorded) -> tuple[dict[int, Vector], list[int]]:
    """The reports that are still there, and the positions of those that are not what the evaluation says."""
    seqs = tuple(seat.report_id for seat in recorded.seats)
    query = RecordQuery(kinds=(Kind.VECTOR,), seqs=seqs, limit=max(1, len(seqs)))
    records = {record.seq: record for record in await ctx.store.records(query)} if seqs else {}
    vectors: dict[int, Vector] = {}
    strangers: list[int] = []
    for seat in recorded.seats:
        record = records.get(seat.report_id)
        if record is None:
            strangers.append(seat.report_id)
        elif record.body is not None:
            vectors[record.seq] = from_blob(record.blob, len(TRAITS))
            if record.body.get("instance") != seat.instance or (
                seat.is_new and not await _is_average(ctx, record)
            ):
                strangers.append(record.seq)
    return vectors, strangers


async def _is_average(ctx: Context, report: Record) -> bool:
    """Whether a report follows from the ratings that came with it; True where it is one rating, or they were erased."""
    count = ratings_of(report.body)
    if (report.body or {}).get("measured_by") == JUDGE:
        return await follows(ctx, report)
    if count == 1:
        return True
    instance = str((report.body or {}).get("instance"))
    query = RecordQuery(
        kinds=(Kind.METRIC,), subject=instance, after=report.seq, oldest_first=True, limit=RATINGS_NEAR
    )
    for record in await ctx.store.records(query):
        if record.body is None:
            return True
        if record.body.get("metric") == RATINGS and record.time_us == report.time_us:
            rows = [
                from_blob(record.blob[at : at + ROW_BYTES], len(TRAITS))
                for at in range(0, len(record.blob), ROW_BYTES)
            ]
            return len(rows) == count and to_blob(average(rows)) == report.blob
    return False


async def _pin(ctx: Context, record: Record, group: str | None, found: _Tally) -> None:
    try:
        pinned = decode_pin(record.body or {}, record.blob)
    except VerificationFailed as error:
        found.fault(record.seq, str(error))
        return
    if group not in (None, pinned.group):
        return
    found.pinned.setdefault(pinned.group, set()).add(pinned.baseline)
    query = RecordQuery(kinds=(Kind.VALIDATION,), seqs=pinned.reports, limit=max(1, len(pinned.reports)))
    reports = [item for item in await ctx.store.records(query) if item.body is not None]
    theirs = [
        item
        for item in reports
        if item.body and (item.body.get("format"), item.body.get("group")) == (FORMAT, pinned.group)
    ]
    if len(reports) < len(pinned.reports):
        found.erased.append(record.seq)
        return
    vectors = {item.seq: from_blob(item.blob, len(TRAITS)) for item in theirs}
    wrong = (
        differs(record, vectors)
        if len(vectors) == len(pinned.reports)
        else "a report that it names is none of this group's"
    )
    if wrong is not None:
        found.fault(record.seq, f"the pinned baseline does not follow from its reports: {wrong}")
    else:
        found.pins += 1


# ---- one verdict in words ------------------------------------------------------------------------------


async def explain_verdict(ctx: Context, what: str | None = None) -> list[Explained]:
    """The verdicts of one evaluation on new reports, or the last one on an instance, with every number.

    `what` is the position of an evaluation or of a report, or an instance's id; without it the newest evaluation.

    Raises:
        NotFound: there is no such evaluation.
    """
    if what is None or what.isdecimal():
        record = await _meant(ctx, int(what) if what is not None else None)
        recorded = decode(record.body or {}, record.blob)
        only = [seat.instance for seat in recorded.seats if seat.is_new]
        if what is not None and record.seq != int(what):
            only = [seat.instance for seat in recorded.seats if seat.report_id == int(what)]
        names = only or [seat.instance for seat in recorded.seats]
    else:
        record = await _last_of(ctx, what)
        recorded, names = decode(record.body or {}, record.blob), [what]
    vectors, _ = await _reports(ctx, recorded)
    reports = {seat.instance: seat.report_id for seat in recorded.seats}
    found = []
    for name in names:
        report = (await ctx.store.records(RecordQuery(kinds=(Kind.VECTOR,), seqs=(reports[name],))))[0]
        found.append(
            _explained(record, recorded, report, explain(recorded, name, vectors.get(reports[name])))
        )
    return found


async def _meant(ctx: Context, seq: int | None) -> Record:
    if seq is None:
        found = await ctx.store.records(RecordQuery(kinds=(Kind.CONSENSUS,), limit=1))
        if not found:
            raise NotFound("nothing was evaluated yet; an instance's first report brings the first verdict")
        return found[0]
    found = await ctx.store.records(RecordQuery(seqs=(seq,)))
    if found and found[0].kind is Kind.CONSENSUS:
        return found[0]
    if found and found[0].kind is Kind.VECTOR:
        query = RecordQuery(kinds=(Kind.CONSENSUS,), after=seq, oldest_first=True, limit=PAGE)
        for record in await ctx.store.records(query):
            if any(seat.report_id == seq for seat in decode(record.body or {}, record.blob).seats):
                return record
    raise NotFound(f"entry {seq} is no evaluation, and no report that was judged; name an instance instead")


async def _last_of(ctx: Context, instance: str) -> Record:
    """The newest evaluation in which the instance had a new report."""
    reports = await ctx.store.records(RecordQuery(kinds=(Kind.VECTOR,), subject=instance, limit=1))
    if not reports:
        raise NotFound(f"no instance {instance!r} has reported; ccn-mcp status lists the instances")
    return await _meant(ctx, reports[0].seq)


def _explained(record: Record, recorded: Recorded, report: Record, found: Explanation) -> Explained:
    rules: list[RuleExplained] = [
        {
            "rule": test.rule,
            "compares": test.compares,
            "rms": round(test.rms, 6),
            "rms_limit": round(test.rms_limit, 6),
            "max": round(test.largest, 6),
            "max_limit": round(test.max_limit, 6) if test.max_limit is not None else None,
            "exceeded": test.exceeded,
            "decides": test.rule != "ORIGINAL",
        }
        for test in found.tests
    ]
    verdict = recorded.verdicts[found.instance]
    return {
        "seq": record.seq,
        "at": iso(record.time_us),
        "group": recorded.group,
        "instance_id": found.instance,
        "report": report.seq,
        "measured_by": str(report.body.get("measured_by")) if report.body is not None else None,
        "new": found.is_new,
        "action": found.action,
        "why": WHY[found.reason],
        "follows": found.follows,
        "rules_version": recorded.rules,
        "baseline_source": recorded.baseline_source,
        "baseline_said": SAID.get(recorded.baseline_source, recorded.baseline_source),
        "sigma": round(recorded.sigma, 6),
        "reports": len(recorded.seats),
        "principals": recorded.principals,
        "weight": str(verdict["weight"]),
        "base_run": found.base_run,
        "rules": rules,
        "widest": [
            {"trait": name, "report": round(value, 4), "baseline": round(base, 4)}
            for name, value, base in found.widest
        ],
        "flags": [flag for flag in ("duplicate", "echo") if verdict[flag]],
        "exact": found.exact,
    }
