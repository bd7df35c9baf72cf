"""`ccn-mcp redact`: erase one message for good. The person's act alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import Refused

if TYPE_CHECKING:
    from ccn_mcp.node.erasure import Doomed
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.results import Redacted
    from ccn_mcp.settings import Settings

SHOWN_CHARS_MAX: Final = 400


def redact(
    seq: Annotated[
        int, typer.Argument(metavar="SEQ", min=0, help="The message's seq, as `history --json` shows it.")
    ],
    conversation: Annotated[
        str | None,
        typer.Option(
            "--conversation", metavar="ID", help="SEQ is the message's number in this conversation."
        ),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="TEXT", help="Why, in a few words. This stays in the record."),
    ] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Erase a message's content for good.

    Shows the message and asks you to type its seq. Needs a terminal; refused inside Claude Code.
    """
    chosen = output.load_settings(db)
    _only_the_person(chosen, seq)
    doomed = output.on_node(chosen, lambda node: _find(node, seq, conversation))
    if doomed.text is not None:
        _confirm(doomed)
    # What was erased already is asked for again: bytes that were left behind then may go now.
    done = output.on_node(chosen, lambda node: node.redact_message(doomed.seq, reason=reason))
    if as_json:
        output.emit(done)
    else:
        _report(done)


async def _find(node: Node, seq: int, conversation: str | None) -> Doomed:
    from ccn_mcp.node.erasure import find_message

    await output.must_exist(node)
    if conversation is None:
        return await find_message(node.ctx, seq=seq)
    return await find_message(node.ctx, at=(conversation, seq))


def _only_the_person(chosen: Settings, seq: int) -> None:
    """Stop what is not a person at a terminal: a bump against models, no wall against the account's owner.

    Raises:
        Refused.
    """
    if chosen.inside_claude_code:
        raise Refused(
            "erasing a message is the person's own act, and this runs inside Claude Code. Open a terminal of "
            f"your own and run there: ccn-mcp redact {seq}"
        )
    # The question goes to stderr, so that stdout can be one JSON document.
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(
            "erasing a message needs a person at a terminal: run it without pipes or redirections of its input, "
            "so that it can show you the message and ask for its seq"
        )


def _confirm(doomed: Doomed) -> None:
    """Show the message and ask for its seq.

    Raises:
        Refused: something else was typed.
    """
    from ccn_mcp.node.context import iso

    when = output.minute(iso(doomed.time_us))
    text = output.one_line(doomed.text or "", SHOWN_CHARS_MAX)
    lines = (
        f"Entry {doomed.seq}, {doomed.role}, {when}, conversation {doomed.conversation_id}:",
        f"  {text}",
        "",
        "Its content will be erased for good; its place, role and time stay. Nothing has been changed yet.",
    )
    sys.stderr.write(output.shown("\n".join(lines)) + "\n")
    sys.stderr.write(f"To erase it, type its seq ({doomed.seq}): ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != str(doomed.seq):
        raise Refused("that is not its seq; nothing was changed")


def _report(done: Redacted) -> None:
    output.say(f"Entry {done['seq']} is erased.", "yellow" if done["pending"] else "green")
    output.tell(done["note"])
    output.say(f"Head  {done['head']}")
