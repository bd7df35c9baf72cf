"""Checking the record, and the store at a glance."""

from __future__ import annotations

from ccn_mcp.domain.models import Verification
from ccn_mcp.node.context import Context, iso
from ccn_mcp.node.results import ChainCheck
from ccn_mcp.ports import Progress

MEANINGS = {
    None: "broken: the entries do not match their own hashes, so the record was changed after it was made",
    0: "level 0, chain: the entries match their hashes, but what queries show does not match the entries",
    1: "level 1, content complete: every entry, link, content and query column matches its hash. An attacker "
    "who recomputes every hash is not seen at this level; compare with a head that you kept (known_head)",
}
NOT_YET = "there is no record yet: the store is created by the first message or load_plate"


async def verify_chain(
    ctx: Context, *, known_head: str | None = None, progress: Progress | None = None
) -> ChainCheck:
    """Check the whole log, and that it still contains a head that the caller kept.

    Raises:
        BadHead: `known_head` is not SIZE:ROOT.
    """
    known = (known_head or "").strip() or None
    return as_check(await ctx.store.verify(known_head=known, progress=progress))


def as_check(found: Verification) -> ChainCheck:
    """A verification as tools and the command line show it."""
    fault = found.fault
    nothing = found.entries == 0 and fault is None
    return {
        "ok": fault is None and found.known_head is not False,
        "level": found.level,
        "meaning": NOT_YET if nothing else MEANINGS[found.level],
        "entries": found.entries,
        "messages": found.messages,
        "erased": found.erased,
        "clock_regressions": found.clock_regressions,
        "head": str(found.head),
        "known_head_matches": found.known_head,
        "fault": None
        if fault is None
        else {
            "code": fault.code,
            "seq": fault.seq,
            "at": iso(fault.time_us) if fault.time_us is not None else None,
            "detail": fault.detail,
        },
    }
