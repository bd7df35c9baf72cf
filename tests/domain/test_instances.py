from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ccn_mcp.domain import instances as of
from ccn_mcp.domain.errors import (
    BadInput,
    CcnError,
    InstanceFailed,
    ReceiptRequired,
    Refused,
    UnknownInstance,
    VerificationFailed,
)
from ccn_mcp.domain.instances import Event, Instance, State
from ccn_mcp.domain.limits import REINIT_TRIES_MAX

ACTIVE = of.loaded(of.opened("i1", "local", model="m"), plate_seq=3, nonce_hash="first")
FLAGGED = of.flagged(ACTIVE)
READY = of.loaded(FLAGGED, plate_seq=4, nonce_hash="second")
FAILED = replace(FLAGGED, state=State.FAILED)
GONE = of.terminated(ACTIVE)


def test_an_instance_starts_spawning_and_is_active_once_loaded() -> None:
    fresh = of.opened("i1", "local")
    assert fresh.state is State.SPAWNING
    assert (ACTIVE.state, ACTIVE.plate_seq, ACTIVE.nonce_hash) == (State.ACTIVE, 3, "first")
    with pytest.raises(BadInput):
        of.opened("", "local")


def test_reinitialisation_needs_flag_load_and_receipt() -> None:
    assert READY.state is State.DRIFTED
    outcome = of.receipt(READY, "second", now_us=99)
    assert isinstance(outcome, of.Reinitialised)
    after = outcome.instance
    assert (after.state, after.tries, after.nonce_hash) == (State.ACTIVE, 0, None)
    assert (after.reinits, after.reports_from_us, after.plate_seq) == (1, 99, 4)


def test_a_nonce_from_before_the_flag_is_no_receipt() -> None:
    assert isinstance(of.receipt(FLAGGED, "first", now_us=1), of.FailedTry)


def test_a_receipt_is_used_once() -> None:
    outcome = of.receipt(READY, "second", now_us=1)
    again = of.flagged(outcome.instance)
    assert isinstance(of.receipt(again, "second", now_us=2), of.FailedTry)


def test_a_missing_receipt_is_refused_and_not_counted() -> None:
    with pytest.raises(ReceiptRequired):
        of.receipt(READY, None, now_us=1)
    with pytest.raises(ReceiptRequired):
        of.may_report(READY)


def test_three_failed_tries_make_it_failed() -> None:
    instance = READY
    for left in range(REINIT_TRIES_MAX - 1, -1, -1):
        outcome = of.receipt(instance, "wrong", now_us=1)
        assert isinstance(outcome, of.FailedTry)
        assert outcome.tries_left == left
        instance = outcome.instance
    assert instance.state is State.FAILED
    with pytest.raises(InstanceFailed):
        of.receipt(instance, "second", now_us=1)


def test_contradicted_recall_is_a_failed_try_even_with_the_nonce() -> None:
    outcome = of.receipt(READY, "second", now_us=1, recall_failed=True)
    assert isinstance(outcome, of.FailedTry)
    assert outcome.instance.tries == 1


def test_a_flag_starts_the_count_anew_and_twice_changes_nothing() -> None:
    tried = of.receipt(READY, "wrong", now_us=1).instance
    assert of.flagged(tried) is tried
    back = of.receipt(tried, "second", now_us=1).instance
    assert of.flagged(back).tries == 0


def test_a_return_changes_nothing_and_a_flag_survives_it() -> None:
    for instance in (ACTIVE, FLAGGED, FAILED):
        assert of.returned(instance) == instance


def test_only_a_flagged_instance_has_a_receipt_to_give() -> None:
    with pytest.raises(Refused):
        of.receipt(ACTIVE, "first", now_us=1)


@pytest.mark.parametrize(
    ("instance", "error"),
    [(GONE, UnknownInstance), (FAILED, InstanceFailed)],
)
def test_the_dead_do_nothing(instance: Instance, error: type[CcnError]) -> None:
    with pytest.raises(error):
        of.loaded(instance, plate_seq=1, nonce_hash="n")
    with pytest.raises(error):
        of.flagged(instance)
    with pytest.raises(error):
        of.receipt(instance, "n", now_us=1)
    with pytest.raises(error):
        of.may_report(instance)
    with pytest.raises(error):
        of.may_load(instance)


def test_termination_is_final() -> None:
    assert of.terminated(FAILED).state is State.TERMINATED
    for act in (of.terminated, of.returned, of.corrected):
        with pytest.raises(UnknownInstance):
            act(GONE)


def test_one_that_left_with_its_process_comes_back_as_it_was() -> None:
    for instance in (ACTIVE, FLAGGED, READY):
        away = of.left(instance)
        assert (away.state, away.away, away.gone) == (State.TERMINATED, True, False)
        assert of.returned(away) == instance
        with pytest.raises(UnknownInstance):
            of.left(away)
    assert (GONE.away, GONE.gone, ACTIVE.gone) == (False, True, False)


def test_a_correction_changes_only_what_it_names() -> None:
    after = of.corrected(ACTIVE, model="other", thinking="on")
    assert (after.model, after.thinking, after.rubric, after.state) == ("other", "on", "", State.ACTIVE)


def test_groups_compare_like_with_like() -> None:
    def group(model: str, thinking: str = "on", rubric: str = "1") -> str:
        return of.group_of(of.opened("i", "p", model=model, thinking=thinking, rubric=rubric))

    assert group("opus") == "opus|on|1"
    assert group("") == group("Unknown") == group("  ", thinking="off") == "unknown"
    assert group("a|b", "c") != group("a", "b|c")
    assert group("a", "") != group("a", "on")


def test_snapshot_round_trips_through_json() -> None:
    rich = of.corrected(READY, session_id="s", conversation_id="c", thinking="on")
    for instance in (of.opened("i", "p"), ACTIVE, rich, FAILED, GONE, of.left(READY)):
        text = json.dumps(instance.to_body(Event.LOADED))
        assert "." not in text
        body = json.loads(text)
        assert body["event"] == "loaded"
        assert Instance.from_body(body) == instance


@pytest.mark.parametrize(
    "damage",
    [
        {"instance": 1},
        {"state": "lost"},
        {"state": "idle"},
        {"tries": True},
        {"tries": -1},
        {"plate_seq": "3"},
        {"nonce_hash": 7},
        {"principal": None},
        {"left_as": "lost"},
        {"left_as": "idle"},
    ],
)
def test_a_damaged_snapshot_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(VerificationFailed):
        Instance.from_body({**ACTIVE.to_body(Event.LOADED), **damage})
    body = ACTIVE.to_body(Event.LOADED)
    del body["plate_seq"]
    with pytest.raises(VerificationFailed):
        Instance.from_body(body)


def test_idle_is_only_shown() -> None:
    def shown(instance: Instance, now_us: int) -> State:
        return of.shown_state(instance, last_seen_us=0, now_us=now_us, idle_us=10)

    assert shown(ACTIVE, 10) is State.ACTIVE
    assert shown(ACTIVE, 11) is State.IDLE
    assert shown(FLAGGED, 11) is State.DRIFTED
