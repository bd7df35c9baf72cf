"""Real Claude Code with the plugin, in an account of its own; its model is a script on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccn_mcp.interop import trouble
from tests.claude.stub import Answer, Exchange, Request, Stub, ToolUse
from tests.clients.harness import bare_environment
from tests.interop.hooks import Claude

ROOT: Final = Path(__file__).parents[2]
PLUGIN: Final = ROOT / "plugin"
RUN_S_MAX: Final = 120.0
POLL_S: Final = 0.05
QUIET: Final = {
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_MAX_RETRIES": "0",
}
GIVEN: Final = (
    *("--allowedTools", "Bash,mcp__plugin_ccn_ccn"),
    *("--output-format", "stream-json", "--verbose"),
)
BASH: Final = ToolUse("toolu_1", "Bash", {"command": "echo hi"})


@dataclass
class Home:
    """An account of its own with the plugin installed, and one project folder."""

    program: Path
    root: Path

    @property
    def record(self) -> Claude:
        """How the other tests look at the record; ask it with a session."""
        found = _Placed(self.root)
        found.place = self.root / ".local" / "share" / "ccn-mcp" / "ccn.db"
        return found

    @property
    def troubles(self) -> list[str]:
        return trouble.read(self.root / ".config" / "ccn-mcp")

    @property
    def work(self) -> Path:
        folder = self.root / "work"
        folder.mkdir(exist_ok=True)
        return folder

    def run(self, *arguments: str, ok: bool = True, **environment: str) -> str:
        done = subprocess.run(
            [str(self.program), *arguments],
            cwd=self.work,
            env={**bare_environment(self.root), **QUIET, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
            check=False,
        )
        assert not ok or done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
        return done.stdout

    def says(self, stub: Stub, prompt: str, *more: str, ok: bool = True, **environment: str) -> str:
        """One prompt in print mode; the session's id."""
        lines = self.run("-p", prompt, *GIVEN, *more, ok=ok, **reach(stub), **environment).splitlines()
        return str(next(item["session_id"] for line in lines if "session_id" in (item := json.loads(line))))

    def ccn(self, *arguments: str, stdin: str = "", ok: bool = True) -> str:
        """What our own program prints, called by the person in the project's folder."""
        done = subprocess.run(
            ["ccn-mcp", *arguments],
            cwd=self.work,
            env=bare_environment(self.root),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
            check=False,
        )
        assert not ok or done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
        return " ".join(done.stdout.split()) + "\n" if arguments[0] == "doctor" else done.stdout

    def begins(self, stub: Stub, prompt: str) -> subprocess.Popen[bytes]:
        """The same, left running."""
        return subprocess.Popen(
            [str(self.program), "-p", prompt, *GIVEN],
            cwd=self.work,
            env={**bare_environment(self.root), **QUIET, **reach(stub)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def reach(stub: Stub) -> dict[str, str]:
    return {"ANTHROPIC_BASE_URL": stub.url, "ANTHROPIC_API_KEY": "a-stub-takes-any"}


class _Placed(Claude):
    place: Path

    @property
    def db(self) -> Path:
        return self.place


def in_turn(*answers: Answer) -> Callable[[Request], Answer]:
    left = iter(answers)
    return lambda _: next(left)


def all_of(request: Request) -> str:
    return json.dumps(request.body, ensure_ascii=False)


class Stalls:
    """An answer that never comes; `began` is set once it was asked for."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.over = threading.Event()

    def send(self, exchange: Exchange) -> None:
        self.began.set()
        self.over.wait(RUN_S_MAX)
        exchange.cut()


class Talk:
    """A session that stays open: prompts and interrupts go in as JSON lines, as from an editor or an SDK."""

    def __init__(self, home: Home, stub: Stub, *more: str) -> None:
        self._home = home
        self._process = subprocess.Popen(
            [str(home.program), "-p", "--input-format", "stream-json", *GIVEN, *more],
            cwd=home.work,
            env={**bare_environment(home.root), **QUIET, **reach(stub)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def says(self, prompt: str) -> None:
        """A message of the person."""
        self._send({"type": "user", "message": {"role": "user", "content": prompt}})

    def interrupts(self) -> None:
        """What Esc does."""
        self._send({"type": "control_request", "request_id": "stop", "request": {"subtype": "interrupt"}})

    def changes_model(self, model: str) -> None:
        """What `/model` does."""
        wanted = {"subtype": "set_model", "model": model}
        self._send({"type": "control_request", "request_id": "model", "request": wanted})

    def turn_is_over(self) -> str:
        """Wait for that; the session's id."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if (told := json.loads(line)).get("type") == "result":
                return str(told["session_id"])
        raise AssertionError("Claude Code ended in the middle of a turn")

    def transcript(self, session: str) -> Path:
        """The session's transcript."""
        (found,) = self._home.root.glob(f".claude/projects/*/{session}.jsonl")
        return found

    def waits_for(self, path: Path) -> None:
        """Until something has made this file."""
        until = time.monotonic() + RUN_S_MAX
        while not path.exists():
            assert time.monotonic() < until, path
            time.sleep(POLL_S)

    def ends(self) -> None:
        """Close it as a person does."""
        self._process.communicate(timeout=RUN_S_MAX)

    def is_killed(self) -> None:
        """As by a crash: no hook is called any more."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate(timeout=RUN_S_MAX)

    def _send(self, what: dict[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
