"""Claude Code's transcripts: `projects/<folder>/<session>.jsonl`, one line per content block. Standard library only.

A line is read on its own, so the tail of a file that is still being written can be read as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import Final

from ccn_mcp.domain.imported import (
    Chat,
    Item,
    Options,
    Said,
    Skipped,
    digest,
    micros,
    original_id,
    text_at,
)
from ccn_mcp.domain.jcs import Json, replace_unstorable
from ccn_mcp.interop import blocks
from ccn_mcp.interop.claude_code import Place, copy_of, prompt_of, typed, why_not
from ccn_mcp.interop.reading import Readable, json_lines

FORMAT: Final = "claude-code"
HELD_MAX: Final = 1_000
"""Lines between two answers that wait for the second one."""


def encoded(folder: str) -> str:
    """The name under which Claude Code keeps the transcripts of a project folder."""
    return re.sub(r"[^A-Za-z0-9]", "-", folder)


def items(file: Readable, name: str, options: Options) -> Iterator[Item]:
    """What a transcript holds. `name` is the file's, whose stem is the session where a line names none."""
    current: Chat | None = None
    title: str | None = None
    place = Place()
    for where, line, copied in _with_copies(json_lines(file, name)):
        if isinstance(line, Skipped):
            yield line
            continue
        if not isinstance(line, dict):
            yield Skipped("a line that is no object", where)
            continue
        title = text_at(line, "customTitle", "aiTitle", "summary") or title
        for item in said_in(line, options, where):
            if isinstance(item, Said):
                chat = chat_of(line, PurePath(name).stem, title if current is None else current.title)
                if chat != current:
                    current = chat
                    yield chat
                item = replace(item, copy_of=copied) if copied else placed(item, line, place)
            yield item


def _with_copies(
    lines: Iterable[tuple[str, Json | Skipped]],
) -> Iterator[tuple[str, Json | Skipped, str | None]]:
    """Each line, and the session that it was copied from, which the next answer tells."""
    held: list[tuple[str, Json | Skipped]] = []
    for where, line in lines:
        held.append((where, line))
        answer = isinstance(line, dict) and line.get("type") == "assistant"
        if answer or len(held) >= HELD_MAX:
            copied = original_id(copy_of(line)) if isinstance(line, dict) else None
            yield from ((place, one, copied) for place, one in held)
            held.clear()
    yield from ((place, one, None) for place, one in held)


def placed(said: Said, line: dict[str, Json], place: Place) -> Said:
    """A text with the name that hooks know it by: its prompt, and its number among equal ones."""
    prompt = prompt_of(line)
    if said.about or not (prompt or (place.prompt and said.role == "assistant")):
        return said
    nth = place.take(said.role, said.text, prompt)
    return replace(said, prompt=place.prompt, nth=nth)


def chat_of(line: dict[str, Json], stem: str, title: str | None = None) -> Chat:
    """The conversation of a line: that of its session, under which hooks and tools record too."""
    session = original_id(line.get("sessionId")) or original_id(stem) or "unknown"
    folder = text_at(line, "cwd")
    return Chat(FORMAT, session, session, title, folder=replace_unstorable(folder)[0] if folder else None)


def said_in(line: dict[str, Json], options: Options, where: str = "") -> Iterator[Item]:
    """What one line of a transcript says, or why it is not imported."""
    if (reason := why_not(line)) is not None:
        yield Skipped(reason, where)
        return
    kind, message = str(line["type"]), line["message"]
    content = message.get("content") if isinstance(message, dict) else None
    content = typed(content) if kind == "user" else content
    when = line.get("timestamp")
    # A line without an id is known by what it says and when.
    own = original_id(line.get("uuid")) or f"digest:{digest(kind, repr(when), repr(content))}"
    yield from blocks.said_in(content, options, Said(own, kind, "", micros(when)), where)
