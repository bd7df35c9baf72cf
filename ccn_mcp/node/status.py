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
ERASURES_PENDING: Final = (
    "the write-ahead log still holds what was erased, because a program reads an older state of the store. Close "
    "what has it open (ccn-mcp doctor lists the processes), then run ccn-mcp maintain; the next message that is "
    "recorded, or the next erasure, cleans up too"
)
"""Why `erasures_pending` is not 0, and what to do."""

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
        "conversation_count": info.conversations,
        "conversations": [listed(item) for item in recent],
        "erasures_pending": info.erasures_pending,
        "plate": plate_name(plate),
        "plate_is_starter": is_starter(plate.plate),
        "instances": connected["instances"],
    }


def _bytes_on_disk(path: Path) -> int:
    size = 0
    for suffix in _SIDE_FILES:
        with suppress(OSError):
            size += path.with_name(path.name + suffix).stat().st_size
    return size
