"""A server process spoken to line by line: no client SDK stands between a test and the bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Final, Self

from tests.clients.harness import ROOT, bare_environment

ANSWER_S_MAX: Final = 30.0


class Server:
    """`with Server(db) as server: server.call(...)`. Its stderr is read on, so that it never blocks."""

    def __init__(self, db: Path, **environment: str) -> None:
        env = {**bare_environment(db.parent.parent / "home"), **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ccn_mcp", "serve", "--db", str(db)],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines: Queue[bytes] = Queue()
        self.errors: list[bytes] = []
        self.count = 0
        self.threads = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        self.request(
            "initialize",
            {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "wire", "version": "1"},
            },
        )
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()

    def end(self) -> tuple[int, str]:
        """Wait for the end; the exit status and what came on stderr."""
        status = self.process.wait(ANSWER_S_MAX)
        for thread in self.threads:
            thread.join(ANSWER_S_MAX)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        return status, b"".join(self.errors).decode()

    def raw(self, line: bytes) -> None:
        """Bytes as they are, and the end of the line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def send(self, message: Mapping[str, Any]) -> None:
        self.raw(json.dumps(message).encode())

    def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer; notifications in between are passed over."""
        self.count += 1
        self.send({"jsonrpc": "2.0", "id": self.count, "method": method, "params": params})
        return self.answer(self.count)

    def answer(self, wanted: int) -> dict[str, Any]:
        """The answer to a request. Every line must be a JSON-RPC message."""
        while True:
            try:
                line = self.lines.get(timeout=ANSWER_S_MAX)
            except Empty:
                raise AssertionError(f"no answer to {wanted} in {ANSWER_S_MAX:g} s") from None
            message: dict[str, Any] = json.loads(line)
            assert message["jsonrpc"] == "2.0"
            if message.get("id") == wanted and "method" not in message:
                return message

    def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A tool's result as it stands on the wire."""
        answer = self.request("tools/call", {"name": name, "arguments": arguments})
        result: dict[str, Any] = answer["result"]
        return result

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)
