"""The simulation behind docs/character.md runs, repeats itself, and says what the page says: good and weak."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
WAIT_S: Final = 240


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "bench/consensus.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    return done.stdout


def row(said: str, name: str, least: int = 1) -> list[float]:
    """The numbers of the first line that begins with `name` and has so many."""
    for line in map(str.strip, said.splitlines()):
        rest = line.removeprefix(name) if line.startswith(name) else ""
        found = re.findall(r"-?\d+(?:\.\d+)?", rest)
        if len(found) >= least:
            return [float(one) for one in found]
    raise AssertionError(f"no line {name!r} in\n{said}")


@pytest.mark.slow
def test_the_tables_of_the_page_hold_at_another_seed_and_size() -> None:
    said = run("--rounds", "800", "--seed", "7")
    assert row(said, "any .10 absolute")[0] > 30
    assert row(said, "any modified z > 3.5", 2)[-2] > 40
    assert row(said, "BASE", 2)[0] <= 0.5
    assert row(said, "one trait .30", 6)[-1] >= 93
    assert row(said, "all traits .12", 6)[-1] >= 97
    # Weighted, the box of the honest is never left; unweighted, five connections pull far.
    five = row(said, "5 ", 3)
    assert five[0] > 0.3
    assert five[1] < 0.15
    assert five[2] == 0
    # Where the rules are weak, it is said.
    assert row(said, "shift 0.03:")[0] == 0
    assert row(said, "baseline wrong by .05", 2)[-1] > 1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers() -> None:
    assert run("--rounds", "200", "--seed", "3") == run("--rounds", "200", "--seed", "3")
