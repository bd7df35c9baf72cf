"""The values around a consensus: rules, reports, rounds, verdicts, state. Light: no numpy here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Final

from ccn_mcp.domain.character import TRAITS, Vector

WIDTH: Final = len(TRAITS)
ZERO: Final[Vector] = (0.0,) * WIDTH

# ---- rules ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The numbers of one version of the rules: a bound is max(floor, coefficient * sigma)."""

    version: str = "ccn.rules/1"
    origin_rms: float = 0.10
    peer_rms: tuple[float, float] = (0.10, 1.65)
    peer_max: tuple[float, float] = (0.20, 4.75)
    base_rms: tuple[float, float] = (0.10, 1.61)
    base_max: tuple[float, float] = (0.20, 4.17)
    ewma_rms: tuple[float, float] = (0.05, 0.565)
    ewma_max: tuple[float, float] = (0.10, 1.506)
    group_rms: tuple[float, float] = (0.05, 0.0)
    ewma_weight: float = 0.2
    min_peers: int = 3


RULES: Final = Thresholds()


class Action(StrEnum):
    """What an instance is told, mildest first."""

    OK = "ok"
    WATCH = "watch"
    GROUP_REVIEW = "group_review"
    RECHECK = "recheck"
    REINIT = "reinit"


class Reason(StrEnum):
    """Which rule decided the action."""

    NONE = "none"
    PEER = "peer"
    PEER_WHILE_GROUP_MOVES = "peer_while_group_moves"
    BASE_ONCE = "base_once"
    BASE_TWICE = "base_twice"
    EWMA = "ewma"


# ---- values --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MemberState:
    """What one instance carries from report to report.

    `base_run` counts its latest reports in a row that failed BASE, up to 2; the count belongs to
    reports, so that judging one report again in a later evaluation can never make it two.
    """

    ewma: Vector = ZERO
    base_run: int = 0

    @property
    def base(self) -> bool:
        """True if the latest report failed BASE."""
        return self.base_run > 0


@dataclass(frozen=True, slots=True)
class GroupState:
    """What a group carries from one evaluation to the next; `GroupState()` is the beginning."""

    ewma: Vector = ZERO
    consensus: Vector | None = None
    members: Mapping[str, MemberState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """The latest accepted, fresh report of one live instance; `is_new`: made since the last evaluation."""

    instance: str
    principal: str
    report_id: int
    vector: Vector
    is_new: bool


@dataclass(frozen=True, slots=True)
class Round:
    """Everything that one evaluation depends on besides the previous state and the rules.

    `resets`: instances that were re-initialised since the last evaluation. `carry`: instances that take
    no part now and keep their state (a lease that ran out, a flag); all others are dropped from it.
    """

    group: str
    reports: tuple[Report, ...]
    baseline: Vector
    baseline_source: str
    sigma: float
    resets: tuple[str, ...] = ()
    carry: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One instance's numbers (0 to 1) and what follows from them. `peer` is None below three reports."""

    instance: str
    principal_reports: int
    drift_rms: float
    drift_max: float
    base_drift_rms: float
    base_drift_max: float
    ewma_rms: float
    ewma_max: float
    origin_outlier: bool
    base: bool
    peer: bool | None
    ewma: bool
    action: Action
    reason: Reason
    duplicate: bool
    echo: bool

    @property
    def weight(self) -> Fraction:
        """The report's weight: a principal's k reports weigh 1/k each."""
        return Fraction(1, self.principal_reports)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of one round; `consensus` is None if nobody took part, verdicts are by instance id."""

    round: Round
    rules: Thresholds
    consensus: Vector | None
    verdicts: Mapping[str, Verdict]
    principals: int
    group_alarm: bool
    state: GroupState

    @property
    def weights(self) -> Mapping[str, Fraction]:
        """The weight of each instance's report."""
        return {name: verdict.weight for name, verdict in self.verdicts.items()}
