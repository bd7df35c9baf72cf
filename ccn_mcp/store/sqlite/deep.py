"""What only a deep check asks of the file: that its indexes say what its tables say, and each body its one form.

None of it is in the hashes: a message that an index leaves out is still in the log, but no page or search shows it.
Nothing is written to the file. What has to be built for a comparison is built in memory, words included.
"""

from __future__ import annotations

import re
import sqlite3
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from ccn_mcp.domain.jcs import is_canonical
from ccn_mcp.domain.models import Fault
from ccn_mcp.domain.verification import PROGRESS_EVERY

PASSES: Final = 3
"""Times that a deep check reads every entry, the usual pass included."""

TICK_STEPS: Final = 200_000
"""Instructions of SQLite's machine between two chances to stop it."""

CHUNK_CHARS_MAX: Final = 4_000_000
"""Text of the messages whose words are held at once; one message may be longer."""

_MASK: Final = 2**64 - 1
_ROW: Final = re.compile(r"row (\d+) missing from index record_")
_SHADOWS: Final = ("data", "idx", "docsize", "config")

BODIES: Final = "SELECT seq, time, body FROM entry NOT INDEXED ORDER BY seq"
TEXTS: Final = "SELECT seq, text FROM record NOT INDEXED WHERE kind = 1 AND text IS NOT NULL ORDER BY seq"
WORDS: Final = 'SELECT term, doc, "offset" FROM temp.'
_TOKENS: Final = "tokenize = 'unicode61 remove_diacritics 2'"


Progress = Callable[[int, int], None]


def first_third(progress: Progress | None) -> Progress | None:
    """What the usual pass tells, as the beginning of a deep check."""
    return None if progress is None else lambda done, total: progress(done, PASSES * total)


def first_fault(connection: sqlite3.Connection, entries: int, progress: Progress | None) -> Fault | None:
    """The first thing that does not fit in a store of `entries` entries whose usual check found nothing.

    The connection is the check's own, inside its read transaction; it has temporary tables in memory afterwards.
    """

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, PASSES * entries)

    def tick() -> int:
        tell(2 * entries)
        return 0

    connection.execute("PRAGMA temp_store = MEMORY")
    if (fault := _first_body(connection, lambda done: tell(entries + done))) is not None:
        return fault
    # So that whoever stops the check need not wait for one long statement. An exception in it is the stop.
    connection.set_progress_handler(tick, TICK_STEPS)
    try:
        if (fault := _first_index(connection)) is not None:
            return fault
    finally:
        connection.set_progress_handler(None, 0)
    connection.execute("PRAGMA query_only = OFF")  # it would forbid temporary tables, too
    return _first_word(connection, entries, lambda done: tell(2 * entries + done)) or _search_structure(
        connection
    )


def _first_body(connection: sqlite3.Connection, tell: Callable[[int], None]) -> Fault | None:
    """JCS(parse(body)) == body (ledger.md section 1): the same content has one hash only."""
    for seq, time_us, body in connection.execute(BODIES):
        if body is not None and not is_canonical(body):
            return Fault(
                "body",
                seq,
                time_us,
                f"the body of entry {seq} is not in the one form that this program writes (RFC 8785): "
                "something else made it",
            )
        if not (seq + 1) % PROGRESS_EVERY:
            tell(seq + 1)
    return None


def _first_index(connection: sqlite3.Connection) -> Fault | None:
    """SQLite's own check: pages, and every index against its table; it stops at the first thing."""
    said = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    if said == "ok":
        return None
    # SQLite counts rows from 1, and the usual check has found them numbered from 0 without a gap.
    row = _ROW.search(said)
    seq = int(row[1]) - 1 if row else None
    return Fault("index", seq, None, f"SQLite finds that an index or a page does not fit its table: {said}")


# ---- the full-text index -------------------------------------------------------------------------------


def _first_word(connection: sqlite3.Connection, entries: int, tell: Callable[[int], None]) -> Fault | None:
    """Compare each message's words in the index with those of its text, both with their positions.

    The index is ordered by word and the texts by message, so each message has a sum: what the index says is added,
    what the text says is taken away.
    """
    sums = array("Q", bytes(8 * entries))
    connection.execute("CREATE VIRTUAL TABLE temp.deep_found USING fts5vocab(main, message_fts, instance)")
    for word, seq, at in connection.execute(f"{WORDS}deep_found"):
        if not 0 <= seq < entries:
            return Fault("search", None, None, f"the search index has a message {seq} that is no entry")
        # The hash of a text is keyed anew in each process; that of a tuple is too even for sums.
        sums[seq] = sums[seq] + hash(f"{at} {word}") & _MASK
    for word, seq, at in _words_of_texts(connection, tell):
        sums[seq] = sums[seq] - hash(f"{at} {word}") & _MASK
    for seq, left in enumerate(sums):
        if left:
            return Fault(
                "search",
                seq,
                None,
                f"the search index does not have the words of entry {seq} as they were recorded: a search can "
                "miss that message, or find it by words that it does not have",
            )
    return None


def _words_of_texts(
    connection: sqlite3.Connection, tell: Callable[[int], None]
) -> Iterator[tuple[str, int, int]]:
    """Word, message and position for every text, by the index's own tokenizer."""
    connection.execute(f"CREATE VIRTUAL TABLE temp.deep_made USING fts5 (text, content = '', {_TOKENS})")
    connection.execute("CREATE VIRTUAL TABLE temp.deep_words USING fts5vocab(temp, deep_made, instance)")
    held = 0
    with closing(connection.execute(TEXTS)) as texts:
        for seq, text in texts:
            connection.execute("INSERT INTO temp.deep_made (rowid, text) VALUES (?, ?)", (seq, text))
            held += len(text)
            if held > CHUNK_CHARS_MAX:
                yield from _words_made(connection)
                tell(seq)
                held = 0
    yield from _words_made(connection)


def _words_made(connection: sqlite3.Connection) -> Iterator[tuple[str, int, int]]:
    yield from connection.execute(f"{WORDS}deep_words")
    connection.execute("INSERT INTO temp.deep_made (deep_made) VALUES ('delete-all')")


def _search_structure(connection: sqlite3.Connection) -> Fault | None:
    """FTS5's own check, of a copy in memory: on the file itself it would need the write lock."""
    connection.execute(
        "CREATE TEMP VIEW deep_text (seq, text) AS "
        "SELECT seq, text FROM main.record NOT INDEXED WHERE kind = 1 AND text IS NOT NULL"
    )
    connection.execute(
        "CREATE VIRTUAL TABLE temp.deep_copy USING fts5 "
        f"(text, content = 'deep_text', content_rowid = 'seq', {_TOKENS})"
    )
    for shadow in _SHADOWS:
        copy, ours = f"temp.deep_copy_{shadow}", f"main.message_fts_{shadow}"
        connection.execute(f"DELETE FROM {copy}")  # noqa: S608  # four fixed names
        connection.execute(f"INSERT INTO {copy} SELECT * FROM {ours}")  # noqa: S608  # four fixed names
    try:
        # Rank 1 asks for the texts, too; an FTS5 that does not know it checks the structure only.
        connection.execute("INSERT INTO temp.deep_copy (deep_copy, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError as exc:
        if getattr(exc, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CORRUPT:
            raise
        return Fault("search", None, None, "the search index is damaged: a search can miss messages")
    return None
