"""The six questions and how their answers are scored against the facts of a delivered Plate.

Deterministic and without a model: whole words, any order, a light stem. An open-book exam (docs/validation.md).
Where the words leave room, the answer does not pass: a denial that slips through would say that a text arrived
which did not, while an honest answer that is missed is asked for again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from ccn_mcp.domain.plate import QUESTIONS, Fact
from ccn_mcp.domain.wording import Wording

PASS_LEAST: Final = 5
"""Questions that a validated run has answered."""

FOREIGN_MAX: Final = 3
BARE_LEAST: Final = 4
"""So many of six answers that are no sentences make the run a row of key words."""

SPARE_MAX: Final = 2
"""So many more variants than facts: nobody says the same in every way that the Plate's author thought of."""

ALIKE: Final = 0.6
"""Share of common words from which two answers are the same one."""

ANSWER_CHARS_MAX: Final = 2_000
"""What is taken and kept of one answer at all; its own limit is lower, and a longer one fails its question."""


class State(StrEnum):
    """Three different states. A Plate without enough facts can show nothing: neither a pass nor a failure."""

    VALIDATED = "validated"
    FAILED = "failed"
    NOT_VALIDATED = "not_validated"


class Outcome(StrEnum):
    """What became of one answer."""

    PASSED = "passed"
    NO_FACTS = "no_facts"
    TOO_LONG = "too_long"
    ECHO = "echo"
    REPEATED = "repeated"
    STUFFED = "stuffed"
    DENIAL = "denial"
    CONTRADICTION = "contradiction"
    UNFOUNDED = "unfounded"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Question:
    """One question. Its wording must hold no word that a Plate is likely to have as a fact."""

    name: str
    text: str
    chars_max: int
    weight: float


ASKED: Final = (
    Question("identity", "Who are you here?", 200, 1.0),
    Question("collaborator", "With whom are you dealing, and what does that person do?", 200, 1.5),
    Question("mission", "What is it all for?", 300, 1.5),
    Question("milestone", "What was reached last, and where do things stand?", 300, 1.0),
    Question("traits", "In what manner are you asked to behave?", 150, 1.0),
    Question("continuity", "How do you come to know what happened before today?", 200, 2.0),
)
MEMORY: Final = ("milestone", "continuity")
"""Questions about what happened: their answers are held against the record too."""

FROM_RECORD: Final = "continuity"
FROM_RECORD_ASKED: Final = " Name one particular thing that was said."
"""What is added to that question where something is on record, which is then one more fact."""

SHARED_WORDS_LEAST: Final = 2
"""Words of one recorded message that name something in particular."""

SPECIFICS_MAX: Final = 8
_MONTH: Final = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|m\u00e4rz|mai|okt|dez)\w*\.?"
_CALENDAR: Final = re.compile(
    r"\b\d{4}-\d\d(?:-\d\d)?\b|\b\d{1,2}:\d\d(?::\d\d)?\b|\b(?:19|20)\d\d\b"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th|\.)? (?:of )?{_MONTH}|{_MONTH} \d{{1,2}}\b|\b(?:seq|entry|turn|message) \d+",
    re.IGNORECASE,
)
_QUOTED: Final = re.compile(r'"([^"]{3,})"|\u201c([^\u201d]{3,})\u201d')
_NUMBER: Final = re.compile(r"(?<![\w.])\d{2,}(?![\w])")
WEIGHT_SUM: Final = sum(question.weight for question in ASKED)


@dataclass(frozen=True, slots=True)
class Scored:
    """A scored run. `score` is the weighted share of the questions that passed, 0 to 1."""

    state: State
    outcomes: tuple[Outcome, ...]
    passed: int
    contradictions: int
    score: float


def questions(history: Sequence[str] = ()) -> tuple[Question, ...]:
    """The questions as they are asked where `history` was recorded before."""
    if not _telling(history):
        return ASKED
    return tuple(
        replace(asked, text=asked.text + FROM_RECORD_ASKED) if asked.name == FROM_RECORD else asked
        for asked in ASKED
    )


def _telling(history: Sequence[str]) -> list[Wording]:
    """Recorded messages that have enough words to be named by."""
    read = map(Wording, history)
    return [text for text in read if text.shares(text, frozenset()) >= SHARED_WORDS_LEAST]


def specifics(answer: str) -> tuple[str, ...]:
    """What a memory answer states that can be looked up: numbers of two digits or more, and quotations.

    Dates, times and positions in the record are left out: the delivered context has them and no message does.
    """
    text = _CALENDAR.sub(" ", answer)
    quotes = [found for pair in _QUOTED.findall(text) for found in pair if found]
    numbers = _NUMBER.findall(_QUOTED.sub(" ", text))
    said = Wording(text)
    return (*quotes, *(number for number in numbers if said.claims(number)))[:SPECIFICS_MAX]


