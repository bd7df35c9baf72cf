"""Appending: the one place that writes entries. Synchronous and standard library only, for the hook.

A batch of groups is one transaction under the turnstile, so it costs one fdatasync however many groups it
holds; a group that is refused leaves the others alone. What else is done to a log is in `log.py`, which a hook does not
load; what only some appends need is imported by those.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager, suppress

from ccn_mcp import __version__
from ccn_mcp.domain import ledger
from ccn_mcp.domain.entries import Appended, Draft
from ccn_mcp.domain.errors import CcnError
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import STORE_WAIT_S_MAX, WAL_PAGES_MAX
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.nobody import NOBODY
from ccn_mcp.store.secret import no_secret
from ccn_mcp.store.sqlite import checks, connect
from ccn_mcp.store.sqlite.insert import Inserts
from ccn_mcp.store.sqlite.tail import continues, read_tail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Final, TypeVar

    from ccn_mcp.domain.entries import Body, Group, Receipt
    from ccn_mcp.domain.ledger import Head
    from ccn_mcp.ports import Keeper
    from ccn_mcp.store.secret import Secret
    from ccn_mcp.store.sqlite.tail import Tail

    T = TypeVar("T")

PAGES_PER_BATCH: Final = 10
PAGES_PER_DRAFT: Final = 2
PENDING_RETRY_S: Final = 1.0
"""Appends finish a pending erasure, but ask no more often than this whether the readers have gone."""

_ERASING: Final = "SELECT 1 FROM erasure WHERE seq >= 0 LIMIT 1"

Outcome = Appended | CcnError
"""What became of one group of a batch."""


def random_salt() -> bytes:
    """16 random bytes per entry: what makes an erased body unguessable."""
    return os.urandom(ledger.SALT_BYTES)


class Appender:
    """The part of a store that appends. Not thread-safe: one thread owns it.

    Opens (and creates) the file at the first `append_batch`, never before. `secret` is that of the tombstones. It signs
    nothing: `SqliteLog` does, and where a hook has appended, the next process that has one.
    """

    def __init__(
        self,
        path: Path,
        *,
        salt: Callable[[], bytes] = random_salt,
        secret: Secret = no_secret,
        keeper: Keeper = NOBODY,
        wait_s: float = STORE_WAIT_S_MAX,
        wal_pages_max: int = WAL_PAGES_MAX,
    ) -> None:
        self._path = connect.real_path(path)
        self._salt = salt
        self._secret = secret
        self._keeper = keeper
        self.unsigned = False
        """Whether this process has appended since it last signed."""

        self._last: Tail | None = None
        self._pending_since: float | None = None
        self._batches = 0
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
        # A store that nothing was written to would be a file without a genesis.
        new = self._turnstile is None and connect.is_empty(self._path)
        if new and (refused := checks.refused_by_nothing(groups)) is not None:
            return refused
        with self._turn() as connection:

            def work(inserts: Inserts) -> list[tuple[Receipt, ...] | CcnError | None]:
                return [
                    self._group(inserts, group) if wanted(index) else None
                    for index, group in enumerate(groups)
                ]

            results, head = self._transaction(connection, work)
            self._batches += 1
            self._checkpoint_if_long(connection)
        return [Appended(result, head) if isinstance(result, tuple) else result for result in results]

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
                # Another application's database is refused here, before anything is put beside it.
                elif not self._path.with_name(f"{self._path.name}.lock").exists() and (
                    reader := connect.connect_to_read(self._path, self._wait_s)
                ):
                    reader.close()
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
            self._check_memory(connection)
            # Left behind by a process that ended before its readers did: the next append tries again.
            self._pending_since = 0.0 if connection.execute(_ERASING).fetchone() is not None else None
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

    def _check_memory(self, connection: sqlite3.Connection) -> None:
        if self._keeper is NOBODY and self._last is None:
            return  # a hook that has just begun remembers nothing
        from ccn_mcp.store.sqlite import signing

        signing.check_memory(connection, self._path, self._keeper, self._own())

    def _own(self) -> tuple[bytes, Head] | None:
        """The state that this process saw last: store id and head."""
        return None if self._last is None else (self._last.store_id, self._last.head())

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _checkpoint_if_long(self, connection: sqlite3.Connection) -> None:
        if self._wal_pages > self._wal_pages_max:
            # PASSIVE never waits for readers. What it cannot copy now, a later one will.
            # The batch is durable already, so a failure here (a full disk) must not be told as its failure.
            with suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._wal_pages = 0
        if self._pending_since is not None and time.monotonic() - self._pending_since > PENDING_RETRY_S:
            from ccn_mcp.store.sqlite import erasure

            self._pending_since = time.monotonic()
            # One step: an append that finds a large index unmerged must not pay for all of it. And as above: what is
            # durable must not be told as failed.
            with suppress(sqlite3.Error):
                if erasure.merge(connection) and not erasure.finish(connection):
                    self._pending_since = None

    # ---- one batch ----

    def _transaction(self, connection: sqlite3.Connection, work: Callable[[Inserts], T]) -> tuple[T, Head]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            tail = read_tail(connection, self._path)
            before = tail.tree.size
            self._must_continue(connection, tail)
            inserts = Inserts(connection, tail, self._salt)
            result = work(inserts)
            inserts.flush()
            if tail.tree.size != before:
                self.unsigned = True
                tail.write(connection, first=before == 0)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if connection.in_transaction:  # else no later BEGIN would succeed
                self._disconnect()
            raise
        # Estimated: the WAL is reused from its start and keeps its size, so the file does not tell.
        self._wal_pages += PAGES_PER_BATCH + PAGES_PER_DRAFT * (tail.tree.size - before)
        self._wal_pages += 4 * inserts.content_bytes // connect.PAGE_BYTES
        head = tail.head()
        self._last = tail
        return result, head

    def _must_continue(self, connection: sqlite3.Connection, tail: Tail) -> None:
        if self._last is not None and not continues(connection, self._last, tail):
            from ccn_mcp.domain.models import Claim
            from ccn_mcp.store.sqlite import signing

            seen = self._last.head()
            claim = Claim(seen.size, seen.root.hex(), "this process has written")
            raise signing.rolled_back(self._path, claim, tail.head())

    def _group(self, inserts: Inserts, group: Group) -> tuple[Receipt, ...] | CcnError:
        # Everything that can refuse a group is asked before its first write, so a refused one needs no
        # savepoint: releasing one makes the full-text index flush, per message instead of per batch.
        connection, drafts = inserts.connection, group.drafts
        try:
            bodies = [checks.checked_body(draft, first=not index) for index, draft in enumerate(drafts)]
            inserts.settle(group)
            # A replay before the guard: the answer to a guarded append may have been lost on its way.
            if drafts and (replay := checks.find_replay(connection, drafts[0], self._secret)) is not None:
                return (replay,)
            if group.guard is not None:
                checks.check_guard(connection, group.guard)
            checks.check_references(connection, inserts.conversations, group)
        except CcnError as error:
            return error
        tail = inserts.tail
        if drafts and tail.tree.size == 0:
            inserts.insert(_genesis(drafts[0].time_us, self._keeper.key(tail.store_id, create=True)))
        receipts = [inserts.insert(draft, body) for draft, body in zip(drafts, bodies, strict=True)]
        for instance, seen_us in group.touch.items():
            connection.execute("UPDATE instance SET seen = max(seen, ?) WHERE id = ?", (seen_us, instance))
        return tuple(receipts)


def _genesis(time_us: int, key: str | None) -> Draft:
    body: Body = {"format": "ccn.entry/1", "program": f"ccn_mcp {__version__}"}
    if key is not None:
        from ccn_mcp.domain.assurance import GENESIS_KEY_FIELD  # a hook has no key

        body[GENESIS_KEY_FIELD] = key
    return Draft(Kind.GENESIS, time_us, body)
