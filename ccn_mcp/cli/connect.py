"""The lines that connect a client to this program, right for how it is installed here."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, TypedDict

PROGRAM: Final = "ccn-mcp"
DESKTOP_FILES: Final = {
    "macOS": "~/Library/Application Support/Claude/claude_desktop_config.json",
    "Windows": r"%APPDATA%\Claude\claude_desktop_config.json",
}


class Connecting(TypedDict):
    """How to connect. `here` is right on this machine now; `installed` once ccn-mcp is on the PATH."""

    on_path: bool
    here: str
    installed: str
    desktop: str
    desktop_files: dict[str, str]


def connecting() -> Connecting:
    """The commands and the configuration to paste."""
    command = command_here()
    claude = ["claude", "mcp", "add", "--scope", "user", "ccn", "--"]
    server = {"command": _full(command[0]), "args": [*command[1:], "serve"]}
    return {
        "on_path": command == [PROGRAM],
        "here": _quoted([*claude, *command, "serve"]),
        "installed": _quoted([*claude, PROGRAM, "serve"]),
        # Claude Desktop does not know the PATH of your shell, so the program is named in full.
        "desktop": json.dumps({"mcpServers": {"ccn": server}}, indent=2, ensure_ascii=False),
        "desktop_files": DESKTOP_FILES,
    }


def command_here() -> list[str]:
    """The command that starts this program from anywhere."""
    if _lasting(shutil.which(PROGRAM)):
        return [PROGRAM]
    checkout = _checkout()
    if checkout is not None and shutil.which("uv"):
        return ["uv", "run", "--directory", str(checkout), PROGRAM]
    script = Path(sys.executable).with_name(f"{PROGRAM}.exe" if sys.platform == "win32" else PROGRAM)
    return [str(script)] if script.exists() else [sys.executable, "-m", "ccn_mcp"]


def _lasting(found: str | None) -> bool:
    """Whether a program on the PATH stays there: an activated environment's (or uv run's) does not."""
    if found is None:
        return False
    in_environment = sys.prefix != sys.base_prefix
    return not (in_environment and Path(found).parent == Path(sys.executable).parent)


def _checkout() -> Path | None:
    folder = Path(__file__).parents[2]
    return folder if (folder / "pyproject.toml").is_file() else None


def _full(program: str) -> str:
    return shutil.which(program) or program


def _quoted(words: list[str]) -> str:
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
