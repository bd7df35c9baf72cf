"""What holds for every command: help, typos, exit statuses, pipes, terminals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ccn_mcp import __version__
from tests.cli.conftest import RUN_S_MAX, Run, Seeded, environment, process


def test_the_help_names_every_command_and_serve(cli: Run) -> None:
    ran = cli("--help")
    assert ran.status == 0
    for command in ("serve", "demo", "status", "verify", "history", "export", "plate", "doctor", "install"):
        assert f"\n  {command} " in ran.out
    assert cli().out == ran.out


def test_version(cli: Run) -> None:
    assert cli("--version").out == f"ccn-mcp {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verfy"], "Did you mean 'verify'?"),
        (["plate", "shwo"], "Did you mean 'show'?"),
        (["status", "--jsn"], "--json"),
        (["history", "--limit", "many"], "--limit"),
        (["plate", "set"], "FILE"),
    ],
)
def test_a_typo_is_answered_on_stderr_with_status_2(cli: Run, arguments: list[str], said: str) -> None:
    ran = cli(*arguments)
    assert ran.status == 2
    assert ran.out == ""
    assert ran.err.startswith("ccn-mcp: ")
    assert said in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cost", "--by", "week"], "--by is 'week'; use one of: call, conversation, day, month"),
        (["cost", "--last", "0"], "--last is '0'; give a whole number, from 1 to 1,000"),
        (["cost", "--last", "few"], "--last is 'few'; give a whole number, from 1 to 1,000"),
        (["history", "--limit", "few"], "--limit is 'few'; give a whole number"),
        (["open", "--idle", "0"], "--idle is '0'; give a number, from 0.01 to 1,440"),
        (["redact", "few"], "[SEQ]... is 'few'; give a whole number, 0 or more"),
        (["proof", "9" * 5_000], f"[SEQ] is '{'9' * 40}'; give a whole number, 0 or more"),
    ],
)
def test_a_wrong_value_is_answered_in_our_words(cli: Run, arguments: list[str], said: str) -> None:
    ran = cli(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.splitlines() == [f"ccn-mcp: {said}", f"try: ccn-mcp {arguments[0]} --help"]


def test_a_wrong_setting_is_bad_input(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCN_LEASE_S", "soon")
    ran = cli("status")
    assert (ran.status, ran.out) == (2, "")
    assert "CCN_LEASE_S" in ran.err


@pytest.mark.parametrize("command", [["verify"], ["history"], ["export"]], ids=" ".join)
def test_without_a_store_there_is_nothing_to_find(cli: Run, command: list[str], db: Path) -> None:
    ran = cli(*command, "--db", str(db))
    assert (ran.status, ran.out) == (3, "")
    assert str(db) in ran.err
    assert not db.parent.exists(), "looking must not create anything"


def test_a_process_says_the_same_without_a_traceback(tmp_path: Path) -> None:
    ran = process("verfy")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "Did you mean 'verify'?" in ran.stderr
    ran = process("status", "--db", str(tmp_path))
    assert ran.returncode == 5
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("command", ["export", "status", "doctor"])
def test_a_reader_that_stops_early_is_no_failure(store: Seeded, command: str) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "ccn_mcp", command, "--db", str(store.db)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    said = running.stderr.read()
    running.stderr.close()
    assert (running.wait(RUN_S_MAX), said) == (0, b"")


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, {"COLUMNS": "40"}])
def test_ids_stay_whole_and_no_colour_reaches_a_pipe(store: Seeded, env: dict[str, str]) -> None:
    ran = process("status", "--db", str(store.db), env=env)
    assert ran.returncode == 0
    assert "\x1b[3" not in ran.stdout
    lines = ran.stdout.split("\n")
    assert f"  {store.conversation}" in [line.replace("\x1b[0m", "").rstrip() for line in lines]
    assert any(store.head in line for line in lines)


def test_the_help_has_no_boxes_in_a_pipe() -> None:
    ran = process("--help", env={"COLUMNS": "60"})
    assert ran.stdout.isascii()
    assert max(map(len, ran.stdout.splitlines())) <= 60


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["verify"],
        ["history"],
        ["history", "ID"],
        ["history", "--search", "herons"],
        ["plate", "show"],
    ],
    ids=" ".join,
)
def test_json_is_one_document_and_nothing_else(cli: Run, store: Seeded, command: list[str]) -> None:
    words = [store.conversation if word == "ID" else word for word in command]
    ran = cli(*words, "--db", str(store.db), "--json")
    assert (ran.status, ran.err) == (0, "")
    assert isinstance(json.loads(ran.out), dict)


def test_ctrl_c_while_a_class_is_being_made_is_ctrl_c_too(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    def making() -> None:
        type("Made", (), {"field": Stopped()})

    monkeypatch.setattr("ccn_mcp.cli.main._run", lambda _: making())
    ran = cli("status")
    assert (ran.status, ran.err) == (130, "ccn-mcp: stopped\n")