def can_be_validated(facts: Mapping[str, Sequence[Fact]], history: Sequence[str] = ()) -> bool:
    """Whether so many questions have facts, of the Plate or of the record, that a run could pass at all."""
    having = {question.name for question in ASKED if facts.get(question.name)}
    return len(having | ({FROM_RECORD} if _telling(history) else set())) >= PASS_LEAST


def score(
    facts: Mapping[str, Sequence[Fact]],
    answers: Sequence[str],
    *,
    history: Sequence[str] = (),
    unfounded: Collection[str] = (),
) -> Scored:
    """Score six answers, in the order of `ASKED`. A question passes with more than half of its facts.

    `history`: recorded messages from before, of which the answer on continuity is to name one. `unfounded`: memory
    questions whose answer states what neither the Plate nor the record has (see `specifics`).
    """
    recorded = _telling(history)
    texts = list(map(Wording, answers))
    repeated = _repeated(texts)
    bare = _bare(facts, texts)
    outcomes: list[Outcome] = []
    contradictions = 0
    for at, (question, text) in enumerate(zip(ASKED, texts, strict=True)):
        known = facts.get(question.name, ())
        if contradicted := any(text.claims(phrase) for fact in known for phrase in fact.contradictions):
            contradictions += 1
        if not known and not (recorded and question.name == FROM_RECORD):
            outcomes.append(Outcome.NO_FACTS)
        elif len(answers[at]) > question.chars_max:
            outcomes.append(Outcome.TOO_LONG)
        elif at in repeated:
            outcomes.append(Outcome.REPEATED)
        elif at in bare:
            outcomes.append(Outcome.STUFFED)
        elif contradicted:
            outcomes.append(Outcome.CONTRADICTION)
        elif question.name in unfounded:
            outcomes.append(Outcome.UNFOUNDED)
        else:
            outcomes.append(_outcome(question, facts, text, recorded if question.name == FROM_RECORD else []))
    passed = outcomes.count(Outcome.PASSED)
    both = zip(ASKED, outcomes, strict=True)
    gained = sum(question.weight for question, outcome in both if outcome is Outcome.PASSED)
    if not can_be_validated(facts, history):
        state = State.NOT_VALIDATED
    else:
        state = State.VALIDATED if passed >= PASS_LEAST and not contradictions else State.FAILED
    return Scored(state, tuple(outcomes), passed, contradictions, round(gained / WEIGHT_SUM, 4))


def _outcome(
    question: Question, facts: Mapping[str, Sequence[Fact]], text: Wording, recorded: Sequence[Wording]
) -> Outcome:
    asked = Wording(question.text + (FROM_RECORD_ASKED if recorded else "")).stems
    if text.denied:
        return Outcome.DENIAL
    if not text.stems - asked:
        return Outcome.ECHO
    if text.stuffed or _foreign(question, facts, text, asked) >= FOREIGN_MAX:
        return Outcome.STUFFED
    known = facts.get(question.name, ())
    said = [[one for one in map(Wording, fact.accepted) if text.says_one(one, asked)] for fact in known]
    hits = sum(map(bool, said))
    if sum(map(_different, said)) - hits >= SPARE_MAX:
        return Outcome.STUFFED
    if recorded:
        # One more fact that an answer can have, and none more that it needs.
        known_stems = asked | _stems_of(facts)
        hits += any(text.shares(one, known_stems) >= SHARED_WORDS_LEAST for one in recorded)
    return Outcome.PASSED if 2 * hits > len(known) else Outcome.MISSING


def _different(said: Sequence[Wording]) -> int:
    """How many of these variants are not only others' words over again."""
    stems = {one.stems for one in said}
    return sum(not any(one < other for other in stems) for one in stems)


def _foreign(
    question: Question, facts: Mapping[str, Sequence[Fact]], text: Wording, asked: frozenset[str]
) -> int:
    """How many other questions the answer also answers: one text with every key word in it does several."""
    own = {variant.casefold() for fact in facts.get(question.name, ()) for variant in fact.accepted}
    return sum(
        any(
            text.says(variant, asked)
            for fact in facts.get(name, ())
            for variant in fact.accepted
            if variant.casefold() not in own
        )
        for name in QUESTIONS
        if name != question.name
    )


def _bare(facts: Mapping[str, Sequence[Fact]], texts: Sequence[Wording]) -> set[int]:
    """Answers that nothing ties into a sentence, if most of a run is like that; a few may be terse."""
    known = _stems_of(facts)
    found = {at for at, text in enumerate(texts) if not text.is_tied(known)}
    return found if len(found) >= BARE_LEAST else set()


def _stems_of(facts: Mapping[str, Sequence[Fact]]) -> frozenset[str]:
    return frozenset(
        stem
        for of_question in facts.values()
        for fact in of_question
        for variant in fact.accepted
        for stem in Wording(variant).all_stems
    )


def _repeated(texts: Sequence[Wording]) -> set[int]:
    found: set[int] = set()
    for left in range(len(texts)):
        for right in range(left):
            both = texts[left].stems | texts[right].stems
            shared = texts[left].stems & texts[right].stems
            if both and len(shared) >= ALIKE * len(both):
                found |= {left, right}
    return found
