from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccn_mcp.domain.character import (
    DEFAULT_BASELINE,
    DEFAULT_RELATIONAL,
    RELATIONAL,
    RELATIONAL_POLES,
    TRAIT_POLES,
    TRAITS,
    average,
    consistency,
    describe,
    drift,
    drift_max,
    from_blob,
    parse_ratings,
    parse_vector,
    to_blob,
)
from ccn_mcp.domain.errors import BadVector
from ccn_mcp.domain.limits import RATINGS_MAX

MIDDLE = [0.5] * 16
units = st.lists(st.floats(0, 1), min_size=16, max_size=16)


def with_first(item: object) -> list[object]:
    return [item, *MIDDLE[1:]]


def refusal(value: object, scale: str = "unit") -> BadVector:
    with pytest.raises(BadVector) as caught:
        parse_vector(value, scale=scale)
    return caught.value


NAMED = (
    "directness .90 warmth .70 precision .95 creativity .80 assertiveness .85 patience .75 enthusiasm .75 "
    "formality .60 verbosity .65 technicality .90 proactivity .80 questioning .70 adaptability .85 consistency .95 "
    "transparency .95 collaboration .98"
)
RELATED = (
    "trust .92 rapport .88 shared_context .95 collaboration_depth .98 mutual_understanding .90 "
    "emotional_resonance .75 co_creation .96"
)


def test_names_order_and_defaults_are_those_of_the_specification() -> None:
    for names, defaults, text in (
        (TRAITS, DEFAULT_BASELINE, NAMED),
        (RELATIONAL, DEFAULT_RELATIONAL, RELATED),
    ):
        words = text.split()
        assert names == tuple(words[::2])
        assert defaults == tuple(map(float, words[1::2]))


def test_tables_fit_each_other() -> None:
    assert len(TRAITS) == len(set(TRAITS)) == len(DEFAULT_BASELINE) == 16
    assert len(RELATIONAL) == len(DEFAULT_RELATIONAL) == 7
    assert tuple(TRAIT_POLES) == TRAITS
    assert tuple(RELATIONAL_POLES) == RELATIONAL


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (with_first(math.nan), "non_finite"),
        (with_first(math.inf), "non_finite"),
        (with_first(-math.inf), "non_finite"),
        (MIDDLE[1:], "wrong_length"),
        ([*MIDDLE, 0.5], "wrong_length"),
        ([], "wrong_length"),
        (with_first(-0.0001), "out_of_range"),
        (with_first(1.0001), "out_of_range"),
        (with_first(math.nextafter(1.0, 2.0)), "out_of_range"),
        (with_first(-5e-324), "out_of_range"),
        (with_first(10**400), "out_of_range"),
        (with_first(-(10**400)), "out_of_range"),
        ([50.0] * 16, "out_of_range"),
        (with_first(True), "not_a_number"),
        (with_first("0.5"), "not_a_number"),
        (with_first(None), "not_a_number"),
        (with_first([0.5]), "not_a_number"),
        (with_first(0.5 + 0j), "not_a_number"),
        (dict.fromkeys(TRAITS[1:], 0.5), "missing_dimension"),
        ({**dict.fromkeys(TRAITS, 0.5), "charisma": 0.5}, "unknown_dimension"),
        ({**dict.fromkeys(TRAITS[1:], 0.5), "Directness": 0.5}, "missing_dimension"),
        ({**dict.fromkeys(TRAITS, 0.5), "warmth": False}, "not_a_number"),
        ("0.5" * 16, "not_a_vector"),
        (None, "not_a_vector"),
        (0.5, "not_a_vector"),
        (b"\x00" * 16, "not_a_vector"),
    ],
)
def test_refuses_with_a_distinct_reason(value: object, reason: str) -> None:
    assert refusal(value).reason == reason


@pytest.mark.parametrize("scale", ["percent", "", "Unit", "5"])
def test_refuses_an_unknown_scale(scale: str) -> None:
    assert refusal(MIDDLE, scale).reason == "bad_scale"


def test_messages_say_what_to_do_next() -> None:
    assert "warmth" in str(refusal([0.5, 1.5, *MIDDLE[2:]]))
    assert 'scale="rubric"' in str(refusal([4] * 16))
    assert "percent" in str(refusal([84.95] * 16))
    assert "percent" in str(refusal([84.95] * 16, "rubric"))
    assert "percent" not in str(refusal([1e308] * 16))
    assert "percent" not in str(refusal([-1] * 16))
    assert "directness, warmth" in str(refusal([]))
    assert "Missing: directness" in str(refusal(dict.fromkeys(TRAITS[1:], 0.5)))


def test_list_and_map_give_the_same_vector() -> None:
    values = [at / 20 for at in range(16)]
    named = dict(reversed(list(zip(TRAITS, values, strict=True))))
    assert parse_vector(values) == parse_vector(tuple(values)) == parse_vector(named) == tuple(values)


