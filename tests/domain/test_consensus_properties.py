"""Properties over many random rounds: box validity (C2, C7), no trace of refused reports (C6), and the
detection and false alarm rates of the rules on our own seeds (C3, C4, C5 in small)."""

from __future__ import annotations

import math
import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccn_mcp.domain.character import TRAITS, Vector, parse_vector
from ccn_mcp.domain.consensus import (
    Action,
    Evaluation,
    GroupState,
    Report,
    Round,
    evaluate,
    weighted_consensus,
)
from ccn_mcp.domain.errors import BadVector

SIGMA = 0.05
BASELINE = np.linspace(0.2, 0.8, 16)

Floats = npt.NDArray[np.float64]


def vectors_of(rows: Floats) -> list[Vector]:
    return [tuple(row) for row in rows.tolist()]


def judge(state: GroupState, rows: Floats) -> Evaluation:
    entries = tuple(Report(f"i{at}", f"p{at}", at, v, True) for at, v in enumerate(vectors_of(rows)))
    return evaluate(state, Round("g", entries, tuple(BASELINE.tolist()), "x", SIGMA))


def box_violations(rounds: int, seed: int) -> int:
    """Rounds of n <= 50 principals, fewer than half lying, each liar on up to 10 connections."""
    rng, violations = np.random.default_rng(seed), 0
    for _ in range(rounds):
        n = int(rng.integers(1, 51))
        liars = int(rng.integers(0, (n - 1) // 2 + 1))
        honest = np.clip(rng.normal(rng.random(16), 0.05, (n - liars, 16)), 0, 1)
        if rng.random() < 0.3:
            honest = np.round(honest * 5) / 5
        style = rng.integers(3)
        owners = [f"l{at}" for at in range(liars) for _ in range(int(rng.integers(1, 11)) if style else 1)]
        lies = rng.random((len(owners), 16))
        if style == 1:
            lies = np.repeat(np.round(rng.random((1, 16))), len(owners), axis=0)
        rows = np.concatenate([lies, honest])
        m = weighted_consensus(vectors_of(rows), owners + [f"h{at}" for at in range(n - liars)])
        outside = (np.array(m) < honest.min(axis=0)) | (np.array(m) > honest.max(axis=0))
        violations += bool(outside.any())
    return violations


def test_an_honest_majority_of_weight_keeps_the_consensus_in_its_box() -> None:
    assert box_violations(5_000, seed=11) == 0


@pytest.mark.slow
def test_an_honest_majority_of_weight_keeps_the_consensus_in_its_box_100_000_times() -> None:
    assert box_violations(100_000, seed=12) == 0


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.lists(st.floats(0, 1), min_size=16, max_size=16), min_size=3, max_size=3),
    st.lists(st.lists(st.floats(0, 1), min_size=16, max_size=16), min_size=1, max_size=10),
)
def test_one_principal_on_up_to_ten_connections_against_three(
    honest: list[list[float]], lies: list[list[float]]
) -> None:
    rows = [tuple(row) for row in (*honest, *lies)]
    m = weighted_consensus(rows, ["a", "b", "c", *["x"] * len(lies)])
    assert m is not None
    for value, column in zip(m, zip(*honest, strict=True), strict=True):
        assert min(column) <= value <= max(column)


refused = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, True, False, "0.5", None, 50.0, -0.1, 10**400]).map(
        lambda item: [item, *[0.5] * 15]
    ),
    st.lists(st.floats(0, 1), max_size=15),
    st.lists(st.floats(0, 1), min_size=17, max_size=20),
    st.dictionaries(st.sampled_from(TRAITS), st.floats(0, 1), max_size=15),
    st.text(max_size=16),
)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.lists(st.floats(0, 1), min_size=16, max_size=16), max_size=5), st.lists(refused, max_size=5)
)
def test_a_refused_report_leaves_no_trace(good: list[list[float]], bad: list[object]) -> None:
    accepted: list[Vector] = []
    for value in (*bad, *good):
        try:
            accepted.append(parse_vector(value))
        except BadVector as exc:
            assert exc.reason  # noqa: PT017 - every refusal names its reason
    assert accepted == [tuple(row) for row in good]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(st.lists(st.floats(0, 1), min_size=16, max_size=16), st.integers(0, 3)),
        min_size=1,
        max_size=9,
    ),
    st.randoms(use_true_random=False),
)
def test_the_median_ignores_the_order_of_voters(
    rows: list[tuple[list[float], int]], rng: random.Random
) -> None:
    def consensus(order: list[tuple[list[float], int]]) -> Vector | None:
        return weighted_consensus([tuple(row) for row, _ in order], [str(owner) for _, owner in order])

    shuffled = list(rows)
    rng.shuffle(shuffled)
    assert consensus(shuffled) == consensus(rows)


