"""What the rules see and what they miss: the tables behind docs/character.md, simulated with fixed seeds.

    python bench/consensus.py [--rounds 4000] [--seed 2026]

Honest reports lie around the default baseline with independent normal noise, sigma .05 unless a table says otherwise,
cut off at 0 and 1. "any" rules look at each trait against the plain median. Everything that is called PEER, BASE,
EWMA, GROUP or `reinit` is the program's own `evaluate`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ccn_mcp.domain.character import DEFAULT_BASELINE
from ccn_mcp.domain.consensus import (
    Action,
    Evaluation,
    GroupState,
    Report,
    Round,
    evaluate,
    plain_consensus,
    weighted_consensus,
)

Floats = npt.NDArray[np.float64]
BASE = np.array(DEFAULT_BASELINE)
INWARD = np.where(BASE > 0.5, -1.0, 1.0)
SIGMA = 0.05
N = 5
STEP = 0.006
"""Growth of a slow drift per round, in every trait."""

RAMP = 40
SUSTAINED = 20


def noise(rng: np.random.Generator, n: int, sigma: float = SIGMA) -> Floats:
    return rng.normal(0, sigma, (n, 16))


def cut(rows: Floats) -> Floats:
    return np.clip(rows, 0, 1)


def judged(rows: Floats, state: GroupState | None = None, baseline: Floats = BASE) -> Evaluation:
    reports = tuple(Report(f"i{at}", f"p{at}", at, tuple(row), True) for at, row in enumerate(rows.tolist()))
    round_ = Round("bench", reports, tuple(baseline.tolist()), "simulated", SIGMA)
    return evaluate(state or GroupState(), round_)


def share(count: int, of: int) -> str:
    return f"{count / of:>9.2%}"


# ---- one report: which rule says something -------------------------------------------------------------


def by_rule(rows: Floats) -> dict[str, list[bool]]:
    """For each rule, which of the round's reports it marks."""
    middle = np.median(rows, axis=0)
    away = np.abs(rows - middle)
    spread = np.median(away, axis=0)
    verdicts = list(judged(rows).verdicts.values())

    def anywhere(marks: npt.NDArray[np.bool_]) -> list[bool]:
        return [bool(row.any()) for row in marks]

    return {
        "any 10 % relative": anywhere(away > 0.10 * middle),
        "any .10 absolute": anywhere(away > 0.10),
        "any modified z > 3.5": anywhere(0.6745 * away > 3.5 * spread),
        "ORIGINAL (RMS .10)": [verdict.origin_outlier for verdict in verdicts],
        "PEER": [bool(verdict.peer) for verdict in verdicts],
        "BASE": [verdict.base for verdict in verdicts],
    }


def shifted(traits: int, size: float) -> Callable[[np.random.Generator], Floats]:
    def one(rng: np.random.Generator) -> Floats:
        move = np.zeros(16)
        move[rng.permutation(16)[:traits]] = size
        return BASE + move * INWARD + rng.normal(0, SIGMA, 16)

    return one


KINDS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "one trait .30": shifted(1, 0.30),
    "one trait .399": shifted(1, 0.399),
    "three traits .20": shifted(3, 0.20),
    "all traits .07": shifted(16, 0.07),
    "all traits .12": shifted(16, 0.12),
    "unrelated": lambda rng: rng.random(16),
}


