"""Other formats as Plates (docs/plate.md): recognised by content, converted, and accounted for line by line.

Everything here is somebody else's text. It is read, never run or unpacked to disk, and no name in it is used
as a path. The result is the source of a Plate that `parse_plate` has taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from ccn_mcp.domain.errors import BadInput, BadJson, BadPlate, BadText
from ccn_mcp.domain.jcs import Json, decode
from ccn_mcp.domain.plate import NAME_CHARS_MAX
from ccn_mcp.domain.plate_import_cards import draft_card, spec_of
from ccn_mcp.domain.plate_import_draft import Draft, Format, Imported, finish, path_of
from ccn_mcp.domain.plate_import_files import (
    CARD_BYTES_MAX,
    PNG_SIGNATURE,
    ZIP_SIGNATURE,
    card_in_charx,
    card_in_png,
)
from ccn_mcp.domain.plate_import_json import (
    draft_json_plate,
    draft_letta,
    looks_like_letta,
    looks_like_messages,
    looks_like_plate,
)
from ccn_mcp.domain.plate_import_markdown import Page, draft_pages, mentions, read_page, stands_as_it_is

__all__ = ["IMPORT_BYTES_MAX", "IMPORT_FILES_MAX", "USER", "Format", "Imported", "convert", "convert_files",
           "recognise"]  # fmt: skip

IMPORT_BYTES_MAX: Final = 8_388_608
"""All files of one import together; the record keeps them whole."""

IMPORT_FILES_MAX: Final = 16
USER: Final = "the person"
"""What `{{user}}` becomes where no name is given."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file, as far as it has to be read to know what it is."""

    format: Format
    stem: str
    value: Json = field(default=None, repr=False)
    page: Page | None = None
    notes: tuple[str, ...] = ()


def recognise(name: str, data: bytes) -> Format:
    """What this file is.

    Raises:
        BadPlate: nothing that can be imported.
    """
    return _open(name, data).format


def convert(name: str, data: bytes, *, user: str = USER) -> Imported:
    """The Plate that this file makes. `user` is what a card's `{{user}}` becomes.

    Raises:
        BadPlate: the file is damaged, too large, or nothing that a Plate can be made of.
        BadInput: `user` is no name.
    """
    return convert_files([(name, data)], user=user)


def convert_files(files: Sequence[tuple[str, bytes]], *, user: str = USER) -> Imported:
    """The Plate that these files make together: one of any format, or several of Markdown.

    Raises:
        BadPlate, BadInput: as `convert`, or files that do not go together.
    """
    user = _checked_user(user)
    if not 1 <= len(files) <= IMPORT_FILES_MAX:
        raise BadPlate(f"an import takes 1 to {IMPORT_FILES_MAX} files, not {len(files)}")
    if (total := sum(len(data) for _, data in files)) > IMPORT_BYTES_MAX:
        raise BadPlate(
            f"these {total:,} bytes are more than the {IMPORT_BYTES_MAX:,} that an import takes, because the "
            "record keeps the original; take the card's JSON out of a large image or archive"
        )
    opened = [_open(name, data) for name, data in files]
    first = opened[0]
    if len(opened) == 1 and first.page is not None and stands_as_it_is(first.page):
        return _as_it_is(first.page)
    draft = _draft(opened, user)
    if len(draft.name) > NAME_CHARS_MAX:
        draft.name = draft.name[:NAME_CHARS_MAX].strip()
        draft.notes.append(f"the name is cut after {NAME_CHARS_MAX} characters")
    draft.notes[:0] = [note for item in opened for note in item.notes]
    if not draft.version:
        # Made from the bytes: a card's own version must not reach an instance, and two imports differ.
        digest = sha256(b"".join(data for _, data in files)).hexdigest()
        draft.version = f"imported-{digest[:8]}"
    return finish(draft)


def _draft(opened: Sequence[_Opened], user: str) -> Draft:
    pages = [item.page for item in opened if item.page is not None]
    if len(pages) == len(opened):
        return draft_pages(pages)
    if len(opened) > 1:
        raise BadPlate("only Markdown files go together; import a card, blocks or a JSON plate alone")
    item = opened[0]
    if item.format is Format.LETTA:
        return draft_letta(item.value, item.stem)
    # Recognised before: cards and JSON plates are objects.
    value = item.value if isinstance(item.value, dict) else {}
    if item.format is Format.JSON_PLATE:
        return draft_json_plate(value, item.stem)
    return draft_card(value, item.format, user)


def _as_it_is(page: Page) -> Imported:
    mapped = [f"{page.stem}: the whole text, byte for byte"]
    unmapped = [f"{path_of('', key)}: front matter unknown to this program" for key in page.plate.unmapped]
    return Imported(page.plate.source, page.plate, page.format, mapped, unmapped + mentions(page), [])


def _checked_user(user: str) -> str:
    name = " ".join(user.split())
    if not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise BadInput(f"the person's name must be one line of 1 to {NAME_CHARS_MAX} characters")
    return name


# ---- recognising ---------------------------------------------------------------------------------------


def _open(name: str, data: bytes) -> _Opened:
    base = re.split(r"[/\\]", name)[-1]
    stem, dot, ending = base.rpartition(".")
    stem = " ".join((stem if dot and stem else base).split())[:NAME_CHARS_MAX]
    # A file's name may hold anything; the Plate's name is typed by the person.
    stem = stem if stem and stem.isprintable() else "Imported"
    if len(data) > IMPORT_BYTES_MAX:
        raise BadPlate(f"this file has {len(data):,} bytes, an import takes {IMPORT_BYTES_MAX:,}; shorten it")
    if data.startswith(PNG_SIGNATURE):
        return _open_json(stem, *card_in_png(data), only_cards=True)
    if data.startswith(ZIP_SIGNATURE):
        return _open_json(stem, *card_in_charx(data), only_cards=True)
    ending = ending.casefold()
    if ending in ("json", "af") or (
        ending not in ("md", "markdown", "txt")
        and data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")
    ):
        return _open_json(stem, data, [])
    page = read_page(data, base, stem)
    return _Opened(page.format, stem, page=page)


def _open_json(stem: str, data: bytes, notes: list[str], *, only_cards: bool = False) -> _Opened:
    if len(data) > CARD_BYTES_MAX:
        raise BadPlate(f"this file has {len(data):,} bytes of JSON, at most {CARD_BYTES_MAX:,} are read")
    try:
        value = decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (BadJson, BadText) as exc:
        raise BadPlate(f"the JSON in this file cannot be read: {exc}") from exc
    kind = spec_of(value)
    if kind is None and not only_cards:
        if looks_like_plate(value):
            kind = Format.JSON_PLATE
        elif looks_like_letta(value):
            kind = Format.LETTA
    if kind is not None:
        return _Opened(kind, stem, value=value, notes=tuple(notes))
    if looks_like_messages(value) and not only_cards:
        raise BadPlate(
            "this looks like a transcript, which is no Plate; import it as history: ccn-mcp import FILE"
        )
    raise BadPlate(
        "this JSON is no character card (V1 to V3), no memory blocks of Letta and no JSON plate; "
        "docs/plate.md lists what can be imported"
    )
