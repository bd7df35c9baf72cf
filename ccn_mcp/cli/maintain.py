"""`ccn-mcp maintain`: give back what the store does not need, and finish what was left to finish."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db

if TYPE_CHECKING:
    from ccn_mcp.domain.models import Maintained
    from ccn_mcp.node.node import Node


def maintain(
    vacuum: Annotated[
        bool,
        typer.Option(
            "--vacuum",
            help="Also rewrite the file without its free pages. Needs twice its size of free space; others wait.",
        ),
    ] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Tidy the store's file; the record itself stays as it is.

    Finishes pending erasures, empties the write-ahead log, merges the search index. Clients may go on meanwhile.
    """
    chosen = output.load_settings(db)

    async def work(node: Node) -> Maintained:
        return await node.ctx.store.maintain(vacuum=vacuum)

    done = output.on_node(chosen, work)
    freed = max(0, done.bytes_before - done.bytes_after)
    if as_json:
        output.emit({"db": str(chosen.db), **asdict(done), "bytes_freed": freed})
    elif not done.exists:
        output.say(f"There is no store at {chosen.db} yet, so there is nothing to do.")
    else:
        _report(done, freed)


def _report(done: Maintained, freed: int) -> None:
    output.say(f"{output.size(freed)} freed; the store takes {output.size(done.bytes_after)} now.", "green")
    if done.erasures_pending:
        output.tell(
            f"Erasures      {output.amount(done.erasures_pending, 'entry').replace('entrys', 'entries')} still to be "
            "cleaned from the files: a program reads an older state. Run this again once it has ended.",
            style="yellow",
        )
    elif done.erasures_finished:
        output.say(f"Erasures      {done.erasures_finished:,} finished")
    if done.wal_emptied:
        output.say("Write-ahead   emptied")
    else:
        output.tell(
            "Write-ahead   not emptied: a program reads an older state. `ccn-mcp doctor` lists who has the store open.",
            style="yellow",
        )
    output.say(
        f"Search index  {'one piece' if done.index_merged else 'not in one piece yet; run this again'}"
    )
    if not done.analysed:
        output.say("Statistics    left for later, because others were waiting")
    if done.vacuumed:
        output.say("Free pages    given back")
    if done.leftovers:
        output.say(f"Leftovers     {done.leftovers:,} of interrupted backups removed")
