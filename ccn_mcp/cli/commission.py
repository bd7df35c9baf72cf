"""`ccn-mcp commission`: what instances reported towards a measured baseline; pinning it is the person's act."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import Refused

if TYPE_CHECKING:
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.results import CommissionGroup
    from ccn_mcp.settings import Settings

GroupOption = Annotated[
    str | None,
    typer.Option("--group", metavar="GROUP", help="Model, thinking mode and rubric, as status shows it."),
]

HOW: Final = (
    "To collect reports, open a new session eight times and ask for the prompt `commission`, or say: load the Plate, "
    "then call validate_character with kind=commission and report by its rubric."
)


def build() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(
        help="Measure a baseline: eight or more reports against the Plate, then pin it.",
        rich_markup_mode="rich" if output.fancy() else None,
    )
    app.command("status", **output.example("ccn-mcp commission status"))(status)
    app.command("pin", **output.example("ccn-mcp commission pin --group 'claude-x|high|1'"))(pin)
    app.command(
        "cancel", **output.example("ccn-mcp commission cancel", "ccn-mcp commission cancel --baseline")
    )(cancel)
    return app


def status(db: Db = None, as_json: AsJson = False) -> None:
    """See which baseline each group is held to, and the reports towards another one."""
    from ccn_mcp.node.commissioning import overview

    async def read(node: Node) -> list[CommissionGroup]:
        return await overview(node.ctx)

    found = output.on_node(output.load_settings(db), read)
    if as_json:
        output.emit({"groups": found})
        return
    if not found:
        output.tell("No baseline was measured, and nobody has reported towards one; the Plate's own applies.")
        output.tell(HOW)
    for item in found:
        show(item)


def pin(group: GroupOption = None, db: Db = None, as_json: AsJson = False) -> None:
    """Pin the median of a group's reports as its baseline, and their spread as its noise.

    Shows them and asks. It holds for this Plate: after another one is set, its own baseline applies.
    """
    from ccn_mcp.node import commissioning

    chosen = output.load_settings(db)
    only_the_person(chosen, "ccn-mcp commission pin", as_json=as_json)

    async def read(node: Node) -> CommissionGroup:
        await output.must_exist(node)
        return await commissioning.proposed(node.ctx, group)

    with output.beside(as_json):
        found = output.on_node(chosen, read)
        show(found)
        confirm("pin", "Every later report of this group is held to this baseline.")

    async def work(node: Node) -> CommissionGroup:
        return await commissioning.pin(node.ctx, node.caller, found["group"], expected=found["reports"])

    done = output.on_node(chosen, work)
    if as_json:
        output.emit(done)
        return
    output.say(f"Pinned (entry {done['baseline_entry']}).", "green")
    output.tell("The next report of this group is held to it; what was smoothed until then starts from zero.")


def cancel(
    group: GroupOption = None,
    baseline: Annotated[
        bool,
        typer.Option("--baseline", help="Also give up the pinned baseline: the Plate's own applies again."),
    ] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Leave the reports so far out of any baseline. They stay in the record."""
    from ccn_mcp.node import commissioning

    chosen = output.load_settings(db)
    only_the_person(chosen, "ccn-mcp commission cancel", as_json=as_json)

    async def work(node: Node) -> CommissionGroup:
        await output.must_exist(node)
        return await commissioning.cancel(node.ctx, node.caller, group, baseline_too=baseline)

    with output.beside(as_json):
        confirm("cancel", "The reports so far will not count towards a baseline.")
    done = output.on_node(chosen, work)
    if as_json:
        output.emit(done)
        return
    output.say(f"Cancelled. {done['group']} is held to its baseline: {done['baseline_source']}.", "green")


def only_the_person(chosen: Settings, command: str, *, as_json: bool = False) -> None:
    """Stop what is not a person at a terminal: who sets the measure must not be who is measured.

    Raises:
        Refused.
    """
    if chosen.inside_claude_code:
        raise Refused(
            "pinning or cancelling a baseline is the person's own act, and this runs inside Claude Code. Open a "
            f"terminal of your own and run there: {command}"
        )
    if not (sys.stdin.isatty() and (sys.stderr if as_json else sys.stdout).isatty()):
        raise Refused(
            "pinning or cancelling a baseline needs a person at a terminal: run it without pipes or redirections"
        )


def confirm(word: str, meaning: str) -> None:
    """Ask for one word.

    Raises:
        Refused: something else was typed.
    """
    output.tell(f"{meaning} Nothing has been changed yet.")
    sys.stdout.write(f"To go on, type {word}: ")
    sys.stdout.flush()
    if sys.stdin.readline().strip() != word:
        raise Refused(f"that is not {word}; nothing was changed")


def show(item: CommissionGroup) -> None:
    """One group: its baseline in use, and what was reported towards another one."""
    from ccn_mcp.node.baselines import SAID

    output.say(output.one_line(item["group"]), "cyan")
    output.say(f"  Plate       {output.one_line(item['plate'])}")
    output.tell(f"Baseline    {SAID[item['baseline_source']]}", indent="  ")
    output.say(f"  Noise       sigma {item['sigma']:.3f}")
    if item["repeats"] > 1:
        output.tell(f"Ratings     average {item['repeats']} into each report: the noise is high", indent="  ")
    if item["pinned_for_another_plate"]:
        output.tell("A baseline was pinned for another Plate; it does not apply to this one.", indent="  ")
    output.say(f"  Reports     {item['reports']} of {item['needed']}, from {item['instances']} instances")
    if item["copies"]:
        output.tell(
            f"{item['copies']} of them repeat another one exactly, and measure nothing new", indent="  "
        )
    if item["deviation"] is not None:
        output.say(f"  Deviation   {item['deviation']:.3f} over all traits")
    if item["disagree"]:
        said = ", ".join(f"{name} ({item['deviations'][name]:.2f})" for name in item["disagree"])
        output.tell(f"Disagree    too much on {said}", indent="  ", style="yellow")
    elif item["ready"]:
        output.tell("Ready       ccn-mcp commission pin", indent="  ", style="green")
