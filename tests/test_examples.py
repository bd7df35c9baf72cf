"""Each example does what it says, from its own command line; the list of them is complete."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.clients.npm import LINUX_ONLY, node_program

ROOT: Final = Path(__file__).parents[1]
EXAMPLES: Final = ROOT / "examples"
WAIT_S: Final = 120
NODE_WAIT_S: Final = 600
SELDOM: Final = "inspector"
"""Needs Node; `test_inspector` runs it."""

LINE: Final = re.compile(
    r"^\| \[(?P<name>[^\]]+)\]\((?P<link>[^)]+)\) \|.*\| `uv run (?P<command>[^`]+)` \|$"
)


def manifest() -> dict[str, tuple[str, list[str]]]:
    """What examples/README.md lists: link and command of each."""
    found = map(LINE.match, (EXAMPLES / "README.md").read_text("utf-8").splitlines())
    return {line["name"]: (line["link"], shlex.split(line["command"])) for line in found if line}


RUN: Final = {
    name: command for name, (_, command) in manifest().items() if name != SELDOM and "FILE" not in command
}


def environment(home: Path, *programs: Path) -> dict[str, str]:
    """Nothing of the person's: a home folder of its own, no settings."""
    home.mkdir(exist_ok=True)
    path = os.pathsep.join((*map(str, programs), str(Path(sys.executable).parent), os.defpath))
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}


def for_npm(node: Path) -> dict[str, str]:
    """The person's own, because npm's registry and certificates are set there; but no settings of ours."""
    kept = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251  # to take our settings out of it
        if not name.startswith(("CCN_", "CLAUDE"))
    }
    return {**kept, "PATH": os.pathsep.join((str(node), kept.get("PATH", os.defpath)))}


def run(
    command: list[str], env: dict[str, str], *, limit_s: int = WAIT_S
) -> subprocess.CompletedProcess[str]:
    assert command[0] == "python"
    return subprocess.run(
        [sys.executable, *command[1:]],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


def test_the_list_is_complete_and_holds_nothing_else() -> None:
    there = {path.name for path in EXAMPLES.iterdir() if path.name not in ("README.md", "__pycache__")}
    assert set(manifest()) == there, "list it in examples/README.md, or take it out there"
    for name, (link, command) in manifest().items():
        assert (EXAMPLES / link).is_file(), f"{name}: {link} is not there"
        assert all((ROOT / word).exists() for word in command if word.startswith("examples/")), name


def test_the_bot_is_short() -> None:
    assert len((EXAMPLES / "bot.py").read_text("utf-8").splitlines()) < 40


@pytest.mark.parametrize("name", RUN)
def test_example(name: str, tmp_path: Path) -> None:
    ran = run(RUN[name], environment(tmp_path / "home"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    assert ran.stdout
    left = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert not left, "examples leave nothing in a person's home folder"


def test_a_configuration_that_does_not_work_is_found_out(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"mcpServers": {"ccn": {"command": "ccn-mcp", "args": ["sevre"]}}}')
    command = ["python", "examples/check_config.py", str(broken)]
    assert run(command, environment(tmp_path / "home")).returncode != 0


def test_without_a_new_enough_node_the_inspector_example_says_so(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("node", "npx"):
        (programs / name).write_text("#!/bin/sh\necho v20.1.0\n")
        (programs / name).chmod(0o755)
    ran = run(manifest()["inspector"][1], environment(tmp_path / "home", programs))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("skipped: Node is v20.1.0")


@pytest.mark.slow
@LINUX_ONLY
def test_inspector(tmp_path_factory: pytest.TempPathFactory) -> None:
    node = node_program(tmp_path_factory).parent
    ran = run(manifest()["inspector"][1], for_npm(node), limit_s=NODE_WAIT_S)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout == "Inspector sees what it should\n"
