"""Appending: the one place that writes entries. Synchronous and standard library only, for the hook.

A batch of groups is one transaction under the turnstile, so it costs one fdatasync however many groups it
holds; a group that is refused leaves the others alone.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from ccn_mcp import __version__
from ccn_mcp.domain import jcs, ledger
from ccn_mcp.domain.errors import (
    CcnError,
    NotFound,
)
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.limits import STORE_WAIT_S_MAX, WAL_PAGES_MAX
from ccn_mcp.domain.merkle import EMPTY_ROOT, Frontier
from ccn_mcp.domain.models import Appended, Body, Draft, Erased, Group, Receipt
from ccn_mcp.domain.projection import columns_of, scope_of
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.secret import Secret, no_secret
from ccn_mcp.store.sqlite import checks, connect, erasure

PAGES_PER_BATCH: Final = 10
PAGES_PER_DRAFT: Final = 2
PENDING_RETRY_S: Final = 1.0
"""Appends finish a pending erasure, but ask no more often than this whether the readers have gone."""

T = TypeVar("T")
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

    Opens (and creates) the file at the first `append_batch`, never before. `secret` is that of the tombstones.
    """

    def __init__(
        self,
        path: Path,
        *,
        salt: Callable[[], bytes] = random_salt,
        secret: Secret = no_secret,
        wait_s: float = STORE_WAIT_S_MAX,
        wal_pages_max: int = WAL_PAGES_MAX,
    ) -> None:
        self._path = connect.real_path(path)
        self._salt = salt
        self._secret = secret
        self._pending_since: float | None = None
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
        with self._turn() as connection:

            def work(tail: _Tail) -> list[tuple[Receipt, ...] | CcnError | None]:
                return [
                    self._group(connection, tail, group) if wanted(index) else None
                    for index, group in enumerate(groups)
                ]

            results, head = self._transaction(connection, work)
            self._checkpoint_if_long(connection, groups)
        return [Appended(result, head) if isinstance(result, tuple) else result for result in results]

    def erase(self, redactions: Sequence[Draft]) -> Erased:
        """Erase and clean up as one batch of its own. See `Store.erase`; creates no store.

        Raises:
            NotFound, BadInput, StoreError: nothing was erased.
        """
        if connect.is_empty(self._path):
            if redactions:
                raise NotFound(f"there is no store at {self._path} yet, so there is nothing to erase")
            return Erased((), Head(0, EMPTY_ROOT), 0)
        for draft in redactions:
            checks.checked_body(draft, first=True)
        with self._turn() as connection:
            items, head = self._transaction(
                connection,
                lambda tail: erasure.erase(
                    connection,
                    redactions,
                    self._secret,
                    lambda draft: self._insert(connection, tail, draft, jcs.encode(draft.body)),
                ),
            )
            pending = erasure.finish(connection, erasure.WAIT_MS)
            self._pending_since = time.monotonic() if pending else None
        return Erased(items, head, pending)

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

    @contextmanager
    def _turn(self) -> Iterator[sqlite3.Connection]:
        with connect.our_words(self._path):
            if self._turnstile is None:
                if connect.is_empty(self._path):
                    connect.make_file(self._path)
                self._turnstile = Turnstile(self._path, self._wait_s)
            with self._turnstile:
                yield self._open()

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
            # Left behind by a process that ended before its readers did: the next append tries again.
            self._pending_since = 0.0 if erasure.pending(connection) else None
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
        if self._pending_since is not None and time.monotonic() - self._pending_since > PENDING_RETRY_S:
            self._pending_since = time.monotonic() if erasure.finish(connection) else None

    # ---- one batch ----

    def _transaction(self, connection: sqlite3.Connection, work: Callable[[_Tail], T]) -> tuple[T, Head]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            tail = _read_tail(connection, self._path)
            before = tail.tree.size
            result = work(tail)
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
        return result, tail.head()

    def _group(
        self, connection: sqlite3.Connection, tail: _Tail, group: Group
    ) -> tuple[Receipt, ...] | CcnError:
        # Everything that can refuse a group is asked before its first write, so a refused one needs no
        # savepoint: releasing one makes the full-text index flush, per message instead of per batch.
        try:
            bodies = [checks.checked_body(draft, first=not index) for index, draft in enumerate(group.drafts)]
            # A replay before the guard: the answer to a guarded append may have been lost on its way.
            if (
                group.drafts
                and (replay := checks.find_replay(connection, group.drafts[0], self._secret)) is not None
            ):
                return (replay,)
            if group.guard is not None:
                checks.check_guard(connection, group.guard)
            checks.check_references(connection, group)
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
