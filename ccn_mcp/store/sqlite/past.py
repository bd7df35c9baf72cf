"""What a check says of a restored log: whether it really holds the log that its genesis names, and of old heads."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ccn_mcp.domain.ledger import parse_head
from ccn_mcp.domain.models import Fault, Verification
from ccn_mcp.domain.restoring import RESTORED_HEAD, Past, pasts_of, roots_of
from ccn_mcp.store.sqlite.checks import parse_body

_GENESIS: Final = "SELECT body FROM entry WHERE seq = 0"
_ENTRIES: Final = "SELECT seq, time, kind, commitment FROM entry ORDER BY seq"


def check(connection: sqlite3.Connection, found: Verification, known_head: str | None) -> Verification:
    """`found`, with what the log's past adds to it: a fault of its own, or a better answer to an old head."""
    unknown = found.fault is not None and found.fault.code == "known_head" and found.known_head is False
    if found.entries == 0 or (found.fault is not None and not unknown):
        return found
    row = connection.execute(_GENESIS).fetchone()
    pasts = pasts_of(parse_body(row[0]) or {}) if row else ()
    if not pasts:
        return found
    newest = pasts[0]
    if newest.head.size > found.entries or _roots(connection, newest, [newest.head.size]) != [
        newest.head.root
    ]:
        detail = (
            f"the first entry says that this store was restored from {newest.store_id.hex()}, whose head was "
            f"{newest.head}, but its entries do not add up to that head"
        )
        return replace(found, level=0, fault=Fault("restored", 0, None, detail), known_head=None)
    if not unknown or known_head is None:
        return found
    return replace(found, fault=_about(connection, found, pasts, known_head))


def _about(
    connection: sqlite3.Connection, found: Verification, pasts: Sequence[Past], known_head: str
) -> Fault:
    size, prefix = parse_head(known_head)
    newest = pasts[0]
    origin = (
        f"this store was restored from {newest.store_id.hex()}, whose head was {newest.head}; "
        f"you hold {known_head}, and this store's own head is {found.head}. "
    )
    for past in pasts:
        if size > past.head.size:
            continue
        if any(root.hex().startswith(prefix) for root in _roots(connection, past, [size])):
            # A fault all the same: whoever can write to the file can restore it too (docs/decisions.md).
            said = (
                f"Yours is a head of {'that store' if past is newest else f'an earlier one, {past.store_id.hex()}'}, "
                f"and every entry up to it is here; keep {found.head} from now on"
            )
            return Fault(RESTORED_HEAD, None, None, origin + said)
    said = "Yours is none of their heads: it was taken from another record"
    if size > newest.head.size:
        said = "If yours is newer than the backup, what came after the backup is not here"
    return Fault("known_head", None, None, origin + said)


def _roots(connection: sqlite3.Connection, past: Past, sizes: list[int]) -> list[bytes]:
    return list(roots_of(past, connection.execute(_ENTRIES), sizes).values())
