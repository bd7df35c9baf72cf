"""Sizes, leftovers and slips, in every file that is tracked or about to be."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
WAIT_S: Final = 60
FUNCTION_LINES_MAX: Final = 60
MODULE_LINES_MAX: Final = 400

LEFTOVER: Final = re.compile(r"\b(TODO|FIXME|XXX)\b")
MACHINE_PATH: Final = re.compile(r"(?<![\w.~-])/(?:work|root|home/(?!ann\b|user\b|you\b|me\b)\w+|Users/\w+)/")
REGISTRY: Final = re.compile(r"https?://(?!pypi\.org|registry\.npmjs\.org|www\.npmjs\.com)[\w.-]*"
                             r"(?:pypi|npmjs|artifactory|nexus|devpi|proxy\.golang)[\w.-]*", re.IGNORECASE)  # fmt: skip
SUPPRESSION: Final = re.compile(r"#\s*(noqa|type:\s*ignore)(?P<rest>.*)")
WITH_REASON: Final = re.compile(
    r"(?:: [A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*|\[[a-z-]+(?:, ?[a-z-]+)*\])\s+(?:#|-)\s*\S.+"
)
BINARY: Final = frozenset({".png", ".ico", ".db", ".gz", ".zip", ".mcpb"})


def tracked(*suffixes: str) -> list[Path]:
    """Files that git has or would take; without git, what lies here."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    if listed.returncode == 0:
        names = [ROOT / line for line in listed.stdout.splitlines()]
    else:
        names = [path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in path.parts)]
    # A lock file holds the addresses that its machine used; it is not committed (docs/decisions.md).
    wanted = [path for path in names if path.is_file() and path.name != "uv.lock"]
    return [path for path in wanted if not suffixes or path.suffix in suffixes]


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    if path.suffix in BINARY:
        return iter(())
    return enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)


def program() -> list[Path]:
    found = [path for path in tracked(".py") if path.is_relative_to(ROOT / "ccn_mcp")]
    assert found
    return found


def test_functions_and_modules_stay_readable() -> None:
    long: list[str] = []
    for path in program():
        text = path.read_text("utf-8")
        name = path.relative_to(ROOT)
        if (lines := text.count("\n")) > MODULE_LINES_MAX:
            long.append(f"{name}: {lines} lines, at most {MODULE_LINES_MAX}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
                if (lines := (node.end_lineno or 0) - first + 1) > FUNCTION_LINES_MAX:
                    long.append(f"{name}:{node.lineno} {node.name}: {lines}, at most {FUNCTION_LINES_MAX}")
    assert not long, "\n".join(long)


def test_nothing_prints_but_the_command_line() -> None:
    for path in program():
        if path.is_relative_to(ROOT / "ccn_mcp" / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            assert not (isinstance(node, ast.Name) and node.id == "print"), f"{path}:{node.lineno} prints"


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a leftover", LEFTOVER),
        ("a path of the machine it was written on", MACHINE_PATH),
        ("the host of a package registry", REGISTRY),
    ],
)
def test_no_file_holds(what: str, pattern: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in tracked()
        if path != Path(__file__)
        for number, line in lines_of(path)
        if (match := pattern.search(line))
    ]
    assert not found, f"{what}:\n" + "\n".join(found)


def test_every_suppression_has_a_rule_and_a_reason() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in tracked(".py")
        if path != Path(__file__)
        for number, line in lines_of(path)
        if (match := SUPPRESSION.search(line)) and not WITH_REASON.match(match["rest"])
    ]
    assert not bare, "\n".join(bare)
