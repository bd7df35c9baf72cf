"""The Plate's commands, and the guard on replacing it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from ccn_mcp import data
from tests.cli.conftest import Run, environment, on_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pty is for POSIX")

EXAMPLE = "example_plate.md"
NAME = "Quire"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The example Plate as the person's file."""
    path = tmp_path / "my plate.md"
    path.write_bytes(data.read(EXAMPLE))
    return path


def at_a_terminal(*arguments: str, typed: str, **more: str) -> tuple[int, str]:
    """Run a command with a terminal for stdin and stdout and type one line; returns status and screen."""
    import pty

    pid, terminal = pty.fork()
    if pid == 0:  # the child, which becomes the command
        words = [sys.executable, "-m", "ccn_mcp", *arguments]
        os.execve(sys.executable, words, environment(**more))  # noqa: S606  # pty.fork asks for it
    os.write(terminal, typed.encode())
    screen = b""
    while True:
        try:
            piece = os.read(terminal, 65_536)
        except OSError:  # Linux's way to say that the other side is gone
            break
        if not piece:
            break
        screen += piece
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), screen.decode()


def name_in_force(db: Path) -> str:
    return str(on_store(db, lambda node: node.plate()).plate.name)


def test_show_before_anything_was_chosen(cli: Run, db: Path) -> None:
    ran = cli("plate", "show", "--db", str(db))
    assert ran.status == 0
    assert "starter" in ran.out
    found = json.loads(cli("plate", "show", "--db", str(db), "--json").out)
    assert (found["starter"], found["entry"]) == (True, None)
    assert not db.parent.exists()


def test_set_shows_what_changes_and_takes_the_typed_name(db: Path, file: Path) -> None:
    status, screen = at_a_terminal(
        "plate", "set", str(file), "--db", str(db), typed=f"{NAME}\n", NO_COLOR="1"
    )
    assert status == 0, screen
    assert "name: Starter Plate -> Quire" in screen
    assert "Boundary" in screen
    assert "is in force" in screen
    assert name_in_force(db) == NAME
    again, screen = at_a_terminal("plate", "set", str(file), "--db", str(db), typed="")
    assert (again, "in force already" in screen) == (0, True)


@pytest.mark.parametrize("typed", ["yes\n", "\n", "quire\n", "\x04"])
def test_anything_else_sets_nothing(db: Path, file: Path, typed: str) -> None:
    status, screen = at_a_terminal("plate", "set", str(file), "--db", str(db), typed=typed)
    assert status == 4
    assert "nothing was changed" in screen
    assert not db.exists()


def test_refused_inside_claude_code_even_at_a_terminal(db: Path, file: Path) -> None:
    status, screen = at_a_terminal(
        "plate", "set", str(file), "--db", str(db), typed=f"{NAME}\n", CLAUDECODE="1"
    )
    assert status == 4
    assert "terminal of your own" in " ".join(screen.split())
    assert not db.exists()


def test_refused_without_a_terminal(cli: Run, db: Path, file: Path) -> None:
    ran = cli("plate", "set", str(file), "--db", str(db))
    assert ran.status == 4
    assert "terminal" in ran.err
    assert not db.exists()


def test_there_is_no_way_round_the_question(cli: Run, db: Path, file: Path) -> None:
    for option in ("--yes", "-y", "--force", "--yes-i-am-the-person"):
        assert cli("plate", "set", str(file), option, "--db", str(db)).status == 2


def test_files_that_are_no_plate(cli: Run, db: Path, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "large").write_bytes(b"word " * 60_000)
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "missing", "binary", "large", "empty", "pipe"):
        ran = cli("plate", "diff", str(tmp_path / name), "--db", str(db))
        assert (ran.status, ran.out) == (2, ""), name
        assert str(tmp_path) in ran.err


def test_diff_raw_and_versions(cli: Run, db: Path, file: Path) -> None:
    ran = cli("plate", "diff", str(file), "--db", str(db))
    assert "version: 1 -> 3" in ran.out
    at_a_terminal("plate", "set", str(file), "--db", str(db), typed=f"{NAME}\n")
    assert "No difference" in cli("plate", "diff", str(file), "--db", str(db)).out
    assert cli("plate", "show", "--raw", "--db", str(db)).out == file.read_text("utf-8")
    assert "entry 1" in cli("plate", "show", "--versions", "--db", str(db)).out
