"""What `doctor` tries out, on a store of its own: record, read, search, verify, tamper; and MCP in memory."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from ccn_mcp.cli.doctor_checks import Check, Finding
from ccn_mcp.settings import Settings

TEXT: Final = "The doctor counts seventeen herons."
WORD: Final = "herons"
TRIAL_S_MAX: Final = 30.0
_FOLDER: Final = "ccn-doctor-"


def self_test(_: Settings) -> Iterator[Finding]:
    """A store in a temporary folder, from the first message to a forgery."""
    with tempfile.TemporaryDirectory(prefix=_FOLDER, ignore_cleanup_errors=True) as folder:
        db = Path(folder) / "trial.db"
        seq = asyncio.run(asyncio.wait_for(_record(db), TRIAL_S_MAX))
        yield Finding(
            "self-test", "ok", "recorded, read, searched and verified a message on a store of its own"
        )
        _forge(db, seq)
        found = asyncio.run(asyncio.wait_for(_verify(db), TRIAL_S_MAX))
        if found == seq:
            yield Finding("forgery", "ok", "an edit behind the program's back is found, with its position")
        else:
            yield Finding("forgery", "fail", f"verify named entry {found}, not {seq}", "please report this")


async def _record(db: Path) -> int:
    from ccn_mcp.app import open_node

    async with open_node(settings=Settings(db=db, config_dir=db.parent / "config")) as node:
        recorded = await node.record_message("user", TEXT)
        page = await node.get_history(conversation_id=recorded["conversation_id"])
        hits = await node.get_history(query=WORD)
        checked = await node.verify_chain(known_head=recorded["head"])
    done = {
        "read": [message["text"] for message in page["messages"]] == [TEXT],
        "search": [hit["seq"] for hit in hits["hits"]] == [recorded["seq"]],
        "verify": checked["ok"] and (checked["level"] or 0) >= 1,
    }
    if wrong := [name for name, good in done.items() if not good]:
        raise RuntimeError(f"on a store of its own, this did not work: {', '.join(wrong)}")
    return recorded["seq"]


def _forge(db: Path, seq: int) -> None:
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("DROP TRIGGER entry_unchanged")
        ((body,),) = connection.execute("SELECT body FROM entry WHERE seq = ?", (seq,)).fetchall()
        forged = bytes(body).replace(b"seventeen", b"nineteen!")
        connection.execute("UPDATE entry SET body = ? WHERE seq = ?", (forged, seq))
        connection.commit()


async def _verify(db: Path) -> int | None:
    from ccn_mcp.app import open_node

    async with open_node(settings=Settings(db=db, config_dir=db.parent / "config")) as node:
        fault = (await node.verify_chain())["fault"]
    return fault["seq"] if fault is not None else None


def mcp_round_trip(chosen: Settings) -> Iterator[Finding]:
    """The server, asked for its tools by the SDK's own client in this process; the store is not touched."""
    names = asyncio.run(asyncio.wait_for(_tools(chosen), TRIAL_S_MAX))
    yield Finding("MCP", "ok", f"the server answers with {len(names)} tools: {', '.join(names)}")


async def _tools(chosen: Settings) -> list[str]:
    from mcp import Client

    from ccn_mcp.server.app import build_server

    async with Client(build_server(chosen)) as client:
        return [tool.name for tool in (await client.list_tools()).tools]


CHECKS: Final[tuple[Check, ...]] = (self_test, mcp_round_trip)
