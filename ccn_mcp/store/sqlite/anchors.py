"""The anchors in a store file: how far an outside authority has witnessed the log."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Final

from ccn_mcp.domain.anchors import Witnessed, anchored
from ccn_mcp.domain.errors import BadNote
from ccn_mcp.domain.models import Fault
from ccn_mcp.ports import Keeper
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
    """The newest anchor whose stamp this account can trust, if the log of `size` entries still has its head."""
    remark: str | None = None
    for seq, data, token in connection.execute(_ANCHORS, (ANCHORS_MAX,)).fetchall():
        body = parse_body(data) or {}
        try:
            note, checkpoint = anchored(store_id, body)
        except BadNote:
            continue  # a restored log took it over from the one before it
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
