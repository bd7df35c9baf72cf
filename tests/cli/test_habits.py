"""What people do at a shell: pipes, full disks, closed streams, narrow terminals, Ctrl-C at any point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import RUN_S_MAX, TEXTS, Run, Seeded, environment, on_store, process
from tests.cli.test_plate import at_a_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shells and signals of POSIX")

STOPPED = "ccn-mcp: stopped\n"
# Sends itself Ctrl-C after this much of its own time, so that a busy machine changes nothing.
STOPS_ITSELF = """
import atexit, os, runpy, signal, sys
signal.signal(signal.SIGVTALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
signal.setitimer(signal.ITIMER_VIRTUAL, float(sys.argv.pop(1)))
atexit.register(signal.setitimer, signal.ITIMER_VIRTUAL, 0)  # after which Python takes no signals any more
runpy.run_module("ccn_mcp", run_name="__main__", alter_sys=True)
"""


def shell(line: str, db: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `ccn` is the program."""
    start = f'ccn() {{ "{sys.executable}" -m ccn_mcp "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", start + line],
        env=environment(CCN_DB=str(db), **env),
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_head_takes_a_line_and_nobody_complains(store: Seeded) -> None:
    ran = shell('ccn history | head -n 1; echo "${PIPESTATUS[*]}"', store.db)
    assert ran.stderr == ""
    first, statuses = ran.stdout.splitlines()
    assert first.strip() == store.conversation
    assert statuses == "0 0"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_once_with_a_status(store: Seeded) -> None:
    for words in ("history", "export"):
        ran = shell(f"ccn {words} > /dev/full", store.db)
        assert ran.returncode == 1
        assert ran.stderr.count("\n") == 1
        assert "No space left" in ran.stderr


def test_closed_streams_are_no_traceback(store: Seeded) -> None:
    ran = shell("ccn status --json >&-; echo $?; ccn history c_none 2>&-; echo $?", store.db)
    assert (ran.stdout, ran.stderr) == ("0\n3\n", "")


@pytest.mark.parametrize(
    "env",
    [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {"COLUMNS": "40"}, {"COLUMNS": "1"}, {"COLUMNS": "wide"}],
    ids=str,
)
def test_odd_terminals(store: Seeded, env: dict[str, str]) -> None:
    status, screen = at_a_terminal("scopes", "--db", str(store.db), typed="", **env)
    assert status == 0, screen
    assert "Traceback" not in screen
    assert "default" in screen
    if env.get("TERM") == "dumb" or "NO_COLOR" in env:
        assert "\x1b[3" not in screen
    if env.get("COLUMNS") == "40":
        assert max(map(len, screen.splitlines())) <= 40


def test_wide_letters_are_counted_as_they_are_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.cells import cell_len

    from ccn_mcp.cli import output

    monkeypatch.setenv("COLUMNS", "40")
    output.tell("漢字 " * 30 + "c_" + "x" * 60, indent="    ")
    lines = capsys.readouterr().out.splitlines()
    assert "c_" + "x" * 60 in [line.strip() for line in lines], "what has to be copied stays whole"
    assert max(cell_len(line) for line in lines[:-1]) <= 40
    assert all(line.startswith("    ") for line in lines)


def test_without_a_terminal_a_question_is_refused_not_waited_for(store: Seeded) -> None:
    ran = process("redact", str(store.seqs[0]), "--db", str(store.db), stdin=subprocess.DEVNULL)
    assert ran.returncode == 4
    assert "needs a person at a terminal" in ran.stderr


def test_a_bar_is_shown_on_a_terminal_only_and_stdout_stays_clean(store: Seeded, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    words = ["export", "--db", str(store.db), "--output", str(file), "--json"]
    status, screen = at_a_terminal(*words, typed="")
    assert status == 0
    assert "Exporting" in screen
    ran = process(*words, "--force")
    assert ran.stderr == ""
    assert json.loads(ran.stdout)["messages"] == 4


# ---- Ctrl-C --------------------------------------------------------------------------------------------


def asked_and_typed(key: str, *arguments: str) -> tuple[int, str]:
    """Press a key once the question stands on the terminal; returns status and screen."""
    import pty

    terminal, other = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "ccn_mcp", *arguments],
        env=environment(),
        stdin=other,
        stdout=other,
        stderr=other,
        preexec_fn=lambda: os.login_tty(other),
    ) as running:
        os.close(other)
        screen, pressed = b"", False
        while True:
            try:
                piece = os.read(terminal, 65_536)
            except OSError:  # Linux's way to say that the other side is gone
                break
            if not piece:
                break
            screen += piece
            if not pressed and b"type its seq" in screen:
                os.write(terminal, key.encode())
                pressed = True
        os.close(terminal)
        return running.wait(RUN_S_MAX), screen.decode()


