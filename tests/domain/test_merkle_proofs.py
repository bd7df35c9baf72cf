"""Proofs against RFC 6962 as it is written, and against every published case."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccn_mcp.domain.errors import BadInput, BadProof, VerificationFailed
from ccn_mcp.domain.merkle import EMPTY_ROOT, Frontier, node_hash, root_of
from ccn_mcp.domain.proof import (
    CONSISTENCY_HASHES_MAX,
    consistency_proof,
    frontier_at,
    inclusion_proof,
    root_at,
    verify_consistency,
    verify_inclusion,
)
from tests.shared_vectors import FOLDER, vectors

SMALL: Final = 130
LARGE: Final = 66_100
LEAVES: Final = [sha256(b"\x00" + number.to_bytes(4, "big")).digest() for number in range(LARGE)]


# ---- the definitions of RFC 6962, word for word ----------------------------------------------------------


def split(leaves: int) -> int:
    power = 1
    while power * 2 < leaves:
        power *= 2
    return power


@cache
def tree_hash(start: int, end: int) -> bytes:
    """MTH(D[start:end])."""
    if start == end:
        return EMPTY_ROOT
    if end - start == 1:
        return LEAVES[start]
    middle = start + split(end - start)
    return node_hash(tree_hash(start, middle), tree_hash(middle, end))


def path(index: int, start: int, end: int) -> list[bytes]:
    """PATH(m, D[n]), section 2.1.1; `index` counts from the start of the range."""
    if end - start == 1:
        return []
    middle = start + split(end - start)
    if index < middle - start:
        return [*path(index, start, middle), tree_hash(middle, end)]
    return [*path(index - (middle - start), middle, end), tree_hash(start, middle)]


def subproof(old: int, start: int, end: int, whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b), section 2.1.2."""
    if old == end - start:
        return [] if whole else [tree_hash(start, end)]
    middle = start + split(end - start)
    if old <= middle - start:
        return [*subproof(old, start, middle, whole), tree_hash(middle, end)]
    return [*subproof(old - (middle - start), middle, end, False), tree_hash(start, middle)]


# ---- a store of hashes, as a writer would keep it ----------------------------------------------------------


class Kept:
    """What a writer keeps: the leaves, and what the frontier says is complete. Counts what is read."""

    def __init__(self) -> None:
        tree = Frontier()
        tree.completed = []
        self.levels: list[list[bytes]] = [LEAVES, [], []]
        for leaf in LEAVES:
            tree.append(leaf)
        for level, index, found in tree.completed:
            assert len(self.levels[level]) == index, "completed subtrees come in order"
            self.levels[level].append(found)
        self.asked: list[tuple[int, int, int]] = []

    def __call__(self, level: int, first: int, count: int) -> Sequence[bytes]:
        assert 1 <= count <= 256
        self.asked.append((level, first, count))
        found = self.levels[level][first : first + count]
        assert len(found) == count, "asked for a hash of a subtree that is not complete"
        return found


@pytest.fixture(scope="module")
def kept() -> Kept:
    return Kept()


