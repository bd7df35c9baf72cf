"""Serving over HTTP: both eras of MCP at one address, one node for all clients, a token, a quiet end.

The token is the person's own, so whoever shows it is the principal `local`, as on stdio. It is in one file and
nowhere else: not in the store, not in a log, not in an error.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Final

import uvicorn

from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.limits import (
    HTTP_BODY_BYTES_MAX,
    HTTP_CONNECTIONS_MAX,
    HTTP_DRAIN_S_MAX,
    HTTP_HOST_DEFAULT,
    HTTP_KEEP_ALIVE_S_MAX,
    HTTP_SESSION_IDLE_S_MAX,
    HTTP_SESSIONS_MAX,
)
from ccn_mcp.server.token import TokenFile
from ccn_mcp.settings import Settings, for_many

if TYPE_CHECKING:
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH: Final = "/mcp"
LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
PORT_MAX: Final = 65_535
HTTP_PORT: Final = 80
"""Clients leave this one out of Host and Origin."""

BACKLOG: Final = 256
"""Connections that may wait to be accepted."""

_ADDRESS: Final = re.compile(r"(?:(\[[^\[\]]+\]|[^:\[\]]+):)?([0-9]{1,5})")
_NAME: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def parse_address(text: str) -> tuple[str, int]:
    """`8765`, `localhost:8765` or `[::1]:0` as host and port; without a host it is 127.0.0.1.

    Raises:
        BadInput: not an address.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found[2]) > PORT_MAX:
        raise BadInput(
            f"{text[:100]!r} is not [HOST:]PORT; write for example 8765, localhost:8765 or [::1]:8765 "
            f"(ports go to {PORT_MAX}, and 0 takes any that is free)"
        )
    return (found[1] or HTTP_HOST_DEFAULT).strip("[]"), int(found[2])


# ---- the address ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket, and what clients may call it in their Host header."""

    socket: socket.socket
    host: str
    loopback: bool

    @property
    def port(self) -> int:
        """The port, also where 0 was asked for."""
        port: int = self.socket.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://{_bracketed(self.host)}:{self.port}{PATH}"

    def security(self, names: Sequence[str]) -> TransportSecuritySettings:
        """Which Host and Origin headers are let in; pages of other origins are not, whoever serves them."""
        from mcp.server.transport_security import TransportSecuritySettings

        own = [*LOOPBACK_NAMES, _bracketed(self.host), *([] if self.loopback else [socket.gethostname()])]
        hosts = [f"{name}:{self.port}" for name in (*own, *names)] + [*names]
        origins = [f"http://{name}:{self.port}" for name in LOOPBACK_NAMES]
        if self.port == HTTP_PORT:
            hosts += own
            origins += [f"http://{name}" for name in LOOPBACK_NAMES]
        return TransportSecuritySettings(
            enable_dns_rebinding_protection=True, allowed_hosts=hosts, allowed_origins=origins
        )


