"""Time series of the measure: each report with its drifts and its verdict, as they stand in the log.

Nothing is computed again: drifts and verdicts are those of the evaluation that judged the report, against the
baseline and the consensus of that moment. These numbers are for the person (command line, panel, page); an
instance is shown trait numbers by the rule of docs/character.md only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypedDict

from ccn_mcp.domain.character import RELATIONAL, TRAITS, from_blob
from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.instances import UNKNOWN_GROUP, Event, Instance, group_of
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import RecordQuery
from ccn_mcp.node.context import Context, iso, parse_time, short_text

if TYPE_CHECKING:
    from ccn_mcp.domain.character import Vector
    from ccn_mcp.domain.models import Record

REPORTS_MAX: Final = 2_000
"""Reports of one series; the newest are kept."""

REPORTS_DEFAULT: Final = 200
SCAN_MAX: Final = 5_000
"""Newest reports, and newest evaluations, that are looked at for a series."""

E4: Final = 10_000
"""Drifts lie in the log in ten-thousandths."""


class Point(TypedDict):
    """One report. Drifts are RMS, 0 to 1, and None where no evaluation judged it; `consistency` is CCC."""

    seq: int
    at: str
    instance_id: str
    conversation_id: str | None
    traits: list[float]
    relational: list[float] | None
    measured_by: str
    consistency: float | None
    from_baseline: float | None
    from_consensus: float | None
    action: str | None


class Compaction(TypedDict):
    """A client has put a summary in the place of an instance's context."""

    seq: int
    at: str
    instance_id: str
    conversation_id: str | None


class PeerPoint(TypedDict):
    """One result of a peer task: the median, lowest and highest ratings by trait, of so many raters."""

    at: str
    instance_id: str
    raters: int
    median: list[float]
    lowest: list[float]
    highest: list[float]


class Series(TypedDict):
    """Reports and compactions, oldest first. `baseline` and `consensus` are the newest of the newest report's group."""

    traits: list[str]
    relational: list[str]
    baseline: list[float]
    baseline_source: str
    consensus: list[float] | None
    points: list[Point]
    compactions: list[Compaction]
    peers: list[PeerPoint]
    left_out: str | None


async def series(
    ctx: Context,
    *,
    instance_id: str | None = None,
    conversation_id: str | None = None,
    since: str | None = None,
    limit: int = REPORTS_DEFAULT,
) -> Series:
    """The newest `limit` reports that fit, with what was found about each. Reads only.

    Raises:
        BadInput: a limit outside 1 to `REPORTS_MAX`, or no date or time in `since`.
    """
    from ccn_mcp.node.baselines import baseline_of
    from ccn_mcp.node.plates import current_plate

    if not 1 <= limit <= REPORTS_MAX:
        raise BadInput(f"limit is {limit}; give a number from 1 to {REPORTS_MAX}")
    since_text = short_text(since, "since")
    since_us = parse_time(since_text, "since") if since_text else None
    instance = short_text(instance_id, "instance_id")
    conversation = short_text(conversation_id, "conversation_id")
    read = await ctx.store.records(RecordQuery(kinds=(Kind.VECTOR,), subject=instance, limit=SCAN_MAX))
    fitting = [record for record in read if _fits(record, conversation, since_us)]
    kept = fitting[:limit][::-1]
    verdicts = await _verdicts(ctx, kept)
    metrics = await _metrics(ctx, instance, kept)
    base = await baseline_of(ctx, await _group(ctx, kept) or UNKNOWN_GROUP, await current_plate(ctx))
    notes = []
    if len(fitting) > len(kept):
        notes.append(f"{len(fitting) - len(kept)} older reports")
    if len(read) == SCAN_MAX:
        notes.append(f"what lies before the newest {SCAN_MAX} reports")
    return {
        "traits": list(TRAITS),
        "relational": list(RELATIONAL),
        "baseline": _rounded(base.vector),
        "baseline_source": base.source,
        "consensus": await _consensus(ctx, kept),
        "points": [_point(record, verdicts, metrics) for record in kept],
        "compactions": await _compactions(ctx, instance, conversation, kept),
        "peers": await _peers(ctx, {str((record.body or {}).get("instance")) for record in kept}),
        "left_out": "; ".join(notes) or None,
    }


def _fits(record: Record, conversation: str | None, since_us: int | None) -> bool:
    if record.body is None or (since_us is not None and record.time_us < since_us):
        return False
    return conversation is None or record.body.get("conversation") == conversation


