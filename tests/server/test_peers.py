"""A peer task from end to end: four clients, one server process and another on the same record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from mcp.client import Client

from ccn_mcp.domain.character import TRAITS
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import RecordQuery
from ccn_mcp.server.app import build_server
from ccn_mcp.settings import Settings
from tests.node.world import node_on
from tests.server.wire import Server

pytestmark = pytest.mark.anyio
WAIT_S: Final = 60


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[list[Client]]:
    """Two era's clients, each with a server of its own over one record."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Client(build_server(Settings(db=tmp_path / "ccn.db")), mode=mode, read_timeout_seconds=WAIT_S)
            )
            for mode in ("auto", "legacy", "auto", "legacy")
        ]


async def call(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    return result.structured_content or {}


async def test_four_clients_one_is_rated_by_the_others(clients: list[Client], tmp_path: Path) -> None:
    who = []
    for client in clients:
        meta = (await client.call_tool("load_plate", {})).meta or {}
        who.append({"instance_id": meta["ccn/instance_id"]})
        talk = meta["ccn/conversation_id"]
    rated, mine = clients[-1], who[-1]
    for number in range(3):
        for role in ("user", "assistant"):
            await call(
                rated, "record_message", role=role, content=f"{role} says {number}", conversation_id=talk
            )
    asked = await call(rated, "validate_character", kind="peer", **mine)
    assert asked["peers"]["handed_to"] == 3
    for client, other, score in zip(clients, who[:-1], (1, 2, 5), strict=False):
        assert "peer task waits" in (await call(client, "consensus_status", **other))["note"]
        task = await call(client, "validate_character", kind="peer", **other)
        assert task["run_id"] == asked["run_id"]
        assert "> assistant says 2" in task["record"]
        assert mine["instance_id"] not in str(task)
        scores = dict.fromkeys(TRAITS, score)
        done = await call(
            client, "validate_character", kind="peer", run_id=task["run_id"], scores=scores, **other
        )
        assert done["state"] == "recorded"
    await call(rated, "report_character_vector", traits=[0.9] * 16, **mine)
    stands = await call(rated, "validate_character", kind="peer", run_id=asked["run_id"], **mine)
    assert stands["state"] == "recorded"
    assert stands["peers"]["median"] == dict.fromkeys(TRAITS, 0.4)
    async with node_on(tmp_path / "ccn.db", seed="reader") as node:
        (last, *_) = await node.ctx.store.records(RecordQuery(kinds=(Kind.VALIDATION,), limit=1))
    assert last.body is not None
    assert (last.body["event"], last.body["measured_by"]) == ("peer_measured", "peer")


@pytest.mark.slow
def test_four_server_processes_on_one_record(tmp_path: Path) -> None:
    db = tmp_path / "data" / "ccn.db"
    with Server(db) as one, Server(db) as two, Server(db) as three, Server(db) as four:
        servers = [one, two, three, four]
        loaded = [server.call("load_plate", {})["_meta"] for server in servers]
        who = [{"instance_id": meta["ccn/instance_id"], "kind": "peer"} for meta in loaded]
        for number in range(3):
            said = {"role": "assistant", "content": f"answer {number}"}
            four.call("record_message", {**said, "conversation_id": loaded[3]["ccn/conversation_id"]})
        asked = four.call("validate_character", who[3])["structuredContent"]
        assert asked["state"] == "open"
        for server, mine in zip(servers[:3], who[:3], strict=True):
            task = server.call("validate_character", mine)["structuredContent"]
            assert "> answer 2" in task["record"]
            server.call("validate_character", {**mine, "run_id": task["run_id"], "scores": [4] * 16})
        stands = four.call("validate_character", {**who[3], "run_id": asked["run_id"]})["structuredContent"]
        assert (stands["state"], stands["peers"]["rated"]) == ("recorded", 3)
        assert stands["peers"]["median"] == {}, "it has not reported, so it is shown no numbers"
