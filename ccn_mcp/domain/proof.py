"""Merkle proofs over stored subtree hashes, and how they are checked. Pure; RFC 6962 section 2.1, RFC 9162.

A log keeps the leaf hashes (level 0) and the hashes of its complete subtrees of 256**level leaves. A proof at
any size needs at most 256 of them per level and side, read once each: O(256 log_256 n) hashes read for
O(log n) hashes of proof, whatever the log's length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ccn_mcp.domain.errors import BadInput, BadProof, VerificationFailed
from ccn_mcp.domain.ledger import SEQ_MAX
from ccn_mcp.domain.merkle import HASH_BYTES, TILE_HASHES, TILE_HEIGHT, Frontier, node_hash

Hashes = Callable[[int, int, int], Sequence[bytes]]
"""`read(level, first, count)`: the stored hashes first ... first + count - 1 of a level, in order.

Level 0 holds the leaf hashes; hash i of level n is the root over the leaves [i * 256**n, (i + 1) * 256**n).
`count` is 1 to 256, and every hash that is asked for belongs to a subtree that is complete at the given size.
"""

INCLUSION_HASHES_MAX: Final = SEQ_MAX.bit_length()
CONSISTENCY_HASHES_MAX: Final = INCLUSION_HASHES_MAX + 1


class _Tree:
    """The nodes of the tree of the first `size` leaves; no stored hash is read twice."""

    def __init__(self, size: int, read: Hashes) -> None:
        self.size = size
        self._read = read
        self._tiles: dict[tuple[int, int], list[list[bytes]]] = {}

    def node(self, height: int, index: int) -> bytes:
        """The root of the complete subtree over the leaves [index << height, (index + 1) << height)."""
        level, up = divmod(height, TILE_HEIGHT)
        tile, inside = divmod(index << up, TILE_HASHES)
        return self._tile(level, tile)[up][inside >> up]

    def peaks(self, start: int, end: int) -> list[bytes]:
        """The roots of the largest complete subtrees of [start, end), largest first.

        `start` must be a multiple of a power of two that is not below `end - start`.
        """
        found: list[bytes] = []
        while start < end:
            height = (end - start).bit_length() - 1
            found.append(self.node(height, start >> height))
            start += 1 << height
        return found

    def range_root(self, start: int, end: int) -> bytes:
        """MTH(D[start:end]) for the ranges that RFC 6962 cuts a tree into."""
        peaks = self.peaks(start, end)
        root = peaks.pop()
        for peak in reversed(peaks):
            root = node_hash(peak, root)
        return root

    def _tile(self, level: int, tile: int) -> list[list[bytes]]:
        """The rows of a tile, from the stored hashes up; the last tile of a level may be part of one."""
        if (rows := self._tiles.get((level, tile))) is None:
            first = tile * TILE_HASHES
            count = min(TILE_HASHES, (self.size >> level * TILE_HEIGHT) - first)
            row = list(self._read(level, first, count))
            if len(row) != count or any(len(found) != HASH_BYTES for found in row):
                raise VerificationFailed(
                    f"the log should keep {count} hashes of level {level} from number {first} on, and "
                    f"{len(row)} were found or one has another length: run `ccn-mcp verify`"
                )
            rows = [row]
            for _ in range(TILE_HEIGHT - 1):
                row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
                rows.append(row)
            self._tiles[level, tile] = rows
        return rows


# ---- making ----------------------------------------------------------------------------------------------


def frontier_at(size: int, read: Hashes) -> Frontier:
    """The tree of the first `size` leaves, ready to be appended to.

    Raises:
        BadInput: no log has this size. VerificationFailed: the store gave fewer hashes than asked.
    """
    _check_size(size)
    return Frontier(size, _Tree(size, read).peaks(0, size))


def root_at(size: int, read: Hashes) -> bytes:
    """The root of the first `size` leaves.

    Raises:
        BadInput, VerificationFailed: as `frontier_at`.
    """
    return frontier_at(size, read).root()


def inclusion_proof(index: int, size: int, read: Hashes) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1: from the leaf's sibling up to the root's child.

    Raises:
        BadInput: the leaf is not among the first `size`. VerificationFailed: as `frontier_at`.
    """
    _check_size(size)
    if not 0 <= index < size:
        raise BadInput(f"entry {index} is not among the first {size} of the log; ask for a size above it")
    tree, proof = _Tree(size, read), []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(tree.range_root(middle, end))
            end = middle
        else:
            proof.append(tree.range_root(start, middle))
            start = middle
    return proof[::-1]


