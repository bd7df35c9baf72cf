"""What an attacker does to a store's file with plain SQL: small parts that attacks are put together from.

The attacker has the file, drops the triggers, knows the format and recomputes everything that needs no key.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from ccn_mcp.domain import jcs, ledger
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.merkle import Frontier
from ccn_mcp.domain.models import Group, Verification
from ccn_mcp.ports import Keeper
from ccn_mcp.store.nobody import NOBODY
from ccn_mcp.store.sqlite import nodes
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.model import decision, opening, report, said, snapshot

Attack = Callable[[sqlite3.Connection], object]

SIZE: Final = 16
"""Entries of the store under attack: 0 genesis, 1-2 conversations, 3-5 messages of c1, 6 an instance, 7 its
report, 8-10 messages of c2, 11 a consensus entry, 12 a second snapshot, 13-15 messages of c1 again."""

FIRST, LAST = 3, SIZE - 1
INSTANCE, REPORT, CONSENSUS, SECOND_SNAPSHOT = 6, 7, 11, 12


async def make(db: Path, keeper: Keeper = NOBODY) -> str:
    """A store with every kind of thing in it, closed; its head."""
    groups = [
        (opening("c1", scope="work"),),
        (opening("c2"),),
        *((said(f"uno {n}", key=f"k{n}", at=n),) for n in range(3)),
        (snapshot("i1", conversation="c1", at=5), report("i1", 0.5, 0.25, at=6)),
        *((said(f"due {n}", "c2", at=10 + n, role="assistant"),) for n in range(3)),
        (decision(at=20),),
        (snapshot("i1", conversation="c1", at=21, state="flagged"),),
        *((said(f"tre {n}", at=30 + n),) for n in range(3)),
    ]
    async with SqliteStore(db, keeper=keeper) as store:
        for drafts in groups:
            done = await store.append(Group(drafts))
        assert done.head.size == SIZE
        return str(done.head)


@contextmanager
def the_file(db: Path) -> Iterator[sqlite3.Connection]:
    """The file as an attacker opens it: nothing guards it. Afterwards the schema is as it was."""
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # no attacker waits for the disk
        triggers = list(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
        assert len(triggers) == 3
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        yield connection
        for _, sql in triggers:
            connection.execute(sql)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def after(db: Path, attack: Attack, known_head: str | None = None) -> Verification:
    """What a check says once the attack is over."""
    with the_file(db) as connection:
        attack(connection)
    return verify_file(db, known_head)


def sql(text: str, *values: object) -> Attack:
    """An attack that is one statement."""

    def run(connection: sqlite3.Connection) -> None:
        assert connection.execute(text, values).rowcount == 1, "the attack hit nothing"

    return run


def each(*attacks: Attack) -> Attack:
    """Attacks one after the other."""

    def run(connection: sqlite3.Connection) -> None:
        for attack in attacks:
            attack(connection)

    return run


# ---- attacks of several steps --------------------------------------------------------------------------


def body_of(connection: sqlite3.Connection, seq: int) -> dict[str, Json]:
    body = jcs.loads_trusted(connection.execute("SELECT body FROM entry WHERE seq = ?", (seq,)).fetchone()[0])
    assert isinstance(body, dict)
    return body


def edit_body(seq: int, **fields: Json) -> Attack:
    """Another body, and nothing else."""

    def run(connection: sqlite3.Connection) -> None:
        body = jcs.encode({**body_of(connection, seq), **fields})
        connection.execute("UPDATE entry SET body = ? WHERE seq = ?", (body, seq))

    return run


def recommit(seq: int) -> Attack:
    """A commitment that fits the changed content, and nothing else."""

    def run(connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT salt, body, blob FROM entry WHERE seq = ?", (seq,)).fetchone()
        committed = ledger.commitment(*row)
        connection.execute("UPDATE entry SET commitment = ? WHERE seq = ?", (committed, seq))

    return run


def recompute(connection: sqlite3.Connection) -> None:
    """Every hash from the entries as they are now, and the log row to fit: the whole work of a forger."""
    store_id = connection.execute("SELECT store_id FROM log").fetchone()[0]
    tree, previous = Frontier(), ledger.NO_LEAF
    rows = list(
        connection.execute("SELECT seq, time, kind, commitment, salt, body, blob FROM entry ORDER BY 1")
    )
    for seq, time_us, kind, committed, salt, body, blob in rows:
        if body is not None:
            committed = ledger.commitment(salt, body, blob)  # else as stored
        previous = ledger.leaf_hash(ledger.entry_bytes(store_id, seq, time_us, kind, previous, committed))
        tree.append(previous)
        connection.execute(
            "UPDATE entry SET leaf = ?, commitment = ? WHERE seq = ?", (previous, committed, seq)
        )
    set_log(connection, tree, previous)


def set_log(connection: sqlite3.Connection, tree: Frontier, leaf: bytes) -> None:
    nodes.fill(connection)
    connection.execute("UPDATE log SET size = ?, leaf = ?, frontier = ?", (tree.size, leaf, tree.to_bytes()))


def cut(size: int, *, log: bool = False, derived: bool = False) -> Attack:
    """Take the tail away; `log` mends the log row, `derived` the lists beside it."""

    def run(connection: sqlite3.Connection) -> None:
        for table in ("entry", "record"):
            connection.execute(f"DELETE FROM {table} WHERE seq >= ?", (size,))
        connection.execute("DELETE FROM message_fts WHERE rowid >= ?", (size,))
        if log:
            tree, leaf = Frontier(), ledger.NO_LEAF
            for (leaf,) in connection.execute("SELECT leaf FROM entry ORDER BY seq"):
                tree.append(leaf)
            set_log(connection, tree, leaf)
        if derived:
            count_again(connection)

    return run


def count_again(connection: sqlite3.Connection) -> None:
    """The lists beside the log, made from the query columns as they are now."""
    for table, kind, column in (("conversation", 10, "conversation"), ("instance", 9, "subject")):
        connection.execute(
            f"DELETE FROM {table} WHERE id NOT IN (SELECT {column} FROM record WHERE kind = {kind})"
        )
    connection.execute(
        "UPDATE record SET n = (SELECT count(*) FROM record r WHERE r.kind = 1 AND r.seq <= record.seq "
        "AND r.conversation = record.conversation) WHERE kind = 1"
    )
    connection.execute(
        "UPDATE conversation SET "
        "messages = (SELECT count(*) FROM record r WHERE r.kind = 1 AND r.conversation = conversation.id), "
        "last_seq = (SELECT max(seq) FROM record r WHERE r.kind IN (1, 10) AND r.conversation = conversation.id)"
    )
    connection.execute(
        "UPDATE instance SET seq = (SELECT max(seq) FROM record r WHERE r.kind = 9 AND r.subject = instance.id), "
        "report = (SELECT max(seq) FROM record r WHERE r.kind = 2 AND r.subject = instance.id)"
    )


def index_again(connection: sqlite3.Connection) -> None:
    """The search index, made from the query columns as they are now."""
    connection.execute("INSERT INTO message_fts (message_fts) VALUES ('rebuild')")


def swap(table: str, one: int, other: int) -> Attack:
    """Two rows change places."""

    def run(connection: sqlite3.Connection) -> None:
        for old, new in ((one, -1), (other, one), (-1, other)):
            connection.execute(f"UPDATE {table} SET seq = ? WHERE seq = ?", (new, old))

    return run


def renumber(seq: int) -> Attack:
    """Take one entry out and close the gap."""

    def run(connection: sqlite3.Connection) -> None:
        for table in ("entry", "record"):
            size = connection.execute(f"SELECT max(seq) + 1 FROM {table}").fetchone()[0]
            connection.execute(f"DELETE FROM {table} WHERE seq = ?", (seq,))
            for old in range(seq + 1, size):
                connection.execute(f"UPDATE {table} SET seq = ? WHERE seq = ?", (old - 1, old))
        connection.execute("UPDATE conversation SET seq = seq - 1 WHERE seq > ?", (seq,))

    return run


def forge(body: dict[str, Json], *, kind: int = 1, raw: bytes | None = None, record: bool = True) -> Attack:
    """One more entry with the right hashes at the end; the log row is left as it was."""

    def run(connection: sqlite3.Connection) -> None:
        store_id, size, leaf = connection.execute("SELECT store_id, size, leaf FROM log").fetchone()
        data, salt, time_us = raw if raw is not None else jcs.encode(body), bytes(16), 1_767_225_700_000_000
        committed = ledger.commitment(salt, data, b"")
        forged = ledger.leaf_hash(ledger.entry_bytes(store_id, size, time_us, kind, leaf, committed))
        connection.execute(
            "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (size, time_us, kind, forged, committed, salt, data, b""),
        )
        if record:
            connection.execute(
                "INSERT INTO record (seq, kind, n, conversation, role, text) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    size,
                    kind,
                    7 if kind == 1 else None,
                    body.get("conversation"),
                    body.get("role"),
                    body.get("text"),
                ),
            )

    return run


def count_in(connection: sqlite3.Connection) -> None:
    """Make the log row count what is there."""
    cut(10_000, log=True)(connection)


def erase(seq: int) -> Attack:
    """Blank the content, as a redaction would, and the query columns with it."""
    return each(
        sql("UPDATE entry SET salt = NULL, body = NULL, blob = NULL WHERE seq = ?", seq),
        sql("UPDATE record SET subject = NULL, principal = NULL, key = NULL, text = NULL WHERE seq = ?", seq),
    )


def erase_kept(seq: int) -> Attack:
    """As the store erases what belongs to an instance: its id stays."""
    return each(
        sql("UPDATE entry SET salt = NULL, body = NULL, blob = NULL WHERE seq = ?", seq),
        sql("UPDATE record SET principal = NULL, key = NULL WHERE seq = ?", seq),
    )


def redaction(target: int, **fields: Json) -> Attack:
    """A redaction entry with everything that belongs to it, for a target that may have been something else."""
    body: dict[str, Json] = {"target": str(target), **fields}

    def run(connection: sqlite3.Connection) -> None:
        forge(body, kind=6, record=False)(connection)
        size = connection.execute("SELECT max(seq) FROM entry").fetchone()[0]
        connection.execute(
            "INSERT INTO record (seq, kind, conversation, subject) VALUES (?, 6, ?, ?)",
            (size, body.get("conversation"), str(target)),
        )
        count_in(connection)

    return run


MESSAGE: Final[dict[str, Json]] = {"conversation": "c1", "role": "user", "text": "never said"}
OTHER_32: Final = hashlib.sha256(b"other").digest()
