"""The HTTP server as a process: the token, who is let in, many clients at once, a quiet end, nothing lost."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.limits import HTTP_BODY_BYTES_MAX, HTTP_DRAIN_S_MAX, STORE_WAIT_S_MAX
from ccn_mcp.server.http import listen, parse_address
from ccn_mcp.server.token import TokenFile
from ccn_mcp.settings import Settings
from tests.clients.harness import (
    TOOLS,
    WALK_S_MAX,
    Json,
    bare_environment,
    server_arguments,
    structured,
    walk,
)
from tests.server.http_wire import ANSWER_S_MAX, HttpServer, request
from tests.server.test_stdio import recorded

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, permissions and ptys are POSIX's")

BURST: Final = 50
POLL_S: Final = 0.01
WRONG: Final = "x" * 43
INITIALIZE: Final = request(
    0,
    "initialize",
    {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}},
)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "store" / "ccn.db"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """One server for the tests that only knock."""
    with HttpServer(tmp_path_factory.mktemp("http") / "store" / "ccn.db") as server:
        yield server


@asynccontextmanager
async def client_of(server: HttpServer, mode: str) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers=server.authorization, timeout=ANSWER_S_MAX) as web,
        Client(streamable_http_client(server.url, http_client=web), mode=mode) as client,
    ):
        yield client


async def called(client: Client, tool: str, **arguments: Any) -> Json:
    result = await client.call_tool(tool, arguments)
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


def said(text: str) -> dict[str, str]:
    return {"role": "user", "content": text, "session_id": "s"}


def run(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ccn_mcp", *arguments],
        env={
            **bare_environment(config.parent / "home"),
            "CCN_CONFIG_DIR": str(config),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ANSWER_S_MAX,
        check=False,
    )


# ---- clients -------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("mode", "revision"), [("legacy", "2025-11-25"), ("auto", "2026-07-28"), ("2026-07-28", "2026-07-28")]
)
async def test_the_whole_path_in_both_eras(db: Path, mode: str, revision: str) -> None:
    with HttpServer(db) as server:
        assert not db.parent.exists(), "nothing is written before the first write"
        with anyio.fail_after(WALK_S_MAX):
            async with client_of(server, mode) as client:
                assert client.protocol_version == revision
                assert {tool.name for tool in (await client.list_tools()).tools} >= TOOLS

                async def call(tool: str, arguments: Json) -> Json:
                    return await called(client, tool, **arguments)

                await walk(call)
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == (0, "")


@pytest.mark.anyio
async def test_two_http_clients_and_a_stdio_server_share_one_consensus(db: Path) -> None:
    stdio = StdioServerParameters(
        command=sys.executable, args=server_arguments(db), env=bare_environment(db.parent.parent / "home")
    )
    with HttpServer(db) as server, anyio.fail_after(WALK_S_MAX):
        async with (
            client_of(server, "legacy") as one,
            client_of(server, "auto") as two,
            Client(stdio) as three,
        ):
            ids, verdicts = [], []
            for at, client in enumerate((one, two, three)):
                loaded = await called(client, "load_plate", session_id=f"session-{at}")
                ids.append(loaded["_meta"]["ccn/instance_id"])
            for client, instance in zip((one, two, three), ids, strict=True):
                judged = await called(
                    client, "report_character_vector", instance_id=instance, traits=[0.8] * 16
                )
                verdicts.append(structured(judged))
            assert [verdict["participants"] for verdict in verdicts] == [1, 2, 3]
            assert [verdict["peer_verdicts"] for verdict in verdicts] == [False, False, True]
            again = await called(one, "report_character_vector", instance_id=ids[0], traits=[0.8] * 16)
            assert structured(again)["peer_verdicts"], "what stdio wrote counts over HTTP"


@pytest.mark.anyio
async def test_a_burst_lands_in_one_unbroken_chain(db: Path) -> None:
    with HttpServer(db) as server:
        with anyio.fail_after(WALK_S_MAX):
            async with client_of(server, "legacy") as one, client_of(server, "auto") as two:
                answers: list[Json] = []

                async def record(client: Client, at: int) -> None:
                    answers.append(
                        structured(
                            await called(
                                client,
                                "record_message",
                                role="user",
                                content=f"m{at}",
                                session_id=f"s{at % 5}",
                            )
                        )
                    )

                async with anyio.create_task_group() as group:
                    for at in range(BURST):
                        group.start_soon(record, (one, two)[at % 2], at)
                assert structured(await called(one, "verify_chain"))["ok"]
        server.process.send_signal(signal.SIGINT)
        assert server.end() == (0, "")
    assert len({answer["seq"] for answer in answers}) == BURST
    assert len({answer["conversation_id"] for answer in answers}) == 5
    texts = await anyio.to_thread.run_sync(recorded, db)
    assert sorted(texts, key=str) == sorted(f"m{at}" for at in range(BURST))


# ---- who is let in -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/mcp"), ("GET", "/mcp"), ("DELETE", "/mcp"), ("GET", "/")]
)
@pytest.mark.parametrize(
    "given", ["", f"Bearer {WRONG}", WRONG, "Bearer", "Bearer ", f"Basic {WRONG}", "Bearer " + "é" * 43]
)
def test_without_the_token_nothing_is_served(shared: HttpServer, method: str, path: str, given: str) -> None:
    headers = {"authorization": given.encode().decode("latin-1")} if given else {}
    answer = shared.ask(method, INITIALIZE, path=path, **headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="ccn-mcp"')
    assert ("invalid_token" in answer.headers["www-authenticate"]) == bool(given)
    assert b"ccn-mcp token show" in answer.body
    assert WRONG.encode() not in answer.body


def test_the_token_is_let_in_however_the_scheme_is_written(shared: HttpServer) -> None:
    token = shared.token_file.read_text().strip()
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert shared.ask(body=INITIALIZE, authorization=f"{scheme} {token}").status == 200
    assert shared.ask(body=INITIALIZE, authorization=f"Bearer {token[:-1]}").status == 401
    assert shared.ask(body=INITIALIZE, authorization=f"Bearer {token}x").status == 401


@pytest.mark.parametrize("version", [None, "2026-07-28"])
def test_hosts_and_origins_that_are_not_ours_are_refused(shared: HttpServer, version: str | None) -> None:
    port = shared.port
    more = {**shared.authorization, **({"mcp_protocol_version": version} if version else {})}
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        f"127.0.0.1.evil.example:{port}",
    ):
        assert shared.ask(body=INITIALIZE, host=host, **more).status == 421, host
    for origin in (
        "https://evil.example",
        f"http://evil.example:{port}",
        "null",
        "http://localhost:1",
        f"https://localhost:{port}",
        f"http://localhost:{port}.evil.example",
    ):
        assert shared.ask(body=INITIALIZE, origin=origin, **more).status == 403, origin
    for name in ("127.0.0.1", "localhost", "[::1]"):
        mine = shared.ask(body=INITIALIZE, host=f"{name}:{port}", origin=f"http://{name}:{port}", **more)
        assert mine.status == (200 if version is None else 400), "the 2026 revision knows no initialize"
        assert b"Invalid" not in mine.body


def test_odd_and_large_bodies_are_answered_and_survived(shared: HttpServer) -> None:
    session = shared.initialize()
    more = {**shared.authorization, "mcp_session_id": session}
    half = b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"\\ud83d"}}'
    for body in (b"", b"{", b"null", b"\xff", b"[" * 100_000, half):
        assert 400 <= shared.ask(body=body, **more).status < 500, body[:20]
    assert shared.ask(body=b" " * (HTTP_BODY_BYTES_MAX + 1), **more).status == 413
    most = shared.call("record_message", said("\x07" * 1_000_000), session).message()
    assert not most["result"].get("isError"), "what stdio takes is taken here, however JSON writes it"


def test_allowed_hosts_are_let_in_and_pages_of_theirs_are_not(db: Path) -> None:
    with HttpServer(db, "--allow-host", "ccn.example.org") as server:
        mine = {**server.authorization, "host": "ccn.example.org"}
        assert server.ask(body=INITIALIZE, **mine).status == 200
        assert server.ask(body=INITIALIZE, origin="https://ccn.example.org", **mine).status == 403


# ---- the token -----------------------------------------------------------------------------------------


def test_the_token_is_private_stays_and_is_nowhere_else(db: Path) -> None:
    with HttpServer(db) as server:
        token = server.token_file.read_text().strip()
        assert stat.S_IMODE(server.token_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(server.config.stat().st_mode) == 0o700
        assert [path.name for path in server.config.iterdir()] == ["http-token"]
        assert (
            not server.call("record_message", said("x"), server.initialize())
            .message()["result"]
            .get("isError")
        )
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == (0, "")
    assert str(server.token_file) in "".join(server.said)
    kept = [
        path for path in db.parent.parent.rglob("*") if path.is_file() and token.encode() in path.read_bytes()
    ]
    assert kept == [server.token_file]
    assert token not in "".join(server.said)
    with HttpServer(db) as second:
        assert second.token_file.read_text().strip() == token


def test_a_new_token_counts_at_once(db: Path) -> None:
    with HttpServer(db) as server:
        old = server.authorization
        assert server.ask(body=INITIALIZE, **old).status == 200
        done = run(server.config, "token", "new")
        assert (done.returncode, done.stderr) == (0, "")
        assert server.ask(body=INITIALIZE, **old).status == 401
        assert server.authorization != old
        assert server.ask(body=INITIALIZE, **server.authorization).status == 200
        server.token_file.unlink()
        assert server.ask(body=INITIALIZE, **old).status == 401


def test_token_show(tmp_path: Path) -> None:
    config = tmp_path / "config"
    none = run(config, "token", "show")
    assert (none.returncode, none.stdout) == (3, "")
    assert "ccn-mcp token new" in none.stderr
    assert not config.exists()
    assert run(config, "token", "new").returncode == 0
    token = (config / "http-token").read_text().strip()
    piped = run(config, "token", "show")
    assert (piped.returncode, piped.stdout) == (4, "")
    assert token not in piped.stderr
    assert f'"token": "{token}"' in run(config, "token", "show", "--json").stdout
    assert token in on_a_terminal(config, "token", "show")
    (config / "http-token").chmod(0o644)
    leaked = run(config, "token", "show", "--json")
    assert (leaked.returncode, leaked.stdout) == (4, "")
    assert token not in leaked.stderr
    refused = run(config, "serve", "--http", "0")
    assert refused.returncode == 4
    assert run(config, "token", "new").returncode == 0
    assert run(config, "token", "show", "--json").returncode == 0


def test_first_starts_at_once_share_one_token(tmp_path: Path) -> None:
    chosen = Settings(db=tmp_path / "ccn.db", config_dir=tmp_path / "not" / "there" / "yet")

    def start(_: int) -> str:
        file = TokenFile(chosen)
        file.ensure()
        return file.read()

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(start, range(64)))) == 1
    file = TokenFile(chosen)
    assert [path.name for path in file.path.parent.iterdir()] == ["http-token"]
    before = file.read()
    file._write(replacing=False)  # as by a start that saw no file a moment ago
    assert file.read() == before
    assert file.new() != before


@pytest.mark.parametrize("content", ["", "short", "with spaces " * 5, "é" * 40, "x" * 201])
def test_a_file_that_holds_no_token_opens_nothing(tmp_path: Path, content: str) -> None:
    file = TokenFile(Settings(db=tmp_path / "ccn.db", config_dir=tmp_path))
    file.path.touch(0o600)
    file.path.write_text(content)
    with pytest.raises(BadInput, match="ccn-mcp token new") as refused:
        file.ensure()
    assert not content or content not in str(refused.value)
    assert not file.opens(content.encode())
    assert not file.opens(b"")


def on_a_terminal(config: Path, *arguments: str) -> str:
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "ccn_mcp", *arguments],
            env={
                **bare_environment(config.parent / "home"),
                "CCN_CONFIG_DIR": str(config),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            stdout=theirs,
            timeout=ANSWER_S_MAX,
            check=True,
        )
        return os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)


# ---- addresses -----------------------------------------------------------------------------------------


def test_addresses() -> None:
    assert parse_address("8765") == ("127.0.0.1", 8765)
    assert parse_address("localhost:0") == ("localhost", 0)
    assert parse_address("[::1]:80") == ("::1", 80)
    for text in (
        "",
        "x",
        ":80",
        "x:y",
        "1:2:3",
        "::1:80",
        "localhost:65536",
        "[]:80",
        "a b",
        "-1",
        "\uff18\uff10",
    ):
        with pytest.raises(BadInput, match="HOST:"):
            parse_address(text)


def test_an_address_in_use_and_one_that_is_nobodys() -> None:
    with closing(listen("localhost", 0, auth=False).socket) as taken:
        assert taken.getsockname()[0] == "127.0.0.1"
        with pytest.raises(BadInput, match="choose another port"):
            listen("127.0.0.1", taken.getsockname()[1], auth=True)
    with pytest.raises(BadInput, match="choose another port"):
        listen("192.0.2.1", 0, auth=True)
    with pytest.raises(BadInput, match="no host"):
        listen("no.such.host.invalid", 0, auth=True)


def test_no_auth_is_for_loopback_and_says_so(db: Path) -> None:
    with HttpServer(db, "--no-auth") as server:
        assert server.ask(body=INITIALIZE).status == 200
        assert server.ask(body=INITIALIZE, host="evil.example").status == 421
        assert server.ask(body=INITIALIZE, origin="https://evil.example").status == 403
        assert "without a token" in server.said[1]
        assert not server.config.exists()
    with pytest.raises(BadInput, match="--no-auth is for this machine only"):
        listen("0.0.0.0", 0, auth=False)  # noqa: S104  # refused


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--http", "0.0.0.0:0", "--no-auth"], "--no-auth"),
        (["--http", "nowhere"], "[HOST:]PORT"),
        (["--no-auth"], "--http"),
        (["--http", "0", "--allow-host", "a/b"], "host name"),
    ],
)
def test_what_cannot_be_served_is_said_with_status_2(tmp_path: Path, arguments: list[str], word: str) -> None:
    done = run(tmp_path / "config", "serve", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ccn-mcp serve: ")
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "config").exists()


def test_a_server_that_finds_its_port_taken_ends_with_status_2(tmp_path: Path, shared: HttpServer) -> None:
    done = run(tmp_path / "config", "serve", "--http", str(shared.port))
    assert done.returncode == 2
    assert "choose another port" in done.stderr


def test_a_server_that_cannot_start_says_so(db: Path) -> None:
    broken = (
        "import pathlib, sys; import ccn_mcp.server.app as app; from ccn_mcp.server.http import serve_http\n"
        "from ccn_mcp.settings import Settings\n"
        "app.node_of = None; folder = pathlib.Path(sys.argv[1])\n"
        "sys.exit(serve_http(Settings(db=folder / 'x.db', config_dir=folder), '127.0.0.1', 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", broken, str(db.parent.parent)],
        env={**bare_environment(db.parent.parent / "home"), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=ANSWER_S_MAX,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("ccn-mcp: the server could not start; ccn-mcp doctor looks for the reason\n")
    assert "serving at" not in done.stderr


# ---- the end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_what_was_acknowledged_before_a_signal_is_kept(db: Path, era: str) -> None:
    told: list[str] = []
    with HttpServer(db) as server:
        session = server.initialize() if era == "legacy" else None
        first = threading.Event()

        def record(at: int) -> None:
            try:
                answer = server.call("record_message", said(f"m{at}"), session)
            except OSError:
                return  # came too late
            if answer.status == 200 and not answer.message()["result"].get("isError"):
                told.append(f"m{at}")
                first.set()

        with ThreadPoolExecutor(16) as pool:
            for at in range(200):
                pool.submit(record, at)
            assert first.wait(ANSWER_S_MAX)
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGINT)
        assert server.end() == (0, "")
    assert told
    assert set(told) <= set(recorded(db))


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_call_that_waits_when_the_signal_comes_is_answered(db: Path, era: str) -> None:
    """Another process holds the store; streams without an end do not hold up the server's."""
    with HttpServer(db) as server:
        session = server.initialize()
        assert server.call("record_message", said("first"), session).status == 200
        with (
            closing(sqlite3.connect(db, isolation_level=None)) as other,
            server.stream(session) as stream,
            ThreadPoolExecutor(1) as pool,
        ):
            other.execute("BEGIN IMMEDIATE")
            waiting = pool.submit(
                server.call, "record_message", said("late"), session if era == "legacy" else None
            )
            until_its_turn_is_taken(db)
            server.process.send_signal(signal.SIGTERM)
            stream.read()  # to its proper end: the server has seen the signal
            assert server.process.poll() is None
            assert not waiting.done()
            other.execute("ROLLBACK")
            assert not waiting.result(ANSWER_S_MAX).message()["result"].get("isError")
        assert server.end() == (0, "")
    assert recorded(db) == ["first", "late"]


