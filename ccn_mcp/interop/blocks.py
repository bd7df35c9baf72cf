"""The content of one message, as Anthropic's and OpenAI's formats have it: text, or a list of typed blocks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from ccn_mcp.domain.imported import Item, Options, Said, Skipped, original_id, text_at, word
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.models import Body

SUMMARY_CHARS_MAX: Final = 200
NAME_CHARS_MAX: Final = 255
"""Of a file's name."""

# Tuples, because what is looked up in them may be anything, and need not be hashable.
_TEXT: Final = ("text", "input_text", "output_text")
_THINKING: Final = ("thinking", "thoughts")
_USES: Final = ("tool_use", "server_tool_use", "mcp_tool_use")
_MEDIA: Final = (
    "image",
    "document",
    "image_url",
    "input_image",
    "input_audio",
    "file",
    "image_asset_pointer",
)
_TELLING: Final = ("command", "file_path", "path", "pattern", "query", "url", "description", "prompt")


def said_in(
    content: Json, options: Options, message: Said, where: str = "", *, more: tuple[str, ...] = ()
) -> Iterator[Item]:
    """A message with this content: its text, as one; thinking and tool uses, each as one of its own, if wanted.

    `message` has everything but the text; `more` are blocks of text that come after it.
    """
    texts: list[str] = []
    blocks = [content] if isinstance(content, str) else content if isinstance(content, list) else []
    if content is not None and not isinstance(content, str | list):
        yield Skipped("content that is neither text nor a list of blocks", where)
    for place, block in enumerate(blocks):
        if isinstance(block, str):
            texts.append(block)
        elif not isinstance(block, dict):
            yield Skipped("a block that is no object", where)
        elif block.get("type") in _TEXT and isinstance(block.get("text"), str):
            texts.append(str(block["text"]))
        else:
            yield from _beside(block, options, message, place, where)
    text = "\n\n".join(part for part in (*texts, *more) if part.strip())
    if len(texts) == 1 and not more:
        text = texts[0]  # byte for byte
    if text.strip():
        yield Said(message.id, message.role, text, message.said_us, message.name, message.about)
    elif texts or not blocks:
        yield Skipped("empty", where)


def _beside(
    block: dict[str, Json], options: Options, message: Said, place: int, where: str
) -> Iterator[Item]:
    kind = block.get("type")
    if kind in _THINKING:
        thought = text_at(block, "thinking", "text", "content")
        if options.thinking and thought is not None:
            about: Body = {**message.about, "block": "thinking"}
            yield Said(
                f"{message.id}/thinking/{place}",
                message.role,
                f"[thinking]\n{thought}",
                message.said_us,
                message.name,
                about,
            )
        else:
            yield Skipped("thinking", where)
    elif kind in _USES:
        yield tool_use(block.get("id"), block.get("name"), block.get("input"), options, message, place, where)
    elif kind in ("tool_result", "web_search_tool_result", "mcp_tool_result"):
        yield Skipped("tool result", where)
    elif kind in _MEDIA:
        yield Skipped("image or file inside a message", where)
    else:
        yield Skipped(f"unknown block: {word(kind)}", where)


def tool_use(
    ident: Json, name: Json, given: Json, options: Options, message: Said, place: int, where: str
) -> Item:
    """A tool's use as one line, if wanted."""
    if not options.tools:
        return Skipped("tool use", where)
    about: Body = {**message.about, "block": "tool_use"}
    own = original_id(ident) or f"tool/{place}"
    return Said(f"{message.id}/{own}", "tool", summary(name, given), message.said_us, None, about)


def summary(name: Json, given: Json) -> str:
    """`Bash: git status`: a tool's name and what it was given, in at most 200 characters on one line."""
    said = given
    if isinstance(given, dict):
        said = text_at(given, *_TELLING) or json.dumps(given, ensure_ascii=False)
    line = " ".join(f"{word(name)}: {said if isinstance(said, str) else json.dumps(said)}".split())
    return line if len(line) <= SUMMARY_CHARS_MAX else line[: SUMMARY_CHARS_MAX - 1] + "…"


def attachment(name: Json, text: str) -> str:
    """The text of a file that came with a message, marked as such."""
    title = word(name, NAME_CHARS_MAX) if isinstance(name, str) else "attachment"
    return f"[attached: {title}]\n{text}\n[end of {title}]"
