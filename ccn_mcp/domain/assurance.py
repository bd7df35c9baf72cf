"""What a check of a whole log may claim: the assurance level, from signed heads and heads held elsewhere. Pure.

    0 chain       the entries match their hashes
    1 content     every stored column matches what was hashed, nothing is missing inside
    2 signed      the log's own key signed its heads, up to an entry that is named
    3 matched     it contains a head that is held where the log's owner's machine cannot change it
    4 witnessed   an outside party has signed such a head, at a time that it names

Each level says how many entries it covers, because nothing that came later is covered by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ccn_mcp.domain.checkpoint import (
    VerifierKey,
    Verify,
    check_origin,
    origin_of,
    parse_checkpoint,
    parse_note,
)
from ccn_mcp.domain.errors import BadRotation, CcnError, RetiredKey
from ccn_mcp.domain.ledger import HEAD_ROOT_HEX, Head
from ccn_mcp.domain.models import Body, Claim, Fault
from ccn_mcp.domain.rotation import KeyChain, key_chain

HOLDER: Final = "you hold"
"""How a fault speaks of the caller's own head."""

SIGNED_HERE: Final = "the store's own signed head names"
KEY_FIELD: Final = "key"
GENESIS_KEY_FIELD: Final = "signed_by"


@dataclass(frozen=True, slots=True)
class Notes:
    """The signed heads of a store: each note with the size that the store files it under, and what they claim."""

    stored: Sequence[tuple[int, bytes]]
    claims: Sequence[Claim]
    fault: Fault | None


def read_notes(store_id: bytes, stored: Sequence[tuple[int, bytes]]) -> Notes:
    """Parse the stored notes; the first one that is none, or another log's, is a fault."""
    claims: list[Claim] = []
    for size, note in stored:
        try:
            checkpoint = parse_checkpoint(parse_note(note).text)
            check_origin(checkpoint, origin_of(store_id))
        except CcnError as wrong:
            return Notes(stored, claims, _fault(size, f"the signed head at size {size} is none: {wrong}"))
        if checkpoint.size != size:
            detail = f"the signed head that is filed under size {size} is one of size {checkpoint.size}"
            return Notes(stored, claims, _fault(size, detail))
        claims.append(Claim(size, checkpoint.root.hex(), SIGNED_HERE))
    return Notes(stored, claims, None)


@dataclass(frozen=True, slots=True)
class Signed:
    """How far good signatures reach, in entries; `remark` says why they reach no further."""

    to: int = 0
    fault: Fault | None = None
    remark: str | None = None


def check_signatures(
    store_id: bytes,
    pinned: VerifierKey | None,
    entries: Sequence[tuple[int, Body]],
    notes: Sequence[tuple[int, bytes]],
    verify: Verify,
) -> Signed:
    """Check each signed head with the key that was due at its size.

    `entries` are the genesis and every key entry (position, body), in order. Without a pinned key nothing can be
    claimed: whoever rewrites a log can sign it with a key of their own.
    """
    if not notes:
        return Signed(remark="no head of this log is signed yet")
    if pinned is None:
        return Signed(
            remark="its heads are signed, but this account has never trusted their key; compare it with what "
            "`ccn-mcp key show` prints where the store is written, then `ccn-mcp key pin KEY`"
        )
    try:
        chain, introduced = pinned_chain(store_id, pinned, entries, verify)
    except CcnError as wrong:
        return Signed(fault=_fault(None, str(wrong)))
    return _check_notes(chain, introduced, notes, verify)


def pinned_chain(
    store_id: bytes, pinned: VerifierKey, entries: Sequence[tuple[int, Body]], verify: Verify
) -> tuple[KeyChain, int]:
    """The log's keys from the pinned one on, and the position of the entry that names that one.

    Heads up to that position were signed by a key that was lost since.

    Raises:
        BadRotation, TooLarge: the log does not name the pinned key, or its keys make no chain from there.
    """
    introduced = next((seq for seq, body in entries if announced_key(seq, body) == str(pinned)), None)
    if introduced is None:
        raise BadRotation(f"the log names no key {pinned}, which this account trusts for it")
    return key_chain(
        store_id, pinned, [(seq, body) for seq, body in entries if seq > introduced], verify
    ), introduced


def _check_notes(
    chain: KeyChain, introduced: int, notes: Sequence[tuple[int, bytes]], verify: Verify
) -> Signed:
    good: list[int] = []
    for size, note in notes:
        if size <= introduced:
            continue  # signed by a key that was lost since
        try:
            chain.open(note, verify)
        except CcnError as wrong:
            fault = _fault(size, str(wrong))
            reached = max(good, default=0)
            return Signed(
                reached, replace(fault, code=wrong.code) if isinstance(wrong, RetiredKey) else fault
            )
        good.append(size)
    to = max(good, default=0)
    for at in chain.starts[1:]:
        # A later key's head would cover what it never saw: its thief could rewrite all that came before the change.
        if at < to and at not in good:
            detail = (
                f"the head of size {at}, which the retired key signed last, is gone: without it nothing shows that "
                "the entries before the change of keys are those that it signed"
            )
            return Signed(max((size for size in good if size <= at), default=0), _fault(at, detail))
    return Signed(to, remark=None if to else "no head is signed by the key that this account trusts")


def announced_key(seq: int, body: Body) -> str | None:
    """The public key that an entry names: the genesis, or a key entry."""
    named = body.get(GENESIS_KEY_FIELD if seq == 0 else KEY_FIELD)
    return named if isinstance(named, str) else None


def contradiction(claim: Claim, now: Head) -> Fault:
    """The fault of a log that ends at `now` and does not have the claimed root at the claimed size."""
    text = f"{claim.size}:{claim.root[:HEAD_ROOT_HEX]}"
    if claim.size > now.size:
        detail = (
            f"the log is shorter than the head that {claim.by}: that is {text}, and the log ends at {now}; "
            "it was cut off, or an older copy was put in its place"
        )
    else:
        detail = (
            f"the log was rewritten before entry {claim.size}: the head that {claim.by} is {text}, and the entries up "
            f"to there now have another root; the log ends at {now}"
        )
    return Fault("known_head", None, None, detail)


def level_of(found: int | None, *, signed_to: int, matched_to: int, witnessed_to: int) -> int | None:
    """The level that a log without fault has reached; `found` is that of its rows alone."""
    if found != 1:
        return found
    if witnessed_to:
        return 4
    if matched_to:
        return 3
    return 2 if signed_to else 1


def _fault(size: int | None, detail: str) -> Fault:
    return Fault("signature", None if size is None else max(0, size - 1), None, detail)
