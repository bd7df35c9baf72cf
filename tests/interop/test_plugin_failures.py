"""What goes wrong while real Claude Code runs with the plugin: nothing that was said is lost or there twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.claude.stub import Exchange, Reply, Request, Stub, Text
from tests.clients.npm import LINUX_ONLY
from tests.interop.real_claude import BASH, PLUGIN, RUN_S_MAX, Home, Stalls, Talk, all_of, in_turn

pytestmark = [pytest.mark.slow, LINUX_ONLY]
SERVER_S = 20
"""As late as that a server comes up; Claude Code gives up after 30."""


class Halts(Stalls):
    """An answer that stops in the middle of its text."""

    def send(self, exchange: Exchange) -> None:
        for event in Reply(Text("Half of an answer that goes on for a while.")).events(exchange):
            exchange.event(event)
            if event["type"] == "content_block_delta":
                break
        super().send(exchange)


@pytest.mark.parametrize("stalls", [Stalls(), Halts()], ids=["before the answer", "in the answer"])
def test_an_interrupted_turn_is_made_up_for_exactly_once(home: Home, stalls: Stalls) -> None:
    with Stub(in_turn(Reply(Text("Let me look. "), BASH), stalls, Reply(Text("Gladly.")))) as stub:
        talk = Talk(home, stub)
        talk.says("Look it up.")
        assert stalls.began.wait(RUN_S_MAX)
        talk.interrupts()
        session = talk.turn_is_over()
        stalls.over.set()
        assert home.record.recorded(session) == [("user", "Look it up.")], "an interrupt calls no hook"
        talk.is_killed()
        transcript = talk.transcript(session).read_text()
        assert "Request interrupted by user" in transcript
        half = "Half of an answer that g" if '"text":"Half of an answer' in transcript else ""
        home.says(stub, "Hello?")
        assert "Let me look. " in all_of(stub.turns[-1]), "it is in the context of the next session"
        wanted = [
            ("user", "Look it up."),
            ("assistant", "Let me look. "),
            *([("assistant", half)] if half else []),
        ]
        assert home.record.recorded(session) == wanted
    with Stub(in_turn(Reply(Text("Going on.")))) as stub:
        home.says(stub, "Go on.", "--resume", session)
    assert home.record.recorded(session) == [*wanted, ("user", "Go on."), ("assistant", "Going on.")]
    assert json.loads(home.ccn("import", "--claude-code", "--json"))["imported"] == 0
    assert home.troubles == []


def test_a_turn_that_was_interrupted_is_made_up_for_when_the_session_goes_on(home: Home) -> None:
    stalls = Stalls()
    with Stub(in_turn(Reply(Text("Let me look."), BASH), stalls, Reply(Text("As you like.")))) as stub:
        talk = Talk(home, stub)
        talk.says("Look it up.")
        assert stalls.began.wait(RUN_S_MAX)
        talk.interrupts()
        session = talk.turn_is_over()
        stalls.over.set()
        talk.says("Never mind.")
        talk.turn_is_over()
        talk.ends()
    wanted = ["Look it up.", "Never mind.", "Let me look.", "As you like."]
    assert [text for _, text in home.record.recorded(session)] == wanted, (
        "in the order in which it was recorded"
    )
    late = home.record.bodies(1, session)[2]
    assert "at" in late, "and it says when it was said"


def test_a_server_that_takes_twenty_seconds_holds_up_no_turn_and_loses_nothing(
    home: Home, tmp_path: Path
) -> None:
    up = tmp_path / "up"
    late = tmp_path / "late.sh"
    late.write_text(f"#!/bin/sh\nsleep {SERVER_S}\ntouch '{up}'\nexec ccn-mcp serve\n")
    late.chmod(0o755)
    copy = tmp_path / "plugin"
    shutil.copytree(PLUGIN, copy)
    server = {"command": str(late), "args": []}
    (copy / ".mcp.json").write_text(json.dumps({"mcpServers": {"ccn": server}}))
    home.run("plugin", "uninstall", "ccn@ccn-mcp")
    before: list[bool] = []

    def model(_: Request) -> Reply:
        before.append(not up.exists())
        return Reply(Text(f"Answer {len(before)}."))

    with Stub(model) as stub:
        talk = Talk(home, stub, "--plugin-dir", str(copy))
        talk.says("Anybody?")
        session = talk.turn_is_over()
        said = [("user", "Anybody?"), ("assistant", "Answer 1.")]
        assert home.record.recorded(session) == said
        assert before == [True], "the turn did not wait for the server"
        assert "=== begin Plate " in all_of(stub.turns[0]), "nor did the Plate"
        talk.waits_for(up)
        talk.says("And now?")
        talk.turn_is_over()
        talk.ends()
    assert home.record.recorded(session) == [*said, ("user", "And now?"), ("assistant", "Answer 2.")]
    assert home.troubles == []
