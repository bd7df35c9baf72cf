"""The whole path by the mcp 1.x client, which many applications still ship, in a venv of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.clients.harness import ROOT, WALK_S_MAX, bare_environment

REQUIREMENT: Final = "mcp==1.30.*"
INSTALL_S_MAX: Final = 300.0
REVISION: Final = "2025-11-25"


@pytest.fixture(scope="session")
def mcp1_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh venv with mcp 1.30."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.fail(
            "uv is needed to set up the mcp 1.x client and was not found; `pip install uv`, then run again"
        )
    venv = tmp_path_factory.mktemp("mcp1") / "venv"
    python = venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    _install([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], venv.parent)
    _install([uv, "pip", "install", "--quiet", "--python", str(python), REQUIREMENT], venv.parent)
    return python


@pytest.mark.slow
def test_the_whole_path_by_the_mcp_1_client(mcp1_python: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run = subprocess.run(
        [
            str(mcp1_python),
            "-m",
            "tests.clients.mcp1_path",
            sys.executable,
            str(tmp_path / "record.db"),
            str(home),
        ],
        cwd=ROOT,
        env=bare_environment(home),
        capture_output=True,
        text=True,
        timeout=WALK_S_MAX + 30,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == "", "the server's stderr reaches the client's"
    answer = json.loads(run.stdout)
    assert answer["client"].startswith("1.30.")
    assert answer["revision"] == REVISION
    assert answer["conversation_id"]


def _install(arguments: list[str], folder: Path) -> None:
    # In a folder of its own: uv would apply this project's pins, which are of the other SDK generation.
    done = subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(arguments)} ended with status {done.returncode}:\n{done.stderr[-2_000:]}")
