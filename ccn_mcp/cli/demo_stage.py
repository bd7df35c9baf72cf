"""What the demo's steps stand on: client processes, claims that are checked, and printing."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ccn_mcp.cli import output
from ccn_mcp.cli.demo_client import CALL_S_MAX, START_S_MAX, config_of

LINE_BYTES_MAX: Final = 16_000_000
LEAVE_S_MAX: Final = 8.0

Json = dict[str, Any]


class NotShown(Exception):
    """A step did not show what it claims."""


def claim(truth: bool, what: str) -> None:
    """Go on only if it is true.

    Raises:
        NotShown.
    """
    if not truth:
        raise NotShown(what)


@dataclass(slots=True)
class Stage:
    """The throw-away store, what was found so far, and whether to print."""

    folder: Path
    quiet: bool = False
    facts: Json = field(default_factory=dict)
    step: str = ""
    number: int = 0

    @property
    def db(self) -> Path:
        """The store."""
        return self.folder / "ccn.db"

    @property
    def config(self) -> Path:
        """Its keys."""
        return config_of(self.db)

    @property
    def log(self) -> Path:
        """What the client and server processes say on stderr."""
        return self.folder / "stderr.txt"

    def begin(self, step: str, why: str) -> None:
        """Name the next step and say what happens in it."""
        self.step = step
        self.number += 1
        if not self.quiet:
            output.say()
            output.say(f"{self.number}. {step}", "bold cyan")
            output.tell(why)

    def show(self, *lines: str, style: str = "") -> None:
        """Real output, in short."""
        if not self.quiet:
            for line in lines:
                output.say(f"   {line}", style)


class Peer:
    """A client process of the demo. Every wait has an end."""

    def __init__(self, name: str, mode: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.mode = mode
        self.process = process
        self.protocol = ""
        self.tools: list[str] = []

    @classmethod
    async def start(cls, stage: Stage, name: str, mode: str) -> Peer:
        """Start the process; `ready` waits for its connection."""
        arguments = ["-m", "ccn_mcp.cli.demo_client", "--db", str(stage.db), "--name", name, "--mode", mode]
        with stage.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                limit=LINE_BYTES_MAX,
                **_apart(),
            )
        return cls(name, mode, process)

    async def ready(self) -> None:
        """Wait until the client has listed the server's tools."""
        hello = await self._read(START_S_MAX)
        self.protocol, self.tools = hello["protocol"], hello["tools"]

    async def call(self, tool: str, **arguments: Any) -> Json:
        """One tool call that has to succeed; returns `text`, `result` and `meta`."""
        answer = await self.ask({"tool": tool, "arguments": arguments})
        claim("error" not in answer, f"{tool} answered: {answer.get('error')}")
        return answer

    async def result(self, tool: str, **arguments: Any) -> Json:
        """The structured result of a call that has to succeed."""
        result: Json = (await self.call(tool, **arguments))["result"]
        return result

    async def ask(self, request: Json) -> Json:
        """One request, one answer."""
        if self.process.stdin is None:
            raise NotShown(f"{self.name} has no stdin")
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        with suppress(ConnectionError, TimeoutError):  # reading says it better
            async with asyncio.timeout(CALL_S_MAX):
                await self.process.stdin.drain()
        return await self._read(CALL_S_MAX * 2)

    async def _read(self, most_s: float) -> Json:
        if self.process.stdout is None:
            raise NotShown(f"{self.name} has no stdout")
        try:
            async with asyncio.timeout(most_s):
                line = await self.process.stdout.readline()
        except TimeoutError as exc:
            raise NotShown(f"{self.name} did not answer within {most_s:g} s") from exc
        claim(bool(line), f"{self.name} ended early")
        answer: Json = json.loads(line)
        return answer

    async def leave(self) -> None:
        """End the client, and with it its server: kindly, then not."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(LEAVE_S_MAX):
                await self.process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


def _apart() -> Json:
    """Ctrl-C goes to the demo alone; it ends its clients, and they their servers."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


@contextmanager
def ended_like_interrupted() -> Iterator[None]:
    """Treat a request to end like Ctrl-C, so that processes and files are cleaned up then too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
