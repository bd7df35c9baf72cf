"""The MCP server: built thin, so that a client sees the tools as soon as the SDK can show them."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp_types import Icon

from ccn_mcp import __version__
from ccn_mcp.app import node_of
from ccn_mcp.domain.prompt import INSTRUCTIONS_EXCLUDED, SERVER_INSTRUCTIONS
from ccn_mcp.node.context import Caller
from ccn_mcp.node.instances import leave
from ccn_mcp.node.node import Node
from ccn_mcp.server.notifications import Announcer, watched
from ccn_mcp.server.panel import Panel
from ccn_mcp.server.prompts import complete, prompts
from ccn_mcp.server.resources import add_resources, keeps_node
from ccn_mcp.server.tools import tools
from ccn_mcp.settings import Settings, config_folder

NAME = "ccn"
TITLE = "Continuity record"
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='%23777' "
    "stroke-width='2'%3E%3Crect x='2' y='8' width='12' height='8' rx='4'/%3E%3Crect x='10' y='8' width='12' "
    "height='8' rx='4'/%3E%3C/svg%3E"
).replace(" ", "%20")
"""Two links of a chain. On the server only and small: mcp 2.3 sends it with every answer of the 2026-07-28 revision."""

SWITCH_S = 0.001
LEAVING_S_MAX = 1.0
"""How long the end of a process may wait to record the end of its instances; clients kill after two seconds or so."""


def build_server(
    settings: Settings, *, stopped: list[signal.Signals] | None = None, one_client: bool = False
) -> MCPServer[Node]:
    """A server over the store that `settings` name. Building it, starting it and listing writes nothing.

    Once `stopped` holds a signal, the process ends as soon as everything that waited is written. `one_client`: the
    end of the server is the end of its client, so it ends the instances that it served.
    """

    announcer = Announcer()

    @asynccontextmanager
    async def lifespan(_: MCPServer[Node]) -> AsyncIterator[Node]:
        nodes = node_of(settings, Caller(session_id=settings.session_id))
        node = await nodes.__aenter__()
        node.ctx.private = partial(_is_private, settings)
        try:
            async with watched(node, announcer):
                yield node
        finally:
            # Shielded: a client that goes away must not cut off what it was told is recorded.
            with anyio.CancelScope(shield=True):
                if one_client:
                    with anyio.move_on_after(LEAVING_S_MAX):
                        await leave(node.ctx)
                await nodes.__aexit__(None, None, None)
            if stopped:
                os._exit(0)

    server: MCPServer[Any] = MCPServer(
        NAME,
        title=TITLE,
        instructions=SERVER_INSTRUCTIONS + (INSTRUCTIONS_EXCLUDED if settings.excluded else ""),
        version=__version__,
        icons=[Icon(src=ICON, mime_type="image/svg+xml", sizes=["any"])],
        tools=tools(),
        extensions=[Panel()],
        subscriptions=announcer,
        middleware=[keeps_node],
        lifespan=lifespan,
        log_level="CRITICAL",
    )
    add_resources(server)
    for prompt in prompts():
        server.add_prompt(prompt)
    server.completion()(complete)  # type: ignore[no-untyped-call]  # the SDK left its return type out
    announcer.serve_legacy(server)
    return server


def _is_private(settings: Settings) -> bool:
    """Whether the person has switched recording off in the Claude Code session that this server belongs to."""
    from ccn_mcp.interop import privacy  # only once something is to be recorded

    if settings.private or settings.session_id is None:
        return settings.private
    try:
        return privacy.is_on(privacy.marks(config_folder(settings), settings.session_id))
    except OSError:
        return True  # marks are there, and they cannot be read


def serve_stdio(settings: Settings) -> int:
    """Serve on stdin and stdout until the client closes them or interrupts; returns the exit status."""
    from ccn_mcp.server import stdio

    stopped: list[signal.Signals] = []
    server = build_server(settings, stopped=stopped, one_client=True)
    gc.freeze()
    gc.enable()
    # The writer takes the interpreter lock again after each statement; at the default of 5 ms a busy event loop
    # keeps it waiting, and 32 writes in flight take a quarter longer.
    sys.setswitchinterval(SWITCH_S)
    return stdio.run(server, stopped)
