"""`Store` on one SQLite file: a writer thread that commits in batches, an aiosqlite connection that reads.

No transaction spans an await: a batch is one call in the writer's thread, so a cancelled caller can leave
nothing open. Reads are single statements, and what they see only ever grows, so they need no transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ccn_mcp.domain.erasure import TOMBSTONE, key_tombstone
from ccn_mcp.domain.errors import StoreClosed, UnknownConversation
from ccn_mcp.domain.ledger import Head
from ccn_mcp.domain.limits import STORE_WAIT_S_MAX
from ccn_mcp.domain.merkle import EMPTY_ROOT
from ccn_mcp.domain.models import (
    Appended,
    Conversation,
    ConversationQuery,
    Draft,
    Erased,
    Group,
    KeyChange,
    Line,
    LineQuery,
    Maintained,
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
from ccn_mcp.ports import Keeper, Progress
from ccn_mcp.store.nobody import NOBODY
from ccn_mcp.store.secret import Secret, no_secret
from ccn_mcp.store.sqlite import connect, reads
from ccn_mcp.store.sqlite.append import random_salt
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.relevance import relevance
from ccn_mcp.store.sqlite.writer import Writer

if TYPE_CHECKING:
    import aiosqlite

EMPTY = Head(0, EMPTY_ROOT)


class SqliteStore:
    """See `ccn_mcp.ports.Store`. `path` need not exist; it is created by the first append.

    Without a `secret` erasures leave no tombstones.
    """

    def __init__(
        self,
        path: Path,
        *,
        salt: Callable[[], bytes] = random_salt,
        secret: Secret = no_secret,
        keeper: Keeper = NOBODY,
        wait_s: float = STORE_WAIT_S_MAX,
    ) -> None:
        self.path = connect.real_path(path)
        self._wait_s = wait_s
        self._secret = secret
        self._keeper = keeper
        self._log = SqliteLog(path, salt=salt, secret=secret, keeper=keeper, wait_s=wait_s)
        self._writer = Writer(self._log)
        self._reader: aiosqlite.Connection | None = None
        self._opened: connect.Opened | None = None
        self._reader_lock = asyncio.Lock()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        try:
            async with self._reader_lock:
                await self._close_reader()
        finally:
            await self._writer.close()

    # ---- writing ----

    async def append(self, group: Group) -> Appended:
        """See `Store.append`."""
        self._check_open()
        return await self._writer.append(group)

    async def erase(self, redactions: Sequence[Draft], *, finish: bool = True) -> Erased:
        """See `Store.erase`."""
        self._check_open()
        return await self._writer.erase(redactions, finish=finish)

    async def maintain(self, *, vacuum: bool = False) -> Maintained:
        """See `Store.maintain`."""
        self._check_open()
        return await self._writer.maintain(vacuum=vacuum)

    async def rotate_key(self, *, lost: bool = False) -> KeyChange:
        """See `Store.rotate_key`."""
        self._check_open()
        return await self._writer.rotate_key(lost=lost)

    # ---- reading ----

    async def info(self) -> StoreInfo:
        """See `Store.info`."""
        rows = await self._rows(reads.HEAD, [])
        if not rows:
            return StoreInfo(None, EMPTY)
        store_id, size, frontier, pending, conversations = rows[0]
        head = Head(size, connect.frontier_of(self.path, size, frontier).root())
        return StoreInfo(store_id, head, pending, conversations)

    async def records(self, query: RecordQuery) -> Sequence[Record]:
        """See `Store.records`."""
        rows = await self._rows(*reads.records(query))
        if not rows and query.key is not None and (secret := self._secret(False)) is not None:
            left = key_tombstone(secret, query.principal or "", query.key)
            rows = await self._rows(*reads.records(replace(query, principal=TOMBSTONE, key=left)))
        return [reads.record(row) for row in rows]

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
        if reads.is_plain(query) and query.before is not None:
            below = await self._rows(reads.BELOW, [query.conversation_id, query.before])
            older = below[0][0] if below else 0
        elif reads.is_plain(query):
            older = 0
        else:
            first = messages[0].seq if messages else query.before if query.before is not None else 0
            total, older = (await self._rows(*reads.counts(query, first)))[0]
        if not messages and query.before is None and query.after is not None:
            # An empty page after a position: everything that matches lies before it.
            return MessagePage((), total, total, 0)
        return MessagePage(tuple(messages), total, older, max(0, total - older - len(messages)))

    async def lines(self, query: LineQuery) -> Sequence[Line]:
        """See `Store.lines`."""
        return [reads.line(row) for row in await self._rows(*reads.lines(query))]

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
        self,
        *,
        known_head: str | None = None,
        progress: Progress | None = None,
        deep: bool = False,
        newer: bool = False,
    ) -> Verification:
        """See `Store.verify`. Runs in a thread of its own on a connection of its own."""
        self._check_open()
        if self._closed:
            raise StoreClosed("this store is closed; open it again")
        self._still_there()
        return await asyncio.to_thread(
            verify_file,
            self.path,
            known_head,
            progress,
            self._wait_s,
            deep=deep,
            newer=newer,
            keeper=self._keeper,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("this store is closed; open it again")

    async def _rows(self, sql: str, values: Sequence[Any]) -> list[reads.SqlRow]:
        """Run one statement; no rows while there is no store yet."""
        self._check_open()
        try:
            async with self._reader_lock:
                reader = await self._open_reader()
                return list(await reader.execute_fetchall(sql, values)) if reader is not None else []
        except sqlite3.Error as exc:
            raise connect.translate(exc, self.path) from exc

    async def _open_reader(self) -> aiosqlite.Connection | None:
        if self._still_there() and self._reader is not None:
            return self._reader
        await self._close_reader()
        if connect.is_empty(self.path):
            return None
        import aiosqlite  # not needed to start serving

        path, identity = self.path, connect.identity_of(self.path)
        # Opened before aiosqlite has it: its thread would report a failure to a loop that may have ended.
        opened = await asyncio.to_thread(connect.connect_to_read, path, self._wait_s)
        if opened is None:
            return None
        opened.create_function(reads.RELEVANCE, 2, relevance, deterministic=True)
        self._reader = await aiosqlite.Connection(lambda: opened, iter_chunk_size=64)
        self._opened = connect.Opened(identity, connect.companions_of(path))
        return self._reader

    def _still_there(self) -> bool:
        # What the writer has open counts too: a new reader must not read a newcomer through its log.
        known = [opened for opened in (self._opened, self._log.opened) if opened is not None]
        return all(connect.still_there(self.path, opened) for opened in known)

    async def _close_reader(self) -> None:
        reader, self._reader, self._opened = self._reader, None, None
        # `stop` and not `close`: it is under way at once, so a cancelled caller leaves no thread behind.
        if reader is not None and (stopped := reader.stop()) is not None:
            await asyncio.shield(stopped)
