"""Change notifications: what any process writes to the store is announced to the clients of this one.

Once a second the store's files are looked at (two `stat` calls); only when they have changed, and only while
somebody listens, the log is read. Nothing is opened or created before that. Where it is not known what has
changed, everything is announced: a needless reading costs a client less than a missed change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.subscriptions import ResourceUpdated, ServerEvent
from mcp_types import EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

from ccn_mcp.domain.errors import CcnError
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Record, RecordQuery
from ccn_mcp.node.node import Node
from ccn_mcp.server import resources

POLL_S: Final = 1.0
SETTLED_POLLS: Final = 3
"""Equal looks after which the files are believed to be unchanged: two writes may fall into one clock tick."""

ENTRIES_MAX: Final = 50
"""More new entries than this are not looked at one by one."""

LEGACY_SUBSCRIPTIONS_MAX: Final = 256
_FOLLOWED: Final = "ccn/subscriptions"
SEND_S_MAX: Final = 5.0

ALWAYS: Final = (resources.HEAD,)
MEANS: Final = {
    Kind.MESSAGE: (resources.CONVERSATIONS,),
    Kind.CONVERSATION: (resources.CONVERSATIONS,),
    Kind.REDACTION: (resources.CONVERSATIONS,),
    Kind.VECTOR: (resources.CONSENSUS, resources.INSTANCES, resources.CHARACTER),
    Kind.METRIC: (resources.CHARACTER,),
    Kind.CONSENSUS: (resources.CONSENSUS, resources.INSTANCES, resources.CHARACTER),
    Kind.INSTANCE: (resources.INSTANCES, resources.CONSENSUS, resources.CHARACTER),
    Kind.PLATE: (resources.PLATE, resources.CHARACTER, resources.CONSENSUS),
}
EVERYTHING: Final = (
    resources.HEAD,
    resources.CONVERSATIONS,
    resources.CONSENSUS,
    resources.INSTANCES,
    resources.PLATE,
    resources.CHARACTER,
)

Look = tuple[tuple[int, int, int] | None, ...]


class Announcer(InMemorySubscriptionBus):
    """The bus of the 2026-07-28 streams; it knows whether anybody listens, and reaches older sessions too."""

    def __init__(self) -> None:
        super().__init__()
        self.listening = 0
        self._legacy: dict[tuple[int, str], ServerSession] = {}

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """See `SubscriptionBus.subscribe`."""
        stop = super().subscribe(listener)
        self.listening += 1
        open_ = [True]

        def unsubscribe() -> None:
            if open_:
                open_.clear()
                self.listening -= 1
            stop()

        return unsubscribe

    @property
    def wanted(self) -> bool:
        """Whether an announcement would reach anybody."""
        return self.listening > 0 or bool(self._legacy)

    async def announce(self, uris: Iterable[str]) -> None:
        """Say that these resources have changed."""
        for uri in uris:
            await self.publish(ResourceUpdated(uri=uri))
            for key, session in list(self._legacy.items()):
                if key[1] == uri:
                    await self._send(key, session, uri)

    async def _send(self, key: tuple[int, str], session: ServerSession, uri: str) -> None:
        try:
            async with asyncio.timeout(SEND_S_MAX):
                await session.send_resource_updated(uri)
        except TimeoutError:
            return  # a client that does not read must not hold up the others; it gets the next one
        except Exception:  # noqa: BLE001  # whatever a session raises that has ended, it ends the watch of nobody else
            self._legacy.pop(key, None)

    def serve_legacy(self, server: MCPServer[Any]) -> None:
        """Answer `resources/subscribe`, which the older revisions have instead of a stream."""
        # The one way in mcp 2.3 to serve a method that the newest revision has dropped; its documentation
        # (MethodBinding) names it.
        low = server._lowlevel_server
        low.add_request_handler("resources/subscribe", SubscribeRequestParams, self._on_subscribe)
        low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, self._on_unsubscribe)

    async def _on_subscribe(
        self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        connection = _connection(ctx.session)
        if _FOLLOWED not in connection.state:
            connection.state[_FOLLOWED] = True
            connection.exit_stack.callback(self._forget, id(connection))
        self._legacy[id(connection), params.uri] = ctx.session
        while len(self._legacy) > LEGACY_SUBSCRIPTIONS_MAX:
            self._legacy.pop(next(iter(self._legacy)))
        return EmptyResult()

    async def _on_unsubscribe(
        self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        self._legacy.pop((id(_connection(ctx.session)), params.uri), None)
        return EmptyResult()

    def _forget(self, connection: int) -> None:
        """A session has ended: closed by its client, or idle for too long."""
        for key in [key for key in self._legacy if key[0] == connection]:
            del self._legacy[key]


def _connection(session: ServerSession) -> Connection:
    # A session object is made for each request; what stays, and knows when it ends, is its connection, which mcp 2.3
    # shows to handlers in no other way.
    return session._connection


@asynccontextmanager
async def watched(node: Node, announcer: Announcer) -> AsyncIterator[None]:
    """Announce changes for as long as the block lasts."""
    watch = asyncio.create_task(_watch(node, announcer, look(node.ctx.settings.db)))
    try:
        yield
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch


async def _watch(node: Node, announcer: Announcer, seen: Look) -> None:
    size: int | None = None
    equal = SETTLED_POLLS
    while True:
        await asyncio.sleep(POLL_S)
        now = look(node.ctx.settings.db)
        equal = equal + 1 if now == seen else 0
        if equal > SETTLED_POLLS:
            continue
        if not announcer.wanted:
            # Whoever comes later is told of everything at the next change.
            seen, size = now, None
            continue
        try:
            size, changed = await _changes(node, size, moved=now != seen)
        except CcnError:
            continue  # the store is busy or gone; the next look tries again, and the tools say what is wrong
        seen = now
        await announcer.announce(changed)


async def _changes(node: Node, known: int | None, *, moved: bool) -> tuple[int, tuple[str, ...]]:
    """The log's size now, and what has changed since `known`."""
    size = (await node.ctx.store.info()).head.size
    if size == known or (known is None and not moved and not size):
        return size, ()
    if known is None or size < known or size - known > ENTRIES_MAX:
        return size, EVERYTHING
    query = RecordQuery(after=known - 1, oldest_first=True, limit=ENTRIES_MAX)
    return size, of_records(await node.ctx.store.records(query))


def of_records(records: Iterable[Record]) -> tuple[str, ...]:
    """The resources that these new entries change, each once."""
    found = dict.fromkeys(ALWAYS)
    for record in records:
        found |= dict.fromkeys(MEANS.get(record.kind, ()))
        named = (record.body or {}).get("conversation")
        if record.kind in (Kind.MESSAGE, Kind.CONVERSATION) and isinstance(named, str):
            found[resources.CONVERSATION.format(id=named)] = None
    return tuple(found)


def look(path: Path) -> Look:
    """Size, time and identity of the store's file and its write-ahead log, without opening either."""
    return tuple(map(_stat, (path, path.with_name(path.name + "-wal"))))


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
