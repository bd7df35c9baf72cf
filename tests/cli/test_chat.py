"""`ccn-mcp chat` as a person uses it: processes, a real terminal, a Messages API on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp.domain.errors import StoreFull
from ccn_mcp.domain.judging import RUNS_DEFAULT
from ccn_mcp.node.node import Node
from tests.claude.gullible import gullible
from tests.claude.stub import Exchange, Failure, Reply, Request, Stub, Text
from tests.cli.conftest import RUN_S_MAX, Ran, Run, on_store, process
from tests.cli.terminal import Terminal

KEY = "sk-ant-api03-" + "Zq7" * 20


def answers(request: Request) -> Reply:
    """Says how many turns it was sent, and what the last one was."""
    last = [turn for turn in request.messages if turn["role"] == "user"][-1]["content"][-1]["text"]
    return Reply(Text(f"turn {sum(turn['role'] == 'user' for turn in request.messages)}, to “{last}”"))


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub(answers) as running:
        yield running


def env(stub: Stub, db: Path, **more: str) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stub.url, "CCN_DB": str(db), **more}


@pytest.fixture
def says(cli: Run, db: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """`ccn-mcp chat …` in this process, so that its libraries are imported once; against this stub."""

    def chat(stub: Stub, *arguments: str, **more: str) -> Ran:
        with monkeypatch.context() as changed:
            for name, value in env(stub, db, **more).items():
                changed.setenv(name, value)
            return cli("chat", *arguments)

    return chat


def recorded(db: Path) -> list[tuple[str, str]]:
    """Both sides of everything, oldest first."""

    async def read(node: Node) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for item in reversed((await node.get_history(scope="*", limit=100))["conversations"]):
            page = await node.get_history(conversation_id=item["conversation_id"], limit=200)
            found += [(message["role"], message["text"] or "") for message in page["messages"]]
        assert (await node.verify_chain())["ok"]
        return found

    said: list[tuple[str, str]] = on_store(db, read)
    return said


def test_one_answer_is_plain_and_both_sides_are_recorded(
    stub: Stub, db: Path, says: Callable[..., Ran]
) -> None:
    done = says(stub, "Hello \x1b[31mthere")
    assert (done.status, done.out, done.err) == (0, "turn 1, to “Hello \\x1b[31mthere”\n", "")
    again = process("chat", "--continue", env=env(stub, db), input="Piped,\nin two lines\n")
    assert (again.stdout, again.stderr) == ("turn 2, to “Piped,\nin two lines”\n", "")
    assert recorded(db) == [
        ("user", "Hello \x1b[31mthere"),
        ("assistant", "turn 1, to “Hello \x1b[31mthere”"),
        ("user", "Piped,\nin two lines"),
        ("assistant", "turn 2, to “Piped,\nin two lines”"),
    ]
    assert stub.turns[1].messages[0]["content"][0]["text"] == "Hello \x1b[31mthere", "as a turn, unchanged"


def test_json_is_one_document_with_the_ids_to_go_on_by(stub: Stub, says: Callable[..., Ran]) -> None:
    first = json.loads(says(stub, "One", "--json").out)
    assert first["text"] == "turn 1, to “One”"
    assert (first["ended"], first["problem"]) == ("end_turn", None)
    assert float(first["cost_usd"]) > 0
    second = json.loads(says(stub, "Two", "--json", "--conversation", first["conversation_id"]).out)
    assert second["text"] == "turn 2, to “Two”"
    assert second["conversation_id"] == first["conversation_id"]
    assert second["seq"] > first["seq"]


def test_a_new_conversation_is_given_the_last_one_as_a_record(stub: Stub, says: Callable[..., Ran]) -> None:
    says(stub, "The harbour light is green.")
    says(stub, "What colour is it?")
    opening = stub.turns[1].messages[0]["content"][0]["text"]
    assert "> The harbour light is green." in opening
    assert "not addressed to you now" in opening
    assert "get_history" not in opening, "there are no tools here"


@pytest.mark.parametrize(
    ("given", "status", "line"),
    [
        (["x", "--conversation", "c_none"], 3, "there is no conversation 'c_none'"),
        (["x", "--continue"], 3, "there is no conversation in this scope"),
        (["x", "--backend", "telepathy"], 2, "use one of: api, claude-code"),
        ([" "], 2, "say something"),
        (["x", "--model", " "], 2, "--model is empty"),
        (["x", "--judge-every", "0"], 2, "--judge-every"),
    ],
)
def test_what_cannot_be_is_said(
    stub: Stub, says: Callable[..., Ran], given: list[str], status: int, line: str
) -> None:
    done = says(stub, *given)
    assert done.status == status, done.err
    assert line in done.err
    assert stub.turns == []


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"ANTHROPIC_API_KEY": ""}, "ANTHROPIC_API_KEY"),
        ({"CCN_BACKEND": "claude-code", "PATH": "/nowhere"}, "Claude Code was not found"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_recorded(
    stub: Stub, db: Path, says: Callable[..., Ran], more: dict[str, str], line: str
) -> None:
    done = says(stub, "Hello", **more)
    assert done.status == 3
    assert line in done.err
    assert not db.exists()


def test_a_failure_is_one_line_and_what_was_said_goes_on(says: Callable[..., Ran]) -> None:
    with Stub([Failure(404, "not_found_error"), Reply(Text("Here I am."))]) as stub:
        done = says(stub, "Are you there?")
        assert done.status == 1
        assert done.err.count("\n") == 1
        again = says(stub, "--continue", "And now?")
    assert again.out == "Here I am.\n"
    sent = stub.turns[1].messages
    assert [turn["role"] for turn in sent if turn["role"] != "system"] == ["user"]
    assert [block["text"] for block in sent[0]["content"]] == ["Are you there?", "And now?"]


def test_a_ceiling_stops_before_the_call(stub: Stub, says: Callable[..., Ran]) -> None:
    done = says(stub, "Hello", CCN_COST_DAY_USD="0.0001")
    assert done.status == 4, done.err
    assert "CCN_COST_DAY_USD" in done.err
    assert stub.turns == []


def test_the_key_is_nowhere(stub: Stub, says: Callable[..., Ran], tmp_path: Path) -> None:
    done = says(stub, f"My key is {KEY}.")
    with Stub([Failure(401, "authentication_error", f"invalid key {KEY}")]) as failing:
        refused = says(failing, "Hello")
    assert refused.status == 1
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    for text in (refused.out.encode(), refused.err.encode(), done.err.encode(), *written):
        assert KEY.encode() not in text


# ---- in a terminal -------------------------------------------------------------------------------------


class Halts:
    """An answer whose text comes, and then nothing more."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.over = threading.Event()

    def send(self, exchange: Exchange) -> None:
        """Everything up to the end of the text."""
        for event in Reply(Text(self._text)).events(exchange):
            if event["type"] == "content_block_stop":
                self.over.wait(RUN_S_MAX)
                exchange.cut()
                return
            exchange.event(event)


