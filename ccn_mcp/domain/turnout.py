"""Who takes part in a round: every live, unflagged instance with a fresh report, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ccn_mcp.domain.character import Vector
from ccn_mcp.domain.instances import Instance, State
from ccn_mcp.domain.limits import VOTERS_MAX


class Excluded(StrEnum):
    """Why a live instance does not vote."""

    LEASE_EXPIRED = "lease_expired"
    FLAGGED = "flagged"
    NO_REPORT = "no_report"
    STALE = "stale"
    FEW_RATINGS = "few_ratings"
    OVER_LIMIT = "over_limit"


@dataclass(frozen=True, slots=True)
class LatestReport:
    """An instance's latest accepted report: its ledger sequence, the vector, when, whether new, of how many ratings."""

    report_id: int
    vector: Vector
    at_us: int
    is_new: bool
    ratings: int = 1


@dataclass(frozen=True, slots=True)
class Seat:
    """An instance with what the store knows of its presence."""

    instance: Instance
    last_seen_us: int
    report: LatestReport | None = None


@dataclass(frozen=True, slots=True)
class Turnout:
    """Who votes (by instance id), and why the others do not."""

    voting: tuple[Seat, ...]
    excluded: Mapping[str, Excluded]


def participants(
    seats: Iterable[Seat], *, now_us: int, lease_us: int, fresh_us: int, ratings: int = 1
) -> Turnout:
    """Return which instances vote. Terminated ones are in neither part.

    A bound is reached only when it is strictly exceeded: at exactly `lease_us` the lease still holds.
    Above `VOTERS_MAX` the most recently seen vote. `ratings`: how many a report must be the average of.
    """
    voting: list[Seat] = []
    excluded: dict[str, Excluded] = {}
    for seat in seats:
        if seat.instance.state is State.TERMINATED:
            continue
        reason = _exclusion(seat, now_us, lease_us, fresh_us)
        if reason is None and seat.report is not None and seat.report.ratings < ratings:
            reason = Excluded.FEW_RATINGS
        if reason is None:
            voting.append(seat)
        else:
            excluded[seat.instance.id] = reason
    voting.sort(key=lambda seat: (-seat.last_seen_us, seat.instance.id))
    excluded.update((seat.instance.id, Excluded.OVER_LIMIT) for seat in voting[VOTERS_MAX:])
    return Turnout(tuple(sorted(voting[:VOTERS_MAX], key=lambda seat: seat.instance.id)), excluded)


def _exclusion(seat: Seat, now_us: int, lease_us: int, fresh_us: int) -> Excluded | None:
    if now_us - seat.last_seen_us > lease_us:
        return Excluded.LEASE_EXPIRED
    if seat.instance.state in (State.DRIFTED, State.FAILED):
        return Excluded.FLAGGED
    report = seat.report
    if report is None or report.at_us < seat.instance.reports_from_us:
        return Excluded.NO_REPORT
    if now_us - report.at_us > fresh_us:
        return Excluded.STALE
    return None
