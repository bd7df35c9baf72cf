"""The six questions against answers that were written before the scorer was looked at (`blind_answers.py`).

First run, before anything was changed for them: 16 of the 20 honest runs passed, and 3 of the 40 others, rows of key
words as bullets, as `key=value` and joined by `and`. After that was mended, a second set (`blind_answers_2.py`: harder,
ten and ten) gave 7 of 10 and let 2 of 10 pass, and was mended for too. By now the scorer's author knows all of them:
they keep what was mended from breaking again, and are no measure of answers to come.
"""

from __future__ import annotations

from typing import Final

import pytest

from ccn_mcp.domain import recall
from ccn_mcp.domain.plate import parse_plate
from ccn_mcp.domain.recall import ASKED, State
from tests.domain import blind_answers_2 as second
from tests.domain.blind_answers import FALSE, PLATE, TRUE

FACTS: Final = parse_plate(PLATE.encode()).facts
QUESTIONS: Final = {f"q{at}": question.text for at, question in enumerate(ASKED)}


def test_honest_runs_pass() -> None:
    assert len(TRUE) == 20
    found = [recall.score(FACTS, run) for run in TRUE]
    assert sum(one.state is State.VALIDATED for one in found) >= 18
    assert sum(one.contradictions for one in found) == 0


@pytest.mark.parametrize("kind", FALSE)
def test_nothing_that_only_looks_like_an_answer_passes(kind: str) -> None:
    assert len(FALSE[kind]) == 10
    for run in FALSE[kind]:
        answers = [text.format(**QUESTIONS) for text in run]
        found = recall.score(FACTS, answers)
        assert found.state is State.FAILED, (answers, found)
        assert found.passed < recall.PASS_LEAST - 2, (answers, found)


def test_the_second_set() -> None:
    facts = parse_plate(second.PLATE.encode()).facts
    assert (len(second.TRUE), len(second.FALSE)) == (10, 10)
    assert sum(recall.score(facts, run).state is State.VALIDATED for run in second.TRUE) >= 9
    for run in second.FALSE:
        assert recall.score(facts, run).state is State.FAILED, run
