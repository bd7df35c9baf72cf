"""Instances: their snapshot and their transitions. Who takes part in a round is in `turnout.py`.

Pure: a transition takes a snapshot and returns the next one, or raises. Each kind 9 ledger entry holds
one full snapshot plus the event, so an instance is read from its latest entry alone. Times are integer
microseconds of the server's clock; `idle` is derived from the age of the last call and never stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Final, TypeAlias

from ccn_mcp.domain.errors import (
    BadInput,
    InstanceFailed,
    ReceiptRequired,
    Refused,
    UnknownInstance,
    VerificationFailed,
)
from ccn_mcp.domain.limits import REINIT_TRIES_MAX

UNKNOWN_GROUP: Final = "unknown"
_STORED_AS: Final = {"id": "instance", "conversation_id": "conversation", "session_id": "session"}
"""Field names in an entry, where they are those of every other kind of entry."""


class State(StrEnum):
    """`IDLE` is only ever shown (see `shown_state`); `DRIFTED` is the flagged state."""

    SPAWNING = "spawning"
    ACTIVE = "active"
    IDLE = "idle"
    DRIFTED = "drifted"
    TERMINATED = "terminated"
    FAILED = "failed"


class Event(StrEnum):
    """What a kind 9 entry says has happened."""

    OPENED = "opened"
    LOADED = "loaded"
    CORRECTED = "corrected"
    FLAGGED = "flagged"
    TRY_FAILED = "try_failed"
    REINITIALISED = "reinitialised"
    FAILED = "failed"
    RETURNED = "returned"
    COMPACTED = "compacted"
    STARTED = "started"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as it stands.

    `nonce_hash` is the hash of the nonce in the Plate that was delivered last, None if that was before
    the flag. `tries` counts failed tries since the flag. Reports accepted before `reports_from_us` do
    not vote: a re-initialisation also withdraws the report that led to it. `predecessor` is the instance
    that had this conversation before, where it was handed over. `left_as` is the state that it had when its
    process ended; None if it did not end so.
    """

    id: str
    principal: str
    scope: str = ""
    conversation_id: str | None = None
    session_id: str | None = None
    client: str = ""
    model: str = ""
    thinking: str = ""
    rubric: str = ""
    state: State = State.SPAWNING
    plate_seq: int | None = None
    nonce_hash: str | None = None
    tries: int = 0
    reinits: int = 0
    reports_from_us: int = 0
    predecessor: str | None = None
    left_as: State | None = None

    @property
    def away(self) -> bool:
        """Ended with its process: it counts as terminated until its next call."""
        return self.state is State.TERMINATED and self.left_as is not None

    @property
    def gone(self) -> bool:
        """Ended for good."""
        return self.state is State.TERMINATED and self.left_as is None

    def to_body(self, event: Event) -> dict[str, object]:
        """Return the full snapshot plus `event`: text, integers and null only."""
        body: dict[str, object] = {
            _STORED_AS.get(item.name, item.name): getattr(self, item.name) for item in fields(self)
        }
        left_as = self.left_as.value if self.left_as is not None else None
        return {**body, "state": self.state.value, "left_as": left_as, "event": event.value}

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> Instance:
        """Return the snapshot of a kind 9 body; keys that are not part of it are left alone.

        Raises:
            VerificationFailed: a field is missing or has the wrong type.
        """
        state = _state(body, "state")
        return cls(
            id=_text(body, "instance"),
            principal=_text(body, "principal"),
            scope=_text(body, "scope"),
            conversation_id=_optional_text(body, "conversation"),
            session_id=_optional_text(body, "session"),
            client=_text(body, "client"),
            model=_text(body, "model"),
            thinking=_text(body, "thinking"),
            rubric=_text(body, "rubric"),
            state=state,
            plate_seq=None if body.get("plate_seq", ...) is None else _count(body, "plate_seq"),
            nonce_hash=_optional_text(body, "nonce_hash"),
            tries=_count(body, "tries"),
            reinits=_count(body, "reinits"),
            reports_from_us=_count(body, "reports_from_us"),
            # Snapshots from before there was a handover, or a way back, have no such field.
            predecessor=_optional_text(body, "predecessor") if "predecessor" in body else None,
            left_as=_state(body, "left_as") if body.get("left_as") is not None else None,
        )


