"""The baseline that a group is measured against, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain import commissioning
from ccn_mcp.domain.character import Vector
from ccn_mcp.domain.commissioning_record import PINNED, Pinned, decode
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import RecordQuery
from ccn_mcp.node.context import Context
from ccn_mcp.node.plates import PlateInForce

COMMISSIONED: Final = "commissioned"

SAID: Final = {
    COMMISSIONED: "measured: the median of commissioning reports against this Plate",
    "authored": "authored: written into the Plate by somebody, measured by nobody",
    "default": "the program's default: neither measured nor chosen by anybody",
}
"""What each source of a baseline is worth, in words."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What reports of a group are held against. `repeats`: how many ratings to average into one report."""

    vector: Vector
    sigma: float
    source: str
    seq: int | None = None
    repeats: int = 1


async def baseline_of(ctx: Context, group: str, plate: PlateInForce) -> Baseline:
    """The group's commissioned baseline if it was measured against this very Plate, else the Plate's or the default."""
    found = await pinned_for(ctx, group)
    if found is None or found[1].plate_digest != plate.plate.digest:
        return Baseline(plate.baseline, commissioning.AUTHORED_SIGMA, plate.baseline_source)
    seq, pinned = found
    return Baseline(pinned.baseline, pinned.sigma, COMMISSIONED, seq, pinned.repeats)


async def pinned_for(ctx: Context, group: str) -> tuple[int, Pinned] | None:
    """The baseline pinned last for a group, and its entry; None if there is none, or it was taken back or erased."""
    query = RecordQuery(kinds=(Kind.VALIDATION,), subject=group, limit=1)
    records = await ctx.store.records(query)
    body = records[0].body if records else None
    if body is not None and body.get("event") != PINNED:
        kept = body.get("keeps")  # a cancelled round leaves the baseline that was there
        records = (
            await ctx.store.records(RecordQuery(kinds=(Kind.VALIDATION,), seqs=(kept,)))
            if isinstance(kept, int)
            else []
        )
        body = records[0].body if records else None
    return (records[0].seq, decode(body, records[0].blob)) if body is not None else None
