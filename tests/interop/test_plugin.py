"""The plugin in real Claude Code, installed as a person installs it, its model a script on loopback.

The scripted model calls no tool of ours unless a test says so: what is recorded is recorded by the hooks.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp import __version__
from tests.claude.stub import Answer, Failure, Reply, Request, Stub, Text, ToolUse, text_of
from tests.clients.npm import LINUX_ONLY
from tests.interop.real_claude import BASH, PLUGIN, ROOT, RUN_S_MAX, Home, Stalls, all_of, in_turn


def test_the_plugin_has_the_version_of_the_program() -> None:
    assert json.loads((PLUGIN / ".claude-plugin" / "plugin.json").read_text())["version"] == __version__


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
