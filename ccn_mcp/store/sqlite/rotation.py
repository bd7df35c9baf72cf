"""Changing the key that signs a log's heads, under the turnstile and on the writer's connection.

One transaction signs the head with the old key and announces the next one, so the position that the old key
signs is the entry's. Then the files change, then the new key signs. A process that ends before the commit has
changed nothing; one that ends after it leaves the rest to the next signature (`signing.sign`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ccn_mcp.domain.errors import CcnError, KeyUnusable
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.models import Draft, KeyChange
from ccn_mcp.ports import Keeper
from ccn_mcp.store.sqlite import signing
from ccn_mcp.store.sqlite.tail import Tail

Signed = tuple[bytes, Head, bytes]


@dataclass(frozen=True, slots=True)
class Announced:
    """A change that the log holds: what is told of it, and the head that the old key signed last, if it did now."""

    change: KeyChange
    signed: Signed | None


def announce(
    connection: sqlite3.Connection, tail: Tail, keeper: Keeper, insert: signing.Insert, *, lost: bool
) -> Announced:
    """Sign the head for good with the key that is due, then append the entry of the next one; in the open transaction.

    Raises:
        KeyUnusable: see `Store.rotate_key`.
    """
    signed = signing.sign(connection, tail, keeper, insert, keep=True)
    named = signing.current_key(connection)
    mine = keeper.key(tail.store_id, create=False)
    here = mine is not None and mine == named
    if lost and here:
        raise KeyUnusable(
            "there", "the private key is not lost: it is here and can be used; change it without --lost"
        )
    if not lost and not here:
        raise KeyUnusable(
            "missing",
            f"the private key of {named or 'this store'} is not here, or cannot be used (`ccn-mcp doctor` says why): "
            "change it on the machine and account that signs; if it is gone for good, use --lost",
        )
    if not lost:
        _keep(connection, tail)
    seq = tail.tree.size
    body = keeper.next_key(tail.store_id, seq, lost=lost)
    insert(Draft(Kind.KEY, time.time_ns() // 1_000, body))
    return Announced(KeyChange(seq, named, str(body["key"]), lost), signed)


def _keep(connection: sqlite3.Connection, tail: Tail) -> None:
    """Keep the old key's last head for good.

    Raises:
        KeyUnusable: it is not signed.
    """
    kept = connection.execute("UPDATE checkpoint SET kept = 1 WHERE size = ?", (tail.tree.size,))
    if kept.rowcount != 1:
        raise KeyUnusable("unreadable", "the head could not be signed; `ccn-mcp doctor` says why")


def take_over(announced: Announced, keeper: Keeper, sign: Callable[[], None]) -> None:
    """Put the new key in its place and sign with it. What fails is made up for by the next signature."""
    if announced.signed is not None:
        keeper.remember(*announced.signed)
    with suppress(CcnError):
        sign()  # which finishes the change of the files first
