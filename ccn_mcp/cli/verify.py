"""`ccn-mcp verify`: check the whole record."""

from __future__ import annotations

import sys
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.cli.status import show_pending
from ccn_mcp.domain.restoring import RESTORED_HEAD

if TYPE_CHECKING:
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.results import ChainCheck

FAULT_STATUS: Final = 6
LABEL: Final = "Verifying"
RESTORED: Final = "Restored: your head is of the store before, and every entry up to it is here"
RESTORED_MEANS: Final = (
    "Every hash fits every other. A restored store is a log of its own, so heads from before it do not match; "
    "what came after your head is not vouched for by it."
)
RESTORED_DO: Final = (
    "What to do: if you restored it, keep the new head in place of yours; verify it with that one from now on. "
    "If nobody here did, somebody put another store in its place: compare it with a backup."
)


class _Stopped(Exception):  # ends the reading thread after Ctrl-C; nobody waits for it any more
    pass


def verify(
    known_head: Annotated[
        str | None,
        typer.Option("--known-head", metavar="HEAD", help="A head (SIZE:ROOT) that you kept from earlier."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="HEAD", help="Read only what came after this head: quick, and says so."
        ),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also compare every index with what it indexes. Takes longer.")
    ] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Check that the record is as it was written.

    Every hash, link and query column is checked. Exit status 6 if something does not fit.
    """
    chosen = output.load_settings(db)
    stop = threading.Event()
    with _bar() as bar:
        task = bar.add_task(LABEL, total=None) if bar is not None else None

        def progress(done: int, total: int) -> None:
            if stop.is_set():
                raise _Stopped
            if bar is not None and task is not None:
                bar.update(task, completed=done, total=total)

        async def work(node: Node) -> tuple[ChainCheck, int]:
            await output.must_exist(node)
            try:
                found = await node.verify_chain(
                    known_head=known_head, since=since, progress=progress, deep=deep
                )
                return found, (await node.ctx.store.info()).erasures_pending
            finally:
                stop.set()

        found, pending = output.on_node(chosen, work)
    if as_json:
        output.emit({**found, "deep": deep, "erasures_pending": pending})
    else:
        _show(found)
        if deep and found["ok"]:
            output.tell("Indexes      say what the tables say; every body is in its one form.")
        show_pending(pending)
    if not found["ok"]:
        raise typer.Exit(FAULT_STATUS)


def _bar() -> Any:
    """A progress bar where stderr is a terminal; it goes away when the work is done."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=output.console(stderr=True), transient=True)


def _show(found: ChainCheck) -> None:
    fault = found["fault"]
    restored = fault is not None and fault["code"] == RESTORED_HEAD
    if found["ok"]:
        output.say("ok", "bold green")
    elif restored:
        output.say(RESTORED, "bold yellow")
    else:
        output.say("NOT AS IT WAS WRITTEN", "bold red")
    if fault is not None:
        output.tell(f"{'What it is' if restored else 'First fault'}: {fault['detail']}.")
        if fault["seq"] is not None:
            recorded = f", recorded {output.minute(fault['at'])}" if fault["at"] else ""
            output.say(f"Where        entry {fault['seq']}{recorded} ({fault['code']})")
    output.tell(RESTORED_MEANS if restored else _meaning(found))
    output.say(f"Entries      {found['entries']:,}{'' if found['level'] is not None else ' up to the fault'}")
    output.say(f"Messages     {found['messages']:,}")
    erased = found["erased"]
    output.say(f"Erased       {erased:,} {'entry' if erased == 1 else 'entries'}, of every kind")
    if found["clock_regressions"]:
        output.tell(
            f"Times        {output.amount(found['clock_regressions'], 'step')} backwards: two writers at once, or a "
            "clock that was set back. The order of entries is not their time's, it is the chain's."
        )
    output.say(f"Head         {found['head']}")
    if restored:
        output.say("Your head    is of the store before; keep the one above from now on")
    elif found["known_head_matches"] is not None:
        output.say(
            f"Your head    {'is in this record' if found['known_head_matches'] else 'is NOT in this record'}"
        )
    for remark in found["remarks"]:
        output.tell(f"Note         {remark}.")
    if restored:
        output.tell(RESTORED_DO)
    elif not found["ok"]:
        output.tell(
            "What to do: keep a copy of the file and its -wal as they are, compare with a backup, and find out "
            "who or what could write to it."
        )


def _meaning(found: ChainCheck) -> str:
    if found["known_head_matches"] is False:
        return "Every hash fits every other, but this is not the record that your head was taken from."
    level = f"Level {found['level']}: " if found["level"] is not None else ""
    text = found["meaning"].split(": ", 1)[-1]
    return f"{level or 'Broken: '}{text.replace('known_head', '--known-head')}."
