"""Appending: the one place that writes entries. Synchronous and standard library only, for the hook.

A batch of groups is one transaction under the turnstile, so it costs one fdatasync however many groups it
holds; each group is a savepoint, so a refused one leaves the others alone.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ccn_mcp import __version__
from ccn_mcp.domain import jcs, ledger
from ccn_mcp.domain.errors import (
    CcnError,
    Conflict,
    IdempotencyConflict,
    StoreMoved,
    StoreUnavailable,
    UnknownConversation,
    UnknownInstance,
)
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.limits import STORE_WAIT_S_MAX, WAL_PAGES_MAX
from ccn_mcp.domain.merkle import Frontier
from ccn_mcp.domain.models import Appended, Body, Draft, Group, Guard, Receipt
from ccn_mcp.domain.projection import columns_of, same_payload, scope_of
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.sqlite import connect

PAGE_BYTES: Final = 4_096
Outcome = Appended | CcnError
"""What became of one group of a batch."""


def random_salt() -> bytes:
    """16 random bytes per entry: what makes an erased body unguessable."""
    return secrets.token_bytes(ledger.SALT_BYTES)


class _Tail:
    """The end of the log as it is extended: what `log` holds after the commit."""

    __slots__ = ("leaf", "store_id", "tree")

    def __init__(self, store_id: bytes, leaf: bytes, tree: Frontier) -> None:
        self.store_id = store_id
        self.leaf = leaf
        self.tree = tree

    def head(self) -> Head:
        return Head(self.tree.size, self.tree.root())


class SqliteLog:
    """The writing half of a store. Not thread-safe: one thread owns it.

    Opens (and creates) the file at the first `append_batch`, never before.
    """

    def __init__(
        self,
        path: Path,
        *,
        salt: Callable[[], bytes] = random_salt,
        wait_s: float = STORE_WAIT_S_MAX,
        wal_pages_max: int = WAL_PAGES_MAX,
    ) -> None:
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._salt = salt
        self._wait_s = wait_s
        self._wal_pages_max = wal_pages_max
        self._turnstile: Turnstile | None = None
        self._connection: sqlite3.Connection | None = None
        self._identity: connect.Identity | None = None

    def append_batch(
        self, groups: Sequence[Group], wanted: Callable[[int], bool] = lambda _: True
    ) -> list[Outcome | None]:
        """Append every group that is still `wanted` (asked once the turn has come); None for the others.

        All groups are durable when this returns. A failure of the store itself fails the whole batch.

        Raises:
            StoreError: nothing of the batch was written.
        """
        with connect.our_words(self._path):
            if self._turnstile is None:
                if connect.is_empty(self._path):
                    connect.make_file(self._path)
                self._turnstile = Turnstile(self._path, self._wait_s)
            with self._turnstile:
                connection = self._open()
                outcomes = self._transaction(connection, groups, wanted)
                self._checkpoint_if_long(connection)
                return outcomes

    def close(self) -> None:
        """Close under the turnstile, because the last connection to close checkpoints."""
        turnstile, connection = self._turnstile, self._connection
        self._connection = self._turnstile = self._identity = None
        if turnstile is None:
            return
        try:
            if connection is not None:
                with connect.our_words(self._path), turnstile:
                    connection.close()
        finally:
            turnstile.close()

    # ---- the file ----

    def _open(self) -> sqlite3.Connection:
        identity = connect.identity_of(self._path)
        if self._connection is not None:
            if identity == self._identity:
                return self._connection
            # Writing on would go into a file that nobody can find any more.
            self._connection.close()
            self._connection = None
        if identity is None:
            if self._identity is not None:
                raise StoreUnavailable(
                    f"{self._path} was removed while it was in use; nothing was written to the file that is "
                    "gone. Put it back or restart to begin a new store"
                )
            connect.make_file(self._path)
            identity = connect.identity_of(self._path)
        connection = connect.connect(self._path)
        try:
            connect.migrate(connection, self._path)
        except BaseException:
            connection.close()
            raise
        self._connection, self._identity = connection, identity
        return connection

    def _checkpoint_if_long(self, connection: sqlite3.Connection) -> None:
        with suppress(FileNotFoundError):
            if self._wal.stat().st_size > self._wal_pages_max * PAGE_BYTES:
                # PASSIVE never waits for readers. What it cannot copy now, a later batch will.
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    # ---- one batch ----

    def _transaction(
        self, connection: sqlite3.Connection, groups: Sequence[Group], wanted: Callable[[int], bool]
    ) -> list[Outcome | None]:
        results: list[tuple[Receipt, ...] | CcnError | None] = []
        connection.execute("BEGIN IMMEDIATE")
        try:
            tail = self._tail(connection)
            before = tail.tree.size
            for index, group in enumerate(groups):
                results.append(self._group(connection, tail, group) if wanted(index) else None)
            if tail.tree.size != before:
                connection.execute(
                    "UPDATE log SET size = ?, leaf = ?, frontier = ? WHERE id = 1",
                    (tail.tree.size, tail.leaf, tail.tree.to_bytes()),
                )
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        head = tail.head()
        return [Appended(result, head) if isinstance(result, tuple) else result for result in results]

    def _tail(self, connection: sqlite3.Connection) -> _Tail:
        row = connection.execute("SELECT store_id, size, leaf, frontier FROM log").fetchone()
        if row is not None:
            return _Tail(row[0], row[2], Frontier.from_bytes(row[1], row[3]))
        tail = _Tail(secrets.token_bytes(ledger.STORE_ID_BYTES), ledger.NO_LEAF, Frontier())
        connection.execute(
            "INSERT INTO log VALUES (1, ?, 0, ?, ?)", (tail.store_id, tail.leaf, tail.tree.to_bytes())
        )
        return tail

    def _group(
        self, connection: sqlite3.Connection, tail: _Tail, group: Group
    ) -> tuple[Receipt, ...] | CcnError:
        connection.execute("SAVEPOINT one_group")
        kept = tail.tree.copy(), tail.leaf
        try:
            receipts = self._append(connection, tail, group)
        except CcnError as error:
            tail.tree, tail.leaf = kept
            connection.execute("ROLLBACK TO one_group")
            return error
        finally:
            connection.execute("RELEASE one_group")
        return receipts

    def _append(self, connection: sqlite3.Connection, tail: _Tail, group: Group) -> tuple[Receipt, ...]:
        if group.drafts:
            if group.guard is not None:
                _check_guard(connection, group.guard)
            if (replay := _find_replay(connection, group.drafts[0])) is not None:
                return (replay,)
            if tail.tree.size == 0:
                self._insert(connection, tail, _genesis(group.drafts[0].time_us))
        receipts = tuple([self._insert(connection, tail, draft) for draft in group.drafts])
        for instance, seen_us in group.touch.items():
            found = connection.execute(
                "UPDATE instance SET seen = max(seen, ?) WHERE id = ?", (seen_us, instance)
            ).rowcount
            if not found:
                raise UnknownInstance(
                    f"there is no instance {instance!r} in this store; call load_plate to open one"
                )
        return receipts

    def _insert(self, connection: sqlite3.Connection, tail: _Tail, draft: Draft) -> Receipt:
        seq, salt, body = tail.tree.size, self._salt(), jcs.encode(draft.body)
        committed = ledger.commitment(salt, body, draft.blob)
        leaf = ledger.leaf_hash(
            ledger.entry_bytes(tail.store_id, seq, draft.time_us, draft.kind, tail.leaf, committed)
        )
        connection.execute(
            "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (seq, draft.time_us, int(draft.kind), leaf, committed, salt, body, draft.blob),
        )
        n = _index(connection, seq, draft)
        tail.tree.append(leaf)
        tail.leaf = leaf
        return Receipt(seq, draft.time_us, draft.body, n)


def _genesis(time_us: int) -> Draft:
    body: Body = {"format": "ccn.entry/1", "program": f"ccn_mcp {__version__}"}
    return Draft(Kind.GENESIS, time_us, body)


def _check_guard(connection: sqlite3.Connection, guard: Guard) -> None:
    marks = ",".join("?" * len(guard.kinds))
    # `kind <> 1` lets SQLite use the partial index; no guard is about messages.
    newer = connection.execute(
        f"SELECT 1 FROM record WHERE kind <> 1 AND kind IN ({marks}) AND seq >= ? LIMIT 1",  # noqa: S608  # only marks
        (*map(int, guard.kinds), guard.size),
    ).fetchone()
    if newer is not None:
        raise StoreMoved("another writer decided first; read the state again and retry")


def _find_replay(connection: sqlite3.Connection, draft: Draft) -> Receipt | None:
    key = draft.body.get("key")
    if key is None:
        return None
    row = connection.execute(
        "SELECT e.seq, e.time, e.kind, e.body, e.blob, r.n FROM record r JOIN entry e USING (seq) "
        "WHERE r.principal = ? AND r.key = ?",
        (draft.body.get("principal"), key),
    ).fetchone()
    if row is None:
        return None
    seq, time_us, kind, body_bytes, blob, n = row
    body = parse_body(body_bytes)
    if body is None or not same_payload(kind, body, blob or b"", draft):
        raise IdempotencyConflict(
            f"the idempotency key {key!r} was used before (entry {seq}) with another payload; "
            "use a new key for new content"
        )
    return Receipt(seq, time_us, body, n, replayed=True)


def _index(connection: sqlite3.Connection, seq: int, draft: Draft) -> int | None:
    """Write the query columns of one entry; returns a message's position in its conversation."""
    columns = columns_of(draft.kind, draft.body)
    n: int | None = None
    if draft.kind == Kind.MESSAGE:
        n = _count_message(connection, seq, columns.conversation)
    elif draft.kind == Kind.CONVERSATION:
        _open_conversation(connection, seq, draft.body)
    elif draft.kind == Kind.INSTANCE:
        connection.execute(
            "INSERT INTO instance VALUES (?1, ?2, NULL, ?3) "
            "ON CONFLICT (id) DO UPDATE SET seq = ?2, seen = max(seen, ?3)",
            (columns.subject, seq, draft.time_us),
        )
    elif draft.kind == Kind.VECTOR:
        connection.execute("UPDATE instance SET report = ? WHERE id = ?", (seq, columns.subject))
    connection.execute(
        "INSERT INTO record (seq, kind, n, conversation, subject, role, principal, key, text) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (seq, int(draft.kind), n, *columns),
    )
    if columns.text is not None:
        connection.execute("INSERT INTO message_fts (rowid, text) VALUES (?, ?)", (seq, columns.text))
    return n


def _count_message(connection: sqlite3.Connection, seq: int, conversation: str | None) -> int:
    rows = connection.execute(
        "UPDATE conversation SET messages = messages + 1, last_seq = ? WHERE id = ? RETURNING messages",
        (seq, conversation),
    ).fetchall()
    if not rows:
        raise UnknownConversation(
            f"there is no conversation {conversation!r} in this store; leave conversation_id out to open "
            "a new one, or call get_history without arguments to list the existing ones"
        )
    n: int = rows[0][0]
    return n


def _open_conversation(connection: sqlite3.Connection, seq: int, body: Body) -> None:
    name = body.get("conversation")
    if connection.execute("SELECT 1 FROM conversation WHERE id = ?", (name,)).fetchone() is not None:
        raise Conflict(f"the conversation {name!r} exists already; use it as it is")
    connection.execute("INSERT INTO conversation VALUES (?, ?, ?, 0, ?)", (name, seq, scope_of(body), seq))


def parse_body(data: bytes | None) -> Body | None:
    """The stored body of an entry as a value; None once erased or if it is not a JSON object."""
    if data is None:
        return None
    try:
        value = jcs.loads_trusted(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
