"""`ccn-mcp consensus`: compute every verdict again from the record, and explain one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db

if TYPE_CHECKING:
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.replay_results import Explained, Replayed, RuleExplained

FAULT_STATUS: Final = 6


def build() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(
        help="Compute every verdict again, or explain one.",
        rich_markup_mode="rich" if output.fancy() else None,
    )
    app.command("replay", **output.example("ccn-mcp consensus replay"))(replay)
    app.command("explain", **output.example("ccn-mcp consensus explain", "ccn-mcp consensus explain 42"))(
        explain
    )
    return app


def replay(
    group: Annotated[
        str | None, typer.Option("--group", metavar="GROUP", help="Only this group's evaluations.")
    ] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Compute every evaluation and pinned baseline again from the reports, and compare bit for bit.

    Exit status 6 if one differs. One that used a report which was erased since cannot be computed again, and is listed.
    """
    from ccn_mcp.node.replaying import replay_all

    with output.bar("computing again", shown=not as_json) as progress:

        async def work(node: Node) -> Replayed:
            await output.must_exist(node)
            return await replay_all(node.ctx, group, progress)

        found = output.on_node(output.load_settings(db), work)
    if as_json:
        output.emit(found)
    else:
        _show_replay(found)
    if not found["ok"]:
        raise typer.Exit(FAULT_STATUS)


def _show_replay(found: Replayed) -> None:
    output.say(
        "ok" if found["ok"] else "NOT WHAT THE REPORTS GIVE", "bold green" if found["ok"] else "bold red"
    )
    output.say(f"Evaluations  {found['evaluations']:,}, the same bit for bit: {found['matching']:,}")
    output.say(f"Baselines    {found['baselines']:,} pinned, computed again")
    if found["erased_count"]:
        seqs = ", ".join(map(str, found["erased"]))
        output.tell(
            f"Erased       {found['erased_count']:,} cannot be computed again, because a report was erased: {seqs}"
        )
    for fault in found["faults"]:
        output.tell(f"Entry {fault['seq']}: {fault['detail']}", style="red")
    output.say(f"Groups       {', '.join(map(output.one_line, found['groups'])) or 'none'}")
    output.say(f"Head         {found['head']}")


def explain(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[SEQ|INSTANCE]", help="An evaluation, a report, or an instance. Default: the last."
        ),
    ] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Say in words why an instance got its verdict: each rule, its limit, its value, and what follows."""
    from ccn_mcp.node.replaying import explain_verdict

    async def work(node: Node) -> list[Explained]:
        await output.must_exist(node)
        return await explain_verdict(node.ctx, what)

    found = output.on_node(output.load_settings(db), work)
    if as_json:
        output.emit({"verdicts": found})
        return
    for item in found:
        _show_verdict(item)


def _show_verdict(item: Explained) -> None:
    output.say(f"{item['instance_id']}: {item['action']}", "cyan")
    output.tell(f"Because {item['why']}. {item['follows']}", indent="  ")
    output.say(f"  Entry       {item['seq']} ({output.minute(item['at'])}), rules {item['rules_version']}")
    new = "new" if item["new"] else "an earlier one, judged again"
    source = f"{item['measured_by']}, " if item["measured_by"] is not None else ""
    output.say(f"  Report      entry {item['report']}, {source}{new}, weight {item['weight']}")
    output.say(
        f"  Group       {output.one_line(item['group'])}: {output.amount(item['reports'], 'report')} of "
        f"{output.amount(item['principals'], 'account')}"
    )
    output.tell(f"Baseline    {item['baseline_said']}; sigma {item['sigma']:.3f}", indent="  ")
    for rule in item["rules"]:
        output.tell(_rule(rule), indent="  ", style="yellow" if rule["exceeded"] else "")
    output.say(f"  In a row    {item['base_run']} beyond BASE (two mean re-initialisation)")
    if item["widest"]:
        said = ", ".join(
            f"{row['trait']} {row['report']:.2f} for {row['baseline']:.2f}" for row in item["widest"]
        )
        output.tell(f"Furthest    {said}", indent="  ")
    if item["flags"]:
        output.tell(f"Marked      {', '.join(item['flags'])}; marks change no verdict", indent="  ")
    if not item["exact"]:
        output.tell(
            "The report was erased; the numbers are the recorded ones, to four decimals.", indent="  "
        )


def _rule(rule: RuleExplained) -> str:
    said = {None: "does not apply: fewer than three reports", True: "BEYOND", False: "within"}[
        rule["exceeded"]
    ]
    note = "" if rule["decides"] else "; kept for comparison, decides nothing"
    most = f", largest {rule['max']:.3f} of {rule['max_limit']:.3f}" if rule["max_limit"] is not None else ""
    numbers = f"RMS {rule['rms']:.3f} of {rule['rms_limit']:.3f}{most}"
    return f"{rule['rule']:<11} {said}: {rule['compares']}, {numbers}{note}"
