"""The floor of every MCP server: one tool that does nothing.

What a client pays for the protocol, the SDK and the pipe, before a server does any work of its own.
Run: `python bench/floors/nothing_server.py`.
"""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer

server: MCPServer = MCPServer("nothing", version="1", instructions="Does nothing.")


@server.tool()
async def noop(content: str) -> dict[str, int]:
    """Take a text and do nothing with it."""
    return {"chars": len(content)}


if __name__ == "__main__":
    server.run("stdio")
