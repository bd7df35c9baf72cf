"""The rules one by one. Most tests here exist to kill a named mutant of C8; see `mutants.py`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np
import pytest

from ccn_mcp.domain.character import Vector, drift, drift_max
from ccn_mcp.domain.commissioning import MEDIAN_VARIANCES
from ccn_mcp.domain.consensus import (
    AUTHORED_SIGMA,
    Action,
    Evaluation,
    GroupState,
    MemberState,
    Reason,
    Report,
    Round,
    commission,
    evaluate,
    origin_outliers,
    plain_consensus,
    repeats_needed,
    sigma_of,
    weighted_consensus,
)
from ccn_mcp.domain.errors import BadInput, BadVector, TooLarge
from ccn_mcp.domain.limits import VOTERS_MAX

B: Vector = (0.5,) * 16


def flat(value: float) -> Vector:
    return (value,) * 16


def spike(by: float, traits: int = 1) -> Vector:
    return (*(0.5 + by,) * traits, *B[traits:])


def run(
    reports: Mapping[str, Vector],
    state: GroupState | None = None,
    *,
    new: Iterable[str] | None = None,
    principals: Mapping[str, str] | None = None,
    sigma: float = 0.05,
    resets: tuple[str, ...] = (),
    carry: tuple[str, ...] = (),
    baseline: Vector = B,
) -> Evaluation:
    fresh = set(reports) if new is None else set(new)
    entries = tuple(
        Report(name, (principals or {}).get(name, name), at, vector, name in fresh)
        for at, (name, vector) in enumerate(reports.items())
    )
    return evaluate(
        state or GroupState(), Round("g", entries, baseline, "authored", sigma, resets=resets, carry=carry)
    )


def told(outcome: Evaluation) -> dict[str, str]:
    return {name: verdict.action.value for name, verdict in outcome.verdicts.items()}


# ---- the median ----------------------------------------------------------------------------------------


def exact_median(values: list[float], shares: list[int]) -> Fraction:
    """The definition, word for word, in rationals."""
    pairs = [(Fraction(v), Fraction(1, k)) for v, k in zip(values, shares, strict=True)]
    half = sum((w for _, w in pairs), Fraction(0)) / 2
    lo = min(v for v, _ in pairs if sum(w for u, w in pairs if u <= v) >= half)
    hi = max(v for v, _ in pairs if sum(w for u, w in pairs if u >= v) >= half)
    return (lo + hi) / 2


def test_median_resists_one_liar() -> None:
    assert plain_consensus([flat(0.5), flat(0.5), flat(1.0)]) == B


def test_median_of_an_even_number_is_the_midpoint() -> None:
    assert plain_consensus([flat(0.25), flat(0.75)]) == B
    assert plain_consensus([flat(0.125), flat(0.25), flat(0.75), flat(1.0)]) == B


def test_nobody_has_no_consensus() -> None:
    assert plain_consensus([]) is None
    outcome = run({})
    assert (outcome.consensus, outcome.verdicts, outcome.group_alarm) == (None, {}, False)


def test_seven_sevenths_against_one_is_an_exact_tie() -> None:
    vectors = [flat(0.0)] * 7 + [flat(0.5)]
    assert weighted_consensus(vectors, ["p"] * 7 + ["q"]) == flat(0.25)


@pytest.mark.parametrize("k", range(2, 61))
def test_k_kths_against_one_is_always_a_tie(k: int) -> None:
    assert weighted_consensus([flat(0.0)] * k + [flat(0.5)], ["p"] * k + ["q"]) == flat(0.25)


def test_one_principal_on_ten_connections_stays_in_the_honest_box() -> None:
    honest = {"a": flat(0.5), "b": flat(0.52), "c": flat(0.54)}
    sybils = {f"s{at}": flat(0.0) for at in range(10)}
    principals = dict.fromkeys(sybils, "mallory")
    outcome = run({**honest, **sybils}, principals=principals)
    assert outcome.consensus is not None
    assert 0.5 <= outcome.consensus[0] <= 0.54
    assert outcome.weights["s0"] == Fraction(1, 10)
    assert outcome.principals == 4
    assert told(outcome)["a"] == "ok"


def test_one_principal_alone_has_the_plain_median() -> None:
    vectors = [flat(0.1), flat(0.2), flat(0.9)]
    assert weighted_consensus(vectors, ["p"] * 3) == plain_consensus(vectors) == flat(0.2)


def test_weighted_median_is_the_definition() -> None:
    rng = np.random.default_rng(20)
    for _ in range(150):
        n = int(rng.integers(1, 14))
        owners = [f"p{at}" for at in rng.integers(0, 5, n)]
        rows = np.round(rng.random((n, 16)), int(rng.integers(1, 4)))
        shares = [owners.count(owner) for owner in owners]
        got = weighted_consensus([tuple(row) for row in rows.tolist()], owners)
        assert got is not None
        expected = [float(exact_median(column, shares)) for column in rows.T.tolist()]
        assert got == pytest.approx(expected, abs=1e-15)


def test_many_different_shares_outgrow_64_bits_and_stay_exact() -> None:
    # lcm(1..44) is about 9.4e18; each side holds 22 whole principals.
    low = [f"p{k}" for k in range(1, 45, 2) for _ in range(k)]
    high = [f"p{k}" for k in range(2, 45, 2) for _ in range(k)]
    vectors = [flat(0.25)] * len(low) + [flat(0.75)] * len(high)
    assert len(vectors) <= VOTERS_MAX
    assert weighted_consensus(vectors, low + high) == B
    assert weighted_consensus([*vectors, flat(0.75)], [*low, *high, "one more"]) == flat(0.75)


def test_weighted_consensus_refuses_what_no_parser_let_through() -> None:
    for bad, reason in ((math.nan, "non_finite"), (1.5, "out_of_range"), (-0.1, "out_of_range")):
        with pytest.raises(BadVector) as caught:
            plain_consensus([B, (bad, *B[1:])])
        assert caught.value.reason == reason
    with pytest.raises(BadVector, match="16 values"):
        run({"a": B[1:]})


# ---- ORIGINAL, PEER, BASE ------------------------------------------------------------------------------


def test_equal_to_a_bound_is_not_above_it() -> None:
    assert origin_outliers([flat(0.625)], B, 0.125) == (False,)
    assert origin_outliers([flat(0.625001)], B, 0.125) == (True,)
    # .4 - .3 is .10000000000000003 in binary: a decimal tie must not depend on the last bit.
    assert 0.4 - 0.3 > 0.1
    assert origin_outliers([flat(0.4)], flat(0.3)) == (False,)
    assert origin_outliers([], B) == ()
    at_bound = run({"a": flat(0.6), "b": spike(0.2)}, sigma=0.02)
    assert told(at_bound) == {"a": "ok", "b": "ok"}


def test_drift_is_the_root_of_the_mean_square() -> None:
    outcome = run({"a": B, "b": B, "c": spike(0.3)})
    verdict = outcome.verdicts["c"]
    assert verdict.drift_rms == drift(spike(0.3), B) == pytest.approx(0.075)
    assert verdict.drift_max == drift_max(spike(0.3), B)
    # The sum of squares would be .3, the mean of absolute differences .01875.
    assert not verdict.origin_outlier
    assert run({"a": B, "b": B, "c": spike(0.45)}).verdicts["c"].origin_outlier


def test_array_distances_equal_the_scalar_ones_bit_for_bit() -> None:
    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 8, 33):
        reports = {f"i{at}": tuple(row) for at, row in enumerate(rng.random((n, 16)).tolist())}
        outcome = run(reports)
        assert outcome.consensus is not None
        for name, vector in reports.items():
            verdict = outcome.verdicts[name]
            assert verdict.drift_rms == drift(vector, outcome.consensus)
            assert verdict.base_drift_rms == drift(vector, B)
            assert verdict.base_drift_max == drift_max(vector, B)


def test_one_trait_is_seen_by_max_where_rms_is_silent() -> None:
    outcome = run({"a": B, "b": B, "c": spike(0.3)})
    verdict = outcome.verdicts["c"]
    assert verdict.base_drift_rms < 0.1
    assert (verdict.base, verdict.peer, verdict.origin_outlier) == (True, True, False)


def test_many_traits_are_seen_by_rms_where_max_is_silent() -> None:
    verdict = run({"a": B, "b": B, "c": flat(0.6125)}).verdicts["c"]
    assert verdict.base_drift_max < 0.2
    assert (verdict.base, verdict.peer) == (True, True)


def test_the_consensus_includes_the_judged_instance() -> None:
    # Left out, the others' median would be .5 for "c", and .12 away; with it the median is .56.
    outcome = run({"a": flat(0.5), "b": flat(0.5), "c": flat(0.62), "d": flat(0.62)}, sigma=0.02)
    assert outcome.consensus == pytest.approx(flat(0.56))
    assert [verdict.origin_outlier for verdict in outcome.verdicts.values()] == [False] * 4
    assert [verdict.peer for verdict in outcome.verdicts.values()] == [False] * 4


def test_peer_verdicts_need_three_reports() -> None:
    two = run({"a": B, "b": flat(0.9)})
    assert [verdict.peer for verdict in two.verdicts.values()] == [None, None]
    assert told(two) == {"a": "ok", "b": "reinit"}
    three = run({"a": B, "b": B, "c": flat(0.9)})
    assert [verdict.peer for verdict in three.verdicts.values()] == [False, False, True]


def test_two_instances_on_the_plate_never_blame_each_other() -> None:
    two = run({"a": flat(0.42), "b": flat(0.58)}, sigma=0.02)
    assert told(two) == {"a": "ok", "b": "ok"}


def test_who_is_on_the_plate_is_not_told_to_reload_because_the_others_left() -> None:
    outcome = run({"a": B, "b": flat(0.61), "c": flat(0.61)}, sigma=0.02)
    assert outcome.verdicts["a"].peer
    assert outcome.verdicts["a"].origin_outlier
    assert told(outcome) == {"a": "watch", "b": "recheck", "c": "recheck"}


def test_a_moving_group_turns_watch_into_review() -> None:
    state = GroupState(ewma=flat(0.06))
    outcome = run({"a": B, "b": flat(0.62), "c": flat(0.62)}, state)
    assert outcome.group_alarm
    assert outcome.verdicts["a"].action is Action.GROUP_REVIEW
    assert outcome.verdicts["a"].reason is Reason.PEER_WHILE_GROUP_MOVES


# ---- confirmation and EWMA -----------------------------------------------------------------------------


def test_base_once_asks_again_and_twice_reinitialises() -> None:
    once = run({"a": spike(0.22)})
    assert told(once) == {"a": "recheck"}
    twice = run({"a": spike(0.22)}, once.state)
    assert told(twice) == {"a": "reinit"}
    assert twice.verdicts["a"].reason is Reason.BASE_TWICE
    assert not twice.verdicts["a"].ewma


def test_a_good_report_between_breaks_the_run() -> None:
    state = run({"a": spike(0.22)}).state
    state = run({"a": B}, state).state
    assert told(run({"a": spike(0.22)}, state)) == {"a": "recheck"}


def test_an_old_report_is_never_counted_twice() -> None:
    state = run({"a": spike(0.22), "b": B}).state
    for _ in range(5):
        outcome = run({"a": spike(0.22), "b": B}, state, new=["b"])
        assert told(outcome) == {"a": "recheck", "b": "ok"}
        assert outcome.state.members["a"] == state.members["a"]
        state = outcome.state


def test_a_second_failure_keeps_its_verdict_while_others_report() -> None:
    state = run({"a": spike(0.22)}, run({"a": spike(0.22)}).state).state
    assert told(run({"a": spike(0.22), "b": B}, state, new=["b"]))["a"] == "reinit"


def test_only_a_new_report_advances_the_ewma_and_the_group_advances_once() -> None:
    outcome = run({"a": flat(0.75), "b": flat(0.75), "c": flat(0.75)}, new=["a"])
    assert outcome.state.members["a"].ewma == pytest.approx(flat(0.05))
    assert outcome.state.members["b"] == MemberState()
    assert outcome.state.ewma == pytest.approx(flat(0.05))


def test_a_slow_drift_of_everybody_is_seen_by_the_ewma_alone() -> None:
    state, seen = GroupState(), None
    for at in range(1, 40):
        outcome = run({name: flat(0.58) for name in "abc"}, state)
        state = outcome.state
        assert not any(v.base or v.peer or v.origin_outlier for v in outcome.verdicts.values())
        if outcome.group_alarm and seen is None:
            seen = at
            assert told(outcome) == dict.fromkeys("abc", "reinit")
            assert outcome.verdicts["a"].reason is Reason.EWMA
    assert seen == 5  # .08 * (1 - .8^5) = .0538 is the first above .05


def test_ewma_sees_one_trait_by_its_maximum() -> None:
    state = GroupState()
    for _ in range(20):
        outcome = run({"a": spike(0.15)}, state)
        state = outcome.state
    assert outcome.verdicts["a"].ewma_rms < 0.05
    assert told(outcome) == {"a": "reinit"}


def test_a_reset_comes_before_the_round() -> None:
    before = GroupState(members={"a": MemberState(flat(0.3), 2), "b": MemberState(flat(0.01), 1)})
    outcome = run({"a": flat(0.51)}, before, resets=("a",), carry=("b", "stranger"))
    assert outcome.state.members["a"].ewma == pytest.approx(flat(0.002))
    assert told(outcome) == {"a": "ok"}
    assert outcome.state.members["b"] == before.members["b"]
    assert set(outcome.state.members) == {"a", "b"}
    assert set(run({"a": B}, before).state.members) == {"a"}
    idle = run({}, before, resets=("a",), carry=("a", "b"))
    assert idle.state.members == {"a": MemberState(), "b": before.members["b"]}


# ---- copies --------------------------------------------------------------------------------------------


def test_copies_are_named() -> None:
    outcome = run({"a": flat(0.51), "b": flat(0.51), "c": B, "d": flat(0.49)})
    assert [n for n, v in outcome.verdicts.items() if v.duplicate] == ["a", "b"]
    assert [n for n, v in outcome.verdicts.items() if v.echo] == ["c"]
    agreed = outcome.consensus
    assert agreed is not None
    after = run({"a": flat(0.51), "b": agreed, "c": flat(0.49)}, outcome.state)
    assert [n for n, v in after.verdicts.items() if v.echo] == ["b"]


# ---- rounds --------------------------------------------------------------------------------------------


def test_the_order_of_reports_does_not_matter() -> None:
    rng = np.random.default_rng(9)
    rows = [tuple(row) for row in rng.random((9, 16)).tolist()]
    entries = [Report(f"i{at}", f"p{at % 4}", at, row, at % 2 == 0) for at, row in enumerate(rows)]
    outcomes = []
    for order in (entries, entries[::-1], entries[4:] + entries[:4]):
        outcome = evaluate(GroupState(), Round("g", tuple(order), B, "x", 0.05))
        outcomes.append((outcome.consensus, dict(outcome.verdicts), outcome.state))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_rounds_that_cannot_be_judged_are_refused() -> None:
    twice = (Report("a", "p", 1, B, True), Report("a", "p", 2, B, True))
    with pytest.raises(BadInput, match="twice"):
        evaluate(GroupState(), Round("g", twice, B, "x", 0.05))
    for sigma in (0.0, math.nan, math.inf, -1.0):
        with pytest.raises(BadInput, match="sigma"):
            run({"a": B}, sigma=sigma)
    with pytest.raises(BadVector):
        run({"a": B}, baseline=flat(math.nan))
    many = tuple(Report(str(at), "p", at, B, True) for at in range(VOTERS_MAX + 1))
    with pytest.raises(TooLarge):
        evaluate(GroupState(), Round("g", many, B, "x", 0.05))


def test_bounds_widen_with_sigma() -> None:
    assert told(run({"a": flat(0.65)}, sigma=0.05)) == {"a": "recheck"}
    assert told(run({"a": flat(0.65)}, sigma=0.10)) == {"a": "ok"}


# ---- commissioning -------------------------------------------------------------------------------------


def test_sigma_has_a_floor_and_grows_with_the_median_s_own_error() -> None:
    assert sigma_of(0.0, 8) == 0.02
    assert sigma_of(0.05, 8) == pytest.approx(0.05 * math.sqrt(1.168), abs=1e-5)
    assert sigma_of(0.05, 50) < sigma_of(0.05, 8)
    assert AUTHORED_SIGMA == 0.05
    for s, k in ((0.05, 7), (0.05, 51), (math.nan, 8), (-0.1, 8)):
        with pytest.raises(BadInput):
            sigma_of(s, k)


@pytest.mark.parametrize("k", [9, 25, 49])
def test_median_variances_are_those_of_the_middle_order_statistic(k: int) -> None:
    xs = np.linspace(-6.0, 6.0, 4001)
    below = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in xs])
    log_scale = math.lgamma(k + 1) - 2 * math.lgamma(k // 2 + 1)
    density = np.exp(log_scale - xs * xs / 2) / math.sqrt(2 * math.pi) * (below * (1 - below)) ** (k // 2)
    variance = float((xs * xs * density).sum() * (xs[1] - xs[0]))
    assert MEDIAN_VARIANCES[k - 8] == pytest.approx(variance, abs=6e-6)


def test_commissioning_takes_the_median_and_the_pooled_deviation() -> None:
    rng = np.random.default_rng(5)
    rows = [tuple(row) for row in np.clip(rng.normal(0.5, 0.04, (12, 16)), 0, 1).tolist()]
    measured = commission(rows)
    assert measured.baseline == pytest.approx([statistics.median(c) for c in zip(*rows, strict=True)])
    assert measured.deviation == pytest.approx(float(np.sqrt(np.var(rows, axis=0, ddof=1).mean())))
    assert (measured.sigma, measured.repeats) == (sigma_of(measured.deviation, 12), 1)
    with pytest.raises(BadInput):
        commission(rows[:7])
    with pytest.raises(TooLarge):
        commission(rows * 5)


@pytest.mark.parametrize(("s", "repeats"), [(0.0, 1), (0.05, 1), (0.051, 2), (0.10, 4), (0.15, 9)])
def test_noisy_ratings_are_averaged(s: float, repeats: int) -> None:
    assert repeats_needed(s) == repeats
