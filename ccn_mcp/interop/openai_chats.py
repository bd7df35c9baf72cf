"""OpenAI-style JSON: ChatGPT's export (a tree in `mapping`) and plain lists of messages with role and content."""

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
from ccn_mcp.domain.models import Body
from ccn_mcp.interop import blocks

FORMAT: Final = "openai"
PLAIN: Final = "plain"
TIMES: Final = ("timestamp", "created_at", "create_time", "time", "at", "date")
CHATS: Final = ("conversation_id", "session_id", "sessionId", "thread_id", "conversation")
_HIDDEN: Final = ("user_editable_context", "model_editable_context", "reasoning_recap")


# ---- ChatGPT's export ----------------------------------------------------------------------------------


def conversation(value: dict[str, Json], options: Options, where: str) -> Iterator[Item]:
    """One conversation of a ChatGPT export: the path to its current message, then the other branches, flagged."""
    mapping = value.get("mapping")
    if not isinstance(mapping, dict):
        yield Skipped("a conversation without messages", where)
        return
    nodes = {own: node for own, node in mapping.items() if isinstance(node, dict)}
    origin = (
        next(
            (
                found
                for name in ("conversation_id", "id")
                if (found := original_id(value.get(name))) is not None
            ),
            None,
        )
        or f"digest:{digest(*nodes)}"
    )
    said = {
        own: message if isinstance(message := node.get("message"), dict) else {}
        for own, node in nodes.items()
    }
    current = value.get("current_node")
    path = newest_path(
        {
            own: parent if isinstance(parent := node.get("parent"), str) else None
            for own, node in nodes.items()
        },
        {own: micros(message.get("create_time")) for own, message in said.items()},
        current if isinstance(current, str) else None,
    )
    title = text_at(value, "title")
    yield Chat(FORMAT, f"chatgpt:{origin}", origin, title)
    for own in _in_order(nodes, path):
        yield from _node(own, said[own], options, where, {})
    others = [own for own in nodes if own not in path and said[own]]
    if others:
        yield Chat(
            FORMAT, f"chatgpt:{origin}{OTHER_BRANCHES}", origin, f"{title or 'Untitled'} (other branches)"
        )
        for own in others:
            yield from _node(own, said[own], options, where, {"alternate": True})


def _in_order(nodes: dict[str, dict[str, Json]], path: set[str]) -> list[str]:
    """The path from its root on: the order of a mapping's names says nothing."""
    parents = {own: parent for own in path if isinstance(parent := nodes[own].get("parent"), str)}
    inner = set(parents.values())
    at: str | None = next((own for own in nodes if own in path and own not in inner), None)
    order: list[str] = []
    known: set[str] = set()
    while at is not None and at in path and at not in known:
        known.add(at)
        order.append(at)
        at = parents.get(at)
    order.reverse()
    return order if len(order) == len(path) else [own for own in nodes if own in path]


def _node(own: str, message: dict[str, Json], options: Options, where: str, about: Body) -> Iterator[Item]:
    author, content, metadata = message.get("author"), message.get("content"), message.get("metadata")
    if not isinstance(author, dict) or not isinstance(content, dict):
        if message:
            yield Skipped("a message without author or content", where)
        return  # the root of a tree has no message
    if isinstance(metadata, dict) and metadata.get("is_visually_hidden_from_conversation") is True:
        yield Skipped("hidden in the conversation", where)
        return
    role, kind = role_of(author.get("role")), content.get("content_type")
    if role is None:
        yield Skipped(f"unknown role: {word(author.get('role'))}", where)
        return
    said = Said(
        original_id(message.get("id")) or original_id(own) or digest(own),
        role,
        "",
        micros(message.get("create_time")),
        None,
        about,
    )
    if kind in _HIDDEN:
        yield Skipped(f"not said: {word(kind)}", where)
    elif role == "tool":
        yield Skipped("tool result", where)
    elif kind == "code":
        yield blocks.tool_use(None, message.get("recipient"), content.get("text"), options, said, 0, where)
    elif kind == "thoughts":
        thoughts = content.get("thoughts")
        yield from blocks.said_in(
            [{**one, "type": "thinking"} for one in thoughts if isinstance(one, dict)]
            if isinstance(thoughts, list)
            else [{"type": "thinking"}],
            options,
            said,
            where,
        )
    elif kind in ("text", "multimodal_text"):
        parts = content.get("parts")
        yield from blocks.said_in(_typed(parts), options, said, where)
    else:
        yield Skipped(f"unknown block: {word(kind)}", where)


