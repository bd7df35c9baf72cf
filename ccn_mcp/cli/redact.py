"""`ccn-mcp redact`: erase messages, conversations, what a person said, or an old Plate. The person's act alone."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import Refused

if TYPE_CHECKING:
    from ccn_mcp.domain.copies import Selection
    from ccn_mcp.domain.models import Line
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.redaction import Plan
    from ccn_mcp.node.results import RedactedMany
    from ccn_mcp.settings import Settings

SHOWN_CHARS_MAX: Final = 160
BAR_FROM: Final = 200
"""Entries from which on a progress bar is shown."""

WORDS: Final = {
    "messages": ("message", "messages"),
    "conversations": (
        "conversation's title, session id and folder",
        "conversations' titles, session ids and folders",
    ),
    "reports": ("trait report", "trait reports"),
    "metrics": ("metric", "metrics"),
    "answers": ("recall run or its answers", "recall runs and their answers"),
    "instances": (
        "instance entry (client, model, session id)",
        "instance entries (client, model, session id)",
    ),
    "usage": ("usage entry", "usage entries"),
    "plates": (
        "Plate, with the files it was imported from",
        "Plates, with the files they were imported from",
    ),
}
"""What each of `copies.NAMES` is for a person: one, many."""


Seqs = Annotated[
    list[int] | None,
    typer.Argument(
        metavar="[SEQ]...",
        min=0,
        help="Only these messages, by their seq, as `history --json` shows it. They go alone.",
    ),
]
Within = Annotated[
    str | None, typer.Option("--conversation", metavar="ID", help="Only of this conversation.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only from this date or time on (ISO 8601).")
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Only before this date or time.")]
Person = Annotated[
    str | None,
    typer.Option(
        "--person",
        metavar="NAME",
        help="Only of this account (principal), or messages with this name as their speaker's; exactly.",
    ),
]
PlateAt = Annotated[
    int | None,
    typer.Option(
        "--plate", metavar="ENTRY", min=0, help="An old Plate, as `plate show --versions` lists it."
    ),
]
Why = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why, in a few words. This stays in the record."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would go; change nothing.")]


def redact(
    seqs: Seqs = None,
    conversation: Within = None,
    since: Since = None,
    until: Until = None,
    person: Person = None,
    plate: PlateAt = None,
    reason: Why = None,
    dry_run: DryRun = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Erase for good what all of the options together select.

    Shows what would go and asks you to type its number. Needs a terminal; refused inside Claude Code.
    A selection without SEQ also takes reports, metrics and recall answers under the same options, and of a
    conversation of which nothing is left its title and ids. Interrupted, it goes on when run again.
    """
    from ccn_mcp.domain.copies import Selection
    from ccn_mcp.node.context import parse_time

    chosen = output.load_settings(db)
    if not dry_run:
        _only_the_person(chosen)
    selection = Selection(
        tuple(dict.fromkeys(seqs or ())),
        conversation,
        parse_time(since, "--since") if since is not None else None,
        parse_time(until, "--until") if until is not None else None,
        person,
        plate,
    )
    planned = output.on_node(chosen, lambda node: _plan(node, selection))
    if dry_run:
        _show_dry(planned, as_json=as_json)
        return
    if planned.total:
        _confirm(planned)
    # What was erased already is asked for again: bytes that were left behind then may go now.
    done = output.on_node(chosen, lambda node: _erase(node, planned, reason))
    if as_json:
        output.emit(done)
    else:
        _report(done)


async def _plan(node: Node, selection: Selection) -> Plan:
    from ccn_mcp.node.redaction import plan

    await output.must_exist(node)
    return await plan(node.ctx, selection)


async def _erase(node: Node, planned: Plan, reason: str | None) -> RedactedMany:
    from ccn_mcp.node.redaction import erase

    with _bar(planned.total) as bar:
        task = bar.add_task("Erasing", total=planned.total) if bar is not None else None

        def progress(done: int, total: int) -> None:
            if bar is not None and task is not None:
                bar.update(task, completed=done, total=total)

        return await erase(node.ctx, node.caller, planned, reason=reason, progress=progress)


def _bar(total: int) -> Any:
    if total < BAR_FROM:
        return nullcontext()
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=output.console(stderr=True), transient=True)


def _only_the_person(chosen: Settings) -> None:
    """Stop what is not a person at a terminal: a bump against models, no wall against the account's owner.

    Raises:
        Refused.
    """
    if chosen.inside_claude_code:
        raise Refused(
            "erasing is the person's own act, and this runs inside Claude Code. Open a terminal of your own and run "
            "the same command there; --dry-run shows here what it would erase"
        )
    # The question goes to stderr, so that stdout can be one JSON document.
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(
            "erasing needs a person at a terminal: run it without pipes or redirections of its input, so that it can "
            "show you what would go and ask for its number"
        )


def _summary(planned: Plan) -> list[str]:
    lines = []
    for name, count in planned.counts().items():
        where = ""
        if name == "messages" and planned.conversations:
            where = f" in {output.amount(len(planned.conversations), 'conversation')}"
        one, many = WORDS[name]
        lines.append(f"  {count:,} {one if count == 1 else many}{where}")
    if planned.already:
        lines.append(f"  {planned.already:,} gone already")
    for what, line in (("first", planned.first), ("last", planned.last)):
        if line is not None and not (what == "last" and planned.messages == 1):
            lines += ["", *_line(what if planned.messages > 1 else "", line)]
    return lines


def _line(what: str, line: Line) -> list[str]:
    from ccn_mcp.node.context import iso

    speaker = f" ({line.name})" if line.name else ""
    head = f"entry {line.seq}, {line.role}{speaker}, {output.minute(iso(line.time_us))}"
    return [
        f"{f'{what}: ' if what else ''}{head}, conversation {line.conversation_id}:",
        f"  {output.one_line(line.line, SHOWN_CHARS_MAX)}",
    ]


def _show_dry(planned: Plan, *, as_json: bool) -> None:
    if as_json:
        output.emit(
            {
                "dry_run": True,
                "would_erase": planned.counts(),
                "total": planned.total,
                "already_erased": planned.already,
                "conversations": sorted(planned.conversations),
                "first_seq": planned.first.seq if planned.first is not None else None,
                "last_seq": planned.last.seq if planned.last is not None else None,
            }
        )
        return
    output.say("This would be erased:" if planned.total else "Nothing would be erased.")
    output.say("\n".join(_summary(planned)))
    output.tell("Nothing was changed.")


def _confirm(planned: Plan) -> None:
    """Show what goes and ask for its number: the seq of a single message, else how many entries.

    Raises:
        Refused: something else was typed.
    """
    single = planned.first if planned.total == planned.messages == 1 else None
    number, what = (single.seq, "its seq") if single is not None else (planned.total, "the number of entries")
    lines = (
        "To be erased for good:",
        *_summary(planned),
        "",
        "The content goes; place, kind, time and conversation id stay. Nothing has been changed yet.",
    )
    sys.stderr.write(output.shown("\n".join(lines)) + "\n")
    sys.stderr.write(f"To go ahead, type {what} ({number}): ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().replace(",", "") != str(number):
        raise Refused(f"that is not {what}; nothing was changed")


def _report(done: RedactedMany) -> None:
    total = sum(done["erased"].values())
    parts = "; ".join(
        f"{count:,} {WORDS[name][count != 1]}" for name, count in done["erased"].items() if count
    )
    if total:
        output.say(f"Erased: {parts}.", "yellow" if done["pending"] else "green")
    else:
        output.say("Nothing was left to erase; what is gone was erased before.")
    output.tell(done["note"])
    output.say(f"Head  {done['head']}")
