"""What docs/character.md promises and leaves out, held to the program and to the specification's words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from ccn_mcp.domain.character import RELATIONAL, TRAITS

ROOT: Final = Path(__file__).parent.parent
PROMISE: Final = (
    "Given an honest server, a round whose honest principals hold more than half the weight publishes, in every trait, "
    "a value between the lowest and highest honest report. It does not prove who is right, survive a dishonest server, "
    "or see a drift shared by the majority."
)


def page(name: str) -> str:
    """A page on one line, without the marks of a quotation."""
    text = (ROOT / "docs" / name).read_text("utf-8")
    return " ".join(re.sub(r"^> ?", "", text, flags=re.MULTILINE).split())


def test_what_is_promised_is_promised_in_these_words() -> None:
    assert PROMISE in page("character.md")
    assert "byzantine" not in page("character.md").lower()


def test_what_a_self_report_is_worth_is_said() -> None:
    text = page("character.md")
    assert "about 0 for self-report and .51 for a judging model" in text
    assert "Nothing here is called verified on self-report alone" in text


@pytest.mark.parametrize("name", ["phi", "emergence"])
def test_what_is_absent_is_said_to_be_and_is(name: str) -> None:
    assert f"**{name}**" in page("character.md")
    assert "There is no constant in place of any of them." in page("character.md")
    assert name not in (*TRAITS, *RELATIONAL)
    for path in (ROOT / "ccn_mcp").rglob("*.py"):
        code = path.read_text("utf-8")
        assert not re.search(rf"\b{name}\b\s*[:=]|[\"']{name}[\"']", code), path


def test_trust_is_what_an_instance_reports_and_nothing_else() -> None:
    assert "**trust** exists only as the first relational metric" in page("character.md")
    assert RELATIONAL[0] == "trust"
    for path in (ROOT / "ccn_mcp" / "domain").glob("consensus*.py"):
        assert "RELATIONAL" not in path.read_text("utf-8"), path
