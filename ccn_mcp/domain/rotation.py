"""Which key signs a log's heads when: key entries (kind 5) and the chain that they make. Pure.

The key that is pinned signs from the start. An entry announces the next one, signed by the one before it, which
is then destroyed: who steals today's key cannot re-sign an older head.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain.checkpoint import (
    ED25519,
    Checkpoint,
    VerifierKey,
    Verify,
    check_origin,
    decode64,
    encode64,
    origin_of,
    parse_checkpoint,
    parse_key,
    parse_note,
    signers_of,
)
from ccn_mcp.domain.errors import BadNote, BadRotation, NotSigned, RetiredKey, TooLarge
from ccn_mcp.domain.ledger import LENGTH
from ccn_mcp.domain.limits import ROTATIONS_MAX
from ccn_mcp.domain.models import Body

KEY_TAG: Final = b"ccn.key/1\n"
FIRST: Final = "first"
NEXT: Final = "next"
LOST: Final = "lost"
"""What a key entry does: name the key that the log began with, announce the one that takes over, or say that the
private key was lost and which one is used from there on, signed by nobody."""


def rotation_message(store_id: bytes, seq: int, new: VerifierKey) -> bytes:
    """What the old key signs: tag, store id, the entry's position (the log's size before it), the new key."""
    return KEY_TAG + store_id + LENGTH.pack(seq) + str(new).encode()


def rotation_body(store_id: bytes, seq: int, new: VerifierKey, sign: Callable[[bytes], bytes]) -> Body:
    """What a key entry at position `seq` says; `sign` is the old key's.

    The entry must be appended guarded: at another position the signature does not fit.
    """
    signature = encode64(sign(rotation_message(store_id, seq, new)))
    return {"event": NEXT, "key": str(new), "signature": signature}


def check_rotation(store_id: bytes, seq: int, body: Body, old: VerifierKey, verify: Verify) -> VerifierKey:
    """The new key that entry `seq` announces in the old one's name.

    Raises:
        BadRotation: the entry holds no key of this log, or the old key did not sign it.
    """
    key, signature = body.get("key"), body.get("signature")
    if not isinstance(key, str) or not isinstance(signature, str):
        raise BadRotation(f"the key entry {seq} lacks the new key or its signature")
    try:
        new, data = parse_key(key), decode64(signature, None)
    except BadNote as wrong:
        raise BadRotation(f"the key entry {seq} is not one: {wrong}") from wrong
    if new.algorithm != ED25519 or new.name != origin_of(store_id):
        raise BadRotation(
            f"the key entry {seq} announces {new.name} (algorithm {new.algorithm}), no key of this log"
        )
    if not verify(old.public, rotation_message(store_id, seq, new), data):
        raise BadRotation(
            f"the key entry {seq} is not signed by the key that was due, {old.key_id.hex()}: "
            "somebody without it wrote the entry, or this is not the first key that the log had"
        )
    return new


@dataclass(frozen=True, slots=True)
class KeyChain:
    """The keys of one log, oldest first; key n signs the sizes above `starts[n]` up to `starts[n + 1]`."""

    store_id: bytes
    keys: tuple[VerifierKey, ...]
    starts: tuple[int, ...]

    def key_at(self, size: int) -> VerifierKey:
        """The key that must sign the head of this size: that of the last key entry with a position below it."""
        return self.keys[max(0, bisect_left(self.starts, size) - 1)]

    def open(self, data: bytes | str, verify: Verify) -> Checkpoint:
        """The checkpoint, signed by the key that was due at its size.

        Raises:
            BadNote: it is no checkpoint, or one of another log. BadSignature: a signature is not the key's.
            RetiredKey: only a key signed it that had been replaced by then.
            NotSigned: no key of this log signed it, or only one that came later.
        """
        note = parse_note(data)
        checkpoint = parse_checkpoint(note.text)
        check_origin(checkpoint, origin_of(self.store_id))
        due = self.key_at(checkpoint.size)
        signers = signers_of(note, self.keys, verify)
        if due in signers:
            return checkpoint
        at = self.keys.index(due)
        for key in signers:
            if (place := self.keys.index(key)) < at:
                raise RetiredKey(
                    f"the head at size {checkpoint.size} is signed by the key {key.key_id.hex()}, which entry "
                    f"{self.starts[place + 1]} replaced: whoever signed it kept or stole a retired key"
                )
        raise NotSigned(
            f"the head at size {checkpoint.size} is not signed by the key that was due, {due.key_id.hex()}"
        )


def key_chain(
    store_id: bytes, first: VerifierKey, rotations: Iterable[tuple[int, Body]], verify: Verify
) -> KeyChain:
    """The keys of a log from the pinned one on; `rotations` are its key entries (position, body) in order.

    An entry of the event `first` must name the pinned key and comes before every change.

    Raises:
        BadRotation: an entry that the key before it did not sign, one that brings back an earlier key, or
            positions out of order. TooLarge: more entries than are followed.
    """
    if first.algorithm != ED25519 or first.name != origin_of(store_id):
        raise BadRotation(f"the pinned key {first.name} is no key of this log, {origin_of(store_id)}")
    keys, starts = [first], [-1]
    seen = {first}
    for seq, body in rotations:
        if len(keys) > ROTATIONS_MAX:
            raise TooLarge(f"the log changed its key more than {ROTATIONS_MAX} times")
        if seq <= starts[-1]:
            raise BadRotation(f"the key entry {seq} comes after entry {starts[-1]}")
        if body.get("event") == FIRST:
            # It names the key and changes nothing, so nobody has to sign it.
            if len(keys) > 1 or body.get("key") != str(first):
                raise BadRotation(f"the key entry {seq} names another first key than the pinned one")
            continue
        if body.get("event") == LOST:
            raise BadRotation(
                f"entry {seq} says that the key {keys[-1].key_id.hex()} was lost, and names one that nobody signed: "
                "anybody who could write to the store could have done so. If the person did it, `ccn-mcp key pin KEY` "
                "trusts the new one"
            )
        new = check_rotation(store_id, seq, body, keys[-1], verify)
        if new in seen:
            raise BadRotation(f"the key entry {seq} brings back the retired key {new.key_id.hex()}")
        seen.add(new)
        keys.append(new)
        starts.append(seq)
    return KeyChain(store_id, tuple(keys), tuple(starts))
