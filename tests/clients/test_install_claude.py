"""`ccn-mcp install claude-code` with real Claude Code: its own commands do what the plan says, and undo it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients.harness import bare_environment
from tests.clients.npm import CLAUDE_CODE, LINUX_ONLY, fetched

pytestmark = [pytest.mark.slow, LINUX_ONLY]

RUN_S_MAX: Final = 120.0
QUIET: Final = {
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
}


class Account:
    """A home folder with `claude` and `ccn-mcp` on its PATH."""

    def __init__(self, claude: Path, root: Path) -> None:
        self.home, programs = root / "home", root / "bin"
        programs.mkdir()
        (programs / "claude").symlink_to(claude)
        # A script, not a link: what a tool installer puts there lies outside of every environment.
        ours = programs / "ccn-mcp"
        ours.write_text(f'#!/bin/sh\nexec "{Path(sys.executable).with_name("ccn-mcp")}" "$@"\n')
        ours.chmod(0o755)
        self.environment = bare_environment(self.home) | QUIET
        self.environment["PATH"] = os.pathsep.join((str(programs), os.defpath))

    def run(self, *words: str) -> str:
        done = subprocess.run(
            words,
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
        return done.stdout

    def install(self, *more: str) -> dict[str, Any]:
        done: dict[str, Any] = json.loads(self.run("ccn-mcp", "install", "claude-code", "--json", *more))
        return done

    def plugins(self) -> list[str]:
        found = json.loads(self.run("claude", "plugin", "list", "--json"))
        return [item["id"] for item in found if item["enabled"]]


@pytest.fixture
def account(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Account:
    return Account(fetched(tmp_path_factory, CLAUDE_CODE) / "claude", tmp_path)


def test_the_plugin_comes_and_goes(account: Account) -> None:
    planned = account.install()
    assert (planned["changes"], planned["written"]) == (True, False)
    assert account.plugins() == []
    done = account.install("--yes")
    assert done["commands"] == planned["commands"]
    assert account.plugins() == ["ccn@ccn-mcp"]
    assert "plugin:ccn:ccn: ccn-mcp serve - ✔ Connected" in account.run("claude", "mcp", "list")
    assert account.install("--yes")["changes"] is False
    account.install("--undo", "--yes")
    assert account.plugins() == []
    assert json.loads(account.run("claude", "plugin", "marketplace", "list", "--json")) == []
    assert account.install("--undo")["changes"] is False


def test_the_plugin_replaces_the_server_and_undo_takes_either(account: Account) -> None:
    account.install("--server-only", "--yes")
    assert "ccn: ccn-mcp serve - ✔ Connected" in account.run("claude", "mcp", "list").splitlines()
    assert account.install("--server-only", "--yes")["changes"] is False
    account.install("--yes")
    listed = account.run("claude", "mcp", "list").splitlines()
    assert [line.split(": ")[0] for line in listed if "Connected" in line] == ["plugin:ccn:ccn"]
    account.install("--undo", "--yes")
    account.install("--server-only", "--yes")
    account.install("--undo", "--yes")
    assert "Connected" not in account.run("claude", "mcp", "list")
