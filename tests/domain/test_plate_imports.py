"""Other formats as Plates: what is taken over, what is reported, what is refused. All fixtures are made up."""

from __future__ import annotations

import base64
import io
import json
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccn_mcp import data as packaged
from ccn_mcp.domain.character import RELATIONAL, TRAITS
from ccn_mcp.domain.errors import BadInput, BadPlate
from ccn_mcp.domain.plate import parse_plate, render_plate
from ccn_mcp.domain.plate_import_files import CARD_BYTES_MAX, PNG_SIGNATURE
from ccn_mcp.domain.plate_imports import (
    IMPORT_BYTES_MAX,
    Format,
    Imported,
    convert,
    convert_files,
    recognise,
)

HIDDEN: Final = "NOT-FOR-INSTANCES"
HOSTILE_S_MAX: Final = 10.0

SOUL: Final = b"""# SOUL.md - Who You Are

## Core Truths

- Say what you found, then how sure you are.

## Boundaries

- Private notes stay private.
- Ask before anything leaves
  this machine.

## Vibe

Dry, kind.

## Continuity

You read these files at each start.
"""

IDENTITY: Final = b"""# IDENTITY.md - Who Am I?

- **Name:** Marl
- **Creature:**
  a heron with a notebook
- **Vibe:** dry, kind
- **Emoji:** \xf0\x9f\xaa\xb6
- **Avatar:**
  _(workspace-relative path)_
"""


def card(version: int = 2, **data: Any) -> dict[str, Any]:
    fields = {
        "name": "Ava",
        "description": "{{char}} keeps bees with {{user}}.",
        "first_mes": "Hello!",
        **data,
    }
    return {"spec": f"chara_card_v{version}", "spec_version": f"{version}.0", "data": fields}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def chunk(kind: bytes, content: bytes, crc: int | None = None) -> bytes:
    checked = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checked)


def png(*texts: tuple[bytes, bytes], end: bytes = chunk(b"IEND", b"")) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0"))
    return PNG_SIGNATURE + header + b"".join(chunk(b"tEXt", k + b"\0" + t) for k, t in texts) + pixels + end


def packed(value: Any) -> bytes:
    return base64.b64encode(as_json(value))


def archive(*items: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as zipped:
        for name, content in items:
            zipped.writestr(name, content)
    return made.getvalue()


def imported(name: str, data: bytes, **more: str) -> Imported:
    """Converted, and taken by `parse_plate` as it is reported."""
    made = convert(name, data, **more)
    assert parse_plate(made.plate_source) == made.plate
    assert made.format is recognise(name, data)
    return made


def refused(name: str, data: bytes) -> str:
    with pytest.raises(BadPlate) as caught:
        convert(name, data)
    assert caught.value.exit_status == 2
    return str(caught.value)


# ---- Markdown ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "format_"),
    [
        ("mine.md", packaged.read("example_plate.md"), Format.NATIVE),
        ("soul.md", b"---\nname: X\nboundaries: [a]\n---\ntext", Format.NATIVE),
        ("notes.md", b"# Notes\r\n\r\nwith care\r\n", Format.MARKDOWN),
        ("CLAUDE.md", b"# Project\n\nUse tabs.\n", Format.CLAUDE),
    ],
)
def test_what_is_a_plate_already_stays_byte_for_byte(name: str, data: bytes, format_: Format) -> None:
    made = imported(name, data)
    assert (made.format, made.plate_source) == (format_, data)


def test_claude_md_without_a_heading_gets_its_name_and_its_mentions_are_not_followed() -> None:
    text = b"Use tabs. See @docs/style.md and @../../etc/passwd.txt\n\n`@not/this.md` a@mail.org\n"
    made = imported("some/where/CLAUDE.md", text)
    assert made.plate.name == "CLAUDE"
    assert text.decode().strip() in made.plate.body
    assert [line.split(" ")[1] for line in made.unmapped] == ["@docs/style.md", "@../../etc/passwd.txt"]


def test_unknown_front_matter_is_reported_and_never_shown() -> None:
    soul = b'---\nsummary: "' + HIDDEN.encode() + b'"\nread_when: [a, b]\n---\n' + SOUL
    made = imported("SOUL.md", soul)
    assert HIDDEN not in render_plate(made.plate)
    assert HIDDEN in str(made.plate.unmapped["imported"])
    assert len(made.unmapped) == 2


