"""The SQL of every query and the shape of its rows. Text only: who runs it, and where, is not known here.

Statements are put together from fixed text and placeholders; no value of a caller is ever part of one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from unicodedata import normalize

from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import SEARCH_CANDIDATES_MAX, VOTERS_MAX
from ccn_mcp.domain.models import (
    Conversation,
    ConversationQuery,
    Message,
    MessageQuery,
    Record,
    RecordQuery,
    SearchHit,
    SearchQuery,
    Seat,
)
from ccn_mcp.store.sqlite.checks import parse_body

SqlRow = Sequence[Any]
Sql = tuple[str, list[Any]]

HEAD: Final = "SELECT store_id, size, frontier, (SELECT count(*) FROM erasure) FROM log"

VERIFY_ROWS: Final = (
    "SELECT e.seq, e.time, e.kind, e.leaf, e.commitment, e.salt, e.body, e.blob, "
    "r.kind, r.n, r.conversation, r.subject, r.role, r.principal, r.key, r.text "
    "FROM entry e LEFT JOIN record r USING (seq) ORDER BY e.seq"
)
VERIFY_TAIL: Final = "SELECT store_id, size, leaf, frontier FROM log"
VERIFY_CONVERSATIONS: Final = "SELECT id, seq, scope, messages, last_seq FROM conversation"
VERIFY_INSTANCES: Final = "SELECT id, seq, report FROM instance"
VERIFY_ENTRIES: Final = "SELECT count(*) FROM entry"
VERIFY_STRAY: Final = "SELECT (SELECT count(*) FROM record) - (SELECT count(*) FROM entry)"

# ---- entries ----


def records(query: RecordQuery) -> Sql:
    """Entries by position, by key, by subject, or by kind."""
    where, values = [], list[Any]()
    if query.seqs:
        where.append(f"r.seq IN ({','.join('?' * len(query.seqs))})")
        values += query.seqs
    if query.key is not None:
        where.append("r.principal = ? AND r.key = ?")
        values += [query.principal, query.key]
    if query.subject is not None:
        where.append("r.subject = ?")
        values.append(query.subject)
    if query.kinds:
        where.append(f"r.kind IN ({','.join('?' * len(query.kinds))})")
        values += map(int, query.kinds)
        if Kind.MESSAGE not in query.kinds:
            where.append("r.kind <> 1")  # lets SQLite use the partial index
    if query.after is not None:
        where.append("r.seq > ?")
        values.append(query.after)
    sql = (
        "SELECT e.seq, e.time, e.kind, e.body, e.blob FROM record r JOIN entry e USING (seq) "
        f"WHERE {' AND '.join(where) or '1'} ORDER BY r.seq {'ASC' if query.oldest_first else 'DESC'} LIMIT ?"
    )
    return sql, [*values, query.limit]


def record(row: SqlRow) -> Record:
    """A row of `records`."""
    return Record(row[0], row[1], Kind(row[2]), parse_body(row[3]), row[4] or b"")


# ---- messages ----

_MESSAGE: Final = "r.seq, e.time, r.n, r.conversation, r.role, r.text, e.body"


def message(row: SqlRow) -> Message:
    """A row that begins with the columns of `_MESSAGE`."""
    body = parse_body(row[6]) or {}
    name = body.get("name")
    return Message(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        str(body.get("source", "")),
        name if isinstance(name, str) else None,
    )


def _filters(query: MessageQuery) -> tuple[str, list[Any]]:
    """The filters that count for `total`; positions do not."""
    where = ["r.kind = 1", "r.conversation = ?"]
    values: list[Any] = [query.conversation_id]
    if query.role is not None:
        where.append("r.role = ?")
        values.append(query.role)
    if query.since_us is not None:
        where.append("e.time >= ?")
        values.append(query.since_us)
    if query.until_us is not None:
        where.append("e.time < ?")
        values.append(query.until_us)
    return " AND ".join(where), values


def is_plain(query: MessageQuery) -> bool:
    """Whether every message of the conversation matches, so that positions alone give the counts."""
    return query.role is None and query.since_us is None and query.until_us is None


def page(query: MessageQuery) -> Sql:
    """The page's rows, from the end that is kept."""
    where, values = _filters(query)
    if query.before is not None:
        where += " AND r.seq < ?"
        values.append(query.before)
    if query.after is not None:
        where += " AND r.seq > ?"
        values.append(query.after)
    sql = (
        f"SELECT {_MESSAGE} FROM record r JOIN entry e USING (seq) WHERE {where} "
        f"ORDER BY r.seq {'DESC' if query.newest else 'ASC'} LIMIT ?"
    )
    return sql, [*values, query.limit]


def count(query: MessageQuery, *, below: int | None = None, above: int | None = None) -> Sql:
    """How many messages match the filters, all or those below or above a position."""
    where, values = _filters(query)
    if below is not None:
        where += " AND r.seq < ?"
        values.append(below)
    if above is not None:
        where += " AND r.seq > ?"
        values.append(above)
    if is_plain(query):
        return f"SELECT count(*) FROM record r WHERE {where}", values
    return f"SELECT count(*) FROM record r JOIN entry e USING (seq) WHERE {where}", values


