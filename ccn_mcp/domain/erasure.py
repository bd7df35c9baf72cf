"""What a redaction entry says, and the tombstones in it. Pure.

A tombstone is an HMAC under a secret that is kept apart from the log: it recognises what was erased when it is sent
again, and tells nobody who has the log alone what that was.
"""

from __future__ import annotations

from hmac import digest
from typing import Final

from ccn_mcp.domain.entries import AFTER as AFTER
from ccn_mcp.domain.entries import SESSION as SESSION
from ccn_mcp.domain.entries import SESSION_CONVERSATIONS_MAX as SESSION_CONVERSATIONS_MAX
from ccn_mcp.domain.entries import Body, Draft
from ccn_mcp.domain.errors import BadInput, IdempotencyConflict
from ccn_mcp.domain.ledger import SEQ_MAX, Kind
from ccn_mcp.domain.projection import ERASABLE, Columns, kept_columns

TOMBSTONE: Final = "ccn:tombstone"
"""The principal of a redaction entry; its key is the tombstone of the erased entry's idempotency key."""

REREAD: Final = ("hook", "import")
"""Sources that read old transcripts again, under keys of their own: their text is compared, too."""


def key_tombstone(secret: bytes, principal: str, key: str) -> str:
    """What is left of an idempotency key."""
    return digest(secret, b"\0".join(_bytes(principal, key)), "sha256").hex()


def text_tombstone(secret: bytes, conversation: str, role: str, text: str) -> str:
    """What is left of a message's text, in its conversation and role."""
    return digest(secret, b"\0".join(_bytes(conversation, role, text)), "sha256").hex()


def _bytes(*texts: str) -> list[bytes]:
    return [text.encode("utf-8", "surrogatepass") for text in texts]


def target_of(draft: Draft) -> int:
    """The entry that a redaction names.

    Raises:
        BadInput: it is no redaction, or names none.
    """
    target = draft.body.get("target")
    good = draft.kind == Kind.REDACTION and isinstance(target, str) and target.isascii() and target.isdigit()
    if not good or int(str(target)[:20]) > SEQ_MAX:
        raise BadInput("a redaction is an entry of kind 6 that names its target's position, as text")
    return int(str(target))


def redaction_of(
    draft: Draft,
    secret: bytes | None,
    kind: int,
    columns: Columns,
) -> Draft:
    """The redaction as it is recorded: with what verification expects, and the tombstones of what goes."""
    kept = kept_columns(kind, columns)
    conversation, role, key = kept.conversation, kept.role, columns.key
    body: Body = {**draft.body, "target": str(target_of(draft)), "conversation": conversation, "role": role}
    if kept.subject is not None:
        body["about"] = kept.subject
    if kind == Kind.CONVERSATION and (earlier := earlier_of(key)) is not None:
        body["after"] = earlier
    if secret is not None:
        if key is not None and columns.principal is not None:
            body |= {"principal": TOMBSTONE, "key": key_tombstone(secret, columns.principal, key)}
        if columns.text is not None:
            body["text_tombstone"] = text_tombstone(secret, conversation or "", role or "", columns.text)
    return Draft(draft.kind, draft.time_us, body)


def earlier_of(key: object) -> str | None:
    """The erased conversation in whose place one with this key was opened."""
    return key[len(AFTER) :] if isinstance(key, str) and key.startswith(AFTER) else None


def conflict(kind: int, erased: int, seq: int, key: object) -> IdempotencyConflict | None:
    """The refusal of a draft whose key belongs to an erased entry of another kind."""
    if kind == erased:
        return None
    return IdempotencyConflict(
        f"the idempotency key {key!r} was used before, by something that was erased (entry {seq}); use a new key "
        "for new content"
    )


def check_erasable(kind: int, seq: int) -> None:
    """Raises:
    BadInput: entries of this kind are never erased.
    """
    if kind not in ERASABLE:
        raise BadInput(
            f"entry {seq} is of kind {kind}, which is never erased: messages, conversations, instances, reports, "
            "answers and Plates can be"
        )
