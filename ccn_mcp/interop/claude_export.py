"""The export of a Claude.ai or Claude Desktop account: conversations.json, each conversation a tree of messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ccn_mcp.domain.imported import (
    OTHER_BRANCHES,
    Chat,
    Item,
    Options,
    Said,
    Skipped,
    digest,
    micros,
    newest_path,
    original_id,
    role_of,
    text_at,
    word,
)
from ccn_mcp.domain.jcs import Json
from ccn_mcp.interop import blocks

FORMAT: Final = "claude-export"


def conversation(value: dict[str, Json], options: Options, where: str) -> Iterator[Item]:
    """One conversation: the path to the newest leaf, then what was said on other branches, flagged."""
    origin = original_id(value.get("uuid"))
    listed = value.get("chat_messages")
    if origin is None or not isinstance(listed, list):
        yield Skipped("a conversation without an id or messages", where)
        return
    messages: dict[str, dict[str, Json]] = {}
    for place, message in enumerate(listed):
        at = f"{where}, message {place + 1}"
        if not isinstance(message, dict):
            yield Skipped("a message that is no object", at)
            continue
        own = original_id(message.get("uuid")) or f"digest:{digest(str(place), repr(message.get('text')))}"
        if own in messages:
            yield Skipped("a message that is there twice", at)
            continue
        messages[own] = message
    path = newest_path(
        {own: original_id(message.get("parent_message_uuid")) for own, message in messages.items()},
        {own: micros(message.get("created_at")) for own, message in messages.items()},
    )
    title = text_at(value, "name")
    yield Chat(FORMAT, f"claude.ai:{origin}", origin, title)
    for own in messages:
        if own in path:
            yield from _said(own, messages[own], options, where, alternate=False)
    if len(path) < len(messages):
        yield Chat(
            FORMAT, f"claude.ai:{origin}{OTHER_BRANCHES}", origin, f"{title or 'Untitled'} (other branches)"
        )
        for own in messages:
            if own not in path:
                yield from _said(own, messages[own], options, where, alternate=True)


def _said(
    own: str, message: dict[str, Json], options: Options, where: str, *, alternate: bool
) -> Iterator[Item]:
    role = role_of(message.get("sender"))
    if role not in ("user", "assistant"):
        yield Skipped(f"unknown sender: {word(message.get('sender'))}", where)
        return
    said = Said(
        own, role, "", micros(message.get("created_at")), None, {"alternate": True} if alternate else {}
    )
    content = message.get("content")
    if not _has_text(
        content
    ):  # older exports have the text alone; newer ones put stand-ins for tools into it
        text = message.get("text")
        content = (
            [*content, text]
            if isinstance(content, list) and isinstance(text, str) and text
            else content or text
        )
    yield from blocks.said_in(content, options, said, f"{where}, {own}", more=tuple(_attached(message)))


def _has_text(content: Json) -> bool:
    return isinstance(content, list) and any(
        isinstance(block, dict) and text_at(block, "text") is not None for block in content
    )


def _attached(message: dict[str, Json]) -> Iterator[str]:
    """The text of attachments, and the names of files, whose content is not in an export."""
    attached = message.get("attachments")
    named: set[str] = set()
    for one in attached if isinstance(attached, list) else []:
        if isinstance(one, dict) and (text := text_at(one, "extracted_content")) is not None:
            yield blocks.attachment(one.get("file_name"), text)
            named.add(word(one.get("file_name"), blocks.NAME_CHARS_MAX))
    files = message.get("files")
    for one in files if isinstance(files, list) else []:
        if (
            isinstance(one, dict)
            and (name := text_at(one, "file_name"))
            and word(name, blocks.NAME_CHARS_MAX) not in named
        ):
            yield f"[attached: {word(name, blocks.NAME_CHARS_MAX)}, which is not in the export]"
