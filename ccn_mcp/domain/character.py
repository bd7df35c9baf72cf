"""The trait vector: its names, its parser, its distance and its words.

Order and names are those of `docs/character.md`; every value is in [0, 1]. Nothing here guesses: a
report that is not exactly a vector is refused with a reason code, because a clipped or rescaled number
would enter the consensus as if somebody had said it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from ccn_mcp.domain.errors import BadVector
from ccn_mcp.domain.limits import RATINGS_MAX

Vector: TypeAlias = tuple[float, ...]

TRAITS: Final = (
    "directness",
    "warmth",
    "precision",
    "creativity",
    "assertiveness",
    "patience",
    "enthusiasm",
    "formality",
    "verbosity",
    "technicality",
    "proactivity",
    "questioning",
    "adaptability",
    "consistency",
    "transparency",
    "collaboration",
)
DEFAULT_BASELINE: Final[Vector] = (
    *(0.90, 0.70, 0.95, 0.80, 0.85, 0.75, 0.75, 0.60),
    *(0.65, 0.90, 0.80, 0.70, 0.85, 0.95, 0.95, 0.98),
)

RELATIONAL: Final = (
    "trust",
    "rapport",
    "shared_context",
    "collaboration_depth",
    "mutual_understanding",
    "emotional_resonance",
    "co_creation",
)
DEFAULT_RELATIONAL: Final[Vector] = (0.92, 0.88, 0.95, 0.98, 0.90, 0.75, 0.96)

TRAIT_POLES: Final[Mapping[str, tuple[str, str]]] = {
    "directness": ("roundabout", "blunt"),
    "warmth": ("neutral", "warm"),
    "precision": ("loose", "exact"),
    "creativity": ("conventional", "novel"),
    "assertiveness": ("tentative", "confident"),
    "patience": ("hurried", "tolerant of iteration"),
    "enthusiasm": ("flat", "energetic"),
    "formality": ("casual", "formal"),
    "verbosity": ("terse", "detailed"),
    "technicality": ("lay in wording", "technically deep"),
    "proactivity": ("inclined to wait", "inclined to initiate"),
    "questioning": ("unlikely to ask", "likely to ask"),
    "adaptability": ("fixed", "flexible"),
    "consistency": ("unpredictable", "predictable"),
    "transparency": ("closed about reasoning", "open about reasoning"),
    "collaboration": ("inclined to work alone", "inclined to work jointly"),
}
"""Each trait at 0 and at 1, worded so that "very" and "fairly" can stand in front."""

RELATIONAL_POLES: Final[Mapping[str, tuple[str, str]]] = {
    "trust": ("guarded", "trusting"),
    "rapport": ("distant", "at ease"),
    "shared_context": ("short of shared context", "rich in shared context"),
    "collaboration_depth": ("shallow", "deep"),
    "mutual_understanding": ("prone to misunderstanding", "well understood on both sides"),
    "emotional_resonance": ("matter-of-fact", "attuned"),
    "co_creation": ("one-sided", "jointly made"),
}

SCALES: Final[Mapping[str, float]] = {"unit": 1.0, "rubric": 5.0}
"""Highest value of each scale; a vector is divided by it. A caller names the scale, we never guess it."""


def parse_vector(value: object, *, scale: str = "unit", names: Sequence[str] = TRAITS) -> Vector:
    """Return the values of `names` in their order, each in [0, 1].

    `value` is a list (or tuple) in the order of `names`, or a map from exactly these names. `scale` is
    `unit` ([0, 1]) or `rubric` ([0, 5], divided by 5). Minus zero becomes zero; nothing is clipped.

    Raises:
        BadVector: with `reason` bad_scale, not_a_vector, wrong_length, missing_dimension,
            unknown_dimension, not_a_number, non_finite or out_of_range.
    """
    top = SCALES.get(scale)
    if top is None:
        raise BadVector("bad_scale", 'Unknown scale. Pass scale="unit" (0 to 1) or scale="rubric" (0 to 5).')
    values = _in_order(value, names)
    return tuple(_parse_number(item, name, top, values) for item, name in zip(values, names, strict=True))


def parse_ratings(value: object, *, scale: str = "unit") -> tuple[Vector, ...]:
    """Return the ratings of one report: one vector, or a list of at most `RATINGS_MAX` of them.

    Raises:
        BadVector: as `parse_vector`, of the first that is none; too_many_ratings.
    """
    if (
        not isinstance(value, list | tuple)
        or not value
        or not all(isinstance(item, list | tuple | Mapping) for item in value)
    ):
        return (parse_vector(value, scale=scale),)
    if len(value) > RATINGS_MAX:
        raise BadVector(
            "too_many_ratings", f"Got {len(value)} ratings; a report averages at most {RATINGS_MAX}."
        )
    return tuple(parse_vector(item, scale=scale) for item in value)


def average(vectors: Sequence[Vector]) -> Vector:
    """Return the mean of one vector or more, added in their order, so that it comes out the same bit for bit."""
    totals = list(vectors[0])
    for vector in vectors[1:]:
        totals = [total + value for total, value in zip(totals, vector, strict=True)]
    return tuple(total / len(vectors) for total in totals)


def _in_order(value: object, names: Sequence[str]) -> list[object]:
    count = len(names)
    if isinstance(value, Mapping):
        missing = [name for name in names if name not in value]
        if missing:
            raise BadVector("missing_dimension", f"Missing: {', '.join(missing)}. Send all {count} names.")
        if len(value) != count:
            raise BadVector(
                "unknown_dimension",
                f"The map holds {len(value) - count} unknown name(s). Send exactly: {', '.join(names)}.",
            )
        return [value[name] for name in names]
    if isinstance(value, list | tuple):
        if len(value) != count:
            raise BadVector(
                "wrong_length",
                f"Got {len(value)} values, need {count}. Send them in this order: {', '.join(names)}.",
            )
        return list(value)
    raise BadVector("not_a_vector", f"Send a list of {count} numbers or a map with these names.")


def _parse_number(item: object, name: str, top: float, values: Sequence[object]) -> float:
    if isinstance(item, bool) or not isinstance(item, int | float):
        raise BadVector("not_a_number", f"{name} is not a number. Send a plain number from 0 to {top:g}.")
    if isinstance(item, float) and not math.isfinite(item):
        raise BadVector("non_finite", f"{name} is NaN or infinite. Send a finite number from 0 to {top:g}.")
    # Compared before conversion: float(10**400) raises OverflowError.
    if item < 0 or item > top:
        hint = _scale_hint(values, top)
        raise BadVector("out_of_range", f"{name} is outside 0 to {top:g}. Nothing is clipped; {hint}")
    return float(item) / top + 0.0


def _scale_hint(values: Sequence[object], top: float) -> str:
    numbers = [v for v in values if isinstance(v, int | float)]
    if any(v < 0 for v in numbers) or not any(v > top for v in numbers):
        return f"rate every trait from 0 to {top:g} and send it again."
    if top < SCALES["rubric"] and all(v <= SCALES["rubric"] for v in numbers):
        return 'if these are rubric scores from 0 to 5, pass scale="rubric", otherwise stay within 0 to 1.'
    if all(v <= 100 for v in numbers):
        return "if these are percent, divide them by 100 and send them on the unit scale."
    return f"rate every trait from 0 to {top:g} and send it again."


def drift(a: Vector, b: Vector) -> float:
    """Return the root mean square difference, 0 to 1 for vectors in [0, 1].

    The sum runs from the first trait to the last, without compensation (3.12's `sum` compensates), so
    that it equals bit for bit what `consensus.py` computes over arrays.
    """
    total = 0.0
    for left, right in zip(a, b, strict=True):
        total += (left - right) * (left - right)
    return math.sqrt(total / len(a))


def drift_max(a: Vector, b: Vector) -> float:
    """Return the largest difference in any one trait."""
    return max(abs(left - right) for left, right in zip(a, b, strict=True))


def consistency(a: Vector, b: Vector) -> float:
    """Return the character consistency CCC = 1 - drift."""
    return 1.0 - drift(a, b)


def describe(vector: Vector, *, names: Sequence[str] = TRAITS) -> tuple[str, ...]:
    """Return one short sentence per dimension and no number, for prompts.

    "Warmth 0.71" steers a model poorly and invites it to recite the number; behaviour words do neither.
    """
    poles = {**TRAIT_POLES, **RELATIONAL_POLES}
    lines: list[str] = []
    for name, value in zip(names, vector, strict=True):
        low, high = poles[name]
        lines.append(f"{name.replace('_', ' ').capitalize()}: {_words(value, low, high)}.")
    return tuple(lines)


def _words(value: float, low: str, high: str) -> str:
    if value < 0.2:
        return f"very {low}"
    if value < 0.4:
        return f"fairly {low}"
    if value <= 0.6:
        return f"moderate, between {low} and {high}"
    if value <= 0.8:
        return f"fairly {high}"
    return f"very {high}"


def to_blob(vector: Vector) -> bytes:
    """Return the values as contiguous little-endian float64, 8 bytes each; -0 is stored as +0.

    Raises:
        BadVector: non_finite.
    """
    if not all(map(math.isfinite, vector)):
        raise BadVector("non_finite", "NaN and infinities are never stored. Parse the vector first.")
    return struct.pack(f"<{len(vector)}d", *(value + 0.0 for value in vector))


def from_blob(blob: bytes, count: int) -> Vector:
    """Return `count` values of a blob that `to_blob` wrote.

    Raises:
        BadVector: wrong_length or non_finite; the stored bytes are damaged.
    """
    if len(blob) != 8 * count:
        raise BadVector("wrong_length", f"The blob has {len(blob)} bytes, {8 * count} expected. Run verify.")
    values = struct.unpack(f"<{count}d", blob)
    if not all(map(math.isfinite, values)):
        raise BadVector("non_finite", "The blob holds NaN or an infinity. Run verify.")
    return tuple(value + 0.0 for value in values)
