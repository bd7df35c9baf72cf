"""RFC 8785 out, strict JSON in."""

from __future__ import annotations

import math

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ccn_mcp.domain import jcs
from ccn_mcp.domain.errors import BadJson, BadText
from tests.shared_vectors import vectors

SAFE_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | SAFE_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SAFE_TEXT, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_published_pairs_come_out_byte_for_byte(name: str) -> None:
    folder = vectors("jcs")
    written = jcs.encode(jcs.decode((folder / "input" / f"{name}.json").read_bytes()))
    assert written == (folder / "output" / f"{name}.json").read_bytes()
    assert jcs.is_canonical(written)


@given(VALUES)
def test_agrees_with_the_reference_encoder(value: jcs.Json) -> None:
    written = jcs.encode(value)
    assert written == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"b": "1", "a": "\u0001\x7f\u2028é"},
        {"\ufeff": "1", "\U00010000": "2"},
        {"é": "1", "z": "2"},
        {"": "\\u0000"},
    ],
)
@given(more=st.dictionaries(SAFE_TEXT, SAFE_TEXT, max_size=4))
def test_objects_of_text_agree_with_the_reference_encoder(
    value: dict[str, str], more: dict[str, str]
) -> None:
    for said in (value, more, value | more):
        assert jcs.encode(dict(said)) == rfc8785.dumps(said)


@pytest.mark.parametrize("value", [{"a": "b\x00"}, {"\x00": "b"}, {"\ud800": "b"}, {"a": "b\ud800"}])
def test_an_object_of_text_that_cannot_be_stored_is_refused(value: jcs.Json) -> None:
    with pytest.raises(BadText):
        jcs.encode(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_reads_back_as_itself(value: float) -> None:
    assert float(jcs.encode(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        "NaN",
        "-Infinity",
        "1e400",
        "[" * 65 + "]" * 65,
        '{"a":' * 70 + "1" + "}" * 70,
        "",
        "1 2",
        "\ufeff1",
        "{'a':1}",
        "1" * 5000,
        b"\xff",
        "[" * 100_000,
    ],
)
def test_ambiguous_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadJson):
        jcs.decode(text)


@pytest.mark.parametrize("text", ['"\\u0000"', '"\\ud800"', '{"\\udfff":1}', '["a\\u0000b"]'])
def test_unstorable_text_is_refused_by_position(text: str) -> None:
    with pytest.raises(BadText, match="at character"):
        jcs.decode(text)


def test_depth_inside_a_string_does_not_count() -> None:
    assert jcs.decode('"' + "[" * 1000 + '\\""') == "[" * 1000 + '"'


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53, -(2**53), {1: 2}, {"a": b"x"}, [object()]])
def test_values_without_a_canonical_form_are_refused(value: object) -> None:
    with pytest.raises(BadJson):
        jcs.encode(value)  # type: ignore[arg-type]  # wrong on purpose


def test_a_lone_surrogate_cannot_be_encoded_and_replacing_counts() -> None:
    with pytest.raises(BadText):
        jcs.encode({"text": "\ud800"})
    assert jcs.replace_unstorable("a\ud800b\x00\ufeff") == ("a\ufffdb\ufffd\ufeff", 2)


@pytest.mark.parametrize("data", [b'{"b":1,"a":2}', b'{"a": 1}', b"1.0", b'"\\u00e9"', b"not json"])
def test_other_spellings_are_not_canonical(data: bytes) -> None:
    assert not jcs.is_canonical(data)