def consistency_proof(old: int, new: int, read: Hashes) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 6962 section 2.1.2; empty where the sizes are equal.

    Raises:
        BadInput: unless 1 <= old <= new (an empty log is consistent with every other, and RFC 6962 has no
            proof of it). VerificationFailed: as `frontier_at`.
    """
    _check_size(new)
    if not 1 <= old <= new:
        raise BadInput(
            f"a consistency proof goes from a size of 1 or more to one not below it, not {old} to {new}"
        )
    tree, proof = _Tree(new, read), []
    start, end, whole = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(tree.range_root(middle, end))
            end = middle
        else:
            proof.append(tree.range_root(start, middle))
            start, whole = middle, False
    if not whole:  # else the verifier has this hash: it is the old root
        proof.append(tree.range_root(start, end))
    return proof[::-1]


def _split(leaves: int) -> int:
    """The largest power of two below `leaves` (k in RFC 6962)."""
    return 1 << (leaves - 1).bit_length() - 1


def _check_size(size: int) -> None:
    if not 0 <= size <= SEQ_MAX:
        raise BadInput(f"{size} is not the size of a log; sizes go from 0 to {SEQ_MAX}")


# ---- checking --------------------------------------------------------------------------------------------


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Return if the proof shows that `leaf_hash` is leaf `index` of the tree with this size and root.

    RFC 9162 section 2.1.3.2.

    Raises:
        BadProof: for anything else; `at` is the number of the hash in the proof where it is one of them.
    """
    if not 0 <= index < size <= SEQ_MAX:
        raise BadProof(f"a tree of {size} leaves has no leaf {index}")
    _check_lengths(leaf=leaf_hash, root=root)
    _check_hashes(proof)
    node, last, found = index, size - 1, leaf_hash
    for at, other in enumerate(proof):
        if not last:
            raise BadProof(f"the proof has hashes left over, from number {at} on", at)
        if node & 1 or node == last:
            found = node_hash(other, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, other)
        node, last = node >> 1, last >> 1
    if last:
        raise BadProof(
            f"the proof ends after {len(proof)} hashes, before it has reached the root", len(proof)
        )
    if found != root:
        raise BadProof(f"the proof leads to the root {found.hex()}, not to {root.hex()}")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Return if the proof shows that the tree (new, new_root) begins with the tree (old, old_root).

    RFC 9162 section 2.1.4.2. Old size 0 is refused: an empty tree says nothing, so nothing would be shown.

    Raises:
        BadProof: as `verify_inclusion`.
    """
    if not 1 <= old <= new <= SEQ_MAX:
        raise BadProof(
            f"no proof goes from size {old} to size {new}: the old one is 1 or more, the new not below"
        )
    _check_hashes(proof)
    if old == new:
        _check_same(old, proof, old_root, new_root)
        return
    _check_lengths(old_root=old_root, new_root=new_root)
    # A proof from a complete tree leaves its root out: the verifier has it.
    left_out = old & (old - 1) == 0
    hashes = [old_root, *proof] if left_out else list(proof)
    if not proof:
        raise BadProof("the proof is empty, though the sizes differ", 0)
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    found_old = found_new = hashes[0]
    for at, other in enumerate(hashes[1:], 0 if left_out else 1):
        if not last:
            raise BadProof(f"the proof has hashes left over, from number {at} on", at)
        if node & 1 or node == last:
            found_old, found_new = node_hash(other, found_old), node_hash(other, found_new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found_new = node_hash(found_new, other)
        node, last = node >> 1, last >> 1
    if last:
        raise BadProof(
            f"the proof ends after {len(proof)} hashes, before it has reached the root", len(proof)
        )
    _compare(old, found_old, old_root)
    _compare(new, found_new, new_root)


def _check_same(size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    if proof:
        raise BadProof("the sizes are equal, so the proof must be empty", 0)
    if old_root != new_root:
        raise BadProof(f"two roots at size {size}: {old_root.hex()} and {new_root.hex()}")


def _compare(size: int, found: bytes, root: bytes) -> None:
    if found != root:
        raise BadProof(f"the proof leads to the root {found.hex()} at size {size}, not to {root.hex()}")


def _check_lengths(**named: bytes) -> None:
    for name, found in named.items():
        if len(found) != HASH_BYTES:
            raise BadProof(f"the {name.replace('_', ' ')} has {len(found)} bytes, not {HASH_BYTES}")


def _check_hashes(proof: Sequence[bytes]) -> None:
    if len(proof) > CONSISTENCY_HASHES_MAX:
        raise BadProof(f"the proof has {len(proof)} hashes; no log needs more than {CONSISTENCY_HASHES_MAX}")
    for at, found in enumerate(proof):
        if len(found) != HASH_BYTES:
            raise BadProof(f"hash {at} of the proof has {len(found)} bytes, not {HASH_BYTES}", at)
