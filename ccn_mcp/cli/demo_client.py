"""One client of the demo: a process of its own with a real MCP connection to a server process of its own.

The demo drives it with one JSON object a line on stdin, `{"tool": …, "arguments": …}` or a list of such calls as
`{"calls": […]}`, and reads one JSON object a line from stdout. The end of stdin ends it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import anyio
from mcp import Client, StdioServerParameters, stdio_client
from mcp_types import Implementation

CALL_S_MAX: Final = 20.0
START_S_MAX: Final = 30.0


def main() -> None:
    """Connect, answer requests until stdin ends, disconnect."""
    parser = argparse.ArgumentParser("ccn_mcp.cli.demo_client", description=__doc__)
    parser.add_argument("--db", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--mode", required=True, help="legacy, or a protocol revision")
    options = parser.parse_args()
    anyio.run(_serve, options.db, options.name, options.mode)


def config_of(db: Path) -> Path:
    """The config folder that goes with a throw-away store."""
    return db.with_name("config")


async def _serve(db: str, name: str, mode: str) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "ccn_mcp", "serve", "--db", db],
        # Nothing of the person's own: neither keys nor the list of folders that are not recorded.
        env={"CCN_CONFIG_DIR": str(config_of(Path(db)))},
    )
    with anyio.fail_after(START_S_MAX) as starting:
        async with Client(
            stdio_client(server, errlog=sys.stderr),
            mode=mode,
            client_info=Implementation(name=name, version="1"),
            read_timeout_seconds=CALL_S_MAX,
        ) as client:
            starting.deadline = float("inf")
            tools = [tool.name for tool in (await client.list_tools()).tools]
            _answer({"protocol": client.protocol_version, "tools": tools})
            while line := await anyio.to_thread.run_sync(sys.stdin.readline):
                _answer(await _done(client, json.loads(line)))


async def _done(client: Client, request: dict[str, Any]) -> dict[str, Any]:
    calls = request.get("calls")
    if calls is None:
        return await _call(client, request)
    return {"results": [await _call(client, call) for call in calls]}


async def _call(client: Client, request: dict[str, Any]) -> dict[str, Any]:
    result = await client.call_tool(request["tool"], request["arguments"])
    wire = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    text = "\n".join(block["text"] for block in wire["content"] if block["type"] == "text")
    if wire.get("isError"):
        return {"error": text}
    return {"text": text, "result": wire.get("structuredContent"), "meta": wire.get("_meta", {})}


def _answer(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
