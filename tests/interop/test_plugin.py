"""The plugin in real Claude Code, installed as a person installs it, its model a script on loopback.

The scripted model calls no tool of ours unless a test says so: what is recorded is recorded by the hooks.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp import __version__
from ccn_mcp.interop import trouble
from tests.claude.stub import Answer, Exchange, Failure, Reply, Request, Stub, Text, ToolUse, text_of
from tests.clients.harness import bare_environment
from tests.clients.npm import CLAUDE_CODE, LINUX_ONLY, fetched
from tests.interop.hooks import Claude

ROOT: Final = Path(__file__).parents[2]
PLUGIN: Final = ROOT / "plugin"
RUN_S_MAX: Final = 120.0
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


def test_the_plugin_has_the_version_of_the_program() -> None:
    assert json.loads((PLUGIN / ".claude-plugin" / "plugin.json").read_text())["version"] == __version__


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


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Home:
    made = Home(fetched(tmp_path_factory, CLAUDE_CODE) / "claude", tmp_path / "home")
    made.root.mkdir()
    made.run("plugin", "marketplace", "add", str(ROOT))
    made.run("plugin", "install", "ccn@ccn-mcp")
    return made


def in_turn(*answers: Answer) -> Callable[[Request], Answer]:
    left = iter(answers)
    return lambda _: next(left)


def all_of(request: Request) -> str:
    return json.dumps(request.body, ensure_ascii=False)


@pytest.mark.slow
@LINUX_ONLY
def test_it_validates_and_two_commands_install_it(home: Home) -> None:
    assert "Validation passed" in home.run("plugin", "validate", str(PLUGIN))
    assert "Validation passed" in home.run("plugin", "validate", str(ROOT))
    assert "ccn@ccn-mcp" in home.run("plugin", "list")


@pytest.mark.slow
@LINUX_ONLY
def test_both_sides_are_recorded_though_the_model_calls_no_tool(home: Home) -> None:
    with Stub(in_turn(Reply(Text("Before the tool."), BASH), Reply(Text("After “it” $HOME\n\tend")))) as stub:
        session = home.says(stub, 'Hello there,\nünï 🎉 "quoted" $PATH')
    first = all_of(stub.turns[0])
    assert "=== begin Plate " in first, "the Plate arrives"
    assert "a hook of the client records this session" in first
    said = [
        ("user", 'Hello there,\nünï 🎉 "quoted" $PATH'),
        ("assistant", "Before the tool."),
        ("assistant", "After “it” $HOME\n\tend"),
    ]
    assert home.record.recorded(session) == said
    assert home.record.bodies(9, session)[-1]["state"] == "terminated", "the end of the session is recorded"
    with Stub(in_turn(Reply(Text("Going on.")))) as stub:
        again = home.says(stub, "And now?", "--resume", session)
    assert again == session
    assert all_of(stub.turns[0]).count("=== begin Plate ") == first.count("=== begin Plate "), (
        "not twice on resume"
    )
    assert home.record.recorded(session) == [*said, ("user", "And now?"), ("assistant", "Going on.")]
    with Stub(in_turn(Reply(Text("I see.")))) as stub:
        second = home.says(stub, "What was said before?")
    assert second != session
    assert "Going on." in all_of(stub.turns[0]), "a second session sees the first one's messages"
    assert home.troubles == []


@pytest.mark.slow
@LINUX_ONLY
def test_a_blocked_stop_records_both_answers(home: Home, tmp_path: Path) -> None:
    block = tmp_path / "block.py"
    block.write_text(
        "import json, sys\n"
        "if not json.load(sys.stdin)['stop_hook_active']:\n"
        "    print(json.dumps({'decision': 'block', 'reason': 'say more'}))\n"
    )
    hook: dict[str, Any] = {"type": "command", "command": "python3", "args": [str(block)]}
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"hooks": {"Stop": [{"hooks": [hook]}]}}))
    with Stub(in_turn(Reply(Text("Too short.")), Reply(Text("Now more.")))) as stub:
        session = home.says(stub, "Tell me.", "--settings", str(settings))
    assert home.record.recorded(session) == [
        ("user", "Tell me."),
        ("assistant", "Too short."),
        ("assistant", "Now more."),
    ]


@pytest.mark.slow
@LINUX_ONLY
def test_an_api_error_loses_nothing_that_was_said(home: Home) -> None:
    with Stub([Reply(Text("Let me look."), BASH), Failure(400, "invalid_request_error")]) as stub:
        session = home.says(stub, "Look it up.", ok=False)
    assert home.record.recorded(session) == [("user", "Look it up."), ("assistant", "Let me look.")]
    with Stub(in_turn(Reply(Text("Here it is.")))) as stub:
        home.says(stub, "Again, please.", "--resume", session)
    assert home.record.recorded(session)[2:] == [("user", "Again, please."), ("assistant", "Here it is.")]


@pytest.mark.slow
@LINUX_ONLY
def test_nothing_is_there_twice_when_the_model_records_too(home: Home) -> None:
    told: list[bool] = []

    def model(request: Request) -> Answer:
        results = request.tool_results
        if not results:
            return Reply(
                ToolUse("toolu_0", "ToolSearch", {"query": "select:mcp__plugin_ccn_ccn__record_message"})
            )
        steps = [("user", "Remember the herons."), ("assistant", "Noted: herons.")]
        if len(results) <= len(steps):
            role, content = steps[len(results) - 1]
            name = "mcp__plugin_ccn_ccn__record_message"
            return Reply(ToolUse(f"toolu_{len(results)}", name, {"role": role, "content": content}))
        told.extend(json.loads(text_of(block))["already_recorded"] for block in list(results.values())[1:])
        return Reply(Text("Noted: herons."))

    with Stub(model) as stub:
        session = home.says(stub, "Remember the herons.")
    assert told == [True, False]
    assert home.record.recorded(session) == [
        ("user", "Remember the herons."),
        ("assistant", "Noted: herons."),
    ]


class Stalls:
    """An answer that never comes; `began` is set once it was asked for."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.over = threading.Event()

    def send(self, exchange: Exchange) -> None:
        self.began.set()
        self.over.wait(RUN_S_MAX)
        exchange.cut()


