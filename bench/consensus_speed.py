"""Speed of one evaluation (C9) and the rate of false `reinit` on our own seeds (C5).

    python bench/consensus_speed.py [--reports 200000] [--rounds 300]

Speed is shown with a floor measured in the same run, `np.median` over the same array, because absolute
times on a shared machine say little. "shares" is the worst case of principals: 1, 2, 3, ... reports
each, so that the least common multiple of the weights outgrows 64 bits.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable

import numpy as np

from ccn_mcp.domain.character import DEFAULT_BASELINE, Vector
from ccn_mcp.domain.consensus import Action, GroupState, Report, Round, evaluate

BARS_MS = {50: 2.0, 1000: 50.0}


def percentile_ms(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))] * 1_000


def owners(kind: str, n: int) -> list[str]:
    if kind == "distinct":
        return [str(at) for at in range(n)]
    if kind == "one":
        return ["local"] * n
    return [str(k) for k in range(1, n + 1) for _ in range(k)][:n]


def speed(n: int, kind: str, rounds: int) -> None:
    rng = random.Random(n)  # noqa: S311 - test data
    who, state = owners(kind, n), GroupState()
    times, floor = [], []
    for _ in range(rounds):
        vectors = [tuple(rng.random() for _ in range(16)) for _ in range(n)]
        reports = tuple(Report(f"i{at:04}", who[at], at, v, True) for at, v in enumerate(vectors))
        round_ = Round("bench", reports, DEFAULT_BASELINE, "default", 0.05)
        started = time.perf_counter()
        state = evaluate(state, round_).state
        times.append(time.perf_counter() - started)
        rows = np.array(vectors)
        started = time.perf_counter()
        np.median(rows, axis=0)
        floor.append(time.perf_counter() - started)
    p50, p99, ground = percentile_ms(times, 0.5), percentile_ms(times, 0.99), percentile_ms(floor, 0.5)
    verdict = "ok" if p99 <= BARS_MS[n] else "OVER"
    row = f"{n:>6} {kind:>9} {p50:>9.2f} {p99:>9.2f} {BARS_MS[n]:>7.0f}"
    print(f"{row} {ground:>9.3f} {p50 / ground:>7.1f}  {verdict}")


def false_reinit(reports_wanted: int, seed: int, bias: Callable[[np.random.Generator], Vector]) -> None:
    """Honest instances in groups of 1 to 9, sigma .05 around the true baseline, reset after a `reinit`."""
    rng = np.random.default_rng(seed)
    seen = rechecks = reinits = watches = alarms = rounds = 0
    while seen < reports_wanted:
        n, baseline = int(rng.integers(1, 10)), bias(rng)
        state, resets = GroupState(), tuple[str, ...]()
        for _ in range(50):
            rows = np.clip(np.array(baseline) + rng.normal(0, 0.05, (n, 16)), 0, 1)
            present = [at for at in range(n) if rng.random() < 0.7]
            reports = tuple(
                Report(f"i{at}", f"p{at}", at, tuple(row), at in present)
                for at, row in enumerate(rows.tolist())
            )
            outcome = evaluate(state, Round("bench", reports, baseline, "true", 0.05, resets=resets))
            state = outcome.state
            judged = [outcome.verdicts[f"i{at}"] for at in present]
            seen, rounds = seen + len(judged), rounds + 1
            reinits += sum(verdict.action is Action.REINIT for verdict in judged)
            rechecks += sum(verdict.action is Action.RECHECK for verdict in judged)
            watches += sum(verdict.action in (Action.WATCH, Action.GROUP_REVIEW) for verdict in judged)
            alarms += outcome.group_alarm
            resets = tuple(verdict.instance for verdict in judged if verdict.action is Action.REINIT)
    print(
        f"{seen:>9,} {reinits:>7} {reinits / seen * 10_000:>12.3f} {rechecks / seen:>9.4%} "
        f"{watches / seen:>9.4%} {alarms / rounds:>9.4%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, default=200_000, help="honest reports for C5")
    parser.add_argument("--rounds", type=int, default=300, help="timed rounds per row")
    arguments = parser.parse_args()
    print("C9: one evaluation, milliseconds")
    print("     n principal       p50       p99     bar np.median   ratio")
    for n in BARS_MS:
        for kind in ("distinct", "one", "shares"):
            speed(n, kind, arguments.rounds if n < 1000 else max(100, arguments.rounds // 3))
    print("\nC5: honest reports at sigma .05 (the bar: at most 1 reinit in 10,000)")
    print("  reports  reinit   per 10,000   recheck     watch     group")
    false_reinit(arguments.reports, 2026, lambda _: DEFAULT_BASELINE)
    false_reinit(arguments.reports, 2027, lambda rng: tuple(rng.uniform(0.2, 0.8, 16).tolist()))


if __name__ == "__main__":
    main()
