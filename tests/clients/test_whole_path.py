"""The whole path by the mcp 2.3 client: in memory and over stdio, in both protocol eras."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.server.mcpserver import MCPServer

from ccn_mcp import __version__
from ccn_mcp.server.app import build_server
from ccn_mcp.settings import Settings
from tests.clients.harness import (
    TOOLS,
    WALK_S_MAX,
    Call,
    Json,
    Walk,
    bare_environment,
    recall,
    server_arguments,
    verify,
    walk,
)

MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"
MODES: Final = [("legacy", LEGACY), ("auto", MODERN), (MODERN, MODERN)]
"""How a client negotiates, and the revision that must come of it."""


@pytest.fixture
def server(tmp_path: Path) -> MCPServer[Any]:
    """Our server in this process, on a store of its own. THE ONE PLACE that knows how to build it."""
    return build_server(Settings(db=tmp_path / "record.db"))


@pytest.fixture
def command(tmp_path: Path) -> StdioServerParameters:
    """Our server as a process, with nothing of the person's in its environment."""
    home = tmp_path / "home"
    return StdioServerParameters(
        command=sys.executable,
        args=server_arguments(tmp_path / "record.db"),
        env=bare_environment(home),
        cwd=home,
    )


@pytest.mark.anyio
@pytest.mark.parametrize(("mode", "revision"), MODES)
async def test_the_whole_path_in_memory(server: MCPServer[Any], mode: str, revision: str) -> None:
    with anyio.fail_after(WALK_S_MAX):
        async with Client(server, mode=mode) as client:
            await _first_visit(client, mode, revision)


@pytest.mark.anyio
@pytest.mark.parametrize(("mode", "revision"), MODES)
async def test_the_whole_path_over_stdio(
    command: StdioServerParameters, tmp_path: Path, mode: str, revision: str
) -> None:
    stderr_path = tmp_path / "stderr.txt"
    with stderr_path.open("w", encoding="utf-8") as stderr:
        with anyio.fail_after(WALK_S_MAX):
            async with Client(stdio_client(command, errlog=stderr), mode=mode) as client:
                path = await _first_visit(client, mode, revision)
        other = "legacy" if revision == MODERN else MODERN
        with anyio.fail_after(WALK_S_MAX):
            async with Client(stdio_client(command, errlog=stderr), mode=other) as client:
                await _second_visit(client, path)
    assert stderr_path.read_text(encoding="utf-8") == "", "a client logs every stderr line as an error"


async def _first_visit(client: Client, mode: str, revision: str) -> Walk:
    assert client.protocol_version == revision
    if mode != MODERN:  # a pinned client asks nobody who the server is
        assert client.server_info is not None
        assert client.server_info.version == __version__
        assert client.instructions
    listed = await client.list_tools()
    assert {tool.name for tool in listed.tools} >= TOOLS
    return await walk(_caller(client))


async def _second_visit(client: Client, path: Walk) -> None:
    """A new process, in the other era, finds what the first one wrote."""
    call = _caller(client)
    await recall(call, path.conversation_id)
    await verify(call, path.head)


def _caller(client: Client) -> Call:
    async def call(tool: str, arguments: Json) -> Json:
        result = await client.call_tool(tool, arguments)
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)

    return call
