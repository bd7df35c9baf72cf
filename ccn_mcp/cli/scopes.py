"""`ccn-mcp scopes`: which projects have conversations in the record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.limits import SCOPES_SHOWN_DEFAULT, SCOPES_SHOWN_MAX

if TYPE_CHECKING:
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.scopes import Scopes

Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="N", help=f"How many ({SCOPES_SHOWN_DEFAULT}), at most {SCOPES_SHOWN_MAX}."
    ),
]


def scopes(limit: Limit = None, db: Db = None, as_json: AsJson = False) -> None:
    """List the scopes and what is in them, the last one used first.

    A scope is a project's folder for Claude Code and `default` for the rest. What a session is given and finds stays
    inside its own.
    """

    async def work(node: Node) -> Scopes:
        from ccn_mcp.node.scopes import list_scopes

        await output.must_exist(node)
        return await list_scopes(node.ctx, limit=limit)

    found = output.on_node(output.load_settings(db), work)
    if as_json:
        output.emit(found)
        return
    for item in found["scopes"]:
        output.say(f"  {item['scope']}", "cyan")
        counts = f"{output.amount(item['conversations'], 'conversation')}, {output.amount(item['messages'], 'message')}"
        output.tell(f"{counts}, last {output.minute(item['last_at'])}", indent="    ")
    if not found["scopes"]:
        output.say("No conversations, so no scopes yet.")
    if found["left_out"]:
        output.tell(
            f"Left out: {output.amount(found['left_out'], 'older scope')}; raise --limit", style="dim"
        )


def named(text: str) -> str:
    """A scope as a person writes it: its name, or for a folder's also `.` and paths from `.` or `~`."""
    from ccn_mcp.settings import scope_of

    if text.split("/")[0] in (".", "..", "~"):
        return scope_of(str(Path(text).expanduser().resolve()))
    return text
