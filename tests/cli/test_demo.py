"""The demo really runs, in time, and leaves nothing behind, interrupted or not."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ccn_mcp.cli import connect
from tests.cli.conftest import environment, process

DEMO_S_MAX = 40.0


def test_the_demo_shows_what_it_claims(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    ran = process("demo", "--json", env={"TMPDIR": str(temporary), "CCN_DB": str(tmp_path / "mine.db")})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(ran.stdout)
    assert found["ok"] is True
    assert found["seconds"] < DEMO_S_MAX
    facts = found["facts"]
    assert facts["protocols"][1] == "2026-07-28"
    assert facts["messages"] == 486
    assert min(facts["recorded_by"].values()) > 100
    assert facts["drift"] == ["watch", "recheck", "reinit", "ok"]
    assert facts["forgeries_found"]["column"]["code"] == "columns"
    assert facts["forgeries_found"]["body"]["code"] == "content"
    assert facts["forgeries_found"]["all_hashes"] == "known_head"
    assert facts["forgeries_found"]["all_heads"] == "known_head"
    assert found["connect"]["installed"] == "claude mcp add --scope user ccn -- ccn-mcp serve"
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "mine.db").exists(), "the demo has nothing to do with the person's store"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_demo_cleans_up(tmp_path: Path, how: signal.Signals) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "ccn_mcp", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1"),
    )
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("4. Recording"):
            break
    os.kill(running.pid, how)
    _, said = running.communicate(timeout=DEMO_S_MAX)
    assert (running.returncode, said) == (130, "ccn-mcp: stopped\n")
    assert list(tmp_path.glob("ccn*")) == []
    assert not _mentioned_by_a_process(str(tmp_path))


def _mentioned_by_a_process(word: str) -> bool:
    found = False
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found |= word.encode() in file.read_bytes()
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_a_failing_step_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; from ccn_mcp.cli import demo_steps, main; steps = demo_steps.STEPS; "
        "demo_steps.STEPS = steps[:1] + steps[5:]; "
        "sys.exit(main.run(['demo']))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=DEMO_S_MAX,
        check=False,
        env=environment(TMPDIR=str(tmp_path)),
    )
    assert ran.returncode == 1
    assert "step 2 (Reporting character): IndexError" in ran.stderr
    assert list(tmp_path.glob("ccn*")) == []


@pytest.mark.parametrize(
    ("on_path", "uv", "expected"),
    [
        ("/usr/local/bin/ccn-mcp", None, "ccn-mcp serve"),
        (
            None,
            "/usr/bin/uv",
            f"uv run --directory {shlex.quote(str(Path(__file__).parents[2]))} ccn-mcp serve",
        ),
    ],
)
def test_the_line_to_paste_fits_the_installation(
    monkeypatch: pytest.MonkeyPatch, on_path: str | None, uv: str | None, expected: str
) -> None:
    places = {"ccn-mcp": on_path, "uv": uv}
    monkeypatch.setattr("ccn_mcp.cli.connect.shutil.which", places.get)
    lines = connect.connecting()
    assert lines["here"] == f"claude mcp add --scope user ccn -- {expected}"
    server = json.loads(lines["desktop"])["mcpServers"]["ccn"]
    assert Path(server["command"]).is_absolute()
    assert server["args"][-1] == "serve"
