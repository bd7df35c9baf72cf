"""Start the servers of a client's configuration exactly as written, and use them: `check_config.py FILE`.

The store is a throw-away one, named by CCN_DB; nothing of yours is read or written.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters, stdio_client

LIMIT_S = 60


async def check(server: dict[str, object], folder: str) -> None:
    """Record a message with one process and find it with another."""
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.defpath))
    command = StdioServerParameters.model_validate(
        {**server, "env": {"PATH": programs, "HOME": folder, "CCN_DB": str(Path(folder, "ccn.db"))}}
    )
    with anyio.fail_after(LIMIT_S):
        async with Client(stdio_client(command)) as client:
            tools = {tool.name for tool in (await client.list_tools()).tools}
            assert {"load_plate", "record_message", "get_history"} <= tools, tools
            said = {"role": "user", "content": "seventeen herons"}
            recorded = await client.call_tool("record_message", said)
            assert not recorded.is_error, recorded.content
        async with Client(stdio_client(command)) as client:
            found = await client.call_tool("get_history", {"query": "herons"})
            assert found.structured_content is not None
            assert "seventeen" in found.structured_content["hits"][0]["excerpt"]


def main(file: Path) -> None:
    """Check each server of the file."""
    servers = json.loads(file.read_text("utf-8"))["mcpServers"]
    assert servers, f"{file} names no server"
    for name, server in servers.items():
        server.pop("type", None)  # Claude Code's word for what the SDK takes for granted
        with tempfile.TemporaryDirectory() as folder:
            anyio.run(check, server, folder)
        print(f"{file.name}: {name} works")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: check_config.py FILE")
    main(Path(sys.argv[1]))
