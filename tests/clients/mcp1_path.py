"""The whole path by the mcp 1.x client over stdio; `test_mcp1.py` runs it in a venv that holds mcp 1.30.

Run: `python -m tests.clients.mcp1_path SERVER_PYTHON DB HOME` from the project's root. Prints one JSON
line on success. SERVER_PYTHON is the interpreter that has `ccn_mcp`; this one has only mcp 1.x, so this
module and what it imports from here use the standard library and names that mcp 1.x and 2.x share.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from tests.clients.harness import TOOLS, WALK_S_MAX, Json, bare_environment, server_arguments, walk


async def main(server_python: str, db_path: Path, home: Path) -> Json:
    """Connect, walk, disconnect; returns what the test checks from outside."""
    command = StdioServerParameters(
        command=server_python, args=server_arguments(db_path), env=bare_environment(home), cwd=home
    )
    with anyio.fail_after(WALK_S_MAX):
        async with stdio_client(command) as (read, write), ClientSession(read, write) as session:
            hello: Any = await session.initialize()
            listed = await session.list_tools()
            assert {tool.name for tool in listed.tools} >= TOOLS

            async def call(tool: str, arguments: Json) -> Json:
                result = await session.call_tool(tool, arguments)
                answer: Json = result.model_dump(mode="json", by_alias=True, exclude_none=True)
                return answer

            path = await walk(call)
    return {
        "client": version("mcp"),
        "revision": hello.model_dump(by_alias=True)["protocolVersion"],
        "conversation_id": path.conversation_id,
    }


if __name__ == "__main__":
    interpreter, db, own_home = sys.argv[1:]
    print(json.dumps(anyio.run(main, interpreter, Path(db), Path(own_home))))
