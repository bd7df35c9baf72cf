"""What every back end promises (`ports.LanguageModel`), shown for each of them by the same tests."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import anthropic
import psutil  # type: ignore[import-untyped]  # psutil ships no types
import pytest

from ccn_mcp.claude.api import ApiModel
from ccn_mcp.claude.claude_code import ClaudeCodeModel
from ccn_mcp.domain.talk import PROBLEM_CHARS_MAX, Asked, Reply, Turn, text_block
from ccn_mcp.ports import LanguageModel
from tests.claude import stub as service
from tests.claude.faults import Held
from tests.claude.scripted import Says, ScriptedModel
from tests.claude.stub import Answer, Failure, Stub, Text, ToolUse
from tests.clients.harness import bare_environment
from tests.clients.npm import CLAUDE_CODE, LINUX_ONLY, fetched

pytestmark = pytest.mark.anyio

HERE: Final = Path(__file__).parent
MODEL: Final = "claude-sonnet-5-5"
TEXT: Final = "Grüße aus dem Hafen, wo die Reiher stehen, und dann noch ein langer zweiter Satz."
SCHEMA: Final = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}
NAMED: Final = {"name": "Ann"}
WAIT_S: Final = 60.0
SHORT_S: Final = 2.0
"""A deadline that is met by waiting for it."""

TURNS_OF_THE_LOOP: Final = 5

Open = Callable[..., AbstractContextManager[LanguageModel]]


def answers(scenario: str, *, tool: bool) -> list[Answer]:
    """What the service behind a back end says in each scenario."""
    whole = service.Reply(Text(TEXT))
    match scenario:
        case "held":
            return [Held(whole)]
        case "schema":
            used = ToolUse("toolu_1", "StructuredOutput", NAMED)
            return [service.Reply(used if tool else Text(json.dumps(NAMED)))]
        case "refusal" | "max_tokens":
            return [service.Reply(Text(TEXT), stop_reason=scenario)] * 5
        case "unknown_model":
            return [Failure(404, "not_found_error", f"model: {MODEL}")] * 3
    return [whole]


@contextmanager
def serving(scenario: str, *, tool: bool) -> Iterator[Stub]:
    """The stub with this scenario; what it holds back is let go at the end."""
    script = answers(scenario, tool=tool)
    with Stub(script) as stub:
        yield stub
        for answer in script:
            if isinstance(answer, Held):
                answer.let_go.set()


def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    @contextmanager
    def opened(scenario: str, deadline_s: float = WAIT_S) -> Iterator[LanguageModel]:
        if scenario == "no_credential":
            for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "XDG_CONFIG_HOME"):
                monkeypatch.delenv(name, raising=False)
            monkeypatch.setenv("HOME", str(tmp_path))
            yield ApiModel(deadline_s=deadline_s)
            return
        with serving(scenario, tool=False) as stub:
            client = anthropic.AsyncAnthropic(base_url=stub.url, api_key="a-stub-takes-any")
            yield ApiModel(client, deadline_s=deadline_s)

    return opened


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    program = tmp_path / "claude"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "fake_claude.py"}" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)

    @contextmanager
    def opened(scenario: str, deadline_s: float = WAIT_S) -> Iterator[LanguageModel]:
        name = "whole" if scenario == "held" else scenario
        given = {"FAKE_RECORDING": str(HERE / "recorded" / f"{name}.jsonl")}
        if scenario == "held":
            given["FAKE_HOLD"] = "2"
        environment = {**bare_environment(tmp_path / "home"), **given}
        yield ClaudeCodeModel(str(program), environment=environment, deadline_s=deadline_s)

    return opened


def real(tmp_path: Path, factory: pytest.TempPathFactory) -> Open:
    program = fetched(factory, CLAUDE_CODE) / "claude"

    @contextmanager
    def opened(scenario: str, deadline_s: float = WAIT_S) -> Iterator[LanguageModel]:
        with serving(scenario, tool=True) as stub:
            environment = {
                **bare_environment(tmp_path / "home"),
                "ANTHROPIC_BASE_URL": stub.url,
                "DISABLE_TELEMETRY": "1",
                "DISABLE_AUTOUPDATER": "1",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            }
            if scenario != "no_credential":
                environment["ANTHROPIC_API_KEY"] = "a-stub-takes-any"
            yield ClaudeCodeModel(str(program), environment=environment, deadline_s=deadline_s)

    return opened


def scripted() -> Open:
    pieces = tuple(service.parts(TEXT))
    script = {
        "held": Says(pieces, hold_after=2),
        "schema": Says((json.dumps(NAMED),)),
        "refusal": Says(pieces, ended="refusal"),
        "max_tokens": Says(pieces, ended="max_tokens"),
        "unknown_model": Says(ended="not_found_error", usage=None),
        "no_credential": Says(ended="no_credential", usage=None),
        "whole": Says(pieces),
    }

    @contextmanager
    def opened(scenario: str, deadline_s: float = WAIT_S) -> Iterator[LanguageModel]:
        yield ScriptedModel(script[scenario], deadline_s=deadline_s)

    return opened


@pytest.fixture(
    params=[
        "api",
        pytest.param("fake", marks=pytest.mark.skipif(sys.platform == "win32", reason="a script of sh")),
        "scripted",
        pytest.param("real", marks=[pytest.mark.slow, LINUX_ONLY]),
    ]
)
def opened(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Open:
    """A back end in a scenario: `with opened("whole") as model`."""
    match request.param:
        case "api":
            return api(tmp_path, monkeypatch)
        case "fake":
            return fake(tmp_path, monkeypatch)
        case "real":
            return real(tmp_path, tmp_path_factory)
    return scripted()


HELLO: Final = Asked(MODEL, (Turn("user", (text_block("hello"),)),), system=("You are kind.",))


async def ask(model: LanguageModel, asked: Asked = HELLO) -> tuple[Reply, list[str]]:
    """One call, and the pieces of its text."""
    reply, pieces = Reply(), list[str]()
    before = asyncio.all_tasks()
    async with asyncio.timeout(WAIT_S):
        await model.answer(asked, reply, on_text=pieces.append)
    await nothing_is_left(before, connections=1)  # one may be kept for the next call
    await model.aclose()
    return reply, pieces


async def nothing_is_left(before: set[asyncio.Task[object]], *, connections: int = 0) -> None:
    """No task, no process, no open connection from a call that has returned."""
    for _ in range(TURNS_OF_THE_LOOP):  # the SDK leaves the end of its generators to the loop
        await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before, "a task goes on"
    me = psutil.Process()
    assert me.children(recursive=True) == []
    held = [
        one for one in me.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED and to_a_stub(one)
    ]
    assert len(held) <= connections


def to_a_stub(one: object) -> bool:
    """Whether this end is the client's: the stub's own has the port that it listens on."""
    listening = {
        at.laddr.port for at in psutil.Process().net_connections("tcp") if at.status == psutil.CONN_LISTEN
    }
    return getattr(one, "raddr").port in listening  # noqa: B009  # psutil's own type is private


def one_line(reply: Reply) -> None:
    assert reply.problem
    assert "\n" not in reply.problem
    assert len(reply.problem) <= PROBLEM_CHARS_MAX


async def test_a_reply_comes_in_pieces_and_is_counted(opened: Open) -> None:
    with opened("whole") as model:
        assert model.backend in ("api", "claude_code", "scripted")
        reply, pieces = await ask(model)
    assert len(pieces) > 2, "it was streamed"
    assert "".join(pieces) == reply.text == TEXT
    assert reply.blocks == [text_block(TEXT)]
    assert (reply.ended, reply.problem, reply.whole) == ("end_turn", "", True)
    assert reply.model == MODEL
    assert reply.request_id.startswith("req_")
    assert reply.counted
    assert reply.usage is not None
    assert min(reply.usage["input_tokens"], reply.usage["output_tokens"]) > 1


async def test_a_schema_is_answered_in_json(opened: Open) -> None:
    with opened("schema") as model:
        reply, pieces = await ask(model, Asked(MODEL, HELLO.turns, schema=SCHEMA))
    assert json.loads(reply.text) == NAMED
    assert "".join(pieces) == reply.text
    assert reply.blocks == [text_block(reply.text)]
    assert (reply.ended, reply.counted) == ("end_turn", True)


@pytest.mark.parametrize("scenario", ["refusal", "max_tokens"])
async def test_a_reply_that_is_cut_short_is_kept_and_counted(opened: Open, scenario: str) -> None:
    with opened(scenario) as model:
        reply, pieces = await ask(model)
    assert (reply.ended, reply.whole, reply.counted) == (scenario, False, True)
    assert reply.text == "".join(pieces) == TEXT
    one_line(reply)


@pytest.mark.parametrize(
    ("scenario", "ended", "word"),
    [("unknown_model", "not_found_error", MODEL), ("no_credential", "no_credential", "log")],
)
async def test_a_call_that_cannot_be_answered_is_one_line(
    opened: Open, scenario: str, ended: str, word: str
) -> None:
    with opened(scenario) as model:
        reply, pieces = await ask(model)
    assert (reply.ended, reply.text, reply.blocks, pieces) == (ended, "", [], [])
    assert not reply.counted
    one_line(reply)
    assert word in reply.problem


async def test_a_call_that_is_stopped_keeps_what_came_and_leaves_nothing(opened: Open) -> None:
    reply, pieces = Reply(), list[str]()
    begun = asyncio.Event()

    def piece(text: str) -> None:
        pieces.append(text)
        if len(pieces) == 2:
            begun.set()

    with opened("held") as model:
        before = asyncio.all_tasks()
        call = asyncio.create_task(model.answer(HELLO, reply, on_text=piece))
        async with asyncio.timeout(WAIT_S):
            await begun.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await nothing_is_left(before)
        await model.aclose()
    kept = TEXT[: 2 * service.DELTA_CHARS]
    assert reply.text == "".join(pieces) == kept
    assert reply.blocks == [text_block(kept)]
    assert (reply.ended, reply.counted) == ("cancelled", False)
    one_line(reply)


async def test_a_deadline_ends_the_call_and_keeps_what_came(opened: Open) -> None:
    with opened("held", SHORT_S) as model:
        reply, pieces = await ask(model)
    assert (reply.ended, reply.counted) == ("deadline", False)
    assert reply.text == "".join(pieces)
    assert TEXT.startswith(reply.text), "how far it comes until then is the machine's affair"
    assert reply.blocks == ([text_block(reply.text)] if reply.text else [])
    one_line(reply)


async def test_an_error_of_the_caller_is_the_callers_and_leaves_nothing(opened: Open) -> None:
    def broken(_: str) -> None:
        raise BrokenPipeError

    with opened("held") as model:
        before = asyncio.all_tasks()
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(BrokenPipeError):
                await model.answer(HELLO, Reply(), on_text=broken)
        await nothing_is_left(before)
        await model.aclose()
