"""Secrets in what people and models say: a marker goes into the record in their place. Pure.

Only formats that hardly anything else has are looked for, so prose, code, hashes and UUIDs stay as they are; a secret
in no such format is recorded. Every pattern takes time in proportion to the text: a candidate begins at a border and
is read once.
"""

from __future__ import annotations

import re
from collections import namedtuple
from functools import cache, partial

from ccn_mcp.domain.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, NamedTuple, TypeAlias

    _Marker: TypeAlias = Callable[[str, str], str]

MARK: Final = "\u2039masked:{kind}:{n}\u203a"
"""`n` counts the distinct secrets of one kind in one text, from 1: the same secret gets the same marker."""


if TYPE_CHECKING:

    class Masked(NamedTuple):
        """A text without its secrets, and how many places were masked, by kind."""

        text: str
        counts: dict[str, int]

else:
    # Made so because a hook does not import `typing` (`values.py`).
    Masked = namedtuple("Masked", "text counts")


class _Format(Value):
    kind: str
    hints: tuple[str, ...]
    """One of these has to be in the lower-case text: the pattern is compiled only then (the hook is in a hurry)."""

    pattern: str


_START: Final = r"(?<![A-Za-z0-9_-])"
_END: Final = r"(?![A-Za-z0-9_-])"
_MIXED: Final = r"(?=[A-Za-z_-]{0,200}[0-9])(?=[a-z0-9_-]{0,200}[A-Z])"
"""A digit and a capital: a name-with-dashes that happens to begin like a key has neither."""

FORMATS: Final = (
    _Format("anthropic", ("sk-ant-",), rf"{_START}sk-ant-[A-Za-z0-9_-]{{20,}}"),
    _Format("openai", ("sk-",), rf"{_START}sk-(?!ant-){_MIXED}[A-Za-z0-9_-]{{20,}}"),
    _Format(
        "github", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), rf"{_START}gh[pousr]_[A-Za-z0-9]{{30,255}}{_END}"
    ),
    _Format("github", ("github_pat_",), rf"{_START}github_pat_[A-Za-z0-9_]{{22,255}}{_END}"),
    _Format("aws", ("akia", "asia"), rf"{_START}(?:AKIA|ASIA)[A-Z2-7]{{16}}{_END}"),
    _Format("slack", ("xox",), rf"{_START}xox[abeoprs]-(?=[A-Za-z-]{{0,200}}[0-9])[A-Za-z0-9-]{{10,}}"),
    _Format("google", ("aiza",), rf"{_START}AIza[A-Za-z0-9_-]{{35}}{_END}"),
    _Format(
        "jwt", ("eyj",), rf"{_START}eyJ[A-Za-z0-9_-]{{8,}}\.eyJ[A-Za-z0-9_-]{{8,}}\.[A-Za-z0-9_-]{{10,}}"
    ),
    _Format(
        "authorization",
        ("authorization",),
        r"(?ai:authorization)[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?i:bearer|basic|token)\s{1,3}"
        r"(?P<value>[A-Za-z0-9._~+/=-]{8,})",
    ),
    _Format(
        "password",
        ("password=", "passwd=", "pwd="),
        # Not a variable that is passed on (password=given) nor a call (password=ask()).
        r"(?ai:password|passwd|pwd)=(?P<value>\"[^\"\n]{4,200}\"|'[^'\n]{4,200}'|"
        r"(?!(?i:none|null|true|false)\b|[A-Za-z_][A-Za-z0-9_.]{0,200}(?:[(),\[]|$))[^\s&;,\"'<>(){}\[\]$\u2039]{4,200})",
    ),
)
_PEM: Final = "PRIVATE KEY-----"
_PEM_BEGIN: Final = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----"
_PEM_END: Final = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----"
_PEM_CUT: Final = r"[A-Za-z0-9+/=\s\\]*"
"""What belongs to a key whose end is missing."""


def mask(text: str) -> Masked:
    """The text with each secret replaced by `MARK`; masking it again changes nothing."""
    counts: dict[str, int] = {}
    numbers: dict[str, dict[str, int]] = {}

    def marked(kind: str, secret: str) -> str:
        counts[kind] = counts.get(kind, 0) + 1
        known = numbers.setdefault(kind, {})
        return MARK.format(kind=kind, n=known.setdefault(secret, len(known) + 1))

    if _PEM in text:
        text = _without_keys(text, marked)
    lower = text.lower()
    for form in FORMATS:
        if any(hint in lower for hint in form.hints):
            text = _compiled(form.pattern).sub(partial(_replaced, form.kind, marked), text)
    return Masked(text, counts)


def _replaced(kind: str, marked: _Marker, found: re.Match[str]) -> str:
    if "value" not in found.re.groupindex:
        return marked(kind, found[0])
    at = found.start("value") - found.start()
    return found[0][:at] + marked(kind, found["value"])


def _without_keys(text: str, marked: _Marker) -> str:
    """PEM private keys, from their first line to their last; of a cut one what is there."""
    parts: list[str] = []
    at, ends = 0, True
    for begin in _compiled(_PEM_BEGIN).finditer(text):
        if begin.start() < at:
            continue
        # Looked for once more only while there are ends to come, so that this stays linear.
        end = _compiled(_PEM_END).search(text, begin.end()) if ends else None
        ends = end is not None
        if end is None:
            end = _compiled(_PEM_CUT).match(text, begin.end())
        stop = end.end() if end is not None else begin.end()
        parts += [text[at : begin.start()], marked("private_key", text[begin.start() : stop])]
        at = stop
    return "".join([*parts, text[at:]])


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
