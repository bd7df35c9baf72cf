from __future__ import annotations

from dataclasses import replace

import pytest

from ccn_mcp.domain import instances as of
from ccn_mcp.domain.instances import Instance, State
from ccn_mcp.domain.limits import VOTERS_MAX
from ccn_mcp.domain.turnout import LatestReport, Seat, Turnout, participants

ACTIVE = of.loaded(of.opened("i1", "local", model="m"), plate_seq=3, nonce_hash="first")
FLAGGED = of.flagged(ACTIVE)
FAILED = replace(FLAGGED, state=State.FAILED)
GONE = of.terminated(ACTIVE)


def seat(instance: Instance, seen: int, reported: int | None) -> Seat:
    report = None if reported is None else LatestReport(1, (0.5,) * 16, reported, is_new=True)
    return Seat(instance, seen, report)


@pytest.mark.parametrize(
    ("instance", "seen", "reported", "reason"),
    [
        (ACTIVE, 1000, 1000, None),
        (ACTIVE, 900, 940, None),
        (ACTIVE, 899, 1000, "lease_expired"),
        (ACTIVE, 1000, 939, "stale"),
        (ACTIVE, 1000, None, "no_report"),
        (ACTIVE, 899, None, "lease_expired"),
        (FLAGGED, 1000, 1000, "flagged"),
        (FAILED, 1000, 1000, "flagged"),
        (replace(ACTIVE, reports_from_us=990), 1000, 989, "no_report"),
        (replace(ACTIVE, reports_from_us=990), 1000, 990, None),
    ],
)
def test_who_votes(instance: Instance, seen: int, reported: int | None, reason: str | None) -> None:
    turnout = participants([seat(instance, seen, reported)], now_us=1000, lease_us=100, fresh_us=60)
    assert [s.instance.id for s in turnout.voting] == ([] if reason else ["i1"])
    assert turnout.excluded == ({"i1": reason} if reason else {})


def test_a_report_of_too_few_ratings_does_not_vote() -> None:
    two = LatestReport(1, (0.5,) * 16, 1000, is_new=True, ratings=2)
    for needed, reason in ((1, {}), (2, {}), (3, {"i1": "few_ratings"})):
        turnout = participants(
            [Seat(ACTIVE, 1000, two)], now_us=1000, lease_us=100, fresh_us=60, ratings=needed
        )
        assert turnout.excluded == reason
        assert len(turnout.voting) == (not reason)


def test_terminated_instances_are_not_mentioned() -> None:
    turnout = participants([seat(GONE, 1000, 1000)], now_us=1000, lease_us=100, fresh_us=60)
    assert turnout == Turnout((), {})


def test_the_most_recently_seen_vote_above_the_maximum() -> None:
    seats = [seat(replace(ACTIVE, id=f"i{at:04}"), at, at) for at in range(VOTERS_MAX + 2)]
    turnout = participants(seats, now_us=2000, lease_us=10_000, fresh_us=10_000)
    assert len(turnout.voting) == VOTERS_MAX
    assert turnout.excluded == {"i0000": "over_limit", "i0001": "over_limit"}