# ---- rates on our own seeds (bars of C3 and C4) -------------------------------------------------------


def honest_rows(rng: np.random.Generator, n: int) -> Floats:
    rows: Floats = np.clip(BASELINE + rng.normal(0, SIGMA, (n, 16)), 0, 1)
    return rows


INWARD = np.where(BASELINE > 0.5, -1.0, 1.0)
"""A shift in this direction is not cut off at 0 or 1."""


def shifted(rng: np.random.Generator, kind: str) -> Floats:
    shift = np.zeros(16)
    if kind == "unrelated":
        return rng.random(16)
    traits = {"one_30": 1, "three_20": 3, "all_12": 16}[kind]
    size = {"one_30": 0.30, "three_20": 0.20, "all_12": 0.12}[kind]
    shift[rng.permutation(16)[:traits]] = size
    moved: Floats = np.clip(BASELINE + shift * INWARD + rng.normal(0, SIGMA, 16), 0, 1)
    return moved


@pytest.mark.parametrize(
    ("kind", "bar"), [("one_30", 0.93), ("three_20", 0.75), ("all_12", 0.97), ("unrelated", 1.0)]
)
def test_base_detects_from_one_report(kind: str, bar: float) -> None:
    rng = np.random.default_rng(31)
    rows = np.array([shifted(rng, kind) for _ in range(1_000)])
    assert sum(v.base for v in judge(GroupState(), rows).verdicts.values()) >= bar * 1_000


def test_base_seldom_flags_the_honest() -> None:
    rng = np.random.default_rng(32)
    flagged = sum(
        verdict.base
        for _ in range(10)
        for verdict in judge(GroupState(), honest_rows(rng, 1_000)).verdicts.values()
    )
    assert flagged <= 0.005 * 10_000


def first_alarms(seed: int, drifters: int) -> tuple[list[int], int]:
    """Rounds of the first `reinit` per instance and of the group alarm (999: none), drift .006 a round."""
    rng, state = np.random.default_rng(seed), GroupState()
    reinit, group = [999] * 5, 999
    for at in range(1, 31):
        rows = BASELINE + rng.normal(0, SIGMA, (5, 16))
        rows[:drifters] += INWARD * 0.006 * at
        outcome = judge(state, np.clip(rows, 0, 1))
        state = outcome.state
        for index, verdict in enumerate(outcome.verdicts.values()):
            if verdict.action is Action.REINIT:
                reinit[index] = min(reinit[index], at)
        group = min(group, at) if outcome.group_alarm else group
    return reinit, group


def test_drift_is_told_before_it_passes_a_tenth() -> None:
    told = [first_alarms(seed, 1)[0][0] <= 17 for seed in range(40)]
    assert sum(told) >= 0.95 * len(told)
    groups = [first_alarms(seed, 5) for seed in range(40, 60)]
    assert sum(group <= 17 for _, group in groups) >= 0.95 * len(groups)
    assert sum(at <= 17 for reinit, _ in groups for at in reinit) >= 0.95 * 5 * len(groups)


def test_quiet_sequences_stay_quiet() -> None:
    for seed in range(60, 100):
        assert first_alarms(seed, 0) == ([999] * 5, 999)


@pytest.mark.slow
def test_the_honest_are_told_to_reload_at_most_once_in_ten_thousand_reports() -> None:
    rng, seen, told = np.random.default_rng(35), 0, 0
    while seen < 50_000:
        state, resets = GroupState(), tuple[str, ...]()
        n = int(rng.integers(1, 10))
        for _ in range(50):
            rows = vectors_of(np.clip(BASELINE + rng.normal(0, SIGMA, (n, 16)), 0, 1))
            new = rng.random(n) < 0.7
            reports = tuple(Report(f"i{at}", f"p{at}", at, row, bool(new[at])) for at, row in enumerate(rows))
            outcome = evaluate(state, Round("g", reports, tuple(BASELINE.tolist()), "x", SIGMA, resets))
            state = outcome.state
            resets = tuple(
                name
                for name, verdict in outcome.verdicts.items()
                if verdict.action is Action.REINIT and new[int(name[1:])]
            )
            seen, told = seen + int(new.sum()), told + len(resets)
    assert told <= seen / 10_000
