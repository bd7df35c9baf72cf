from __future__ import annotations

import pytest

from tests.domain.mutants import MUTANTS, ROOT, Mutant, main, mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_can_still_be_made(mutant: Mutant) -> None:
    text = (ROOT / mutant.path).read_text(encoding="utf-8")
    changed = mutated(mutant, text)
    assert changed != text
    compile(changed, mutant.path, "exec")


@pytest.mark.slow
def test_every_mutant_is_killed() -> None:
    assert main([]) == 0
