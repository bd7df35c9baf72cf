"""Golden bytes of `ccn.entry/1`."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccn_mcp.domain import jcs, ledger
from ccn_mcp.domain.errors import BadHead, TooLarge
from ccn_mcp.domain.ledger import Head
from ccn_mcp.domain.merkle import EMPTY_ROOT, Frontier, node_hash, root_of

STORE_ID = bytes(range(16))
GOLDEN = [
    (1, {"text": "hi"}, b"", "36554471c7899d228adc2819bfbf8d7a6794adedf01f8de9ca76b50454540da6"),
    (1, {"text": "hé €"}, b"", "c5b99676501933499bde79bf8de51f182dda1a979fddbcd525bd0f353db60119"),
    (
        2,
        {"vec": {"dtype": "f8le", "shape": [2]}},
        struct.pack("<2d", 0.1, -2.5),
        "119964304b6aea923aa73743c3d22a1af9a59dd16b1c9c98210d8c1b94497846",
    ),
]


def golden_leaves() -> list[bytes]:
    leaves: list[bytes] = []
    previous = ledger.NO_LEAF
    for seq, (kind, content, blob, _) in enumerate(GOLDEN):
        committed = ledger.commitment(bytes(16), jcs.encode(content), blob)  # type: ignore[arg-type]  # a dict of mixed values
        entry = ledger.entry_bytes(STORE_ID, seq, 1767225600000000 + seq, kind, previous, committed)
        assert len(entry) == 110
        previous = ledger.leaf_hash(entry)
        leaves.append(previous)
    return leaves


def test_golden_leaves_and_root() -> None:
    leaves = golden_leaves()
    assert [leaf.hex() for leaf in leaves] == [expected for *_, expected in GOLDEN]
    assert root_of(leaves).hex() == "ee6ad6ad59502ddaa8e566ab7226339ea66917a13fcad3833fe5275c0033666e"
    assert root_of([]) == EMPTY_ROOT


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(recursive_root(leaves[:split]), recursive_root(leaves[split:]))


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70), st.integers(0, 70))
def test_the_frontier_equals_the_recursive_definition_and_resumes(leaves: list[bytes], cut: int) -> None:
    first = Frontier()
    for leaf in leaves[:cut]:
        first.append(leaf)
    resumed = Frontier.from_bytes(first.size, first.to_bytes())
    for leaf in leaves[cut:]:
        resumed.append(leaf)
    assert resumed.root() == recursive_root(leaves)
    assert first.root() == recursive_root(leaves[:cut])


@pytest.mark.parametrize(("size", "data"), [(1, b""), (2, bytes(64)), (1, bytes(31)), (-1, b"")])
def test_a_frontier_that_does_not_fit_is_refused(size: int, data: bytes) -> None:
    with pytest.raises(ValueError, match="frontier"):
        Frontier.from_bytes(size, data)


def test_heads_are_quoted_and_matched_by_128_bits() -> None:
    head = Head(3, root_of(golden_leaves()))
    assert str(head) == "3:ee6ad6ad59502ddaa8e566ab7226339e"
    assert head.matches(str(head))
    assert head.matches("3:" + head.root.hex().upper())
    assert not head.matches("4:ee6ad6ad59502ddaa8e566ab7226339e")
    assert not head.matches("3:ee6ad6ad59502ddaa8e566ab7226339f")


@pytest.mark.parametrize(
    "text", ["", "3", "3:", "3:abcd", "x:" + "0" * 32, "3:" + "g" * 32, "-1:" + "0" * 32, "3:" + "0" * 65]
)
def test_half_a_head_is_refused(text: str) -> None:
    with pytest.raises(BadHead, match="looks like"):
        ledger.parse_head(text)


def test_sequence_numbers_end_below_2_to_63() -> None:
    with pytest.raises(TooLarge):
        ledger.entry_bytes(STORE_ID, 2**63, 0, 0, ledger.NO_LEAF, ledger.NO_LEAF)
