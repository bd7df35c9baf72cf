"""Character cards (V1 to V3) as drafts of a Plate. A card's author addresses other programs: little is taken."""

from __future__ import annotations

import re
from typing import Final

from ccn_mcp.domain.errors import BadPlate
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.plate_import_draft import Draft, Format, path_of

SPECS: Final = {"chara_card_v2": Format.CARD_2, "chara_card_v3": Format.CARD_3}
V1_KEYS: Final = frozenset({"name", "description", "personality", "scenario", "first_mes", "mes_example"})

SECTIONS: Final = (
    ("system_prompt", "Instructions"),
    ("description", "Description"),
    ("personality", "Personality"),
    ("scenario", "Scenario"),
)
LATE_SECTIONS: Final = (
    ("mes_example", "Examples"),
    ("post_history_instructions", "Instructions to keep in mind"),
)
FOR_PEOPLE: Final = "for people or programs, never for an instance"
GREETING: Final = "a greeting; a Plate opens no conversation"
REASONS: Final = {
    "creator": FOR_PEOPLE,
    "creator_notes": FOR_PEOPLE,
    "creator_notes_multilingual": FOR_PEOPLE,
    "character_version": FOR_PEOPLE,
    "first_mes": GREETING,
    "alternate_greetings": GREETING,
    "group_only_greetings": GREETING,
    "tags": FOR_PEOPLE,
    "source": FOR_PEOPLE,
    "creation_date": "the stable part has no dates",
    "modification_date": "the stable part has no dates",
    "assets": "images and sounds are not used",
    "extensions": "data of another program",
}
UNKNOWN: Final = "unknown to this program"
ENTRY_KEYS: Final = frozenset({"content", "constant", "enabled", "insertion_order", "keys"})
ENTRIES_MAX: Final = 2_000
MACROS_SHOWN_MAX: Final = 10

_NAMES: Final = re.compile(r"\{\{\s*(char|user)\s*\}\}|<(bot|char|user)>", re.IGNORECASE)
_DROPPED: Final = re.compile(r"\{\{\s*(?:(?://|comment:|hidden_key:)[^{}]*|original\s*)\}\}", re.IGNORECASE)
_MACRO: Final = re.compile(r"\{\{[^{}]{1,40}")


def spec_of(value: Json) -> Format | None:
    """Which card this is, if it is one."""
    if not isinstance(value, dict):
        return None
    spec = value.get("spec")
    if isinstance(spec, str) and spec in SPECS and isinstance(value.get("data"), dict):
        return SPECS[spec]
    return Format.CARD_1 if value.keys() >= V1_KEYS and "data" not in value else None


def draft_card(value: dict[str, Json], format_: Format, user: str) -> Draft:
    """What of this card goes into a Plate.

    Raises:
        BadPlate: without a name, or with a field of another type than cards have.
    """
    inner = value.get("data")
    data, at = (inner, "data") if format_ is not Format.CARD_1 and isinstance(inner, dict) else (value, "")
    draft = Draft(format_, name=" ".join(_text(data, "name", at).split()))
    nickname = " ".join(_text(data, "nickname", at).split())
    draft.name = draft.name or nickname
    if not draft.name:
        raise BadPlate("this card has no name; give it one in the program that made it")
    draft.mapped.append(f"{path_of(at, 'name')}: name")
    macros = _Macros(nickname or draft.name, user)
    for key, heading in SECTIONS:
        draft.add(path_of(at, key), heading, macros.fill(_text(data, key, at)))
    _book(draft, data.get("character_book"), path_of(at, "character_book"), macros)
    for key, heading in LATE_SECTIONS:
        draft.add(path_of(at, key), heading, macros.fill(_text(data, key, at)))
    if _text(data, "post_history_instructions", at).strip():
        draft.notes.append(
            "the instructions meant to follow the history stand in the Plate, which comes before the history"
        )
    if nickname and nickname != draft.name:
        draft.mapped.append(f"{path_of(at, 'nickname')}: what {{{{char}}}} stands for")
    known = {"name", "nickname", "character_book", *(key for key, _ in (*SECTIONS, *LATE_SECTIONS))}
    for key, item in data.items():
        if key not in known:
            draft.keep(path_of(at, key), item, REASONS.get(key, UNKNOWN))
    if at:
        _outside(draft, value, data)
    draft.notes += macros.notes()
    return draft


