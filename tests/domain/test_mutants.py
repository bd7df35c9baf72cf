from __future__ import annotations

import pytest

from tests.domain.mutants import MUTANTS, ROOT, TWELVE, Mutant, main, mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_can_still_be_made(mutant: Mutant) -> None:
    text = (ROOT / mutant.path).read_text(encoding="utf-8")
    changed = mutated(mutant, text)
    assert changed != text
    compile(changed, mutant.path, "exec")


def test_the_twelve_of_c8_are_among_them() -> None:
    assert len(TWELVE) == 12
    known = {mutant.name for mutant in MUTANTS}
    assert len(known) == len(MUTANTS)
    assert all(names and set(names) <= known for names in TWELVE.values())


@pytest.mark.slow
def test_every_mutant_is_killed() -> None:
    assert main([]) == 0
