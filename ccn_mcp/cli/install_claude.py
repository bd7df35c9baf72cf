"""Claude Code, by its own commands: it rewrites its files while it runs, so only it may change them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from ccn_mcp.cli import output
from ccn_mcp.cli.connect import PROGRAM
from ccn_mcp.domain.errors import NotFound, Refused

PLUGIN: Final = "ccn@ccn-mcp"
MARKETPLACE: Final = "ccn-mcp"
MARKETPLACE_FILE: Final = Path(".claude-plugin") / "marketplace.json"
WAIT_S_MAX: Final = 60
SCOPE: Final = ("--scope", "user")
"""In every folder: a record that knows one project only is not what this program is for."""


def marketplace() -> Path | None:
    """The folder that holds the plugin: of the source, or what was installed with the package."""
    package = Path(__file__).parents[1]
    places = (package.parent, package / "data" / "marketplace")
    return next((place for place in places if (place / MARKETPLACE_FILE).is_file()), None)


def installed() -> bool:
    """Whether the person's Claude Code has the plugin, and it is switched on."""
    known = _json(shutil.which("claude"), "plugin", "list", "--json")
    return any(item.get("id") == PLUGIN and item.get("enabled") for item in known)


def plugin_folder() -> Path | None:
    """The plugin itself, for one session that has not installed it."""
    found = marketplace()
    return found / "plugin" if found is not None else None


def plan(name: str, server: list[str], plugin: Path | None, undo: bool) -> list[list[str]]:
    """The commands that lead from how Claude Code is now to the plugin (None: to the server alone), or to neither.

    Raises:
        NotFound: there is no `claude`. Refused: another program has the server's name.
    """
    claude = _program()
    known = _json(claude, "plugin", "list", "--json")
    own = next((item for item in known if item.get("id") == PLUGIN and item.get("scope") == "user"), None)
    markets = _json(claude, "plugin", "marketplace", "list", "--json")
    market = next((item for item in markets if item.get("name") == MARKETPLACE), None)
    said = _asked(claude, "mcp", "get", name)
    theirs = bool(said) and PROGRAM not in said and "ccn_mcp" not in said
    remove_server = [["claude", "mcp", "remove", *SCOPE, name]]
    if undo:
        steps = [["claude", "plugin", "uninstall", PLUGIN]] if own else []
        steps += [["claude", "plugin", "marketplace", "remove", MARKETPLACE]] if market else []
        if theirs and not steps:
            raise _not_ours(name)
        return steps + (remove_server if said and not theirs else [])
    if plugin is None:
        if theirs:
            raise _not_ours(name)
        if own is not None or _as_wanted(said, server):
            return []
        return [*(remove_server if said else []), ["claude", "mcp", "add", *SCOPE, name, "--", *server]]
    steps = remove_server if said and not theirs else []  # the plugin brings the server
    if market is None or market.get("path") != str(plugin):
        steps = [*steps, ["claude", "plugin", "marketplace", "add", str(plugin)]]
    if own is None or not own.get("enabled"):
        steps = [*steps, ["claude", "plugin", "install", PLUGIN]]
    return steps


def run(commands: list[list[str]]) -> None:
    """Run them in order, up to the first that fails.

    Raises:
        NotFound: there is no `claude`. Refused: one failed.
    """
    claude = _program()
    for command in commands:
        done = _run(claude, *command[1:])
        if done.returncode != 0:
            said = output.one_line(done.stderr or done.stdout, 400)
            raise Refused(f"{' '.join(command[:3])} ended with status {done.returncode}: {said}")


def _program() -> str:
    claude = shutil.which("claude")
    if claude is None:
        raise NotFound(
            "there is no program `claude` on your PATH, and only it should change Claude Code's own configuration; "
            "nothing was changed. Install Claude Code, or connect one project with --project FOLDER"
        )
    return claude


def _not_ours(name: str) -> Refused:
    return Refused(
        f"Claude Code has a server named {name} that is not this program; nothing was changed. To see it: "
        f"claude mcp get {name}"
    )


def _as_wanted(said: str, server: list[str]) -> bool:
    lines = (line.partition(":") for line in said.splitlines())
    facts = {key.strip(): rest.split() for key, _, rest in lines}
    return [*facts.get("Command", []), *facts.get("Args", [])] == " ".join(server).split()


def _asked(claude: str | None, *arguments: str) -> str:
    """What it prints; empty where it fails."""
    if claude is None:
        return ""
    done = _run(claude, *arguments)
    return done.stdout if done.returncode == 0 else ""


def _json(claude: str | None, *arguments: str) -> list[dict[str, Any]]:
    """A list that it prints; empty where it knows no such command."""
    try:
        found = json.loads(_asked(claude, *arguments) or "[]")
    except ValueError:
        return []
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _run(claude: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [claude, *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            # Elsewhere it would show what one project has under the same name.
            cwd=Path.home(),
            timeout=WAIT_S_MAX,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError) as exc:
        raise Refused(
            f"claude {' '.join(arguments)} did not work: {exc}. Run it yourself in a terminal"
        ) from exc
