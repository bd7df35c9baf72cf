"""An HTTP server process and the bytes that go to it: no client SDK stands between."""

from __future__ import annotations

import http.client
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from tests.clients.harness import ROOT, bare_environment

START_S_MAX: Final = 60.0
ANSWER_S_MAX: Final = 60.0
ACCEPT: Final = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
CLIENT_INFO: Final = {"name": "wire", "version": "1"}


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def message(self) -> dict[str, Any]:
        """The last JSON-RPC message in it, sent plainly or as a stream."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            data = [
                line[5:] for line in self.body.splitlines() if line.startswith(b"data:") and line[5:].strip()
            ]
            message: dict[str, Any] = json.loads(data[-1])
        else:
            message = json.loads(self.body)
        return message


class HttpServer:
    """`with HttpServer(db) as server: server.call(...)`. Everything of it is in the folder beside the store."""

    def __init__(self, db: Path, *arguments: str, **environment: str) -> None:
        self.config = db.parent.parent / "config"
        self.said: list[str] = []
        self._ready = threading.Event()
        self._numbers = itertools.count(1)
        self.url = ""
        home = bare_environment(db.parent.parent / "home")
        self.environment = {**home, "CCN_CONFIG_DIR": str(self.config), **environment}
        command = [sys.executable, "-m", "ccn_mcp", "serve", "--db", str(db), "--http", "0", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(START_S_MAX), self.said
        assert self.url, self.said
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.decode())
            if "serving at " in self.said[-1]:
                self.url = self.said[-1].split("serving at ")[1].strip()
            if "token" in self.said[-1]:
                self._ready.set()
        self._ready.set()

    def end(self) -> tuple[int, str]:
        """Wait for the end; the exit status and what came on stderr after the lines at the start."""
        status = self.process.wait(ANSWER_S_MAX)
        self._thread.join(ANSWER_S_MAX)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return status, "".join(self.said[2:])

    @property
    def token_file(self) -> Path:
        return self.config / "http-token"

    @property
    def authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token_file.read_text().strip()}"}

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def ask(self, method: str = "POST", body: Any = None, *, path: str = "/mcp", **headers: str) -> Answer:
        """One request with these headers and no others (`_` stands for `-`; `host` replaces the real one)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S_MAX)
        try:
            sent = json.dumps(body).encode() if not isinstance(body, bytes) else body
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, sent if body is not None else None, {**ACCEPT, **given})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    @contextmanager
    def stream(self, session: str) -> Iterator[http.client.HTTPResponse]:
        """A stream of the older revisions that the server has begun and not ended."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S_MAX)
        try:
            connection.request(
                "GET", "/mcp", headers={**ACCEPT, **self.authorization, "mcp-session-id": session}
            )
            yield connection.getresponse()
        finally:
            connection.close()

    def initialize(self) -> str:
        """Begin a session of the older revisions; returns its id."""
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT_INFO}
        opened = self.ask(body=request(0, "initialize", params), **self.authorization)
        assert opened.status == 200, opened
        session = opened.headers["mcp-session-id"]
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert self.ask(body=ready, mcp_session_id=session, **self.authorization).status == 202
        return session

    def call(self, name: str, arguments: Mapping[str, Any], session: str | None = None) -> Answer:
        """Call a tool: in a session of the older revisions, else as 2026-07-28 does it."""
        params: dict[str, Any] = {"name": name, "arguments": arguments}
        if session is not None:
            asked = request(next(self._numbers), "tools/call", params)
            return self.ask(body=asked, mcp_session_id=session, **self.authorization)
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": CLIENT_INFO,
        }
        return self.ask(
            body=request(next(self._numbers), "tools/call", params),
            mcp_protocol_version="2026-07-28",
            mcp_method="tools/call",
            mcp_name=name,
            **self.authorization,
        )


def request(number: int, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
