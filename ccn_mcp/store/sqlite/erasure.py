"""Erasing: what a redaction entry does to its target, what is recognised later, and when the file is clean.

All of it happens under the turnstile, on the writer's connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from ccn_mcp.domain.erasure import (
    REREAD,
    TOMBSTONE,
    key_tombstone,
    redaction_of,
    target_of,
    text_tombstone,
)
from ccn_mcp.domain.errors import BadInput, IdempotencyConflict, NotFound
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Draft, Erasure, Receipt
from ccn_mcp.store.secret import Secret

WAIT_MS: Final = 500
"""How long an erasure waits for readers before it is left pending."""

PENDING: Final = "SELECT count(*) FROM erasure"


def erase(
    connection: sqlite3.Connection,
    redactions: Sequence[Draft],
    secret: Secret,
    insert: Callable[[Draft], Receipt],
) -> tuple[Erasure, ...]:
    """Record each redaction and blank its target, in the open transaction; what is erased already stays so.

    Raises:
        NotFound: no entry there. BadInput: it is no message. StoreUnavailable: no secret could be made.
    """
    done = tuple(_erase_one(connection, draft, secret, insert) for draft in redactions)
    if any(not item.already for item in done):
        # Merges the index into one segment, so that no older one keeps the words. The index's own `secure-delete`
        # (SQLite 3.42) would make the file unreadable for older versions, and one store may meet several.
        connection.execute("INSERT INTO message_fts (message_fts) VALUES ('optimize')")
    return done


def _erase_one(
    connection: sqlite3.Connection, draft: Draft, secret: Secret, insert: Callable[[Draft], Receipt]
) -> Erasure:
    seq = target_of(draft)
    row = connection.execute(_TARGET, (seq,)).fetchone()
    if row is None:
        raise NotFound(f"there is no entry {seq} in this store; get_history shows the seq of each message")
    kind, there, n, conversation, role, principal, key, text = row
    if kind != Kind.MESSAGE:
        raise BadInput(f"entry {seq} is no message; only messages can be erased")
    if not there:
        return Erasure(seq, conversation, role, n, already=True)
    known = secret(True)
    recorded = redaction_of(
        draft, known, conversation=conversation, role=role, text=text, principal=principal, key=key
    )
    if "key" in recorded.body and _holder(connection, str(recorded.body["key"])) is not None:
        body = {name: value for name, value in recorded.body.items() if name not in ("key", "principal")}
        recorded = Draft(recorded.kind, recorded.time_us, body)
    receipt = insert(recorded)
    if text is not None:
        connection.execute(
            "INSERT INTO message_fts (message_fts, rowid, text) VALUES ('delete', ?, ?)", (seq, text)
        )
    connection.execute("UPDATE entry SET salt = NULL, body = NULL, blob = NULL WHERE seq = ?", (seq,))
    connection.execute(
        "UPDATE record SET subject = NULL, principal = NULL, key = NULL, text = NULL WHERE seq = ?", (seq,)
    )
    connection.execute("INSERT INTO erasure VALUES (?)", (seq,))
    return Erasure(seq, conversation, role, n, redaction=receipt.seq)


_TARGET: Final = (
    "SELECT e.kind, e.body IS NOT NULL, r.n, r.conversation, r.role, r.principal, r.key, r.text "
    "FROM entry e LEFT JOIN record r USING (seq) WHERE e.seq = ?"
)


def pending(connection: sqlite3.Connection) -> int:
    """How many erased entries the files may still hold."""
    count: int = connection.execute(PENDING).fetchone()[0]
    return count


def finish(connection: sqlite3.Connection, wait_ms: int = 0) -> int:
    """Empty the write-ahead log, which still holds what was erased; returns how many entries stay pending.

    A reader that looks at an older state keeps it; the next attempt finds it gone. The erasure itself is durable
    already, so a failure here is not told as its failure.
    """
    left = pending(connection)
    if not left:
        return 0
    with suppress(sqlite3.Error):
        usual = connection.execute("PRAGMA busy_timeout").fetchone()[0]
        connection.execute(f"PRAGMA busy_timeout = {wait_ms}")
        try:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            connection.execute(f"PRAGMA busy_timeout = {usual}")
        if not busy:
            connection.execute("DELETE FROM erasure")
            return 0
    return left


# ---- what comes again ----------------------------------------------------------------------------------


def find_tombstone(connection: sqlite3.Connection, draft: Draft, secret: Secret) -> Receipt | None:
    """The answer to a draft whose key, or re-read text, belongs to an erased message: nothing is written again.

    Asked only where the key itself was not found.

    Raises:
        IdempotencyConflict: the key was a message's, and this is something else.
    """
    if connection.execute(_ANY).fetchone() is None or (known := secret(False)) is None:
        return None
    body = draft.body
    target = _holder(connection, key_tombstone(known, str(body.get("principal")), str(body.get("key"))))
    if target is None and draft.kind == Kind.MESSAGE and body.get("source") in REREAD:
        conversation = str(body.get("conversation"))
        left = text_tombstone(known, conversation, str(body.get("role")), str(body.get("text")))
        target = _first(connection.execute(_BY_TEXT, (conversation, left.encode())).fetchone())
    if target is None:
        return None
    if draft.kind != Kind.MESSAGE:
        raise IdempotencyConflict(
            f"the idempotency key {body.get('key')!r} was used before, by a message that was erased (entry "
            f"{target}); use a new key for new content"
        )
    time_us, n = connection.execute(
        "SELECT e.time, r.n FROM entry e JOIN record r USING (seq) WHERE e.seq = ?", (int(target),)
    ).fetchone()
    return Receipt(int(target), time_us, {}, n, replayed=True)


def _holder(connection: sqlite3.Connection, key: str) -> str | None:
    """The target of the redaction with this tombstone."""
    return _first(
        connection.execute(
            "SELECT subject FROM record WHERE principal = ? AND key = ?", (TOMBSTONE, key)
        ).fetchone()
    )


def _first(row: Sequence[Any] | None) -> str | None:
    return None if row is None else str(row[0])


# `kind <> 1` lets SQLite use the partial index; 6 is a redaction.
_ANY: Final = "SELECT 1 FROM record WHERE kind <> 1 AND kind = 6 LIMIT 1"
_BY_TEXT: Final = (
    "SELECT r.subject FROM record r JOIN entry e USING (seq) "
    "WHERE r.kind <> 1 AND r.kind = 6 AND r.conversation = ? AND instr(e.body, ?) LIMIT 1"
)
