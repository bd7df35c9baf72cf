"""`ccn-mcp install`: put this server into a client's configuration, and take it out again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Final, TypedDict

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.connect import PROGRAM, command_here
from ccn_mcp.cli.install_file import Change, inserted, removed, write
from ccn_mcp.cli.output import AsJson
from ccn_mcp.domain.errors import BadInput, NotFound, Refused

NAME: Final = "ccn"
CLIENTS: Final = ("claude-code", "claude-desktop")
DESKTOP_FILE: Final = "claude_desktop_config.json"
PROJECT_FILE: Final = ".mcp.json"
CLAUDE_WAIT_S_MAX: Final = 60
SCOPE: Final = ("--scope", "user")
"""In every folder: a record that knows one project only is not what this program is for."""

Client = Annotated[str, typer.Argument(metavar="|".join(CLIENTS), help="Which client.", show_default=False)]
Write = Annotated[bool, typer.Option("--write", help="Do it. Without this, only show what would change.")]
Undo = Annotated[bool, typer.Option("--undo", help="Take our entry out again, and nothing else.")]
Project = Annotated[
    str | None,
    typer.Option("--project", metavar="FOLDER", help="claude-code: this project's .mcp.json instead."),
]
Store = Annotated[
    str | None,
    typer.Option("--db", metavar="PATH", help="Store file that the client is to use. Default: as always."),
]


class Installed(TypedDict):
    """What was done, or would be. `command` is for claude-code, `file` and `diff` are for a file."""

    client: str
    changes: bool
    written: bool
    file: str | None
    backup: str | None
    diff: str
    command: list[str] | None
    next: str


def install(
    client: Client,
    write_it: Write = False,
    undo: Undo = False,
    project: Project = None,
    db: Store = None,
    as_json: AsJson = False,
) -> None:
    """Connect Claude Code or Claude Desktop to this server.

    Shows what would change; --write does it. Everything else in the client's configuration stays as it is.
    """
    if client not in CLIENTS:
        raise BadInput(f"{client!r} is not a client that this knows; use one of: {', '.join(CLIENTS)}")
    if project is not None and client != "claude-code":
        raise BadInput("--project is for claude-code; Claude Desktop has one configuration")
    arguments = [*command_here(), "serve", *_store(db)]
    if client == "claude-code" and project is None:
        done = _through_claude(arguments, undo, write_it)
    else:
        file = _project_file(project) if project is not None else desktop_file(Path.home(), sys.platform)
        done = _in_file(client, file, arguments, undo, write_it)
    if as_json:
        output.emit(done)
    else:
        _show(done)


def _store(db: str | None) -> list[str]:
    """`--db PATH` if the store is not where it would be anyway: a client does not know your shell's CCN_DB."""
    from ccn_mcp import settings

    chosen = settings.load(db).db
    return ["--db", str(chosen)] if chosen != settings.data_folder() / "ccn.db" else []


# ---- a configuration file ------------------------------------------------------------------------------


def desktop_file(home: Path, platform: str) -> Path:
    """Where Claude Desktop of this home folder reads its configuration.

    Raises:
        Refused: several packaged installations, none of which has a configuration yet.
    """
    if platform == "darwin":
        return home / "Library" / "Application Support" / "Claude" / DESKTOP_FILE
    if platform != "win32":
        return _config_folder(home) / "Claude" / DESKTOP_FILE
    # Packaged (MSIX) installations, the default since 2026, read only from their own folder, while the
    # app's own "Edit Config" opens the other one.
    packages = home / "AppData" / "Local" / "Packages"
    found = sorted(packages.glob("Claude_*/LocalCache/Roaming/Claude"))
    if len(found) > 1:
        used = [folder for folder in found if (folder / DESKTOP_FILE).exists()]
        if len(used) != 1:
            raise Refused(
                f"there are several installations of Claude Desktop in {packages}; nothing was changed. "
                "Start the one that you use, add the entry that ccn-mcp demo prints to its file by hand"
            )
        found = used
    return (found[0] if found else _roaming(home) / "Claude") / DESKTOP_FILE


def _config_folder(home: Path) -> Path:
    import platformdirs

    # Of this account's own home only; XDG_CONFIG_HOME may have moved it.
    return platformdirs.user_config_path() if home == Path.home() else home / ".config"


def _roaming(home: Path) -> Path:
    if sys.platform == "win32" and home == Path.home():
        import platformdirs

        return platformdirs.user_data_path(roaming=True)
    return home / "AppData" / "Roaming"


def _project_file(project: str) -> Path:
    folder = Path(project).expanduser().absolute()
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}; name the project's folder with --project")
    return folder / PROJECT_FILE


