"""Every section of the published consensus cases. The optional geometric median is left out: the rules
do not use it, so nothing here computes it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ccn_mcp.domain.character import TRAITS, Vector, drift, drift_max, parse_vector
from ccn_mcp.domain.consensus import (
    Action,
    Evaluation,
    GroupState,
    Report,
    Round,
    evaluate,
    origin_outliers,
    plain_consensus,
    weighted_consensus,
)
from ccn_mcp.domain.errors import BadVector, CcnError, IdempotencyConflict, UnknownInstance
from ccn_mcp.domain.instances import loaded, may_report, opened, terminated
from ccn_mcp.domain.turnout import LatestReport, Seat, participants
from tests.shared_vectors import vectors

NEAR = 1e-9


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    loaded_cases: dict[str, Any] = json.loads(vectors("consensus_sample.json").read_text(encoding="utf-8"))
    return loaded_cases


def near(expected: object) -> Any:
    return pytest.approx(expected, abs=NEAR, rel=0)


def judge(
    reports: Mapping[str, Sequence[float]],
    cases: dict[str, Any],
    sigma: float,
    state: GroupState | None = None,
    principals: Mapping[str, str] | None = None,
) -> Evaluation:
    who = principals or {name: name for name in reports}
    entries = tuple(
        Report(name, who[name], at, tuple(vector), is_new=True)
        for at, (name, vector) in enumerate(reports.items())
    )
    round_ = Round("group", entries, tuple(cases["baseline"]), "test", sigma)
    return evaluate(state or GroupState(), round_)


def check_distances(expect: dict[str, Any], accepted: Mapping[str, Vector]) -> None:
    consensus = plain_consensus(list(accepted.values()))
    if expect["consensus"] is None:
        assert consensus is None
        return
    assert consensus == near(tuple(expect["consensus"]))
    assert consensus is not None
    assert {name: drift(vector, consensus) for name, vector in accepted.items()} == near(expect["drift_rms"])
    assert {name: drift_max(v, consensus) for name, v in accepted.items()} == near(expect["drift_max"])
    outliers = origin_outliers(list(accepted.values()), consensus)
    named = [name for name, out in zip(accepted, outliers, strict=True) if out]
    assert named == expect["origin_outliers"]


def test_names_and_parameters_are_the_published_ones(cases: dict[str, Any]) -> None:
    from ccn_mcp.domain.consensus import RULES

    assert list(TRAITS) == cases["dims"]
    tau = cases["params"]["tau"]
    mine = {
        "base_rms": RULES.base_rms,
        "base_max": RULES.base_max,
        "peer_rms": RULES.peer_rms,
        "peer_max": RULES.peer_max,
        "ewma_rms": RULES.ewma_rms,
        "ewma_max": RULES.ewma_max,
        "group_ewma_rms": RULES.group_rms,
    }
    assert {name: list(pair) for name, pair in mine.items()} == tau
    assert RULES.ewma_weight == cases["params"]["lambda"]
    assert RULES.min_peers == cases["params"]["min_peers"]
    assert RULES.origin_rms == cases["params"]["origin_threshold"]


def test_aggregation(cases: dict[str, Any]) -> None:
    assert cases["aggregation"]
    for case in cases["aggregation"]:
        check_distances(case["expect"], {name: tuple(v) for name, v in case["reports"].items()})


def test_boundary(cases: dict[str, Any]) -> None:
    assert cases["boundary"]
    for case in cases["boundary"]:
        reports = {name: tuple(v) for name, v in case["reports"].items()}
        consensus = plain_consensus(list(reports.values()))
        assert consensus is not None
        outliers = origin_outliers(list(reports.values()), consensus, case["threshold"])
        named = [name for name, out in zip(reports, outliers, strict=True) if out]
        assert named == case["expect"]["origin_outliers"], case["id"]
        assert drift(reports["c"], consensus) == near(case["expect"]["drift_rms_c"])


def special(value: Any) -> Any:
    if isinstance(value, dict):
        if "$float" in value:
            return float(value["$float"])
        return value["$raw"] if "$raw" in value else value["$map"]
    return [special(item) for item in value] if isinstance(value, list) else value


@dataclass
class Desk:
    """What the store does around the pure core: registration and idempotency keys."""

    seen: dict[tuple[str, str], Vector] = field(default_factory=dict)
    latest: dict[str, Vector] = field(default_factory=dict)

    def take(self, report: dict[str, Any], registered: set[str] | None) -> bool:
        """True if accepted, False if a replay."""
        name = report["instance"]
        if registered is not None and name not in registered:
            raise UnknownInstance(name)
        vector = parse_vector(special(report["vector"]))
        key = (name, report.get("key", f"only-{len(self.seen)}"))
        if key in self.seen:
            if self.seen[key] != vector:
                raise IdempotencyConflict(name)
            return False
        self.seen[key] = vector
        self.latest[name] = vector
        return True


def reason_of(exc: CcnError) -> str:
    return exc.reason if isinstance(exc, BadVector) else exc.code


def test_nasty(cases: dict[str, Any]) -> None:
    assert cases["nasty"]
    for case in cases["nasty"]:
        desk, rejected, expect = Desk(), dict[str, str](), case["expect"]
        registered = None if case["id"] != "nasty-unknown-instance" else set("abcd")
        for at, report in enumerate(case["reports"]):
            try:
                desk.take(report, registered)
            except CcnError as exc:
                earlier = [r["instance"] for r in case["reports"][:at]].count(report["instance"])
                rejected[report["instance"] + (f"#{earlier + 1}" if earlier else "")] = reason_of(exc)
        assert rejected == expect["rejected"], case["id"]
        accepted = {name: desk.latest[name] for name in sorted(desk.latest)}
        assert sorted(accepted) == sorted(expect["accepted"]), case["id"]
        check_distances(expect, accepted)
        outcome = judge(accepted, cases, 0.05)
        assert len(outcome.verdicts) == expect["n"]
        has_peers = any(verdict.peer is not None for verdict in outcome.verdicts.values())
        assert has_peers == expect["peer_verdicts"], case["id"]
        if case["id"] == "nasty-copycat":
            assert [n for n, v in outcome.verdicts.items() if v.duplicate] == ["a", "x"]
        if case["id"] == "nasty-echo":
            assert [n for n, v in outcome.verdicts.items() if v.echo] == ["x"]


def test_weighted(cases: dict[str, Any]) -> None:
    assert cases["weighted"]
    for case in cases["weighted"]:
        rows = [tuple(report["vector"]) for report in case["reports"]]
        principals = [report["principal"] for report in case["reports"]]
        expect = case["expect"]
        assert weighted_consensus(rows, principals) == near(tuple(expect["weighted_consensus"])), case["id"]
        assert plain_consensus(rows) == near(tuple(expect["unweighted_consensus"])), case["id"]
        names = [report["instance"] for report in case["reports"]]
        who = dict(zip(names, principals, strict=True))
        outcome = judge(dict(zip(names, rows, strict=True)), cases, 0.05, principals=who)
        assert outcome.consensus == near(tuple(expect["weighted_consensus"]))
        assert [str(outcome.weights[name]) for name in names] == expect["weights"]
        assert outcome.principals == expect["peer_principals"]


def test_byzantine(cases: dict[str, Any]) -> None:
    assert cases["byzantine"]
    for case in cases["byzantine"]:
        reports = {name: tuple(v) for name, v in case["reports"].items()}
        expect = case["expect"]
        check_distances(expect, reports)
        honest = [vector for name, vector in reports.items() if name not in case["liars"]]
        assert [min(column) for column in zip(*honest, strict=True)] == near(expect["honest_low"])
        consensus = plain_consensus(list(reports.values()))
        assert consensus is not None
        inside = all(
            min(column) - NEAR <= value <= max(column) + NEAR
            for value, column in zip(consensus, zip(*honest, strict=True), strict=True)
        )
        assert inside == expect["inside_honest_box"]
        assert inside or not expect["guarantee"]


def test_verdicts(cases: dict[str, Any]) -> None:
    assert cases["verdicts"]
    for case in cases["verdicts"]:
        outcome = judge(case["reports"], cases, case["sigma"])
        assert outcome.consensus == near(tuple(case["expect"]["consensus"]))
        assert outcome.group_alarm == case["expect"]["group_alarm"], case["id"]
        for name, expected in case["expect"]["verdicts"].items():
            verdict = outcome.verdicts[name]
            mine = {key: getattr(verdict, key) for key in expected}
            assert mine == expected, (case["id"], name)


def test_sequences(cases: dict[str, Any]) -> None:
    assert cases["sequences"]
    for case in cases["sequences"]:
        state, first, alarm_at, seen = GroupState(), defaultdict[str, dict[str, int]](dict), None, {}
        for at, rows in enumerate(case["rounds"], start=1):
            reports = dict(zip(case["instances"], rows, strict=True))
            outcome = judge(reports, cases, case["sigma"], state)
            state, seen[str(at)] = outcome.state, outcome.consensus
            for name, verdict in outcome.verdicts.items():
                for key in ("ewma", "base", "peer", "origin_outlier"):
                    if getattr(verdict, key):
                        first[name].setdefault(key, at)
                if verdict.action is Action.REINIT:
                    first[name].setdefault("action_reinit", at)
            if outcome.group_alarm and alarm_at is None:
                alarm_at = at
        assert first == case["expect"]["first_round"], case["id"]
        assert alarm_at == case["expect"]["group_alarm_first_round"], case["id"]
        for at_text, consensus in case["expect"]["consensus_at"].items():
            assert seen[at_text] == near(tuple(consensus))


class Stage:
    """Runs a trace's events against the instance states and the consensus."""

    def __init__(self, params: dict[str, Any], baseline: Sequence[float]) -> None:
        self.lease_us, self.fresh_us = params["lease_s"] * 1_000_000, params["fresh_s"] * 1_000_000
        self.baseline = tuple(baseline)
        self.seats: dict[str, Seat] = {}
        self.keys: dict[str, float] = {}
        self.serial = 0

    def run(self, event: dict[str, Any]) -> dict[str, Any]:
        now_us, name = event["t"] * 1_000_000, event.get("instance", "")
        match event["op"]:
            case "register":
                start = loaded(opened(name, name, model="m"), plate_seq=1, nonce_hash="h")
                self.seats[name] = Seat(start, now_us)
            case "heartbeat":
                self.seats[name] = Seat(self.seats[name].instance, now_us, self.seats[name].report)
            case "deregister":
                seat = self.seats[name]
                self.seats[name] = Seat(terminated(seat.instance), now_us, seat.report)
            case "report":
                return self.report(name, event["key"], event["value"], now_us)
            case "evaluate":
                return self.evaluate(now_us)
            case other:
                pytest.fail(f"unknown op {other}")
        return {}

    def report(self, name: str, key: str, value: float, now_us: int) -> dict[str, Any]:
        seat = self.seats.get(name)
        try:
            if seat is None:
                raise UnknownInstance(name)
            may_report(seat.instance)
            if self.keys.get(key, value) != value:
                raise IdempotencyConflict(key)
        except CcnError as exc:
            return {"error": exc.code}
        if key in self.keys:
            self.seats[name] = Seat(seat.instance, now_us, seat.report)
            return {"replayed": True}
        self.keys[key] = value
        self.serial += 1
        vector = parse_vector([value] * 16)
        latest = LatestReport(self.serial, vector, now_us, is_new=True)
        self.seats[name] = Seat(seat.instance, now_us, latest)
        return {"accepted": True}

    def evaluate(self, now_us: int) -> dict[str, Any]:
        turnout = participants(
            self.seats.values(), now_us=now_us, lease_us=self.lease_us, fresh_us=self.fresh_us
        )
        reports = tuple(
            Report(s.instance.id, s.instance.principal, s.report.report_id, s.report.vector, s.report.is_new)
            for s in turnout.voting
            if s.report is not None
        )
        outcome = evaluate(GroupState(), Round("m", reports, self.baseline, "test", 0.05))
        values = outcome.consensus
        assert values is None or len(set(values)) == 1
        return {
            "participants": [report.instance for report in reports],
            "excluded": {name: reason.value for name, reason in turnout.excluded.items()},
            "consensus": None if values is None else values[0],
            "peer_verdicts": any(v.peer is not None for v in outcome.verdicts.values()),
        }


