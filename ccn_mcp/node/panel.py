"""What the panel is given besides a tool's result: numbers for the person who looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

if TYPE_CHECKING:
    from ccn_mcp.node.context import Context
    from ccn_mcp.node.series import Series

PANEL_REPORTS_MAX: Final = 60
"""Newest reports that the panel draws: about 25 kB."""


class PanelNumbers(TypedDict):
    """The series, and how many entries the log has: a panel checks a short one by itself."""

    series: Series
    entries: int


async def panel_numbers(ctx: Context, *, all_scopes: bool = False) -> PanelNumbers:
    """The numbers of the panel. They never go where a model reads: docs/panel.md, "Who sees the numbers".

    A conversation's id opens it, so those of other scopes are left out unless `all_scopes`.
    """
    from ccn_mcp.node.conversations import in_scope
    from ccn_mcp.node.series import series

    found = await series(ctx, limit=PANEL_REPORTS_MAX)
    if not all_scopes:
        placed = (*found["points"], *found["compactions"])
        named = {one["conversation_id"] for one in placed} - {None}
        own = {name for name in named if name is not None and await in_scope(ctx, name)}
        for one in placed:
            if one["conversation_id"] not in own:
                one["conversation_id"] = None
    return {"series": found, "entries": (await ctx.store.info()).head.size}
