"""Which format a file has, and the parser for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import BinaryIO, Final

from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.imported import Item, Options, Skipped
from ccn_mcp.domain.jcs import Json
from ccn_mcp.interop import ccn_export, claude_export, openai_chats, transcripts
from ccn_mcp.interop.reading import (
    BOM,
    Readable,
    Truncated,
    conversations_in,
    elements,
    json_lines,
    lines,
    load,
    whole,
)

FORMATS: Final = ("claude-code", "claude-export", "openai", "jsonl", "ccn-export")
PEEK_BYTES: Final = 65_536
PEEK_LINES: Final = 20
_ZIP: Final = b"PK\x03\x04"
_TRANSCRIPT: Final = frozenset({"sessionId", "uuid", "leafUuid", "messageId", "operation"})


def items(file: BinaryIO, name: str, options: Options, wanted: str | None = None) -> Iterator[Item]:
    """What the file holds, in its order; `wanted` is one of `FORMATS`, None finds out.

    Raises:
        BadInput: it is none of them, or not the one that was wanted. TooLarge.
    """
    start = file.read(PEEK_BYTES)
    file.seek(0)
    stripped = start.removeprefix(BOM).lstrip()
    if start.startswith(_ZIP):
        _must_be(wanted, "claude-export", "openai", name=name)
        for member, unpacked in conversations_in(file):
            yield from _array(unpacked, f"{name}/{PurePath(member).name}", options, wanted)
    elif stripped[:1] == b"[":
        _must_be(wanted, "claude-export", "openai", name=name)
        yield from _array(file, name, options, wanted)
    elif stripped[:1] == b"{":
        yield from _lines(file, name, options, wanted)
    elif stripped:
        raise _unknown(name)


def _must_be(wanted: str | None, *possible: str, name: str) -> None:
    if wanted is not None and wanted not in possible:
        raise BadInput(f"{name} is not of the format {wanted}; leave --format out to have it found")


def _unknown(name: str) -> BadInput:
    return BadInput(
        f"{name} is none of the formats that can be imported ({', '.join(FORMATS)}); docs/import.md shows each. "
        "Name it with --format if you know better"
    )


# ---- lines, or one object ------------------------------------------------------------------------------


def _lines(file: BinaryIO, name: str, options: Options, wanted: str | None) -> Iterator[Item]:
    found = wanted or _of_lines(file)
    file.seek(0)
    if found == "ccn-export":
        yield from ccn_export.items(file, name)
    elif found == "claude-code":
        yield from transcripts.items(file, name, options)
    elif found == "jsonl":
        yield from _plain_lines(file, name, options)
    else:
        yield from _object(file, name, options, wanted)


def _of_lines(file: BinaryIO) -> str | None:
    """What the first lines show; None if they are no lines of JSON: it may be one object over several."""
    file.seek(0)
    for number, data, _ in lines(file):
        if number > PEEK_LINES:
            break
        try:
            line = load(data) if data is not None else None
        except ValueError:
            continue
        if not isinstance(line, dict):
            continue
        if line.get("format") == ccn_export.FORMAT:
            return "ccn-export"
        if isinstance(line.get("type"), str) and ("message" in line or _TRANSCRIPT & line.keys()):
            return "claude-code"
        if "mapping" in line or "chat_messages" in line:
            return None
        if "messages" in line:
            return "jsonl"
        if {"role", "content", "author", "sender"} & line.keys():
            return "jsonl"
    return None


def _plain_lines(file: Readable, name: str, options: Options) -> Iterator[Item]:
    """One message a line, or one conversation ({"messages": [...]}) a line."""
    plain = openai_chats.Plain(name, options)
    for where, line in json_lines(file, name):
        if isinstance(line, Skipped):
            yield line
            continue
        if isinstance(line, dict) and isinstance(line.get("messages"), list):
            yield from openai_chats.listed(line, name, options, where)
        else:
            yield from plain.message(line, where)


def _object(file: Readable, name: str, options: Options, wanted: str | None) -> Iterator[Item]:
    try:
        value = load(whole(file))
    except ValueError as error:
        raise BadInput(
            f"{name} cannot be read ({error}); if it is lines of JSON, say so with --format jsonl or claude-code"
        ) from error
    listed = value.get("conversations") if isinstance(value, dict) else None
    for place, one in enumerate(listed if isinstance(listed, list) else [value], 1):
        where = f"{name}, conversation {place}"
        if not isinstance(one, dict):
            yield Skipped("a conversation that is no object", where)
        elif (parse := _of_conversation(one, name, options, where)) is None:
            raise _unknown(name)
        else:
            format_, found = parse
            _must_be(wanted, format_, name=name)
            yield from found


# ---- arrays --------------------------------------------------------------------------------------------


def _of_conversation(
    value: dict[str, Json], name: str, options: Options, where: str
) -> tuple[str, Iterator[Item]] | None:
    if "chat_messages" in value:
        return "claude-export", claude_export.conversation(value, options, where)
    if "mapping" in value:
        return "openai", openai_chats.conversation(value, options, where)
    if "messages" in value:
        return "openai", openai_chats.listed(value, name, options, where)
    return None


def _array(file: Readable, name: str, options: Options, wanted: str | None) -> Iterator[Item]:
    """Conversations, or messages with role and content: each element says which."""
    plain = openai_chats.Plain(name, options)
    understood = False
    number = 0
    try:
        for number, data in elements(file):
            where = f"{name}, element {number}"
            if data is None:
                yield Skipped("a conversation that is too large", where)
                continue
            try:
                value = load(data)
            except ValueError as error:
                yield Skipped(str(error), where)
                continue
            if not isinstance(value, dict):
                yield Skipped("an element that is no object", where)
            elif (parse := _of_conversation(value, name, options, where)) is not None:
                format_, found = parse
                _must_be(wanted, format_, name=name)
                understood = True
                yield from found
            elif {"role", "author", "sender"} & value.keys():
                _must_be(wanted, "openai", name=name)
                understood = True
                yield from plain.message(value, where)
            else:
                yield Skipped("an element that is neither a conversation nor a message", where)
    except Truncated as error:
        understood = True
        yield Skipped(str(error), f"{name}, after element {number}")
    if number and not understood:
        raise _unknown(name)
