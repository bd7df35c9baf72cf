"""`ccn-mcp spawn` with the real Claude Code, its model a script on loopback: handed over, validated, recorded."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.claude.stub import Answer, Failure, Reply, Request, Stub, Text, ToolUse
from tests.clients.harness import bare_environment
from tests.clients.npm import LINUX_ONLY
from tests.interop.real_claude import QUIET, RUN_S_MAX, Home, all_of, reach

pytestmark = [pytest.mark.slow, LINUX_ONLY]


def ccn(
    home: Home, *arguments: str, stub: Stub | None = None, path: str = ""
) -> subprocess.CompletedProcess[str]:
    """Our own program, called by the person in the project's folder."""
    own = bare_environment(home.root)
    environment = {
        **own,
        **QUIET,
        **(reach(stub) if stub is not None else {}),
        "PATH": path or os.pathsep.join([str(home.program.parent), own["PATH"]]),
    }
    return subprocess.run(
        [shutil.which("ccn-mcp", path=own["PATH"]) or "ccn-mcp", *arguments],
        cwd=home.work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )


def instances(home: Home) -> list[dict[str, object]]:
    """Every instance entry, oldest first."""
    with closing(sqlite3.connect(home.root / ".local" / "share" / "ccn-mcp" / "ccn.db")) as store:
        rows = store.execute("SELECT body FROM entry WHERE kind = 9 ORDER BY seq").fetchall()
    return [json.loads(body) for (body,) in rows]


def receipt_in(request: Request) -> str:
    line = next(
        line for line in all_of(request).replace("\\n", "\n").splitlines() if line.startswith("receipt: ")
    )
    return line.removeprefix("receipt: ").strip().strip('"')


def model(request: Request) -> Answer:
    """Gives the receipt back when it is asked for it; else says what it was asked."""
    if any(tool["name"] == "StructuredOutput" for tool in request.body.get("tools", ())):
        if request.tool_results:
            return Reply(Text("Done."))
        return Reply(ToolUse("toolu_s", "StructuredOutput", {"receipt": receipt_in(request)}))
    return Reply(Text("I go on from there."))


def test_a_conversation_is_handed_over_and_recorded(home: Home) -> None:
    with Stub(model) as stub:
        first = json.loads(ccn(home, "spawn", "--print", "The light is green.", "--json", stub=stub).stdout)
        assert first["start"]["state"] == "not_validated", "the starter Plate has no facts: the receipt alone"
        done = ccn(
            home,
            "spawn",
            "--conversation",
            first["conversation_id"],
            "--print",
            "Which?",
            "--json",
            stub=stub,
        )
    assert done.returncode == 0, done.stderr
    second = json.loads(done.stdout)
    assert second["text"] == "I go on from there."
    assert second["conversation_id"] == first["conversation_id"]
    assert second["instance_id"] != first["instance_id"]
    assert "> The light is green." in all_of(stub.turns[-1]).replace("\\n", "\n"), "the history arrived"
    assert all_of(stub.turns[-1]).count("=== begin Plate ") == 1, "and the Plate once"
    said = json.loads(ccn(home, "history", first["conversation_id"], "--json").stdout)["messages"]
    assert [(message["role"], message["text"]) for message in said] == [
        ("user", "The light is green."),
        ("assistant", "I go on from there."),
        ("user", "Which?"),
        ("assistant", "I go on from there."),
    ]
    last = instances(home)[-1]
    assert (last["instance"], last["state"]) == (second["instance_id"], "terminated")
    assert last["predecessor"] == first["instance_id"]
    assert home.troubles == []
    assert json.loads(ccn(home, "verify", "--json").stdout)["ok"]


def test_three_tries_and_then_it_is_said_to_have_failed(home: Home) -> None:
    wrong = Reply(ToolUse("toolu_s", "StructuredOutput", {"receipt": "r_wrong"}))

    def forgetful(request: Request) -> Answer:
        return Reply(Text("Done.")) if request.tool_results else wrong

    with Stub(forgetful) as stub:
        done = ccn(home, "spawn", "--print", "Hello", stub=stub)
    assert done.returncode == 4
    assert "failed: after 3 tries" in done.stderr
    assert "Hello" not in "".join(all_of(turn) for turn in stub.turns), "it was never let go"
    events = [body["event"] for body in instances(home)]
    assert events == ["opened", "loaded", "try_failed", "try_failed", "failed", "terminated"]


def test_what_keeps_it_from_starting_is_said(home: Home, tmp_path: Path) -> None:
    with Stub([Failure(401, "authentication_error")] * 9) as stub:
        done = ccn(home, "spawn", "--print", "Hello", stub=stub)
    assert done.returncode == 4
    assert done.stderr.startswith("ccn-mcp: not started: ")
    missing = ccn(home, "spawn", "--print", "Hello", path=str(tmp_path))
    assert missing.returncode == 3
    assert "claude" in missing.stderr


def test_a_chat_by_claude_codes_login_is_recorded_once(home: Home) -> None:
    with Stub(model) as stub:
        done = ccn(home, "chat", "Hello there", "--backend", "claude-code", "--json", stub=stub)
        assert done.returncode == 0, done.stderr
        again = ccn(home, "chat", "And now?", "--continue", "--backend", "claude-code", stub=stub)
    told = json.loads(done.stdout)
    assert (told["text"], again.stdout) == ("I go on from there.", "I go on from there.\n")
    assert "Hello there" in all_of(stub.turns[-1])
    said = json.loads(ccn(home, "history", told["conversation_id"], "--json").stdout)["messages"]
    assert [(message["role"], message["text"]) for message in said] == [
        ("user", "Hello there"),
        ("assistant", "I go on from there."),
        ("user", "And now?"),
        ("assistant", "I go on from there."),
    ], "by the chat, and by no hook"
    assert len(json.loads(ccn(home, "history", "--json").stdout)["conversations"]) == 1
