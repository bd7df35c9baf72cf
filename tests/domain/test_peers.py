"""Who rates whom, and the median that comes of it."""

from __future__ import annotations

from itertools import product

from ccn_mcp.domain.peers import RATERS_LEAST, RATERS_MAX, Other, raters


def test_never_self_and_never_fewer_than_three() -> None:
    for own, foreign, near in product(range(5), range(5), range(3)):
        others = [Other("me", "a")]
        others += [Other(f"o{n}", "a") for n in range(own)]
        others += [Other(f"f{n}", f"p{n % 2}") for n in range(foreign)]
        others += [Other(f"n{n}", "b", apart=False) for n in range(near)]
        chosen = raters("me", "a", others)
        count = own + foreign
        assert len(chosen) == (0 if count < RATERS_LEAST else min(count, RATERS_MAX))
        assert len(set(chosen)) == len(chosen)
        assert all(name[0] in "of" for name in chosen)
        # Other accounts come first, whoever else there is.
        assert sum(name[0] == "f" for name in chosen) == (min(foreign, RATERS_MAX) if chosen else 0)


def test_accounts_take_turns() -> None:
    others = [Other(f"b{n}", "b") for n in range(9)] + [Other("c0", "c"), Other("d0", "d")]
    assert raters("me", "a", others) == ("b0", "c0", "d0", "b1", "b2")
