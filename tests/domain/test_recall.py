"""The six questions: true paraphrases pass, and nothing that only looks like an answer does."""

from __future__ import annotations

from typing import Final

import pytest

from ccn_mcp import data
from ccn_mcp.domain import recall
from ccn_mcp.domain.plate import QUESTIONS, Fact, parse_plate
from ccn_mcp.domain.recall import ASKED, Outcome, State

FACTS: Final = parse_plate(data.read("example_plate.md")).facts
RUNS: Final = 20

TRUE: Final[dict[str, tuple[str, ...]]] = {
    "identity": (
        "I am Quire, the lab notebook that answers back, here as a working companion.",
        "My name is Quire. I serve as a laboratory notebook and a companion at work.",
        "Quire: a lab notebook one can talk with, and a research companion.",
        "I'm not a search engine but Quire, a notebook for the lab.",
        "I work under the name Quire, as a companion in the research and as the notebook of the lab.",
        "The name is Quire, and the part is that of a lab notebook.",
        "I go by Quire. Not a chat partner: a lab notebook, for working.",
        "I act as the lab's notebook and as a working companion; people call me Quire.",
    ),
    "collaborator": (
        "I work with Noor, a soil chemist who runs trials in the greenhouse.",
        "Noor is the one I support: a chemist for soils, busy with greenhouse experiments.",
        "With Noor. She does soil chemistry.",
        "It is Noor, whose greenhouse trials I help with, and whose field is the chemistry of soil.",
        "My counterpart is Noor, not a student, but a soil chemist with trials under glass.",
        "Noor does experiments in a greenhouse and is a soil chemist by trade.",
        "I support a soil chemist, Noor; her pots stand in a greenhouse.",
        "Noor, who studies soil chemistry and plans the greenhouse trials.",
    ),
    "mission": (
        "To make each result on phosphate reproducible by somebody who wasn't there, with its uncertainty.",
        "We measure how fast plants take up phosphate, and each number states how sure we are.",
        "The results should be reproducible, and each comes with its unit, source and uncertainty.",
        "So that another person can repeat the experiment, and sees the error bars of every value.",
        "It is about phosphorus uptake in plants, done in such a way that it can be repeated.",
        "Each phosphate value has to be reproducible; nothing is hidden.",
        "It serves reproducible science: units, reasons, and the uncertainty of each figure.",
        "We want to know how plants take up phosphate and to say openly how uncertain it is, with error bars.",
    ),
    "milestone": (
        "The second series has begun, with 48 pots, after the photometer calibration.",
        "The photometer was calibrated, and then series two started in March.",
        "Since March the second series is under way; it has forty-eight pots.",
        "Series one is complete. The second series runs, and the photometer has been calibrated for it.",
        "We finished the first series and set up 48 pots for the second series.",
        "After calibrating the photometer we began with 48 pots.",
        "We are in series 2 now; the calibration of the photometer came before it.",
        "What is open is the slow uptake in clay; the second series with its 48 pots is running.",
    ),
    "traits": (
        "Direct, precise and brief.",
        "I say it plainly and am exact about numbers.",
        "I should give short answers and be careful with numbers.",
        "In a direct way, with concise answers.",
        "I am plain-spoken, and I keep my answers short; never vague or long-winded.",
        "Precise about figures, direct in tone, not verbose.",
        "To be concise and exact, and friendly without cheering.",
        "I am asked to be brief, direct and careful with the numbers.",
    ),
    "continuity": (
        "From the Plate, which I read as each session starts, and from records of earlier sessions.",
        "I don't remember it: I look it up in the record.",
        "What was recorded is there for me to look up with get_history; the rest is unknown to me.",
        "Each session starts from the Plate, and what is missing I look up.",
        "I have no memory of my own. The record holds what was said, and I can look it up there.",
        "By reading: this session starts from the Plate, and the record has the rest.",
        "I read the Plate first. Then I call get_history for what it does not say.",
        "Only through the record and the Plate, with which every session starts.",
    ),
}