TOTAL: Final = "SELECT messages FROM conversation WHERE id = ?"

# ---- search ----

_WORDS: Final = re.compile(r"[^\W_]+\*?")
EXCERPT_TOKENS: Final = 24


def match_expression(text: str) -> str:
    """The user's words as an FTS5 expression in which nothing is an operator.

    Raises:
        BadInput: there is no word in it.
    """
    # Composed, so that a letter and its combining mark stay one word; the tokenizer drops the diacritics.
    words = _WORDS.findall(normalize("NFC", text))
    if not words:
        raise BadInput("the search has no word in it; give one or more words, such as: harbour light*")
    return " ".join(f'"{word[:-1]}"*' if word.endswith("*") else f'"{word}"' for word in words)


def search(query: SearchQuery) -> Sql:
    """Hits with an excerpt, one more than asked for; ranking looks at the newest candidates only."""
    where, values = "", list[Any]()
    if query.conversation_id is not None:
        where += " AND r.conversation = ?"
        values.append(query.conversation_id)
    if query.role is not None:
        where += " AND r.role = ?"
        values.append(query.role)
    if query.scope is not None:
        where += " AND r.conversation IN (SELECT id FROM conversation WHERE scope = ?)"
        values.append(query.scope)
    expression = match_expression(query.text)
    excerpt = f"snippet(message_fts, 0, '', '', ' … ', {EXCERPT_TOKENS})"
    columns = f"{_MESSAGE}, {excerpt}"
    joined = "message_fts f JOIN record r ON r.seq = f.rowid JOIN entry e ON e.seq = r.seq"
    if not query.ranked:
        sql = (
            f"SELECT {columns} FROM {joined} WHERE message_fts MATCH ? AND r.text IS NOT NULL{where} "
            "ORDER BY f.rowid DESC LIMIT ?"
        )
        return sql, [expression, *values, query.limit + 1]
    # bm25 costs per hit, so only the newest candidates are ranked.
    sql = (
        f"SELECT {columns} FROM {joined} WHERE message_fts MATCH ? AND f.rowid >= coalesce("
        "(SELECT min(rowid) FROM (SELECT rowid FROM message_fts WHERE message_fts MATCH ? "
        "ORDER BY rowid DESC LIMIT ?)), 0) "
        f"AND r.text IS NOT NULL{where} ORDER BY bm25(message_fts), f.rowid DESC LIMIT ?"
    )
    return sql, [expression, expression, SEARCH_CANDIDATES_MAX, *values, query.limit + 1]


def hit(row: SqlRow) -> SearchHit:
    """A row of `search`."""
    return SearchHit(message(row), row[7] or "")


# ---- conversations and instances ----


def conversations(query: ConversationQuery) -> Sql:
    """Conversations by last activity."""
    where, values = ["1"], list[Any]()
    if query.id is not None:
        where.append("c.id = ?")
        values.append(query.id)
    if query.scope is not None:
        where.append("c.scope = ?")
        values.append(query.scope)
    if query.before is not None:
        where.append("c.last_seq < ?")
        values.append(query.before)
    sql = (
        "SELECT c.id, c.seq, o.time, c.scope, o.body, c.messages, c.last_seq, l.time FROM conversation c "
        "JOIN entry o ON o.seq = c.seq JOIN entry l ON l.seq = c.last_seq "
        f"WHERE {' AND '.join(where)} ORDER BY c.last_seq DESC LIMIT ?"
    )
    return sql, [*values, query.limit]


def conversation(row: SqlRow) -> Conversation:
    """A row of `conversations`."""
    body = parse_body(row[4]) or {}
    title, session = body.get("title"), body.get("session")
    return Conversation(
        id=row[0],
        seq=row[1],
        time_us=row[2],
        scope=row[3],
        title=title if isinstance(title, str) else None,
        session_id=session if isinstance(session, str) else None,
        messages=row[5],
        last_seq=row[6],
        last_us=row[7],
    )


def seats(seen_since_us: int, instance_id: str | None) -> Sql:
    """Instances with their newest snapshot and report."""
    columns = "i.id, s.body, i.seq, i.seen, i.report, v.time, v.body, v.blob"
    joined = "instance i JOIN entry s ON s.seq = i.seq LEFT JOIN entry v ON v.seq = i.report"
    if instance_id is not None:
        return f"SELECT {columns} FROM {joined} WHERE i.id = ?", [instance_id]
    return (
        f"SELECT {columns} FROM {joined} WHERE i.seen >= ? ORDER BY i.seen DESC, i.id LIMIT ?",
        [seen_since_us, VOTERS_MAX],
    )


def seat(row: SqlRow) -> Seat:
    """A row of `seats`."""
    return Seat(
        instance_id=row[0],
        snapshot=parse_body(row[1]) or {},
        snapshot_seq=row[2],
        seen_us=row[3],
        report_seq=row[4],
        report_us=row[5],
        report_body=parse_body(row[6]),
        report_blob=row[7],
    )