def test_the_writer_learns_of_completed_subtrees(kept: Kept) -> None:
    assert [len(level) for level in kept.levels] == [LARGE, LARGE // 256, 1]
    for index in (0, 1, 100, 257):
        assert kept.levels[1][index] == tree_hash(index * 256, (index + 1) * 256)
    assert kept.levels[2][0] == tree_hash(0, 65_536)


def test_collecting_changes_nothing_else_and_starts_anywhere() -> None:
    plain = Frontier()
    for leaf in LEAVES[:1000]:
        plain.append(leaf)
    resumed = Frontier.from_bytes(300, frontier_at(300, lambda _, at, count: LEAVES[at : at + count]
                                                   if not _ else [tree_hash(0, 256)]).to_bytes())  # fmt: skip
    resumed.completed = []
    for leaf in LEAVES[300:1000]:
        resumed.append(leaf)
    assert resumed.to_bytes() == plain.to_bytes()
    assert [(level, index) for level, index, _ in resumed.completed] == [(1, 1), (1, 2)]
    assert plain.completed is None
    assert resumed.copy().completed is None


# ---- proofs equal the definitions ---------------------------------------------------------------------------


def small_read(level: int, first: int, count: int) -> Sequence[bytes]:
    assert level == 0
    return LEAVES[first : first + count]


@pytest.mark.parametrize("size", range(1, SMALL + 1))
def test_every_proof_of_every_small_tree(size: int) -> None:
    root = root_at(size, small_read)
    assert root == tree_hash(0, size)
    assert frontier_at(size, small_read).to_bytes() == frontier_of(size).to_bytes()
    for index in range(size):
        proof = inclusion_proof(index, size, small_read)
        assert proof == path(index, 0, size)
        verify_inclusion(LEAVES[index], index, size, proof, root)
    for old in range(1, size + 1):
        proof = consistency_proof(old, size, small_read)
        assert proof == subproof(old, 0, size, True)
        verify_consistency(old, size, proof, tree_hash(0, old), root)


def frontier_of(size: int) -> Frontier:
    tree = Frontier()
    for leaf in LEAVES[:size]:
        tree.append(leaf)
    return tree


EDGES: Final = [256, 512, 32_768, 65_280, 65_536, 65_792]
SIZES: Final = st.one_of(
    st.integers(1, LARGE),
    st.builds(lambda edge, off: min(LARGE, edge + off), st.sampled_from(EDGES), st.integers(-3, 3)),
)


@settings(max_examples=300, deadline=None)
@given(SIZES, SIZES)
def test_proofs_of_large_trees_read_little(kept: Kept, one: int, other: int) -> None:
    old, new = sorted((one, other))
    index = old - 1
    root = tree_hash(0, new)
    kept.asked.clear()
    assert root_at(new, kept) == root
    assert_read_little(kept, sides=1)
    proof = inclusion_proof(index, new, kept)
    assert_read_little(kept, sides=2)
    assert proof == path(index, 0, new)
    verify_inclusion(LEAVES[index], index, new, proof, root)
    proof = consistency_proof(old, new, kept)
    assert_read_little(kept, sides=2)
    assert proof == subproof(old, 0, new, True)
    verify_consistency(old, new, proof, tree_hash(0, old), root)


def assert_read_little(kept: Kept, sides: int) -> None:
    assert len(kept.asked) == len(set(kept.asked)), "a hash was read twice"
    for level in range(len(kept.levels)):
        assert sum(asked[0] == level for asked in kept.asked) <= sides
    kept.asked.clear()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, SMALL), st.integers(1, SMALL), st.data())
def test_a_changed_proof_is_refused(one: int, other: int, data: st.DataObject) -> None:
    old, new = sorted((one, other))
    proof = consistency_proof(old, new, small_read)
    roots = tree_hash(0, old), tree_hash(0, new)
    bad = changed(proof, data)
    with pytest.raises(BadProof):
        verify_consistency(old, new, bad, *roots)
    index = data.draw(st.integers(0, new - 1))
    bad = changed(inclusion_proof(index, new, small_read), data)
    with pytest.raises(BadProof):
        verify_inclusion(LEAVES[index], index, new, bad, roots[1])


@pytest.mark.parametrize("new", [2, 7, 8, 9, 64, 100])
def test_a_proof_for_another_root_or_size_is_refused(new: int) -> None:
    root, other = tree_hash(0, new), sha256(b"other").digest()
    for old in range(1, new):
        proof, old_root = consistency_proof(old, new, small_read), tree_hash(0, old)
        for bad in ((other, root), (old_root, other), (root, old_root)):
            with pytest.raises(BadProof):
                verify_consistency(old, new, proof, *bad)
        with pytest.raises(BadProof):
            verify_inclusion(other, old, new, inclusion_proof(old, new, small_read), root)


def changed(proof: list[bytes], data: st.DataObject) -> list[bytes]:
    """One byte flipped, one hash dropped, added or cut short."""
    at = data.draw(st.integers(0, max(0, len(proof) - 1)))
    how = data.draw(st.sampled_from(["flip", "drop", "short", "add"] if proof else ["add"]))
    match how:
        case "flip":
            byte = data.draw(st.integers(0, 31))
            found = bytearray(proof[at])
            found[byte] ^= 1 << data.draw(st.integers(0, 7))
            return [*proof[:at], bytes(found), *proof[at + 1 :]]
        case "drop":
            return [*proof[:at], *proof[at + 1 :]]
        case "short":
            return [*proof[:at], proof[at][:-1], *proof[at + 1 :]]
        case _:
            return [*proof, bytes(32)]


# ---- the published cases ------------------------------------------------------------------------------------


