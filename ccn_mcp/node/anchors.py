"""Recording that an outside authority has witnessed a signed head."""

from __future__ import annotations

from ccn_mcp.domain.anchors import anchor_body
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Draft, Group
from ccn_mcp.node.context import Caller, Context, iso
from ccn_mcp.node.results import Anchored


async def record_anchor(
    ctx: Context,
    caller: Caller,
    *,
    note: bytes,
    answer: bytes,
    authority: str,
    time_us: int,
    verified: bool,
) -> Anchored:
    """Append an authority's `answer` (DER, checked by the caller) about the signed head `note`.

    Raises:
        BadNote: the note is no signed head. StoreError: nothing was recorded.
    """
    body = anchor_body(note, authority, time_us, caller.source, verified=verified)
    done = await ctx.store.append(Group((Draft(Kind.ANCHOR, ctx.now_us(), body, answer),)))
    return {
        "seq": done.receipts[0].seq,
        "size": int(str(body["size"])),
        "root": str(body["root"]),
        "authority": authority,
        "at": iso(time_us),
        "verified": verified,
        "head": str(done.head),
    }
