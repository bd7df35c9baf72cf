"""Exporting: a conversation, or all of them, as lines of JSON or Markdown, read in pages."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Final

from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.models import (
    Conversation,
    ConversationQuery,
    Message,
    MessageQuery,
    Record,
    RecordQuery,
)
from ccn_mcp.node.context import Context, iso, short_text
from ccn_mcp.node.conversations import require_conversation
from ccn_mcp.ports import Progress

FORMAT: Final = "ccn.export/1"
FORMATS: Final = ("jsonl", "markdown")
PAGE: Final = 50
"""Messages in memory at a time; each has at most `CONTENT_BYTES_MAX` bytes."""

CONVERSATIONS_PAGE: Final = 500
_LINE_ENDS: Final = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# What a terminal or an editor would act on instead of showing it.
_UNSHOWABLE: Final = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)
_MARKUP: Final = re.compile(r"([\\`*_{}\[\]<>()#+.!|~&$-])")


async def export_lines(
    ctx: Context,
    *,
    conversation_id: str | None = None,
    form: str = "jsonl",
    progress: Progress | None = None,
) -> AsyncIterator[str]:
    """Lines (without their ends) of the record as it stands now; what is recorded meanwhile is left out.

    `progress` is told of messages.

    Raises:
        BadInput: no such format. UnknownConversation.
    """
    if form not in FORMATS:
        raise BadInput(f"format is {form!r}; use one of: {', '.join(FORMATS)}")
    info = await ctx.store.info()
    wanted = short_text(conversation_id, "conversation_id")
    found = [await _one(ctx, wanted)] if wanted is not None else await _all(ctx, info.head.size)
    total = sum(item.messages for item in found)
    done = 0
    store_id = info.store_id.hex() if info.store_id is not None else None
    for line in (
        _markdown_head(store_id, info.head) if form == "markdown" else [_json_head(store_id, info.head)]
    ):
        yield line
    for conversation in found:
        if form == "markdown":
            for line in _markdown_conversation(conversation):
                yield line
        about: Conversation | None = conversation  # said once, with its first message
        async for message, erasure in _messages(ctx, conversation.id, info.head.size):
            done += 1
            if progress is not None:
                progress(done, max(done, total))
            if form == "jsonl":
                yield _json_message(message, erasure, about)
                about = None
                continue
            for line in _markdown_message(message, erasure):
                yield line


async def _one(ctx: Context, conversation: str) -> Conversation:
    """This conversation; an erased one is exported as its gaps.

    Raises:
        UnknownConversation.
    """
    found = await ctx.store.conversations(ConversationQuery(1, id=conversation, erased=True))
    return found[0] if found else await require_conversation(ctx, conversation)


async def _all(ctx: Context, size: int) -> list[Conversation]:
    """Every conversation opened before `size`, oldest first.

    The store lists by last activity, so one that is written to while the pages are read moves to the front;
    therefore the list is read again until nothing new is in it.
    """
    found: dict[str, Conversation] = {}
    while True:
        known = len(found)
        before: int | None = None
        while page := await ctx.store.conversations(
            ConversationQuery(CONVERSATIONS_PAGE, before=before, erased=True)
        ):
            found.update({item.id: item for item in page if item.seq < size})
            before = page[-1].last_seq
        if len(found) == known:
            return sorted(found.values(), key=lambda item: item.seq)


async def _messages(
    ctx: Context, conversation: str, size: int
) -> AsyncIterator[tuple[Message, Record | None]]:
    """Each message; with one that was erased, the redaction entry."""
    after = -1
    while True:
        page = await ctx.store.page(MessageQuery(conversation, PAGE, newest=False, before=size, after=after))
        gaps = tuple(str(message.seq) for message in page.messages if message.text is None)
        query = RecordQuery(kinds=(Kind.REDACTION,), subjects=gaps, limit=PAGE)
        erasures = {
            (record.body or {}).get("target"): record
            for record in (await ctx.store.records(query) if gaps else ())
        }
        for message in page.messages:
            yield message, erasures.get(str(message.seq))
        if len(page.messages) < PAGE:
            return
        after = page.messages[-1].seq


# ---- JSON, one message a line --------------------------------------------------------------------------


def _json_head(store_id: str | None, head: Head) -> str:
    return _json({"format": FORMAT, "store_id": store_id, "head": str(head)})


def _json_message(message: Message, erasure: Record | None, about: Conversation | None) -> str:
    more: dict[str, object] = {}
    if about is not None and not about.erased:
        more["conversation"] = {"title": about.title, "scope": about.scope}
    if message.said_us is not None:
        more |= {"said_at": message.said_us}
    if message.text is not None:
        more |= {"source": message.source}
    gap: dict[str, object] = {}
    if message.text is None:
        gap = {
            "erased": True,
            "redaction": erasure.seq if erasure is not None else None,
            "reason": _reason(erasure),
        }
    return _json(
        {
            "seq": message.seq,
            "n": message.n,
            "time": message.time_us,
            "at": iso(message.time_us),
            "conversation_id": message.conversation_id,
            "role": message.role,
            "name": message.name,
            "text": message.text,
            **more,
            **gap,
        }
    )


def _reason(erasure: Record | None) -> str | None:
    """Why, in the words of whoever erased it."""
    said = (erasure.body or {}).get("reason") if erasure is not None else None
    return said if isinstance(said, str) else None


def _json(value: dict[str, object]) -> str:
    line = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Line ends that JSON lets stand but some readers split at, and what a terminal would act on.
    return re.sub("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]", lambda found: f"\\u{ord(found[0]):04x}", line)


# ---- Markdown ------------------------------------------------------------------------------------------


def _markdown_head(store_id: str | None, head: Head) -> list[str]:
    about = (
        f"Exported from store {store_id or 'none'} at head {head}. Each message stands, word for word, in a "
        "quoted block; headings outside of such blocks are the export's own."
    )
    return ["# Conversations", "", about]


def _markdown_conversation(item: Conversation) -> list[str]:
    title = _inline(item.title) if item.title else "Erased conversation" if item.erased else "Untitled"
    return [
        "",
        f"## {title}",
        "",
        f"Conversation `{item.id}`, {'' if item.erased else f'scope {_inline(item.scope)}, '}{item.messages} messages",
    ]


def _markdown_message(message: Message, erasure: Record | None) -> list[str]:
    speaker = f" ({_inline(message.name)})" if message.name else ""
    heading = f"### {message.n}. {message.role}{speaker}, {iso(message.time_us)}, entry {message.seq}"
    if message.text is None:
        why = f": {_inline(reason)}" if (reason := _reason(erasure)) else ""
        by = f" by entry {erasure.seq}" if erasure is not None else ""
        return ["", heading, "", f"*erased*{by}{why}"]
    # A code block inside a quote: no line of it begins like a heading, and nothing in it is rendered.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", message.text)), default=0))
    lines = [_UNSHOWABLE.sub(_visible, line) for line in _LINE_ENDS.split(message.text)]
    return ["", heading, "", f"> {fence}text", *(f"> {line}" for line in lines), f"> {fence}"]


def _inline(text: str) -> str:
    """Foreign text as part of a line of ours: one line, no markup."""
    line = " ".join(_UNSHOWABLE.sub(_visible, _LINE_ENDS.sub(" ", text)).split())
    return _MARKUP.sub(r"\\\1", line)


def _visible(found: re.Match[str]) -> str:
    return f"\\u{{{ord(found[0]):x}}}"
