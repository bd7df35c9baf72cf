"""`ccn-mcp install`: put this server into a client's configuration, and take it out again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypedDict

import typer

from ccn_mcp.cli import install_claude, output
from ccn_mcp.cli.connect import PROGRAM, command_here
from ccn_mcp.cli.install_clients import CLIENTS, Client, place
from ccn_mcp.cli.install_file import inserted, removed, write
from ccn_mcp.cli.output import AsJson
from ccn_mcp.domain.errors import BadInput, NotFound

NAME: Final = "ccn"
CLAUDE_CODE: Final = "claude-code"

ClientName = Annotated[
    str, typer.Argument(metavar="|".join(CLIENTS), help="Which client.", show_default=False)
]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", "--write", help="Do it without asking. For scripts, and without a terminal."),
]
Undo = Annotated[bool, typer.Option("--undo", help="Take our entry out again, and nothing else.")]
Project = Annotated[
    str | None,
    typer.Option("--project", metavar="FOLDER", help="For this project only, in its own file."),
]
ServerOnly = Annotated[
    bool,
    typer.Option(
        "--server-only", help="claude-code: the server without the plugin, which records by itself."
    ),
]
Store = Annotated[
    str | None,
    typer.Option("--db", metavar="PATH", help="Store file that the client is to use. Default: as always."),
]


class Installed(TypedDict):
    """What was done, or would be. `commands` are for claude-code, `file` and `diff` are for a file."""

    client: str
    changes: bool
    written: bool
    file: str | None
    backup: str | None
    diff: str
    commands: list[list[str]]
    next: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done, how to do it (it returns the backup), and what to say before and afterwards."""

    shown: Installed
    act: Callable[[], Path | None]
    after: str
    before: str = ""


def install(
    client: ClientName,
    yes: Yes = False,
    undo: Undo = False,
    project: Project = None,
    server_only: ServerOnly = False,
    db: Store = None,
    as_json: AsJson = False,
) -> None:
    """Connect Claude Code, Claude Desktop, Cursor or VS Code to this server.

    Shows what would change, then asks. Everything else in the client's configuration stays as it is.
    """
    found = CLIENTS.get(client)
    if found is None:
        raise BadInput(f"{client!r} is not a client that this knows; use one of: {', '.join(CLIENTS)}")
    if project is not None and not found.project_file:
        raise BadInput(f"--project is not for {client}: {found.title} has one configuration")
    if server_only and (client != CLAUDE_CODE or project is not None):
        raise BadInput(
            "--server-only is for claude-code without --project; elsewhere there is only the server"
        )
    arguments = [*command_here(), "serve", *_store(db)]
    if client == CLAUDE_CODE and project is None:
        plan = _through_claude(arguments, undo, server_only, db)
    else:
        plan = _in_file(found, project, arguments, undo)
    _carry_out(plan, yes, as_json=as_json)


def _store(db: str | None) -> list[str]:
    """`--db PATH` if the store is not where it would be anyway: a client does not know your shell's CCN_DB."""
    from ccn_mcp import settings

    chosen = settings.load(db).db
    return ["--db", str(chosen)] if chosen != settings.data_folder() / "ccn.db" else []


# ---- showing, asking, doing ----------------------------------------------------------------------------


def _carry_out(plan: Plan, yes: bool, *, as_json: bool) -> None:
    done = plan.shown
    if not as_json:
        _show(done)
        if done["changes"] and plan.before:
            output.tell(plan.before)
    asks = not yes and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    if done["changes"] and (yes or (asks and _agreed())):
        backup = plan.act()
        done = {**done, "written": True, "backup": str(backup) if backup else None, "next": plan.after}
    elif done["changes"] and asks:
        done = {**done, "next": "Nothing was changed."}
    if as_json:
        output.emit(done)
        return
    if done["backup"] is not None:
        output.say(f"Backup  {done['backup']}")
    output.tell(done["next"])


