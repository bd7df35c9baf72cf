"""`ccn-mcp demo`: in under a minute, everything that the program does, on a store that is thrown away."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson

if TYPE_CHECKING:
    from ccn_mcp.cli.connect import Connecting
    from ccn_mcp.cli.demo_stage import Stage

PREFIX: Final = "ccn démo "
STDERR_LINES_SHOWN: Final = 12

Keep = Annotated[bool, typer.Option("--keep", help="Keep the folder and print its place.")]


def demo(keep: Keep = False, as_json: AsJson = False) -> None:
    """See it all work, on a throw-away store, in seconds.

    Two clients share one record; one session drifts and comes back; forgeries are found. Nothing of yours is used.
    """
    from ccn_mcp.cli.demo_stage import NotShown, Stage, ended_like_interrupted  # brings the MCP SDK in

    began = time.monotonic()
    # A space and a letter outside ASCII: paths like people's own.
    stage = Stage(Path(tempfile.mkdtemp(prefix=_prefix())), quiet=as_json)
    failed: str | None = None
    try:
        with ended_like_interrupted():
            asyncio.run(_play(stage))
    except BrokenPipeError:
        raise  # whoever read along has stopped; that is no failure
    except NotShown as error:
        failed = str(error)
    except Exception as error:  # noqa: BLE001  # whatever it is, the step did not show what it claims
        failed = f"{type(error).__name__}: {error}"
    finally:
        if failed is not None:
            _explain(stage, failed)
        if not keep:
            shutil.rmtree(stage.folder, ignore_errors=True)
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        _emit(stage, failed, seconds, keep)
    elif failed is None:
        _close(seconds)
    if keep and not as_json:
        output.say(f"Kept: {stage.folder}")
    if failed is not None:
        raise typer.Exit(1)


def _prefix() -> str:
    try:
        PREFIX.encode(sys.getfilesystemencoding())
    except UnicodeEncodeError:
        return PREFIX.replace("é", "e")
    return PREFIX


async def _play(stage: Stage) -> None:
    from ccn_mcp.cli.demo_steps import STEPS, open_cast

    cast = await open_cast(stage)
    try:
        for step in STEPS:
            await step(stage, cast)
    finally:
        await asyncio.gather(cast.first.leave(), cast.second.leave())


def _explain(stage: Stage, failed: str) -> None:
    output.complain(f"the demo stopped in step {stage.number} ({stage.step}): {failed}")
    said = stage.log.read_text("utf-8", "replace").splitlines() if stage.log.exists() else []
    for line in said[-STDERR_LINES_SHOWN:]:
        output.complain(f"  {line}")
    output.complain("run it again with --keep to look at its files; ccn-mcp doctor checks what it needs")


def _emit(stage: Stage, failed: str | None, seconds: float, keep: bool) -> None:
    from ccn_mcp.cli.connect import connecting

    output.emit(
        {
            "ok": failed is None,
            "seconds": seconds,
            "failed_step": stage.step if failed is not None else None,
            "why": failed,
            "folder": str(stage.folder) if keep else None,
            "facts": stage.facts,
            "connect": connecting(),
        }
    )


def _close(seconds: float) -> None:
    from ccn_mcp.cli.connect import connecting

    lines = connecting()
    output.say()
    output.say(f"Everything above was checked as it happened ({seconds:.0f} s).", "bold green")
    _paste(lines)


def _paste(lines: Connecting) -> None:
    output.say()
    output.say("To connect your clients:", "bold")
    if not lines["on_path"]:
        output.say("  uv tool install .            # here: puts ccn-mcp on your PATH")
    output.say("  ccn-mcp install claude-code  # records by itself; or claude-desktop, cursor, vscode")
    output.say()
    output.say("Or by hand, in Claude Code:", "bold")
    output.say(f"  {lines['here']}")
    if not lines["on_path"]:
        output.say("or, where ccn-mcp is installed on your PATH:")
        output.say(f"  {lines['installed']}")
    output.say()
    output.say("In Claude Desktop, put this into claude_desktop_config.json:", "bold")
    for system, file in lines["desktop_files"].items():
        output.say(f"  {system}: {file}")
    output.say(lines["desktop"])
