"""A command of this program in a terminal of its own, typed at and read like one."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cli.conftest import RUN_S_MAX, environment


class Terminal:
    """`with Terminal("chat") as terminal:`; what was not read yet is looked through by `wait_for`."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.screen = ""
        self._seen = 0
        self._terminal, other = pty.openpty()
        self.running = subprocess.Popen(
            [sys.executable, "-m", "ccn_mcp", *arguments],
            env=environment(TERM="xterm", **(env or {})),
            stdin=other,
            stdout=other,
            stderr=other,
            preexec_fn=lambda: os.login_tty(other),
        )
        os.close(other)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running.poll() is None:
            self.running.send_signal(signal.SIGKILL)
        self.running.wait(RUN_S_MAX)
        os.close(self._terminal)

    def type(self, line: str) -> None:
        """A line and Enter."""
        os.write(self._terminal, f"{line}\r".encode())

    def press(self, key: str) -> None:
        """A key, such as Ctrl-C."""
        os.write(self._terminal, key.encode())

    def wait_for(self, text: str) -> str:
        """What came on the screen since the last call, up to and with `text`."""
        until = time.monotonic() + RUN_S_MAX
        while (at := self.screen.find(text, self._seen)) < 0:
            assert self._read(until), f"{text!r} did not come; the screen has:\n{self.screen[self._seen :]}"
        begun, self._seen = self._seen, at + len(text)
        return self.screen[begun : self._seen]

    def wait_until_it_waits(self) -> None:
        """Until the program sleeps for the next key: a signal that comes earlier waits for that key."""
        stat = Path(f"/proc/{self.running.pid}/stat")
        until = time.monotonic() + RUN_S_MAX
        while stat.read_text().rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < until, "it keeps on running"

    def rest(self) -> tuple[int, str]:
        """The exit status, and all that was not looked at yet."""
        until = time.monotonic() + RUN_S_MAX
        while self._read(until):
            pass
        return self.running.wait(RUN_S_MAX), self.screen[self._seen :]

    def _read(self, until: float) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], max(0.0, until - time.monotonic()))
        try:
            piece = os.read(self._terminal, 65_536) if ready else b""
        except OSError:  # Linux's way to say that the other side is gone
            piece = b""
        self.screen += piece.decode("utf-8", "replace")
        return bool(piece)