def test_ends_integers_and_subnormals_are_kept() -> None:
    assert parse_vector([0, 1, 5e-324, 1.0, *[0.5] * 12])[:4] == (0.0, 1.0, 5e-324, 1.0)


def test_minus_zero_becomes_zero() -> None:
    for scale in ("unit", "rubric"):
        assert math.copysign(1, parse_vector(with_first(-0.0), scale=scale)[0]) == 1.0


def test_rubric_scores_are_divided_by_five_and_never_guessed() -> None:
    assert parse_vector([3] * 16, scale="rubric") == (0.6,) * 16
    assert parse_vector([1] * 16, scale="rubric") == (0.2,) * 16
    assert parse_vector([1] * 16) == (1.0,) * 16
    assert refusal([5.01] * 16, "rubric").reason == "out_of_range"


def test_relational_metrics_use_their_own_names() -> None:
    named = dict(zip(RELATIONAL, DEFAULT_RELATIONAL, strict=True))
    assert parse_vector(named, names=RELATIONAL) == DEFAULT_RELATIONAL
    with pytest.raises(BadVector, match="need 7"):
        parse_vector(MIDDLE, names=RELATIONAL)


def test_drift_is_root_mean_square() -> None:
    one = (0.899, *MIDDLE[1:])
    assert drift(one, tuple(MIDDLE)) == pytest.approx(0.09975, abs=1e-12)
    assert drift_max(one, tuple(MIDDLE)) == pytest.approx(0.399)
    assert drift((0.625,) * 16, (0.5,) * 16) == 0.125
    assert consistency((0.625,) * 16, (0.5,) * 16) == 0.875
    assert drift((1.0,) * 16, (0.0,) * 16) == 1.0


@given(units, units)
def test_drift_is_a_distance_within_the_scale(a: list[float], b: list[float]) -> None:
    left, right = tuple(a), tuple(b)
    assert drift(left, right) == drift(right, left)
    assert 0.0 <= drift(left, right) <= 1.0
    assert drift(left, right) <= drift_max(left, right) + 1e-12
    assert drift(left, left) == 0.0


def test_description_has_words_and_no_numbers() -> None:
    lines = describe(DEFAULT_BASELINE)
    assert lines[0] == "Directness: very blunt."
    assert lines[1] == "Warmth: fairly warm."
    assert lines[7] == "Formality: moderate, between casual and formal."
    low = describe((0.0, 0.3, *DEFAULT_BASELINE[2:]))
    assert low[:2] == ("Directness: very roundabout.", "Warmth: fairly neutral.")
    assert len(describe(DEFAULT_RELATIONAL, names=RELATIONAL)) == 7
    assert not any(letter.isdigit() for line in lines for letter in line)


@given(units)
def test_blob_round_trip(values: list[float]) -> None:
    blob = to_blob(tuple(values))
    assert len(blob) == 128
    assert from_blob(blob, 16) == tuple(values)


def test_blob_is_little_endian_and_has_no_minus_zero() -> None:
    assert to_blob((0.1, -2.5)) == bytes.fromhex("9a9999999999b93f00000000000004c0")
    assert to_blob((-0.0,)) == bytes(8)
    assert math.copysign(1, from_blob(struct.pack("<d", -0.0), 1)[0]) == 1.0


def test_blob_refuses_what_is_not_finite_or_has_another_length() -> None:
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(BadVector) as caught:
            to_blob((bad,))
        assert caught.value.reason == "non_finite"
        with pytest.raises(BadVector) as caught:
            from_blob(struct.pack("<d", bad), 1)
        assert caught.value.reason == "non_finite"
    with pytest.raises(BadVector) as caught:
        from_blob(bytes(127), 16)
    assert caught.value.reason == "wrong_length"


# ---- several ratings -----------------------------------------------------------------------------------


def test_a_report_is_one_rating_or_a_list_of_them() -> None:
    assert parse_ratings(MIDDLE) == (tuple(MIDDLE),)
    both = parse_ratings([[4.0] * 16, dict.fromkeys(TRAITS, 5)], scale="rubric")
    assert both == ((0.8,) * 16, (1.0,) * 16)
    for wrong, reason in (
        ([], "wrong_length"),
        ([[]], "wrong_length"),
        ([MIDDLE, MIDDLE[1:]], "wrong_length"),
        ([MIDDLE, 0.5], "wrong_length"),
        ([MIDDLE] * (RATINGS_MAX + 1), "too_many_ratings"),
    ):
        with pytest.raises(BadVector) as caught:
            parse_ratings(wrong)
        assert caught.value.reason == reason


@settings(max_examples=40)
@given(st.lists(units, min_size=1, max_size=4))
def test_an_average_lies_within_its_ratings_and_one_rating_is_its_own(rows: list[list[float]]) -> None:
    vectors = [tuple(row) for row in rows]
    mean = average(vectors)
    for values, middle in zip(zip(*vectors, strict=True), mean, strict=True):
        assert min(values) - 1e-15 <= middle <= max(values) + 1e-15
        assert 0 <= middle <= 1
    assert average(vectors[:1]) == vectors[0]
