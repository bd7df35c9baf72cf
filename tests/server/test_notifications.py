"""What one process writes, another one's clients are told: over stdio, in both eras, and nothing while it is quiet."""

from __future__ import annotations

import asyncio
import sys
import warnings
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.subscriptions import ResourceUpdated
from mcp_types import ResourceUpdatedNotification

from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Record
from ccn_mcp.node.node import Node
from ccn_mcp.server import app as server_app
from ccn_mcp.server import notifications
from ccn_mcp.server.app import build_server
from ccn_mcp.server.notifications import EVERYTHING, Announcer, look, of_records, watched
from ccn_mcp.settings import Settings
from tests.clients.harness import ROOT, bare_environment, server_arguments
from tests.node.world import node_on, plate_of
from tests.server.http_wire import ACCEPT, CLIENT_INFO, request
from tests.server.wire import Server

pytestmark = pytest.mark.anyio
WAIT_S: Final = 60.0
ALL: Final = (
    "ccn://chain/head",
    "ccn://conversations",
    "ccn://consensus",
    "ccn://instances",
    "ccn://plate",
)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "ccn.db"


def listening(db: Path, tmp_path: Path, era: str, **extra: Any) -> Client:
    home = tmp_path / "home"
    command = StdioServerParameters(
        command=sys.executable, args=server_arguments(db), env=bare_environment(home), cwd=ROOT
    )
    return Client(stdio_client(command), mode=era, **extra)


async def until(subscription: Any, wanted: set[str]) -> set[str]:
    """What is announced until every wanted resource was."""
    seen: set[str] = set()
    with anyio.fail_after(WAIT_S):
        async for event in subscription:
            assert isinstance(event, ResourceUpdated)
            seen.add(event.uri)
            if wanted <= seen:
                return seen
    raise AssertionError(f"the stream ended after {seen}")


async def test_a_write_of_another_process_is_announced(db: Path, tmp_path: Path) -> None:
    async with (
        listening(db, tmp_path, "auto") as client,
        client.listen(resource_subscriptions=ALL) as subscription,
    ):
        assert not await anyio.Path(db).exists(), "watching must not create the store"
        with Server(db) as other:
            said = {"role": "user", "content": "heron"}
            await asyncio.to_thread(other.call, "record_message", said)
            # Nothing is known of the store before its first change, so all of it is announced.
            assert await until(subscription, set(ALL)) == set(ALL)
            await asyncio.to_thread(other.call, "record_message", said)
            seen = await until(subscription, {"ccn://chain/head", "ccn://conversations"})
            assert seen == {"ccn://chain/head", "ccn://conversations"}
            await asyncio.to_thread(other.call, "load_plate", {})
            await until(subscription, {"ccn://plate", "ccn://instances", "ccn://consensus"})


async def test_a_session_of_an_older_revision_is_told_too(db: Path, tmp_path: Path) -> None:
    told = asyncio.Event()

    async def on_message(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification) and message.params.uri == "ccn://chain/head":
            told.set()

    async with listening(db, tmp_path, "legacy", message_handler=on_message) as client:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            await client.subscribe_resource("ccn://chain/head")
            async with node_on(db) as node:
                await node.record_message("user", "heron")
            with anyio.fail_after(WAIT_S):
                await told.wait()
            await client.unsubscribe_resource("ccn://chain/head")


async def test_a_session_that_ends_leaves_no_subscription_behind(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP, where one process outlives its sessions: the client's goodbye ends what it subscribed to."""
    made: list[Any] = []

    class Seen(Announcer):
        def __init__(self) -> None:
            super().__init__()
            self.ended = asyncio.Event()
            made.append(self)

        def _forget(self, connection: int) -> None:
            super()._forget(connection)
            self.ended.set()

    monkeypatch.setattr(server_app, "Announcer", Seen)
    app = build_server(Settings(db=db)).streamable_http_app(
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False)
    )
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as web,
    ):
        (announcer,) = made
        one, two = await begun(web), await begun(web)
        for session in (one, two):
            for uri in ("ccn://chain/head", "ccn://plate"):
                for _ in range(3):
                    await asked(web, session, "resources/subscribe", uri)
        assert len(announcer._legacy) == 4
        await asked(web, one, "resources/unsubscribe", "ccn://plate")
        assert len(announcer._legacy) == 3
        await web.delete("/mcp", headers={"mcp-session-id": two})
        with anyio.fail_after(WAIT_S):
            await announcer.ended.wait()
        assert len(announcer._legacy) == 1
        announcer.ended.clear()
        await web.delete("/mcp", headers={"mcp-session-id": one})
        with anyio.fail_after(WAIT_S):
            await announcer.ended.wait()
        assert not announcer.wanted


