"""The server as a process: hostile lines, odd text, signals, a clean stdout, a quiet stderr, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from ccn_mcp.server.catalogue import CATALOGUE
from tests.clients.harness import bare_environment, server_arguments
from tests.node.world import node_on
from tests.server.wire import ANSWER_S_MAX, Server

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "store" / "ccn.db"


def text_of(result: dict[str, Any]) -> str:
    text: str = result["content"][0]["text"]
    return text


def call_line(number: int, name: str, arguments: str) -> bytes:
    """A call whose arguments are JSON text as it stands, good or bad."""
    call = '{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"%s","arguments":%s}}'
    return (call % (number, name, arguments)).encode()


def recorded(db: Path) -> list[str | None]:
    """Every text in the store, oldest first, read by another process's eyes."""

    async def read() -> list[str | None]:
        async with node_on(db) as node:
            found: list[str | None] = []
            for item in (await node.get_history(scope="*"))["conversations"]:
                page = await node.get_history(conversation_id=item["conversation_id"], limit=200)
                found += [message["text"] for message in page["messages"]]
            assert (await node.verify_chain())["ok"]
            return found

    return anyio.run(read)


def test_a_session_of_normal_use_is_quiet_and_ends_with_stdin(db: Path) -> None:
    with Server(db, CLAUDE_CODE_SESSION_ID="s-1") as server:
        assert not db.parent.exists(), "nothing is written before the first write"
        loaded = server.call("load_plate", {})
        said = server.call("record_message", {"role": "user", "content": "grüße 🦔", "idempotency_key": "k"})
        assert said["structuredContent"]["conversation_id"] == loaded["_meta"]["ccn/conversation_id"]
        judged = server.call("report_character_vector", {"traits": [0.8] * 16})["structuredContent"]
        assert judged["instance_id"] == loaded["_meta"]["ccn/instance_id"]
        assert server.call("get_history", {"query": "grüße"})["structuredContent"]["hits"]
        assert server.call("verify_chain", {})["structuredContent"]["ok"]
        assert server.process.stdin is not None
        server.process.stdin.close()
        status, errors = server.end()
    assert (status, errors) == (0, "")
    assert recorded(db) == ["grüße 🦔"]


NESTED: Final = "[" * 5_000 + "]" * 5_000


def test_hostile_lines_are_survived_and_store_nothing(db: Path) -> None:
    with Server(db) as server:
        server.call("record_message", {"role": "user", "content": "first", "session_id": "s"})
        head = server.call("verify_chain", {})["structuredContent"]["head"]
        mine = server.call("load_plate", {"session_id": "s"})["_meta"]["ccn/instance_id"]
        head = server.call("verify_chain", {})["structuredContent"]["head"]
        unanswered = [
            b"",
            b"not json at all",
            b"{",
            b'{"jsonrpc":"2.0"}',
            b"\xff\xfe\x00",
            b"null",
            b"[]",
            b'"text"',
            b'{"jsonrpc":"1.0","id":9,"method":"tools/list"}',
            b"[" * 100_000,
            b'{"a":' * 50_000,
            b"x" * 3_000_000,
        ]
        for line in unanswered:
            server.raw(line)
            assert server.call("verify_chain", {})["structuredContent"]["head"] == head, line[:40]
        rest = ",0.5" * 15 + "]}"
        report = '{"instance_id":"' + mine + '","traits":'
        for at, (name, arguments) in enumerate(
            (
                ("record_message", '{"role":"user","content":"half \\ud83d of it"}'),
                ("record_message", '{"role":"user","content":"\\udc00"}'),
                ("record_message", '{"role":"user","content":"nul \\u0000 byte"}'),
                ("record_message", '{"role":"user","content":' + NESTED + "}"),
                ("record_message", '{"role":"user","content":"' + "x" * 3_000_000 + '"}'),
                ("record_message", '{"role":"user","content":"x","session_id":"\\ud800"}'),
                ("report_character_vector", report + "[NaN" + rest),
                ("report_character_vector", report + "[1e999" + rest),
                ("report_character_vector", report + NESTED + "}"),
                ("get_history", '{"query":"\\ud83d"}'),
                ("get_history", '{"limit":1e400}'),
                ("load_plate", '{"title":"\\u0000"}'),
            ),
            start=1_000,
        ):
            server.raw(call_line(at, name, arguments))
            answer = server.answer(at)
            assert "error" in answer or answer["result"]["isError"], arguments[:80]
            assert len(json.dumps(answer)) < 2_000
            assert server.call("verify_chain", {})["structuredContent"]["head"] == head, arguments[:80]
        assert server.process.stdin is not None
        server.process.stdin.close()
        status, errors = server.end()
    assert status == 0
    assert "Traceback" not in errors
    assert recorded(db) == ["first"]


