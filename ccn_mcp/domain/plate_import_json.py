"""Letta's memory blocks and JSON plates as drafts of a Plate."""

from __future__ import annotations

import math
from typing import Final

from ccn_mcp.domain.character import RELATIONAL, TRAITS, Vector, describe
from ccn_mcp.domain.errors import BadPlate
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.plate_import_draft import Draft, Format, path_of

BLOCK_LISTS: Final = ("blocks", "memory_blocks", "core_memory")
"""Where an agent file keeps its blocks, newest form first."""

PLATE_KEYS: Final = frozenset(
    {"plate_id", "generation_time", "character_vector", "relational_state", "key_insights"}
)
PERSONA, HUMAN = "persona", "human"
MESSAGE_KEYS: Final = frozenset({"role", "content", "text", "sender", "chat_messages", "mapping", "messages"})
ITEMS_MAX: Final = 1_000


def looks_like_letta(value: Json) -> bool:
    """Whether these are memory blocks, or an agent file that has some."""
    return _blocks(value) is not None


def looks_like_plate(value: Json) -> bool:
    """Whether this is a JSON plate: two of its five keys are enough."""
    return isinstance(value, dict) and len(PLATE_KEYS & value.keys()) >= 2


def looks_like_messages(value: Json) -> bool:
    """Whether this is a transcript, which is no Plate."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) and bool(MESSAGE_KEYS & first.keys())


# ---- Letta ---------------------------------------------------------------------------------------------


def _blocks(value: Json) -> tuple[str, list[dict[str, Json]]] | None:
    """The path and the blocks."""
    if isinstance(value, list):
        blocks = [item for item in value if isinstance(item, dict) and _is_block(item)]
        return ("", blocks) if blocks and len(blocks) == len(value) else None
    if not isinstance(value, dict):
        return None
    for key in BLOCK_LISTS:
        if found := _blocks(value[key] if isinstance(value.get(key), list) else None):
            return key, found[1]
    memory = value.get("memory")
    if isinstance(memory, dict):
        if found := _blocks(memory):
            return f"memory.{found[0]}", found[1]
        named = {key: item for key, item in memory.items() if key in (PERSONA, HUMAN)}
        blocks = [
            {"label": key, **(item if isinstance(item, dict) else {"value": item})}
            for key, item in named.items()
        ]
        if blocks and all(map(_is_block, blocks)):
            return "memory", blocks
    return None


def _is_block(item: dict[str, Json]) -> bool:
    return isinstance(item.get("label"), str) and isinstance(item.get("value"), str)


def draft_letta(value: Json, stem: str) -> Draft:
    """Persona into the text, human into a section on the person; the rest is reported.

    Raises:
        BadPlate: two blocks of one label, or none that can be mapped.
    """
    found = _blocks(value)
    if found is None:  # pragma: no cover  # recognised before
        raise BadPlate("there are no memory blocks in this file")
    at, blocks = found
    draft = Draft(Format.LETTA, name=_agent_name(value) or stem)
    by_label: dict[str, tuple[str, dict[str, Json]]] = {}
    for number, block in enumerate(blocks):
        label = str(block["label"])
        if label in by_label:
            raise BadPlate(f"two blocks have the label {label[:40]!r}; this file has more than one agent, "
                           "or is ambiguous: keep one of the two")  # fmt: skip
        by_label[label] = (path_of(at, label) if at == "memory" else f"{at}[{number}]", block)
    for label, heading in ((PERSONA, ""), (HUMAN, "The person")):
        if label in by_label:
            path, block = by_label[label]
            draft.add(f"{path} ({label})", heading, str(block["value"]))
    if not draft.parts:
        raise BadPlate("neither a 'persona' nor a 'human' block of this file has text; fill one in")
    if named := _agent_name(value):
        draft.mapped.insert(0, f"the agent's name {named[:80]!r}: name")
    for label, (path, block) in by_label.items():
        if label not in (PERSONA, HUMAN):
            draft.keep(path, block, f"a block {label[:40]!r}, which has no place in a Plate")
            continue
        for key, item in block.items():
            if key not in ("label", "value"):
                draft.keep(path_of(path, key), item, "a setting of the block")
    _around(draft, value, at.split("."))
    return draft


def _around(draft: Draft, value: Json, at: list[str]) -> None:
    """Report what an agent file holds beside its blocks."""
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key not in (at[0], "name"):
            draft.keep(path_of("", key), item, "a part of the agent file other than its blocks")
    memory = value.get("memory")
    if at[0] == "memory" and isinstance(memory, dict):
        for key, item in memory.items():
            if key not in (*at[1:2], PERSONA, HUMAN):
                draft.keep(path_of("memory", key), item, "a setting of the memory")


def _agent_name(value: Json) -> str:
    if not isinstance(value, dict):
        return ""
    agents = value.get("agents")
    first = agents[0] if isinstance(agents, list) and len(agents) == 1 else None
    for holder in (value, first):
        name = holder.get("name") if isinstance(holder, dict) else None
        if isinstance(name, str) and name.strip():
            return " ".join(name.split())
    return ""


# ---- JSON plates ---------------------------------------------------------------------------------------


def draft_json_plate(value: dict[str, Json], stem: str) -> Draft:
    """The shared names of vectors and the insights; the rest is reported.

    Raises:
        BadPlate: nothing in it could be mapped.
    """
    named = [value.get(key) for key in ("name", "plate_id")]
    names = [" ".join(item.split()) for item in named if isinstance(item, str) and item.strip()]
    draft = Draft(Format.JSON_PLATE, name=names[0] if names else stem)
    draft.baseline = _vector(draft, value.get("character_vector"), "character_vector", TRAITS, "Character")
    draft.relational = _vector(
        draft, value.get("relational_state"), "relational_state", RELATIONAL, "Relationship"
    )
    _insights(draft, value.get("key_insights"))
    if not draft.mapped:
        raise BadPlate("nothing in this JSON plate can be mapped; write a Plate from it, see docs/plate.md")
    if names:
        draft.mapped.insert(0, f"{'name' if isinstance(value.get('name'), str) else 'plate_id'}: name")
    for key, item in value.items():
        if key in ("plate_id", "name"):
            if not isinstance(item, str) or " ".join(item.split()) != draft.name:
                draft.keep(key, item, "not the name")
        elif key == "generation_time":
            draft.keep(key, item, "the stable part has no dates")
        elif key not in PLATE_KEYS:
            draft.keep(path_of("", key), item, "unknown to this program")
    return draft


def _vector(draft: Draft, value: Json, key: str, names: tuple[str, ...], heading: str) -> Vector | None:
    """The vector, if every name of ours is there; otherwise the shared names become sentences.

    A baseline that was completed with defaults would say what nobody has said, and a list without names
    may be in any order.
    """
    if not isinstance(value, dict):
        draft.keep(key, value, f"no map of names to numbers; name the values: {', '.join(names[:3])}, …")
        return None
    shared = {name: number for name in names if (number := _unit(value.get(name))) is not None}
    whole = len(shared) == len(names)
    for name, item in value.items():
        if name not in shared:
            why = "not a number from 0 to 1" if name in names else "no trait or metric of this program"
            draft.keep(path_of(key, name), item, why)
        elif not whole:
            draft.kept.setdefault(path_of(key, name), item)
    if whole:
        draft.mapped.append(f"{key}: {'baseline' if names is TRAITS else 'relational'}")
        return tuple(shared.values())
    if shared:
        sentences = "\n".join(f"- {line}" for line in describe(tuple(shared.values()), names=tuple(shared)))
        draft.parts.append((key, heading, sentences))
        draft.mapped.append(f"{key}: {', '.join(shared)}, in words, in section {heading!r}")
        draft.notes.append(
            f"{key} has {len(shared)} of the {len(names)} names that this program measures: they are said in "
            "words, and no baseline is made of them"
        )
    return None


def _unit(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value) + 0.0 if math.isfinite(value) else None


def _insights(draft: Draft, value: Json) -> None:
    items = value if isinstance(value, list) else [value]
    if len(items) > ITEMS_MAX:
        raise BadPlate(f"key_insights has {len(items):,} items, at most {ITEMS_MAX:,} are read; shorten it")
    lines: list[str] = []
    for number, item in enumerate(items):
        if isinstance(item, str) and item.strip():
            lines.append(f"- {' '.join(item.split())}")
        else:
            draft.keep(f"key_insights[{number}]", item, "no text")
    draft.add("key_insights", "Insights", "\n".join(lines))
