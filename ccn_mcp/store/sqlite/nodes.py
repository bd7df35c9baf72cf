"""The stored part of the Merkle tree: roots of complete subtrees of 256^level entries, and how they are read.

The leaves are the log's own; a node is written in the transaction of the entry that completes it. An older
version of this program writes none, so whoever finds some missing makes them up.
"""

from __future__ import annotations

from ccn_mcp.domain.merkle import TILE_HASHES, Frontier

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from typing import Final

TILE: Final = TILE_HASHES
"""Hashes that are read at once."""

LEAVES: Final = "SELECT leaf FROM entry WHERE seq BETWEEN ? AND ? ORDER BY seq"
NODES: Final = "SELECT hash FROM node WHERE level = ? AND i BETWEEN ? AND ? ORDER BY i"


def write(connection: sqlite3.Connection, completed: Iterable[tuple[int, int, bytes]]) -> None:
    """Keep the subtrees that an append has completed."""
    connection.executemany("INSERT OR REPLACE INTO node VALUES (?, ?, ?)", completed)


def fill(connection: sqlite3.Connection) -> None:
    """Make every node anew from the leaves, in the open transaction; one pass over the log."""
    connection.execute("DELETE FROM node")
    tree = Frontier()
    tree.completed = []
    for (leaf,) in connection.execute("SELECT leaf FROM entry ORDER BY seq"):
        tree.append(leaf)
    write(connection, tree.completed)


def read(connection: sqlite3.Connection, level: int, first: int, count: int) -> Sequence[bytes]:
    """The stored hashes at height 8 * level, from index `first` on; fewer where there are no more."""
    if level == 0:
        rows = connection.execute(LEAVES, (first, first + count - 1))
    else:
        rows = connection.execute(NODES, (level, first, first + count - 1))
    return [found for (found,) in rows]
