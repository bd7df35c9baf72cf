"""Importing in tests: files as other programs write them, and a real store to import them into."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from ccn_mcp.domain.imported import Chat, Item, Options, Said, Skipped
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Record, RecordQuery
from ccn_mcp.interop.formats import items
from ccn_mcp.node.imports import Importer
from ccn_mcp.node.node import Node
from ccn_mcp.node.results import Imported
from ccn_mcp.store.secret import SecretFile
from ccn_mcp.store.sqlite.store import SqliteStore

BOTH = Options(tools=True, thinking=True)
SESSION = "5f0e8a52-8f3b-4f0e-9a70-000000000001"


def parsed(
    data: bytes | str, name: str = "file", options: Options | None = None, form: str | None = None
) -> list[Item]:
    """What the parsers find in these bytes."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return list(items(BytesIO(raw), name, options or Options(), form))


def said(found: Iterable[Item]) -> list[Said]:
    return [item for item in found if isinstance(item, Said)]


def texts(found: Iterable[Item]) -> list[tuple[str, str]]:
    return [(item.role, item.text) for item in said(found)]


def reasons(found: Iterable[Item]) -> list[str]:
    return [item.reason for item in found if isinstance(item, Skipped)]


def chats(found: Iterable[Item]) -> list[Chat]:
    return [item for item in found if isinstance(item, Chat)]


def jsonl(*lines: object) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def line(kind: str, content: object, number: int, **more: Any) -> dict[str, Any]:
    """A line of a Claude Code transcript."""
    return {
        "type": kind,
        "uuid": f"u-{number:06d}",
        "parentUuid": f"u-{number - 1:06d}" if number else None,
        "sessionId": SESSION,
        "cwd": "/home/ann/boat",
        "timestamp": f"2025-03-02T10:{number // 60 % 60:02d}:{number % 60:02d}.250Z",
        "version": "2.1.0",
        "message": {"role": kind, "content": content},
        **more,
    }


async def imported(
    node: Node, *files: bytes | str, options: Options | None = None, **wanted: Any
) -> Imported:
    """Import files into a node's store, as the command does."""
    importer = Importer(node.ctx, node.caller, **wanted)
    for number, data in enumerate(files):
        await importer.feed(parsed(data, f"file-{number}", options))
    return await importer.finish()


async def messages(node: Node) -> list[Record]:
    """Every message entry, oldest first."""
    return list(
        await node.ctx.store.records(RecordQuery(kinds=(Kind.MESSAGE,), oldest_first=True, limit=1_000_000))
    )


async def spoken(node: Node) -> list[tuple[str, str]]:
    return [
        (str(record.body["role"]), str(record.body["text"]))
        for record in await messages(node)
        if record.body is not None
    ]


def with_secret(folder: Path) -> Callable[[Path], SqliteStore]:
    """Stores that leave tombstones."""
    return lambda path: SqliteStore(path, secret=SecretFile(lambda: folder))
