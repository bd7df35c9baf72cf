"""The ledger form: what is written can be read, and computed again bit for bit (C10)."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import struct
from dataclasses import replace
from typing import Any

import pytest

from ccn_mcp.domain.character import Vector
from ccn_mcp.domain.consensus import (
    Evaluation,
    GroupState,
    MemberState,
    Report,
    Round,
    Thresholds,
    evaluate,
)
from ccn_mcp.domain.consensus_record import Mismatch, decode, encode, replay, state_hash
from ccn_mcp.domain.errors import BadInput, VerificationFailed
from ccn_mcp.domain.limits import JSON_INT_MAX

B: Vector = (0.5,) * 16


def some_vector(rng: random.Random) -> Vector:
    match rng.randrange(4):
        case 0:
            return tuple(rng.randrange(6) / 5 for _ in range(16))
        case 1:
            return tuple(rng.random() for _ in range(16))
        case 2:
            return tuple(0.4 + 0.2 * rng.random() for _ in range(16))
        case _:
            return tuple(rng.choice((0.0, 1.0, 5e-324, 0.3)) for _ in range(16))


class History:
    """A group over time: random people reporting, leaving, returning, being re-initialised."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - test data
        self.state = GroupState()
        self.latest: dict[str, tuple[int, Vector]] = {}
        self.vectors: dict[int, Vector] = {}
        self.baseline = some_vector(self.rng)

    def step(self) -> Evaluation:
        rng, names = self.rng, [f"i{at}" for at in range(self.rng.choice((1, 3, 6)))]
        new = {name for name in names if rng.random() < 0.6}
        for name in sorted(new):
            report_id = len(self.vectors) + 1
            self.vectors[report_id] = some_vector(rng)
            self.latest[name] = (report_id, self.vectors[report_id])
        present = [name for name in names if name in self.latest and (name in new or rng.random() < 0.8)]
        rng.shuffle(present)
        round_ = Round(
            group="opus|on|1",
            reports=tuple(
                Report(name, f"p{rng.randrange(3)}", *self.latest[name], is_new=name in new)
                for name in present
            ),
            baseline=self.baseline,
            baseline_source="plate:3",
            sigma=rng.choice((0.02, 0.05, rng.uniform(0.02, 0.2))),
            resets=tuple(name for name in names if rng.random() < 0.1),
            carry=tuple(name for name in sorted(self.latest) if rng.random() < 0.9),
        )
        return evaluate(self.state, round_)


def one_entry() -> tuple[GroupState, dict[str, Any], bytes, dict[int, Vector]]:
    history = History(5)
    for _ in range(4):
        history.state = history.step().state
    before = history.state
    evaluation = history.step()
    assert evaluation.verdicts
    body, blob = encode(evaluation, state_hash(before))
    return before, body, blob, history.vectors


def check_json(value: object) -> None:
    match value:
        case None | bool() | str():
            pass
        case int():
            assert abs(value) <= JSON_INT_MAX
        case list():
            for item in value:
                check_json(item)
        case dict():
            for name, item in value.items():
                assert isinstance(name, str)
                check_json(item)
        case other:
            pytest.fail(f"{type(other)} in a body")


@pytest.mark.slow
def test_a_thousand_random_histories_replay_bit_for_bit() -> None:
    for seed in range(1_000):
        history = History(seed)
        replayed = GroupState()
        for _ in range(4):
            evaluation = history.step()
            body, blob = encode(evaluation, state_hash(history.state))
            stored: dict[str, Any] = json.loads(json.dumps(body))
            outcome = replay(replayed, stored, blob, history.vectors)
            assert isinstance(outcome, Evaluation), outcome
            assert outcome.state == evaluation.state
            assert outcome.consensus == evaluation.consensus
            assert outcome.verdicts == evaluation.verdicts
            history.state, replayed = evaluation.state, decode(stored, blob).state


def test_the_bits_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256()
    for seed in range(20):
        history = History(seed)
        for _ in range(10):
            evaluation = history.step()
            body, blob = encode(evaluation, state_hash(history.state))
            digest.update(json.dumps(body, sort_keys=True).encode() + blob)
            history.state = evaluation.state
    # A change here means that entries written before no longer replay: publish new rules instead.
    assert digest.hexdigest() == "b251d8d40aa11080551a7350a0a22f9feaede8333193fa67535344e023290746"


def test_body_holds_no_floats_and_describes_its_blob() -> None:
    _, body, blob, _ = one_entry()
    check_json(body)
    rows, width = body["vec"]["shape"]
    assert (body["vec"]["dtype"], width, len(blob)) == ("f8le", 16, rows * 128)


def test_decode_gives_back_what_was_judged() -> None:
    before, body, blob, vectors = one_entry()
    recorded = decode(body, blob)
    again = replay(before, body, blob, vectors)
    assert isinstance(again, Evaluation)
    assert recorded.state == again.state
    assert recorded.consensus == again.consensus
    assert recorded.sigma == again.round.sigma
    assert recorded.baseline == again.round.baseline
    assert recorded.principals == again.principals
    assert {name: item["action"] for name, item in recorded.verdicts.items()} == {
        name: verdict.action.value for name, verdict in again.verdicts.items()
    }


