"""Appending: the one place that writes entries. Synchronous and standard library only, for the hook.

A batch of groups is one transaction under the turnstile, so it costs one fdatasync however many groups it
holds; a group that is refused leaves the others alone.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from ccn_mcp import __version__
from ccn_mcp.domain import ledger
from ccn_mcp.domain.assurance import GENESIS_KEY_FIELD
from ccn_mcp.domain.errors import (
    CcnError,
    NoStore,
    NotFound,
    StoreBusy,
    StoreError,
    StoreRolledBack,
    TooLarge,
)
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.limits import ERASURES_PER_BATCH_MAX, STORE_WAIT_S_MAX, WAL_PAGES_MAX
from ccn_mcp.domain.merkle import EMPTY_ROOT
from ccn_mcp.domain.models import Appended, Body, Claim, Draft, Erased, Group, KeyChange, Maintained, Receipt
from ccn_mcp.ports import Keeper
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.nobody import NOBODY
from ccn_mcp.store.secret import Secret, no_secret
from ccn_mcp.store.sqlite import checks, connect, erasure, maintenance, rotation, signing
from ccn_mcp.store.sqlite.insert import Inserts
from ccn_mcp.store.sqlite.tail import Tail, continues, read_tail

PAGES_PER_BATCH: Final = 10
PAGES_PER_DRAFT: Final = 2
SIGN_EVERY_S: Final = 5.0
"""How long a head may stay unsigned while its process runs; on a normal end it is signed at once."""

PENDING_RETRY_S: Final = 1.0
"""Appends finish a pending erasure, but ask no more often than this whether the readers have gone."""

T = TypeVar("T")
Outcome = Appended | CcnError
"""What became of one group of a batch."""


def random_salt() -> bytes:
    """16 random bytes per entry: what makes an erased body unguessable."""
    return os.urandom(ledger.SALT_BYTES)


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
        keeper: Keeper = NOBODY,
        wait_s: float = STORE_WAIT_S_MAX,
        wal_pages_max: int = WAL_PAGES_MAX,
    ) -> None:
        self._path = connect.real_path(path)
        self._salt = salt
        self._secret = secret
        self._keeper = keeper
        self._signed_at = time.monotonic()
        self.unsigned = False
        """Whether this process has appended since it last signed."""

        self._last: Tail | None = None

        self._pending_since: float | None = None
        self._batches = 0
        self._merging: tuple[int, int] | None = None
        self._merge_pages = erasure.MERGE_PAGES
        self._chores = maintenance.Chores(self._path)
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

    def erase(self, redactions: Sequence[Draft], *, finish: bool = True) -> Erased:
        """Erase as one batch of its own, then clean up in turns of their own. See `Store.erase`; creates no store.

        Raises:
            NotFound, BadInput, TooLarge, StoreError: nothing was erased.
        """
        if len(redactions) > ERASURES_PER_BATCH_MAX:
            raise TooLarge(
                f"{len(redactions):,} erasures at once; at most {ERASURES_PER_BATCH_MAX} are one batch"
            )
        if connect.is_empty(self._path):
            if redactions:
                raise NotFound(f"there is no store at {self._path} yet, so there is nothing to erase")
            return Erased((), Head(0, EMPTY_ROOT), 0)
        for draft in redactions:
            checks.checked_body(draft, first=True)
        with self._turn() as connection:
            items, head = self._transaction(
                connection,
                lambda inserts: erasure.erase(connection, redactions, self._secret, inserts.insert),
            )
            pending = erasure.pending(connection)
            self._pending_since = time.monotonic() if pending else None
            if connect.wal_bytes(self._path) > self._wal_pages_max * connect.PAGE_BYTES:
                with suppress(sqlite3.Error):
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        while finish and pending:
            try:
                finish, pending = self.tidy()
            except StoreError:
                break  # it is erased and stays pending: a later call, or a quiet moment, goes on
        return Erased(items, head, pending)

    def tidy(self) -> tuple[bool, int]:
        """One turn of cleaning up after erasures: whether the next one can go on at once, and how many stay pending."""
        with self._turn() as connection:
            # Where somebody wrote meanwhile, the merge begins again: twice as much at a time comes to an end.
            version = connection.execute("PRAGMA data_version").fetchone()[0], self._batches
            if self._merging is not None:
                self._merge_pages *= 1 if version == self._merging else 2
            else:
                self._merge_pages = erasure.MERGE_PAGES
            if not erasure.merge(connection, self._merge_pages):
                self._merging = version
                return True, erasure.pending(connection)
            self._merging = None
            pending = erasure.finish(connection, erasure.WAIT_MS)
            self._pending_since = time.monotonic() if pending else None
            return False, pending

    def maintain(self, *, vacuum: bool = False) -> Maintained:
        """See `Store.maintain`; creates no store."""
        if connect.is_empty(self._path):
            return Maintained(exists=False)
        self.sign()
        return maintenance.maintain(self._path, self._turn, self.tidy, vacuum=vacuum)

    def has_chores(self) -> bool:
        """Whether a quiet moment should be used for `do_chores`."""
        return self._connection is not None and (self._pending_since is not None or self._chores.due())

    def do_chores(self, quiet: Callable[[], bool] = lambda: True) -> None:
        """Housekeeping in short turns, as long as it stays `quiet`; what cannot be done now is left for later."""
        while self._pending_since is not None and quiet() and self.tidy()[0]:
            pass
        with self._turn() as connection:
            self._chores.do(connection)

    def sign(self) -> None:
        """Sign the head, where there is a key and it is not signed yet; a transaction of its own.

        Raises:
            StoreError: nothing was signed. What was appended stays as it is.
        """
        self._signed_at = time.monotonic()
        try:
            with self._turn() as connection:
                # What was changed behind this process's back must not get its signature.
                signing.check_memory(connection, self._path, self._keeper, self._own(), elsewhere=False)
                signed, _ = self._transaction(
                    connection,
                    lambda inserts: signing.sign(connection, inserts.tail, self._keeper, inserts.insert),
                )
        except StoreBusy:
            raise  # it stays unsigned, so it is tried again
        except StoreRolledBack:
            self._disconnect()  # so that the next append is refused with the same words
            self.unsigned = False
            raise
        except BaseException:
            self.unsigned = False
            raise
        self.unsigned = False
        if signed is not None:
            # Only now: a head that is remembered and not there after a power cut would look like forgery.
            self._keeper.remember(*signed)

    def rotate_key(self, *, lost: bool = False) -> KeyChange:
        """See `Store.rotate_key`; creates no store."""
        if connect.is_empty(self._path):
            raise NoStore(f"there is no store at {self._path} yet, so it has no key to change")
        with self._turn() as connection:

            def work(inserts: Inserts) -> rotation.Announced:
                return rotation.announce(connection, inserts.tail, self._keeper, inserts.insert, lost=lost)

            announced, _ = self._transaction(connection, work)
        rotation.take_over(announced, self._keeper, self.sign)
        return announced.change

    def sign_in_s(self) -> float | None:
        """Seconds until the head is to be signed; None if there is nothing to sign."""
        return max(0.0, self._signed_at + SIGN_EVERY_S - time.monotonic()) if self.unsigned else None

    def close(self) -> None:
        """Sign, then close under the turnstile, because the last connection to close checkpoints."""
        if self.unsigned:
            with suppress(CcnError):  # the next process signs
                self.sign()
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
            signing.check_memory(connection, self._path, self._keeper, self._own())
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
        body[GENESIS_KEY_FIELD] = key
    return Draft(Kind.GENESIS, time_us, body)
