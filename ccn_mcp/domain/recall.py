"""The six questions and how their answers are scored against the facts of a delivered Plate.

Deterministic and without a model: whole words, any order, a light stem. An open-book exam (docs/validation.md).
Where the words leave room, the answer does not pass: a denial that slips through would say that a text arrived
which did not, while an honest answer that is missed is asked for again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from typing import Final, NamedTuple
from unicodedata import normalize

from ccn_mcp.domain.plate import QUESTIONS, Fact

PASS_LEAST: Final = 5
"""Questions that a validated run has answered."""

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
WEIGHT_SUM: Final = sum(question.weight for question in ASKED)


@dataclass(frozen=True, slots=True)
class Scored:
    """A scored run. `score` is the weighted share of the questions that passed, 0 to 1."""

    state: State
    outcomes: tuple[Outcome, ...]
    passed: int
    contradictions: int
    score: float


def can_be_validated(facts: Mapping[str, Sequence[Fact]]) -> bool:
    """Whether so many questions have facts that a run could pass at all."""
    return sum(bool(facts.get(question.name)) for question in ASKED) >= PASS_LEAST


def score(facts: Mapping[str, Sequence[Fact]], answers: Sequence[str]) -> Scored:
    """Score six answers, in the order of `ASKED`. A question passes with more than half of its facts."""
    texts = list(map(_Text, answers))
    repeated = _repeated(texts)
    outcomes: list[Outcome] = []
    contradictions = 0
    for at, (question, text) in enumerate(zip(ASKED, texts, strict=True)):
        known = facts.get(question.name, ())
        if contradicted := any(text.claims(phrase) for fact in known for phrase in fact.contradictions):
            contradictions += 1
        if not known:
            outcomes.append(Outcome.NO_FACTS)
        elif len(answers[at]) > question.chars_max:
            outcomes.append(Outcome.TOO_LONG)
        elif at in repeated:
            outcomes.append(Outcome.REPEATED)
        elif contradicted:
            outcomes.append(Outcome.CONTRADICTION)
        else:
            outcomes.append(_outcome(question, facts, text))
    passed = outcomes.count(Outcome.PASSED)
    both = zip(ASKED, outcomes, strict=True)
    gained = sum(question.weight for question, outcome in both if outcome is Outcome.PASSED)
    if not can_be_validated(facts):
        state = State.NOT_VALIDATED
    else:
        state = State.VALIDATED if passed >= PASS_LEAST and not contradictions else State.FAILED
    return Scored(state, tuple(outcomes), passed, contradictions, round(gained / WEIGHT_SUM, 4))


def _outcome(question: Question, facts: Mapping[str, Sequence[Fact]], text: _Text) -> Outcome:
    asked = _Text(question.text).stems
    if text.denied:
        return Outcome.DENIAL
    if not text.stems - asked:
        return Outcome.ECHO
    if text.stuffed or _foreign(question, facts, text, asked) >= FOREIGN_MAX:
        return Outcome.STUFFED
    known = facts[question.name]
    hits = sum(any(text.says(variant, asked) for variant in fact.accepted) for fact in known)
    return Outcome.PASSED if 2 * hits > len(known) else Outcome.MISSING


def _foreign(
    question: Question, facts: Mapping[str, Sequence[Fact]], text: _Text, asked: frozenset[str]
) -> int:
    """How many other questions the answer also answers: one text with every key word in it does several."""
    own = {variant.casefold() for fact in facts[question.name] for variant in fact.accepted}
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


def _repeated(texts: Sequence[_Text]) -> set[int]:
    found: set[int] = set()
    for left in range(len(texts)):
        for right in range(left):
            both = texts[left].stems | texts[right].stems
            shared = texts[left].stems & texts[right].stems
            if both and len(shared) >= ALIKE * len(both):
                found |= {left, right}
    return found


# ---- words ---------------------------------------------------------------------------------------------

FOREIGN_MAX: Final = 3
ALIKE: Final = 0.6
"""Share of common words from which two answers are the same one."""

WINDOW_EXTRA: Final = 5
"""Other words that may stand between the words of a fact."""

LIST_WORDS_LEAST: Final = 5
ROW_WORDS_LEAST: Final = 4
FUNCTION_SHARE_LEAST: Final = 0.2
DISTINCT_SHARE_LEAST: Final = 0.5
OR_MAX: Final = 1
NEG: Final = "\x00not"
"""What every negation and every hedge becomes."""

_DROPPED: Final = re.compile(
    r"\bnot (?:only|just|merely|least)\b|\bno doubt\b|\bwithout (?:doubt|question)\b"
    r"|\b(?:some|any)(?:one|body) who (?:was|were|is) not (?:there|present|involved)\b"
)
_CONTRACTED: Final = (("can't", "can not"), ("won't", "will not"), ("cannot", "can not"), ("n't", " not"))
_POSSESSIVE: Final = re.compile(r"'(?:s|m|re|ve|ll|d)\b")
_NEGATION_PHRASE: Final = re.compile(
    r"\b(?:rather than|instead of|no longer|far from|anything but|anyone but|other than|nothing to do with"
    r"|(?:some|any)(?:one|body|thing) else|nothing like|no one|as if|as though|used to|short of|in place of)\b"
)
_CONTRAST: Final = re.compile(r"\s(?:but|however|whereas|although|though|instead)\s")
_COLON: Final = re.compile(r":\s|\s[-\u2013]+\s|\u2014")
"""A new clause, as after a comma and `so`."""

_SENTENCE: Final = re.compile(r"(?<=[.!?;])\s+|(?<=\u3002)|\n+")
_PART: Final = re.compile(r"[,()\[\]]|\.\.\.")
_WORD: Final = re.compile(
    r"\x00not|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff]+"
)
_DENSE: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEGATORS: Final = _set(
    "not no never neither nor none nobody nothing nowhere without cannot hardly scarcely barely unlike lack lacks "
    "deny denies denied denying refuse refuses refused reject rejects rejected dispute disputes disown false "
    "untrue wrong incorrect fake fictional mistaken lie lies unknown unaware unfamiliar unsure unable forgot "
    "forgotten except if unless maybe perhaps might possibly supposedly allegedly pretend pretends pretending "
    "pretended imagine claim claims claimed fiction myth doubt doubts doubtful ignore ignores ignored disregard "
    "stranger irrelevant nicht kein keine keinen keiner keinem nie niemals niemand weder ohne pas jamais aucun "
    "aucune sans nunca nadie ninguno ninguna tampoco"
)
_FORWARD_ONLY: Final = _set("without ohne sans")
_FUNCTION: Final = _set(
    "a an the this that these those i me my mine myself we us our ours you your he him his she her hers it its they "
    "them their who whom whose which what when where why how and or but so because as than then of in on at to for "
    "from by with about into over under between after before up out off again am is are was were be been being do "
    "does did doing done have has had having will would shall should can could may must there here also too very "
    "all any both each every some such same own only just while until since now still yet today one "
    "der die das den dem des ein eine einen einem einer ich mich mir mein meine du wir uns er sie es ihr ihm und oder "
    "ist bin sind war waren wird werde wurde hat habe von zu im in mit auf aus nach wie wo was wer als auch "
    "le la les un une des du je me mon ma nous il elle et ou est suis sont dans pour avec par sur que qui ce "
    "el los las una yo mi nos ella y o es soy son en para con por que su"
)
_BARE: Final = _set(
    "know knows known idea clue true right correct sure say tell answer answers above following statement so really "
    "all false wrong untrue me it that yes anything something anyone else exist exists existed apply applies mean "
    "meant opposite case matter matters heard hear"
)
"""With a negation and nothing else beside these, a sentence takes back the whole answer."""

_SUBJECTS: Final = _set("i we he she it they you so but only ich wir er sie je nous il elle yo")
_STATING: Final = _set("think believe agree accept assert maintain suppose affirm confirm told")
_AUXILIARY: Final = _set("do does did will would can could should shall may is am are was were has have had")


def _normal(text: str) -> str:
    text = normalize("NFKC", text).casefold().replace("\u2019", "'").replace("\x00", " ")
    for short, long in _CONTRACTED:
        text = text.replace(short, long)
    text = _COLON.sub(" , so ", _DROPPED.sub(" ", _POSSESSIVE.sub("", text)))
    text = text.replace(" whether ", f" {NEG} that ")
    return _CONTRAST.sub(" , but ", _NEGATION_PHRASE.sub(f" {NEG} ", f" {text} "))


def _words(text: str) -> list[str]:
    return [NEG if word in _NEGATORS else word for word in _WORD.findall(text.replace("_", ""))]


def _stem(word: str) -> str:
    for suffix, put in (("isation", "ize"), ("ization", "ize"), ("ies", "y"), ("ation", "ate"), ("ing", "")):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return _stem(word[: -len(suffix)] + put) if suffix != "ing" else _bare(word[:-3])
    for suffix in ("ed", "es", "ly", "s"):
        if word.endswith(suffix) and not word.endswith("ss") and len(word) - len(suffix) >= 3:
            return _bare(word[: -len(suffix)])
    return _bare(word)


def _bare(word: str) -> str:
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsez":
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


class _Word(NamedTuple):
    text: str
    stem: str
    part: int


class _Sentence:
    """One sentence: its words, in parts between commas, and what is negated in it."""

    def __init__(self, text: str) -> None:
        self.asks = text.rstrip().endswith("?")
        parts = [words for piece in _PART.split(text) if (words := _words(piece))]
        self.parts = parts
        self.words = [_Word(word, _stem(word), at) for at, part in enumerate(parts) for word in part]
        self.function = sum(word.text == NEG or word.text in _FUNCTION for word in self.words)
        self.first = [sum(map(len, parts[:at])) for at in range(len(parts))]

    def is_list(self) -> bool:
        """Whether this is a row of key words and not a sentence."""
        return len(self.words) >= LIST_WORDS_LEAST and self.function < FUNCTION_SHARE_LEAST * len(self.words)

    def negated(self, at: Sequence[int]) -> bool:
        """Whether the words at these positions are denied, hedged or asked rather than said."""
        if self.asks:
            return True
        first, last, inside = min(at), max(at), set(at)
        begin, end = self.words[first].part, self.words[last].part
        for index, word in enumerate(self.words):
            if word.text != NEG or index in inside or not begin <= word.part <= end:
                continue
            if index < last or not self._starts_anew(last, index):
                return True
        return self._carried(begin) or any(self._takes_back(part) for part in range(end + 1, len(self.parts)))

    def _starts_anew(self, last: int, index: int) -> bool:
        """`Quire and do not invent numbers`: the negation after a hit has an object of its own."""
        between = [word.text for word in self.words[last + 1 : index]]
        joined = [word for word in between if word not in _AUXILIARY]
        return joined[-1:] == ["and"] and self._object(index)

    def _object(self, index: int) -> bool:
        part = self.words[index].part
        return any(_is_content(word.text) for word in self.words[index + 1 :] if word.part == part)

    def _carried(self, part: int) -> bool:
        """Whether a negation in an earlier part of the sentence reaches this one."""
        reaches = stays = False
        anew = _SUBJECTS
        for at, words in enumerate(self.parts[:part]):
            if words[0] in anew:
                reaches = stays
            if NEG in words:
                # `Quire, not a tool, and …`: such an aside ends at the next `and`, a negated clause does not.
                anew = _SUBJECTS | {"and"} if at and words[0] == NEG and not reaches else _SUBJECTS
                reaches = True
                stays = stays or _denies_all(words)
        return stays or (reaches and self.parts[part][0] not in anew)

    def _takes_back(self, part: int) -> bool:
        """Whether a later part denies what came before it: `Quire, that is not me`; not `Quire, not a tool`."""
        words = self.parts[part]
        if NEG not in words:
            return False
        index = self.first[part] + words.index(NEG)
        if words[0] in (NEG, "and") or words[0] in _SUBJECTS or _FORWARD_ONLY & set(words):
            return not self._object(index)
        return words[0] in _FUNCTION or not self._object(index)


def _denies_all(words: Sequence[str]) -> bool:
    """Whether a negation reaches to the end of the sentence: `I am not, …`, `it is not true that …`."""
    rest = words[len(words) - words[::-1].index(NEG) :]
    said = list(takewhile(lambda word: word != "that", words[words.index(NEG) + 1 :]))
    stated = "that" in words[words.index(NEG) :] and not any(
        _is_content(word) and word not in _STATING for word in said
    )
    return stated or not any(map(_is_content, rest))


def _is_content(word: str) -> bool:
    return word != NEG and word not in _FUNCTION and word not in _BARE


class _Text:
    """An answer, a fact or a question, as words."""

    def __init__(self, text: str) -> None:
        self.sentences = [
            found for piece in _SENTENCE.split(_normal(text)) if (found := _Sentence(piece)).words
        ]
        words = [word for sentence in self.sentences for word in sentence.words]
        content = [word.stem for word in words if word.text != NEG and word.text not in _FUNCTION]
        self.stems = frozenset(content)
        dense = sum(bool(_DENSE.match(word.text)) for word in words)
        repeats = len(content) >= 6 and len(self.stems) < DISTINCT_SHARE_LEAST * len(content)
        guesses = any(
            Counter(word.text for word in sentence.words)["or"] > OR_MAX for sentence in self.sentences
        )
        bare = sum(len(found.words) for found in self.sentences if not found.function)
        listed = any(sentence.is_list() for sentence in self.sentences) or 2 * bare > len(words)
        rows = len(self.sentences)
        listed = listed or (rows >= LIST_WORDS_LEAST and len(words) < ROW_WORDS_LEAST * rows)
        self.stuffed = guesses or (2 * dense < len(words) and (repeats or listed))
        self.denied = any(
            NEG in (texts := [word.text for word in sentence.words]) and not any(map(_is_content, texts))
            for sentence in self.sentences
        )

    def says(self, variant: str, asked: frozenset[str]) -> bool:
        """Whether the content words of `variant` stand close together somewhere, said and not denied."""
        phrase = _Text(variant)
        if not phrase.stems:
            return self.claims(variant)
        if phrase.stems <= asked:
            return False  # an answer that only repeats the question would say it too
        width = len(phrase.stems) + WINDOW_EXTRA
        for sentence in self.sentences:
            stems = [word.stem for word in sentence.words]
            for start in range(len(stems)):
                window = stems[start : start + width]
                if stems[start] in phrase.stems and phrase.stems <= set(window):
                    at = [start + window.index(stem) for stem in phrase.stems]
                    if not sentence.negated(at):
                        return True
        return False

    def claims(self, phrase: str) -> bool:
        """Whether the words of `phrase` stand somewhere in this order, said and not denied."""
        wanted = [word.stem for sentence in _Text(phrase).sentences for word in sentence.words]
        for sentence in self.sentences:
            stems = [word.stem for word in sentence.words]
            for start in range(len(stems) - len(wanted) + 1 if wanted else 0):
                span = range(start, start + len(wanted))
                if stems[start : start + len(wanted)] == wanted and not sentence.negated(span):
                    return True
        return False
