"""The MCP server: built thin, so that a client sees the tools as soon as the SDK can show them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.mcpserver import MCPServer

from ccn_mcp import __version__
from ccn_mcp.app import node_of
from ccn_mcp.domain.prompt import SERVER_INSTRUCTIONS
from ccn_mcp.node.context import Caller
from ccn_mcp.node.node import Node
from ccn_mcp.server.tools import tools
from ccn_mcp.settings import Settings

NAME = "ccn"
TITLE = "Continuity record"


def build_server(settings: Settings) -> MCPServer[Node]:
    """A server over the store that `settings` name. Building it, starting it and listing writes nothing."""

    @asynccontextmanager
    async def lifespan(_: MCPServer[Node]) -> AsyncIterator[Node]:
        async with node_of(settings, Caller(session_id=settings.session_id)) as node:
            yield node

    server: MCPServer[Any] = MCPServer(
        NAME,
        title=TITLE,
        instructions=SERVER_INSTRUCTIONS,
        version=__version__,
        tools=tools(),
        lifespan=lifespan,
        log_level="ERROR",
    )
    return server


def serve_stdio(settings: Settings) -> int:
    """Serve on stdin and stdout until the client closes them or interrupts; returns the exit status."""
    import anyio  # the SDK has imported it by now

    server = build_server(settings)
    try:
        anyio.run(server.run_stdio_async)
    except KeyboardInterrupt:
        # Clients end a server with SIGINT: a normal end, and everything acknowledged is on disk already.
        return 0
    return 0
