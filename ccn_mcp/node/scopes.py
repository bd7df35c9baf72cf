"""The scopes of a record: which projects have conversations in it, and how many. For the person, not for instances."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final, TypedDict

from ccn_mcp.domain.errors import BadInput, NotFound
from ccn_mcp.domain.limits import SCOPES_SHOWN_DEFAULT, SCOPES_SHOWN_MAX
from ccn_mcp.domain.models import Conversation, ConversationQuery
from ccn_mcp.node.context import Context, echoed, iso

PAGE: Final = 1_000
"""Conversations in memory at a time."""


class ScopeCount(TypedDict):
    """One scope and what is in it."""

    scope: str
    conversations: int
    messages: int
    last_at: str


class Scopes(TypedDict):
    """Scopes by last activity, newest first; `total` counts all of them."""

    scopes: list[ScopeCount]
    total: int
    left_out: int


async def list_scopes(ctx: Context, *, limit: int | None = None) -> Scopes:
    """Every scope that has a conversation, at most `limit` of them. Reads the list of conversations once.

    Raises:
        BadInput: `limit` is out of range.
    """
    most = SCOPES_SHOWN_DEFAULT if limit is None else limit
    if not 1 <= most <= SCOPES_SHOWN_MAX:
        raise BadInput(f"limit is {echoed(limit)}; give a number from 1 to {SCOPES_SHOWN_MAX:,}")
    found: dict[str, ScopeCount] = {}
    before: int | None = None
    while page := await ctx.store.conversations(ConversationQuery(PAGE, before=before)):
        for item in page:
            _count(found, item)
        before = page[-1].last_seq
    shown = list(found.values())[:most]
    return {"scopes": shown, "total": len(found), "left_out": len(found) - len(shown)}


def _count(found: dict[str, ScopeCount], item: Conversation) -> None:
    # The list comes newest first, so a scope's first conversation has its last time.
    known = found.setdefault(
        item.scope, {"scope": item.scope, "conversations": 0, "messages": 0, "last_at": iso(item.last_us)}
    )
    known["conversations"] += 1
    known["messages"] += item.messages


async def must_be_a_scope(ctx: Context, name: str) -> None:
    """Go on only if there is a conversation in this scope.

    Raises:
        NotFound: with the name that may have been meant.
    """
    if await ctx.store.conversations(ConversationQuery(limit=1, scope=name)):
        return
    names = [item["scope"] for item in (await list_scopes(ctx, limit=SCOPES_SHOWN_MAX))["scopes"]]
    close = get_close_matches(name, names, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    raise NotFound(f"there is no conversation in the scope {echoed(name)}.{meant} ccn-mcp scopes lists them")
