"""What a text says, word by word: matches in any order, negation, hedges, rows of key words.

Pure and without a model. Where the words leave room, a phrase counts as not said (docs/validation.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Final, NamedTuple
from unicodedata import normalize

WINDOW_EXTRA: Final = 5
"""Other words that may stand between the words of a fact."""

LIST_WORDS_LEAST: Final = 5
LIST_SHARE_LEAST: Final = 0.16
ROW_WORDS_LEAST: Final = 4
TELLING_CHARS_LEAST: Final = 4
"""A shorter word tells nothing about which text it comes from."""

DISTINCT_SHARE_LEAST: Final = 0.5
OR_MAX: Final = 1
NEG: Final = "\x00not"
"""What every negation and every hedge becomes."""

_DROPPED: Final = re.compile(
    r"\bnot (?:only|just|merely|least)\b|\bno doubt\b|\bwithout (?:doubt|question)\b"
    r"|\b(?:some|any)(?:one|body) who (?:was|were|is) not (?:there|present|involved)\b"
    r"|\bif (?:you (?:like|will|want|prefer)|in doubt|need be|necessary)\b"
    r"|(?:^|(?<=[.!?;])\s)\s*without (?:it|them|that|this|these|those)\b[^.!?;]*"
    r"|(?<=,)\s*and no,(?=\s(?:i|we|it)\b)|^\s*no,(?=\s(?:i|we|it)\b)|(?:(?<=\n)|^)\s*[-*\u2022#+]+\s*(?=\w)"
)
_CONTRACTED: Final = (("can't", "can not"), ("won't", "will not"), ("cannot", "can not"), ("n't", " not"))
_POSSESSIVE: Final = re.compile(r"'(?:s|m|re|ve|ll|d)\b")
_NEGATION_PHRASE: Final = re.compile(
    r"\b(?:rather than|instead of|no longer|far from|anything but|anyone but|other than|nothing to do with"
    r"|(?:some|any)(?:one|body|thing) else|nothing like|no one|as if|as though|used to|short of|in place of"
    r"|(?:gave|given|give) (?:\w+ )?up|called off"
    r"|(?:an?|all|is|are|was|were|be) lies?|made (?:\w+ )?up(?! of)|(?:has|have|had|is|are) yet to)\b"
)
_ASIDE: Final = re.compile(r"\s(?=(?:instead of|rather than|in place of)\s)")
"""What such words deny comes after them; what was said before them stays said."""

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
    "untrue wrong incorrect fake fictional mistaken unknown unaware unfamiliar unsure unable forgot "
    "forgotten except if unless maybe perhaps might possibly supposedly allegedly pretend pretends pretending "
    "pretended imagine claim claims claimed fiction myth doubt doubts doubtful ignore ignores ignored disregard "
    "stranger irrelevant cancelled canceled abandoned kidding joking "
    "nicht kein keine keinen keiner keinem nie niemals niemand weder ohne pas jamais aucun "
    "aucune sans nunca nadie ninguno ninguna tampoco"
)
_FORWARD_ONLY: Final = _set("without ohne sans")
_GLUE: Final = _set(
    "i me my mine we us our you your he his she her it its they their am is are was were be been being "
    "do does did has have had will would shall should can could to in on at by for from with about "
    "ich mich mir mein meine wir uns er sie es ihr ist bin sind war waren wird wurde hat habe im in mit auf aus von zu "
    "je me mon ma nous il elle est suis sont dans pour avec par sur qui yo mi nos ella es soy son en para con por"
)
"""What ties key words into a sentence: persons, auxiliaries, prepositions. `and` and articles do not."""

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
_RELATIVE: Final = _set("who whose which")
_POINTING: Final = _set("that this these those both none")
"""`Quire, that is not my name`: takes back what came before it, whatever it says instead."""

_AUXILIARY: Final = _set("do does did will would can could should shall may is am are was were has have had")


def _normal(text: str) -> str:
    text = normalize("NFKC", text).casefold().replace("\u2019", "'").replace("\x00", " ")
    for short, long in _CONTRACTED:
        text = text.replace(short, long)
    text = _COLON.sub(" , so ", _DROPPED.sub(" ", _POSSESSIVE.sub("", text)))
    text = text.replace(" whether ", f" {NEG} that ")
    return _CONTRAST.sub(" , but ", _NEGATION_PHRASE.sub(f" {NEG} ", _ASIDE.sub(" , ", f" {text} ")))


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
        return len(self.words) >= LIST_WORDS_LEAST and self.function < LIST_SHARE_LEAST * len(self.words)

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
                anew = (
                    _SUBJECTS | _RELATIVE | {"and"} if at and words[0] == NEG and not reaches else _SUBJECTS
                )
                reaches = True
                stays = stays or _denies_all(words)
        return stays or (reaches and self.parts[part][0] not in anew)

    def _takes_back(self, part: int) -> bool:
        """Whether a later part denies what came before it: `Quire, that is not me`; not `Quire, not a tool`."""
        words = self.parts[part]
        if NEG not in words:
            return False
        rest = words[1:] if words[0] == "so" else words
        if rest[0] in _POINTING and rest[1:2] and rest[1] in _AUXILIARY | {NEG}:
            return True
        index = self.first[part] + words.index(NEG)
        if words[0] in (NEG, "and") or words[0] in _SUBJECTS | _RELATIVE or _FORWARD_ONLY & set(words):
            return not self._object(index)
        return words[0] in _FUNCTION or not self._object(index)


def _denies_all(words: Sequence[str]) -> bool:
    """Whether a negation reaches to the end of the sentence: `I am not, …`, `it is not true that …`."""
    rest = words[len(words) - words[::-1].index(NEG) :]
    said = list(takewhile(lambda word: word != "that", words[words.index(NEG) + 1 :]))
    stated = "that" in words[words.index(NEG) :] and not any(
        _is_content(word) and word not in _STATING for word in said
    )
    before = words[: words.index(NEG)]
    return stated or not any(map(_is_content, (*before, *rest)))


def _is_content(word: str) -> bool:
    return word != NEG and word not in _FUNCTION and word not in _BARE


class Wording:
    """An answer, a fact or a question, as words: what it says, and what it only mentions."""

    def __init__(self, text: str) -> None:
        self.sentences = [
            found for piece in _SENTENCE.split(_normal(text)) if (found := _Sentence(piece)).words
        ]
        words = [word for sentence in self.sentences for word in sentence.words]
        content = [word.stem for word in words if word.text != NEG and word.text not in _FUNCTION]
        self.stems = frozenset(content)
        self.all_stems = frozenset(word.stem for word in words)
        self.length = len(words)
        self.dense = len(words) <= 2 * sum(bool(_DENSE.match(word.text)) for word in words)
        repeats = len(content) >= 6 and len(self.stems) < DISTINCT_SHARE_LEAST * len(content)
        guesses = any(
            Counter(word.text for word in sentence.words)["or"] > OR_MAX for sentence in self.sentences
        )
        bare = sum(len(found.words) for found in self.sentences if not found.function)
        listed = any(sentence.is_list() for sentence in self.sentences) or 2 * bare > len(words)
        rows = len(self.sentences)
        listed = listed or (rows >= LIST_WORDS_LEAST and len(words) < ROW_WORDS_LEAST * rows)
        self.stuffed = guesses or (not self.dense and (repeats or listed))
        self.denied = any(
            NEG in (texts := [word.text for word in sentence.words]) and not any(map(_is_content, texts))
            for sentence in self.sentences
        )

    def is_tied(self, known: frozenset[str]) -> bool:
        """Whether a person, a verb or a preposition, besides the words of `known` phrases, makes a sentence of it.

        True of a text that is too short to tell, and of scripts without such words.
        """
        return (
            self.dense
            or self.length < ROW_WORDS_LEAST - 1
            or any(
                word.text in _GLUE and word.stem not in known
                for found in self.sentences
                for word in found.words
            )
        )

    def shares(self, other: Wording, besides: frozenset[str]) -> int:
        """How many content words of `other`, those in `besides` left out, are said here and not denied."""
        wanted = {stem for stem in other.stems - besides if len(stem) >= TELLING_CHARS_LEAST}
        return len(
            {
                word.stem
                for sentence in self.sentences
                for at, word in enumerate(sentence.words)
                if word.stem in wanted and not sentence.negated([at])
            }
        )

    def says(self, variant: str, asked: frozenset[str]) -> bool:
        """Whether the content words of `variant` stand close together somewhere, said and not denied."""
        return self.says_one(Wording(variant), asked)

    def says_one(self, phrase: Wording, asked: frozenset[str]) -> bool:
        """As `says`, of a phrase that was read already."""
        if not phrase.stems:
            return self._claims(phrase)
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
        return self._claims(Wording(phrase))

    def _claims(self, phrase: Wording) -> bool:
        wanted = [word.stem for sentence in phrase.sentences for word in sentence.words]
        for sentence in self.sentences:
            stems = [word.stem for word in sentence.words]
            for start in range(len(stems) - len(wanted) + 1 if wanted else 0):
                span = range(start, start + len(wanted))
                if stems[start : start + len(wanted)] == wanted and not sentence.negated(span):
                    return True
        return False
