"""Ratings by others: who is asked, and what comes of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from ccn_mcp.domain.character import Vector

RATERS_LEAST: Final = 3
"""Others that a task is handed to, and ratings that make a result."""

RATERS_MAX: Final = 5
ANSWERS_LEAST: Final = 3
"""Recorded answers below which there is nothing to rate."""


@dataclass(frozen=True, slots=True)
class Other:
    """An instance that could rate. `apart` is False where it shares session or conversation with the rated one."""

    id: str
    principal: str
    apart: bool = True


@dataclass(frozen=True, slots=True)
class Rated:
    """What several ratings say, trait by trait: the median, and how far they go."""

    median: Vector
    lowest: Vector
    highest: Vector


def raters(subject: str, principal: str, others: Sequence[Other]) -> tuple[str, ...]:
    """Who gets the task: accounts in turn, other ones than `principal` first, each account's in the given order.

    Empty where there are fewer than `RATERS_LEAST`; never `subject`, nor an instance that is not apart from it.
    """
    by_account: dict[str, list[str]] = {}
    for other in others:
        if other.id != subject and other.apart:
            by_account.setdefault(other.principal, []).append(other.id)
    own = by_account.pop(principal, [])
    chosen: list[str] = []
    while any(by_account.values()):
        chosen += [waiting.pop(0) for waiting in by_account.values() if waiting]
    chosen = [*chosen, *own][:RATERS_MAX]
    return tuple(chosen) if len(chosen) >= RATERS_LEAST else ()


def rated(ratings: Sequence[Vector]) -> Rated | None:
    """The result of these ratings, None while there are fewer than `RATERS_LEAST`."""
    if len(ratings) < RATERS_LEAST:
        return None
    columns = list(zip(*ratings, strict=True))
    return Rated(tuple(map(median, columns)), tuple(map(min, columns)), tuple(map(max, columns)))
