"""Markdown of other programs as drafts of a Plate: SOUL.md, IDENTITY.md, CLAUDE.md, any text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ccn_mcp.domain.errors import BadPlate
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.plate import UNVERSIONED, Plate, Value, parse_plate
from ccn_mcp.domain.plate_import_draft import Draft, Format, boundaries_of, path_of

BY_NAME: Final = {"soul.md": Format.SOUL, "identity.md": Format.IDENTITY, "claude.md": Format.CLAUDE}
TOGETHER: Final = (Format.IDENTITY, Format.SOUL, Format.MARKDOWN, Format.CLAUDE)
"""In this order several files are put together."""

_FIELD: Final = re.compile(
    r"\s*(?:[-*+]\s+)?(?:\*\*|__)?(name|creature|vibe|emoji|avatar)(?:\*\*|__)?\s*:(?:\*\*|__)?(.*)",
    re.IGNORECASE,
)
_HEADING: Final = re.compile(r"(#{1,6})[ \t]+(.*)")
_PLACEHOLDER: Final = re.compile(r"[_*]?\(.*\)[_*]?")
_MENTION: Final = re.compile(r"(?<![\w`@])@[~.\w/-]*[\w/-]\.\w{1,8}\b")


@dataclass(frozen=True, slots=True)
class Page:
    """A Markdown file that was read as a Plate."""

    stem: str
    format: Format
    plate: Plate = field(repr=False)
    body: str = field(repr=False)
    named: bool
    """Whether the file has a name or a heading of its own."""


def read_page(data: bytes, base: str, stem: str) -> Page:
    """The file as a page; without a name or a heading it goes under its file's name.

    Raises:
        BadPlate: as `parse_plate`.
    """
    kind = BY_NAME.get(base.casefold())
    try:
        plate = parse_plate(data)
    except BadPlate as first:
        heading = f"# {stem}"
        try:
            plate = parse_plate(data + f"\n\n{heading}\n".encode())
        except BadPlate:
            raise first from None
        body = plate.body.removesuffix(heading).rstrip()
        if not body:
            raise BadPlate("this file has no text; there is nothing to import") from first
        return Page(stem, kind or Format.MARKDOWN, plate, body, named=False)
    ours = bool(plate.baseline or plate.relational or plate.facts or plate.boundaries)
    if ours or (kind is None and data.removeprefix(b"\xef\xbb\xbf").startswith(b"---")):
        kind = Format.NATIVE
    return Page(stem, kind or Format.MARKDOWN, plate, plate.body, named=True)


def stands_as_it_is(page: Page) -> bool:
    """Whether the file is a Plate already, byte for byte."""
    return page.format is Format.NATIVE or (
        page.named and page.format in (Format.MARKDOWN, Format.CLAUDE) and not page.plate.unmapped
    )


def draft_pages(pages: Sequence[Page]) -> Draft:
    """One Plate of these pages, identity first.

    Raises:
        BadPlate: one of them is a Plate already, or two of them claim the same place.
    """
    if any(page.format is Format.NATIVE for page in pages):
        raise BadPlate("one of these files is a Plate already; import it alone, or put its text into another")
    kinds = [page.format for page in pages]
    for kind in (Format.IDENTITY, Format.SOUL):
        if kinds.count(kind) > 1:
            raise BadPlate(f"there are two files of the kind {kind.value}; keep one of the two")
    draft = Draft(kinds[0] if len(pages) == 1 else Format.SEVERAL)
    for page in sorted(pages, key=lambda page: TOGETHER.index(page.format)):
        _add_page(draft, page)
    if not draft.name:
        draft.name = _heading_name(pages[0])
        draft.notes.append(
            f"no file gives a name; it is called {draft.name!r}, change it with --save and edit"
        )
    if not draft.parts and not draft.boundaries:
        raise BadPlate("these files have no text but empty fields; fill them in and import them again")
    return draft


def mentions(page: Page) -> list[str]:
    """Other files that CLAUDE.md pulls in with `@`: reported, never followed."""
    if page.format is not Format.CLAUDE:
        return []
    found = dict.fromkeys(match[0] for line in _outside_code(page.body) for match in _MENTION.finditer(line))
    return [f"{page.stem}: {mention[:80]} is another file and was not read" for mention in found]


def _add_page(draft: Draft, page: Page) -> None:
    what = f"{page.stem}.md" if page.format in BY_NAME.values() else page.stem
    for key, value in page.plate.unmapped.items():
        draft.keep(path_of(what, key), as_json(value), "front matter unknown to this program")
    if page.plate.version != UNVERSIONED and not draft.version:
        draft.version = page.plate.version
    lines = page.body.split("\n")
    if page.format is Format.IDENTITY:
        lines = _identity(draft, what, lines)
    elif page.format is Format.SOUL:
        lines = _boundaries(draft, what, lines)
        if not draft.name:
            lines = _fields(draft, what, lines, ("name",))
    elif page.named and not draft.name and page.format is Format.MARKDOWN:
        draft.name = page.plate.name
    lines = _without_title(lines) if page.format in (Format.IDENTITY, Format.SOUL) else lines
    draft.add(what, "", "\n".join(lines))
    draft.unmapped += mentions(page)


def _heading_name(page: Page) -> str:
    """The first heading, unless that is only the file's own name."""
    heading = page.plate.name if page.named else page.stem
    same = heading.casefold().startswith((f"{page.stem}.".casefold(), f"{page.stem} ".casefold()))
    return page.stem if same else heading


