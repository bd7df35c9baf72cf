"""What can go wrong with a service, what it refuses, and its prompt cache: small classes for `stub.Stub`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Final

from tests.claude.stub import Answer, Exchange, Failure, Json, Reply, Request, parts, tokens_in

HELD_S_MAX: Final = 60.0
LOOKBACK_BLOCKS: Final = 20
MARKS_MAX: Final = 4


# ---- blocks --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thinking:
    """A thinking block. Its signature comes before its text, as current models send it."""

    thinking: str
    signature: str

    def block(self) -> Json:
        """As in a response that is not streamed."""
        return {"type": "thinking", "thinking": self.thinking, "signature": self.signature}

    def events(self) -> tuple[Json, list[Json]]:
        """The empty block and its deltas."""
        thoughts = [{"type": "thinking_delta", "thinking": part} for part in parts(self.thinking)]
        first = {"type": "signature_delta", "signature": self.signature}
        return {"type": "thinking", "thinking": "", "signature": ""}, [first, *thoughts]


@dataclass(frozen=True)
class Unheard:
    """A block of a type that no SDK knows yet."""

    content: Json

    def block(self) -> Json:
        """As in a response that is not streamed."""
        return self.content

    def events(self) -> tuple[Json, list[Json]]:
        """It comes whole."""
        return self.content, []


# ---- faults after the first byte -----------------------------------------------------------------------


def until(reply: Reply, exchange: Exchange, deltas: int) -> Iterator[Json]:
    """The events of a reply up to and with that many deltas."""
    seen = 0
    for event in reply.events(exchange):
        if event["type"] == "content_block_delta":
            seen += 1
        yield event
        if seen == deltas:
            return


@dataclass(frozen=True)
class Cut:
    """A stream that breaks off after some deltas: the socket is closed, or reset."""

    reply: Reply
    deltas: int = 2
    reset: bool = False

    def send(self, exchange: Exchange) -> None:
        """The events before the break."""
        for event in until(self.reply, exchange, self.deltas):
            exchange.event(event)
        if self.reset:
            exchange.reset()
        else:
            exchange.cut()


@dataclass(frozen=True)
class CutAtTheEnd:
    """A stream whose every word came, and that breaks off before message_stop."""

    reply: Reply

    def send(self, exchange: Exchange) -> None:
        """All events but the last."""
        for event in self.reply.events(exchange):
            if event["type"] != "message_stop":
                exchange.event(event)
        exchange.cut()


@dataclass(frozen=True)
class ErrorInside:
    """An `error` event after some deltas, while the status of the response was 200."""

    reply: Reply
    kind: str = "overloaded_error"
    message: str = "Overloaded"
    deltas: int = 2

    def send(self, exchange: Exchange) -> None:
        """The events, then the error."""
        for event in until(self.reply, exchange, self.deltas):
            exchange.event(event)
        exchange.event({"type": "error", "error": {"type": self.kind, "message": self.message}})


@dataclass(frozen=True)
class NoStop:
    """A stream that ends in good order, but without message_delta and message_stop."""

    reply: Reply
    deltas: int = 2

    def send(self, exchange: Exchange) -> None:
        """The events before."""
        for event in until(self.reply, exchange, self.deltas):
            exchange.event(event)


@dataclass(frozen=True)
class Events:
    """These events, whatever they are."""

    events: tuple[Json, ...]

    def send(self, exchange: Exchange) -> None:
        """All of them."""
        for event in self.events:
            exchange.event(event)


@dataclass
class Held:
    """A stream that stops after some deltas and goes on when it is let go."""

    reply: Reply
    deltas: int = 2
    let_go: threading.Event = field(default_factory=threading.Event)

    def send(self, exchange: Exchange) -> None:
        """The events, with the pause between."""
        seen = 0
        for event in self.reply.events(exchange):
            exchange.event(event)
            seen += event["type"] == "content_block_delta"
            if seen == self.deltas and not self.let_go.wait(HELD_S_MAX):
                return


# ---- what the service refuses --------------------------------------------------------------------------


def checked(script: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    """The script, for requests that the service would take; a refusal for the others."""

    def answer(request: Request) -> Answer:
        why = refused(request)
        return script(request) if why is None else Failure(400, "invalid_request_error", why)

    return answer


def refused(request: Request) -> str | None:
    """Why the service would refuse a request of a current model; None if it would take it."""
    body = request.body
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        return "max_tokens: required, and at least 1"
    if {"temperature", "top_p", "top_k"} & body.keys():
        return "sampling parameters are not taken by this model"
    return _wrong_roles(request) or _wrong_blocks(request)


def _wrong_roles(request: Request) -> str | None:
    roles = [turn["role"] for turn in request.messages]
    if any(
        role == "system" and (at == 0 or roles[at - 1] != "user" or request.body["model"] in OLD)
        for at, role in enumerate(roles)
    ):
        return "messages: role system only after a user turn, and only for current models"
    spoken = [role for role in roles if role != "system"]
    if spoken[:1] != ["user"]:
        return "messages: first message must use the user role"
    if any(role == after for role, after in pairwise(spoken)):
        return "messages: roles must alternate"
    if spoken[-1] != "user":
        return "messages: this model does not take a prefilled assistant turn"
    return None


OLD: Final = ("claude-sonnet-4-5", "claude-opus-4-6")


def signature(model: str) -> str:
    """What this service signs a thought with."""
    return f"signed by {model}"


def _wrong_blocks(request: Request) -> str | None:
    marks: list[Json] = []
    for block in [
        *request.body.get("system", []),
        *(b for turn in request.messages for b in turn["content"]),
    ]:
        if block["type"] == "text" and not block["text"]:
            return "text content blocks must be non-empty"
        if block["type"] == "thinking":
            if block["signature"] != signature(request.body["model"]):
                return "Invalid `signature` in `thinking` block"
            if "cache_control" in block:
                return "cache_control cannot be set for thinking blocks"
        if "cache_control" in block:
            marks.append(block["cache_control"])
    if len(marks) > MARKS_MAX:
        return f"A maximum of {MARKS_MAX} blocks with cache_control may be provided"
    lives = [mark.get("ttl", "5m") for mark in marks]
    if lives != sorted(lives, reverse=True, key=lambda life: life == "1h"):
        return "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"
    return None


# ---- the prompt cache ----------------------------------------------------------------------------------


class PromptCache:
    """Answers with `reply`, and counts as the service does: prefixes by their exact bytes, up to marked blocks.

    A mark reads the longest kept prefix that ends at most 20 blocks before it, and keeps its own.
    """

    def __init__(self, reply: Callable[[Request], Reply]) -> None:
        self._reply = reply
        self._kept: set[str] = set()

    def __call__(self, request: Request) -> Answer:
        """The script."""
        reply = self._reply(request)
        reply.usage = {**self.count(request), **reply.usage}
        return reply

    def count(self, request: Request) -> Json:
        """The usage of a request; what it marks is kept."""
        blocks = [("system", block) for block in request.body.get("system", [])]
        blocks += [(turn["role"], block) for turn in request.messages for block in turn["content"]]
        digests, sizes, marks = [""], [0], {}
        for at, (role, block) in enumerate(blocks, 1):
            mark = block.get("cache_control")
            bare = {name: value for name, value in block.items() if name != "cache_control"}
            written = json.dumps([role, bare], ensure_ascii=False)
            digests.append(sha256((digests[-1] + written).encode()).hexdigest())
            sizes.append(sizes[-1] + tokens_in(bare))
            if mark is not None:
                marks[at] = mark.get("ttl", "5m")
        read = max(
            (
                at
                for mark in marks
                for at in range(max(1, mark - LOOKBACK_BLOCKS), mark + 1)
                if digests[at] in self._kept
            ),
            default=0,
        )
        written_by = {"5m": 0, "1h": 0}
        before = read
        for mark, life in marks.items():
            self._kept.add(digests[mark])
            written_by[life] += max(0, sizes[mark] - sizes[before])
            before = max(before, mark)
        created = {
            "ephemeral_5m_input_tokens": written_by["5m"],
            "ephemeral_1h_input_tokens": written_by["1h"],
        }
        return {
            "input_tokens": sizes[-1] - sizes[before],
            "cache_creation_input_tokens": sum(written_by.values()),
            "cache_read_input_tokens": sizes[read],
            "cache_creation": created,
        }