def _agreed() -> bool:
    """Ask the person at the terminal."""
    sys.stdout.write("Do this? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _show(done: Installed) -> None:
    if done["file"] is not None:
        output.say(f"File    {done['file']}")
    for line in done["diff"].splitlines():
        output.say(line, {"+": "green", "-": "red"}.get(line[:1], ""))
    for words in done["commands"]:
        output.say(f"  {_quoted(words)}", "cyan")


def _quoted(words: list[str]) -> str:
    import shlex

    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _planned(
    client: str,
    undo: bool,
    *,
    file: Path | None = None,
    diff: str = "",
    commands: Sequence[list[str]] = (),
) -> Installed:
    changes = bool(diff or commands)
    said = "There is no entry of ours." if undo else "It is connected already; nothing has to be changed."
    if changes:
        said = "Nothing was changed. To do it, run the same command with --yes."
    return {
        "client": client,
        "changes": changes,
        "written": False,
        "file": str(file) if file is not None else None,
        "backup": None,
        "diff": diff,
        "commands": list(commands),
        "next": said,
    }


# ---- a configuration file ------------------------------------------------------------------------------


def _in_file(client: Client, project: str | None, arguments: list[str], undo: bool) -> Plan:
    file = _project_file(client, project) if project is not None else _own_file(client)
    if not file.parent.is_dir() and not undo and project is None:
        raise NotFound(
            f"there is no folder {file.parent}, so {client.title} has not run on this account yet. Start it once, "
            "then do this again"
        )
    if undo:
        change = removed(file, NAME, client.servers, comments=client.comments)
    else:
        # Applications do not know the PATH of your shell, so the program is named in full. A project's file is
        # shared, and a path of this machine would mean nothing elsewhere.
        shared = project is not None and arguments[0] == PROGRAM
        program = arguments[0] if shared else shutil.which(arguments[0]) or arguments[0]
        kind = {"type": "stdio"} if client.typed else {}
        entry = {**kind, "command": program, "args": arguments[1:]}
        change = inserted(file, NAME, entry, client.servers, comments=client.comments)

    def act() -> Path | None:
        file.parent.mkdir(exist_ok=True)
        return write(change)

    gone = f"ccn is gone; restart {client.title}, which may keep it until then. Your record stays as it is."
    shown = _planned(client.name, undo, file=file, diff=change.diff())
    return Plan(shown, act, gone if undo else client.then)


def _own_file(client: Client) -> Path:
    from ccn_mcp import settings

    return place(client, sys.platform, settings.platform_folders(), Path.home())


def _project_file(client: Client, project: str) -> Path:
    folder = Path(project).expanduser().absolute()
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}; name the project's folder with --project")
    return folder / client.project_file


# ---- Claude Code's own commands ------------------------------------------------------------------------


def _through_claude(arguments: list[str], undo: bool, server_only: bool, db: str | None) -> Plan:
    plugin = None if server_only or arguments[0] != PROGRAM else install_claude.marketplace()
    if plugin is not None and db is not None and not undo:
        raise BadInput(
            "--db does not reach the plugin's hooks. Name the store in ~/.claude/settings.json, "
            '{"env": {"CCN_DB": "PATH"}}, and leave --db out; or connect the server alone: --server-only'
        )
    commands = install_claude.plan(NAME, arguments, plugin, undo)

    def act() -> None:
        install_claude.run(commands)

    shown = _planned(CLAUDE_CODE, undo, commands=commands)
    alone = "" if undo or plugin is not None else _server_alone(server_only)
    return Plan(shown, act, _after(undo, alone, arguments), before="" if server_only else alone)


def _server_alone(server_only: bool) -> str:
    said = "The server alone records nothing by itself; the plugin does. "
    if server_only:
        return said + "To have it, do this again without --server-only."
    return said + (
        "The plugin needs ccn-mcp on your PATH: run `uv tool install .` in this project's folder, then do this again."
    )


def _after(undo: bool, alone: str, arguments: list[str]) -> str:
    if undo:
        return "ccn is gone; sessions that run now keep it until they end. Your record stays as it is."
    said = "Claude Code has it in every folder from its next session on. "
    if alone:
        return said + alone
    elsewhere = (
        " It uses the store that CCN_DB names where Claude Code is started." if "--db" in arguments else ""
    )
    return said + "It records by itself." + elsewhere
