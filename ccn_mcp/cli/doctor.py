"""`ccn-mcp doctor`: look at everything that the program stands on, and say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db

if TYPE_CHECKING:
    from ccn_mcp.cli.doctor_checks import Finding

STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(db: Db = None, as_json: AsJson = False) -> None:
    """Check everything that it stands on.

    Files, permissions, libraries, settings, and a whole round trip. Exit status 1 if anything fails.
    """
    from ccn_mcp.cli import (
        doctor_checks,
        doctor_keys,
        doctor_trial,
    )  # what they look at takes a second to load

    chosen = output.load_settings(db)
    findings: list[Finding] = []
    for check in (*doctor_checks.CHECKS, *doctor_keys.CHECKS, *doctor_trial.CHECKS):
        found = doctor_checks.carefully(check, chosen)
        findings += found
        if not as_json:
            for finding in found:
                _show(finding)
    counts = {status: sum(finding.status == status for finding in findings) for status in STYLES}
    failed = bool(counts["fail"])
    if as_json:
        lines = [
            {"check": item.check, "status": item.status, "found": item.found, "do": item.do}
            for item in findings
        ]
        output.emit({"ok": not failed, "counts": counts, "checks": lines})
    else:
        output.say()
        output.say(f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed")
    if failed:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    from rich.text import Text

    line = Text(f"{finding.status:<5}", style=STYLES[finding.status])
    line.append(f"{finding.check}: ", style="bold")
    line.append(output.shown(finding.found))
    output.console().print(line)
    if finding.do:
        output.tell(finding.do, indent="       ")
