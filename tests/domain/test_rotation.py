"""Which key signs which head, and whose word a change of keys needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccn_mcp.domain import rotation
from ccn_mcp.domain.checkpoint import (
    Checkpoint,
    Note,
    Signature,
    VerifierKey,
    ed25519_key,
    encode,
    encode64,
    origin_of,
)
from ccn_mcp.domain.errors import BadNote, BadRotation, BadSignature, NotSigned, RetiredKey, TooLarge
from ccn_mcp.domain.models import Body
from ccn_mcp.domain.rotation import KeyChain, check_rotation, key_chain, rotation_body, rotation_message
from ccn_mcp.store import ed25519

STORE: Final = bytes(range(16))
PRIVATE: Final = [ed25519.private_key(bytes([number]) * 32) for number in range(4)]
KEYS: Final = [ed25519_key(origin_of(STORE), ed25519.public_of(private)) for private in PRIVATE]
AT: Final = (5, 6, 300)
"""Positions of the key entries; two of them next to each other."""


def sign(number: int) -> Callable[[bytes], bytes]:
    return PRIVATE[number].sign


ENTRIES: Final[list[tuple[int, Body]]] = [
    (at, rotation_body(STORE, at, KEYS[number + 1], sign(number))) for number, at in enumerate(AT)
]


def chain() -> KeyChain:
    return key_chain(STORE, KEYS[0], ENTRIES, ed25519.verify)


def note(size: int, *numbers: int, origin: str = origin_of(STORE)) -> str:
    text = encode(Checkpoint(origin, size, bytes(32)))
    return str(
        Note(text, tuple(Signature(KEYS[n].name, KEYS[n].key_id, sign(n)(text.encode())) for n in numbers))
    )


def due(size: int) -> int:
    """The definition: the key of the last entry whose position is below the size."""
    return sum(at < size for at in AT)


@pytest.mark.parametrize("size", [0, 1, 5, 6, 7, 8, 299, 300, 301, 10**9])
def test_each_size_is_signed_by_the_key_that_was_due(size: int) -> None:
    keys = chain()
    assert keys.key_at(size) == KEYS[due(size)]
    for number in range(len(KEYS)):
        if number == due(size):
            assert keys.open(note(size, number), ed25519.verify).size == size
        elif number < due(size):
            with pytest.raises(RetiredKey, match=f"entry {AT[number]} replaced"):
                keys.open(note(size, number), ed25519.verify)
        else:
            with pytest.raises(NotSigned):
                keys.open(note(size, number), ed25519.verify)
    assert keys.open(note(size, 0, 1, 2, 3), ed25519.verify).size == size


@given(st.integers(0, 2**63 - 1), st.lists(st.integers(0, 2**62), max_size=30, unique=True).map(sorted))
def test_the_last_entry_below_the_size_decides(size: int, starts: list[int]) -> None:
    keys = tuple(VerifierKey("a", bytes(4), 1, number.to_bytes(32)) for number in range(len(starts) + 1))
    found = KeyChain(STORE, keys, (-1, *starts)).key_at(size)
    assert found == keys[sum(start < size for start in starts)]


def test_notes_that_are_no_heads_of_this_log_are_refused() -> None:
    with pytest.raises(BadNote, match="not of ccn-log"):
        chain().open(note(3, 0, origin="ccn-log/other"), ed25519.verify)
    with pytest.raises(BadSignature):
        chain().open(note(3, 0).replace("\n3\n", "\n4\n"), ed25519.verify)
    with pytest.raises(BadNote):
        chain().open("", ed25519.verify)


def test_the_signed_bytes_are_those_of_the_format() -> None:
    assert rotation_message(STORE, 258, KEYS[1]) == (
        b"ccn.key/1\n" + STORE + b"\0\0\0\0\0\0\x01\x02" + str(KEYS[1]).encode()
    )
    body = ENTRIES[0][1]
    assert set(body) == {"event", "key", "signature"}
    assert check_rotation(STORE, 5, body, KEYS[0], ed25519.verify) == KEYS[1]


def test_a_change_that_the_due_key_did_not_sign_is_refused() -> None:
    good = ENTRIES[0][1]
    assert isinstance(good["signature"], str)
    other_store = ed25519_key(origin_of(bytes(16)), KEYS[1].public)
    later = VerifierKey(origin_of(STORE), bytes(4), 6, b"x")
    refused: list[tuple[int, Body, str]] = [
        (4, good, "not signed by the key that was due"),
        (5, rotation_body(STORE, 5, KEYS[1], sign(1)), "not signed by the key that was due"),
        (5, rotation_body(bytes(16), 5, KEYS[1], sign(0)), "not signed by the key that was due"),
        (5, {**good, "key": str(KEYS[2])}, "not signed by the key that was due"),
        (5, {**good, "signature": encode64(bytes(64))}, "not signed by the key that was due"),
        (5, {**good, "signature": good["signature"] + "="}, "base64"),
        (5, {**good, "key": "x"}, "looks like"),
        (5, {"key": str(KEYS[1])}, "lacks"),
        (5, {**good, "key": 7}, "lacks"),
        (5, rotation_body(STORE, 5, other_store, sign(0)), "no key of this log"),
        (5, rotation_body(STORE, 5, later, sign(0)), "no key of this log"),
    ]
    for seq, body, why in refused:
        with pytest.raises(BadRotation, match=why):
            key_chain(STORE, KEYS[0], [(seq, body)], ed25519.verify)


def test_a_chain_goes_forward_only(monkeypatch: pytest.MonkeyPatch) -> None:
    back = rotation_body(STORE, 400, KEYS[1], sign(3))
    with pytest.raises(BadRotation, match="brings back"):
        key_chain(STORE, KEYS[0], [*ENTRIES, (400, back)], ed25519.verify)
    with pytest.raises(BadRotation, match="comes after"):
        key_chain(STORE, KEYS[0], [ENTRIES[0], ENTRIES[0]], ed25519.verify)
    with pytest.raises(BadRotation, match="not signed by"):
        key_chain(STORE, KEYS[0], ENTRIES[1:], ed25519.verify)
    with pytest.raises(BadRotation, match="no key of this log"):
        key_chain(bytes(16), KEYS[0], [], ed25519.verify)
    monkeypatch.setattr(rotation, "ROTATIONS_MAX", 2)
    with pytest.raises(TooLarge):
        key_chain(STORE, KEYS[0], ENTRIES, ed25519.verify)


def test_an_entry_that_names_the_first_key_changes_nothing() -> None:
    first: Body = {"event": "first", "key": str(KEYS[0])}
    assert key_chain(STORE, KEYS[0], [(2, first), *ENTRIES], ed25519.verify) == chain()
    for entries in ([(2, {**first, "key": str(KEYS[1])})], [*ENTRIES, (400, first)]):
        with pytest.raises(BadRotation, match="another first key"):
            key_chain(STORE, KEYS[0], entries, ed25519.verify)
