"""Programs from npm, fetched once per test session into its temporary folder; their install scripts never run."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

INSTALL_S_MAX: Final = 300.0
ARCHITECTURE: Final = "arm64" if platform.machine() == "aarch64" else "x64"
NODE: Final = f"node-linux-{ARCHITECTURE}@22"
"""MCP Inspector needs 22.19, the conformance suite fs.globSync, which older ones lack."""

CLAUDE_CODE: Final = f"@anthropic-ai/claude-code-linux-{ARCHITECTURE}@2.1.330"
INSPECTOR: Final = "@modelcontextprotocol/inspector@2.12.0"
MCPB: Final = "@anthropic-ai/mcpb@2.1.2"
TS_SDK1: Final = "@modelcontextprotocol/sdk@1.32.2"
TS_CLIENT2: Final = "@modelcontextprotocol/client@2.4.0"

EXT_APPS: Final = "@modelcontextprotocol/ext-apps@2.0.4"
ESBUILD: Final = "esbuild@0.28.2"
PLAYWRIGHT: Final = "playwright-core@1.65.1"
"""Without a browser: Debian's `chromium-headless-shell` is the one that it drives."""

ZOD: Final = "zod@4.6.7"

LINUX_ONLY: Final = pytest.mark.skipif(
    sys.platform != "linux", reason="the programs of this test come as Linux packages"
)


def fetched_together(factory: pytest.TempPathFactory, *what: str) -> Path:
    """A folder in which Node finds all of these packages, for programs that need them at once."""
    folder = factory.getbasetemp() / "npm" / re.sub(r"[^\w.-]", "_", " ".join(what))[:100]
    if not (folder / "node_modules" / ".package-lock.json").exists():
        _install(folder, *what)
    return folder


def fetched(factory: pytest.TempPathFactory, what: str) -> Path:
    """The folder of a package, named with its version (`name@version`); Node finds it from `parents[2]` of this."""
    folder = factory.getbasetemp() / "npm" / re.sub(r"[^\w.-]", "_", what)
    modules = folder / "node_modules"
    if not (modules / ".package-lock.json").exists():  # npm writes it last
        _install(folder, what)
    return modules / what.rpartition("@")[0]


def node_program(factory: pytest.TempPathFactory) -> Path:
    """A Node that is new enough for every test here: an npm package that is nothing but the program."""
    return fetched(factory, NODE) / "bin" / "node"


def _install(folder: Path, *what: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail(f"npm is needed to fetch {' '.join(what)} and was not found; install Node.js first")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}')
    done = subprocess.run(
        [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", *what],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_S_MAX,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(
            f"npm install {' '.join(what)} ended with status {done.returncode}:\n{done.stderr[-2_000:]}"
        )