def until_its_turn_is_taken(db: Path) -> None:
    """A writer of another process is in its turn, and with the store held that means: it waits for the store."""
    handle = os.open(db.with_name(f"{db.name}.lock"), os.O_RDWR)
    deadline = time.monotonic() + ANSWER_S_MAX
    try:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(handle, fcntl.LOCK_UN)
            time.sleep(POLL_S)
        raise AssertionError(f"no writer took its turn in {ANSWER_S_MAX:g} s")
    finally:
        os.close(handle)


def test_streams_without_an_end_end_with_the_server(db: Path) -> None:
    """Each is ended by the server. Those that the drain's time-out cuts off raise `IncompleteRead`."""
    with HttpServer(db) as server, ExitStack() as stack:
        streams = [stack.enter_context(server.stream(server.initialize())) for _ in range(8)]
        server.process.send_signal(signal.SIGTERM)
        for stream in streams:
            stream.read()
        assert server.end() == (0, "")


def test_a_call_may_take_as_long_as_the_store_lets_it_wait() -> None:
    assert HTTP_DRAIN_S_MAX > STORE_WAIT_S_MAX


def test_a_session_of_the_shell_that_started_it_is_not_everybodys(db: Path) -> None:
    with HttpServer(db, CLAUDE_CODE_SESSION_ID="the-shells") as server:
        one, two = (
            server.call("record_message", {"role": "user", "content": text}, server.initialize()).message()
            for text in ("a", "b")
        )
        mine = one["result"]["structuredContent"]["conversation_id"]
        assert two["result"]["structuredContent"]["conversation_id"] != mine
