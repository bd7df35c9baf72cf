"""What an import collects on its way to a Plate, and how it is written down (docs/plate.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ccn_mcp.domain.character import RELATIONAL, TRAITS, Vector
from ccn_mcp.domain.errors import BadPlate
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.plate import BOUNDARIES_MAX, BOUNDARY_CHARS_MAX, Plate, parse_plate

KEPT_BYTES_MAX: Final = 16_384
"""Of what is not mapped, this much is repeated in the front matter, which every start parses again."""

KEPT_ITEMS_MAX: Final = 200
KEPT_VALUE_BYTES_MAX: Final = 4_096
REPORTED_MAX: Final = 200
PATH_CHARS_MAX: Final = 120

_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,59}")
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Format(StrEnum):
    """What a file was recognised as."""

    NATIVE = "ccn.plate/1"
    MARKDOWN = "markdown"
    CLAUDE = "claude"
    SOUL = "soul"
    IDENTITY = "identity"
    SEVERAL = "several"
    """Markdown files that are imported together."""
    CARD_1 = "card/1"
    CARD_2 = "card/2"
    CARD_3 = "card/3"
    LETTA = "letta"
    JSON_PLATE = "json-plate"


@dataclass(frozen=True, slots=True)
class Imported:
    """A converted file: a Plate's source that `parse_plate` takes, and what became of everything in it."""

    plate_source: bytes = field(repr=False)
    plate: Plate
    format: Format
    mapped: list[str]
    unmapped: list[str]
    """`path: reason`, for everything that no instance will read."""
    notes: list[str]


@dataclass(slots=True)
class Draft:
    """A Plate that is being collected."""

    format: Format
    name: str = ""
    version: str = ""
    parts: list[tuple[str, str, str]] = field(default_factory=list)
    """Where a text comes from, its heading ("" for none), the text."""
    boundaries: list[str] = field(default_factory=list)
    baseline: Vector | None = None
    relational: Vector | None = None
    mapped: list[str] = field(default_factory=list)
    unmapped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kept: dict[str, Json] = field(default_factory=dict)

    def add(self, path: str, heading: str, text: str) -> None:
        """Map `text` into the body; an empty one is left out without a word."""
        if text.strip():
            self.parts.append((path, heading, text.strip()))
            self.mapped.append(f"{path}: {f'section {heading!r}' if heading else 'text'}")

    def keep(self, path: str, value: Json, why: str) -> None:
        """Report a value as unmapped and keep it as metadata; one that says nothing is left out."""
        if value is None or value in ("", [], {}):
            return
        self.unmapped.append(f"{path}: {why}")
        self.kept.setdefault(path, value)


def path_of(parent: str, key: str) -> str:
    """`parent.key`, with a key in quotes that would blur the path."""
    word = key if _WORD.fullmatch(key) else json.dumps(key[:60])
    return f"{parent}.{word}" if parent else word


def finish(draft: Draft) -> Imported:
    """Write the draft as a Plate.

    Raises:
        BadPlate: what it says cannot be one; with the path of the text that is in the way.
    """
    front = _front(draft)
    title = not draft.parts or draft.parts[0][1] != "" or not draft.parts[0][2].startswith("# ")
    pieces = [f"# {draft.name}"] if title else []
    pieces += [f"## {heading}\n\n{text}" if heading else text for _, heading, text in draft.parts]
    source = (front + "\n\n".join(pieces) + "\n").encode("utf-8", "surrogatepass")
    try:
        plate = parse_plate(source)
    except BadPlate as exc:
        raise BadPlate(f"{_culprit(draft)}{exc}") from exc
    return Imported(source, plate, draft.format, draft.mapped, _at_most(draft.unmapped), draft.notes)


def _culprit(draft: Draft) -> str:
    """Which text cannot stand in any Plate; nothing where only all of them together are too much."""
    for path, _, text in draft.parts:
        try:
            parse_plate(f"# Part\n\n{text}\n".encode("utf-8", "surrogatepass"))
        except BadPlate:
            return f"{path}: "
    return ""


def _at_most(lines: list[str]) -> list[str]:
    more = len(lines) - REPORTED_MAX
    return lines if more <= 0 else [*lines[:REPORTED_MAX], f"… and {more:,} more, in the original"]


def _front(draft: Draft) -> str:
    lines = ["---", f"name: {quoted(draft.name)}"]
    if draft.version:
        lines.append(f"version: {quoted(draft.version)}")
    for key, names, vector in (
        ("baseline", TRAITS, draft.baseline),
        ("relational", RELATIONAL, draft.relational),
    ):
        if vector is not None:
            lines.append(f"{key}:")
            lines += [f"  {name}: {value!r}" for name, value in zip(names, vector, strict=True)]
    if draft.boundaries:
        lines += ["boundaries:", *(f"  - {quoted(text)}" for text in draft.boundaries)]
    lines += ["imported:", f"  format: {quoted(draft.format.value)}", *_kept(draft)]
    return "\n".join(lines) + "\n---\n\n"


def _kept(draft: Draft) -> list[str]:
    """The metadata as lines: a path and a text each, so that no nesting of the original is left."""
    lines: list[str] = []
    room, left_out = KEPT_BYTES_MAX, 0
    for path, value in draft.kept.items():
        key = quoted(path)
        text = quoted(_as_text(value))
        size = len(f"{key}{text}".encode("utf-8", "surrogatepass")) + 5
        fits = size <= min(room, KEPT_VALUE_BYTES_MAX) and len(key) <= PATH_CHARS_MAX
        if key == '"format"' or not fits or len(lines) >= KEPT_ITEMS_MAX:
            left_out += 1
            continue
        room -= size
        lines.append(f"  {key}: {text}")
    if left_out:
        draft.notes.append(
            f"{left_out:,} of the unmapped values are long and stay in the original file only, not in the "
            "front matter"
        )
    return lines


def _as_text(value: Json) -> str:
    # What a screen cannot show is written out as JSON does it: no instance reads this, a person may.
    if isinstance(value, str) and all(char.isprintable() or char in "\n\r\t" for char in value):
        return value
    return json.dumps(value, separators=(",", ":"))


def quoted(text: str) -> str:
    """`text` as a double-quoted YAML scalar on one line."""
    return '"' + "".join(_ESCAPES.get(char) or _literal(char) for char in text) + '"'


def _literal(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def boundaries_of(lines: Sequence[str]) -> list[str] | None:
    """The items of a plain list, if these lines are nothing else and each fits as a boundary."""
    items: list[str] = []
    for line in lines:
        text = line.strip()
        if line[:2] in ("- ", "* ", "+ "):
            items.append(text[2:].strip())
        elif text and line[:1] in (" ", "\t") and items and text[:2] not in ("- ", "* ", "+ "):
            items[-1] += f" {text}"
        elif text:
            return None
    fits = 0 < len(items) <= BOUNDARIES_MAX and all(0 < len(item) <= BOUNDARY_CHARS_MAX for item in items)
    return items if fits else None
