"""The lines that people read, and docs/models.md, which promises them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from ccn_mcp.claude import claude_code
from ccn_mcp.claude.api import RETRIES_MAX
from ccn_mcp.claude.claude_code import ALONE
from ccn_mcp.claude.lines import CLAUDE_CODE_LINES, HIDDEN, LINES, SHOWN_CHARS_MAX, reason, shown, span
from ccn_mcp.domain.talk import CUT_SHORT, DEADLINE_S_DEFAULT, PROBLEM_CHARS_MAX, Reply

PAGE: Final = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
NEXT_STEP: Final = re.compile(r"\b(ask|check|choose|see|log in|set|begin|make|put|run|start|kept)\b")


def table(lines: Mapping[str, str]) -> str:
    """As the page has it."""
    shown = {kind: re.sub(r"\{(\w+)\}", r"*\1*", line) for kind, line in lines.items()}
    return "".join(f"| `{kind}` | {line} |\n" for kind, line in shown.items())


@pytest.mark.parametrize("lines", [{**CUT_SHORT, **LINES}, CLAUDE_CODE_LINES], ids=["all", "Claude Code"])
def test_the_page_has_every_line(lines: Mapping[str, str]) -> None:
    assert table(lines) in PAGE


def test_the_pages_figures_are_the_programs() -> None:
    assert f"{RETRIES_MAX} retries" in PAGE
    assert ALONE["CLAUDE_CODE_MAX_RETRIES"] == str(RETRIES_MAX), "both back ends try as often"
    assert f"{DEADLINE_S_DEFAULT / 60:g} minutes in all" in PAGE
    assert f"at most {claude_code.GRACE_S:g} s more" in PAGE
    assert f"at most {SHOWN_CHARS_MAX} characters" in PAGE


def test_every_line_is_one_and_says_what_to_do_next() -> None:
    fields = dict.fromkeys(("model", "said", "seconds", "pause", "reason", "status"), "x" * SHOWN_CHARS_MAX)
    for kind, line in {**CUT_SHORT, **LINES, **CLAUDE_CODE_LINES}.items():
        assert NEXT_STEP.search(line), kind
        assert "/retry" not in line, "a command of the chat; the judge and programs read these too"
        reply = Reply()
        reply.end(kind, line.format(**dict.fromkeys(fields, "x")))
        assert len(reply.problem) <= PROBLEM_CHARS_MAX
        assert "\n" not in reply.problem
        assert reason(kind)


def test_what_others_say_is_short_and_without_secrets() -> None:
    key = "sk-ant-api03-thekeyofthetestthatnobodymaysee0123456789"
    said = shown(f"two\nlines with my-token and {key} " + "x" * 1_000, ["my-token"])
    assert said.startswith(f"two lines with {HIDDEN} and ")
    assert key not in said
    assert len(said) == SHOWN_CHARS_MAX


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (90, "90 s"), (3_600, "60 minutes"), (86_400, "24.0 hours")]
)
def test_a_pause_is_said_as_people_do(seconds: float, said: str) -> None:
    assert span(seconds) == said
