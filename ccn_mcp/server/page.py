"""The panel without Claude: `ccn-mcp open` serves it to the person's own browser, to look and never to change.

Loopback only. A token that works once opens the door and becomes a cookie that scripts cannot read and other
sites cannot send; Host, Origin and the browser's own word on who asks (`Sec-Fetch-Site`) are checked each time.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import secrets
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import uvicorn

from ccn_mcp import data
from ccn_mcp.app import node_of
from ccn_mcp.domain.errors import BadInput, CcnError, NotFound
from ccn_mcp.node.context import Caller
from ccn_mcp.node.panel import panel_numbers
from ccn_mcp.node.series import REPORTS_DEFAULT, series
from ccn_mcp.server.http import Listener, Server, listen
from ccn_mcp.server.panel import FILE, META_KEY
from ccn_mcp.settings import DEFAULT_SCOPE, Settings

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from ccn_mcp.node.node import Node

HOST: Final = "127.0.0.1"
TOKEN_BYTES: Final = 32
FIELDS_MAX: Final = 20
"""Of one query string."""

QUERY_BYTES_MAX: Final = 8_192
CONNECTIONS_MAX: Final = 32
DRAIN_S_MAX: Final = 5
CHECKS_PER_IDLE: Final = 4

ASK_AGAIN: Final = "This address worked once. Run ccn-mcp open again and use the address that it prints.\n"
SAFE: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
NOTHING: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

Arguments = Mapping[str, str]


def policy(html: str) -> str:
    """The Content-Security-Policy of a page: its own inline script and style, by their hashes, and its own server."""
    allowed = []
    for directive, tag in (("script-src", "script"), ("style-src", "style")):
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts]
        allowed.append(" ".join([directive, *(f"'sha256-{found}'" for found in hashes)]))
    return f"{NOTHING}; connect-src 'self'; img-src data:; {'; '.join(allowed)}"


class Door:
    """A token that works once, and the cookie that it becomes."""

    def __init__(self, port: int) -> None:
        self._token: str | None = secrets.token_urlsafe(TOKEN_BYTES)
        self._secret = secrets.token_urlsafe(TOKEN_BYTES)
        self._name = f"ccn_page_{port}"  # browsers keep one jar for all ports of a host
        self.address = f"http://{HOST}:{port}/?token={self._token}"

    def exchange(self, given: str) -> str | None:
        """The Set-Cookie line for the token, once; None for anything else."""
        if self._token is None or not hmac.compare_digest(given.encode(), self._token.encode()):
            return None
        self._token = None
        return f"{self._name}={self._secret}; Path=/; HttpOnly; SameSite=Strict"

    def admits(self, cookies: str) -> bool:
        """Whether the cookie is among those that came."""
        try:
            found = SimpleCookie(cookies).get(self._name)
        except CookieError:
            return False
        return found is not None and hmac.compare_digest(found.value.encode(), self._secret.encode())


class Page:
    """The ASGI application: GET only, `/` and a few JSON answers under `/api/`."""

    def __init__(self, node: Node, door: Door, port: int) -> None:
        self._node = node
        self._door = door
        self._hosts = tuple(f"{name}:{port}" for name in (HOST, "localhost"))
        self._html = data.read(FILE)
        self._policy = policy(self._html.decode())
        self.asked = 0
        """Requests so far; whoever waits for quiet looks at it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        del receive  # a GET has no body
        if scope["type"] != "http":
            return
        self.asked += 1
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if (why := self._unwelcome(scope, headers)) is not None:
            await _text(send, 403 if scope["method"] == "GET" else 405, why)
        elif len(scope["query_string"]) > QUERY_BYTES_MAX:
            await _text(send, 414, "the question is too long\n")
        else:
            await self._answer(scope, headers, send)

    def _unwelcome(self, scope: Scope, headers: Mapping[str, str]) -> str | None:
        if scope["method"] != "GET":
            return "this page only shows; it takes GET\n"
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self._hosts or (origin is not None and origin != f"http://{host}"):
            return "this page is for the browser on this machine\n"
        site = headers.get("sec-fetch-site", "none")
        # Another site may not even show the page by a link: the token would be spent unseen.
        return None if site in ("none", "same-origin") else "another site asked for this\n"

    async def _answer(self, scope: Scope, headers: Mapping[str, str], send: Send) -> None:
        try:
            given = dict(parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=FIELDS_MAX))
        except ValueError:
            await _text(send, 400, "the question has too many parts\n")
            return
        path = scope["path"]
        if path == "/" and "token" in given:
            cookie = self._door.exchange(given["token"])
            if cookie is not None:
                await _send(
                    send, 303, b"", "text/plain", ((b"location", b"/"), (b"set-cookie", cookie.encode()))
                )
                return
        if not self._door.admits(headers.get("cookie", "")):
            await _text(send, 403, ASK_AGAIN)
        elif path == "/":
            await _send(send, 200, self._html, "text/html; charset=utf-8", policy=self._policy)
        elif (verb := _VERBS.get(path.removeprefix("/api/"))) is not None and path.startswith("/api/"):
            status, body = await _json(verb, self._node, given)
            await _send(send, status, body, "application/json")
        else:
            await _text(send, 404, "there is nothing here\n")


