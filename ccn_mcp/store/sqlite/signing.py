"""Signed heads: what the writer adds to the store, and the check that the store is not older than it was.

All of it happens under the turnstile, on the writer's connection.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from ccn_mcp.domain.assurance import KEY_FIELD, announced_key
from ccn_mcp.domain.errors import StoreRolledBack
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.models import Body, Claim, Draft, Receipt
from ccn_mcp.domain.proof import root_at
from ccn_mcp.domain.restoring import pasts_of
from ccn_mcp.domain.rotation import FIRST, LOST
from ccn_mcp.ports import Keeper
from ccn_mcp.store.sqlite import nodes, reads
from ccn_mcp.store.sqlite.checks import parse_body
from ccn_mcp.store.sqlite.tail import Tail

CHECKPOINTS_MAX: Final = 1_000
"""Signed heads that a store holds, apart from those that are kept for good; a newer one covers all before it."""

Insert = Callable[[Draft], Receipt]


def sign(
    connection: sqlite3.Connection,
    tail: Tail,
    keeper: Keeper,
    insert: Insert,
    *,
    keep: bool = False,
) -> tuple[bytes, Head, bytes] | None:
    """Sign the head, in the open transaction; None if it is signed already or nobody here can.

    A store that names no key yet (an older one, or one that a hook began) is given ours first, as an entry.
    """
    if not tail.tree.size:
        return None
    named = current_key(connection)
    if named is not None:
        # A change of keys that ended too early goes on first.
        keeper.settle(tail.store_id, named, lost=_was_lost(connection))
    # A log that names a key already is signed with that one or not at all: another would only raise alarm.
    mine = keeper.key(tail.store_id, create=named is None)
    if mine is None:
        return None
    if named is None:
        insert(Draft(Kind.KEY, time.time_ns() // 1_000, {"event": FIRST, KEY_FIELD: mine}))
    elif named != mine:
        return None  # signed on another account; `doctor` says so
    signed = tail.head()
    if connection.execute("SELECT 1 FROM checkpoint WHERE size = ?", (signed.size,)).fetchone() is not None:
        return None
    note = keeper.sign(tail.store_id, signed)
    if note is None:
        return None
    connection.execute("INSERT INTO checkpoint VALUES (?, ?, ?)", (signed.size, note, int(keep)))
    connection.execute(_THIN, (CHECKPOINTS_MAX,))
    return tail.store_id, signed, note


_THIN: Final = (
    "DELETE FROM checkpoint WHERE kept = 0 AND size < "
    "(SELECT min(size) FROM (SELECT size FROM checkpoint ORDER BY size DESC LIMIT ?))"
)


def key_entries(connection: sqlite3.Connection) -> list[tuple[int, Body]]:
    """The genesis and every key entry, in order: position and body."""
    found = [(seq, parse_body(data) or {}) for seq, data in connection.execute(reads.VERIFY_KEYS)]
    # What a restored log took over from the one before it speaks of that one's keys.
    own = restored_to(found[0][1]) if found else 0
    return [(seq, body) for seq, body in found if seq == 0 or seq >= own]


def restored_to(genesis: Body) -> int:
    """How many entries a restored log took over from the one that its genesis names."""
    pasts = pasts_of(genesis)
    return pasts[0].head.size if pasts else 0


def current_key(connection: sqlite3.Connection) -> str | None:
    """The public key that the log itself names last."""
    named = [key for entry in key_entries(connection) if (key := announced_key(*entry)) is not None]
    return named[-1] if named else None


def _was_lost(connection: sqlite3.Connection) -> bool:
    """Whether the key before the current one was lost."""
    return key_entries(connection)[-1][1].get("event") == LOST


def check_memory(
    connection: sqlite3.Connection,
    path: Path,
    keeper: Keeper,
    own: tuple[bytes, Head] | None = None,
    *,
    elsewhere: bool = True,
) -> None:
    """Refuse to go on from a state that this account, or this process (`own`), has seen grow further or otherwise.

    `own` names the store too: one that takes the place of another goes its own way. `elsewhere`: ask the second place,
    which may be slow, while others wait for their turn.

    Raises:
        StoreRolledBack: with both heads.
    """
    row = connection.execute("SELECT store_id, size FROM log").fetchone()
    # The newest of each: whoever rolled back the memory here may not have reached the other place.
    remembered: list[Claim] = []
    if row is not None:
        places = (keeper.heads, keeper.heads_elsewhere) if elsewhere else (keeper.heads,)
        remembered = [claim for place in places for claim in place(row[0])[-1:]]
    if row is not None and own is not None and own[0] == row[0]:
        remembered.append(Claim(own[1].size, own[1].root.hex(), "this process has written"))
    for claim in remembered:
        if claim.size > row[1]:
            raise rolled_back(path, claim, root_here(connection, row[1]))
        here = root_here(connection, claim.size)
        if not claim.holds(here.root.hex()):
            raise rolled_back(path, claim, here)


def root_here(connection: sqlite3.Connection, size: int) -> Head:
    """The head of the first `size` entries."""
    return Head(size, root_at(size, partial(nodes.read, connection)))


def rolled_back(path: Path, claim: Claim, here: Head) -> StoreRolledBack:
    """The error that shows both heads."""
    return StoreRolledBack(
        f"{path} is not the record that it was: the head that {claim.by} is {claim.size}:{claim.root[:32]}, and now "
        f"there is {here}. An older copy was put in its place, or it was rewritten; nothing was written. If you put "
        "a backup there yourself, use `ccn-mcp restore` for it; otherwise keep both files and run `ccn-mcp verify`"
    )
