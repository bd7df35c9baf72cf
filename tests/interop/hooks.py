"""Hook payloads as Claude Code 2.1.330 sends them, and its transcript lines; `Claude` calls our program with them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ccn_mcp.interop import trouble

Json = dict[str, Any]
HOOK_WAIT_S: Final = 60


@dataclass
class Claude:
    """One session of Claude Code, as its hooks see it."""

    root: Path
    session: str = "d7c9e9e8-78ce-4648-ad65-59d224b31b21"
    ahead_s: int = 0
    model: str = ""

    @property
    def db(self) -> Path:
        return self.root / "record.db"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def work(self) -> Path:
        folder = self.root / "work"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def transcript(self) -> Path:
        folder = self.root / "projects" / "-work"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.session}.jsonl"

    def run(self, event: str, *more: str, stdin: bytes, complains: str = "", **environment: str) -> str:
        """What the hook prints; it ends with 0 and says nothing on standard error but what it `complains`."""
        given = {
            "CCN_DB": str(self.db),
            "CCN_CONFIG_DIR": str(self.config),
            "CLAUDE_PROJECT_DIR": str(self.work),
        }
        done = subprocess.run(
            [sys.executable, "-m", "ccn_mcp", "hook", event, *more],
            input=stdin,
            capture_output=True,
            cwd=self.work,
            env={"PATH": os.defpath, "HOME": str(self.root), **given, **environment},
            timeout=HOOK_WAIT_S,
            check=False,
        )
        assert (done.returncode, done.stderr.decode()[: len(complains) or None]) == (0, complains)
        return done.stdout.decode()

    def hook(self, event: str, *more: str, environment: dict[str, str] | None = None, **fields: Any) -> str:
        """An event with the fields that every event has, and these."""
        given = {
            "session_id": self.session,
            "transcript_path": str(self.transcript),
            "cwd": str(self.work),
            **fields,
        }
        return self.run(event, *more, stdin=json.dumps(given).encode(), **(environment or {}))

    def start(self, source: str = "startup", part: str = "1") -> str:
        """What is injected."""
        out = self.hook("session-start", part, hook_event_name="SessionStart", source=source)
        return str(json.loads(out)["hookSpecificOutput"]["additionalContext"]) if out else ""

    def asks(self, prompt: str, text: str, *, hooked: bool = True, **line: Any) -> None:
        """The person says something: the hook, then the transcript's line."""
        if hooked:
            self.hook("user-prompt-submit", prompt_id=prompt, prompt=text)
        self.line("user", text, promptId=prompt, **line)

    def answers(self, text: str, **line: Any) -> None:
        """A block of text in the transcript."""
        self.line("assistant", [{"type": "text", "text": text}], **line)

    def uses_tool(self, prompt: str) -> None:
        """A tool's use and its result in the transcript."""
        self.line("assistant", [{"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}])
        result = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "hi"}]
        self.line("user", result, promptId=prompt, toolUseResult={"stdout": "hi"})

    def stops(self, prompt: str, last: str, *, active: bool = False) -> None:
        """The hook at the end of an answer; the transcript does not have the last text yet."""
        self.hook("stop", prompt_id=prompt, last_assistant_message=last, stop_hook_active=active)

    def line(self, role: str, content: Any, **fields: Any) -> None:
        self.ahead_s += 1
        when = datetime.fromtimestamp(time.time() + self.ahead_s, UTC)
        stamp = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message = {"role": role, "content": content}
        if role == "assistant" and self.model:
            message["model"] = self.model
        item = {"type": role, "isSidechain": False, "message": message, "timestamp": stamp, **fields}
        with self.transcript.open("a") as out:
            out.write(json.dumps(item) + "\n")

    def bodies(self, kind: int = 1, session: str | None = None) -> list[Json]:
        """What the log holds of this kind in the session's conversation, oldest first."""
        if not self.db.exists():
            return []
        with closing(sqlite3.connect(self.db)) as store:
            rows = store.execute(
                "SELECT e.body FROM record r JOIN entry e USING (seq) JOIN record o ON o.conversation = r.conversation "
                "WHERE r.kind = ? AND o.kind = 10 AND json_extract(CAST((SELECT body FROM entry WHERE seq = o.seq) "
                "AS TEXT), '$.session') = ? ORDER BY r.seq",
                (kind, session or self.session),
            ).fetchall()
        return [json.loads(body) for (body,) in rows]

    def recorded(self, session: str | None = None) -> list[tuple[str, str]]:
        """Role and text of every message of the session's conversation, oldest first."""
        return [(body["role"], body["text"]) for body in self.bodies(1, session)]

    def troubles(self) -> list[str]:
        """What hooks could not do."""
        return trouble.read(self.config)
