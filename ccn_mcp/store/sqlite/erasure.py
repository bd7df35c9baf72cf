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
    SESSION_CONVERSATIONS_MAX,
    TOMBSTONE,
    check_erasable,
    conflict,
    earlier_of,
    key_tombstone,
    redaction_of,
    target_of,
    text_tombstone,
)
from ccn_mcp.domain.errors import NotFound
from ccn_mcp.domain.jcs import loads_trusted
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Body, Draft, Erasure, Receipt
from ccn_mcp.domain.projection import ERASED_SCOPE, Columns, kept_columns
from ccn_mcp.store.secret import Secret

WAIT_MS: Final = 500
"""How long an erasure waits for readers before it is left pending."""

MERGE_PAGES: Final = 200
"""Pages of the full-text index that one turn merges: some 10 ms."""

PENDING: Final = "SELECT count(*) FROM erasure WHERE seq >= 0"
_UNMERGED: Final = -1
"""Listed with the pending entries while the full-text index still has to be merged."""


def erase(
    connection: sqlite3.Connection,
    redactions: Sequence[Draft],
    secret: Secret,
    insert: Callable[[Draft], Receipt],
) -> tuple[Erasure, ...]:
    """Record each redaction and blank its target, in the open transaction; what is erased already stays so.

    Raises:
        NotFound: no entry there. BadInput: it cannot be erased. StoreUnavailable: no secret could be made.
    """
    return tuple(_erase_one(connection, draft, secret, insert) for draft in redactions)


def _erase_one(
    connection: sqlite3.Connection, draft: Draft, secret: Secret, insert: Callable[[Draft], Receipt]
) -> Erasure:
    seq = target_of(draft)
    row = connection.execute(_TARGET, (seq,)).fetchone()
    if row is None:
        raise NotFound(f"there is no entry {seq} in this store; get_history shows the seq of each message")
    kind, there, n, *stored = row
    columns = Columns(*stored)
    check_erasable(kind, seq)
    if not there:
        return Erasure(seq, columns.conversation, columns.role, n, already=True)
    recorded = redaction_of(draft, secret(True), kind, columns)
    if "key" in recorded.body and _holder(connection, str(recorded.body["key"])) is not None:
        body = {name: value for name, value in recorded.body.items() if name not in ("key", "principal")}
        recorded = Draft(recorded.kind, recorded.time_us, body)
    receipt = insert(recorded)
    if columns.text is not None:
        connection.execute(
            "INSERT INTO message_fts (message_fts, rowid, text) VALUES ('delete', ?, ?)", (seq, columns.text)
        )
        connection.execute("INSERT OR IGNORE INTO erasure VALUES (?)", (_UNMERGED,))
    connection.execute("UPDATE entry SET salt = NULL, body = NULL, blob = NULL WHERE seq = ?", (seq,))
    connection.execute(
        "UPDATE record SET conversation = ?, subject = ?, role = ?, principal = ?, key = ?, text = ? "
        "WHERE seq = ?",
        (*kept_columns(kind, columns), seq),
    )
    if kind == Kind.CONVERSATION:
        connection.execute("UPDATE conversation SET scope = ? WHERE seq = ?", (ERASED_SCOPE, seq))
    connection.execute("INSERT INTO erasure VALUES (?)", (seq,))
    return Erasure(seq, columns.conversation, columns.role, n, redaction=receipt.seq)


_TARGET: Final = (
    "SELECT e.kind, e.body IS NOT NULL, r.n, r.conversation, r.subject, r.role, r.principal, r.key, r.text "
    "FROM entry e LEFT JOIN record r USING (seq) WHERE e.seq = ?"
)


def pending(connection: sqlite3.Connection) -> int:
    """How many erased entries the files may still hold."""
    count: int = connection.execute(PENDING).fetchone()[0]
    return count