def test_soul_and_identity_together() -> None:
    files = [("a/SOUL.md", SOUL), ("a/IDENTITY.md", IDENTITY)]
    made = convert_files(files)
    assert parse_plate(made.plate_source) == made.plate
    assert convert_files(files[::-1]).plate.body == made.plate.body
    assert (made.format, made.plate.name) == (Format.SEVERAL, "Marl")
    assert made.plate.boundaries == (
        "Private notes stay private.",
        "Ask before anything leaves this machine.",
    )
    assert list(made.plate.sections) == ["Marl", "Identity", "Core Truths", "Vibe", "Continuity"]
    assert made.plate.sections["Identity"].startswith(
        "Creature: a heron with a notebook\nVibe: dry, kind\nEmoji: "
    )
    assert "workspace-relative" not in made.plate.body


def test_soul_alone_is_called_by_its_file_and_says_so() -> None:
    made = imported("SOUL.md", SOUL)
    assert made.plate.name == "SOUL"
    assert "no file gives a name" in made.notes[0]
    assert imported("SOUL.md", b"**Name:** Marl\n\nBe kind.").plate.name == "Marl"


def test_boundaries_that_are_no_plain_list_stay_text() -> None:
    for section in (b"Never lie.", b"- one\n\nand prose", b"- " + b"long " * 200, b"- one\n  - nested"):
        made = imported("SOUL.md", b"# SOUL.md\n\n## Boundaries\n\n" + section)
        assert made.plate.boundaries == ()
        assert section.decode().strip() in made.plate.body
    fenced = b"# SOUL.md\n\n```\n## Boundaries\n- no\n```\n"
    assert imported("SOUL.md", fenced).plate.boundaries == ()


def test_files_that_do_not_go_together() -> None:
    plate, ava = packaged.read("example_plate.md"), as_json(card())
    for files in ([("a.md", plate), ("SOUL.md", SOUL)], [("a.json", ava), ("SOUL.md", SOUL)],
                  [("SOUL.md", SOUL), ("b/SOUL.md", SOUL)], [], [("a.md", SOUL)] * 17):  # fmt: skip
        with pytest.raises(BadPlate):
            convert_files(files)
    assert "empty fields" in refused("IDENTITY.md", b"# IDENTITY.md\n\n- **Name:** Marl\n")


# ---- cards ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("wrap", [as_json, lambda v: png((b"chara", packed(v))), lambda v: png((b"ccv3", packed(v))),
                                  lambda v: archive(("card.json", as_json(v)), ("../../evil", b"x"))])  # fmt: skip
def test_cards_in_every_wrapping(version: int, wrap: Callable[[Any], bytes]) -> None:
    made = imported("ava.bin", wrap(card(version)), user="Noor")
    assert made.format == f"card/{version}"
    assert made.plate.name == "Ava"
    assert "Ava keeps bees with Noor." in made.plate.body
    assert "Hello!" not in render_plate(made.plate)
    assert "data.first_mes: a greeting; a Plate opens no conversation" in made.unmapped


def test_what_the_creator_says_to_people_never_reaches_an_instance_and_nothing_is_lost() -> None:
    hidden: dict[str, Any] = dict.fromkeys(("creator", "creator_notes", "character_version"), HIDDEN)
    more = {"extensions": {"x": {"deep": [HIDDEN]}}, "odd.key": HIDDEN, "tags": [HIDDEN], "creation_date": 17}
    value = card(3, **hidden, **more, creator_notes_multilingual={"de": HIDDEN}, assets=[{"uri": HIDDEN}])
    made = imported("a.json", as_json({**value, "beside": HIDDEN, "name": "Ava"}))
    assert HIDDEN not in render_plate(made.plate)
    assert made.plate.version.startswith("imported-")
    kept = made.plate.unmapped["imported"]
    assert isinstance(kept, dict)
    assert kept["data.creator_notes"] == HIDDEN
    assert json.loads(str(kept["data.extensions"])) == more["extensions"]
    assert kept['data."odd.key"'] == HIDDEN
    assert kept["beside"] == HIDDEN
    reported = {line.split(":")[0] for line in made.unmapped}
    assert reported >= {f"data.{key}" for key in hidden} | {"data.extensions", "beside", "data.creation_date"}


def test_a_card_of_version_one_and_its_sections_in_order() -> None:
    value = {"name": "Ava", "description": "D", "personality": "P", "scenario": "S", "first_mes": "F",
             "mes_example": "<START>\n{{user}}: Hi"}  # fmt: skip
    made = imported("a.json", as_json(value))
    assert made.format is Format.CARD_1
    assert list(made.plate.sections) == ["Ava", "Description", "Personality", "Scenario", "Examples"]
    assert made.plate.sections["Examples"] == "* * *\nthe person: Hi"


