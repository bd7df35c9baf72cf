"""Where baseline and sigma come from: repeated reports of instances that have just loaded the Plate."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain.character import TRAITS, Vector
from ccn_mcp.domain.errors import BadInput, TooLarge

AUTHORED_SIGMA: Final = 0.05
"""Sigma of a baseline that somebody wrote down: nothing was measured, so the rules' own case."""

SIGMA_MIN: Final = 0.02
REPORTS_MIN: Final = 8
REPORTS_MAX: Final = 50

DEVIATION_MAX: Final = 0.10
"""Largest pooled deviation that is pinned. Beyond it a report would have to be the average of more than four ratings,
and BASE would let shifts of .17 in all traits pass."""

TRAIT_DEVIATION_MAX: Final = 0.20
"""Largest deviation of one trait, twice the pooled one: of eight honest reports at that limit, one round in 270 has a
trait beyond it by chance (chi-square with 7 degrees of freedom above 28, sixteen times)."""

MEDIAN_VARIANCES: Final = (
    *(0.16818, 0.16610, 0.13833, 0.13716, 0.11752, 0.11680, 0.10217, 0.10169, 0.09038, 0.09005),
    *(0.08103, 0.08079, 0.07344, 0.07326, 0.06715, 0.06701, 0.06185, 0.06175, 0.05733, 0.05725),
    *(0.05343, 0.05336, 0.05002, 0.04997, 0.04702, 0.04698, 0.04437, 0.04433, 0.04199, 0.04196),
    *(0.03986, 0.03983, 0.03793, 0.03791, 0.03619, 0.03616, 0.03459, 0.03457, 0.03313, 0.03311),
    *(0.03179, 0.03178, 0.03055),
)
"""v_K for K = 8..50: the variance of the median of K standard normal values.

Numerical integration of x^2 times the density of the middle order statistic (odd K) or of the mean of
the two middle ones (even K, Simpson's rule over their joint density), grid 0.006 and 0.001; the
densities integrate to 1 within 2e-8. `tests/domain/test_consensus.py` repeats it for three K.
"""


@dataclass(frozen=True, slots=True)
class Commissioning:
    """A measured baseline: per-trait median, pooled standard deviation, sigma, and repeats to average."""

    baseline: Vector
    deviation: float
    sigma: float
    reports: int
    repeats: int


def sigma_of(s: float, k: int) -> float:
    """Return max(.02, s * sqrt(1 + v_K)): the spread of a report around a baseline that is itself a median.

    Raises:
        BadInput: fewer than 8 or more than 50 reports, or `s` is not a finite number of at least 0.
    """
    if not REPORTS_MIN <= k <= REPORTS_MAX:
        raise BadInput(f"A baseline is measured from {REPORTS_MIN} to {REPORTS_MAX} reports, not {k}.")
    if not (math.isfinite(s) and s >= 0):
        raise BadInput("The standard deviation must be a finite number of at least 0.")
    return max(SIGMA_MIN, s * math.sqrt(1.0 + MEDIAN_VARIANCES[k - REPORTS_MIN]))


def repeats_needed(s: float) -> int:
    """Return how many repeated ratings to average into one report: ceil((s/.05)^2) where s > .05."""
    # Rounded first: (.15/.05)^2 must stay 9 whatever the last bit says.
    return max(1, math.ceil(round((s / AUTHORED_SIGMA) ** 2, 9)))


def commission(vectors: Sequence[Vector]) -> Commissioning:
    """Measure a baseline from 8 to 50 parsed reports, made each after loading the Plate afresh.

    The pooled deviation is the square root of the mean over the traits of the sample variance (n - 1).

    Raises:
        BadInput: fewer than 8 reports.
        TooLarge: more than 50.
    """
    count = len(vectors)
    if count < REPORTS_MIN:
        raise BadInput(f"{count} commissioning reports; a baseline needs at least {REPORTS_MIN}.")
    if count > REPORTS_MAX:
        raise TooLarge(f"{count} commissioning reports; take at most {REPORTS_MAX}.")
    traits = list(zip(*vectors, strict=True))
    deviation = math.sqrt(math.fsum(statistics.variance(values) for values in traits) / len(traits))
    baseline = tuple(statistics.median(values) for values in traits)
    return Commissioning(baseline, deviation, sigma_of(deviation, count), count, repeats_needed(deviation))


def trait_deviations(vectors: Sequence[Vector]) -> Vector:
    """Return the sample standard deviation (n - 1) of each trait, over two reports or more."""
    return tuple(math.sqrt(statistics.variance(values)) for values in zip(*vectors, strict=True))


def disagreement(vectors: Sequence[Vector]) -> tuple[str, ...]:
    """Return the traits on which the reports disagree too much to pin a baseline, widest first; () if none.

    A trait beyond `TRAIT_DEVIATION_MAX` is one; where the pooled deviation is beyond `DEVIATION_MAX`, so is every
    trait beyond that, of which there is then at least one.
    """
    deviations = trait_deviations(vectors)
    pooled = math.sqrt(math.fsum(value * value for value in deviations) / len(deviations))
    limit = DEVIATION_MAX if pooled > DEVIATION_MAX else TRAIT_DEVIATION_MAX
    wide = sorted(zip(deviations, TRAITS, strict=True), reverse=True)
    return tuple(name for value, name in wide if value > limit)
