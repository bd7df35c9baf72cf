"""Every command of the program, whoever adds it: help, an example, `--json`, options that say what they do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from ccn_mcp.cli import main
from ccn_mcp.cli.serve import parser
from tests.cli.conftest import Run

WITHOUT_JSON = {
    "serve": "stdout belongs to MCP",
    "completion": "prints a shell script",
    "hook": "answers in the form that Claude Code asks for",
}


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, item in below.items():
        yield from walk(item, (*path, name))


PROGRAM: Any = typer.main.get_command(main.build())
COMMANDS = dict(walk(PROGRAM))


@pytest.fixture(params=COMMANDS, ids=" ".join)
def command(request: pytest.FixtureRequest) -> tuple[tuple[str, ...], Any]:
    return request.param, COMMANDS[request.param]


def options_of(path: tuple[str, ...], command: Any) -> list[tuple[str, str | None]]:
    if path == ("serve",):
        return [(" ".join(action.option_strings), action.help) for action in parser()._actions]
    return [(" ".join(item.opts), item.help) for item in command.params]


def test_json_on_everything_that_prints(command: tuple[tuple[str, ...], Any]) -> None:
    path, found = command
    names = [name for name, _ in options_of(path, found)]
    assert ("--json" in names) == (" ".join(path) not in WITHOUT_JSON)


def test_the_exceptions_are_still_commands() -> None:
    assert set(WITHOUT_JSON) <= {" ".join(path) for path in COMMANDS}


def test_every_option_and_argument_says_what_it_does(command: tuple[tuple[str, ...], Any]) -> None:
    for name, said in options_of(*command):
        assert said, name


def test_the_help_shows_an_example_that_the_command_takes(
    cli: Run, command: tuple[tuple[str, ...], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path, found = command
    if path == ("serve",):
        with pytest.raises(SystemExit) as ended:
            main.run([*path, "--help"])
        assert ended.value.code == 0
        assert "Examples: " in capsys.readouterr().out
        return
    ran = cli(*path, "--help")
    assert ran.status == 0
    assert ran.out.startswith(f"Usage: ccn-mcp {' '.join(path)} ")
    assert re.search(r"^  Examples?: ", ran.out, re.MULTILINE)
    assert found.help.split("\n")[0].strip()
    for line in found.epilog.split(": ", 1)[1].split("; "):
        words = shlex.split(line.removeprefix("source <(").removesuffix(")").split(" > ")[0].split(" < ")[0])
        assert words[: 1 + len(path)] == ["ccn-mcp", *path]
        # Parsed as it would be run, so that no example goes stale.
        with PROGRAM.make_context("ccn-mcp", words[1:]) as context:
            arguments = [*context._protected_args, *context.args]
            name, below, rest = PROGRAM.resolve_command(context, arguments)
            while getattr(below, "commands", None):
                name, below, rest = below.resolve_command(context, rest)
            below.make_context(name, rest).close()