def test_an_empty_round_keeps_the_last_consensus_and_replays() -> None:
    before = evaluate(GroupState(), Round("g", (Report("a", "p", 1, B, True),), B, "x", 0.05)).state
    evaluation = evaluate(before, Round("g", (), B, "x", 0.05, carry=("a",)))
    body, blob = encode(evaluation, state_hash(before))
    assert (decode(body, blob).consensus, decode(body, blob).state.consensus) == (None, B)
    assert replay(before, body, blob, {}) == evaluation
    first = encode(evaluate(GroupState(), Round("g", (), B, "x", 0.05)), state_hash(GroupState()))
    assert isinstance(replay(GroupState(), *first, {}), Evaluation)


def test_any_flipped_bit_of_the_blob_is_found() -> None:
    before, body, blob, vectors = one_entry()
    for at in range(0, len(blob), 7):
        changed = bytearray(blob)
        changed[at] ^= 1
        try:
            outcome = replay(before, body, bytes(changed), vectors)
        except VerificationFailed:
            continue
        assert isinstance(outcome, Mismatch), at


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("principals", 99),
        ("group_alarm", 1),
        ("rules", "ccn.rules/0"),
        ("previous", "00" * 32),
        ("carry", []),
        ("more", "text"),
    ],
)
def test_any_changed_field_is_named(name: str, value: object) -> None:
    before, body, blob, vectors = one_entry()
    try:
        outcome = replay(before, {**body, name: value}, blob, vectors)
    except VerificationFailed as exc:
        assert name in str(exc)  # noqa: PT017 - either outcome is right
        return
    assert isinstance(outcome, Mismatch)
    assert outcome.fields


@pytest.mark.parametrize("name", ["action", "reason", "base", "peer", "ewma", "weight", "new", "drift_e4"])
def test_any_changed_verdict_is_found(name: str) -> None:
    before, body, blob, vectors = one_entry()
    changed = copy.deepcopy(body)
    value = changed["reports"][0][name]
    changed["reports"][0][name] = (not value) if isinstance(value, bool) else "other"
    try:
        assert isinstance(replay(before, changed, blob, vectors), Mismatch)
    except VerificationFailed:
        pytest.fail("a verdict is not needed to read the entry")


def test_another_previous_state_or_another_report_is_found() -> None:
    before, body, blob, vectors = one_entry()
    outcome = replay(replace(before, ewma=B), body, blob, vectors)
    assert isinstance(outcome, Mismatch)
    assert outcome.fields == ("previous",)
    used = body["reports"][0]["report"]
    outcome = replay(before, body, blob, {**vectors, used: (0.123,) * 16})
    assert isinstance(outcome, Mismatch)
    assert "blob" in outcome.fields
    outcome = replay(before, body, blob, {**vectors, used: (2.0,) * 16})
    assert isinstance(outcome, Mismatch)
    del vectors[used]
    outcome = replay(before, body, blob, vectors)
    assert isinstance(outcome, Mismatch)
    assert outcome.fields == ("reports",)


@pytest.mark.parametrize(
    "damage",
    [
        {"vec": None},
        {"vec": {"dtype": "f4le", "shape": [1, 16]}},
        {"vec": {"dtype": "f8le", "shape": []}},
        {"vec": {"dtype": "f8le", "shape": [0, 16]}},
        {"vec": {"dtype": "f8le", "shape": [10**9, 16]}},
        {"members": "none"},
        {"members": [["i0", 3]]},
        {"reports": [1]},
        {"consensus": 1},
        {"remembered": False},
        {"state": "ff" * 32},
        {"resets": [1]},
        {"principals": True},
        {"group": None},
    ],
)
def test_damaged_entries_are_refused(damage: dict[str, object]) -> None:
    _, body, blob, _ = one_entry()
    with pytest.raises(VerificationFailed):
        decode({**body, **damage}, blob)


def test_nan_in_the_blob_is_refused() -> None:
    _, body, blob, _ = one_entry()
    with pytest.raises(VerificationFailed):
        decode(body, struct.pack("<d", float("nan")) + blob[8:])


def test_unpublished_rules_and_huge_report_ids_are_not_written() -> None:
    round_ = Round("g", (Report("a", "p", 1, B, True),), B, "x", 0.05)
    with pytest.raises(BadInput):
        encode(evaluate(GroupState(), round_, Thresholds(min_peers=2)), "00")
    huge = replace(round_, reports=(Report("a", "p", JSON_INT_MAX + 1, B, True),))
    with pytest.raises(BadInput):
        encode(evaluate(GroupState(), huge), "00")


def test_state_hash_is_the_documented_layout() -> None:
    zeros = bytes(128)
    empty = hashlib.sha256(b"ccn.state/1\n" + zeros + b"\x00" + bytes(8)).hexdigest()
    assert state_hash(GroupState()) == empty
    half = struct.pack("<16d", *B)
    layout = b"ccn.state/1\n" + half + b"\x01" + half + (2).to_bytes(8, "big")
    layout += (1).to_bytes(8, "big") + b"a" + zeros + b"\x00"
    layout += (2).to_bytes(8, "big") + "é".encode() + half + b"\x02"
    members = {"é": MemberState(B, 2), "a": MemberState()}
    assert state_hash(GroupState(B, B, members)) == hashlib.sha256(layout).hexdigest()


def test_two_different_states_have_different_hashes() -> None:
    states = [
        GroupState(),
        GroupState(consensus=B),
        GroupState(ewma=B),
        GroupState(members={"a": MemberState()}),
        GroupState(members={"b": MemberState()}),
        GroupState(members={"a": MemberState(base_run=1)}),
        GroupState(members={"a": MemberState(ewma=B)}),
    ]
    assert len({state_hash(state) for state in states}) == len(states)