def test_placeholders_are_filled_once_and_the_unknown_ones_stay() -> None:
    text = (
        "{{CHAR}} <user> {{ user }} {{{{char}}}} {{random:{{char}},{{user}}}} "
        "{{// {{char}} hides}}{{original}}{{char"
    )
    made = imported("a.json", as_json(card(3, nickname="A. {{user}}", description=text)), user="N {{char}}")
    assert made.plate.sections["Description"] == (
        "A. {{user}} N {{char}} N {{char}} {{A. {{user}}}} {{random:A. {{user}},N {{char}}}} "
        "{{// A. {{user}} hides}}{{char"
    )
    plain = imported(
        "a.json", as_json(card(3, description="a{{// note}}b{{comment: x}}{{random:1,2}}{{original}}z"))
    )
    assert plain.plate.sections["Description"] == "ab{{random:1,2}}z"
    assert any("3 comments" in note for note in plain.notes)
    assert any("{{random:1,2" in note for note in plain.notes)


def test_of_a_lore_book_what_is_always_in_force_goes_in_by_order() -> None:
    entry = {"keys": ["k"], "enabled": True, "constant": True}
    entries = [
        {**entry, "content": "third {{char}}", "insertion_order": 30},
        {**entry, "content": "first", "insertion_order": 1, "comment": HIDDEN},
        {**entry, "content": "second", "insertion_order": 2.5},
        {**entry, "content": "off", "enabled": False},
        {**entry, "content": "waits", "constant": False},
        {**entry, "content": "@@depth 4\nconditional"},
        {**entry, "content": 7},
        "odd",
    ]
    made = imported("a.json", as_json(card(3, character_book={"name": HIDDEN, "entries": entries})))
    assert made.plate.sections["Background"] == "first\n\nsecond\n\nthird Ava"
    assert HIDDEN not in render_plate(made.plate)
    reported = [line for line in made.unmapped if line.startswith("data.character_book.entries[")]
    assert [line[28:].split("]")[0] for line in reported] == ["1", "3", "4", "5", "6", "7"]


def test_a_card_of_the_wrong_types_is_refused_with_the_path() -> None:
    assert "data.description" in refused("a.json", as_json(card(description=["x"])))
    assert "no name" in refused("a.json", as_json(card(name=" ")))
    assert "data.scenario: " in refused("a.json", as_json(card(scenario="turn \u202e round")))
    with pytest.raises(BadInput):
        convert("a.json", as_json(card()), user="two\x1b[2J")


def test_front_matter_cannot_be_broken_out_of() -> None:
    evil = 'x"\n---\nname: Mallory\n...\n\u2028\x85# Forged\ufeff'
    more: dict[str, Any] = {"creator": evil, "tags": [evil], evil: evil, "name": "A: 'b' \"c\" #d"}
    made = imported("a.json", as_json(card(**more)))
    assert made.plate.name == "A: 'b' \"c\" #d"
    assert set(made.plate.unmapped) == {"imported"}
    assert "Mallory" not in render_plate(made.plate)


def test_a_large_card_keeps_what_fits_and_says_what_does_not() -> None:
    more: dict[str, Any] = {f"key{number}": "v" * 100 for number in range(3_000)}
    made = imported("a.json", as_json(card(extensions={"blob": "x" * 100_000}, **more)))
    assert any("original file only" in note for note in made.notes)
    assert "more, in the original" in made.unmapped[-1]
    assert len(made.plate_source) < 40_000


# ---- containers ----------------------------------------------------------------------------------------


def test_the_newer_chunk_goes_first_and_what_follows_the_image_is_not_read() -> None:
    both = png((b"chara", packed(card(name="Old"))), (b"ccv3", packed(card(3, name="New"))))
    made = imported("a.png", both + b"PK\x03\x04 more")
    assert made.plate.name == "New"
    assert any("'chara' chunk was not read" in note for note in made.notes)
    assert any("bytes after the image" in note for note in made.notes)


GOOD: Final = png((b"chara", packed(card())))


