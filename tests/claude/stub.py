"""A Messages API on loopback whose model is a script: for the clients of this project's tests, real Claude Code too.

    with Stub([Reply(Text("hello"))]) as stub:   # or Stub(lambda request: Reply(...))
        client = anthropic.Anthropic(base_url=stub.url, api_key="stub")

It keeps a journal of every request that arrives, whatever its path, with its time. Answers stream in the real event
order. What a script returns only has to have `send(exchange)`: `Reply` and `Failure` are here, and the faults are
small classes of faults.py that call `exchange.event`, `exchange.json`, `exchange.cut` or `exchange.reset`.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias
from urllib.parse import urlsplit

Json: TypeAlias = dict[str, Any]

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
"""As the real service."""

IDLE_S_MAX: Final = 60.0
POLL_S: Final = 0.05
DELTA_CHARS: Final = 24
"""Characters of one content_block_delta: several for a sentence, so that a stream can be cut between two."""

BYTES_A_TOKEN: Final = 4


# ---- what a client asks --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """One request of the journal."""

    at: float
    """When its body had arrived, by `time.monotonic`."""

    method: str
    target: str
    headers: Mapping[str, str]
    """By lower-case name."""

    body: Any
    """The JSON; None without one."""

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @property
    def messages(self) -> list[Json]:
        """The conversation, each content as a list of blocks."""
        return [
            {**turn, "content": [{"type": "text", "text": said}] if isinstance(said, str) else said}
            for turn in self.body["messages"]
            for said in [turn["content"]]
        ]

    @property
    def tool_results(self) -> dict[str, Json]:
        """Every tool_result block of the conversation by the id of its tool_use, in order."""
        blocks = (block for turn in self.messages for block in turn["content"])
        return {block["tool_use_id"]: block for block in blocks if block["type"] == "tool_result"}


def text_of(block: Json) -> str:
    """All text of a tool_result."""
    content = block.get("content", "")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


# ---- what the scripted model answers -------------------------------------------------------------------


class Answer(Protocol):
    """What a script returns for a request."""

    def send(self, exchange: Exchange) -> None:
        """Write the whole response."""


class Block(Protocol):
    """A block of an assistant's message."""

    def block(self) -> Json:
        """As in a response that is not streamed."""

    def events(self) -> tuple[Json, list[Json]]:
        """The empty block and its deltas."""


@dataclass(frozen=True)
class Text:
    """A text block."""

    text: str

    def block(self) -> Json:
        """As in a response that is not streamed."""
        return {"type": "text", "text": self.text}

    def events(self) -> tuple[Json, list[Json]]:
        """The empty block and its deltas."""
        return {"type": "text", "text": ""}, [
            {"type": "text_delta", "text": part} for part in parts(self.text)
        ]


@dataclass(frozen=True)
class ToolUse:
    """A call of a tool by the model. `id` has to be unique in a conversation."""

    id: str
    name: str
    input: Json = field(default_factory=dict)

    def block(self) -> Json:
        """As in a response that is not streamed."""
        return {"type": "tool_use", "id": self.id, "name": self.name, "input": self.input}

    def events(self) -> tuple[Json, list[Json]]:
        """The empty block and its deltas: the input's JSON in pieces."""
        deltas = [
            {"type": "input_json_delta", "partial_json": part} for part in parts(json.dumps(self.input))
        ]
        return {**self.block(), "input": {}}, deltas


class Reply:
    """An assistant's message of these blocks. Without `stop_reason` it is tool_use where a tool is used."""

    def __init__(self, *blocks: Block, stop_reason: str = "", usage: Json | None = None) -> None:
        self.blocks = blocks
        used = any(isinstance(block, ToolUse) for block in blocks)
        self.stop_reason = stop_reason or ("tool_use" if used else "end_turn")
        self.usage = usage or {}

    def send(self, exchange: Exchange) -> None:
        """The message as JSON, or as the stream that was asked for."""
        if not exchange.request.body.get("stream"):
            exchange.json(200, self.message(exchange))
            return
        for event in self.events(exchange):
            exchange.event(event)

    def message(self, exchange: Exchange) -> Json:
        """The whole message."""
        blocks = [block.block() for block in self.blocks]
        spent = {
            "input_tokens": tokens_in(exchange.request.body),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": tokens_in(blocks),
            "service_tier": "standard",
        }
        return {
            "id": f"msg_stub_{exchange.number}",
            "type": "message",
            "role": "assistant",
            "model": exchange.request.body["model"],
            "content": blocks,
            "stop_reason": self.stop_reason,
            "stop_sequence": None,
            "usage": {**spent, **self.usage},
        }

    def events(self, exchange: Exchange) -> Iterator[Json]:
        """The events of the stream in the order of the real service."""
        whole = self.message(exchange)
        begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
        yield {"type": "message_start", "message": begun}
        for index, block in enumerate(self.blocks):
            empty, deltas = block.events()
            yield {"type": "content_block_start", "index": index, "content_block": empty}
            if index == 0:
                yield {"type": "ping"}
            for delta in deltas:
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        stopped = {"stop_reason": self.stop_reason, "stop_sequence": None}
        yield {"type": "message_delta", "delta": stopped, "usage": whole["usage"]}
        yield {"type": "message_stop"}


