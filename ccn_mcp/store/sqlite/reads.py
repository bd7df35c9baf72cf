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
from ccn_mcp.domain.limits import LINE_CHARS_MAX, SEARCH_CANDIDATES_MAX, VOTERS_MAX
from ccn_mcp.domain.models import (
    Conversation,
    ConversationQuery,
    Line,
    LineQuery,
    Message,
    MessageQuery,
    Record,
    RecordQuery,
    SearchHit,
    SearchQuery,
    Seat,
)
from ccn_mcp.domain.projection import said_us
from ccn_mcp.store.sqlite.checks import parse_body

SqlRow = Sequence[Any]
Sql = tuple[str, list[Any]]

HEAD: Final = (
    "SELECT store_id, size, frontier, (SELECT count(*) FROM erasure WHERE seq >= 0), "
    "(SELECT count(*) FROM conversation) FROM log"
)

VERIFY_ROWS: Final = (
    "SELECT e.seq, e.time, e.kind, e.leaf, e.commitment, e.salt, e.body, e.blob, "
    "r.kind, r.n, r.conversation, r.subject, r.role, r.principal, r.key, r.text "
    "FROM entry e LEFT JOIN record r USING (seq) ORDER BY e.seq"
)
VERIFY_NEW_ROWS: Final = VERIFY_ROWS.replace(" ORDER BY", " WHERE e.seq >= ? ORDER BY")
VERIFY_TAIL: Final = "SELECT store_id, size, leaf, frontier FROM log"
VERIFY_CONVERSATIONS: Final = "SELECT id, seq, scope, messages, last_seq FROM conversation"
VERIFY_INSTANCES: Final = "SELECT id, seq, report FROM instance"
VERIFY_ENTRIES: Final = "SELECT count(*) FROM entry"
VERIFY_NEW_CONVERSATIONS: Final = f"{VERIFY_CONVERSATIONS} WHERE last_seq >= ?"
VERIFY_LAST_BEFORE: Final = (
    "SELECT seq, n FROM record WHERE kind = 1 AND conversation = ? AND seq < ? ORDER BY seq DESC LIMIT 1"
)
VERIFY_NEW_NODES: Final = (
    "WITH levels (level) AS (VALUES (1), (2), (3), (4), (5), (6), (7)) "
    "SELECT n.level, n.i, n.hash FROM levels l CROSS JOIN node n ON n.level = l.level "
    "AND n.i >= ? >> (8 * l.level) ORDER BY 1, 2"
)
"""Subtrees that end after the first ? entries; level by level, so that none of the others is read."""

VERIFY_NODES: Final = "SELECT level, i, hash FROM node ORDER BY level, i"
VERIFY_NOTES: Final = "SELECT size, note FROM checkpoint ORDER BY size"
VERIFY_KEYS: Final = (
    "SELECT seq, body FROM entry WHERE seq = 0 UNION ALL SELECT e.seq, e.body FROM record r JOIN entry e USING (seq) "
    "WHERE r.kind <> 1 AND r.kind = 5 ORDER BY 1"
)
VERIFY_SEEN: Final = (
    "SELECT e.seq, e.body FROM record r JOIN entry e USING (seq) "
    "WHERE r.kind <> 1 AND r.kind = 2 ORDER BY r.seq DESC LIMIT ?"
)
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
    if query.subjects:
        where.append(f"r.subject IN ({','.join('?' * len(query.subjects))})")
        values += query.subjects
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
        said_us(body),
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


def counts(query: MessageQuery, below: int) -> Sql:
    """How many messages match the filters, and how many of them lie below a position, in one pass."""
    where, values = _filters(query)
    timed = query.since_us is not None or query.until_us is not None
    joined = "record r JOIN entry e USING (seq)" if timed else "record r"
    return f"SELECT count(*), count(*) FILTER (WHERE r.seq < ?) FROM {joined} WHERE {where}", [below, *values]


def lines(query: LineQuery) -> Sql:
    """Messages that still have their content, in short."""
    where, values = ["r.kind = 1", "e.body IS NOT NULL"], list[Any]()
    name = "json_extract(CAST(e.body AS TEXT), '$.name')"
    if query.seqs:
        where.append(f"r.seq IN ({','.join('?' * len(query.seqs))})")
        values += query.seqs
    if query.person is not None:
        where.append(f"(r.principal = ? OR {name} = ?)")
        values += [query.person, query.person]
    for column, value in (
        ("r.conversation = ?", query.conversation_id),
        ("e.time >= ?", query.since_us),
        ("e.time < ?", query.until_us),
        ("r.seq > ?", query.after),
        ("r.seq < ?", query.before),
    ):
        if value is not None:
            where.append(column)
            values.append(value)
    sql = (
        f"SELECT r.seq, e.time, r.conversation, r.role, r.principal, {name}, substr(r.text, 1, {LINE_CHARS_MAX}) "
        f"FROM record r JOIN entry e USING (seq) WHERE {' AND '.join(where)} ORDER BY r.seq LIMIT ?"
    )
    return sql, [*values, query.limit]