def test_the_commands(stub: Stub, db: Path) -> None:
    with Terminal("chat", env=env(stub, db)) as terminal:
        terminal.wait_for("/help shows what can be typed")
        terminal.type("Good evening")
        terminal.wait_for("turn 1, to “Good evening”")
        terminal.wait_for("this conversation")
        terminal.type("/model")
        terminal.wait_for("claude-sonnet-5-5")
        terminal.type("/model claude-haiku-5-5")
        terminal.wait_for("\nclaude-haiku-5-5")
        terminal.type("/retry")
        terminal.wait_for("turn 1, to “Good evening”")
        terminal.type("/cost")
        terminal.wait_for("Today (UTC)        $0.0")
        terminal.type("/plate")
        terminal.wait_for("Starter Plate")
        terminal.type("/verify")
        terminal.wait_for("as they were written (level ")
        terminal.type("/nonsense")
        terminal.wait_for("there is no /nonsense")
        terminal.type("/help")
        terminal.wait_for("twice within two seconds")
        terminal.type("/exit")
        status, rest = terminal.rest()
    assert status == 0, rest
    assert "ccn-mcp chat --conversation c_" in rest
    assert [turn.body["model"] for turn in stub.turns] == ["claude-sonnet-5-5", "claude-haiku-5-5"]
    assert [role for role, _ in recorded(db)] == ["user", "assistant", "assistant"], "both answers stay"
    again = process("chat", "--continue", "Go on", env=env(stub, db))
    assert again.stdout == "turn 2, to “Go on”\n"
    sent = [turn["role"] for turn in stub.turns[-1].messages if turn["role"] != "system"]
    assert sent == ["user", "assistant", "user"], "the answer that /retry replaced is not sent"


