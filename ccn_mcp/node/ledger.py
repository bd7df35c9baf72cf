"""Checking the record, and the store at a glance."""

from __future__ import annotations

from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.models import Verification
from ccn_mcp.domain.restoring import RESTORED_HEAD
from ccn_mcp.node.context import Context, iso
from ccn_mcp.node.results import ChainCheck
from ccn_mcp.ports import Progress

MEANINGS = {
    None: "broken: the entries do not match their own hashes, so the record was changed after it was made",
    0: "level 0, chain: the entries match their hashes, but what queries show does not match the entries",
    1: "level 1, content complete: every entry, link, content and query column matches its hash. An attacker "
    "who recomputes every hash is not seen at this level; compare with a head that you kept (known_head)",
    2: "level 2, signed: as level 1, and the log's own key has signed it up to entry {signed_to} of {entries}. "
    "An attacker who drops the newest signed heads with the newest entries is not seen at this level",
    3: "level 3, matched: as level 1, and it contains a head that is held elsewhere, up to entry {matched_to} of "
    "{entries}; nobody has changed those since. Later ones are signed up to entry {signed_to}",
    4: "level 4, witnessed: as level 1, and an outside party has signed its head, up to entry {witnessed_to} of "
    "{entries}",
}
NEWER = (
    "level {level}, content complete from entry {since} on: the log contains the head that you kept, and every later "
    "entry matches its hash. Earlier entries were not read again"
)
RESTORED = (
    "level 0, restored: every entry matches its hash, and the head that you kept is of the store that this one was "
    "restored from, up to which every entry is here. It does not show who restored it: ask, if it was not you"
)
NOT_YET = "there is no record yet: the store is created by the first message or load_plate"


async def verify_chain(
    ctx: Context,
    *,
    known_head: str | None = None,
    since: str | None = None,
    progress: Progress | None = None,
    deep: bool = False,
) -> ChainCheck:
    """Check the whole log, or what came `since` a head, and that it still contains the head that the caller kept.

    `deep` as in `Store.verify`.

    Raises:
        BadHead: a head is not SIZE:ROOT. BadInput: two things were asked for that do not go together.
    """
    known, after = (known_head or "").strip() or None, (since or "").strip() or None
    if after is not None and (known not in (None, after) or deep):
        raise BadInput("a check since a head reads only what is newer; leave the other head or --deep out")
    return as_check(
        await ctx.store.verify(
            known_head=after or known, progress=progress, deep=deep, newer=after is not None
        )
    )


def as_check(found: Verification) -> ChainCheck:
    """A verification as tools and the command line show it."""
    fault = found.fault
    nothing = found.entries == 0 and fault is None
    return {
        "ok": fault is None and found.known_head is not False,
        "level": found.level,
        "meaning": NOT_YET if nothing else _meaning(found),
        "entries": found.entries,
        "messages": found.messages,
        "erased": found.erased,
        "clock_regressions": found.clock_regressions,
        "head": str(found.head),
        "known_head_matches": found.known_head,
        "signed_to": found.signed_to,
        "matched_to": found.matched_to,
        "witnessed_to": found.witnessed_to,
        "checked_from": found.since,
        "remarks": list(found.remarks),
        "fault": None
        if fault is None
        else {
            "code": fault.code,
            "seq": fault.seq,
            "at": iso(fault.time_us) if fault.time_us is not None else None,
            "detail": fault.detail,
        },
    }


def _meaning(found: Verification) -> str:
    if found.fault is not None and found.fault.code == RESTORED_HEAD:
        return RESTORED
    text = NEWER if found.since and found.fault is None else MEANINGS[found.level]
    return text.format(
        level=found.level,
        entries=found.entries,
        since=found.since,
        signed_to=found.signed_to,
        matched_to=found.matched_to,
        witnessed_to=found.witnessed_to,
    )
