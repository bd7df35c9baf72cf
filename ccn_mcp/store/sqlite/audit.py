"""Checking a store file: its rows, and what it says of itself, against the hashes and against heads held elsewhere."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from ccn_mcp.domain.assurance import HOLDER, Notes, check_signatures, contradiction, level_of, read_notes
from ccn_mcp.domain.checkpoint import parse_key
from ccn_mcp.domain.errors import BadHead, VerificationFailed
from ccn_mcp.domain.ledger import NO_LEAF, Head, parse_head
from ccn_mcp.domain.limits import STORE_WAIT_S_MAX
from ccn_mcp.domain.merkle import EMPTY_ROOT
from ccn_mcp.domain.models import Claim, Fault, Verification
from ccn_mcp.domain.proof import frontier_at
from ccn_mcp.domain.verification import verify_rows
from ccn_mcp.domain.verification_types import Start, Tail
from ccn_mcp.ports import Keeper, Progress
from ccn_mcp.store import ed25519
from ccn_mcp.store.nobody import NOBODY
from ccn_mcp.store.sqlite import anchors, connect, definitions, nodes, past, reads, signing
from ccn_mcp.store.sqlite import deep as deeper
from ccn_mcp.store.sqlite.checks import parse_body

EMPTY: Final = Head(0, EMPTY_ROOT)
SEEN_MAX: Final = 10_000
"""Newest reports whose heads are compared."""


def verify_file(
    path: Path,
    known_head: str | None = None,
    progress: Progress | None = None,
    wait_s: float = STORE_WAIT_S_MAX,
    *,
    deep: bool = False,
    newer: bool = False,
    keeper: Keeper = NOBODY,
) -> Verification:
    """Check the store file at `path` on a connection of its own; synchronous. See `Store.verify`."""
    path = connect.real_path(path)
    if connect.is_empty(path):
        return _nothing_yet(known_head)
    with connect.our_words(path):
        connection = connect.connect_to_read(path, wait_s)
        if connection is None:
            return _nothing_yet(known_head)
        with closing(connection):
            # One read transaction: writers go on, and this pass sees one state of the log.
            connection.execute("BEGIN")
            found = None
            if newer and known_head is not None:
                # Where what it builds on is missing, only a whole check can say what is wrong.
                with suppress(VerificationFailed):
                    found = _verify_newer(connection, path, known_head, progress, keeper)
            if found is None:
                told = deeper.first_third(progress) if deep else progress
                found = _verify_connection(connection, known_head, told, keeper)
            found = past.check(connection, found, known_head)
            changed = definitions.changed_definitions(connection)
            if deep and found.fault is None and found.entries and not changed:
                fault = deeper.first_fault(connection, found.entries, progress)
                return found if fault is None else replace(found, level=0, fault=fault)
        if found.fault is None and found.entries and changed:
            # A view or a trigger of another's can show or write what no entry says.
            detail = f"the store's own definitions were changed: {', '.join(changed)}"
            return replace(found, level=0, fault=Fault("schema", None, None, detail))
        return found


def _nothing_yet(known_head: str | None) -> Verification:
    if known_head is None or EMPTY.matches(known_head):
        return Verification(None, 0, 0, 0, 0, EMPTY, None, None if known_head is None else True)
    fault = Fault(
        "known_head", None, None, f"you hold the head {known_head}, but this store has no entry at all"
    )
    return Verification(None, 0, 0, 0, 0, EMPTY, fault, False)


def _verify_connection(
    connection: sqlite3.Connection, known_head: str | None, progress: Progress | None, keeper: Keeper
) -> Verification:
    row = connection.execute(reads.VERIFY_TAIL).fetchone()
    if row is None and connection.execute(reads.VERIFY_ENTRIES).fetchone()[0] == 0:
        # Made by a first write that was refused: a store without its first entry yet.
        return _nothing_yet(known_head)
    store_id, size, leaf, frontier = row or (bytes(16), 0, NO_LEAF, b"")
    older = connection.execute("PRAGMA user_version").fetchone()[0] < 2
    tail = Tail(
        store_id=store_id,
        size=size,
        leaf=leaf,
        frontier=frontier,
        conversations=connection.execute(reads.VERIFY_CONVERSATIONS),
        instances=connection.execute(reads.VERIFY_INSTANCES),
        stray=connection.execute(reads.VERIFY_STRAY).fetchone()[0],
        nodes=None if older else connection.execute(reads.VERIFY_NODES),
    )
    notes = read_notes(store_id, [] if older else connection.execute(reads.VERIFY_NOTES).fetchall())
    elsewhere = keeper.heads_elsewhere(store_id)
    claims = [*notes.claims, *_seen(connection), *keeper.heads(store_id), *elsewhere]
    rows = connection.execute(reads.VERIFY_ROWS)
    found = verify_rows(rows, tail, known_head=known_head, claims=claims, progress=progress)
    if found.fault is not None:
        return found
    if notes.fault is not None:
        return replace(found, level=0, fault=notes.fault)
    return _assured(connection, store_id, found, notes, known_head, elsewhere, keeper)


def _verify_newer(
    connection: sqlite3.Connection,
    path: Path,
    known_head: str,
    progress: Progress | None,
    keeper: Keeper,
) -> Verification:
    """Read only what came after `known_head`, once the stored hashes have shown that the log contains it.

    The level is that of the newer entries; what came before was not read again.
    """
    size, root = parse_head(known_head)
    info = connection.execute(reads.VERIFY_TAIL).fetchone()
    if size == 0 or info is None or connection.execute("PRAGMA user_version").fetchone()[0] < 2:
        return _verify_connection(connection, known_head, progress, keeper)
    store_id, now, leaf, frontier = info
    claim = Claim(size, root, HOLDER)
    tree = frontier_at(min(size, now), partial(nodes.read, connection))
    if size > now or not claim.holds(tree.root().hex()):
        head = Head(now, connect.frontier_of(path, now, frontier).root())
        return Verification(0, now, 0, 0, 0, head, contradiction(claim, head), known_head=False, since=size)
    changed = connection.execute(reads.VERIFY_NEW_CONVERSATIONS, (size,)).fetchall()
    before = connection.execute("SELECT leaf, time FROM entry WHERE seq = ?", (size - 1,)).fetchone()
    if before is None:
        raise VerificationFailed(f"entry {size - 1} is missing")
    last_leaf, last_us = before
    start = Start(tree, last_leaf, last_us, _before(connection, changed, size))
    fresh = connection.execute(reads.VERIFY_NEW_NODES, (size,))
    tail = Tail(store_id, now, leaf, frontier, changed, instances=(), stray=0, nodes=fresh)
    notes = read_notes(store_id, connection.execute(reads.VERIFY_NOTES).fetchall())
    others = [*notes.claims, *keeper.heads(store_id), *keeper.heads_elsewhere(store_id)]
    claims = [claim for claim in others if claim.size >= size]
    found = verify_rows(
        connection.execute(reads.VERIFY_NEW_ROWS, (size,)),
        tail,
        known_head=known_head,
        claims=claims,
        start=start,
        progress=progress,
    )
    if found.fault is None and notes.fault is not None:
        found = replace(found, level=0, fault=notes.fault)
    if found.fault is not None:
        return found
    assured = _assured(connection, store_id, found, notes, known_head, (), keeper)
    return replace(assured, level=min(1, assured.level or 0), matched_to=size if assured.fault is None else 0)


def _before(
    connection: sqlite3.Connection, changed: Iterable[tuple[str, int, str, int, int]], size: int
) -> dict[str, list[int | str]]:
    """The conversations with newer messages as they were when the log had `size` entries."""
    found: dict[str, list[int | str]] = {}
    for name, seq, scope, _, _ in changed:
        if seq < size:
            last = connection.execute(reads.VERIFY_LAST_BEFORE, (name, size)).fetchone() or (seq, 0)
            found[name] = [seq, scope, last[1], last[0]]
    return found


def _assured(
    connection: sqlite3.Connection,
    store_id: bytes,
    found: Verification,
    notes: Notes,
    known_head: str | None,
    elsewhere: Sequence[Claim],
    keeper: Keeper,
) -> Verification:
    """Raise the level of a log whose rows are all as they should be, as far as signatures and other heads reach."""
    pinned = keeper.pinned(store_id)
    entries = signing.key_entries(connection)
    signed = check_signatures(
        store_id, None if pinned is None else parse_key(pinned), entries, notes.stored, ed25519.verify
    )
    if signed.fault is not None:
        return replace(found, level=0, fault=signed.fault)
    witnessed = anchors.check(connection, store_id, found.entries, keeper)
    if witnessed.fault is not None:
        return replace(found, level=0, fault=witnessed.fault)
    matched = max((claim.size for claim in elsewhere), default=0)
    if known_head is not None:
        matched = max(matched, parse_head(known_head)[0])
    return replace(
        found,
        level=level_of(found.level, signed_to=signed.to, matched_to=matched, witnessed_to=witnessed.to),
        signed_to=signed.to,
        matched_to=matched,
        witnessed_to=witnessed.to,
        remarks=tuple(remark for remark in (signed.remark, witnessed.remark) if remark is not None),
    )


def _seen(connection: sqlite3.Connection) -> list[Claim]:
    """The heads that instances had seen when they reported: a rewritten log contradicts them."""
    genesis = connection.execute("SELECT body FROM entry WHERE seq = 0").fetchone()
    own = signing.restored_to(parse_body(genesis[0]) or {}) if genesis is not None else 0
    found: list[Claim] = []
    for seq, data in connection.execute(reads.VERIFY_SEEN, (SEEN_MAX,)):
        head = (parse_body(data) or {}).get("seen")
        if seq >= own and isinstance(head, str):
            with suppress(BadHead):
                found.append(Claim(*parse_head(head), f"the report in entry {seq} has seen"))
    return found