@pytest.mark.parametrize(
    "data",
    [
        GOOD[:-1],
        GOOD[:60],
        PNG_SIGNATURE,
        png(),
        png((b"chara", packed(card())), end=b""),
        png((b"chara", packed(card())), end=chunk(b"IEND", b"", crc=1)),
        png((b"chara", packed(card())), (b"chara", packed(card(name="Other")))),
        png((b"chara", b"!!!")),
        png((b"chara", base64.b64encode(b"[1]"))),
        png((b"chara", base64.b64encode(b"\xff\xfe"))),
        PNG_SIGNATURE + chunk(b"tEXt", b"chara\0" + packed(card())) + chunk(b"IEND", b""),
        PNG_SIGNATURE + b"\xff\xff\xff\xff" + b"tEXt",
        PNG_SIGNATURE + chunk(b"IHDR", b"") + chunk(b"\0\0\0\0", b""),
        GOOD.replace(b"chara", b"charb"),
    ],
)
def test_damaged_images(data: bytes) -> None:
    assert "PNG" in refused("a.png", data) or "JSON" in refused("a.png", data)


def test_bombs_and_odd_archives_are_refused_quickly() -> None:
    bomb = archive(("card.json", b"[" * 64 + b" " * 200_000_000))
    small = archive(("card.json", as_json(card())))
    liar = bytearray(bomb)
    directory = liar.rindex(b"PK\x01\x02")
    liar[directory + 24 : directory + 28] = struct.pack("<I", 100)  # claims to unpack to 100 bytes
    crc, encrypted = bytearray(small), bytearray(small)
    directory = crc.rindex(b"PK\x01\x02")
    crc[directory + 16] ^= 1
    encrypted[directory + 8] |= 1
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = archive(("card.json", b"{}"), ("card.json", b"{}"))
    started = time.monotonic()
    for data in (
        bomb,
        bytes(liar),
        bytes(crc),
        bytes(encrypted),
        twice,
        archive(("sub/card.json", b"{}"), ("../card.json", b"{}")),
        archive(("card.json", as_json(card())), method=zipfile.ZIP_BZIP2),
        archive(*((f"{number}", b"") for number in range(5_000))),
        small[:-30],
        small[:30],
        b"PK\x03\x04" * 100_000,
        archive(("card.json", b'{"name":1,"name":2}')),
    ):
        assert refused("a.charx", data)
    assert time.monotonic() - started < HOSTILE_S_MAX
    assert (
        imported("a.charx", archive(("card.json", as_json(card())), method=zipfile.ZIP_STORED)).plate.name
        == "Ava"
    )


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([GOOD, archive(("card.json", as_json(card())))]), st.data())
def test_any_change_of_a_container_is_refused_or_read(whole: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + draw.draw(st.binary(max_size=4)) + whole[at + draw.draw(st.integers(0, 4)) :]
    with suppress(BadPlate):
        parse_plate(convert("a.png", changed).plate_source)


# ---- JSON ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"{", b"[]", b"{}", b"[1]", b"null", b'{"spec":"chara_card_v2"}', b'{"spec":"chara_card_v9","data":{}}',
        b'{"plate_id":1,"plate_id":2}', b'{"plate_id":"\\ud800","key_insights":["x"]}', b"[" * 100_000,
        b'{"plate_id":"a","key_insights":[NaN]}', b'{"plate_id":"a","key_insights":["\\u0000"]}',
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b'[{"label":"persona","value":7}]', b'[{"label":"persona","value":""}]', b'[{"label":"x","value":"y"}]',
        b'{"plate_id":"a","generation_time":"b"}', b'{"a":' + b"9" * 5_000 + b"}",
    ],
)  # fmt: skip
def test_json_that_is_no_plate(text: bytes) -> None:
    refused("a.json", text)


