"""Fixtures of the tests with real Claude Code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.npm import CLAUDE_CODE, fetched
from tests.interop.real_claude import ROOT, Home


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Home:
    made = Home(fetched(tmp_path_factory, CLAUDE_CODE) / "claude", tmp_path / "home")
    made.root.mkdir()
    made.run("plugin", "marketplace", "add", str(ROOT))
    made.run("plugin", "install", "ccn@ccn-mcp")
    return made
