"""The dialogue that the demo records is whole, and says where it comes from."""

import json
from importlib.resources import files
from itertools import pairwise

import pytest

DATA = files("ccn_mcp") / "data"


@pytest.fixture(scope="module")
def raw() -> bytes:
    return (DATA / "dialogue.jsonl").read_bytes()


@pytest.fixture(scope="module")
def turns(raw: bytes) -> list[dict[str, str]]:
    text = raw.decode("utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text[:-1].split("\n")]


@pytest.fixture(scope="module")
def about() -> str:
    return (DATA / "dialogue.md").read_text(encoding="utf-8")


def test_it_has_a_few_hundred_turns_in_a_small_file(raw: bytes, turns: list[dict[str, str]]) -> None:
    assert 200 <= len(turns) <= 500
    assert len(raw) < 200_000


def test_each_turn_has_exactly_a_role_a_name_and_content(turns: list[dict[str, str]]) -> None:
    for turn in turns:
        assert list(turn) == ["role", "name", "content"]
        assert turn["role"] in {"user", "assistant"}
        assert turn["name"]
        assert turn["name"] == turn["name"].strip().upper()
        assert turn["content"]
        assert turn["content"] == turn["content"].strip()


def test_no_text_has_a_lone_surrogate_or_a_control_character(turns: list[dict[str, str]]) -> None:
    for turn in turns:
        for text in turn.values():
            text.encode("utf-8")  # raises on a lone surrogate, which JSON's \u escapes could bring in
            assert text.replace("\n", "").isprintable()


def test_the_user_speaks_first_and_the_roles_mostly_alternate(turns: list[dict[str, str]]) -> None:
    roles = [turn["role"] for turn in turns]
    assert roles[0] == "user"
    changes = sum(before != after for before, after in pairwise(roles))
    assert changes >= 0.85 * (len(roles) - 1)


def test_only_hamlet_is_the_assistant(turns: list[dict[str, str]]) -> None:
    assert {turn["name"] for turn in turns if turn["role"] == "assistant"} == {"HAMLET"}
    assert "HAMLET" not in {turn["name"] for turn in turns if turn["role"] == "user"}


def test_the_lines_a_demo_searches_for_are_there(turns: list[dict[str, str]]) -> None:
    def found(words: str) -> list[str]:
        return [turn["name"] for turn in turns if words in turn["content"]]

    assert found("A little more than kin") == ["HAMLET"]
    assert found("Alas, poor Yorick!") == ["HAMLET"]
    assert found("the rest is silence") == ["HAMLET"]
    assert len(found("father")) >= 15


def test_its_source_and_its_number_of_turns_are_told(turns: list[dict[str, str]], about: str) -> None:
    for words in ("Shakespeare", "Hamlet", "public domain", "`shakespeare`, version 0.6", "Stage directions"):
        assert words.lower() in about.lower()
    assert f"{len(turns)} turns" in about
    assert f" to {len(turns)} |" in about
    assert "://" not in about
