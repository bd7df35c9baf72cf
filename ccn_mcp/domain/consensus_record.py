"""The ledger form of an evaluation (kind 4): encode, decode, replay.

The body holds text, booleans and integers only; every float lies in the blob, as rows of 16
little-endian float64 in this order:

    0            the baseline
    1            sigma, sixteen times
    2            the state's last consensus; only if the body says `"remembered": true`. It is this
                 evaluation's own if `"consensus": true`, an earlier one if nobody took part
    next         the group's EWMA after the evaluation
    then         one EWMA row per entry of the body's `members`, in their order

Together with the previous state (named by its hash) and the report vectors (named by their ids, stored
in their own entries) that is all an evaluation depends on, so it can be computed again, bit for bit.
The drifts in the body are ten-thousandths for reading; nothing is computed from them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain.character import Vector, from_blob, to_blob
from ccn_mcp.domain.consensus import evaluate
from ccn_mcp.domain.consensus_types import (
    RULES,
    WIDTH,
    Evaluation,
    GroupState,
    MemberState,
    Report,
    Round,
    Verdict,
)
from ccn_mcp.domain.errors import BadInput, BadVector, TooLarge, VerificationFailed
from ccn_mcp.domain.limits import JSON_INT_MAX

RULES_BY_VERSION: Final = {RULES.version: RULES}
"""Every version of the rules that ever wrote an entry; old ones stay, or old entries cannot be replayed."""

STATE_TAG: Final = b"ccn.state/1\n"


@dataclass(frozen=True, slots=True)
class Seat:
    """One participant as recorded: whose report counted, and whether it was new."""

    instance: str
    principal: str
    report_id: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decoded entry. `verdicts` are the recorded strings, booleans and ten-thousandths by instance."""

    rules: str
    group: str
    previous_hash: str
    state_hash: str
    seats: tuple[Seat, ...]
    baseline: Vector
    baseline_source: str
    sigma: float
    resets: tuple[str, ...]
    carry: tuple[str, ...]
    consensus: Vector | None
    principals: int
    group_alarm: bool
    state: GroupState
    verdicts: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why an entry does not replay: the fields that differ, and a sentence."""

    fields: tuple[str, ...]
    message: str


def state_hash(state: GroupState) -> str:
    """Return the SHA-256 (hex) of a state.

    Hashed bytes: `ccn.state/1` LF; the group's EWMA, 16 f8le; one byte, 0 or 1, and if 1 the last
    consensus, 16 f8le; u64 count of members; per member in code point order of its id: u64 length of
    the id in UTF-8, the id, 16 f8le, u8 base run (0, 1, 2). Integers big-endian.
    """
    parts = [STATE_TAG, to_blob(state.ewma)]
    parts += [b"\x00"] if state.consensus is None else [b"\x01", to_blob(state.consensus)]
    parts.append(len(state.members).to_bytes(8, "big"))
    for name in sorted(state.members):
        member = state.members[name]
        encoded = name.encode()
        parts += [len(encoded).to_bytes(8, "big"), encoded, to_blob(member.ewma)]
        parts.append(member.base_run.to_bytes(1, "big"))
    return hashlib.sha256(b"".join(parts)).hexdigest()


# ---- writing -------------------------------------------------------------------------------------------


def encode(evaluation: Evaluation, previous_hash: str) -> tuple[dict[str, object], bytes]:
    """Return the body (no floats, integers within 2^53 - 1) and the blob of a kind 4 entry.

    Raises:
        BadInput: the rules are not a published version, or a report id is too large for JSON.
    """
    round_, state = evaluation.round, evaluation.state
    if RULES_BY_VERSION.get(evaluation.rules.version) != evaluation.rules:
        raise BadInput("These rules have no published version; add them to RULES_BY_VERSION first.")
    reports = sorted(round_.reports, key=lambda report: report.instance)
    if any(not 0 <= report.report_id <= JSON_INT_MAX for report in reports):
        raise BadInput("A report id does not fit a JSON integer; use the entry's sequence number.")
    rows = [round_.baseline, (round_.sigma,) * WIDTH]
    rows += [state.ewma] if state.consensus is None else [state.consensus, state.ewma]
    names = sorted(state.members)
    rows += [state.members[name].ewma for name in names]
    body: dict[str, object] = {
        "rules": evaluation.rules.version,
        "group": round_.group,
        "previous": previous_hash,
        "state": state_hash(state),
        "baseline_source": round_.baseline_source,
        "consensus": evaluation.consensus is not None,
        "remembered": state.consensus is not None,
        "principals": evaluation.principals,
        "group_alarm": evaluation.group_alarm,
        "reports": [_report_body(report, evaluation.verdicts[report.instance]) for report in reports],
        "resets": sorted(round_.resets),
        "carry": sorted(round_.carry),
        "members": [[name, state.members[name].base_run] for name in names],
        "vec": {"dtype": "f8le", "shape": [len(rows), WIDTH]},
    }
    return body, b"".join(to_blob(row) for row in rows)


def _report_body(report: Report, verdict: Verdict) -> dict[str, object]:
    return {
        "instance": report.instance,
        "principal": report.principal,
        "report": report.report_id,
        "new": report.is_new,
        "weight": f"1/{verdict.principal_reports}",
        "action": verdict.action.value,
        "reason": verdict.reason.value,
        "origin_outlier": verdict.origin_outlier,
        "base": verdict.base,
        "peer": verdict.peer,
        "ewma": verdict.ewma,
        "duplicate": verdict.duplicate,
        "echo": verdict.echo,
        "drift_e4": [round(verdict.drift_rms * 10_000), round(verdict.drift_max * 10_000)],
        "base_drift_e4": [round(verdict.base_drift_rms * 10_000), round(verdict.base_drift_max * 10_000)],
        "ewma_e4": [round(verdict.ewma_rms * 10_000), round(verdict.ewma_max * 10_000)],
    }


# ---- reading -------------------------------------------------------------------------------------------


def decode(body: Mapping[str, object], blob: bytes) -> Recorded:
    """Return the entry's content, checked: types, shape, finiteness, and the new state against its hash.

    Raises:
        VerificationFailed: the entry does not have the form that `encode` writes.
    """
    rows = _read_rows(body, blob)
    members = [_read_member(item) for item in _list(body, "members")]
    has_consensus, has_remembered = _bool(body, "consensus"), _bool(body, "remembered")
    if len(rows) != 3 + has_remembered + len(members) or has_consensus > has_remembered:
        raise _damaged("the number of rows does not fit the body")
    if len(set(rows[1])) != 1:
        raise _damaged("the sigma row is not one number")
    later = iter(rows[2:])
    remembered = next(later) if has_remembered else None
    state = GroupState(
        ewma=next(later),
        consensus=remembered,
        members={name: MemberState(row, run) for (name, run), row in zip(members, later, strict=True)},
    )
    if len(state.members) != len(members) or state_hash(state) != _text(body, "state"):
        raise _damaged("the new state does not match its hash")
    reports = [_dict(item) for item in _list(body, "reports")]
    return Recorded(
        rules=_text(body, "rules"),
        group=_text(body, "group"),
        previous_hash=_text(body, "previous"),
        state_hash=_text(body, "state"),
        seats=tuple(_read_seat(item) for item in reports),
        baseline=rows[0],
        baseline_source=_text(body, "baseline_source"),
        sigma=rows[1][0],
        resets=_texts(body, "resets"),
        carry=_texts(body, "carry"),
        consensus=remembered if has_consensus else None,
        principals=_int(body, "principals"),
        group_alarm=_bool(body, "group_alarm"),
        state=state,
        verdicts={_text(item, "instance"): item for item in reports},
    )


def _read_rows(body: Mapping[str, object], blob: bytes) -> list[Vector]:
    vec = _dict(body.get("vec"))
    shape = _list(vec, "shape")
    count = shape[0] if shape else None
    if vec.get("dtype") != "f8le" or shape != [count, WIDTH] or not isinstance(count, int):
        raise _damaged("the blob's shape is unknown")
    if len(blob) != 8 * WIDTH * count:
        raise _damaged("the blob's length does not fit its shape")
    try:
        return [from_blob(blob[at : at + 8 * WIDTH], WIDTH) for at in range(0, len(blob), 8 * WIDTH)]
    except BadVector as exc:
        raise _damaged("the blob holds a value that is not finite") from exc


def _read_seat(item: Mapping[str, object]) -> Seat:
    return Seat(_text(item, "instance"), _text(item, "principal"), _int(item, "report"), _bool(item, "new"))


def _read_member(item: object) -> tuple[str, int]:
    if isinstance(item, list | tuple) and len(item) == 2:
        name, run = item
        if isinstance(name, str) and isinstance(run, int) and 0 <= run <= 2:
            return name, int(run)
    raise _damaged("a member is not a pair of id and base run")


# ---- replaying -----------------------------------------------------------------------------------------


def replay(
    previous: GroupState, body: Mapping[str, object], blob: bytes, reports: Mapping[int, Vector]
) -> Evaluation | Mismatch:
    """Compute an entry again and compare it bit for bit; the evaluation, or what differs.

    `reports` maps report ids to the vectors in their own entries; a vector that was erased makes the
    entry unreplayable, which is a `Mismatch` and not an error.

    Raises:
        VerificationFailed: the entry does not have the form that `encode` writes.
    """
    recorded = decode(body, blob)
    rules = RULES_BY_VERSION.get(recorded.rules)
    if rules is None:
        return Mismatch(
            ("rules",), f"Rules {recorded.rules!r} are unknown here; replay with a newer version."
        )
    if state_hash(previous) != recorded.previous_hash:
        return Mismatch(("previous",), "The previous state is not the one this entry started from.")
    missing = sorted(seat.report_id for seat in recorded.seats if seat.report_id not in reports)
    if missing:
        return Mismatch(
            ("reports",), f"This cannot be replayed: the content of report {missing[0]} was erased."
        )
    try:
        evaluation = evaluate(previous, _round_of(recorded, reports), rules)
    except (BadInput, BadVector, TooLarge) as exc:
        return Mismatch(("reports",), f"The recorded inputs are not acceptable: {exc}")
    again, blob_again = encode(evaluation, recorded.previous_hash)
    fields = [name for name in sorted({*body, *again}) if _canonical(body, name) != _canonical(again, name)]
    if blob_again != blob:
        fields.append("blob")
    if fields:
        return Mismatch(tuple(fields), f"Computed again, these differ: {', '.join(fields)}.")
    return evaluation


def _round_of(recorded: Recorded, reports: Mapping[int, Vector]) -> Round:
    return Round(
        group=recorded.group,
        reports=tuple(
            Report(seat.instance, seat.principal, seat.report_id, reports[seat.report_id], seat.is_new)
            for seat in recorded.seats
        ),
        baseline=recorded.baseline,
        baseline_source=recorded.baseline_source,
        sigma=recorded.sigma,
        resets=recorded.resets,
        carry=recorded.carry,
    )


def _canonical(body: Mapping[str, object], name: str) -> str:
    # Compared as JSON text: in Python True == 1, in the ledger they are different bytes.
    return json.dumps(body.get(name, "absent"), sort_keys=True)


# ---- checks on the way in ------------------------------------------------------------------------------


def _damaged(what: str) -> VerificationFailed:
    return VerificationFailed(f"This consensus entry is damaged: {what}. Run verify on the store.")


def _text(body: Mapping[str, object], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise _damaged(f"{name} is not text")
    return value


def _bool(body: Mapping[str, object], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool):
        raise _damaged(f"{name} is not true or false")
    return value


def _int(body: Mapping[str, object], name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _damaged(f"{name} is not an integer")
    return value


def _list(body: Mapping[str, object], name: str) -> Sequence[object]:
    value = body.get(name)
    if not isinstance(value, list):
        raise _damaged(f"{name} is not a list")
    return value


def _texts(body: Mapping[str, object], name: str) -> tuple[str, ...]:
    values = tuple(item for item in _list(body, name) if isinstance(item, str))
    if len(values) != len(_list(body, name)):
        raise _damaged(f"{name} holds something that is not text")
    return values


def _dict(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _damaged("an object is missing")
    return value
