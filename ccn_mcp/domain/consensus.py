"""The consensus of a group of instances and the verdict on each of them: pure functions, no clock.

A round in, an evaluation and the next state out. Every float is made by elementwise additions,
multiplications and square roots in a fixed order (no BLAS, no pairwise sums, whose order depends on the
shape), so the same inputs give the same bits and a ledger entry replays (`consensus_record.py`).

numpy is imported at the top here; the start path imports this module only when a report arrives.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ccn_mcp.domain.character import Vector
from ccn_mcp.domain.commissioning import AUTHORED_SIGMA, Commissioning, commission, repeats_needed, sigma_of
from ccn_mcp.domain.consensus_types import (
    RULES,
    WIDTH,
    ZERO,
    Action,
    Evaluation,
    GroupState,
    MemberState,
    Reason,
    Report,
    Round,
    Thresholds,
    Verdict,
)
from ccn_mcp.domain.errors import BadInput, BadVector, TooLarge
from ccn_mcp.domain.limits import VOTERS_MAX

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

__all__ = [
    "AUTHORED_SIGMA",
    "RULES",
    "WIDTH",
    "ZERO",
    "Action",
    "Commissioning",
    "Evaluation",
    "GroupState",
    "MemberState",
    "Reason",
    "Report",
    "Round",
    "Thresholds",
    "Verdict",
    "commission",
    "evaluate",
    "origin_outliers",
    "plain_consensus",
    "repeats_needed",
    "sigma_of",
    "weighted_consensus",
]


# ---- medians -------------------------------------------------------------------------------------------


def plain_consensus(vectors: Sequence[Vector]) -> Vector | None:
    """Return the per-trait median, every report weighing the same; None without reports."""
    return weighted_consensus(vectors, [str(index) for index in range(len(vectors))])


def weighted_consensus(vectors: Sequence[Vector], principals: Sequence[str]) -> Vector | None:
    """Return the per-trait weighted median; a principal's k reports weigh 1/k each. None without reports.

    Raises:
        BadVector: a vector has a NaN, an infinity, a value outside [0, 1] or another length.
    """
    if len(vectors) != len(principals):
        raise ValueError("one principal per vector")
    if not vectors:
        return None
    rows = _rows(vectors)
    counts = Counter(principals)
    return _vector(_medians(rows, [counts[principal] for principal in principals]))


def _medians(rows: Floats, shares: Sequence[int]) -> Floats:
    """Weighted median of each column of `rows` (n, d); `shares[i]` = k means weight 1/k."""
    # Weights are scaled by their least common multiple to Python integers of any size: as floats,
    # seven sevenths do not make one, and with many different k the multiple outgrows 64 bits.
    scale = math.lcm(*set(shares))
    weights = [scale // share for share in shares]
    total = sum(weights)
    order = np.argsort(rows, axis=0, kind="stable")
    ranked = np.take_along_axis(rows, order, axis=0)
    medians = np.empty(rows.shape[1], dtype=np.float64)
    for column, ranks in enumerate(order.T.tolist()):
        below = list(accumulate([weights[rank] for rank in ranks]))
        # lo: first rank whose weight up to and including it is >= total/2;
        # hi: last rank whose weight before it is <= total/2.
        lo = ranked[bisect_left(below, (total + 1) // 2), column]
        hi = ranked[bisect_right(below, total // 2), column]
        medians[column] = (lo + hi) / 2
    return medians


# ---- the original's rule -------------------------------------------------------------------------------


def origin_outliers(
    vectors: Sequence[Vector], consensus: Vector, threshold: float = RULES.origin_rms
) -> tuple[bool, ...]:
    """Return for each vector whether its RMS distance from `consensus` is strictly above `threshold`."""
    if not vectors:
        return ()
    outliers: list[bool] = _exceeds(_rms(_rows(vectors) - np.array(consensus)), threshold).tolist()
    return tuple(outliers)


# ---- evaluation ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tests:
    """The outcome of the distance tests over the round's rows (n,)."""

    origin: Bools
    base: Bools
    peer: Bools
    ewma: Bools
    distances: Floats
    """(6, n): RMS and MAX from the consensus, from the baseline, of the EWMA."""


