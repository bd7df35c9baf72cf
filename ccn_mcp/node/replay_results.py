"""What computing again, and explaining, answer."""

from __future__ import annotations

from typing import TypedDict


class ReplayFault(TypedDict):
    """An entry that does not follow from what it names, and what differs."""

    seq: int
    detail: str


class Replayed(TypedDict):
    """Evaluations and pinned baselines (`baselines`) computed again. `erased`: used a report that was erased since."""

    ok: bool
    evaluations: int
    matching: int
    baselines: int
    erased: list[int]
    erased_count: int
    faults: list[ReplayFault]
    fault_count: int
    groups: list[str]
    head: str


class RuleExplained(TypedDict):
    """One rule: value and limit of its RMS and of its largest trait. `exceeded` is None where it did not apply."""

    rule: str
    compares: str
    rms: float
    rms_limit: float
    max: float
    max_limit: float | None
    exceeded: bool | None
    decides: bool


class TraitExplained(TypedDict):
    """One trait that is far from the baseline."""

    trait: str
    report: float
    baseline: float


class Explained(TypedDict):
    """One verdict with every number. `exact` is False where the report was erased: four decimals are left then."""

    seq: int
    at: str
    group: str
    instance_id: str
    report: int
    measured_by: str | None
    new: bool
    action: str
    why: str
    follows: str
    rules_version: str
    baseline_source: str
    baseline_said: str
    sigma: float
    reports: int
    principals: int
    weight: str
    base_run: int
    rules: list[RuleExplained]
    widest: list[TraitExplained]
    flags: list[str]
    exact: bool
