"""`ccn-mcp open` as a process, and what a browser would send to it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from tests.clients.harness import ROOT, bare_environment

WAIT_S_MAX: Final = 60.0


@dataclass(frozen=True)
class Shown:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def content(self) -> Any:
        return json.loads(self.body)["structuredContent"]


class PageServer:
    """`with PageServer(db, home) as page: page.get(...)`; `url` is the address that works once."""

    def __init__(self, db: Path, home: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ccn_mcp", "open", "--json", "--no-browser", "--db", str(db), *arguments],
            cwd=ROOT,
            env=bare_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._limit = threading.Timer(5 * WAIT_S_MAX, self.process.kill)
        self._limit.daemon = True
        self.url = ""

    def __enter__(self) -> Self:
        self._limit.start()
        assert self.process.stdout is not None
        lines = []
        while line := self.process.stdout.readline():
            lines.append(line)
            if line == "}\n":
                break
        assert lines, self.process.communicate()[1]
        self.url = json.loads("".join(lines))["url"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.end()

    def end(self) -> tuple[int, str]:
        """Wait for the end; the exit status and what was said on stderr."""
        _, said = self.process.communicate(timeout=WAIT_S_MAX)
        self._limit.cancel()
        return self.process.returncode, said

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def get(self, path: str, *, method: str = "GET", **headers: str) -> Shown:
        """One request with these headers (`_` stands for `-`)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S_MAX)
        try:
            connection.request(
                method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
            )
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Shown(response.status, found, response.read())
        finally:
            connection.close()

    def enter(self) -> str:
        """Spend the token; the Cookie header from then on."""
        address = urlsplit(self.url)
        shown = self.get(f"{address.path}?{address.query}")
        assert (shown.status, shown.headers["location"]) == (303, "/"), shown
        return shown.headers["set-cookie"].split(";")[0]
