"""One verdict in plain words with its numbers: each rule, its limit, its value, and what follows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain.character import TRAITS, Vector, drift, drift_max
from ccn_mcp.domain.consensus_record import RULES_BY_VERSION, Recorded
from ccn_mcp.domain.consensus_types import ZERO, Thresholds
from ccn_mcp.domain.errors import NotFound, VerificationFailed

TRAITS_SHOWN: Final = 3

FOLLOWS: Final[Mapping[str, str]] = {
    "ok": "Nothing follows.",
    "watch": "Nothing is asked of the instance: it is on the baseline, and only differs from the others.",
    "group_review": "Nothing is asked of the instance: the group has moved off the baseline, which is the person's to "
    "look at.",
    "recheck": "A fresh report is asked for; a second one in a row beyond the limit means re-initialisation.",
    "reinit": "The instance is flagged: it has no vote, and reports again only after it has loaded the Plate and "
    "returned that load's receipt.",
}


@dataclass(frozen=True, slots=True)
class Test:
    """One rule's numbers. `exceeded` is None where the rule did not apply, the limits None where there is none."""

    rule: str
    compares: str
    rms: float
    rms_limit: float
    largest: float
    max_limit: float | None
    exceeded: bool | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one instance got its verdict. `exact`: from the report itself; else from the recorded ten-thousandths."""

    instance: str
    action: str
    reason: str
    is_new: bool
    base_run: int
    tests: tuple[Test, ...]
    widest: tuple[tuple[str, float, float], ...]
    exact: bool

    @property
    def follows(self) -> str:
        """What the action asks for."""
        return FOLLOWS[self.action]


def explain(recorded: Recorded, instance: str, vector: Vector | None) -> Explanation:
    """Explain the verdict on `instance` in one evaluation; `vector` is its report, None if that was erased.

    `widest` are the traits that are furthest from the baseline: name, report, baseline.

    Raises:
        NotFound: the instance took no part. VerificationFailed: rules that are not known here.
    """
    verdict = recorded.verdicts.get(instance)
    if verdict is None:
        raise NotFound(f"the instance {instance!r} took no part in this evaluation; it judged others")
    rules = RULES_BY_VERSION.get(recorded.rules)
    if rules is None:
        raise VerificationFailed(f"rules {recorded.rules!r} are not known here; use a newer version")
    member = recorded.state.members.get(instance)
    pairs = _distances(recorded, verdict, vector, member.ewma if member is not None else ZERO)
    seat = next(seat for seat in recorded.seats if seat.instance == instance)
    return Explanation(
        instance=instance,
        action=str(verdict["action"]),
        reason=str(verdict["reason"]),
        is_new=seat.is_new,
        base_run=member.base_run if member is not None else 0,
        tests=_tests(rules, recorded, verdict, pairs),
        widest=_widest(vector, recorded.baseline),
        exact=vector is not None,
    )


def _distances(
    recorded: Recorded, verdict: Mapping[str, object], vector: Vector | None, ewma: Vector
) -> list[tuple[float, float]]:
    """RMS and MAX from the consensus, from the baseline, of the instance's E."""
    if vector is None or recorded.consensus is None:
        return [_thousandths(verdict, name) for name in ("drift_e4", "base_drift_e4", "ewma_e4")]
    return [
        (drift(vector, recorded.consensus), drift_max(vector, recorded.consensus)),
        (drift(vector, recorded.baseline), drift_max(vector, recorded.baseline)),
        (drift(ewma, ZERO), drift_max(ewma, ZERO)),
    ]


def _thousandths(verdict: Mapping[str, object], name: str) -> tuple[float, float]:
    match verdict.get(name):
        case [int(rms), int(most)]:
            return rms / 10_000, most / 10_000
    raise VerificationFailed("a recorded verdict has no distances; run ccn-mcp verify")


def _tests(
    rules: Thresholds,
    recorded: Recorded,
    verdict: Mapping[str, object],
    pairs: list[tuple[float, float]],
) -> tuple[Test, ...]:
    sigma = recorded.sigma

    def bound(rule: tuple[float, float]) -> float:
        return max(rule[0], rule[1] * sigma)

    def said(name: str) -> bool | None:
        value = verdict.get(name)
        return value if isinstance(value, bool) else None

    group = recorded.state.ewma
    (peer, base, ewma) = pairs
    others, own = "the report with the consensus", "the report with the baseline"
    return (
        Test("BASE", own, base[0], bound(rules.base_rms), base[1], bound(rules.base_max), said("base")),
        Test(
            "EWMA",
            "the smoothed reports with the baseline",
            *(ewma[0], bound(rules.ewma_rms), ewma[1], bound(rules.ewma_max)),
            said("ewma"),
        ),
        Test("PEER", others, peer[0], bound(rules.peer_rms), peer[1], bound(rules.peer_max), said("peer")),
        Test(
            "GROUP",
            "the smoothed consensus with the baseline",
            *(drift(group, ZERO), bound(rules.group_rms), drift_max(group, ZERO), None),
            recorded.group_alarm,
        ),
        Test("ORIGINAL", others, peer[0], rules.origin_rms, peer[1], None, said("origin_outlier")),
    )


def _widest(vector: Vector | None, baseline: Vector) -> tuple[tuple[str, float, float], ...]:
    if vector is None:
        return ()
    rows = sorted(zip(TRAITS, vector, baseline, strict=True), key=lambda row: -abs(row[1] - row[2]))
    return tuple(rows[:TRAITS_SHOWN])
