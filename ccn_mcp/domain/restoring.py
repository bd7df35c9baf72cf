"""A restored log and the logs that it came from. Pure.

A restored backup looks like a rollback, so it becomes a log of its own, with a new store id. Its genesis names the
old log, and every other entry keeps position, time, kind, content and commitment. So the old log's hashes can be
computed again from the new one: what the genesis claims is checked, and an old head is recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain.errors import BadHead
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.ledger import NO_LEAF, STORE_ID_BYTES, Head, entry_bytes, leaf_hash, parse_head
from ccn_mcp.domain.merkle import HASH_BYTES, Frontier
from ccn_mcp.domain.models import Body

PASTS_MAX: Final = 16
"""Earlier logs that a genesis names; of a log that was restored more often, the oldest are left out."""

RESTORED_HEAD: Final = "restored_head"
"""The fault's code where the head that somebody holds is of an earlier log, whose every entry up to it is here."""


@dataclass(frozen=True, slots=True)
class Past:
    """A log that was restored: its identity, its last head, the commitment of its genesis entry."""

    store_id: bytes
    head: Head
    genesis: bytes
    restored_us: int

    def to_body(self) -> Body:
        """As a genesis entry keeps it; the root in full."""
        return {
            "store_id": self.store_id.hex(),
            "head": f"{self.head.size}:{self.head.root.hex()}",
            "entries": self.head.size,
            "genesis": self.genesis.hex(),
            "at": self.restored_us,
        }


def genesis_of(program: Body, past: Past, old_genesis: Body) -> Body:
    """The body of the genesis entry of a log restored from `past`."""
    earlier: list[Json] = [item.to_body() for item in pasts_of(old_genesis)[: PASTS_MAX - 1]]
    body: Body = {**program, "restored_from": past.to_body()}
    return {**body, "restored_before": earlier} if earlier else body


def pasts_of(genesis: Body) -> tuple[Past, ...]:
    """The logs that a log came from, newest first; what cannot be read is left out."""
    before = genesis.get("restored_before")
    listed = [genesis.get("restored_from"), *(before if isinstance(before, list) else [])]
    return tuple(past for item in listed[:PASTS_MAX] if (past := _past_of(item)) is not None)


def _past_of(item: Json) -> Past | None:
    if not isinstance(item, dict):
        return None
    try:
        store_id, genesis = bytes.fromhex(str(item.get("store_id"))), bytes.fromhex(str(item.get("genesis")))
        size, root = parse_head(str(item.get("head")))
        head = Head(size, bytes.fromhex(root))
    except (ValueError, BadHead):
        return None
    at = item.get("at")
    good = (len(store_id), len(genesis), len(head.root)) == (STORE_ID_BYTES, HASH_BYTES, HASH_BYTES)
    return Past(store_id, head, genesis, at if isinstance(at, int) else 0) if good and size else None


def roots_of(
    past: Past, entries: Iterable[tuple[int, int, int, bytes]], sizes: Sequence[int]
) -> dict[int, bytes]:
    """The roots that the old log had at `sizes`, from (seq, time, kind, commitment) of the restored one's entries."""
    wanted, roots = {*sizes}, dict[int, bytes]()
    tree, leaf = Frontier(), NO_LEAF
    for seq, time_us, kind, committed in entries:
        if seq >= past.head.size:
            break
        leaf = leaf_hash(
            entry_bytes(past.store_id, seq, time_us, kind, leaf, committed if seq else past.genesis)
        )
        tree.append(leaf)
        if tree.size in wanted:
            roots[tree.size] = tree.root()
    return roots