def merge(connection: sqlite3.Connection, pages: int = MERGE_PAGES) -> bool:
    """Go on merging the full-text index into one segment, so that no older one keeps an erased word; a step.

    Returns whether it is one segment now, or nothing had to be merged. The first step begins, each other goes on
    unless somebody has written meanwhile: then it begins again, so the caller doubles `pages`. The index's own
    `secure-delete` (SQLite 3.42) would make the file unreadable for older versions, and one store may meet several.
    """
    if connection.execute("SELECT 1 FROM erasure WHERE seq = ?", (_UNMERGED,)).fetchone() is None:
        return True
    connection.execute("INSERT INTO message_fts (message_fts, rank) VALUES ('merge', ?)", (-pages,))
    first, last = connection.execute("SELECT min(segid), max(segid) FROM message_fts_idx").fetchone()
    if first != last:
        return False
    connection.execute("DELETE FROM erasure WHERE seq = ?", (_UNMERGED,))
    return True


def finish(connection: sqlite3.Connection, wait_ms: int = 0) -> int:
    """Merge the index, empty the write-ahead log, which still holds what was erased; how many entries stay pending.

    A reader that looks at an older state keeps it; the next attempt finds it gone. The erasure itself is durable
    already, so a failure here is not told as its failure.
    """
    left = pending(connection)
    if not left:
        return 0
    with suppress(sqlite3.Error):
        pages = MERGE_PAGES
        while not merge(connection, pages):
            pages *= 2
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
    """The answer to a draft whose key, or re-read text, belongs to an erased entry: nothing is written again.

    Asked only where the key itself was not found and the log has redactions.

    Raises:
        IdempotencyConflict: the key was that of another kind of entry.
    """
    if (known := secret(False)) is None:
        return None
    body = draft.body
    target = _holder(connection, key_tombstone(known, str(body.get("principal")), str(body.get("key"))))
    if target is None and draft.kind == Kind.MESSAGE and body.get("source") in REREAD:
        target = _of_text(connection, body, known)
    if target is None:
        return None
    time_us, kind, n, conversation = connection.execute(
        "SELECT e.time, e.kind, r.n, r.conversation FROM entry e JOIN record r USING (seq) WHERE e.seq = ?",
        (int(target),),
    ).fetchone()
    if refusal := conflict(draft.kind, kind, int(target), body.get("key")):
        raise refusal
    # Which conversation it was is no secret, and whoever asks for it again needs its id.
    left: Body = {"conversation": conversation} if kind == Kind.CONVERSATION else {}
    return Receipt(int(target), time_us, left, n, replayed=True)


def _of_text(connection: sqlite3.Connection, body: Body, secret: bytes) -> str | None:
    """The erased message of this text, in this conversation or those that the session had before it."""
    conversation: str | None = str(body.get("conversation"))
    for _ in range(SESSION_CONVERSATIONS_MAX):
        if conversation is None:
            return None
        left = text_tombstone(secret, conversation, str(body.get("role")), str(body.get("text")))
        if (found := connection.execute(_BY_TEXT, (conversation, left.encode())).fetchone()) is not None:
            return str(found[0])
        conversation = _earlier(connection, conversation)
    return None


def _earlier(connection: sqlite3.Connection, conversation: str) -> str | None:
    """The erased conversation in whose place this one was opened."""
    row = connection.execute(_OPENED_UNDER, (conversation,)).fetchone()
    if row is None:
        return None
    seq, key = row
    if key is not None:
        return earlier_of(key)
    redaction = connection.execute(_REDACTION_OF, (str(seq),)).fetchone()
    said = loads_trusted(redaction[0]) if redaction is not None and redaction[0] is not None else None
    after = said.get("after") if isinstance(said, dict) else None
    return after if isinstance(after, str) else None


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
_OPENED_UNDER: Final = "SELECT r.seq, r.key FROM conversation c JOIN record r USING (seq) WHERE c.id = ?"
_REDACTION_OF: Final = (
    "SELECT e.body FROM record r JOIN entry e USING (seq) WHERE r.kind = 6 AND r.subject = ? "
    "ORDER BY r.seq LIMIT 1"
)
_BY_TEXT: Final = (
    "SELECT r.subject FROM record r JOIN entry e USING (seq) "
    "WHERE r.kind <> 1 AND r.kind = 6 AND r.conversation = ? AND instr(e.body, ?) LIMIT 1"
)