def line(row: SqlRow) -> Line:
    """A row of `lines`."""
    return Line(row[0], row[1], row[2], row[3], row[4], row[5], row[6] or "")


TOTAL: Final = "SELECT messages FROM conversation WHERE id = ?"
BELOW: Final = (
    "SELECT n FROM record WHERE kind = 1 AND conversation = ? AND seq < ? ORDER BY seq DESC LIMIT 1"
)
"""How many messages of a conversation lie below a position: the last one's number, so nothing is counted."""

# ---- search ----

_WORDS: Final = re.compile(r"[^\W_]+\*?")
EXCERPT_TOKENS: Final = 24
RANKED_CHARS_MAX: Final = 4_000
"""Of a message, what its rank is told by."""

RELEVANCE: Final = "ccn_relevance"
"""The SQL function that ranks; a connection that searches has it from `relevance.relevance`."""


def words_of(text: str) -> list[str]:
    """The words of a search; one that ends in `*` is a prefix.

    Raises:
        BadInput: there is no word in it.
    """
    # Composed, so that a letter and its combining mark stay one word; the tokenizer drops the diacritics.
    words: list[str] = _WORDS.findall(normalize("NFC", text))
    if not words:
        raise BadInput("the search has no word in it; give one or more words, such as: harbour light*")
    return words


def _expression(words: Sequence[str]) -> str:
    """The words as an FTS5 expression in which nothing is an operator."""
    return " ".join(f'"{word[:-1]}"*' if word.endswith("*") else f'"{word}"' for word in words)


def search(query: SearchQuery) -> Sql:
    """Hits with an excerpt, one more than asked for; ranking looks at the newest candidates only."""
    where, values = _reach(query)
    words = words_of(query.text)
    expression = _expression(words)
    columns = f"{_MESSAGE}, snippet(message_fts, 0, '', '', ' … ', {EXCERPT_TOKENS})"
    matching = f"message_fts MATCH ? AND r.text IS NOT NULL{where} ORDER BY f.rowid DESC LIMIT ?"
    joined = "message_fts f JOIN record r ON r.seq = f.rowid"
    if not query.ranked:
        sql = f"SELECT {columns} FROM {joined} JOIN entry e ON e.seq = r.seq WHERE {matching}"
        return sql, [expression, *values, query.limit + 1]
    # Ranked first and excerpted second: an excerpt costs more than a rank, and few are shown.
    sql = (
        f"WITH newest AS (SELECT r.seq, r.text FROM {joined} WHERE {matching}), "
        f"best AS (SELECT seq, {RELEVANCE}(substr(text, 1, {RANKED_CHARS_MAX}), ?) AS score FROM newest "
        "ORDER BY score DESC, seq DESC LIMIT ?) "
        f"SELECT {columns} FROM best b CROSS JOIN message_fts f ON f.rowid = b.seq "
        "JOIN record r ON r.seq = b.seq JOIN entry e ON e.seq = b.seq "
        "WHERE message_fts MATCH ? ORDER BY b.score DESC, b.seq DESC"
    )
    return sql, [expression, *values, SEARCH_CANDIDATES_MAX, " ".join(words), query.limit + 1, expression]


def _reach(query: SearchQuery) -> tuple[str, list[Any]]:
    """The filters of a search. Each also bounds the positions, so that the walk begins where there may be hits."""
    where, values = "", list[Any]()
    if query.conversation_id is not None:
        where += (
            " AND f.rowid > coalesce((SELECT seq FROM conversation WHERE id = ?), 0)"
            " AND f.rowid <= coalesce((SELECT last_seq FROM conversation WHERE id = ?), 0) AND r.conversation = ?"
        )
        values += [query.conversation_id] * 3
    if query.role is not None:
        where += " AND r.role = ?"
        values.append(query.role)
    if query.scope is not None:
        where += (
            " AND f.rowid <= coalesce((SELECT max(last_seq) FROM conversation WHERE scope = ?), 0)"
            " AND (SELECT scope FROM conversation WHERE id = r.conversation) = ?"
        )
        values += [query.scope] * 2
    if query.before is not None:
        where += " AND f.rowid < ?"
        values.append(query.before)
    return where, values


def hit(row: SqlRow) -> SearchHit:
    """A row of `search`."""
    return SearchHit(message(row), row[7] or "")


# ---- conversations and instances ----


def conversations(query: ConversationQuery) -> Sql:
    """Conversations by last activity."""
    where, values = ["1" if query.erased else "o.body IS NOT NULL"], list[Any]()
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
        erased=row[4] is None,
    )


def seats(seen_since_us: int, instance_id: str | None) -> Sql:
    """Instances with their newest snapshot and report; without those whose snapshot was erased."""
    columns = "i.id, s.body, i.seq, i.seen, v.seq, v.time, v.body, v.blob"
    joined = (
        "instance i JOIN entry s ON s.seq = i.seq AND s.body IS NOT NULL "
        "LEFT JOIN entry v ON v.seq = i.report AND v.body IS NOT NULL"
    )
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
