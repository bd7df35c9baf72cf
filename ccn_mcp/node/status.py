"""The store at a glance."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from ccn_mcp.domain.models import ConversationQuery
from ccn_mcp.domain.plate import is_starter
from ccn_mcp.node.consensus import plate_name
from ccn_mcp.node.context import Caller, Context
from ccn_mcp.node.conversations import listed
from ccn_mcp.node.plates import current_plate
from ccn_mcp.node.results import Status

LAST_CONVERSATIONS: Final = 5
COUNT_PAGE: Final = 1_000
_SIDE_FILES: Final = ("", "-wal", "-shm")


async def status(ctx: Context, caller: Caller) -> Status:
    """Where the store is, how far it has come, which Plate is in force and who is connected.

    Reads only: a store that does not exist yet is not created.
    """
    from ccn_mcp.node.character import consensus_status

    info = await ctx.store.info()
    plate = await current_plate(ctx)
    recent = await ctx.store.conversations(ConversationQuery(LAST_CONVERSATIONS))
    connected = await consensus_status(ctx, caller, for_person=True)
    return {
        "db": str(ctx.settings.db),
        "exists": info.store_id is not None,
        "store_id": info.store_id.hex() if info.store_id is not None else None,
        "entries": info.head.size,
        "head": str(info.head),
        "bytes": _bytes_on_disk(ctx.settings.db),
        "conversations": [listed(item) for item in recent],
        "plate": plate_name(plate),
        "plate_is_starter": is_starter(plate.plate),
        "instances": connected["instances"],
    }


async def count_conversations(ctx: Context) -> int:
    """How many conversations there are, in all scopes."""
    count = 0
    before: int | None = None
    while page := await ctx.store.conversations(ConversationQuery(COUNT_PAGE, before=before)):
        count += len(page)
        before = page[-1].last_seq
    return count


def _bytes_on_disk(path: Path) -> int:
    size = 0
    for suffix in _SIDE_FILES:
        with suppress(OSError):
            size += path.with_name(path.name + suffix).stat().st_size
    return size
