"""Appending: the one place that writes entries. Synchronous and standard library only, for the hook.

A batch of groups is one transaction under the turnstile, so it costs one fdatasync however many groups it
holds; a group that is refused leaves the others alone.
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
    BadInput,
    CcnError,
    Conflict,
    IdempotencyConflict,
    StoreMoved,
    UnknownConversation,
    UnknownInstance,
)
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.limits import STORE_WAIT_S_MAX, WAL_PAGES_MAX
from ccn_mcp.domain.merkle import Frontier
from ccn_mcp.domain.models import Appended, Body, Draft, Group, Guard, Receipt
from ccn_mcp.domain.projection import columns_of, same_payload, scope_of
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.sqlite import connect

PAGES_PER_BATCH: Final = 10
PAGES_PER_DRAFT: Final = 2
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
        self._path = connect.real_path(path)
        self._salt = salt
        self._wait_s = wait_s
        self._wal_pages_max = wal_pages_max
        self._wal_pages = 0
        self._turnstile: Turnstile | None = None
        self._connection: sqlite3.Connection | None = None
        self.opened: connect.Opened | None = None

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
                self._checkpoint_if_long(connection, groups)
                return outcomes

    def close(self) -> None:
        """Close under the turnstile, because the last connection to close checkpoints."""
        turnstile, connection = self._turnstile, self._connection
        self._connection = self._turnstile = self.opened = None
        if turnstile is None:
            return
        try:
            if connection is not None:
                with connect.our_words(self._path):
                    turnstile.close_in_turn(connection.close)
        finally:
            turnstile.close()

    # ---- the file ----

    def _open(self) -> sqlite3.Connection:
        # Asked at every batch: a file that nobody can find any more would take the writes of a whole session.
        there = self.opened is not None and connect.still_there(self._path, self.opened)
        if there and self._connection is not None:
            return self._connection
        self._disconnect()
        connect.make_file(self._path)
        if connect.is_empty(self._path):
            connect.discard_leftovers(self._path)
        identity = connect.identity_of(self._path)
        connection = connect.connect(self._path, self._wait_s)
        try:
            connect.migrate(connection, self._path)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.opened = connect.Opened(identity, connect.companions_of(self._path))
        # Programs that live for one write each (hooks) would never count far enough while another one that only
        # reads keeps the file open; what they left behind is this one's to copy.
        if connect.wal_bytes(self._path) > 2 * self._wal_pages_max * connect.PAGE_BYTES:
            self._wal_pages = self._wal_pages_max
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _checkpoint_if_long(self, connection: sqlite3.Connection, groups: Sequence[Group]) -> None:
        # Estimated: the WAL is reused from its start and keeps its size, so the file does not tell.
        drafts = [draft for group in groups for draft in group.drafts]
        written = sum(len(draft.blob) + 2 * len(str(draft.body.get("text", ""))) for draft in drafts)
        self._wal_pages += PAGES_PER_BATCH + PAGES_PER_DRAFT * len(drafts) + 2 * written // connect.PAGE_BYTES
        if self._wal_pages > self._wal_pages_max:
            # PASSIVE never waits for readers. What it cannot copy now, a later one will.
            # The batch is durable already, so a failure here (a full disk) must not be told as its failure.
            with suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._wal_pages = 0

    # ---- one batch ----

    def _transaction(
        self, connection: sqlite3.Connection, groups: Sequence[Group], wanted: Callable[[int], bool]
    ) -> list[Outcome | None]:
        results: list[tuple[Receipt, ...] | CcnError | None] = []
        connection.execute("BEGIN IMMEDIATE")
        try:
            tail = _read_tail(connection, self._path)
            before = tail.tree.size
            for index, group in enumerate(groups):
                results.append(self._group(connection, tail, group) if wanted(index) else None)
            if tail.tree.size != before:
                connection.execute(
                    _FIRST_TAIL if before == 0 else _NEXT_TAIL,
                    (tail.store_id, tail.tree.size, tail.leaf, tail.tree.to_bytes()),
                )
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if connection.in_transaction:  # else no later BEGIN would succeed
                self._disconnect()
            raise
        head = tail.head()
        return [Appended(result, head) if isinstance(result, tuple) else result for result in results]

    def _group(
        self, connection: sqlite3.Connection, tail: _Tail, group: Group
    ) -> tuple[Receipt, ...] | CcnError:
        # Everything that can refuse a group is asked before its first write, so a refused one needs no
        # savepoint: releasing one makes the full-text index flush, per message instead of per batch.
        try:
            bodies = [_checked_body(draft, first=not index) for index, draft in enumerate(group.drafts)]
            # A replay before the guard: the answer to a guarded append may have been lost on its way.
            if group.drafts and (replay := _find_replay(connection, group.drafts[0])) is not None:
                return (replay,)
            if group.guard is not None:
                _check_guard(connection, group.guard)
            _check_references(connection, group)
        except CcnError as error:
            return error
        if group.drafts and tail.tree.size == 0:
            genesis = _genesis(group.drafts[0].time_us)
            self._insert(connection, tail, genesis, jcs.encode(genesis.body))
        receipts = [
            self._insert(connection, tail, draft, body)
            for draft, body in zip(group.drafts, bodies, strict=True)
        ]
        for instance, seen_us in group.touch.items():
            connection.execute("UPDATE instance SET seen = max(seen, ?) WHERE id = ?", (seen_us, instance))
        return tuple(receipts)

    def _insert(self, connection: sqlite3.Connection, tail: _Tail, draft: Draft, body: bytes) -> Receipt:
        seq, salt = tail.tree.size, self._salt()
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


_FIRST_TAIL: Final = "INSERT INTO log VALUES (1, ?, ?, ?, ?)"
_NEXT_TAIL: Final = "UPDATE log SET store_id = ?, size = ?, leaf = ?, frontier = ? WHERE id = 1"


def _genesis(time_us: int) -> Draft:
    body: Body = {"format": "ccn.entry/1", "program": f"ccn_mcp {__version__}"}
    return Draft(Kind.GENESIS, time_us, body)


def _checked_body(draft: Draft, *, first: bool) -> bytes:
    """The bytes to hash, once nothing in the draft can make a later statement fail for its neighbours too."""
    body = draft.body
    key = body.get("key")
    if key is not None and not (first and isinstance(key, str) and isinstance(body.get("principal"), str)):
        raise BadInput(
            "an idempotency key is text, stands in a group's first draft and has a principal beside it"
        )
    name = _NAMED_BY.get(draft.kind)
    if name is not None and not (isinstance(body.get(name), str) and body[name]):
        raise BadInput(f"an entry of kind {draft.kind.name.lower()} needs a {name}, as text")
    if not -(2**63) <= draft.time_us < 2**63:
        raise BadInput(f"the time {draft.time_us} does not fit 64 bits; give microseconds since 1970")
    return jcs.encode(body)


_NAMED_BY: Final = {Kind.CONVERSATION: "conversation", Kind.INSTANCE: "instance"}


def _read_tail(connection: sqlite3.Connection, path: Path) -> _Tail:
    row = connection.execute(
        "SELECT l.store_id, l.size, l.leaf, l.frontier, e.leaf FROM log l LEFT JOIN entry e ON e.seq = l.size - 1"
    ).fetchone()
    if row is not None:
        store_id, size, leaf, frontier, last = row
        # Going on from a wrong end would break the chain for good, and at an innocent entry.
        if leaf != last:
            raise connect.contradiction(path, "the head is not that of the last entry")
        return _Tail(store_id, leaf, connect.frontier_of(path, size, frontier))
    return _Tail(secrets.token_bytes(ledger.STORE_ID_BYTES), ledger.NO_LEAF, Frontier())


def _check_references(connection: sqlite3.Connection, group: Group) -> None:
    """What a group names must be there, or be opened by the group itself, earlier."""
    opened: set[Json] = set()
    instances: set[Json] = set()
    for draft in group.drafts:
        name = draft.body.get("conversation")
        if draft.kind == Kind.CONVERSATION:
            if name in opened or _exists(connection, "conversation", name):
                raise Conflict(f"the conversation {name!r} exists already; use it as it is")
            opened.add(name)
        elif _is_unknown(connection, draft, opened):
            raise UnknownConversation(
                f"there is no conversation {name!r} in this store; leave conversation_id out to open "
                "a new one, or call get_history without arguments to list the existing ones"
            )
        if draft.kind == Kind.INSTANCE:
            instances.add(draft.body.get("instance"))
    for name in group.touch:
        if name not in instances and not _exists(connection, "instance", name):
            raise UnknownInstance(f"there is no instance {name!r} in this store; call load_plate to open one")


def _is_unknown(connection: sqlite3.Connection, draft: Draft, opened: set[Json]) -> bool:
    name = draft.body.get("conversation")
    needed = draft.kind == Kind.MESSAGE or (draft.kind == Kind.INSTANCE and name is not None)
    return needed and name not in opened and not _exists(connection, "conversation", name)


def _exists(connection: sqlite3.Connection, table: str, name: Json) -> bool:
    found = connection.execute(f"SELECT 1 FROM {table} WHERE id = ?", (name,)).fetchone()  # noqa: S608  # two fixed names
    return found is not None


def _check_guard(connection: sqlite3.Connection, guard: Guard) -> None:
    marks = ",".join("?" * len(guard.kinds))
    # `kind <> 1` lets SQLite use the partial index.
    others = "" if Kind.MESSAGE in guard.kinds else "kind <> 1 AND "
    newer = connection.execute(
        f"SELECT 1 FROM record WHERE {others}kind IN ({marks}) AND seq >= ? LIMIT 1",  # noqa: S608  # fixed text
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
        rows = connection.execute(
            "UPDATE conversation SET messages = messages + 1, last_seq = ? WHERE id = ? RETURNING messages",
            (seq, columns.conversation),
        ).fetchall()
        n = rows[0][0]
    elif draft.kind == Kind.CONVERSATION:
        connection.execute(
            "INSERT INTO conversation VALUES (?, ?, ?, 0, ?)",
            (columns.conversation, seq, scope_of(draft.body), seq),
        )
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


def parse_body(data: bytes | None) -> Body | None:
    """The stored body of an entry as a value; None once erased or if it is not a JSON object."""
    if data is None:
        return None
    try:
        value = jcs.loads_trusted(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
