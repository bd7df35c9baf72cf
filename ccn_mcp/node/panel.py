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


async def panel_numbers(ctx: Context) -> PanelNumbers:
    """The numbers of the panel. They never go where a model reads: character.md, "Who sees the numbers"."""
    from ccn_mcp.node.series import series

    return {
        "series": await series(ctx, limit=PANEL_REPORTS_MAX),
        "entries": (await ctx.store.info()).head.size,
    }
