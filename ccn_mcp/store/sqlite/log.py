"""The writing half of a store: what `append.py` does, and everything else that is done to a log under the turnstile."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ccn_mcp.domain.errors import (
    CcnError,
    NoStore,
    NotFound,
    StoreBusy,
    StoreError,
    StoreRolledBack,
    TooLarge,
)
from ccn_mcp.domain.ledger import Head
from ccn_mcp.domain.limits import ERASURES_PER_BATCH_MAX, STORE_WAIT_S_MAX, WAL_PAGES_MAX
from ccn_mcp.domain.merkle import EMPTY_ROOT
from ccn_mcp.domain.models import Draft, Erased, KeyChange, Maintained
from ccn_mcp.ports import Keeper
from ccn_mcp.store.nobody import NOBODY
from ccn_mcp.store.secret import Secret, no_secret
from ccn_mcp.store.sqlite import checks, connect, erasure, maintenance, rotation, signing
from ccn_mcp.store.sqlite.append import Appender, random_salt
from ccn_mcp.store.sqlite.append import Outcome as Outcome
from ccn_mcp.store.sqlite.insert import Inserts

SIGN_EVERY_S: Final = 5.0
"""How long a head may stay unsigned while its process runs; on a normal end it is signed at once."""


class SqliteLog(Appender):
    """Appends, erases, signs and keeps the file small. Not thread-safe: one thread owns it. See `Appender`."""

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
        super().__init__(
            path, salt=salt, secret=secret, keeper=keeper, wait_s=wait_s, wal_pages_max=wal_pages_max
        )
        self._signed_at = time.monotonic()
        self._merging: tuple[int, int] | None = None
        self._merge_pages = erasure.MERGE_PAGES
        self._chores = maintenance.Chores(self._path)

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
        """Sign, then close."""
        if self.unsigned:
            with suppress(CcnError):  # the next process signs
                self.sign()
        super().close()
