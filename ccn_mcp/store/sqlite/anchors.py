"""The anchors in a store file: how far an outside authority has witnessed the log."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Final

from ccn_mcp.domain.anchors import Witnessed, anchored
from ccn_mcp.domain.assurance import pinned_chain
from ccn_mcp.domain.checkpoint import parse_key
from ccn_mcp.domain.errors import BadNote, CcnError
from ccn_mcp.domain.models import Fault
from ccn_mcp.domain.rotation import KeyChain
from ccn_mcp.ports import Keeper
from ccn_mcp.store import ed25519
from ccn_mcp.store.sqlite import signing
from ccn_mcp.store.sqlite.checks import parse_body

ANCHORS_MAX: Final = 100
"""Newest anchors that are looked at; the first that counts covers all before it."""

_ANCHORS: Final = (
    "SELECT e.seq, e.body, e.blob FROM record r JOIN entry e USING (seq) "
    "WHERE r.kind <> 1 AND r.kind = 7 ORDER BY r.seq DESC LIMIT ?"
)


def count(connection: sqlite3.Connection, store_id: bytes) -> int:
    """How many of the newest anchors are this log's own."""
    found = 0
    for _, data, _ in connection.execute(_ANCHORS, (ANCHORS_MAX,)):
        with suppress(BadNote):
            anchored(store_id, parse_body(data) or {})
            found += 1
    return found


def check(connection: sqlite3.Connection, store_id: bytes, size: int, keeper: Keeper) -> Witnessed:
    """The newest anchor whose stamp this account can trust, if the log of `size` entries still has its head.

    The head has to be signed by a key that this account trusts for the log: an authority stamps whatever it is sent.
    """
    remark: str | None = None
    found = connection.execute(_ANCHORS, (ANCHORS_MAX,)).fetchall()
    keys = _trusted(connection, store_id, keeper) if found else None
    for seq, data, token in found:
        body = parse_body(data) or {}
        try:
            note, checkpoint = anchored(store_id, body)
        except BadNote:
            continue  # a restored log took it over from the one before it
        if not _is_own(keys, note, checkpoint.size):
            remark = remark or (
                f"the time stamp in entry {seq} does not count: no key that this account trusts for this log has "
                "signed its head"
            )
            continue
        stamp = keeper.stamp(note, token or b"")
        if stamp.time_us is None:
            remark = remark or f"the time stamp in entry {seq} does not count: {stamp.why}"
            continue
        head = checkpoint.head
        if head.size > size or signing.root_here(connection, head.size).root != head.root:
            detail = f"the time stamp in entry {seq} is of the head {head}, which this log does not have"
            return Witnessed(fault=Fault("anchor", seq, None, detail))
        authority = body.get("authority")
        return Witnessed(head.size, stamp.time_us, authority if isinstance(authority, str) else None)
    return Witnessed(remark=remark)


def _trusted(connection: sqlite3.Connection, store_id: bytes, keeper: Keeper) -> tuple[KeyChain, int] | None:
    """The keys of the log from the pinned one on, and where they begin."""
    pinned = keeper.pinned(store_id)
    with suppress(CcnError):  # the check of the signatures names it
        if pinned is not None:
            return pinned_chain(store_id, parse_key(pinned), signing.key_entries(connection), ed25519.verify)
    return None


def _is_own(keys: tuple[KeyChain, int] | None, note: bytes, size: int) -> bool:
    """Whether the key that was due at this size signed the note."""
    with suppress(CcnError):
        if keys is not None and size > keys[1]:
            keys[0].open(note, ed25519.verify)
            return True
    return False