def _in_file(client: str, file: Path, arguments: list[str], undo: bool, write_it: bool) -> Installed:
    if not file.parent.is_dir() and not undo:
        raise NotFound(
            f"there is no folder {file.parent}, so Claude Desktop has not run on this account yet. Start it once, "
            "then do this again"
        )
    if undo:
        change = removed(file, NAME)
    else:
        # Claude Desktop does not know the PATH of your shell, so the program is named in full. A project's
        # file is shared, and a path of this machine would mean nothing elsewhere.
        found = None if client == "claude-code" and arguments[0] == PROGRAM else shutil.which(arguments[0])
        change = inserted(file, NAME, {"command": found or arguments[0], "args": arguments[1:]})
    backup = write(change) if write_it and change.changes else None
    return {
        "client": client,
        "changes": change.changes,
        "written": write_it and change.changes,
        "file": str(file),
        "backup": str(backup) if backup else None,
        "diff": change.diff(),
        "command": None,
        "next": _next(client, change, undo, write_it),
    }


def _next(client: str, change: Change, undo: bool, write_it: bool) -> str:
    if not change.changes:
        return "There is no entry of ours." if undo else "It is connected already; nothing has to be changed."
    if not write_it:
        return "Nothing was changed. To do it, run the same command with --write."
    if client == "claude-desktop":
        return "Quit Claude Desktop completely (not only its window) and start it again; it reads this only then."
    return "Start Claude Code in that folder; it asks once whether you trust this server."


# ---- Claude Code's own command -------------------------------------------------------------------------


def _through_claude(arguments: list[str], undo: bool, write_it: bool) -> Installed:
    """Claude Code rewrites its file while it runs, so only its own command changes that."""
    claude = shutil.which("claude")
    command = ["claude", "mcp", "add", *SCOPE, NAME, "--", *arguments]
    if undo:
        command = ["claude", "mcp", "remove", *SCOPE, NAME]
    done: Installed = {
        "client": "claude-code",
        "changes": True,
        "written": False,
        "file": None,
        "backup": None,
        "diff": "",
        "command": command,
        "next": "Nothing was changed. Run that command, or this one again with --write.",
    }
    if not write_it:
        return done
    if claude is None:
        raise NotFound(
            "there is no program `claude` on your PATH, and only it should change Claude Code's own configuration. "
            "Install Claude Code, or connect one project with --project FOLDER"
        )
    known = _run(claude, "mcp", "get", NAME)
    if _as_wanted(known, arguments, undo):
        absent = "There is no entry of ours." if undo else "It is connected already; nothing was changed."
        return {**done, "changes": False, "command": None, "next": absent}
    if known.returncode == 0 and PROGRAM not in known.stdout and "ccn_mcp" not in known.stdout:
        raise Refused(
            f"Claude Code has a server named {NAME} that is not this program; nothing was changed. To see it: "
            f"claude mcp get {NAME}"
        )
    if known.returncode == 0 and not undo:
        _must(claude, ["mcp", "remove", *SCOPE, NAME])
    _must(claude, command[1:])
    said = "Claude Code has it in every folder from its next session on."
    if undo:
        said = "Taken out; sessions that run now keep it until they end."
    return {**done, "written": True, "next": said}


def _as_wanted(known: subprocess.CompletedProcess[str], arguments: list[str], undo: bool) -> bool:
    if undo or known.returncode != 0:
        return undo and known.returncode != 0
    said = {
        key.strip(): rest.split()
        for key, _, rest in (line.partition(":") for line in known.stdout.splitlines())
    }
    return [*said.get("Command", []), *said.get("Args", [])] == " ".join(arguments).split()


def _run(claude: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [claude, *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            # Elsewhere it would show a server that one project has under the same name.
            cwd=Path.home(),
            timeout=CLAUDE_WAIT_S_MAX,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError) as exc:
        raise Refused(
            f"claude {' '.join(arguments)} did not work: {exc}. Run it yourself in a terminal"
        ) from exc


def _must(claude: str, arguments: list[str]) -> None:
    done = _run(claude, *arguments)
    if done.returncode != 0:
        said = output.one_line(done.stderr or done.stdout, 400)
        raise Refused(f"claude {' '.join(arguments[:2])} ended with status {done.returncode}: {said}")


# ---- showing -------------------------------------------------------------------------------------------


def _show(done: Installed) -> None:
    if done["file"] is not None:
        output.say(f"File    {done['file']}")
    if done["backup"] is not None:
        output.say(f"Backup  {done['backup']}")
    for line in done["diff"].splitlines():
        output.say(line, {"+": "green", "-": "red"}.get(line[:1], ""))
    if done["command"] is not None:
        words: Any = done["command"]
        output.say(f"  {_quoted(words)}", "cyan")
    output.tell(done["next"])


def _quoted(words: list[str]) -> str:
    import shlex

    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
