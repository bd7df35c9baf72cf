"""`Value` gives what a frozen dataclass gives, for those who use one."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest

from ccn_mcp.domain.entries import Draft, Receipt
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.values import Value


class Point(Value):
    """Two numbers."""

    x: int
    y: int = 2


class Named(Point):
    """With one more."""

    name: str = "here"


@dataclass(frozen=True)
class Twin:
    """What `Point` would be as a dataclass."""

    x: int
    y: int = 2


ANYHOW: Any = Point
"""Without what checkers would say."""

DRAFT = Draft(Kind.MESSAGE, 1, {"text": "words"})


@pytest.mark.parametrize(
    "make",
    [
        lambda: ANYHOW(),
        lambda: ANYHOW(1, 2, 3),
        lambda: ANYHOW(1, x=1),
        lambda: ANYHOW(1, z=1),
        lambda: ANYHOW(y=1),
        lambda: DRAFT.replaced(words="none"),
    ],
)
def test_a_field_that_is_missing_unknown_or_given_twice_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="has the fields"):
        make()


def test_values_are_equal_by_class_and_fields() -> None:
    assert Point(1) == Point(1, 2) == Point(y=2, x=1) != Point(1, 3)
    assert Point(1) != Named(1)
    assert Point(1) != Twin(1)
    assert len({Point(1), Point(1, 2), Point(2)}) == 2
    assert Head(1, b"root") == Head(size=1, root=b"root")
    with pytest.raises(TypeError, match="unhashable"):
        hash(DRAFT)


def test_they_look_like_dataclasses() -> None:
    assert repr(Point(1)) == repr(Twin(1)).replace("Twin", "Point")
    assert repr(Named(1)) == "Named(x=1, y=2, name='here')"
    assert asdict(Point(1)) == asdict(Twin(1))


def test_one_field_can_be_replaced_in_another_value_and_none_in_this_one() -> None:
    receipt = Receipt(1, 2, {}, replayed=True)
    assert replace(receipt, n=3) == receipt.replaced(n=3) == Receipt(1, 2, {}, 3, replayed=True)
    with pytest.raises(AttributeError):
        receipt.n = 3  # type: ignore[misc]  # that is the point
    with pytest.raises(AttributeError):
        del receipt.n
    assert receipt.n is None


def test_they_can_be_copied_and_pickled() -> None:
    assert copy.deepcopy(DRAFT) == DRAFT == pickle.loads(pickle.dumps(DRAFT))  # noqa: S301  # made in this line