def test_traces(cases: dict[str, Any]) -> None:
    traces = cases["traces"]
    assert traces["cases"]
    for case in traces["cases"]:
        stage = Stage(traces["params"], cases["baseline"])
        for event in case["events"]:
            got, expected = stage.run(event), event.get("expect", {})
            for key, value in expected.items():
                wanted = near(value) if key == "consensus" and value is not None else value
                assert got[key] == wanted, (case["id"], event)


def test_labelled_rounds_meet_their_bars(cases: dict[str, Any]) -> None:
    labelled, honest, false_alarms = cases["labelled_rounds"], 0, 0
    bad, found = Counter[str](), Counter[str]()
    for round_ in labelled["rounds"]:
        reports = {f"i{at:02}": vector for at, vector in enumerate(round_["x"])}
        outcome = judge(reports, cases, labelled["sigma"])
        for is_bad, verdict in zip(round_["bad"], outcome.verdicts.values(), strict=True):
            if is_bad:
                bad[round_["kind"]] += 1
                found[round_["kind"]] += verdict.base
            else:
                honest += 1
                false_alarms += verdict.base
    assert honest > 0
    assert false_alarms / honest <= labelled["bars"]["false_alarm_max_share_honest"]
    for kind, share in labelled["bars"]["detect_min_share"].items():
        assert found[kind] >= share * bad[kind], kind


