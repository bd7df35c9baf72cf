"""Claude Code's transcripts: `projects/<folder>/<session>.jsonl`, one line per content block. Standard library only.

A line is read on its own, so the tail of a file that is still being written can be read as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
    word,
)
from ccn_mcp.domain.jcs import Json, replace_unstorable
from ccn_mcp.interop import blocks
from ccn_mcp.interop.reading import Readable, json_lines

FORMAT: Final = "claude-code"
_COMMAND: Final = re.compile(r"<command-name>(/?[^<]*)</command-name>")
_ARGUMENTS: Final = re.compile(r"<command-args>(.*?)</command-args>", re.DOTALL)
_NOT_SAID: Final = (
    "<local-command-",
    "<bash-stdout>",
    "<bash-stderr>",
    "<task-notification>",
    "<system-reminder>",
    "[Request interrupted by user",
)
_MARKED: Final = (
    ("isSidechain", "said to or by a subagent"),
    ("isMeta", "written by Claude Code (meta)"),
    ("isCompactSummary", "a compaction's summary"),
    ("isVisibleInTranscriptOnly", "shown in the transcript only"),
    ("isApiErrorMessage", "an API error"),
)


def encoded(folder: str) -> str:
    """The name under which Claude Code keeps the transcripts of a project folder."""
    return re.sub(r"[^A-Za-z0-9]", "-", folder)


def items(file: Readable, name: str, options: Options) -> Iterator[Item]:
    """What a transcript holds. `name` is the file's, whose stem is the session where a line names none."""
    current: Chat | None = None
    title: str | None = None
    for where, line in json_lines(file, name):
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
            yield item


def chat_of(line: dict[str, Json], stem: str, title: str | None = None) -> Chat:
    """The conversation of a line: that of its session, under which hooks and tools record too."""
    session = original_id(line.get("sessionId")) or original_id(stem) or "unknown"
    folder = text_at(line, "cwd")
    return Chat(FORMAT, session, session, title, folder=replace_unstorable(folder)[0] if folder else None)


def said_in(line: dict[str, Json], options: Options, where: str = "") -> Iterator[Item]:
    """What one line of a transcript says, or why it is not imported."""
    kind, message = line.get("type"), line.get("message")
    if kind not in ("user", "assistant"):
        yield Skipped(f"not a message: {word(kind)}", where)
        return
    for field, reason in _MARKED:
        if line.get(field) is True:
            yield Skipped(reason, where)
            return
    if kind == "user" and "toolUseResult" in line:
        yield Skipped("tool result", where)
        return
    if not isinstance(message, dict):
        yield Skipped("a line without a message", where)
        return
    content = message.get("content")
    if kind == "user":
        if (content := typed(content)) is None:
            yield Skipped("written by Claude Code in the person's place", where)
            return
    elif message.get("model") == "<synthetic>":
        yield Skipped("written by Claude Code in the assistant's place", where)
        return
    when = line.get("timestamp")
    # A line without an id is known by what it says and when.
    own = original_id(line.get("uuid")) or f"digest:{digest(kind, repr(when), repr(content))}"
    yield from blocks.said_in(content, options, Said(own, kind, "", micros(when)), where)


def typed(content: Json) -> Json:
    """What the person typed: a command as they wrote it; None where nobody typed it."""
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        only = content[0]
        if only.get("type") == "text" and isinstance(only.get("text"), str):
            content = only["text"]
    if not isinstance(content, str):
        return content if content is not None else []
    start = content.lstrip()[:40]
    if start.startswith(_NOT_SAID):
        return None
    if start.startswith(("<command-name>", "<command-message>")) and (found := _COMMAND.search(content)):
        arguments = _ARGUMENTS.search(content)
        return f"{found[1].strip()} {arguments[1].strip() if arguments else ''}".strip()
    return content