@dataclass(frozen=True)
class Failure:
    """An error response, such as Failure(529, "overloaded_error") or Failure(429, "rate_limit_error", …)."""

    status: int
    kind: str
    message: str = "scripted"
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, exchange: Exchange) -> None:
        """The error as the service words it."""
        error = {"type": self.kind, "message": self.message}
        body = {"type": "error", "error": error, "request_id": exchange.request_id}
        exchange.json(self.status, body, self.headers)


def tokens_in(value: Any) -> int:
    """A rough count that grows with the text, as real ones do; never 0."""
    return max(1, len(json.dumps(value, ensure_ascii=False).encode()) // BYTES_A_TOKEN)


def parts(text: str) -> list[str]:
    return [text[at : at + DELTA_CHARS] for at in range(0, len(text), DELTA_CHARS)] or [""]


# ---- the service ---------------------------------------------------------------------------------------


class Exchange:
    """One request and the means to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, request: Request, number: int) -> None:
        self.request = request
        self.number = number
        self.request_id = f"req_stub_{number}"
        self._handler = handler
        self._streams = False

    def json(self, status: int, body: Json, headers: Mapping[str, str] | None = None) -> None:
        """A whole response."""
        sent = json.dumps(body).encode()
        length = {"content-type": "application/json", "content-length": str(len(sent))}
        self._head(status, {**length, **(headers or {})})
        if self.request.method != "HEAD":
            self._handler.wfile.write(sent)

    def event(self, data: Json) -> None:
        """One event of a stream, named by its type; the first one begins the response."""
        if not self._streams:
            self._streams = True
            self._head(
                200, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
            )
        self._chunk(f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode())

    def cut(self) -> None:
        """Break the connection off, in the middle of whatever was sent."""
        self._streams = False
        self._handler.close_connection = True

    def reset(self) -> None:
        """Break the connection off as a machine does that forgot it: RST instead of an end."""
        self._handler.wfile.flush()
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.cut()
        self._handler.connection.close()

    def end(self) -> None:
        """Close the stream, if one was begun and not cut."""
        if self._streams:
            self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self._handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self._handler.send_response(status)
        for name, value in {"request-id": self.request_id, **headers}.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()


class Stub:
    """The service. `url` is its base; `journal` is every request so far, in the order of their arrival.

    A script that raises is answered with an error that clients do not repeat, and raises again when the block ends,
    so an assertion in a script is an assertion of the test.
    """

    def __init__(self, script: Iterable[Answer] | Callable[[Request], Answer]) -> None:
        self.journal: list[Request] = []
        self._script = script if callable(script) else _in_turn(script)
        self._turn = threading.Lock()
        self._failed: Exception | None = None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)

    @property
    def url(self) -> str:
        """What a client takes as its base URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def turns(self) -> list[Request]:
        """Those of the journal that asked for a message."""
        return [request for request in self.journal if _asks_for_message(request)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if self._failed is not None:
            raise self._failed

    def serve(self, handler: BaseHTTPRequestHandler, request: Request) -> None:
        """Answer one request."""
        with self._turn:
            self.journal.append(request)
            number = len(self.journal)
            answer = self._scripted(request) if _asks_for_message(request) else None
        exchange = Exchange(handler, request, number)
        if answer is None:
            status, body = _looked_up(request)
            exchange.json(status, body)
        else:
            answer.send(exchange)
            exchange.end()

    def _scripted(self, request: Request) -> Answer:
        try:
            return self._script(request)
        except Exception as error:  # noqa: BLE001 - any failure of a script is the test's, see the class
            self._failed = self._failed or error
            return Failure(400, "invalid_request_error", f"the script failed: {error!r}")


def _in_turn(answers: Iterable[Answer]) -> Callable[[Request], Answer]:
    left = iter(answers)
    spent = Failure(400, "invalid_request_error", "the script has no further answer")
    return lambda _: next(left, spent)


def _asks_for_message(request: Request) -> bool:
    return (request.method, request.path) == ("POST", "/v1/messages")


def _looked_up(request: Request) -> tuple[int, Json]:
    """What is answered without the script."""
    match request.method, request.path.strip("/").split("/"):
        case "POST", ["v1", "messages", "count_tokens"]:
            return 200, {"input_tokens": tokens_in(request.body)}
        case "GET", ["v1", "models"]:
            return 200, {"data": [], "has_more": False, "first_id": None, "last_id": None}
        case "GET", ["v1", "models", name]:
            return 200, {
                "type": "model",
                "id": name,
                "display_name": name,
                "created_at": "2026-01-01T00:00:00Z",
            }
    error = {"type": "not_found_error", "message": f"no {request.method} {request.path} here"}
    return 404, {"type": "error", "error": error}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    stub: Stub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own affair; anything else is shown as usual."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S_MAX
    server: _Server

    def do_POST(self) -> None:
        """Any request."""
        length = int(self.headers.get("content-length") or 0)
        if length > BODY_BYTES_MAX:
            self.send_error(413)
            return
        read = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.loads(read) if read else None
        self.server.stub.serve(self, Request(time.monotonic(), self.command, self.path, headers, body))

    do_GET = do_HEAD = do_PUT = do_DELETE = do_CONNECT = do_POST  # noqa: N815 - their names in the library

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the library
        """The journal says it."""
