"""The end of a server process: its instances end with it, and come back with their next call."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import RecordQuery
from ccn_mcp.node.node import Node
from tests.node.world import node_on
from tests.server.wire import Server

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "store" / "ccn.db"


def events(db: Path, instance_id: str) -> list[Any]:
    async def read() -> list[Any]:
        async with node_on(db) as node:
            assert (await node.verify_chain(deep=True))["ok"]
            return await events_of(node, instance_id)

    return anyio.run(read)


async def events_of(node: Node, instance_id: str) -> list[Any]:
    query = RecordQuery(kinds=(Kind.INSTANCE,), subject=instance_id, oldest_first=True, limit=100)
    return [record.body["event"] for record in await node.ctx.store.records(query) if record.body]


def end(server: Server, how: str) -> None:
    if how == "EOF":
        assert server.process.stdin is not None
        server.process.stdin.close()
    else:
        server.process.send_signal(signal.Signals[how])
    status, errors = server.end()
    assert (status in (0, -signal.SIGKILL), errors) == (True, "")


@pytest.mark.parametrize(
    "how", ["EOF", pytest.param("SIGTERM", marks=posix), pytest.param("SIGINT", marks=posix)]
)
def test_a_clean_exit_ends_the_instances_of_the_process(db: Path, how: str) -> None:
    with Server(db) as server:
        mine = server.call("load_plate", {"model": "m"})["_meta"]["ccn/instance_id"]
        end(server, how)
    assert events(db, mine) == ["opened", "loaded", "terminated"]
    with Server(db) as server:
        status = server.call("consensus_status", {})["structuredContent"]
        assert (status["connected"], status["instances"]) == (0, [])
        judged = server.call("report_character_vector", {"instance_id": mine, "traits": [0.8] * 16})
        assert not judged.get("isError"), "the chat came back, and its instance with it"
        assert json.loads(judged["content"][0]["text"])["participants"] == 1
        server.call("record_message", {"role": "user", "content": "again", "instance_id": mine})
        end(server, how)
    assert events(db, mine)[3:] in (["returned", "terminated"], ["returned", "flagged", "terminated"])


@posix
def test_one_that_is_killed_stays_until_its_lease_runs_out(db: Path) -> None:
    with Server(db) as server:
        mine = server.call("load_plate", {})["_meta"]["ccn/instance_id"]
        end(server, "SIGKILL")
    assert events(db, mine) == ["opened", "loaded"]


def test_a_process_that_has_served_nobody_writes_nothing(db: Path) -> None:
    with Server(db) as server:
        server.call("record_message", {"role": "user", "content": "one"})
        head = server.call("verify_chain", {})["structuredContent"]["head"]
        end(server, "EOF")
    with Server(db) as server:
        assert server.call("verify_chain", {})["structuredContent"]["head"] == head