def listen(host: str, port: int, *, auth: bool) -> Listener:
    """Bind the address.

    Raises:
        BadInput: no such host, in use, not allowed, or open to others without a token.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as exc:
        raise BadInput(
            f"{host!r} is no host that this machine knows; use 127.0.0.1 or a name of its own"
        ) from exc
    # `localhost` is two addresses; clients try the older one first or also.
    family, kind, number, _, address = min(found, key=lambda item: item[0] != socket.AF_INET)
    loopback = ipaddress.ip_address(address[0]).is_loopback
    if not (auth or loopback):
        raise BadInput(
            f"--no-auth is for this machine only, and {host} is open to others; leave --no-auth out, or serve "
            "on 127.0.0.1"
        )
    bound = socket.socket(family, kind, number)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)  # so that the address is taken while the SDK loads, and early clients wait
    except OSError as exc:
        bound.close()
        raise BadInput(
            f"cannot serve on {_bracketed(host)}:{port} ({exc.strerror}); choose another port, or 0 for any "
            "that is free"
        ) from exc
    return Listener(bound, host, loopback)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# ---- serving -------------------------------------------------------------------------------------------


class Gate:
    """Before the SDK: the token. Around it: streams that have no end of their own end with the server."""

    def __init__(self, app: ASGIApp, token: TokenFile | None, stopping: asyncio.Event) -> None:
        self._app = app
        self._token = token
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._token is not None:
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
            if scheme.lower() != b"bearer" or not self._token.opens(token.strip()):
                await _refuse(send, wrong=bool(given))
                return
        if scope["method"] == "GET" or (b"mcp-method", b"subscriptions/listen") in scope["headers"]:
            await self._until_stopped(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _until_stopped(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = ended = False

        async def watched(message: Message) -> None:
            nonlocal begun, ended
            begun = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        async def or_stopped() -> Message:
            waiting = [asyncio.ensure_future(receive()), asyncio.ensure_future(self._stopping.wait())]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                got = waiting[0]
                return got.result() if got.done() else {"type": "http.disconnect"}  # type: ignore[return-value]  # of receive()
            finally:
                for task in waiting:
                    task.cancel()

        await self._app(scope, or_stopped, watched)
        if begun and not ended and self._stopping.is_set():
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _refuse(send: Send, *, wrong: bool) -> None:
    said = "this is not the token" if wrong else "a token is needed"
    body = {
        "error": "invalid_token" if wrong else "unauthorized",
        "error_description": f"{said}; send `Authorization: Bearer TOKEN`; `ccn-mcp token show` shows it",
    }
    challenge = 'Bearer realm="ccn-mcp"' + (', error="invalid_token"' if wrong else "")
    text = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(text)).encode()),
        (b"www-authenticate", challenge.encode()),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class Server(uvicorn.Server):
    """uvicorn, but it ends with status 0, streams first, and a second signal changes nothing."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        stopped: list[signal.Signals],
        stopping: asyncio.Event,
        ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._stopped = stopped
        self._stopping = stopping
        self._ready = ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM let calls finish. uvicorn would raise them again at the end.

        The handler is a plain function on purpose: sse-starlette looks for uvicorn's bound method and cuts
        answers short as soon as it sees a signal there.
        """

        def stop(number: int, _: FrameType | None) -> None:
            self._stopped.append(signal.Signals(number))
            self.should_exit = True

        before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._stopping.set()
        await super().shutdown(sockets)


def serve_http(
    chosen: Settings,
    host: str,
    port: int,
    *,
    auth: bool = True,
    names: Sequence[str] = (),
    tell: Callable[[str], object] = sys.stderr.write,
) -> int:
    """Serve on `host` and `port` until a signal comes; returns the exit status.

    `names` are further Host headers that are let in, for a proxy that passes on its own. `tell` is given lines
    for the person: the address, the file of the token, warnings.

    Raises:
        BadInput: an address or a name that cannot be used. Refused: others can read the token.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise BadInput(f"{name[:100]!r} is not a host name; write for example ccn.example.org")
    listener = listen(host, port, auth=auth)
    with listener.socket:
        token = TokenFile(chosen) if auth else None
        if token is not None:
            token.ensure()

        from ccn_mcp.server.app import SWITCH_S, build_server  # the SDK; not needed to refuse an address

        stopped: list[signal.Signals] = []
        stopping = asyncio.Event()
        app = build_server(for_many(chosen), stopped=stopped).streamable_http_app(
            streamable_http_path=PATH,
            max_request_body_size=HTTP_BODY_BYTES_MAX,
            session_idle_timeout=HTTP_SESSION_IDLE_S_MAX,
            max_sessions=HTTP_SESSIONS_MAX,
            transport_security=listener.security(names),
        )
        gc.freeze()
        gc.enable()
        sys.setswitchinterval(SWITCH_S)
        server = Server(
            _config(Gate(app, token, stopping)),
            stopped=stopped,
            stopping=stopping,
            ready=lambda: _say(tell, listener, token),
        )
        try:
            asyncio.run(server.serve([listener.socket]))
        except SystemExit:  # uvicorn's way to say that the application did not start
            tell("ccn-mcp: the server could not start; ccn-mcp doctor looks for the reason\n")
            return 1
    return 0


def _config(app: Gate) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=HTTP_CONNECTIONS_MAX,
        timeout_keep_alive=HTTP_KEEP_ALIVE_S_MAX,
        timeout_graceful_shutdown=HTTP_DRAIN_S_MAX,
    )


def _say(tell: Callable[[str], object], listener: Listener, token: TokenFile | None) -> None:
    tell(f"ccn-mcp: serving at {listener.url}\n")
    if token is None:
        tell(
            "ccn-mcp: warning: without a token, every program on this machine can read and write the record\n"
        )
    else:
        tell(f"ccn-mcp: the token is in {token.path} (ccn-mcp token show)\n")
    if not listener.loopback:
        tell(
            "ccn-mcp: warning: HTTP hides nothing on a network, the token included; put a proxy with TLS before "
            "it\n"
        )