def _outside(draft: Draft, value: dict[str, Json], data: dict[str, Json]) -> None:
    """Keys beside `data`: copies for older programs, or something of another program."""
    copies = 0
    for key, item in value.items():
        if key in ("spec", "spec_version", "data"):
            continue
        if data.get(key) == item:
            copies += 1
        else:
            draft.keep(path_of("", key), item, REASONS.get(key, "beside the card's data; not read"))
    if copies:
        draft.notes.append(f"{copies} values beside the card's data repeat it, for older programs")


def _text(data: dict[str, Json], key: str, at: str) -> str:
    value = data.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadPlate(f"{path_of(at, key)} is no text, as cards have it; correct it and import it again")
    return value


class _Macros:
    """Placeholders of cards, filled in one pass: what is put in is not read again."""

    def __init__(self, char: str, user: str) -> None:
        self.names = {"char": char, "bot": char, "user": user}
        self.dropped = 0
        self.left: dict[str, None] = {}

    def fill(self, text: str) -> str:
        text = _NAMES.sub(lambda found: self.names[(found[1] or found[2]).lower()], text)
        text, dropped = _DROPPED.subn("", text)
        self.dropped += dropped
        self.left.update(dict.fromkeys(_MACRO.findall(text)))
        return text.replace("\r\n", "\n").replace("<START>", "* * *")

    def notes(self) -> list[str]:
        lines = []
        if self.dropped:
            lines.append(f"{self.dropped} comments or placeholders of other programs were left out")
        if self.left:
            shown = ", ".join(f"{macro} …" for macro in list(self.left)[:MACROS_SHOWN_MAX])
            lines.append(f"placeholders that stay as they are written: {shown}")
        return lines


def _book(draft: Draft, book: Json, at: str, macros: _Macros) -> None:
    """Of a lore book, what is always in force; the rest waits for key words, which a Plate cannot."""
    if book is None:
        return
    entries = book.get("entries") if isinstance(book, dict) else None
    if not isinstance(book, dict) or not isinstance(entries, list):
        draft.keep(at, book, "no lore book as cards have it")
        return
    for key, item in book.items():
        if key != "entries":
            draft.keep(path_of(at, key), item, "a setting of the lore book")
    if len(entries) > ENTRIES_MAX:
        raise BadPlate(f"{at} has {len(entries):,} entries, at most {ENTRIES_MAX:,} are read; shorten it")
    constant: list[tuple[float, int, str, str]] = []
    for number, entry in enumerate(entries):
        path = f"{path_of(at, 'entries')}[{number}]"
        if why := _not_constant(entry):
            draft.keep(path, entry, why)
        elif isinstance(entry, dict):
            order, content = entry.get("insertion_order"), entry.get("content")
            place = order if isinstance(order, int | float) and not isinstance(order, bool) else 0
            constant.append((place, number, path, str(content)))
            for key, item in entry.items():
                if key not in ENTRY_KEYS:
                    draft.keep(path_of(path, key), item, "a setting of the lore book")
    for place, (_, _, path, content) in enumerate(sorted(constant)):
        draft.add(path, "" if place else "Background", macros.fill(content))


def _not_constant(entry: Json) -> str:
    """Why this entry is not always in force; empty where it is."""
    if not isinstance(entry, dict) or not isinstance(content := entry.get("content"), str):
        return "no entry as cards have it"
    if entry.get("enabled", True) is not True:
        return "switched off"
    if entry.get("constant") is not True:
        return "waits for key words, which a Plate cannot"
    if content.lstrip().startswith("@@"):
        return "has conditions (@@), which a Plate cannot have"
    return ""