async def _json(
    verb: Callable[[Node, Arguments], Awaitable[Mapping[str, Any]]], node: Node, given: Arguments
) -> tuple[int, bytes]:
    try:
        return 200, json.dumps(await verb(node, given), ensure_ascii=False).encode()
    except CcnError as error:
        status = 404 if isinstance(error, NotFound) else 400 if isinstance(error, BadInput) else 500
        return status, json.dumps({"error": error.code, "detail": str(error)}).encode()


async def _text(send: Send, status: int, text: str) -> None:
    await _send(send, status, text.encode(), "text/plain; charset=utf-8")


async def _send(
    send: Send,
    status: int,
    body: bytes,
    kind: str,
    more: Iterable[tuple[bytes, bytes]] = (),
    policy: str = NOTHING,
) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"content-security-policy", policy.encode()),
        *SAFE,
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# ---- what can be asked: the tools' own answers, so that the page is the panel's ----------------------------


def _number(given: Arguments, name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise BadInput(f"{name} is {text[:40]!r}; give a whole number from 0")
    return int(text)


async def _consensus(node: Node, given: Arguments) -> Mapping[str, Any]:
    status = await node.consensus_status(instance_id=given.get("instance_id"), for_person=True)
    numbers = await panel_numbers(node.ctx, all_scopes=node.ctx.settings.scope == DEFAULT_SCOPE)
    return {"structuredContent": status, "_meta": {META_KEY: numbers}}


async def _history(node: Node, given: Arguments) -> Mapping[str, Any]:
    scope = node.ctx.settings.scope
    found = await node.get_history(
        conversation_id=given.get("conversation_id"),
        query=given.get("query"),
        order=given.get("order", "newest"),
        before=_number(given, "before"),
        after=_number(given, "after"),
        role=given.get("role"),
        limit=_number(given, "limit"),
        offset=_number(given, "offset") or 0,
        # As `ccn-mcp history` does: a person at a terminal has no project.
        scope="*" if scope == DEFAULT_SCOPE else scope,
    )
    return {"structuredContent": found}


async def _verify(node: Node, given: Arguments) -> Mapping[str, Any]:
    return {"structuredContent": await node.verify_chain(known_head=given.get("known_head") or None)}


async def _series(node: Node, given: Arguments) -> Mapping[str, Any]:
    return {
        "structuredContent": await series(
            node.ctx,
            instance_id=given.get("instance_id"),
            conversation_id=given.get("conversation_id"),
            since=given.get("since"),
            limit=_number(given, "limit") or REPORTS_DEFAULT,
        )
    }


async def _status(node: Node, _: Arguments) -> Mapping[str, Any]:
    return {"structuredContent": await node.status()}


_VERBS: Final[Mapping[str, Callable[[Node, Arguments], Awaitable[Mapping[str, Any]]]]] = {
    "consensus_status": _consensus,
    "get_history": _history,
    "verify_chain": _verify,
    "series": _series,
    "status": _status,
}


# ---- serving -------------------------------------------------------------------------------------------


def serve_page(chosen: Settings, *, port: int, idle_s: float, ready: Callable[[str], None]) -> None:
    """Serve until a signal comes or nobody has asked for `idle_s` seconds; `ready` is given the address.

    Raises:
        BadInput: the port cannot be used.
    """
    listener = listen(HOST, port, auth=True)
    with listener.socket:
        asyncio.run(_serve(chosen, listener, idle_s, ready))


async def _serve(chosen: Settings, listener: Listener, idle_s: float, ready: Callable[[str], None]) -> None:
    door = Door(listener.port)
    async with node_of(chosen, Caller(source="cli", client="ccn-mcp open")) as node:
        page = Page(node, door, listener.port)
        stopped: list[signal.Signals] = []
        config = uvicorn.Config(
            page,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=DRAIN_S_MAX,
        )
        server = Server(config, stopped=stopped, stopping=asyncio.Event(), ready=lambda: ready(door.address))
        watching = asyncio.create_task(_end_when_idle(page, server, idle_s))
        try:
            await server.serve([listener.socket])
        finally:
            watching.cancel()


async def _end_when_idle(page: Page, server: Server, idle_s: float) -> None:
    quiet = 0
    while quiet < CHECKS_PER_IDLE:
        before = page.asked
        await asyncio.sleep(idle_s / CHECKS_PER_IDLE)
        quiet = quiet + 1 if page.asked == before else 0
    server.should_exit = True
