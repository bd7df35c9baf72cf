"""The panel of MCP Apps (`io.modelcontextprotocol/ui`, specification 2026-01-26): one page in a host's sandbox.

The SDK has the same in `mcp.server.apps`; that module's models would be built at every start, for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mcp.server.extension import Extension, ResourceBinding
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resources import Resource

from ccn_mcp import data
from ccn_mcp.node.node import Node

URI: Final = "ui://ccn/panel.html"
MIME_TYPE: Final = "text/html;profile=mcp-app"
META_KEY: Final = "ccn/panel"
"""Of a result's `_meta`: for programs; a client passes it to the panel and not to the model."""

FILE: Final = "panel.html"


class PanelPage(Resource):
    """The page, read from the package when a host asks for it."""

    async def read(self) -> str:
        """See `Resource.read`."""
        return data.read(FILE).decode()


class Panel(Extension):
    """Announces MCP Apps and serves the page; the tool that shows it names it in its `_meta` (`catalogue.py`)."""

    identifier = "io.modelcontextprotocol/ui"

    def resources(self) -> Sequence[ResourceBinding]:
        """See `Extension.resources`."""
        page = PanelPage(
            uri=URI,
            name="panel",
            title="Panel",
            description="Who is connected, drift over time, the traits; shown by clients that render MCP Apps.",
            mime_type=MIME_TYPE,
            meta={"ui": {"prefersBorder": True}},
        )
        return [ResourceBinding(resource=page)]


async def panel_meta(node: Node, ctx: Context[Node, Any]) -> dict[str, Any] | None:
    """`_meta` of a result that the panel shows, for a client that said it renders MCP Apps; else None."""
    from mcp.server.apps import client_supports_apps  # not needed to start serving

    if not client_supports_apps(ctx):
        return None
    from ccn_mcp.node.panel import panel_numbers

    return {META_KEY: await panel_numbers(node.ctx)}
