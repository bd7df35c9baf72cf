"""The end of the log: what an append goes on from, and what it leaves behind."""

from __future__ import annotations

import os
from functools import partial

from ccn_mcp.domain import ledger
from ccn_mcp.domain.ledger import Head
from ccn_mcp.domain.merkle import Frontier
from ccn_mcp.store.sqlite import connect, nodes

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path
    from typing import Final


class Tail:
    """The end of the log as it is extended: what `log` holds after the commit."""

    __slots__ = ("leaf", "store_id", "tree")

    def __init__(self, store_id: bytes, leaf: bytes, tree: Frontier) -> None:
        self.store_id = store_id
        self.leaf = leaf
        self.tree = tree
        tree.completed = []

    def head(self) -> Head:
        return Head(self.tree.size, self.tree.root())

    def write(self, connection: sqlite3.Connection, *, first: bool) -> None:
        """Keep it, in the transaction of the entries that it follows from."""
        connection.execute(
            _FIRST if first else _NEXT, (self.store_id, self.tree.size, self.leaf, self.tree.to_bytes())
        )


_FIRST: Final = "INSERT INTO log VALUES (1, ?, ?, ?, ?)"
_NEXT: Final = "UPDATE log SET store_id = ?, size = ?, leaf = ?, frontier = ? WHERE id = 1"


_TAIL: Final = (
    "SELECT l.store_id, l.size, l.leaf, l.frontier, e.leaf, "
    "l.size < 256 OR EXISTS (SELECT 1 FROM node WHERE level = 1 AND i = l.size / 256 - 1) "
    "FROM log l LEFT JOIN entry e ON e.seq = l.size - 1"
)
"""With whether the newest complete subtree is there: an older version of this program writes none."""


def read_tail(connection: sqlite3.Connection, path: Path) -> Tail:
    """The end of the log in the open transaction; that of a log yet to begin, with a new identity, if there is none.

    Raises:
        StoreCorrupt: the tables contradict each other.
    """
    row = connection.execute(_TAIL).fetchone()
    if row is not None:
        store_id, size, leaf, frontier, last, whole = row
        # Going on from a wrong end would break the chain for good, and at an innocent entry.
        if leaf != last:
            raise connect.contradiction(path, "the head is not that of the last entry")
        if not whole:
            nodes.fill(connection)
        return Tail(store_id, leaf, connect.frontier_of(path, size, frontier))
    return Tail(os.urandom(ledger.STORE_ID_BYTES), ledger.NO_LEAF, Frontier())


def continues(connection: sqlite3.Connection, before: Tail, now: Tail) -> bool:
    """Whether the log still has what this process last saw of it; a store of another identity goes its own way.

    What others appended meanwhile is added to what was seen, so this costs nothing where nobody did.
    """
    if before.store_id != now.store_id:
        return True
    added = now.tree.size - before.tree.size
    if not 0 <= added <= nodes.TILE:
        if added < 0:
            return False
        from ccn_mcp.domain.proof import frontier_at  # hardly ever needed

        there = frontier_at(before.tree.size, partial(nodes.read, connection))
        return there.to_bytes() == before.tree.to_bytes()
    tree = before.tree.copy()
    for leaf in nodes.read(connection, 0, before.tree.size, added) if added else ():
        tree.append(leaf)
    return tree.to_bytes() == now.tree.to_bytes()