@pytest.mark.slow
@LINUX_ONLY
def test_a_killed_session_is_made_up_for_at_the_next_start(home: Home) -> None:
    stalls = Stalls()
    with Stub(in_turn(Reply(Text("Let me look."), BASH), stalls)) as stub:
        running = home.begins(stub, "Look it up.")
        assert stalls.began.wait(RUN_S_MAX)
        running.kill()
        running.wait(RUN_S_MAX)
        stalls.over.set()
    (transcript,) = home.root.glob(".claude/projects/*/*.jsonl")
    killed = transcript.stem
    assert home.record.recorded(killed) == [("user", "Look it up.")]
    with Stub(in_turn(Reply(Text("Hello again.")))) as stub:
        assert home.says(stub, "Hello?") != killed
    assert "Let me look." in all_of(stub.turns[0]), "what was made up for is in the context already"
    assert home.record.recorded(killed) == [("user", "Look it up."), ("assistant", "Let me look.")]


@pytest.mark.slow
@LINUX_ONLY
def test_a_server_that_does_not_come_up_loses_nothing(home: Home, tmp_path: Path) -> None:
    copy = tmp_path / "plugin"
    shutil.copytree(PLUGIN, copy)
    server = {"command": "sleep", "args": ["60"]}
    (copy / ".mcp.json").write_text(json.dumps({"mcpServers": {"ccn": server}}))
    home.run("plugin", "uninstall", "ccn@ccn-mcp")
    with Stub(in_turn(Reply(Text("I am here.")))) as stub:
        session = home.says(stub, "Anybody?", "--plugin-dir", str(copy), MCP_TIMEOUT="2000")
    assert "=== begin Plate " in all_of(stub.turns[0])
    assert home.record.recorded(session) == [("user", "Anybody?"), ("assistant", "I am here.")]


@pytest.mark.slow
@LINUX_ONLY
def test_after_a_compaction_the_plate_is_there_again(home: Home) -> None:
    with Stub(lambda _: Reply(Text("The marker is seventeen herons."))) as stub:
        session = home.says(stub, "Say the marker.")
        before = len(stub.turns)
        home.says(stub, "/compact", "--resume", session)
        home.says(stub, "And now?", "--resume", session)
    assert len(stub.turns) > before + 1, "the summary was asked for"
    last = all_of(stub.turns[-1])
    assert last.count("=== begin Plate ") == 1
    assert [text for role, text in home.record.recorded(session) if role == "user"][-1] == "And now?"
