"""Editing JSON with comments in place: whatever is around our entry keeps its bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccn_mcp.cli.install_file import inserted, removed, write
from ccn_mcp.cli.json_text import drop, parsed, put, without_comments
from ccn_mcp.domain.errors import BadInput

PATH: Final = ("servers", "ccn")
ENTRY: Final[dict[str, Any]] = {"type": "stdio", "command": "/opt/a b/ccn-mcp", "args": ["serve"]}
VS_CODE: Final = """{
\t// what I use, "quoted": {}
\t"inputs": [],
\t"servers": {
\t\t"a": {"url": "https://example.com/x"}, // a comment that is about a
\t\t/* a block, with a brace }
\t\t   on two lines */
\t\t"b": {"command": "b",},
\t}, // trailing commas, too
}
"""
TEXTS: Final = [
    VS_CODE,
    VS_CODE.replace("\n", "\r\n"),
    '{"servers": {"a": 1}}',
    '{"servers": {"a": 1,},}',
    '{\n  "servers": {\n    "a": 1 // one\n    // two\n  }\n}\n',
    '{"servers": {\n  // none yet\n}}',
    '{"servers": {"a": "// , } no comment", /* x */ "b": {}} /* y */}',
    '/* first */ {"servers": {"a": []}} // last',
]


def read(text: str) -> dict[str, Any]:
    return parsed(without_comments(text))


@pytest.mark.parametrize("text", TEXTS)
def test_in_and_out_again_leaves_every_byte(text: str) -> None:
    with_ours = put(text, PATH, ENTRY)
    assert read(with_ours) == {**read(text), "servers": {**read(text)["servers"], "ccn": ENTRY}}
    assert list(read(with_ours)["servers"])[-1] == "ccn"
    assert drop(with_ours, PATH) == text


def test_only_lines_of_ours_are_new() -> None:
    before, after = VS_CODE.splitlines(), put(VS_CODE, PATH, ENTRY).splitlines()
    assert [line for line in after if line in before] == before
    assert sum(line not in before for line in after) <= 1 + len(json.dumps(ENTRY, indent=1).splitlines())
    assert '\t\t"ccn": {' in after, "indented as its neighbours"


@pytest.mark.parametrize(
    "text", ["", "{}", "{ }", "// nothing\n{\n}\n", '{"other": [1, {"x": null}]}', '{"servers": {}}']
)
def test_what_is_missing_on_the_way_is_made(text: str) -> None:
    with_ours = put(text, PATH, ENTRY)
    assert read(with_ours)["servers"] == {"ccn": ENTRY}
    assert {**read(text), "servers": {}} == read(drop(with_ours, PATH))
    assert text.startswith("// nothing") <= ("// nothing" in with_ours)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"servers": {"ccn": 1, "b": 2}}', '{"servers": { "b": 2}}'),
        ('{"servers": {"a": 1, "ccn": 2, "b": 3}}', '{"servers": {"a": 1, "b": 3}}'),
        ('{"servers": {\n "a": 1, // a\n "ccn": 2}}', '{"servers": {\n "a": 1 // a\n}}'),
        (
            '{"servers": {\n "a": 1,\n "ccn": 2, // ours\n "b": 3}}',
            '{"servers": {\n "a": 1,\n // ours\n "b": 3}}',
        ),
        ('{"servers": {\n // keep\n "ccn": 2\n}}', '{"servers": {\n // keep\n}}'),
    ],
)
def test_wherever_it_stands_it_goes_alone(text: str, left: str) -> None:
    assert drop(text, PATH) == left
    assert "ccn" not in read(left)["servers"]


def test_a_value_is_replaced_where_it_stands() -> None:
    text = '{"servers": {"ccn": {"args": ["old"], /* mine */ "env": {"K": "v"}}}}'
    after = put(text, (*PATH, "args"), ["serve"])
    assert "/* mine */" in after
    assert read(after)["servers"]["ccn"] == {"args": ["serve"], "env": {"K": "v"}}


@pytest.mark.parametrize(
    "text",
    ['{"a": 1', '{"a": }', '{"a": 1,, "b": 2}', '{"a": 1 /* open }', '{"a": "x // y}', "[1,]", "{'a': 1}"],
)
def test_blanking_makes_nothing_valid_that_is_not(text: str) -> None:
    with pytest.raises(ValueError, match=r"delimiter|value|name|object|Unterminated"):
        read(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    document=st.dictionaries(st.text(max_size=6), JSON, max_size=4),
    servers=st.dictionaries(
        st.text(max_size=6).filter(lambda name: name != "ccn"), JSON, min_size=1, max_size=3
    ),
    indent=st.sampled_from([None, 0, 1, 4, "\t"]),
)
def test_any_document_comes_through(
    document: dict[str, Any], servers: dict[str, Any], indent: int | str | None
) -> None:
    text = json.dumps({**document, "servers": servers}, indent=indent, ensure_ascii=False)
    with_ours = put(text, PATH, ENTRY)
    assert json.loads(with_ours) == {**document, "servers": {**servers, "ccn": ENTRY}}
    assert drop(with_ours, PATH) == text


# ---- in a file -----------------------------------------------------------------------------------------


def test_a_file_with_comments_keeps_them(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(VS_CODE)
    change = inserted(file, "ccn", ENTRY, "servers", comments=True)
    assert not [line for line in change.diff().splitlines()[2:] if line.startswith("-")]
    write(change)
    edited = file.read_text().replace("what I use", "what I use now")
    file.write_text(edited)
    assert not inserted(file, "ccn", ENTRY, "servers", comments=True).changes
    write(removed(file, "ccn", "servers", comments=True))
    assert file.read_text() == VS_CODE.replace("what I use", "what I use now"), "a later edit survives undo"


def test_a_mistake_is_found_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{\n  /* two\n lines */ "a": 1\n  "b": 2\n}')
    with pytest.raises(BadInput, match="line 4, column 3"):
        inserted(file, "ccn", ENTRY, "servers", comments=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mcp.json"]
