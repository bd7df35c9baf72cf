"""How well a message answers a search: what a ranked search orders its candidates by.

FTS5's own bm25 weighs each word by how rare it is, and to know that it walks every hit of the word: 45 ms a word at a
million messages, however few hits are ranked. Here every candidate has every word, so only frequency and length count.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from unicodedata import normalize

SATURATION: Final = 1.2
LENGTH_SHARE: Final = 0.75
"""BM25's usual k1 and b (Robertson and Zaragoza, 2009, section 3.4)."""

TYPICAL_CHARS: Final = 1_000
"""The length that neither helps nor harms; a fixed one, since the mean of the store costs a pass over it."""

_MARKS: Final = re.compile("[\u0300-\u036f]+")
_ALNUM: Final = r"[^\W_]"


def relevance(text: str | None, words: str) -> float:
    """From 0 up to the number of words: more occurrences score higher, in a shorter text higher still.

    `words` as `reads.words_of` gives them, joined by blanks; a word that ends in `*` is a prefix.
    """
    folded = _folded(text or "")
    damping = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * len(folded) / TYPICAL_CHARS)
    score = 0.0
    for pattern in _patterns(words):
        found = len(pattern.findall(folded))
        score += found / (found + damping)
    return score


@lru_cache(maxsize=64)
def _patterns(words: str) -> tuple[re.Pattern[str], ...]:
    # The word first and what must not stand before it second: then the search is for a fixed string.
    return tuple(
        re.compile(rf"{word}(?<!{_ALNUM}{word})" + ("" if prefix else rf"(?!{_ALNUM})"))
        for word, prefix in ((_folded(item).removesuffix("*"), item.endswith("*")) for item in words.split())
    )


def _folded(text: str) -> str:
    """Without case and accents, as the index has it."""
    return text.lower() if text.isascii() else _MARKS.sub("", normalize("NFD", text.lower()))