def test_too_large_and_transcripts() -> None:
    assert "10,000,000" in refused("a.json", b" " * 10_000_000)
    assert "10,000,000" in refused("a.png", PNG_SIGNATURE.ljust(10_000_000))
    assert "JSON" in refused("a.json", b" " * (CARD_BYTES_MAX + 1))
    assert "tokens" in refused("a.md", b"# A\n\n" + b"word " * 100_000)
    assert "ccn-mcp import" in refused("a.json", as_json([{"role": "user", "content": "hi"}]))
    for data in (b"", b"\xff\xd8\xff\xe0", "# a".encode("utf-16"), b"\n \n", b"# A\n\n\x1b[2J"):
        assert refused("a.md", data)
    half = b"# A\n\n" + b"w" * (IMPORT_BYTES_MAX // 2)
    with pytest.raises(BadPlate):
        convert_files([("a.md", half), ("b.md", half)])


BLOCKS: Final[list[dict[str, Any]]] = [
    {"label": "persona", "value": "I weigh words.", "description": "about me", "limit": 5000},
    {"label": "human", "value": "Noor, a soil chemist.", "limit": None},
    {"label": "tasks", "value": HIDDEN},
]


@pytest.mark.parametrize(
    "value",
    [
        BLOCKS,
        {"blocks": BLOCKS, "agents": [{"name": "Marl", "system": HIDDEN}], "tools": [{"source": HIDDEN}]},
        {"name": "Marl", "core_memory": BLOCKS},
        {"name": "Marl", "memory": {"blocks": BLOCKS, "prompt_template": HIDDEN}},
        {"name": "Marl", "memory": {"persona": {**BLOCKS[0]}, "human": "Noor, a soil chemist."}},
    ],
)  # fmt: skip
def test_blocks_of_letta_in_their_holders(value: Any) -> None:
    made = imported("Marl.af", as_json(value))
    assert (made.format, made.plate.name) == (Format.LETTA, "Marl")
    assert made.plate.sections["Marl"] == "I weigh words."
    assert made.plate.sections["The person"] == "Noor, a soil chemist."
    assert HIDDEN not in render_plate(made.plate)
    assert any("limit: a setting of the block" in line for line in made.unmapped)
    doubled = [*BLOCKS, BLOCKS[0]]
    assert "'persona'" in refused("a.af", as_json(doubled))


def test_a_json_plate_with_the_five_shared_names_gets_words_and_no_baseline() -> None:
    shared = {"directness": 0.9, "warmth": 0.71, "precision": 0.95, "creativity": 0.5, "patience": 0.1}
    value = {
        "plate_id": "plate-7",
        "generation_time": "2031-02-03T04:05:06Z",
        "character_vector": {
            **shared,
            "sparkle": 0.4,
            "formality": "high",
            "verbosity": 1.5,
            "questioning": True,
        },
        "relational_state": {"trust": 0.9, "moon_phase": 0.2},
        "key_insights": ["Soil  first.", {"text": HIDDEN}, ""],
        "mood": HIDDEN,
    }
    made = imported("p.json", as_json(value))
    assert (made.plate.name, made.plate.baseline, made.plate.relational) == ("plate-7", None, None)
    assert "Warmth: fairly warm." in made.plate.sections["Character"]
    assert made.plate.sections["Relationship"] == "- Trust: very trusting."
    assert made.plate.sections["Insights"] == "- Soil first."
    shown = render_plate(made.plate)
    assert not any(hidden in shown for hidden in (HIDDEN, "0.71", "2031"))
    assert {line.split(":")[0] for line in made.unmapped} == {
        "generation_time", "character_vector.sparkle", "character_vector.formality", "character_vector.verbosity",
        "character_vector.questioning", "relational_state.moon_phase", "key_insights[1]", "mood",
    }  # fmt: skip


def test_a_json_plate_with_all_names_gives_the_baseline_and_a_list_does_not() -> None:
    traits = {name: number / 16 for number, name in enumerate(reversed(TRAITS))}
    value = {
        "plate_id": "p",
        "character_vector": {**traits, "extra": 1},
        "relational_state": dict.fromkeys(RELATIONAL, 1),
    }
    made = imported("p.json", as_json(value))
    assert made.plate.baseline == tuple(traits[name] for name in TRAITS)
    assert made.plate.relational == (1.0,) * 7
    assert made.unmapped == ["character_vector.extra: no trait or metric of this program"]
    listed = imported(
        "p.json", as_json({"plate_id": "p", "character_vector": [0.5] * 16, "key_insights": "One."})
    )
    assert listed.plate.baseline is None
    assert listed.unmapped[0].startswith("character_vector: no map")


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
        max_size=5,
    )
)
def test_unknown_keys_of_any_kind_survive(more: dict[str, str]) -> None:
    value = card(3)
    value["data"] |= {f"x{key}": item for key, item in more.items()}
    made = convert("a.json", as_json(value))
    kept = parse_plate(made.plate_source).unmapped["imported"]
    assert isinstance(kept, dict)
    found = list(kept.values())
    for item in filter(None, more.values()):
        # As it is, or as JSON where a screen could not show it.
        assert item in found or json.dumps(item) in found
    # No instance reads them: what is rendered has their words no more often than without them.
    shown, plain = render_plate(made.plate), render_plate(convert("a.json", as_json(card(3))).plate)
    assert all(shown.count(item) == plain.count(item) for item in more.values() if len(item) > 9)
