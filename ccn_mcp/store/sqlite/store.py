"""`Store` on one SQLite file: a writer thread that commits in batches, an aiosqlite connection that reads.

No transaction spans an await: a batch is one call in the writer's thread, so a cancelled caller can leave
nothing open. Reads are single statements, and what they see only ever grows, so they need no transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ccn_mcp.domain.errors import CcnError, StoreBusy, StoreClosed, UnknownConversation
from ccn_mcp.domain.ledger import NO_LEAF, Head, parse_head
from ccn_mcp.domain.limits import BATCH_DRAFTS_MAX, STORE_WAIT_S_MAX, WAITING_DRAFTS_MAX
from ccn_mcp.domain.merkle import EMPTY_ROOT, Frontier
from ccn_mcp.domain.models import (
    Appended,
    Conversation,
    ConversationQuery,
    Group,
    MessagePage,
    MessageQuery,
    Record,
    RecordQuery,
    SearchPage,
    SearchQuery,
    Seat,
    StoreInfo,
    Verification,
)
from ccn_mcp.domain.verification import Tail, verify_rows
from ccn_mcp.ports import Progress
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.sqlite import connect, reads
from ccn_mcp.store.sqlite.log import SqliteLog, random_salt

if TYPE_CHECKING:
    import aiosqlite

EMPTY = Head(0, EMPTY_ROOT)


class SqliteStore:
    """See `ccn_mcp.ports.Store`. `path` need not exist; it is created by the first append."""

    def __init__(
        self, path: Path, *, salt: Callable[[], bytes] = random_salt, wait_s: float = STORE_WAIT_S_MAX
    ) -> None:
        self.path = path
        self._wait_s = wait_s
        self._log = SqliteLog(path, salt=salt, wait_s=wait_s)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ccn-writer")
        self._waiting: list[tuple[Group, asyncio.Future[Appended]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._reader: aiosqlite.Connection | None = None
        self._reader_identity: connect.Identity | None = None
        self._reader_lock = asyncio.Lock()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        try:
            if self._writer is not None:
                await asyncio.wait([self._writer])
            async with self._reader_lock:
                await self._close_reader()
        finally:
            # Runs to its end in its own thread even if this task is cancelled meanwhile.
            closed = asyncio.get_running_loop().run_in_executor(self._thread, self._log.close)
            self._thread.shutdown(wait=False)
            await asyncio.shield(closed)

    # ---- writing ----

    async def append(self, group: Group) -> Appended:
        """See `Store.append`."""
        if self._closed:
            raise StoreClosed("this store is closed; open it again")
        if len(self._waiting) >= WAITING_DRAFTS_MAX:
            raise StoreBusy(
                f"{WAITING_DRAFTS_MAX} writes are waiting already; nothing was written, try again later"
            )
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._waiting.append((group, future))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="ccn-writer")
        return await future

    async def _write(self) -> None:
        """Take everything that waits into one transaction, until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_DRAFTS_MAX], self._waiting[BATCH_DRAFTS_MAX:]
            groups = [group for group, _ in batch]
            futures = [future for _, future in batch]
            try:
                outcomes = await loop.run_in_executor(
                    self._thread,
                    self._log.append_batch,
                    groups,
                    # Asked in the thread once the turn has come: who gave up meanwhile is left out.
                    lambda index, futures=futures: not futures[index].cancelled(),
                )
            except BaseException as exc:
                for future in futures:
                    if not future.done():
                        future.set_exception(
                            exc
                            if isinstance(exc, CcnError)
                            else StoreClosed("the store's writer was stopped")
                        )
                if not isinstance(exc, CcnError):
                    raise
                continue
            for future, outcome in zip(futures, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, Appended):
                    future.set_result(outcome)
                elif outcome is not None:
                    future.set_exception(outcome)

    # ---- reading ----

    async def info(self) -> StoreInfo:
        """See `Store.info`."""
        rows = await self._rows(reads.HEAD, [])
        if not rows:
            return StoreInfo(None, EMPTY)
        store_id, size, frontier = rows[0]
        return StoreInfo(store_id, Head(size, Frontier.from_bytes(size, frontier).root()))

    async def records(self, query: RecordQuery) -> Sequence[Record]:
        """See `Store.records`."""
        return [reads.record(row) for row in await self._rows(*reads.records(query))]

    async def page(self, query: MessageQuery) -> MessagePage:
        """See `Store.page`."""
        counted = await self._rows(reads.TOTAL, [query.conversation_id])
        if not counted:
            raise UnknownConversation(
                f"there is no conversation {query.conversation_id!r} in this store; call get_history without "
                "arguments to list the existing ones"
            )
        messages = [reads.message(row) for row in await self._rows(*reads.page(query))]
        if query.newest:
            messages.reverse()
        total: int = counted[0][0]
        if reads.is_plain(query) and messages:
            # Positions in the conversation give the counts without counting.
            total = max(total, messages[-1].n)
            return MessagePage(tuple(messages), total, messages[0].n - 1, total - messages[-1].n)
        if not reads.is_plain(query):
            total = await self._number(*reads.count(query))
        first = messages[0].seq if messages else query.before
        older = await self._number(*reads.count(query, below=first)) if first is not None else 0
        if not messages and query.before is None and query.after is not None:
            # An empty page after a position: everything that matches lies before it.
            return MessagePage((), total, total, 0)
        return MessagePage(tuple(messages), total, older, max(0, total - older - len(messages)))

    async def search(self, query: SearchQuery) -> SearchPage:
        """See `Store.search`."""
        hits = [reads.hit(row) for row in await self._rows(*reads.search(query))]
        return SearchPage(tuple(hits[: query.limit]), len(hits) > query.limit, len(hits))

    async def conversations(self, query: ConversationQuery) -> Sequence[Conversation]:
        """See `Store.conversations`."""
        return [reads.conversation(row) for row in await self._rows(*reads.conversations(query))]

    async def seats(self, *, seen_since_us: int = 0, instance_id: str | None = None) -> Sequence[Seat]:
        """See `Store.seats`."""
        return [reads.seat(row) for row in await self._rows(*reads.seats(seen_since_us, instance_id))]

    async def verify(
        self, *, known_head: str | None = None, progress: Progress | None = None
    ) -> Verification:
        """See `Store.verify`. Runs in a thread of its own on a connection of its own."""
        return await asyncio.to_thread(verify_file, self.path, known_head, progress)

    async def _number(self, sql: str, values: Sequence[Any]) -> int:
        number: int = (await self._rows(sql, values))[0][0]
        return number

    async def _rows(self, sql: str, values: Sequence[Any]) -> list[reads.SqlRow]:
        """Run one statement; no rows while there is no store yet."""
        if self._closed:
            raise StoreClosed("this store is closed; open it again")
        try:
            async with self._reader_lock:
                reader = await self._open_reader()
                return list(await reader.execute_fetchall(sql, values)) if reader is not None else []
        except sqlite3.Error as exc:
            raise connect.translate(exc, self.path) from exc

    async def _open_reader(self) -> aiosqlite.Connection | None:
        identity = connect.identity_of(self.path)
        if self._reader is not None and identity == self._reader_identity:
            return self._reader
        await self._close_reader()
        if connect.is_empty(self.path):
            return None
        import aiosqlite  # not needed to start serving

        path = self.path

        def opened() -> sqlite3.Connection:
            connection = connect.connect(path)
            try:
                connection.execute("PRAGMA query_only = ON")
                ready = connect.read_format(connection, path) == connect.FORMAT_VERSION
            except BaseException:
                connection.close()
                raise
            if not ready:  # another process is creating it at this moment
                connection.close()
                raise _NotYet
            return connection

        try:
            self._reader = await aiosqlite.Connection(opened, iter_chunk_size=64)
        except _NotYet:
            return None
        self._reader_identity = identity
        return self._reader

    async def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is None:
            return
        # Closing the last connection of a file checkpoints it, so it happens in turn, like every write.
        turnstile = Turnstile(self.path, self._wait_s)
        try:
            await asyncio.to_thread(turnstile.__enter__)
            try:
                await reader.close()
            finally:
                turnstile.__exit__(None, None, None)
        finally:
            turnstile.close()


