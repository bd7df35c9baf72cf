"""Shell completion: what is offered, that nothing is made or said on errors, and a real shell."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import RUN_S_MAX, Run, Seeded, environment


def offered(cli: Run, *words: str) -> list[str]:
    ran = cli("completion", "--complete", *words)
    assert (ran.status, ran.err) == (0, "")
    return [line.split("\t")[0] for line in ran.out.splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["his"], ["history"]),
        (["plate", "s"], ["show", "set"]),
        (["history", "--se"], ["--search"]),
        (["history", "--order", ""], ["newest", "oldest"]),
        (["history", "--role", "as"], ["assistant"]),
        (["install", "claude-d"], ["claude-desktop"]),
        (["completion", "z"], ["zsh"]),
        (["serve", "--no"], ["--no-auth"]),
        (["export", "--output", ""], []),
        (["nonsense", ""], None),
        ([], None),
    ],
)
def test_words_of_the_program(cli: Run, words: list[str], expected: list[str] | None) -> None:
    found = offered(cli, *words)
    assert sorted(found) == sorted(expected) if expected is not None else "history" in found


def test_ids_and_scopes_of_the_record(cli: Run, store: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered(cli, "history", "--db", str(store.db), "c") == [store.conversation]
    monkeypatch.setenv("CCN_DB", str(store.db))
    assert offered(cli, "export", "") == [store.conversation]
    assert offered(cli, "history", "--scope", "def") == ["default"]
    assert offered(cli, "history", "x") == []
    about = cli("completion", "--complete", "history", "").out
    assert about == f"{store.conversation}\tBirds # Forged *title*\n"
    monkeypatch.setattr("ccn_mcp.cli.completion.CANDIDATES_MAX", 0)
    assert offered(cli, "history", "") == []


def test_it_makes_nothing_and_is_silent_where_it_cannot_read(
    cli: Run, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered(cli, "history", "--db", str(db), "") == []
    assert not db.parent.exists()
    db.parent.mkdir()
    db.write_bytes(b"no database")
    assert offered(cli, "history", "--db", str(db), "") == []
    assert [path.name for path in db.parent.iterdir() if path.suffix != ".lock"] == [db.name]
    monkeypatch.setenv("CCN_LEASE_S", "soon")
    assert offered(cli, "history", "") == []


def test_an_unknown_shell(cli: Run) -> None:
    ran = cli("completion", "tcsh")
    assert ran.status == 2
    assert "bash, zsh, fish" in ran.err


CHECKS = {
    "bash": """
source <(ccn-mcp completion bash)
complete -p ccn-mcp
COMP_WORDS=(ccn-mcp history c); COMP_CWORD=2; _ccn_mcp; echo "id=${COMPREPLY[*]}"
COMP_WORDS=(ccn-mcp ver); COMP_CWORD=1; _ccn_mcp; echo "command=${COMPREPLY[*]}"
COMP_WORDS=(ccn-mcp export --output ''); COMP_CWORD=3; _ccn_mcp; echo "none=${#COMPREPLY[@]}"
""",
    "zsh": """
autoload -Uz compinit; compinit -u -D
source <(ccn-mcp completion zsh)
_describe() { echo "found=${(P)3}"; }
words=(ccn-mcp history c); CURRENT=3; _ccn_mcp
words=(ccn-mcp ver); CURRENT=2; _ccn_mcp
echo none=0
""",
    "fish": """
ccn-mcp completion fish | source
complete -C 'ccn-mcp history c'
complete -C 'ccn-mcp ver'
echo none=0
""",
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="shells of POSIX")
@pytest.mark.parametrize("shell", CHECKS)
def test_a_real_shell_completes(shell: str, store: Seeded, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    program = tmp_path / "bin" / "ccn-mcp"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ccn_mcp "$@"\n')
    program.chmod(0o755)
    env = environment(CCN_DB=str(store.db))
    env["PATH"] = f"{program.parent}:{env['PATH']}"
    done = subprocess.run(
        [shell, *(["--norc", "--noprofile"] if shell == "bash" else []), "-c", CHECKS[shell]],
        env=env,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.stderr == ""
    assert store.conversation in done.stdout
    assert "verify" in done.stdout
    assert "none=0" in done.stdout