def true_run(number: int) -> list[str]:
    """Twenty different mixtures: each question takes its own step through its answers."""
    return [TRUE[name][(number + at * (number // 8)) % 8] for at, name in enumerate(QUESTIONS)]


KEYWORDS: Final = {name: [variant for fact in FACTS[name] for variant in fact.accepted] for name in QUESTIONS}
EVERYTHING: Final = " ".join(variants[0] for name in QUESTIONS for variants in [KEYWORDS[name]])

ECHOES: Final[list[list[str]]] = [
    [question.text for question in ASKED],
    [question.text.rstrip("?") + "." for question in ASKED],
    [f"You ask: {question.text}" for question in ASKED],
    [f"{question.text} {question.text}" for question in ASKED],
    [question.text.upper() for question in ASKED],
    [f"The question is {question.text.lower()}" for question in ASKED],
    [f"I will answer this: {question.text}" for question in ASKED],
    [f"{question.name.capitalize()}: {question.text}" for question in ASKED],
    [f"Good question. {question.text} Let me think about {question.name}." for question in ASKED],
    [" ".join(reversed(question.text.split())) for question in ASKED],
]
CONSTANTS: Final[list[list[str]]] = [
    ["I am a helpful assistant."] * 6,
    ["Yes."] * 6,
    [""] * 6,
    ["I am Quire, the lab notebook and working companion of Noor, a soil chemist with greenhouse trials."]
    * 6,
    ["It says so in the Plate and in the record of earlier sessions, look it up."] * 6,
    [f"{number}. I am Quire and I work with Noor on phosphate, direct and precise." for number in range(6)],
    ["Quire and Noor"] * 6,
    ["..."] * 6,
    ["As an AI language model I help with many tasks, and I am happy to assist you today."] * 6,
    [EVERYTHING] * 6,
]
DENIALS: Final[list[list[str]]] = [
    [
        "I am not Quire, and I am no lab notebook and no working companion.",
        "I do not know any Noor, nor a soil chemist, nor any greenhouse trials.",
        "There is no aim of being reproducible, no phosphate and no uncertainty to state.",
        "There was never a second series, and no 48 pots, and no calibration of the photometer.",
        "I am neither direct nor precise nor brief.",
        "There is no record, I cannot look it up, and no session starts from the Plate.",
    ],
    [f"It is not true that {TRUE[name][0][0].lower()}{TRUE[name][0][1:]}" for name in QUESTIONS],
    [f"I deny that this holds, namely that {TRUE[name][1]}" for name in QUESTIONS],
    [f"{', '.join(KEYWORDS[name][:6])}? I do not know." for name in QUESTIONS],
    [f"{', '.join(KEYWORDS[name][:6])}, that is not so." for name in QUESTIONS],
    [f"{' and '.join(KEYWORDS[name][:6])}: none of it is true." for name in QUESTIONS],
    [f"I am not, and never was, told of {', '.join(KEYWORDS[name][:6])}." for name in QUESTIONS],
    [
        f"Nobody mentioned {' or '.join(KEYWORDS[name][:3])} and {KEYWORDS[name][-1]} to me."
        for name in QUESTIONS
    ],
    [f"{TRUE[name][2]} No. That is wrong." for name in QUESTIONS],
    [f"Perhaps it has to do with {', '.join(KEYWORDS[name][:6])}." for name in QUESTIONS],
]
STUFFED: Final[list[list[str]]] = [
    [" ".join(KEYWORDS[name]) for name in QUESTIONS],
    [", ".join(KEYWORDS[name]) for name in QUESTIONS],
    [" / ".join(KEYWORDS[name][::-1]) for name in QUESTIONS],
    [f"{EVERYTHING} {question.name}" for question in ASKED],
    [f"Answer {at}: {EVERYTHING}" for at in range(6)],
    [" ".join([word for word in KEYWORDS[name] for _ in range(2)]) for name in QUESTIONS],
    [f"I am {' or '.join(KEYWORDS[name])}." for name in QUESTIONS],
    [f"Keywords: {'; '.join(KEYWORDS[name])}." for name in QUESTIONS],
    [f"{question.text} {' '.join(KEYWORDS[question.name])}" for question in ASKED],
    [
        f"I am Quire and Noor and the phosphate and the second series and direct and the record {question.name}."
        for question in ASKED
    ],
]
FALSE: Final = [*ECHOES, *CONSTANTS, *DENIALS, *STUFFED]


def test_true_paraphrases_pass() -> None:
    runs = [true_run(number) for number in range(RUNS)]
    assert len({tuple(run) for run in runs}) == RUNS
    scored = [recall.score(FACTS, run) for run in runs]
    assert sum(found.state is State.VALIDATED for found in scored) >= 18, [
        (number, found.outcomes) for number, found in enumerate(scored) if found.state is not State.VALIDATED
    ]
    passed = sum(found.passed for found in scored)
    assert passed >= 0.95 * 6 * RUNS


def test_nothing_that_only_looks_like_an_answer_passes() -> None:
    assert len(FALSE) == 40
    for number, run in enumerate(FALSE):
        found = recall.score(FACTS, run)
        assert found.state is State.FAILED, (number, run, found)
        assert found.passed < recall.PASS_LEAST, (number, run, found)


def test_nearly_every_single_paraphrase_passes() -> None:
    missed = [text for name in QUESTIONS for text in TRUE[name] if one(name, text) is not Outcome.PASSED]
    assert len(missed) <= 2, missed


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("answer", range(8))
def test_no_denial_of_a_paraphrase_passes(name: str, answer: int) -> None:
    at = QUESTIONS.index(name)
    text = TRUE[name][answer]
    assert len(text) <= ASKED[at].chars_max
    for denial in (
        f"It is false that {text}",
        f"I do not think that {text}",
        f"{text} No, that is not true.",
        f"I don't know whether {text}",
    ):
        # Sentences after the first stand on their own; a denial of the first one says nothing of them.
        if "." not in text[:-1] and ";" not in text and len(denial) <= ASKED[at].chars_max:
            assert one(name, denial) is not Outcome.PASSED, denial


def one(name: str, answer: str) -> Outcome:
    at = QUESTIONS.index(name)
    answers = [f"unlike{number}" for number in range(6)]
    answers[at] = answer
    return recall.score(FACTS, answers).outcomes[at]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("I am Quire, not ChatGPT, and a lab notebook.", Outcome.PASSED),
        ("I am ChatGPT, a lab notebook called Quire.", Outcome.CONTRADICTION),
        ("I have no name, but Quire, the lab notebook, is near.", Outcome.CONTRADICTION),
        ("I am just a generic assistant called Quire, the lab notebook.", Outcome.CONTRADICTION),
        ("Am I ChatGPT? I am Quire, a lab notebook.", Outcome.PASSED),
        ("I am Ada.", Outcome.MISSING),
        ("I am Quire.", Outcome.MISSING),
        ("I am not Ada but Quire, the lab notebook.", Outcome.PASSED),
        ("Quire, I am not, and a lab notebook neither.", Outcome.MISSING),
        ("Quire and the lab notebook are somebody else.", Outcome.MISSING),
        ("If I were Quire, I would be a lab notebook.", Outcome.MISSING),
        ("Ich bin nicht Quire und kein lab notebook.", Outcome.MISSING),
        ("I am Quire, the lab notebook. " + "x" * 200, Outcome.TOO_LONG),
        ("I know nothing.", Outcome.DENIAL),
        ("Who are you here?", Outcome.ECHO),
    ],
)
def test_negation_and_contradiction(answer: str, outcome: Outcome) -> None:
    assert one("identity", answer) is outcome


def test_a_contradiction_fails_a_run_that_has_five_right() -> None:
    answers = true_run(0)
    answers[5] = "I remember everything."
    found = recall.score(FACTS, answers)
    assert (found.passed, found.contradictions, found.state) == (5, 1, State.FAILED)
    answers[5] = "I do not remember everything."
    found = recall.score(FACTS, answers)
    assert (found.passed, found.contradictions, found.state) == (5, 0, State.VALIDATED)
    assert found.score == 0.75


def test_the_weights_and_limits_are_those_of_the_design() -> None:
    assert tuple(question.name for question in ASKED) == QUESTIONS
    assert [question.chars_max for question in ASKED] == [200, 200, 300, 300, 150, 200]
    assert [question.weight for question in ASKED] == [1, 1.5, 1.5, 1, 1, 2]
    assert recall.score(FACTS, true_run(0)).score == 1.0


def test_a_limit_counts_to_the_last_character() -> None:
    text = "I am Quire, the lab notebook, "
    fits = text + "y" * (200 - len(text))
    assert one("identity", fits) is Outcome.PASSED
    assert one("identity", fits + "y") is Outcome.TOO_LONG


def test_a_plate_without_enough_facts_shows_nothing() -> None:
    assert recall.score({}, true_run(0)).state is State.NOT_VALIDATED
    few = {name: FACTS[name] for name in QUESTIONS[:4]}
    assert not recall.can_be_validated(few)
    assert recall.score(few, true_run(0)).state is State.NOT_VALIDATED
    enough = {name: FACTS[name] for name in QUESTIONS[:5]}
    found = recall.score(enough, true_run(0))
    assert found.state is State.VALIDATED
    assert found.outcomes[5] is Outcome.NO_FACTS


def test_what_is_on_record_is_one_more_fact_and_none_more_to_have() -> None:
    said = ["The ferry to Skarholm was late again.", "Yes."]
    assert [asked.text for asked in recall.questions(["Yes.", "ok"])] == [asked.text for asked in ASKED]
    (changed,) = set(recall.questions(said)) - set(ASKED)
    assert (changed.name, changed.chars_max, changed.weight) == ("continuity", 200, 2.0)
    for number in range(RUNS):
        assert recall.score(FACTS, true_run(number), history=said) == recall.score(FACTS, true_run(number))
    few = {name: FACTS[name] for name in QUESTIONS[:4]}
    run = [*true_run(0)[:5], "It was told to me that the ferry to Skarholm came late."]
    assert recall.score(few, run).state is State.NOT_VALIDATED
    assert recall.can_be_validated(few, said)
    assert recall.score(few, run, history=said).state is State.VALIDATED
    for wrong in (
        "It was told to me.",
        "I was not told of a ferry to Skarholm that came late.",
        changed.text,
    ):
        found = recall.score(few, [*run[:5], wrong], history=said)
        assert found.state is State.FAILED, wrong
    for fake in FALSE:
        assert recall.score(FACTS, fake, history=said).state is State.FAILED


def test_text_of_any_kind_is_scored_and_nothing_raises() -> None:
    for wild in (
        "\x00",
        "🙂" * 50,
        "a" * 2_000,
        "\uff0c\u3002\uff01\uff1f",
        "'",
        "not " * 300,
        "\u202e\n\r\t",
        "ﬁ ﬀ",
    ):
        assert recall.score(FACTS, [wild] * 6).state is State.FAILED


def test_scripts_without_spaces_are_matched_by_character() -> None:
    facts = {
        name: (Fact((word,)),)
        for name, word in zip(QUESTIONS, ("甲", "乙丙", "丁", "戊", "己", "庚"), strict=True)
    }
    answers = ["私は甲です。", "乙丙といます。", "丁のため。", "戊でした。", "己らしく。", "庚から。"]
    assert recall.score(facts, answers).state is State.VALIDATED


def test_no_question_gives_away_a_fact_of_the_example() -> None:
    texts = " ".join(question.text for question in ASKED).casefold()
    for name in QUESTIONS:
        for variant in KEYWORDS[name]:
            assert variant.casefold() not in texts