def _identity(draft: Draft, what: str, lines: list[str]) -> list[str]:
    """Take the fields out; what else the file says stays text below them."""
    before = len(draft.parts)
    rest = _fields(draft, what, lines, ("name", "creature", "vibe", "emoji", "avatar"))
    found = draft.parts[before:]
    del draft.parts[before:]
    if found:
        draft.parts.append((what, "Identity", "\n".join(text for _, _, text in found)))
    return rest


def _fields(draft: Draft, what: str, lines: list[str], wanted: tuple[str, ...]) -> list[str]:
    rest: list[str] = []
    skip = False
    for number, line in enumerate(lines):
        if skip:
            skip = False
            continue
        match = _FIELD.fullmatch(line)
        key = match[1].lower() if match else ""
        if match is None or key not in wanted:
            rest.append(line)
            continue
        text = match[2].strip()
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if not text and following[:1] in (" ", "\t") and not _FIELD.fullmatch(following):
            text, skip = following.strip(), True
        if _PLACEHOLDER.fullmatch(text):
            text = ""
        _take(draft, what, key, text)
    return rest


def _take(draft: Draft, what: str, key: str, text: str) -> None:
    path = path_of(what, key)
    if key == "avatar":
        draft.keep(path, text, "images are not used")
    elif key == "name" and text:
        draft.name = " ".join(text.split())
        draft.mapped.append(f"{path}: name")
    elif text:
        draft.add(path, "Identity", f"{key.capitalize()}: {text}")


def _boundaries(draft: Draft, what: str, lines: list[str]) -> list[str]:
    """Take the section `Boundaries` out if it is a plain list; otherwise it stays text."""
    start = end = level = 0
    plain = _outside_code_flags(lines)
    for number, line in enumerate(lines):
        match = _HEADING.fullmatch(line) if plain[number] else None
        if match is None:
            continue
        if start and len(match[1]) <= level:
            end = number
            break
        if not start and match[2].strip().rstrip("#").strip().casefold() == "boundaries":
            start, level = number + 1, len(match[1])
    end = end or len(lines)
    items = boundaries_of(lines[start:end]) if start else None
    if items is None:
        return lines
    draft.boundaries = items
    draft.mapped.append(f"{what}, Boundaries: {len(items)} boundaries")
    return lines[: start - 1] + lines[end:]


def _without_title(lines: list[str]) -> list[str]:
    """Without the first heading of these templates, which only says which file it is."""
    for number, line in enumerate(lines):
        if line.strip():
            match = _HEADING.fullmatch(line)
            return lines[number + 1 :] if match and match[1] == "#" else lines
    return lines


def _outside_code_flags(lines: list[str]) -> list[bool]:
    flags: list[bool] = []
    fence = ""
    for line in lines:
        mark = line.strip()[:3]
        if mark in ("```", "~~~") and fence in ("", mark):
            fence = "" if fence else mark
            flags.append(False)
        else:
            flags.append(not fence)
    return flags


def _outside_code(text: str) -> list[str]:
    lines = text.split("\n")
    flags = _outside_code_flags(lines)
    return [re.sub(r"`[^`]*`", "", line) for line, plain in zip(lines, flags, strict=True) if plain]


def as_json(value: Value) -> Json:
    """Front matter as the JSON that the draft keeps."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return {key: as_json(item) for key, item in value.items()}