def false_alarms(rounds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reports: dict[str, int] = {}
    any_of: dict[str, int] = {}
    for _ in range(rounds):
        for rule, marks in by_rule(cut(BASE + noise(rng, N))).items():
            reports[rule] = reports.get(rule, 0) + sum(marks)
            any_of[rule] = any_of.get(rule, 0) + any(marks)
    print(f"\nFalse alarms, five honest instances, {rounds:,} rounds")
    print(f"{'rule':<22} {'reports':>9} {'rounds':>9}")
    for rule, count in reports.items():
        print(f"{rule:<22} {share(count, rounds * N)} {share(any_of[rule], rounds)}")


def detection(rounds: int, seed: int) -> None:
    print(
        f"\nSeen from a single report, one of five has moved, {rounds:,} rounds each (C3 is the last column)"
    )
    rules = list(by_rule(cut(BASE + noise(np.random.default_rng(seed), N))))
    print(f"{'moved by':<18}" + "".join(f"{rule.split(' (')[0][:13]:>14}" for rule in rules))
    for at, (kind, moved) in enumerate(KINDS.items()):
        rng = np.random.default_rng(seed + 1 + at)
        found = dict.fromkeys(rules, 0)
        for _ in range(rounds):
            rows = BASE + noise(rng, N)
            rows[0] = moved(rng)
            for rule, marks in by_rule(cut(rows)).items():
                found[rule] += marks[0]
        print(f"{kind:<18}" + "".join(f"{share(found[rule], rounds):>14}" for rule in rules))


# ---- slow drift ----------------------------------------------------------------------------------------


def ramp(seed: int, drifters: int) -> dict[str, float | None]:
    """The true shift at which each rule first speaks of instance 0, or of the group; None: never."""
    rng, state = np.random.default_rng(seed), GroupState()
    first: dict[str, float | None] = dict.fromkeys(("ORIGINAL", "PEER", "BASE", "EWMA", "reinit", "GROUP"))
    for at in range(1, RAMP + 1):
        rows = BASE + noise(rng, N)
        rows[:drifters] += INWARD * STEP * at
        outcome = judged(cut(rows), state)
        state, verdict = outcome.state, outcome.verdicts["i0"]
        spoke = {
            "ORIGINAL": verdict.origin_outlier,
            "PEER": bool(verdict.peer),
            "BASE": verdict.base,
            "EWMA": verdict.ewma,
            "reinit": verdict.action is Action.REINIT,
            "GROUP": outcome.group_alarm,
        }
        for rule, said in spoke.items():
            if said and first[rule] is None:
                first[rule] = STEP * at
    return first


def slow(runs: int, seed: int) -> None:
    print(f"\nSlow drift of {STEP} a round in every trait, {runs} runs: the true shift at the first alarm")
    print(f"{'who':<12} {'rule':<10} {'median':>8} {'95 %':>8} {'by .10':>8} {'never':>8}")
    for who, drifters in (("one of five", 1), ("all five", 5), ("nobody", 0)):
        firsts = [ramp(seed + at, drifters) for at in range(runs)]
        for rule in firsts[0]:
            seen = sorted(999.0 if (shift := first[rule]) is None else shift for first in firsts)
            row = [seen[len(seen) // 2], seen[int(0.95 * len(seen))]]
            said = " ".join(f"{'-' if value > 1 else f'{value:.3f}':>8}" for value in row)
            by, never = sum(value <= 0.10 for value in seen) / runs, sum(value > 1 for value in seen) / runs
            print(f"{who:<12} {rule:<10} {said} {by:>8.1%} {never:>8.1%}")


# ---- one account, many connections ---------------------------------------------------------------------


def sybil(rounds: int, seed: int) -> None:
    print(
        f"\nOne account on k connections against three honest ones, {rounds:,} rounds: worst pull on any trait"
    )
    print(f"{'k':>3} {'unweighted':>11} {'weighted':>9} {'outside the honest box':>23}")
    for k in (1, 3, 5, 10):
        rng, plain, fair, outside = np.random.default_rng(seed + k), [], [], 0
        for _ in range(rounds):
            honest = cut(BASE + noise(rng, 3))
            rows = np.vstack([honest, np.tile(np.where(BASE > 0.5, 0.0, 1.0), (k, 1))])
            vectors = [tuple(row) for row in rows.tolist()]
            owners = ["a", "b", "c", *(["m"] * k)]
            middle = np.median(honest, axis=0)
            one, two = plain_consensus(vectors), weighted_consensus(vectors, owners)
            plain.append(float(np.abs(np.array(one) - middle).max()))
            fair.append(float(np.abs(np.array(two) - middle).max()))
            low, high = honest.min(axis=0), honest.max(axis=0)
            outside += bool(((np.array(two) < low) | (np.array(two) > high)).any())
        print(f"{k:>3} {np.mean(plain):>11.3f} {np.mean(fair):>9.3f} {outside:>23}")


# ---- where the rules are weak --------------------------------------------------------------------------


def told(rows: Sequence[Floats], baseline: Floats = BASE) -> tuple[int, int]:
    """Rechecks and re-initialisations of one instance that is alone; after one it starts afresh."""
    rechecks, reinits, state = 0, 0, GroupState()
    for row in rows:
        outcome = judged(cut(row.reshape(1, 16)), state, baseline)
        action = outcome.verdicts["i0"].action
        rechecks, reinits = rechecks + (action is Action.RECHECK), reinits + (action is Action.REINIT)
        state = GroupState() if action is Action.REINIT else outcome.state
    return rechecks, reinits


def small_shifts(runs: int, seed: int) -> None:
    print(
        f"\nWeak: small steady shifts in every trait. Told to reload within {SUSTAINED} reports, {runs} runs each"
    )
    for size in (0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.10):
        rng, found = np.random.default_rng(seed + round(size * 1000)), 0
        for _ in range(runs):
            rows = list(BASE + INWARD * size + noise(rng, SUSTAINED))
            found += told(rows)[1] > 0
        print(f"  shift {size:.2f}: {share(found, runs)}")


def other_noise(runs: int, seed: int) -> None:
    print(
        f"\nWeak: noise of another kind. Honest reports ({runs * SUSTAINED:,} each): recheck and reinit per report"
    )
    rng = np.random.default_rng(seed)
    wrong = cut(BASE + rng.choice((-0.05, 0.05), 16))
    signs = rng.choice((-1.0, 1.0), 16)

    def common(scale: float) -> Callable[[], Floats]:
        # A mood that moves every trait together; the variance of each trait stays sigma squared.
        def rows() -> Floats:
            mood = rng.normal(0, SIGMA * scale, (SUSTAINED, 1)) * signs
            moved: Floats = BASE + mood + noise(rng, SUSTAINED, SIGMA * (1 - scale**2) ** 0.5)
            return moved

        return rows

    def halves() -> Floats:
        rounded: Floats = np.round((BASE + noise(rng, SUSTAINED)) * 10) / 10
        return rounded

    cases: dict[str, tuple[Callable[[], Floats], Floats]] = {
        "independent, as assumed": (lambda: BASE + noise(rng, SUSTAINED), BASE),
        "rounded to half points": (halves, BASE),
        "correlated, r = .25": (common(0.5), BASE),
        "correlated, r = .50": (common(0.5**0.5), BASE),
        "sigma .08, held to be .05": (lambda: BASE + noise(rng, SUSTAINED, 0.08), BASE),
        "baseline wrong by .05": (lambda: BASE + noise(rng, SUSTAINED), wrong),
    }
    for name, (rows, baseline) in cases.items():
        counts = [told(list(rows()), baseline) for _ in range(runs)]
        total = runs * SUSTAINED
        first, second = (sum(pair[at] for pair in counts) for at in (0, 1))
        print(f"  {name:<28} {share(first, total)} {share(second, total)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4_000, help="rounds of each table")
    parser.add_argument("--seed", type=int, default=2026, help="first seed; each table has its own from it")
    chosen = parser.parse_args()
    runs = max(20, chosen.rounds // 20)
    false_alarms(chosen.rounds, chosen.seed)
    detection(chosen.rounds // 2, chosen.seed + 1_000)
    slow(runs, chosen.seed + 2_000)
    sybil(chosen.rounds // 4, chosen.seed + 3_000)
    small_shifts(runs, chosen.seed + 4_000)
    other_noise(runs, chosen.seed + 5_000)


if __name__ == "__main__":
    main()
