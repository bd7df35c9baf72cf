"""The floor of every MCP server that records: one tool, one durable INSERT, nothing else.

WAL and `synchronous=FULL`: the row survives a power cut before the tool answers, which is what
`record_message` promises too. Run: `python bench/floors/insert_server.py FILE`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiosqlite
from mcp.server.mcpserver import Context, MCPServer

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS entry (seq INTEGER PRIMARY KEY, role TEXT NOT NULL, content TEXT NOT NULL)"
)
INSERT = "INSERT INTO entry (role, content) VALUES (?, ?)"


@asynccontextmanager
async def _database(_: MCPServer[aiosqlite.Connection]) -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(sys.argv[1], isolation_level=None) as db:
        await db.execute("PRAGMA journal_mode=WAL")
        await db.execute("PRAGMA synchronous=FULL")
        await db.execute(SCHEMA)
        yield db


server: MCPServer[aiosqlite.Connection] = MCPServer(
    "insert", version="1", instructions="Inserts one row.", lifespan=_database
)


@server.tool()
async def insert(role: str, content: str, ctx: Context[aiosqlite.Connection]) -> dict[str, int]:
    """Insert one row and answer with its number."""
    cursor = await ctx.request_context.lifespan_context.execute(INSERT, (role, content))
    return {"seq": cursor.lastrowid or 0}


if __name__ == "__main__":
    server.run("stdio")