async def begun(web: httpx2.AsyncClient) -> str:
    """A session of the older revisions; its id."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT_INFO}
    opened = await web.post("/mcp", json=request(0, "initialize", params), headers=ACCEPT)
    session = str(opened.headers["mcp-session-id"])
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    await web.post("/mcp", json=ready, headers={**ACCEPT, "mcp-session-id": session})
    return session


async def asked(web: httpx2.AsyncClient, session: str, method: str, uri: str) -> None:
    sent = request(1, method, {"uri": uri})
    answer = await web.post("/mcp", json=sent, headers={**ACCEPT, "mcp-session-id": session})
    assert answer.status_code == 200
    assert '"result"' in answer.text


async def test_a_process_tells_its_own_clients_of_its_own_writes(db: Path) -> None:
    async with (
        Client(build_server(Settings(db=db))) as client,
        client.listen(resource_subscriptions=ALL) as subscription,
    ):
        await client.call_tool("record_message", {"role": "user", "content": "heron"})
        await until(subscription, {"ccn://conversations"})


def test_each_kind_of_entry_changes_what_shows_it() -> None:
    def changed(kind: Kind, **body: Any) -> set[str]:
        return set(of_records([Record(1, 0, kind, body)]))

    assert changed(Kind.MESSAGE, conversation="c_1") == {
        "ccn://chain/head",
        "ccn://conversations",
        "ccn://conversations/c_1",
    }
    assert changed(Kind.PLATE) >= {"ccn://plate", "ccn://chain/head"}
    assert changed(Kind.CONSENSUS) >= {"ccn://consensus", "ccn://instances"}
    assert changed(Kind.GENESIS) == {"ccn://chain/head"}
    assert set(ALL) <= set(EVERYTHING)
    assert notifications.POLL_S >= 1


async def test_a_quiet_store_is_not_read_and_nobody_is_told(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = counts_looks(monkeypatch)
    async with node_on(db) as node:
        await node.set_plate(plate_of())
        reads = count_reads(node, monkeypatch)
        heard: list[str] = []
        announcer = Announcer()
        stop = announcer.subscribe(lambda event: heard.append(getattr(event, "uri", "")))
        async with watched(node, announcer):
            with anyio.fail_after(WAIT_S):
                await looked.wait()
        assert (reads, heard) == ([], [])
        stop()
        stop()
        assert not announcer.wanted


def counts_looks(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Polls follow each other at once; the event is set after some of them."""
    monkeypatch.setattr(notifications, "POLL_S", 0.001)
    looks: list[Path] = []
    enough = asyncio.Event()

    def counted(path: Path) -> Any:
        looks.append(path)
        if len(looks) > 30:
            enough.set()
        return look(path)

    monkeypatch.setattr(notifications, "look", counted)
    return enough


def count_reads(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    reads: list[int] = []
    info = node.ctx.store.info

    async def counted() -> Any:
        reads.append(1)
        return await info()

    monkeypatch.setattr(node.ctx.store, "info", counted)
    return reads


async def test_a_store_that_cannot_be_read_ends_no_watch(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = counts_looks(monkeypatch)
    heard = asyncio.Event()
    async with node_on(db) as node:
        announcer = Announcer()
        announcer.subscribe(lambda _: heard.set())
        async with watched(node, announcer):
            await anyio.Path(db).mkdir()  # a folder instead of a store
            with anyio.fail_after(WAIT_S):
                await looked.wait()
            assert not heard.is_set()
            await anyio.Path(db).rmdir()
            async with node_on(db, seed="other") as other:
                await other.record_message("user", "heron")
            with anyio.fail_after(WAIT_S):
                await heard.wait()
