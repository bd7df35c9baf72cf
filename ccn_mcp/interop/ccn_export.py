"""Our own export, `ccn.export/1`: messages of another store, imported as a record about that one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ccn_mcp.domain.imported import (
    Chat,
    Item,
    Said,
    Skipped,
    digest,
    original_id,
    role_of,
    text_at,
    word,
)
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.models import Body
from ccn_mcp.domain.projection import said_us
from ccn_mcp.interop.reading import Readable, json_lines

FORMAT: Final = "ccn.export/1"
KNOWN_MAX: Final = 100_000
"""Conversations of one file whose titles are kept in mind."""

_STORE: Final = re.compile(r"[0-9a-f]{32}")
_HEAD: Final = re.compile(r"\d{1,19}:[0-9a-f]{32}")


def items(file: Readable, name: str) -> Iterator[Item]:
    """What an export holds; nothing but a reason if its first line does not say of which store it is."""
    old: Body | None = None
    chats: dict[str, Chat] = {}
    current: Chat | None = None
    for where, line in json_lines(file, name):
        if isinstance(line, Skipped):
            yield line
            continue
        if not isinstance(line, dict):
            yield Skipped("a line that is no object", where)
        elif old is None:
            if (old := _old_store(line)) is None:
                yield Skipped("an export whose first line does not name its store and head", where)
                return
        elif (chat := _chat(line, str(old["store"]), chats)) is None:
            yield Skipped("a line without a conversation", where)
        else:
            if chat != current:
                current = chat
                yield chat
            yield _said(line, old, where)


def _old_store(line: dict[str, Json]) -> Body | None:
    store, head = line.get("store_id"), line.get("head")
    if not (isinstance(store, str) and isinstance(head, str)):
        return None
    return {"store": store, "head": head} if _STORE.fullmatch(store) and _HEAD.fullmatch(head) else None


def _chat(line: dict[str, Json], store: str, chats: dict[str, Chat]) -> Chat | None:
    own = original_id(line.get("conversation_id"))
    if own is None:
        return None
    if own not in chats:
        if len(chats) >= KNOWN_MAX:
            chats.clear()
        about = line.get("conversation")
        of = about if isinstance(about, dict) else {}
        session = f"ccn:{store}:{own}"
        chats[own] = Chat(
            FORMAT,
            session if len(session) <= 200 else f"ccn:{digest(store, own)}",
            f"{store}:{own}",
            text_at(of, "title"),
            text_at(of, "scope"),
        )
    return chats[own]


def _said(line: dict[str, Json], old: Body, where: str) -> Item:
    seq, text, role = line.get("seq"), line.get("text"), role_of(line.get("role"))
    if line.get("erased") is True:
        return Skipped("erased in the store it comes from", where)
    if isinstance(seq, bool) or not isinstance(seq, int) or not 0 <= seq < 2**53:
        return Skipped("a message without its place in the old record", where)
    if role is None or not isinstance(text, str):
        return Skipped(f"unknown role: {word(line.get('role'))}" if role is None else "empty", where)
    about: Body = {**old, "seq": seq}
    if isinstance(source := line.get("source"), str):
        about["source"] = word(source)
    when = said_us({"said_at": line.get("said_at"), "at": line.get("time")})
    return Said(str(seq), role, text, when, original_id(line.get("name")), about)
