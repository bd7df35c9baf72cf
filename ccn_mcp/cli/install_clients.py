"""The clients that `ccn-mcp install` knows, as data: where each keeps its servers, and how it writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccn_mcp.domain.errors import Refused

DESKTOP_FILE: Final = "claude_desktop_config.json"


@dataclass(frozen=True, slots=True)
class Client:
    """One client. Paths are relative to the folder that `place` names: of the account, or of a project."""

    name: str
    title: str
    servers: str = "mcpServers"
    """The key under which its file has the servers."""

    comments: bool = False
    """Whether its file is JSON with comments."""

    typed: bool = False
    """Whether an entry says that it is `stdio`."""

    home_file: str = ""
    """Below the home folder."""

    app_file: str = ""
    """Below the folder in which the platform keeps the settings of applications."""

    project_file: str = ""
    """Below a project's folder. Empty: it has none."""

    then: str = ""
    """What to do afterwards."""


CLIENTS: Final = {
    client.name: client
    for client in (
        Client(
            "claude-code",
            "Claude Code",
            project_file=".mcp.json",
            then="Start Claude Code in that folder; it asks once whether you trust this server.",
        ),
        Client(
            "claude-desktop",
            "Claude Desktop",
            app_file=f"Claude/{DESKTOP_FILE}",
            then="Quit Claude Desktop completely (not only its window) and start it again; it reads this only then.",
        ),
        Client(
            "cursor",
            "Cursor",
            comments=True,
            home_file=".cursor/mcp.json",
            project_file=".cursor/mcp.json",
            then="In Cursor, look under Settings, MCP: ccn is there; switch it on if it is off.",
        ),
        Client(
            "vscode",
            "VS Code",
            servers="servers",
            comments=True,
            typed=True,
            app_file="Code/User/mcp.json",
            project_file=".vscode/mcp.json",
            then="In VS Code, run the command `MCP: List Servers` and start ccn; it asks whether you trust it.",
        ),
    )
}


def place(client: Client, platform: str, environ: Mapping[str, str], home: Path) -> Path:
    """The file in which this account's client keeps its servers.

    `platform` is as in `sys.platform`; of the environment only XDG_CONFIG_HOME (Linux) and APPDATA (Windows) count.

    Raises:
        Refused: several packaged installations of Claude Desktop, and none or more than one is in use.
    """
    if client.home_file:
        return home / client.home_file
    if client.name == "claude-desktop" and platform == "win32":
        packaged = _packaged(home)
        if packaged is not None:
            return packaged / DESKTOP_FILE
    return _applications(platform, environ, home) / client.app_file


def _applications(platform: str, environ: Mapping[str, str], home: Path) -> Path:
    if platform == "darwin":
        return home / "Library" / "Application Support"
    if platform == "win32":
        return Path(environ.get("APPDATA") or home / "AppData" / "Roaming")
    named = environ.get("XDG_CONFIG_HOME", "")
    return Path(named) if named.startswith("/") else home / ".config"


def _packaged(home: Path) -> Path | None:
    # Packaged (MSIX) installations, the default since 2026, read only from their own folder, while the
    # app's own "Edit Config" opens the other one.
    packages = home / "AppData" / "Local" / "Packages"
    found = sorted(packages.glob("Claude_*/LocalCache/Roaming/Claude"))
    if len(found) > 1:
        found = [folder for folder in found if (folder / DESKTOP_FILE).exists()]
        if len(found) != 1:
            raise Refused(
                f"there are several installations of Claude Desktop in {packages}; nothing was changed. "
                "Start the one that you use, add the entry that ccn-mcp demo prints to its file by hand"
            )
    return found[0] if found else None
