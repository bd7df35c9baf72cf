"""The Merkle tree of RFC 6962 section 2.1, kept as its frontier.

The frontier of a tree of n leaves is one hash for each set bit of n: the roots of its complete subtrees,
largest first. It is all that appending needs, so the log keeps it (at most 64 hashes) with every commit.
"""

from __future__ import annotations

from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
TILE_HEIGHT: Final = 8
"""Of the complete subtrees, those of 256, 65,536, ... leaves are kept: one level each (C2SP tlog-tiles)."""

TILE_HASHES: Final = 1 << TILE_HEIGHT
_NODE: Final = b"\x01"
_LAST_OF_TILE: Final = TILE_HASHES - 1


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(01 || left || right)."""
    return sha256(_NODE + left + right).digest()


class Frontier:
    """A growing tree: `append` leaf hashes, ask for `root` at any time."""

    __slots__ = ("_peaks", "completed", "size")

    completed: list[tuple[int, int, bytes]] | None
    """Where it is a list, `append` adds (level, index, hash) of each subtree over the leaves
    [index * 256**level, (index + 1) * 256**level), level >= 1, that a leaf completes; lowest level first.
    They come up while merging anyway, so collecting them hashes nothing."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        """Resume a tree of `size` leaves from its peaks, largest first.

        Raises:
            ValueError: if the number or length of the peaks does not fit `size`.
        """
        self.size = size
        self.completed = None
        self._peaks = list(peaks)
        if size < 0 or len(self._peaks) != size.bit_count() or any(len(p) != HASH_BYTES for p in self._peaks):
            raise ValueError("the frontier does not fit the size of the tree")

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash; one node hash on average, log2(size) at most."""
        peaks, size = self._peaks, self.size
        if self.completed is not None and size & _LAST_OF_TILE == _LAST_OF_TILE:
            self._complete(leaf, self.completed)
            return
        while size & 1:
            leaf = sha256(b"\x01" + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def _complete(self, leaf: bytes, completed: list[tuple[int, int, bytes]]) -> None:
        """Append the last leaf of a tile: as `append`, counting the height."""
        peaks, size, height = self._peaks, self.size, 0
        while size & 1:
            leaf = sha256(b"\x01" + peaks.pop() + leaf).digest()
            size >>= 1
            height += 1
            if not height % TILE_HEIGHT:
                completed.append((height // TILE_HEIGHT, size, leaf))
        peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The Merkle tree hash of all leaves so far; SHA-256 of nothing for the empty tree."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = sha256(b"\x01" + peak + root).digest()
        return root

    def copy(self) -> Frontier:
        """An independent tree of the same leaves, which collects nothing."""
        return Frontier(self.size, self._peaks)

    def to_bytes(self) -> bytes:
        """The peaks, largest first, 32 bytes each."""
        return b"".join(self._peaks)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: as the constructor.
        """
        return cls(size, [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)])


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes."""
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()
