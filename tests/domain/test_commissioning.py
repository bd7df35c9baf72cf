"""Which reports make a baseline, and its ledger form."""

from __future__ import annotations

import random

import pytest

from ccn_mcp.domain.character import DEFAULT_BASELINE, TRAITS, Vector
from ccn_mcp.domain.commissioning import (
    DEVIATION_MAX,
    TRAIT_DEVIATION_MAX,
    commission,
    disagreement,
    trait_deviations,
)
from ccn_mcp.domain.commissioning_record import decode, differs, encode
from ccn_mcp.domain.errors import BadInput, VerificationFailed
from ccn_mcp.domain.models import Body


def reports(count: int = 8, noise: float = 0.04, **wide: float) -> list[Vector]:
    """Around .5, every trait by `noise` to either side in turn, those named by more."""
    sides = [(-1) ** at for at in range(count)]
    return [tuple(0.5 + side * wide.get(name, noise) for name in TRAITS) for side in sides]


def test_reports_that_agree_have_no_trait_to_name() -> None:
    assert disagreement(reports()) == ()
    assert disagreement([DEFAULT_BASELINE] * 8) == ()


def test_one_trait_beyond_its_limit_is_named_and_no_other() -> None:
    # Eight values half above, half below by d have the sample deviation d * sqrt(8/7).
    factor = (8 / 7) ** 0.5
    just_in = reports(warmth=TRAIT_DEVIATION_MAX / factor - 1e-6)
    just_out = reports(warmth=TRAIT_DEVIATION_MAX / factor + 1e-6)
    assert trait_deviations(just_out)[TRAITS.index("warmth")] > TRAIT_DEVIATION_MAX
    assert (disagreement(just_in), disagreement(just_out)) == ((), ("warmth",))


def test_a_pooled_deviation_beyond_the_limit_names_the_traits_that_make_it_widest_first() -> None:
    wide = reports(noise=0.11, warmth=0.05, formality=0.15)
    assert commission(wide).deviation > DEVIATION_MAX
    named = disagreement(wide)
    assert named[0] == "formality"
    assert set(named) == set(TRAITS) - {"warmth"}


def test_a_baseline_is_computed_again_bit_for_bit_and_anything_else_is_seen() -> None:
    rng = random.Random(8)  # noqa: S311  # chooses test cases
    vectors = [tuple(rng.uniform(0.4, 0.6) for _ in TRAITS) for _ in range(9)]
    added, blob = encode(vectors)
    body: Body = {**added, "group": "m||1", "plate_digest": "d", "reports": [*range(9)]}
    pinned = decode(body, blob)
    measured = commission(vectors)
    assert (pinned.baseline, pinned.sigma, pinned.reports) == (
        measured.baseline,
        measured.sigma,
        tuple(range(9)),
    )
    assert pinned.deviations == trait_deviations(vectors)
    assert differs(body, blob, vectors) is None
    assert differs(body, blob, list(reversed(vectors))) is None, "a median and a spread have no order"
    flipped = bytes([blob[0] ^ 1]) + blob[1:]
    assert "blob" in (differs(body, flipped, vectors) or "")
    assert "repeats" in (differs({**body, "repeats": 4}, blob, vectors) or "")
    assert "not acceptable" in (differs(body, blob, vectors[:7]) or "")


def test_damaged_forms_are_refused() -> None:
    added, blob = encode(reports())
    body: Body = {**added, "group": "m||1", "plate_digest": "d", "reports": [*range(8)]}
    cases: tuple[tuple[Body, bytes], ...] = (
        ({**body, "group": 1}, blob),
        ({**body, "reports": "x"}, blob),
        (body, blob[:-8]),
        (body, b"\xff" * len(blob)),
    )
    for broken, bytes_ in cases:
        with pytest.raises(VerificationFailed):
            decode(broken, bytes_)
    with pytest.raises(BadInput):
        encode(reports(7))
