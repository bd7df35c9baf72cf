"""The bytes of one record, format `ccn.entry/1` (docs/formats.md). Standard library only.

    entry      = struct ">12s16sQqH32s32s": tag, store_id, seq, time, kind, previous leaf, commitment
    commitment = SHA-256("ccn.commit/1\\n" || salt || u64 len(body) || body || u64 len(blob) || blob)
    leaf       = SHA-256(00 || entry)

One leaf hash is both the chain link and the Merkle leaf, so the two cannot disagree.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import sha256
from struct import Struct

from ccn_mcp.domain.errors import BadHead, TooLarge
from ccn_mcp.domain.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

ENTRY_TAG: Final = b"ccn.entry/1\n"
COMMIT_TAG: Final = b"ccn.commit/1\n"
ENTRY: Final = Struct(">12s16sQqH32s32s")
LENGTH: Final = Struct(">Q")
SALT_BYTES: Final = 16
STORE_ID_BYTES: Final = 16
NO_LEAF: Final = bytes(32)
"""What the first entry links to."""

SEQ_MAX: Final = 2**63 - 1
HEAD_ROOT_HEX: Final = 32
"""Hex digits of the root in a head's short form: 128 bits."""


class Kind(IntEnum):
    """What an entry records. New kinds are added; a number is never reused."""

    GENESIS = 0
    MESSAGE = 1
    VECTOR = 2
    METRIC = 3
    CONSENSUS = 4
    KEY = 5
    REDACTION = 6
    ANCHOR = 7
    PLATE = 8
    INSTANCE = 9
    CONVERSATION = 10
    VALIDATION = 11
    USAGE = 12


class Head(Value):
    """The state of the whole log: how many entries and their Merkle root."""

    size: int
    root: bytes

    def __str__(self) -> str:
        """`SIZE:ROOT` with the first 128 bits of the root in hex; short enough to quote in a chat."""
        return f"{self.size}:{self.root.hex()[:HEAD_ROOT_HEX]}"

    def matches(self, text: str) -> bool:
        """Whether `text` (a head of the same size) names this root, by at least 128 bits."""
        size, prefix = parse_head(text)
        return size == self.size and self.root.hex().startswith(prefix)


def parse_head(text: str) -> tuple[int, str]:
    """Split `SIZE:ROOT` into the size and at least 32 hex digits of the root.

    Raises:
        BadHead: for anything else.
    """
    size_text, _, prefix = text.strip().partition(":")
    prefix = prefix.lower()
    good = (
        size_text.isascii()
        and size_text.isdigit()
        and len(size_text) <= 19
        and HEAD_ROOT_HEX <= len(prefix) <= 64
        and all(character in "0123456789abcdef" for character in prefix)
    )
    if not good:
        raise BadHead(
            f"a head looks like 42:{'0' * 6}… (size, colon, {HEAD_ROOT_HEX} to 64 hex digits of the root); "
            "copy the `head` of an earlier result whole"
        )
    return int(size_text), prefix


def commitment(salt: bytes, body: bytes, blob: bytes) -> bytes:
    """What an entry commits its content to; the salt makes an erased body unguessable."""
    return sha256(
        b"".join((COMMIT_TAG, salt, LENGTH.pack(len(body)), body, LENGTH.pack(len(blob)), blob))
    ).digest()


def entry_bytes(
    store_id: bytes, seq: int, time_us: int, kind: int, previous: bytes, committed: bytes
) -> bytes:
    """The 110 hashed bytes of an entry.

    Raises:
        TooLarge: if the sequence number has run out.
    """
    if seq > SEQ_MAX:
        raise TooLarge("this log has no sequence numbers left; start a new store")
    return ENTRY.pack(ENTRY_TAG, store_id, seq, time_us, kind, previous, committed)


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(00 || entry): the chain link and the Merkle leaf (RFC 6962 section 2.1)."""
    return sha256(b"\x00" + entry).digest()