def _point(
    record: Record,
    verdicts: Mapping[int, Mapping[str, object]],
    metrics: Mapping[tuple[str, int], list[float]],
) -> Point:
    body = record.body or {}
    instance, conversation = str(body.get("instance")), body.get("conversation")
    verdict = verdicts.get(record.seq, {})
    base = _rms(verdict.get("base_drift_e4"))
    return {
        "seq": record.seq,
        "at": iso(record.time_us),
        "instance_id": instance,
        "conversation_id": conversation if isinstance(conversation, str) else None,
        "traits": _rounded(from_blob(record.blob, len(TRAITS))),
        "relational": metrics.get((instance, record.time_us)),
        "measured_by": str(body.get("measured_by")),
        "consistency": round(1 - base, 4) if base is not None else None,
        "from_baseline": base,
        "from_consensus": _rms(verdict.get("drift_e4")),
        "action": str(verdict["action"]) if "action" in verdict else None,
    }


def _rms(found: object) -> float | None:
    return found[0] / E4 if isinstance(found, list) and found and isinstance(found[0], int) else None


def _rounded(vector: Vector) -> list[float]:
    return [round(value, 4) for value in vector]


async def _verdicts(ctx: Context, kept: Sequence[Record]) -> dict[int, Mapping[str, object]]:
    """By the report's position: what the evaluation for which it was new says of it."""
    found: dict[int, Mapping[str, object]] = {}
    if not kept:
        return found
    query = RecordQuery(kinds=(Kind.CONSENSUS,), after=kept[0].seq, limit=SCAN_MAX)
    for record in await ctx.store.records(query):
        reports = (record.body or {}).get("reports")
        for item in reports if isinstance(reports, list) else ():
            if isinstance(item, dict) and item.get("new") is True:
                report = item.get("report")
                if isinstance(report, int):
                    found[report] = item
    return found


async def _metrics(
    ctx: Context, instance: str | None, kept: Sequence[Record]
) -> dict[tuple[str, int], list[float]]:
    """Relational metrics by instance and time: they come in one group with their report, so at the same time."""
    if not kept:
        return {}
    query = RecordQuery(kinds=(Kind.METRIC,), subject=instance, after=kept[0].seq, limit=SCAN_MAX)
    return {
        (str(record.body.get("instance")), record.time_us): _rounded(from_blob(record.blob, len(RELATIONAL)))
        for record in await ctx.store.records(query)
        if record.body is not None and record.body.get("metric") == "relational"
    }


async def _compactions(
    ctx: Context, instance: str | None, conversation: str | None, kept: Sequence[Record]
) -> list[Compaction]:
    """Those since the oldest report that is shown."""
    if not kept:
        return []
    query = RecordQuery(kinds=(Kind.INSTANCE,), subject=instance, after=kept[0].seq, limit=SCAN_MAX)
    found: list[Compaction] = []
    for record in (await ctx.store.records(query))[::-1]:
        body = record.body or {}
        place = body.get("conversation")
        if body.get("event") == Event.COMPACTED and conversation in (None, place):
            found.append(
                {
                    "seq": record.seq,
                    "at": iso(record.time_us),
                    "instance_id": str(body.get("instance")),
                    "conversation_id": place if isinstance(place, str) else None,
                }
            )
    return found


async def _peers(ctx: Context, instances: set[str]) -> list[PeerPoint]:
    """Results of peer tasks about these instances, newest first; of one task, which may have several, the newest."""
    found: dict[str, PeerPoint] = {}
    for record in await ctx.store.records(RecordQuery(kinds=(Kind.VALIDATION,), limit=SCAN_MAX)):
        body = record.body or {}
        run, raters = str(body.get("run")), body.get("raters")
        if body.get("event") == "peer_measured" and body.get("instance") in instances and run not in found:
            rows = _rounded(from_blob(record.blob, 3 * len(TRAITS)))
            median, lowest, highest = (rows[at : at + len(TRAITS)] for at in range(0, len(rows), len(TRAITS)))
            found[run] = {
                "at": iso(record.time_us),
                "instance_id": str(body["instance"]),
                "raters": len(raters) if isinstance(raters, list) else 0,
                "median": median,
                "lowest": lowest,
                "highest": highest,
            }
    return list(found.values())


async def _group(ctx: Context, kept: Sequence[Record]) -> str | None:
    """The group that the newest report belongs to."""
    seats = await ctx.store.seats(instance_id=str((kept[-1].body or {}).get("instance"))) if kept else []
    return group_of(Instance.from_body(seats[0].snapshot)) if seats else None


async def _consensus(ctx: Context, kept: Sequence[Record]) -> list[float] | None:
    """The newest consensus of the group that the newest report belongs to."""
    from ccn_mcp.node.consensus import last_judgement

    group = await _group(ctx, kept)
    last = await last_judgement(ctx, group) if group is not None else None
    return _rounded(last.recorded.consensus) if last is not None and last.recorded.consensus else None