def _state(body: Mapping[str, object], name: str) -> State:
    try:
        state = State(_text(body, name))
    except ValueError as exc:
        raise _damaged(name) from exc
    if state is State.IDLE:
        raise _damaged(name)
    return state


def _text(body: Mapping[str, object], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise _damaged(name)
    return value


def _optional_text(body: Mapping[str, object], name: str) -> str | None:
    return None if body.get(name, ...) is None else _text(body, name)


def _count(body: Mapping[str, object], name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _damaged(name)
    return value


def _damaged(name: str) -> VerificationFailed:
    return VerificationFailed(f"This instance entry is damaged: {name}. Run verify on the store.")


# ---- transitions ---------------------------------------------------------------------------------------


def opened(
    id: str,  # noqa: A002 - the field's own name, passed by keyword
    principal: str,
    *,
    scope: str = "",
    conversation_id: str | None = None,
    session_id: str | None = None,
    client: str = "",
    model: str = "",
    thinking: str = "",
    rubric: str = "",
) -> Instance:
    """Return a new instance, `spawning` until it has loaded a Plate.

    Raises:
        BadInput: no id or no principal.
    """
    if not id or not principal:
        raise BadInput("An instance needs an id and a principal.")
    return Instance(id, principal, scope, conversation_id, session_id, client, model, thinking, rubric)


def loaded(instance: Instance, *, plate_seq: int, nonce_hash: str) -> Instance:
    """Return the instance with this Plate version delivered; `spawning` becomes `active`.

    A flagged instance stays flagged: loading is the first half, the receipt the second.

    Raises:
        UnknownInstance, InstanceFailed.
    """
    _must_live(instance)
    state = State.ACTIVE if instance.state is State.SPAWNING else instance.state
    return replace(instance, state=state, plate_seq=plate_seq, nonce_hash=nonce_hash)


def corrected(
    instance: Instance,
    *,
    model: str | None = None,
    thinking: str | None = None,
    rubric: str | None = None,
    session_id: str | None = None,
    conversation_id: str | None = None,
) -> Instance:
    """Return the instance with what a hook read from the transcript; None leaves a field as it was.

    Raises:
        UnknownInstance: it has been terminated.
    """
    _must_exist(instance)
    return replace(
        instance,
        model=instance.model if model is None else model,
        thinking=instance.thinking if thinking is None else thinking,
        rubric=instance.rubric if rubric is None else rubric,
        session_id=instance.session_id if session_id is None else session_id,
        conversation_id=instance.conversation_id if conversation_id is None else conversation_id,
    )


def handed_over(instance: Instance, predecessor: str | None) -> Instance:
    """Return the instance with the one that had its conversation before; None if nobody had."""
    return replace(instance, predecessor=predecessor)


def flagged(instance: Instance) -> Instance:
    """Return the instance as `drifted`; it does not vote until a receipt. Flagging twice changes nothing.

    Raises:
        UnknownInstance, InstanceFailed.
    """
    _must_live(instance)
    if instance.state is State.DRIFTED:
        return instance
    # The nonce goes: only a Plate that is loaded after the flag can be receipted.
    return replace(instance, state=State.DRIFTED, nonce_hash=None, tries=0)


@dataclass(frozen=True, slots=True)
class Reinitialised:
    """The receipt was right: active again; reset this instance's EWMA in the next round."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class FailedTry:
    """The receipt was wrong; at `tries_left` 0 the instance has failed."""

    instance: Instance
    tries_left: int


ReceiptOutcome: TypeAlias = Reinitialised | FailedTry


def receipt(
    instance: Instance, nonce_hash_presented: str | None, *, now_us: int, recall_failed: bool = False
) -> ReceiptOutcome:
    """Judge the receipt of a flagged instance: re-initialised, or one more failed try.

    `recall_failed`: the Plate has facts and the answers contradicted them. A Plate without facts is not
    validated, and the receipt alone decides.

    Raises:
        ReceiptRequired: nothing was presented; not counted as a try.
        Refused: the instance is not flagged.
        UnknownInstance, InstanceFailed.
    """
    _must_live(instance)
    if instance.state is not State.DRIFTED:
        raise Refused("This instance is not flagged, so there is nothing to re-initialise; go on as usual.")
    if nonce_hash_presented is None:
        raise ReceiptRequired("Load the Plate again and return the nonce that comes with it.")
    expected = instance.nonce_hash
    if expected is not None and nonce_hash_presented == expected and not recall_failed:
        return Reinitialised(
            replace(
                instance,
                state=State.ACTIVE,
                nonce_hash=None,
                tries=0,
                reinits=instance.reinits + 1,
                reports_from_us=now_us,
            )
        )
    tries = instance.tries + 1
    state = State.FAILED if tries >= REINIT_TRIES_MAX else State.DRIFTED
    return FailedTry(replace(instance, state=state, tries=tries), max(0, REINIT_TRIES_MAX - tries))


def not_started(instance: Instance) -> FailedTry:
    """One more try of a new instance that did not show that its context arrived; the last one makes it `failed`.

    Raises:
        UnknownInstance, InstanceFailed.
    """
    _must_live(instance)
    tries = instance.tries + 1
    state = State.FAILED if tries >= REINIT_TRIES_MAX else instance.state
    return FailedTry(replace(instance, state=state, tries=tries), max(0, REINIT_TRIES_MAX - tries))


def started(instance: Instance) -> Instance:
    """Return the instance whose context has arrived, with no tries counted against it.

    Raises:
        UnknownInstance, InstanceFailed.
    """
    _must_live(instance)
    return replace(instance, tries=0)


def returned(instance: Instance) -> Instance:
    """Return the instance as it was, registered again after its lease or its process ended; a flag survives.

    Raises:
        UnknownInstance: it has been terminated for good.
    """
    if instance.left_as is not None:
        return replace(instance, state=instance.left_as, left_as=None)
    _must_exist(instance)
    return instance


def terminated(instance: Instance) -> Instance:
    """Return the instance as `terminated`, which is final.

    Raises:
        UnknownInstance: it already was.
    """
    _must_exist(instance)
    return replace(instance, state=State.TERMINATED, nonce_hash=None)


def left(instance: Instance) -> Instance:
    """Return it `terminated` with its process; its next call makes it what it was. UnknownInstance if it had ended."""
    _must_exist(instance)
    return replace(instance, state=State.TERMINATED, left_as=instance.state)


def may_report(instance: Instance) -> None:
    """Return if the instance may report a vector now.

    Raises:
        ReceiptRequired: it is flagged. UnknownInstance, InstanceFailed.
    """
    _must_live(instance)
    if instance.state is State.DRIFTED:
        raise ReceiptRequired("This instance is flagged: load the Plate again and return its nonce first.")


def may_load(instance: Instance) -> None:
    """Return if the Plate may be delivered to the instance.

    Raises:
        UnknownInstance: it has been terminated. InstanceFailed.
    """
    _must_live(instance)


def _must_exist(instance: Instance) -> None:
    if instance.state is State.TERMINATED:
        raise UnknownInstance("This instance has been terminated; load the Plate to start another one.")


def _must_live(instance: Instance) -> None:
    _must_exist(instance)
    if instance.state is State.FAILED:
        raise InstanceFailed(
            f"This instance failed to re-initialise {REINIT_TRIES_MAX} times; start a new conversation."
        )


# ---- groups, and what people see -----------------------------------------------------------------------


def group_of(instance: Instance) -> str:
    """Return "model|thinking|rubric", or "unknown" if the model is; reports compare within a group."""
    model = instance.model.strip()
    if not model or model.lower() == UNKNOWN_GROUP:
        return UNKNOWN_GROUP
    parts = (model, instance.thinking, instance.rubric)
    # Escaped, so that a model named "a|b" cannot slip into another model's group.
    return "|".join(part.replace("%", "%25").replace("|", "%7C") for part in parts)


def shown_state(instance: Instance, *, last_seen_us: int, now_us: int, idle_us: int) -> State:
    """Return the state for people: an active instance is `idle` once unseen for more than `idle_us`."""
    if instance.state is State.ACTIVE and now_us - last_seen_us > idle_us:
        return State.IDLE
    return instance.state