def test_labelled_sequences_meet_their_bars(cases: dict[str, Any]) -> None:
    labelled = cases["labelled_sequences"]
    limit, bars = labelled["limit_round"], labelled["bars"]
    noisy, tally = 0, Counter[str]()
    for sequence in labelled["sequences"]:
        state, reinit_at, alarm_at = GroupState(), dict[str, int](), 10**6
        for at, rows in enumerate(sequence["rounds"], start=1):
            outcome = judge({f"i{i:02}": row for i, row in enumerate(rows)}, cases, labelled["sigma"], state)
            state = outcome.state
            for name, verdict in outcome.verdicts.items():
                if verdict.action is Action.REINIT:
                    reinit_at.setdefault(name, at)
            if outcome.group_alarm:
                alarm_at = min(alarm_at, at)
        if sequence["mode"] == "quiet":
            noisy += bool(reinit_at) or alarm_at < 10**6
            continue
        for name in sequence["drifter"]:
            tally["drifters"] += 1
            tally["told"] += reinit_at.get(name, 10**6) <= limit
        if sequence["mode"] == "group":
            tally["groups"] += 1
            tally["alarmed"] += alarm_at <= limit
    assert tally["drifters"] > 0
    assert tally["groups"] > 0
    assert noisy == bars["quiet_sequences_with_reinit_or_group_alarm"]
    assert tally["told"] >= bars["drift_reinit_by_limit_round_min_share"] * tally["drifters"]
    assert tally["alarmed"] >= bars["group_alarm_by_limit_round_min_share"] * tally["groups"]