def test_ctrl_c_keeps_the_partial_reply(db: Path) -> None:
    halts = Halts("The tide comes in, and the herons ")
    script: list[Any] = [halts, Reply(Text("As I was saying."))]
    with Stub(script) as stub, Terminal("chat", env=env(stub, db)) as terminal:
        terminal.wait_for("/help")
        terminal.type("Tell me of the tide")
        terminal.wait_for("the herons")
        terminal.press("\x03")
        terminal.wait_for("(what came is kept)")
        terminal.wait_for("(Ctrl-C again ends the chat)")
        halts.over.set()
        terminal.type("Go on")
        terminal.wait_for("As I was saying.")
        terminal.wait_for("this conversation")
        terminal.wait_for("> ")
        terminal.press("\x04")
        status, rest = terminal.rest()
    assert status == 0, rest
    assert recorded(db) == [
        ("user", "Tell me of the tide"),
        ("assistant", "The tide comes in, and the herons "),
        ("user", "Go on"),
        ("assistant", "As I was saying."),
    ]
    partial = stub.turns[1].messages[1]["content"]
    assert [block["text"] for block in partial] == [
        "The tide comes in, and the herons ",
        "(this reply was interrupted here)",
    ]


def test_ctrl_c_twice_ends_the_chat(stub: Stub, db: Path) -> None:
    with Terminal("chat", env=env(stub, db)) as terminal:
        terminal.wait_for("/help")
        for said in ("again ends the chat", ""):
            terminal.wait_for("> ")
            terminal.wait_until_it_waits()
            terminal.press("\x03")
            terminal.wait_for(said)
        status, rest = terminal.rest()
    assert status == 0, rest
    assert "Traceback" not in terminal.screen


def test_a_judge_looks_at_every_third_reply(db: Path) -> None:
    def model(request: Request) -> Reply:
        if "output_config" not in request.body:
            return answers(request)
        system = [block["text"] for block in request.body["system"]]
        return Reply(Text(gullible(system, request.messages[0]["content"][0]["text"])))

    with Stub(model) as stub, Terminal("chat", "--judge-every", "3", env=env(stub, db)) as terminal:
        for said in ("One", "Two", "Three"):
            terminal.wait_for("> ")
            terminal.type(f"{said}, please, with care.")
            terminal.wait_for("this conversation")
        terminal.wait_for("(judged: ccn-mcp drift shows it)")
        terminal.wait_for("> ")
        terminal.press("\x04")
        status, rest = terminal.rest()
    assert status == 0, rest
    asked = ["output_config" in turn.body for turn in stub.turns]
    assert asked == [False] * 3 + [True] * RUNS_DEFAULT


def test_ctrl_c_in_one_answer_says_how_to_go_on(db: Path) -> None:
    halts = Halts("The tide comes in, and the herons ")
    with Stub([halts]) as stub, Terminal("chat", "Tell me of the tide", env=env(stub, db)) as terminal:
        terminal.wait_for("the herons")
        terminal.press("\x03")
        terminal.wait_for("what came is kept. To go on: ccn-mcp chat --conversation c_")
        halts.over.set()
        status, _ = terminal.rest()
    assert status == 130
    assert recorded(db)[1] == ("assistant", "The tide comes in, and the herons ")


def test_a_reply_that_cannot_be_recorded_is_said_to_be_the_one_on_the_screen(
    stub: Stub, db: Path, says: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise StoreFull("the disk is full; nothing was written")

    monkeypatch.setattr("ccn_mcp.node.talking.Talk._keep", full)
    done = says(stub, "Hello")
    assert done.out == "turn 1, to “Hello”\n"
    assert done.err == (
        "ccn-mcp: the reply above is not in the record, what you said is: the disk is full; nothing was written\n"
    )
    assert done.status == StoreFull.exit_status
    assert recorded(db) == [("user", "Hello")]
