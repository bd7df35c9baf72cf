"""The Plate in force, its versions, and setting another one."""

from __future__ import annotations

from dataclasses import dataclass

from ccn_mcp import data
from ccn_mcp.domain.character import DEFAULT_BASELINE, Vector
from ccn_mcp.domain.errors import StoreMoved, VerificationFailed
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import GUARD_RETRIES_MAX
from ccn_mcp.domain.models import Draft, Group, Guard, Record, RecordQuery
from ccn_mcp.domain.plate import Plate, is_starter, parse_plate
from ccn_mcp.node.context import Caller, Context

STARTER = "starter_plate.md"
VERSIONS_MAX = 200


@dataclass(frozen=True, slots=True)
class PlateInForce:
    """A Plate and where it stands in the log; `seq` is None for a starter that was never delivered."""

    plate: Plate
    seq: int | None
    set_us: int | None

    @property
    def baseline(self) -> Vector:
        """What instances are measured against."""
        return self.plate.baseline or DEFAULT_BASELINE

    @property
    def baseline_source(self) -> str:
        """`authored` in the Plate by somebody, or the program's `default`; neither was measured."""
        return "authored" if self.plate.baseline else "default"


async def current_plate(ctx: Context) -> PlateInForce:
    """The Plate that was set last; the packaged starter until a person has set one."""
    starter = parse_plate(data.read(STARTER))
    records = await ctx.store.records(RecordQuery(kinds=(Kind.PLATE,), limit=1))
    if not records:
        return PlateInForce(starter, None, None)
    recorded = _parsed(records[0])
    if is_starter(recorded.plate) and recorded.plate.digest != starter.digest:
        # The package brought a newer starter and nobody has chosen anything yet.
        return PlateInForce(starter, None, None)
    return recorded


async def delivered_plate(ctx: Context, caller: Caller) -> PlateInForce:
    """The Plate in force, in the log from its first delivery on, the starter too."""
    for _ in range(GUARD_RETRIES_MAX):
        size = (await ctx.store.info()).head.size
        current = await current_plate(ctx)
        if current.seq is not None:
            return current
        # Guarded from before the look: the starter must never come after a Plate that a person has set.
        if (recorded := await _record(ctx, caller, current.plate, size)) is not None:
            return recorded
    raise StoreMoved("other writers kept setting Plates; nothing was delivered, try again")


async def set_plate(ctx: Context, caller: Caller, plate: Plate) -> PlateInForce:
    """Record `plate` as the one in force. Whether the person asked for it is decided by the command line.

    Setting the Plate that is in force already changes nothing.
    """
    for _ in range(GUARD_RETRIES_MAX):
        size = (await ctx.store.info()).head.size
        records = await ctx.store.records(RecordQuery(kinds=(Kind.PLATE,), limit=1))
        if records and (current := _parsed(records[0])).plate.digest == plate.digest:
            return current
        if (recorded := await _record(ctx, caller, plate, size)) is not None:
            return recorded
    raise StoreMoved("other writers kept setting Plates; nothing was set by this one, try again")


async def _record(ctx: Context, caller: Caller, plate: Plate, size: int) -> PlateInForce | None:
    """Append `plate`; None if another one has come at or after `size`."""
    now = ctx.now_us()
    draft = Draft(
        Kind.PLATE,
        now,
        {
            "digest": plate.digest,
            "format": "ccn.plate/1",
            "name": plate.name,
            "principal": caller.principal,
            "source": caller.source,
            "version": plate.version,
        },
        plate.source,
    )
    try:
        done = await ctx.store.append(Group((draft,), guard=Guard((Kind.PLATE,), size)))
    except StoreMoved:
        return None
    return PlateInForce(plate, done.receipts[0].seq, now)


async def plate_versions(ctx: Context) -> list[PlateInForce]:
    """Every Plate that was in force, newest first, at most `VERSIONS_MAX`."""
    records = await ctx.store.records(RecordQuery(kinds=(Kind.PLATE,), limit=VERSIONS_MAX))
    return [_parsed(record) for record in records]


def _parsed(record: Record) -> PlateInForce:
    if record.body is None:
        raise VerificationFailed(f"the Plate at entry {record.seq} cannot be read; run ccn-mcp verify")
    plate = parse_plate(record.blob)
    if plate.digest != record.body.get("digest"):
        raise VerificationFailed(
            f"the Plate at entry {record.seq} is not the one that was recorded: its digest differs. "
            "Run ccn-mcp verify, then set the Plate again with ccn-mcp plate set FILE"
        )
    return PlateInForce(plate, record.seq, record.time_us)