def test_ctrl_c_at_a_question_changes_nothing(store: Seeded) -> None:
    status, screen = asked_and_typed("\x03", "redact", str(store.seqs[0]), "--db", str(store.db))
    assert status == 130, screen
    assert screen.endswith(STOPPED.replace("\n", "\r\n"))
    assert "Traceback" not in screen
    page = on_store(store.db, lambda node: node.get_history(conversation_id=store.conversation))
    assert page["messages"][0]["text"] == TEXTS[0]


def stopped_after(seconds: float, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", STOPS_ITSELF, str(seconds), *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )


def never_half_done(ran: subprocess.CompletedProcess[str], file: Path) -> bool:
    """Whether it was stopped; it said so in one line, or it was done."""
    assert (ran.returncode, ran.stderr) in ((0, ""), (130, STOPPED)), ran.stderr
    assert [path.name for path in file.parent.iterdir()] in ([], [file.name]), "no half of a file stays"
    if file.exists():
        assert len(file.read_text().splitlines()) == 5
        file.unlink()
    return ran.returncode == 130


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "record.jsonl"


def test_ctrl_c_while_it_works_is_one_quiet_line(store: Seeded, target: Path) -> None:
    words = ("export", "--db", str(store.db), "--output", str(target))
    assert never_half_done(stopped_after(0.12, *words), target)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["export", "verify", "history", "status"])
def test_ctrl_c_at_any_point(store: Seeded, target: Path, command: str) -> None:
    words = [command, "--db", str(store.db)]
    words += ["--output", str(target)] if command == "export" else []
    stopped = [never_half_done(stopped_after(tenth / 50, *words), target) for tenth in range(2, 40)]
    assert any(stopped)
    assert not all(stopped), "the last ones come after the end"


@pytest.mark.slow
def test_ctrl_c_at_any_point_of_the_demo_leaves_no_folder(tmp_path: Path) -> None:
    for tenth in (1, 3, 6, 10, 16):
        env = environment(TMPDIR=str(tmp_path / "tmp"))
        (tmp_path / "tmp").mkdir(exist_ok=True)
        ran = subprocess.run(
            [sys.executable, "-c", STOPS_ITSELF, str(tenth / 10), "demo"],
            env=env,
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
            check=False,
        )
        assert (ran.returncode, ran.stderr) in ((130, STOPPED), (0, "")), ran.stderr
        assert list((tmp_path / "tmp").iterdir()) == []


def test_a_typo_in_an_option_or_a_value_names_the_right_one(cli: Run, store: Seeded) -> None:
    for words, said in (
        (["history", "--serach", "x"], "--search"),
        (["statsu"], "'status'"),
        (["exlude"], "'exclude'"),
        (["export", "--format", "pdf", "--db", str(store.db)], "jsonl, markdown"),
        (["install", "claude-dekstop"], "claude-desktop"),
        (["history", "--order", "up", "--db", str(store.db)], "newest or oldest"),
    ):
        ran = cli(*words)
        assert (ran.status, ran.out) == (2, "")
        assert said in ran.err
