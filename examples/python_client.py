"""A whole visit by a client of your own, over stdio, on a throw-away store: `python examples/python_client.py`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters, stdio_client

LIMIT_S = 60


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """One tool call; its structured content."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return dict(result.structured_content)


async def visit(db: Path) -> None:
    """Load the Plate, record two messages, find one again, report, verify."""
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "ccn_mcp", "serve", "--db", str(db)],
        env={"CCN_CONFIG_DIR": str(db.with_name("config"))},  # a throw-away store leaves no keys of its own
    )
    async with Client(stdio_client(command)) as client:
        # What the model reads is prose; the ids are in it, and for programs in _meta.
        loaded = (await client.call_tool("load_plate", {"title": "A walk"})).model_dump(by_alias=True)
        ids = loaded["_meta"]
        assert ids["ccn/instance_id"] in loaded["content"][0]["text"]
        here = {"conversation_id": ids["ccn/conversation_id"]}

        await call(client, "record_message", role="user", content="We counted seventeen herons.", **here)
        done = await call(client, "record_message", role="assistant", content="Noted.", **here)
        again = await call(client, "get_history", **here)
        assert [item["text"] for item in again["messages"]] == ["We counted seventeen herons.", "Noted."]
        found = await call(client, "get_history", query="heron*")
        assert len(found["hits"]) == 1

        judged = await call(
            client, "report_character_vector", traits=[0.8] * 16, instance_id=ids["ccn/instance_id"]
        )
        print(f"reported: {judged['action']} ({judged['why']})")

        checked = await call(client, "verify_chain", known_head=done["head"])
        assert checked["ok"]
        assert checked["known_head_matches"]
        print(f"verified: {checked['meaning']}")


async def main() -> None:
    """Visit, within a time limit."""
    with anyio.fail_after(LIMIT_S), tempfile.TemporaryDirectory() as folder:
        await visit(Path(folder) / "ccn.db")


if __name__ == "__main__":
    anyio.run(main)
