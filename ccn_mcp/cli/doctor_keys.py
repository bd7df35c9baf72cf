"""What `doctor` looks at outside of the store: the signing key, heads kept here and elsewhere, witnesses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Final

from ccn_mcp import settings
from ccn_mcp.cli.doctor_checks import Check, Finding
from ccn_mcp.settings import Settings


def signing(chosen: Settings) -> Iterator[Finding]:
    """Who signs the record's heads, how far, and whether the heads that this account remembers are in it."""
    from ccn_mcp.app import keeper_of
    from ccn_mcp.cli.key import facts_of
    from ccn_mcp.store.sqlite.state import key_state

    keeper = keeper_of(chosen)
    yield from _heads_elsewhere(chosen)
    state = key_state(chosen.db, keeper)
    if state is None:
        yield Finding("signing key", "ok", "there is no store yet; its first write makes the key")
        return
    facts = facts_of(keeper, state)
    current = state.keys[-1].key if state.keys else None
    if facts["private"] == "here":
        yield Finding("signing key", "ok", f"here: {current or 'the next write names it in the record'}")
    elif facts["private"] == "elsewhere":
        yield Finding(
            "signing key",
            "warn" if current is not None else "ok",
            f"not here; the record is signed with {current}"
            if current is not None
            else "none yet; the next write makes one",
            "entries that are written here stay unsigned. If that key is gone for good: ccn-mcp key rotate --lost"
            if current is not None
            else "",
        )
    else:
        yield Finding(
            "signing key", "fail", f"{facts['private']}: {facts['trouble']}", "nothing is signed until then"
        )
    yield _pinned(facts["pinned"], [item.key for item in state.keys])
    status = "ok" if state.signed_to else "warn"
    yield Finding(
        "signed", "ok" if status == "ok" else "warn", f"to entry {state.signed_to:,} of {state.size:,}"
    )
    if state.contradicted is not None:
        yield Finding(
            "remembered head",
            "fail",
            f"the record does not have the head {state.contradicted}",
            "an older copy was put in its place, or it was rewritten: keep both files and run ccn-mcp verify",
        )
    else:
        yield Finding("remembered head", "ok", "in the record" if state.remembered else "none yet")
    if (trouble := keeper.trouble(state.store_id)) is not None:
        yield _not_kept(chosen, trouble)
    yield from _witnessed(
        state.anchors, state.witnessed.to, state.witnessed.authority, state.witnessed.remark
    )


def _pinned(pinned: str | None, named: list[str]) -> Finding:
    if pinned is None:
        return Finding("pinned key", "ok", "none: this account has not trusted a key of this store yet")
    if named and pinned not in named:
        return Finding(
            "pinned key",
            "fail",
            f"{pinned}, which the record does not name",
            "compare the keys: ccn-mcp key show. If the record is right: ccn-mcp key pin KEY",
        )
    return Finding("pinned key", "ok", pinned)


def _heads_elsewhere(chosen: Settings) -> Iterator[Finding]:
    if chosen.heads is not None:
        yield Finding("CCN_HEADS", "ok", str(chosen.heads))
    if chosen.heads_command:
        program = chosen.heads_command[0]
        if shutil.which(program) is None:
            yield Finding("CCN_HEADS_COMMAND", "warn", f"there is no program {program}", "give its full path")
        else:
            yield Finding("CCN_HEADS_COMMAND", "ok", program)


def _not_kept(chosen: Settings, trouble: str) -> Finding:
    """A head that could not be kept: here too, where nobody has named a second place."""
    if chosen.heads is not None or chosen.heads_command:
        do = "see CCN_HEADS and CCN_HEADS_COMMAND; the record goes on"
        return Finding("heads elsewhere", "warn", trouble, do)
    do = f"look at the space left and the permissions of {settings.config_folder(chosen)}; the record goes on"
    return Finding("heads kept here", "warn", trouble, do)


def _witnessed(count: int, to: int, authority: str | None, remark: str | None) -> Iterator[Finding]:
    if not count:
        yield Finding("witnesses", "ok", "none; ccn-mcp anchor asks an outside authority for a time stamp")
    elif to:
        yield Finding("witnesses", "ok", f"to entry {to:,}, by {authority}")
    else:
        yield Finding(
            "witnesses", "warn", remark or "no time stamp fits", "ccn-mcp anchor --tsa-ca FILE trusts its CA"
        )


CHECKS: Final[tuple[Check, ...]] = (signing,)
