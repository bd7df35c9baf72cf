"""Real Claude Code at a terminal, as a person sits before it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from tests.claude.stub import Stub
from tests.clients.harness import bare_environment
from tests.interop.real_claude import QUIET, RUN_S_MAX, Home, reach

ROWS: Final = 40
COLUMNS: Final = 120
POLL_S: Final = 0.1
READ_BYTES: Final = 65_536
STILL_POLLS: Final = 5
"""Looks in a row at which nothing came: the input line is drawn."""

_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
ESC: Final = b"\x1b"


class Terminal:
    """One session; what its status line said is in `told`, a line each time."""

    def __init__(self, home: Home, stub: Stub) -> None:
        self._home = home
        self._environment = {**bare_environment(home.root), **QUIET, **reach(stub), "TERM": "xterm-256color"}
        self._log = home.root / "status-line"
        self.screen = ""

    def __enter__(self) -> Self:
        self._answer_what_it_would_ask()
        self._process, self._terminal = pty.fork()
        if not self._process:
            os.chdir(self._home.work)
            os.execve(str(self._home.program), [str(self._home.program)], self._environment)  # noqa: S606 - no shell is wanted
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._terminal)

    @property
    def told(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def types(self, text: str) -> None:
        """A prompt and Enter, once it is on the screen."""
        self._writes(text.encode())
        self.waits_until(lambda: text in self.screen)
        self.is_still()
        self._writes(b"\r")

    def presses_escape(self) -> None:
        self._writes(ESC)

    def waits_until(self, so: Callable[[], bool]) -> None:
        """Until that is so, looking at the screen meanwhile."""
        until = time.monotonic() + RUN_S_MAX
        while not so():
            assert time.monotonic() < until, self.screen[-2_000:]
            self._looks()

    def is_still(self) -> None:
        """Until nothing more is drawn."""
        still = 0
        until = time.monotonic() + RUN_S_MAX
        while still < STILL_POLLS and time.monotonic() < until:
            still = 0 if self._looks() else still + 1

    def _looks(self) -> bool:
        if not select.select([self._terminal], [], [], POLL_S)[0]:
            return False
        self.screen += _CONTROL.sub(" ", os.read(self._terminal, READ_BYTES).decode("utf-8", "replace"))
        return True

    def _writes(self, data: bytes) -> None:
        os.write(self._terminal, data)

    def _answer_what_it_would_ask(self) -> None:
        """Its questions at a first start, and the status line of docs/claude-code.md, which is also written down."""
        file = self._home.root / ".claude.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        known |= {
            "hasCompletedOnboarding": True,
            "theme": "dark",
            "customApiKeyResponses": {
                "approved": [self._environment["ANTHROPIC_API_KEY"][-20:]],
                "rejected": [],
            },
            "projects": {str(self._home.work): {"hasTrustDialogAccepted": True}},
        }
        file.write_text(json.dumps(known))
        chosen = self._home.root / ".claude" / "settings.json"
        settings = json.loads(chosen.read_text()) if chosen.exists() else {}
        line = f"ccn-mcp hook statusline | tee -a '{self._log}'"
        settings["statusLine"] = {"type": "command", "command": line}
        chosen.write_text(json.dumps(settings))