def _typed(parts: Json) -> Json:
    return [
        {**part, "type": part.get("content_type")} if isinstance(part, dict) else part
        for part in (parts if isinstance(parts, list) else [])
    ]


# ---- lists of messages ---------------------------------------------------------------------------------


class Plain:
    """Messages with role and content, one after the other; ids and conversations are theirs where they have any.

    Without ids a message is known by what was said up to it, so a list that has grown is recognised; without a
    conversation's id the file's name and its first message stand for it.
    """

    def __init__(
        self, name: str, options: Options, session: str | None = None, title: str | None = None
    ) -> None:
        self._name = name
        self._options = options
        self._session = session
        self._title = title
        self._current: Chat | None = None
        self._chain = ""

    def message(self, value: Json, where: str) -> Iterator[Item]:
        """One message, with its conversation before it where that is another one."""
        if not isinstance(value, dict):
            yield Skipped("a message that is no object", where)
            return
        author = value.get("author")
        named = value.get(
            "role", value.get("sender", author.get("role") if isinstance(author, dict) else author)
        )
        content = value.get("content", value.get("text"))
        role = role_of(named)
        if role is None:
            yield Skipped(f"unknown role: {word(named)}", where)
            return
        when = next((found for name in TIMES if (found := micros(value.get(name))) is not None), None)
        self._chain = digest(self._chain, role, repr(content))
        own = _first_id(value, "id", "uuid", "message_id")
        chat = self._chat(value, when)
        if chat != self._current:
            self._current = chat
            yield chat
        said = Said(own or f"digest:{self._chain}", role, "", when, original_id(value.get("name")))
        if role == "tool":
            yield Skipped("tool result", where)
            return
        calls = value.get("tool_calls")
        for place, call in enumerate(calls if isinstance(calls, list) else []):
            does = call.get("function") if isinstance(call, dict) else None
            given = does if isinstance(does, dict) else {}
            ident = call.get("id") if isinstance(call, dict) else None
            yield blocks.tool_use(
                ident, given.get("name"), given.get("arguments"), self._options, said, place, where
            )
        if content is not None or not calls:
            yield from blocks.said_in(content, self._options, said, where)

    def _chat(self, value: dict[str, Json], when: int | None) -> Chat:
        named = _first_id(value, *CHATS)
        if named is None:
            if self._session is None:
                self._session = f"digest:{digest(self._name, self._chain, str(when))}"
            named = self._session
        session = f"{PLAIN}:{named}"
        return Chat(PLAIN, session if len(session) <= 200 else f"{PLAIN}:{digest(named)}", named, self._title)


def listed(value: dict[str, Json], name: str, options: Options, where: str) -> Iterator[Item]:
    """A conversation of the form {"messages": [...]}, with an id and a title if it has them."""
    messages = value.get("messages")
    own = _first_id(value, "id", "uuid", *CHATS)
    plain = Plain(name, options, own, text_at(value, "title", "name"))
    for place, message in enumerate(messages if isinstance(messages, list) else [], 1):
        yield from plain.message(message, f"{where}, message {place}")


def _first_id(value: dict[str, Json], *names: str) -> str | None:
    return next((found for name in names if (found := original_id(value.get(name))) is not None), None)