class _NotYet(Exception):  # never leaves this module
    pass


def verify_file(path: Path, known_head: str | None = None, progress: Progress | None = None) -> Verification:
    """Check the store file at `path` on a connection of its own; synchronous. See `Store.verify`."""
    wanted = parse_head(known_head) if known_head is not None else None
    if connect.is_empty(path):
        known = None if wanted is None else wanted[0] == 0 and EMPTY.matches(known_head or "")
        return Verification(None, 0, 0, 0, 0, EMPTY, None, known)
    with connect.our_words(path):
        turnstile = Turnstile(path)
        connection = connect.connect(path)
        try:
            connection.execute("PRAGMA query_only = ON")
            connect.read_format(connection, path)
            # One read transaction: writers go on, and this pass sees one state of the log.
            connection.execute("BEGIN")
            return _verify_connection(connection, known_head, progress)
        finally:
            with closing(turnstile), turnstile:
                connection.close()


def _verify_connection(
    connection: sqlite3.Connection, known_head: str | None, progress: Progress | None
) -> Verification:
    store_id, size, leaf, frontier = connection.execute(reads.VERIFY_TAIL).fetchone() or (
        bytes(16),
        0,
        NO_LEAF,
        b"",
    )
    tail = Tail(
        store_id=store_id,
        size=size,
        leaf=leaf,
        frontier=frontier,
        conversations=connection.execute(reads.VERIFY_CONVERSATIONS),
        instances=connection.execute(reads.VERIFY_INSTANCES),
        stray=connection.execute(reads.VERIFY_STRAY).fetchone()[0],
    )
    return verify_rows(connection.execute(reads.VERIFY_ROWS), tail, known_head=known_head, progress=progress)
