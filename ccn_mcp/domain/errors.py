"""The one error tree. Every expected failure has a stable code, an exit status and a next step.

A message says what happened and what to do next, in that order, and never quotes a secret.
`server/errors.py` turns these into tool errors and `cli/` into exit statuses; anything that is not a
`CcnError` is a bug in this program.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class CcnError(Exception):
    """Root of every failure that this program foresees."""

    code: ClassVar[str] = "ccn_error"
    exit_status: ClassVar[int] = 1


class ExtraMissing(CcnError):
    """Something that is installed with an extra is not there."""

    code = "extra_missing"


class AnchorFailed(CcnError):
    """An outside authority could not be asked; nothing was recorded."""

    code = "anchor_failed"


class BadJudgement(CcnError):
    """A judge's reply that is out of form; nothing of it counts, and its cost is recorded.

    `reason` is one of not_json, wrong_shape, missing_trait, wrong_type, out_of_range.
    """

    code = "bad_judgement"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class JudgeFailed(CcnError):
    """Too few of a judge's replies can be used: there is no judgement, and what they cost is recorded."""

    code = "judge_failed"


# ---- the caller's input (exit status 2) ----------------------------------------------------------------


class BadInput(CcnError):
    """A value that the caller gave cannot be used; nothing was stored."""

    code = "bad_input"
    exit_status = 2


class BadText(BadInput):
    """Text that cannot be stored on every back end: a lone surrogate or U+0000."""

    code = "bad_text"


class EmptyContent(BadInput):
    """A message without content."""

    code = "empty_content"


class TooLarge(BadInput):
    """A payload above its named maximum in `limits.py`."""

    code = "too_large"


class UnknownRole(BadInput):
    """A role that this entry point does not take."""

    code = "unknown_role"


class BadJson(BadInput):
    """JSON that is ambiguous or not JSON: duplicate keys, NaN, a number out of range, deep nesting."""

    code = "bad_json"


class BadHead(BadInput):
    """A head that is not of the form SIZE:ROOT."""

    code = "bad_head"


class BadVector(BadInput):
    """A trait vector that was refused; `reason` is the machine-readable code.

    `reason` is one of not_a_vector, wrong_length, not_a_number, non_finite, out_of_range,
    missing_dimension, unknown_dimension, bad_scale.
    """

    code = "bad_vector"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class BadNote(BadInput):
    """A signed note, checkpoint, key or proof text that is not one; `line` (from 1) is where, if in a line."""

    code = "bad_note"

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.what = message
        self.line = line


class BadPlate(BadInput):
    """A Plate that cannot be parsed or is too large to be one."""

    code = "bad_plate"


# ---- things that are not there (exit status 3) ---------------------------------------------------------


class NotFound(CcnError):
    """Something was named that the store does not hold."""

    code = "not_found"
    exit_status = 3


class UnknownConversation(NotFound):
    """No conversation of the caller has this id."""

    code = "unknown_conversation"


class ConversationErased(UnknownConversation):
    """The conversation was erased; nothing more can be recorded in it or read from it."""

    code = "conversation_erased"


class UnknownInstance(NotFound):
    """No instance has this id, or it has been terminated."""

    code = "unknown_instance"


class NoStore(NotFound):
    """There is no store file yet."""

    code = "no_store"


# ---- conflicts and refusals (exit status 4) ------------------------------------------------------------


class Conflict(CcnError):
    """The request contradicts something that was already recorded."""

    code = "conflict"
    exit_status = 4


class IdempotencyConflict(Conflict):
    """The same idempotency key came before with another payload."""

    code = "idempotency_conflict"


class StoreMoved(Conflict):
    """Another writer appended first; read again and retry."""

    code = "store_moved"


class Refused(CcnError):
    """An act that only the person may do, or that the instance's state forbids."""

    code = "refused"
    exit_status = 4


class Excluded(Refused):
    """The person has excluded this folder from recording; nothing was stored."""

    code = "excluded"


class PrivateSession(Refused):
    """The person has switched recording off for this session; nothing was stored."""

    code = "private"


class CostCeiling(Refused):
    """A call to a model that could cost more than the person allows; it was not made."""

    code = "cost_ceiling"


class ReceiptRequired(Refused):
    """A flagged instance reported without the receipt of a freshly loaded Plate."""

    code = "receipt_required"


class InstanceFailed(Refused):
    """The instance used up its tries to re-initialise."""

    code = "instance_failed"


# ---- the store (exit status 5) -------------------------------------------------------------------------


class StoreError(CcnError):
    """The store cannot do what was asked; nothing that was acknowledged is lost."""

    code = "store_error"
    exit_status = 5


class StoreBusy(StoreError):
    """Another process held the store for longer than the named maximum."""

    code = "store_busy"


class StoreReadOnly(StoreError):
    """The file or its folder cannot be written."""

    code = "store_read_only"


class StoreFull(StoreError):
    """The disk (or the quota) is full."""

    code = "store_full"


class StoreCorrupt(StoreError):
    """SQLite says that the file is damaged or is not a database."""

    code = "store_corrupt"


class StoreRolledBack(StoreError):
    """The record is shorter or other than the heads that this account remembers."""

    code = "store_rolled_back"


class StoreForeign(StoreError):
    """The file is a database of another application."""

    code = "store_foreign"


class StoreNewer(StoreError):
    """The file was written by a newer version of this program."""

    code = "store_newer"


class StoreUnavailable(StoreError):
    """The path cannot be opened: a directory, a missing folder, no permission."""

    code = "store_unavailable"


class KeyUnusable(StoreError):
    """The signing key of a store is there and cannot be used: unreadable, open to others, damaged, another's.

    `reason` is one of unreadable, exposed, damaged, foreign, missing; `there`: it is not lost at all.
    """

    code = "key_unusable"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StoreClosed(StoreError):
    """The store was closed while the request waited."""

    code = "store_closed"


class VerificationFailed(CcnError):
    """The record does not match its own hashes (exit status 6)."""

    code = "verification_failed"
    exit_status = 6


class BadProof(VerificationFailed):
    """A Merkle proof that does not show what it should; `at` counts its hashes from 0, where it is one of them."""

    code = "bad_proof"

    def __init__(self, message: str, at: int | None = None) -> None:
        super().__init__(message)
        self.at = at


class BadSignature(VerificationFailed):
    """A signature by a known key that does not fit what it signs."""

    code = "bad_signature"


class NotSigned(VerificationFailed):
    """A checkpoint without a signature by the key that is due for it."""

    code = "not_signed"


class BadTimestamp(VerificationFailed):
    """A time stamp that does not show what it should, or that nobody who is trusted has signed."""

    code = "bad_timestamp"


class RetiredKey(VerificationFailed):
    """A checkpoint signed by a key that had been replaced before the log got that long."""

    code = "retired_key"


class BadRotation(VerificationFailed):
    """A key entry whose new key was not announced by the key before it."""

    code = "bad_rotation"