def test_a_key_that_comes_twice_is_read_one_way_and_a_pair_of_surrogates_is_a_character(db: Path) -> None:
    with Server(db) as server:
        server.raw(
            call_line(77, "record_message", '{"role":"user","content":"one","content":"\\ud83e\\udd94"}')
        )
        assert not server.answer(77)["result"]["isError"]
    assert recorded(db) in (["🦔"], ["one"])


@posix
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=lambda end: end.name)
def test_a_signal_ends_it_quietly_and_keeps_what_was_acknowledged(db: Path, end: signal.Signals) -> None:
    with Server(db) as server:
        for at in range(5):
            assert not server.call(
                "record_message", {"role": "user", "content": f"m{at}", "session_id": "s"}
            )["isError"]
        server.process.send_signal(end)
        status, errors = server.end()
    assert (status, errors) == (0, "")
    assert recorded(db) == [f"m{at}" for at in range(5)]


@posix
def test_what_is_on_its_way_when_both_signals_come_is_whole_or_absent(db: Path) -> None:
    """Claude Code sends SIGINT and, a moment later, SIGTERM; answers that were sent must be true."""
    with Server(db) as server:
        server.call("record_message", {"role": "user", "content": "m", "session_id": "s"})
        for at in range(100, 140):
            arguments = json.dumps({"role": "user", "content": f"m{at}", "session_id": "s"})
            server.raw(call_line(at, "record_message", arguments))
        server.answer(100)
        server.process.send_signal(signal.SIGINT)
        server.process.send_signal(signal.SIGTERM)
        status, errors = server.end()
        answered = ["m100"]
        while not server.lines.empty():
            message = json.loads(server.lines.get())
            if not message["result"]["isError"]:
                answered.append(f"m{message['id']}")
    assert (status, errors) == (0, "")
    assert set(answered) <= set(recorded(db))


@posix
def test_killed_without_warning_it_has_kept_what_it_acknowledged(db: Path) -> None:
    with Server(db) as server:
        server.call("record_message", {"role": "user", "content": "kept", "session_id": "s"})
        os.kill(server.process.pid, signal.SIGKILL)
        server.end()
    assert recorded(db) == ["kept"]


def test_a_reader_that_goes_away_is_a_normal_end(db: Path) -> None:
    with Server(db) as server:
        server.call("record_message", {"role": "user", "content": "kept", "session_id": "s"})
        assert server.process.stdin is not None
        server.raw(call_line(5, "verify_chain", "{}"))
        server.process.stdin.close()
        status, errors = server.end()
    assert status == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CCN_CHARACTER", "loud"), ("CCN_LEASE_S", "soon"), ("CCN_DB", "postgresql://x/y")],
)
def test_a_setting_that_cannot_be_is_said_on_stderr_with_a_status(
    tmp_path: Path, variable: str, value: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ccn_mcp", "serve"],
        env={**bare_environment(tmp_path), variable: value, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ANSWER_S_MAX,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ccn-mcp serve: ")
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_gives_an_error_that_names_a_way_out(tmp_path: Path) -> None:
    db = tmp_path / "taken"
    db.mkdir()
    with Server(db) as server:
        result = server.call("record_message", {"role": "user", "content": "x"})
    assert result["isError"]
    assert text_of(result).startswith("store_")
    assert "name a file in it" in text_of(result)


@pytest.mark.anyio
@pytest.mark.parametrize("era", ["auto", "legacy", "2026-07-28"])
async def test_the_sdks_client_over_stdio_in_both_eras(db: Path, tmp_path: Path, era: str) -> None:
    parameters = StdioServerParameters(
        command=sys.executable, args=server_arguments(db), env=bare_environment(tmp_path / "home")
    )
    with anyio.fail_after(ANSWER_S_MAX):
        async with Client(parameters, mode=era) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == list(CATALOGUE)
            bad = await client.call_tool("get_history", {"limit": 0})
            assert bad.is_error
            said = await client.call_tool("record_message", {"role": "user", "content": "x"})
            assert not said.is_error