def evaluate(previous: GroupState, round_: Round, rules: Thresholds = RULES) -> Evaluation:
    """Judge one round: the consensus, a verdict per participant and the state that follows.

    Only an instance with a new report advances its EWMA and its BASE run; the group's EWMA advances
    once. The order of `round_.reports` does not matter.

    Raises:
        BadVector: a vector or the baseline is not `WIDTH` finite numbers in [0, 1].
        BadInput: sigma is not a positive finite number, or an instance appears twice.
        TooLarge: more than `VOTERS_MAX` reports.
    """
    reports = _checked(round_)
    kept = {**previous.members, **{name: MemberState() for name in round_.resets}}
    carried = {name: kept[name] for name in sorted(round_.carry) if name in previous.members}
    if not reports:
        alarm = _group_alarm(np.array(previous.ewma), round_.sigma, rules)
        state = GroupState(previous.ewma, previous.consensus, carried)
        return Evaluation(round_, rules, None, {}, 0, alarm, state)

    counts = Counter(report.principal for report in reports)
    shares = [counts[report.principal] for report in reports]
    members = [kept.get(report.instance, MemberState()) for report in reports]
    rows = _rows([report.vector for report in reports])
    baseline = _rows([round_.baseline])
    consensus = _medians(rows, shares)

    ewma = _advance(np.array([member.ewma for member in members]), rows - baseline, rules)
    ewma = np.where(np.array([[report.is_new] for report in reports]), ewma, [m.ewma for m in members])
    group = _advance(np.array([previous.ewma]), consensus - baseline, rules)
    alarm = _group_alarm(group, round_.sigma, rules)
    tests = _test(rows, consensus, baseline, ewma, round_.sigma, rules)

    runs = [
        _base_run(member.base_run, failed, report.is_new)
        for report, member, failed in zip(reports, members, tests.base.tolist(), strict=True)
    ]
    after = dict(carried)
    for report, row, run in zip(reports, ewma.tolist(), runs, strict=True):
        after[report.instance] = MemberState(tuple(row), run)
    agreed = _vector(consensus)
    return Evaluation(
        round=round_,
        rules=rules,
        consensus=agreed,
        verdicts=_verdicts(previous, round_, reports, shares, tests, runs, alarm, rules),
        principals=len(counts),
        group_alarm=alarm,
        state=GroupState(_vector(group[0]), agreed, {name: after[name] for name in sorted(after)}),
    )


def _checked(round_: Round) -> list[Report]:
    reports = sorted(round_.reports, key=lambda report: report.instance)
    if len(reports) > VOTERS_MAX:
        raise TooLarge(f"{len(reports)} reports in one round; pass the {VOTERS_MAX} most recently seen.")
    if len({report.instance for report in reports}) != len(reports):
        raise BadInput("An instance appears twice in the round; pass only its latest report.")
    if not (math.isfinite(round_.sigma) and round_.sigma > 0):
        raise BadInput("sigma must be a positive finite number; take it from sigma_of or AUTHORED_SIGMA.")
    _rows([round_.baseline])
    return reports


def _advance(ewma: Floats, deviation: Floats, rules: Thresholds) -> Floats:
    # + 0.0 turns -0 into +0: the ledger stores no minus zero, and a replay must meet the same bits.
    return rules.ewma_weight * deviation + (1.0 - rules.ewma_weight) * ewma + 0.0


def _test(
    rows: Floats, consensus: Floats, baseline: Floats, ewma: Floats, sigma: float, rules: Thresholds
) -> _Tests:
    peer_rms, peer_max = _rms(rows - consensus), _max(rows - consensus)
    base_rms, base_max = _rms(rows - baseline), _max(rows - baseline)
    ewma_rms, ewma_max = _rms(ewma), _max(ewma)
    return _Tests(
        origin=_exceeds(peer_rms, rules.origin_rms),
        peer=_exceeds(peer_rms, _bound(rules.peer_rms, sigma))
        | _exceeds(peer_max, _bound(rules.peer_max, sigma)),
        base=_exceeds(base_rms, _bound(rules.base_rms, sigma))
        | _exceeds(base_max, _bound(rules.base_max, sigma)),
        ewma=_exceeds(ewma_rms, _bound(rules.ewma_rms, sigma))
        | _exceeds(ewma_max, _bound(rules.ewma_max, sigma)),
        distances=np.array([peer_rms, peer_max, base_rms, base_max, ewma_rms, ewma_max]),
    )


