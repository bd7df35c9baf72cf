"""Real Claude Code, its model a script on loopback: it connects, and every tool of ours works through it.

No key, no person's settings; strace shows that nothing is sent to any other machine.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from ccn_mcp.server.catalogue import CATALOGUE
from tests.claude.stub import Answer, Reply, Request, Stub, Text, ToolUse, text_of
from tests.clients.harness import Json, bare_environment
from tests.clients.npm import CLAUDE_CODE, LINUX_ONLY, fetched
from tests.clients.tour import Known, check_store, make_store, tour

pytestmark = [pytest.mark.slow, pytest.mark.anyio, LINUX_ONLY]

RUN_S_MAX: Final = 120.0
PREFIX: Final = "mcp__ccn__"
ALWAYS_LOADED: Final = {"load_plate", "get_history"}
DONE: Final = "All of it worked."
QUIET: Final = {
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
}
ADDRESS: Final = re.compile(r'inet_(?:addr\(|pton\(AF_INET6, )"([^"]+)"')


def elsewhere(trace: str) -> list[str]:
    """The addresses of a trace that are not on loopback."""
    return [found for found in ADDRESS.findall(trace) if not found.startswith("127.") and found != "::1"]


def test_the_trace_is_read_as_strace_writes_it() -> None:
    trace = (
        '7 connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0\n'
        '7 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.1")}, 16) = 0\n'
        "7 connect(3, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), "
        'inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28) = -1 ENETUNREACH\n'
    )
    assert elsewhere(trace) == ["192.0.2.1", "2001:db8::1"]


@dataclass(frozen=True)
class ClaudeCode:
    """The program, with a home folder of its own."""

    program: Path
    home: Path

    @property
    def trace(self) -> Path:
        """What strace saw of the last run."""
        return self.home.with_name("strace.txt")

    def run(self, *arguments: str, **environment: str) -> str:
        """What a command that succeeds prints; every connection that it opens is on loopback."""
        strace = shutil.which("strace")
        if strace is None:
            pytest.fail(
                "strace is needed to see every connection and was not found; `apt-get install strace`"
            )
        watch = [strace, "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(self.trace)]
        done = subprocess.run(
            [*watch, str(self.program), *arguments],
            cwd=self.home,
            env={**bare_environment(self.home), **QUIET, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
        assert elsewhere(self.trace.read_text(errors="replace")) == []
        return done.stdout


@pytest.fixture
def claude(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> ClaudeCode:
    home = tmp_path / "home"
    home.mkdir()
    return ClaudeCode(fetched(tmp_path_factory, CLAUDE_CODE) / "claude", home)


def server_command(db: Path) -> list[str]:
    """Our server as a person's configuration names it."""
    return [str(Path(sys.executable).with_name("ccn-mcp")), "serve", "--db", str(db)]


def test_it_is_added_listed_and_connected(claude: ClaudeCode, tmp_path: Path) -> None:
    db = tmp_path / "record.db"
    command = server_command(db)
    claude.run("mcp", "add", "--scope", "user", "ccn", "--", *command)
    claude.run("mcp", "add", "--scope", "user", "broken", "--", command[0], "sevre")
    listed = claude.run("mcp", "list").splitlines()
    assert f"ccn: {' '.join(command)} - ✔ Connected" in listed
    assert "Connected" not in next(line for line in listed if line.startswith("broken: "))
    assert "Status: ✔ Connected" in claude.run("mcp", "get", "ccn")
    assert not db.exists(), "a check of the connection writes nothing"


async def test_a_turn_in_which_the_model_calls_every_tool(claude: ClaudeCode, tmp_path: Path) -> None:
    db = tmp_path / "record.db"
    await make_store(db)
    known = Known()
    said: list[str] = []
    with Stub(model(known, said)) as stub:
        printed = turn(claude, stub, db)
    assert (printed[-1]["subtype"], printed[-1]["result"]) == ("success", DONE)
    (ours,) = printed[0]["mcp_servers"]
    assert (ours["name"], ours["status"]) == ("ccn", "connected")
    assert "127.0.0.1" in claude.trace.read_text(errors="replace"), "the trace shows the stub's connection"
    assert {request.path for request in stub.journal} == {"/v1/messages"}
    assert offered(stub.turns[0]) == ALWAYS_LOADED
    assert offered(stub.turns[-1]) == set(CATALOGUE), "tool search finds the others"
    kept = json.loads(said[0])
    assert (kept["erased"], kept["note"].split(":")[0]) == (False, "The person closed the question")
    await check_store(db, known)


def turn(claude: ClaudeCode, stub: Stub, db: Path) -> list[Json]:
    """`claude -p` with our server alone; the lines of its JSON stream."""
    command, *arguments = server_command(db)
    servers = claude.home / "servers.json"
    servers.write_text(json.dumps({"mcpServers": {"ccn": {"command": command, "args": arguments}}}))
    given = ["--strict-mcp-config", "--mcp-config", str(servers), "--allowedTools", "mcp__ccn"]
    printed = claude.run(
        "-p",
        "Go through all of it.",
        *given,
        *("--output-format", "stream-json", "--verbose"),
        ANTHROPIC_BASE_URL=stub.url,
        ANTHROPIC_API_KEY="a-stub-takes-any",
    )
    return [json.loads(line) for line in printed.splitlines()]


def model(known: Known, said: list[str]) -> Callable[[Request], Answer]:
    """A model that looks up its tools and then takes the tour, one call a reply; `said` gets the tour's end."""
    steps = tour(known)
    numbers = count(1)

    def reply(request: Request) -> Answer:
        results = list(request.tool_results.values())
        if not results:
            query = "select:" + ",".join(PREFIX + name for name in sorted(CATALOGUE))
            return Reply(Text("First my tools."), ToolUse("toolu_0", "ToolSearch", {"query": query}))
        assert not results[-1].get("is_error"), text_of(results[-1])
        try:
            tool, arguments = next(steps) if len(results) == 1 else steps.send(text_of(results[-1]))
        except StopIteration as end:
            said.append(end.value)
            return Reply(Text(DONE))
        return Reply(ToolUse(f"toolu_{next(numbers)}", PREFIX + tool, arguments))

    return reply


def offered(request: Request) -> set[str]:
    """Our tools whose descriptions the model is given in this request."""
    tools = {tool["name"]: tool for tool in request.body["tools"]}
    return {
        name.removeprefix(PREFIX)
        for name, tool in tools.items()
        if name.startswith(PREFIX) and tool.get("input_schema")
    }
