"""JSON files of other programs, changed in place: what is not ours keeps its bytes, comments included.

VS Code's files are JSON with comments and trailing commas (JSONC). Both are blanked out, each character by a space, so
that positions stay; what is left is read by Python's own parser, and the edit is made in the text itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

_COMMENT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\r\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING: Final = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=[ \t\r\n]*[}\]])', re.DOTALL)
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_LINE_END: Final = re.compile(r"[ \t]*(?=[\r\n])")
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
INDENT: Final = "  "


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of an object: where its key begins, where its value is, and its comma behind it (-1: none)."""

    key: str
    at: int
    value: int
    end: int
    comma: int


@dataclass(frozen=True, slots=True)
class _Object:
    """An object's braces and members. Positions are those of the text."""

    start: int
    end: int
    members: tuple[_Member, ...]

    def member(self, key: str) -> _Member | None:
        return next((member for member in self.members if member.key == key), None)


def without_comments(text: str) -> str:
    """The text with comments and trailing commas blanked out: JSON, every position as before."""
    return _TRAILING.sub(_blanked, _COMMENT.sub(_blanked, text))


def _blanked(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith('"') else " " * len(found[0])


def parsed(text: str) -> Json:
    """The document. Nothing at all is an empty one.

    Raises:
        ValueError: not JSON (a JSONDecodeError, with the position), a key twice, or no object.
    """
    if not text.strip():
        return {}
    document = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    if not isinstance(document, dict):
        raise ValueError("it holds no JSON object")  # noqa: TRY004  # one error for all that is no configuration
    return document


def _without_repeats(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it has the key {twice!r} twice, and which one counts is not certain")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# ---- changing ------------------------------------------------------------------------------------------


def put(text: str, path: Sequence[str], value: Any) -> str:
    """The text with `value` at `path`; objects on the way are made where they are missing.

    The text has to be one that `parsed(without_comments(text))` takes; what is on the way has to be objects.
    """
    if not text.strip():
        return _laid_out(_nested(path, value), "", "\n", INDENT) + "\n"
    newline, unit = "\r\n" if "\r\n" in text else "\n", _unit(text)
    found = _object(text, _space(without_comments(text), 0))
    for depth, key in enumerate(path):
        member = found.member(key)
        if member is None:
            return _added(text, found, key, _nested(path[depth + 1 :], value), newline)
        if depth == len(path) - 1:
            new = _laid_out(value, _indent_at(text, member.at), newline, unit)
            return text[: member.value] + new + text[member.end :]
        found = _object(text, member.value)
    return text


def drop(text: str, path: Sequence[str]) -> str:
    """The text without the member at `path`, which has to be there; comments beside it stay."""
    found = _object(text, _space(without_comments(text), 0))
    for key in path[:-1]:
        found = _object(text, _must(found, key).value)
    member = _must(found, path[-1])
    place = found.members.index(member)
    end = member.end if member.comma < 0 else member.comma + 1
    begin = len(text[: member.at].rstrip())
    if "\n" in text[begin : member.at] and not text[end:].lstrip(" \t").startswith(("\r", "\n")):
        begin = text.rindex("\n", 0, member.at) + 1  # a comment on the line before would swallow what follows
    if member.comma < 0 and place:
        # It was the last one: the comma before it goes too, and what stands between the two stays.
        comma = found.members[place - 1].comma
        return text[:comma] + text[comma + 1 : begin] + text[end:]
    if len(found.members) == 1 and not (text[found.start + 1 : begin] + text[end : found.end]).strip():
        return text[: found.start + 1] + text[found.end :]
    return text[:begin] + text[end:]


def _must(found: _Object, key: str) -> _Member:
    member = found.member(key)
    if member is None:
        raise KeyError(key)
    return member


def _nested(path: Sequence[str], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _added(text: str, found: _Object, key: str, value: Any, newline: str) -> str:
    """The text with a further member at the end of an object, laid out as its others are."""
    unit = _unit(text)
    if not found.members:
        inside = text[found.start + 1 : found.end].rstrip()
        outer = _indent_at(text, found.start)
        made = newline + outer + unit + _member(key, _laid_out(value, outer + unit, newline, unit))
        return text[: found.start + 1] + inside + made + newline + outer + text[found.end :]
    first, last = found.members[0], found.members[-1]
    # A trailing comma stays one, behind what is new.
    comma, after, trailing = ("", last.comma + 1, ",") if last.comma >= 0 else (",", last.end, "")
    if "\n" not in text[found.start : first.at]:
        return text[:after] + comma + " " + _member(key, _dumped(value)) + trailing + text[after:]
    # Behind a comment at the end of the last member's line, so that the comment stays with what it is about.
    rest = _LINE_END.match(without_comments(text), after)
    place = len(text[: rest.end()].rstrip(" \t")) if rest is not None else after
    indent = _indent_at(text, first.at)
    made = newline + indent + _member(key, _laid_out(value, indent, newline, unit))
    return text[:after] + comma + text[after:place] + made + trailing + text[place:]


def _member(key: str, value: str) -> str:
    return f"{_dumped(key)}: {value}"


def _laid_out(value: Any, indent: str, newline: str, unit: str) -> str:
    return _dumped(value, unit).replace("\n", newline + indent)


def _dumped(value: Any, indent: str | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # Half an emoji: JSON can write it, UTF-8 cannot.
    return json.dumps(value, indent=indent) if _LONE_SURROGATE.search(text) else text


def _unit(text: str) -> str:
    """One step of indentation: the first there is."""
    found = re.search(r"\n([ \t]+)\S", text)
    return found[1] if found else INDENT


def _indent_at(text: str, at: int) -> str:
    """The white space with which the line of this position begins."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


# ---- finding -------------------------------------------------------------------------------------------


def _object(text: str, start: int) -> _Object:
    """The object that begins at `start`."""
    bare, with_commas = without_comments(text), _COMMENT.sub(_blanked, text)
    decoder = json.JSONDecoder()
    members: list[_Member] = []
    at = _space(bare, start + 1)
    while bare[at] != "}":
        key, after = decoder.raw_decode(bare, at)
        value = _space(bare, _space(bare, after) + 1)
        _, end = decoder.raw_decode(bare, value)
        follows = _space(with_commas, end)
        comma = follows if with_commas[follows] == "," else -1
        members.append(_Member(key, at, value, end, comma))
        at = _space(bare, follows + 1 if comma >= 0 else follows)
    return _Object(start, at, tuple(members))


def _space(bare: str, at: int) -> int:
    found = _SPACE.match(bare, at)
    return found.end() if found is not None else at