def _base_run(before: int, failed: bool, is_new: bool) -> int:
    if not is_new:
        return before
    return min(before + 1, 2) if failed else 0


def _verdicts(
    previous: GroupState,
    round_: Round,
    reports: Sequence[Report],
    shares: Sequence[int],
    tests: _Tests,
    runs: Sequence[int],
    alarm: bool,
    rules: Thresholds,
) -> dict[str, Verdict]:
    copies = Counter(report.vector for report in reports)
    origin, base, ewma = tests.origin.tolist(), tests.base.tolist(), tests.ewma.tolist()
    peer: list[bool | None] = tests.peer.tolist()
    if len(reports) < rules.min_peers:
        peer = [None] * len(reports)
    verdicts: dict[str, Verdict] = {}
    for index, (report, distances) in enumerate(zip(reports, tests.distances.T.tolist(), strict=True)):
        action, reason = _decide(base[index], runs[index], ewma[index], peer[index], alarm)
        verdicts[report.instance] = Verdict(
            report.instance,
            shares[index],
            *(distances[0], distances[1], distances[2], distances[3], distances[4], distances[5]),
            origin[index],
            base[index],
            peer[index],
            ewma[index],
            action,
            reason,
            copies[report.vector] > 1,
            # An older report helped to make the previous consensus; only a new one can have copied it.
            report.vector == round_.baseline or (report.is_new and report.vector == previous.consensus),
        )
    return verdicts


def _decide(base: bool, base_run: int, ewma: bool, peer: bool | None, alarm: bool) -> tuple[Action, Reason]:
    if ewma:
        return Action.REINIT, Reason.EWMA
    if base and base_run >= 2:
        return Action.REINIT, Reason.BASE_TWICE
    if base:
        return Action.RECHECK, Reason.BASE_ONCE
    if peer:
        if alarm:
            return Action.GROUP_REVIEW, Reason.PEER_WHILE_GROUP_MOVES
        return Action.WATCH, Reason.PEER
    return Action.OK, Reason.NONE


# ---- arithmetic in a fixed order -----------------------------------------------------------------------


def _rows(vectors: Sequence[Vector]) -> Floats:
    """The vectors as an array (n, WIDTH) without -0; the second check, after `parse_vector`."""
    if any(len(vector) != WIDTH for vector in vectors):
        raise BadVector("wrong_length", f"A consensus needs vectors of {WIDTH} values; parse them first.")
    rows: Floats = np.array(vectors, dtype=np.float64) + 0.0
    if not np.isfinite(rows).all():
        raise BadVector("non_finite", "A vector holds NaN or an infinity; parse it first.")
    if (rows < 0.0).any() or (rows > 1.0).any():
        raise BadVector("out_of_range", "A vector has a value outside 0 to 1; parse it first.")
    return rows


def _vector(row: Floats) -> Vector:
    values: list[float] = row.tolist()
    return tuple(values)


def _rms(rows: Floats) -> Floats:
    # Trait by trait, as character.drift does: a reduction may add in another order for another shape.
    total = rows[:, 0] * rows[:, 0]
    for column in range(1, rows.shape[1]):
        total = total + rows[:, column] * rows[:, column]
    rms: Floats = np.sqrt(total / rows.shape[1])
    return rms


def _max(rows: Floats) -> Floats:
    largest: Floats = np.abs(rows).max(axis=1)
    return largest


def _bound(rule: tuple[float, float], sigma: float) -> float:
    floor, coefficient = rule
    return max(floor, coefficient * sigma)


def _exceeds(values: Floats, bound: float) -> Bools:
    """Strictly greater, compared to twelve decimals.

    Reports are decimals, and .4 - .3 is a hair more than .1 in binary: a report that lies exactly on a
    bound must not be judged by the last bit of a subtraction.
    """
    above: Bools = np.rint(values * 1e12) > np.rint(bound * 1e12)
    return above


def _group_alarm(ewma: Floats, sigma: float, rules: Thresholds) -> bool:
    return bool(_exceeds(_rms(ewma.reshape(1, WIDTH)), _bound(rules.group_rms, sigma))[0])