def cases(kind: str) -> list[Path]:
    return sorted((FOLDER / "merkle" / kind).rglob("*.json"))


def decoded(text: str | None) -> bytes:
    return base64.b64decode(text or "")


@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_every_published_case(kind: str) -> None:
    vectors("merkle")
    good = bad = 0
    for case in cases(kind):
        told: dict[str, Any] = json.loads(case.read_text("utf-8"))
        refused: BadProof | None = None
        try:
            check(kind, told)
        except BadProof as wrong:
            refused = wrong
        assert (refused is not None) == told["wantErr"], f"{case}: {refused or 'accepted'}"
        good, bad = good + (refused is None), bad + (refused is not None)
    assert (good, bad) == {"inclusion": (6, 92), "consistency": (6, 92)}[kind]


def check(kind: str, told: dict[str, Any]) -> None:
    proof = [decoded(found) for found in told["proof"] or []]
    if kind == "inclusion":
        verify_inclusion(
            decoded(told["leafHash"]), told["leafIdx"], told["treeSize"], proof, decoded(told["root"])
        )
    else:
        roots = decoded(told["root1"]), decoded(told["root2"])
        verify_consistency(told["size1"], told["size2"], proof, *roots)


# ---- what is refused, and where -----------------------------------------------------------------------------


def test_a_fault_in_a_proof_is_named_by_its_place() -> None:
    proof = inclusion_proof(3, 7, small_read)
    root = root_at(7, small_read)
    for bad, at in (
        ([*proof, bytes(32)], 3),
        (proof[:2], 2),
        ([proof[0], b"short", proof[2]], 1),
        ([*proof[:2], bytes(32)], None),
    ):
        with pytest.raises(BadProof) as wrong:
            verify_inclusion(LEAVES[3], 3, 7, bad, root)
        assert wrong.value.at == at
    roots = tree_hash(0, 4), tree_hash(0, 7)
    proof = consistency_proof(4, 7, small_read)
    for bad, at in (([*proof, bytes(32)], len(proof)), ([], 0)):
        with pytest.raises(BadProof) as wrong:
            verify_consistency(4, 7, bad, *roots)
        assert wrong.value.at == at


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 3), (4, 3), (-1, 3), (1, 2**63)])
def test_sizes_that_prove_nothing_are_refused(old: int, new: int) -> None:
    with pytest.raises(BadProof, match="size"):
        verify_consistency(old, new, [], EMPTY_ROOT, EMPTY_ROOT)
    with pytest.raises(BadInput):
        consistency_proof(old, new, small_read)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3), (0, 2**63)])
def test_leaves_that_are_not_there_are_refused(index: int, size: int) -> None:
    with pytest.raises(BadProof, match="no leaf"):
        verify_inclusion(LEAVES[0], index, size, [], LEAVES[0])
    with pytest.raises(BadInput):
        inclusion_proof(index, size, small_read)


def test_two_roots_at_one_size_are_refused() -> None:
    verify_consistency(3, 3, [], LEAVES[0], LEAVES[0])
    with pytest.raises(BadProof, match="two roots"):
        verify_consistency(3, 3, [], LEAVES[0], LEAVES[1])
    with pytest.raises(BadProof, match="must be empty"):
        verify_consistency(3, 3, [LEAVES[0]], LEAVES[0], LEAVES[0])


def test_a_proof_without_end_is_refused_before_it_is_walked() -> None:
    with pytest.raises(BadProof, match="no log needs more"):
        verify_inclusion(LEAVES[0], 0, 2**62, [LEAVES[0]] * (CONSISTENCY_HASHES_MAX + 1), LEAVES[0])


def test_a_store_that_lost_hashes_is_named() -> None:
    with pytest.raises(VerificationFailed, match="level 0 from number 0 on, and 4"):
        root_at(5, lambda _, first, count: LEAVES[first : first + count - 1])
    with pytest.raises(VerificationFailed, match="another length"):
        root_at(1, lambda *_: [b"short"])


def test_the_empty_tree_reads_nothing() -> None:
    def read(level: int, first: int, count: int) -> Sequence[bytes]:
        raise AssertionError

    assert root_at(0, read) == EMPTY_ROOT == root_of([])
    assert frontier_at(0, read).size == 0
    assert inclusion_proof(0, 1, read) == []
    assert consistency_proof(9, 9, read) == []
