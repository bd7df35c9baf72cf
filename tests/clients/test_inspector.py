"""MCP Inspector's command line, in both protocol eras: every tool called, every resource read, every prompt got.

Each call starts a server of its own, so whatever a later call finds was on disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients.harness import Json, bare_environment, server_arguments
from tests.clients.npm import INSPECTOR, LINUX_ONLY, fetched
from tests.clients.tour import Known, check_store, guide, look_around, make_store

pytestmark = [pytest.mark.slow, pytest.mark.anyio, LINUX_ONLY]

CALL_S_MAX: Final = 90.0
AT_ONCE: Final = 2
"""Servers that start at the same time where the order does not matter."""

TOOL_SAID_ERROR: Final = 5
"""Exit status of a call whose result is an error; the result is printed all the same."""


@dataclass(frozen=True)
class Inspector:
    """`inspector --cli` against our server over one store."""

    node: Path
    program: Path
    era: str
    db: Path
    home: Path

    def run(self, method: str, *options: str) -> subprocess.CompletedProcess[str]:
        """One command line. The server gets this environment too: Inspector passes on PATH and HOME."""
        server = [sys.executable, *server_arguments(self.db)]
        asked = ["--method", method, "--protocol-era", self.era, "--format", "json", *options]
        return subprocess.run(
            [str(self.node), str(self.program), "--cli", *server, *asked],
            cwd=self.home,
            env=bare_environment(self.home),
            capture_output=True,
            text=True,
            timeout=CALL_S_MAX,
            check=False,
        )

    def ask(self, method: str, **params: Any) -> Json:
        """See `tour.Client`."""
        done = self.run(method, *options(method, params))
        assert done.returncode in (0, TOOL_SAID_ERROR), done.stdout[-2_000:] + done.stderr[-2_000:]
        result: Json = json.loads(done.stdout)["result"]
        assert (done.returncode == TOOL_SAID_ERROR) == bool(result.get("isError"))
        if not method.endswith("/list"):
            modern = "io.modelcontextprotocol/serverInfo" in result.get("_meta", {})
            assert modern == (self.era == "modern"), "the other era was spoken"
        return result


def options(method: str, params: dict[str, Any]) -> list[str]:
    """A request's parameters as Inspector's command line takes them."""
    match method:
        case "tools/call":
            return ["--tool-name", params["name"], "--tool-args-json", json.dumps(params["arguments"])]
        case "resources/read":
            return ["--uri", params["uri"]]
        case "prompts/get":
            given = [f"{name}={value}" for name, value in params["arguments"].items()]
            return ["--prompt-name", params["name"], *(["--prompt-args", *given] if given else [])]
    return []


@pytest.fixture(params=["legacy", "modern"])
def inspector(
    request: pytest.FixtureRequest, node: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> Inspector:
    program = fetched(tmp_path_factory, INSPECTOR) / "clients" / "launcher" / "build" / "index.js"
    home = tmp_path / "home"
    home.mkdir()
    return Inspector(node, program, request.param, tmp_path / "record.db", home)


async def test_every_tool_resource_and_prompt(inspector: Inspector) -> None:
    await make_store(inspector.db)
    known = Known()
    said = guide(known, inspector)
    assert said.startswith("refused: "), "this client cannot ask the person"
    assert f"ccn-mcp redact {known.seq}" in said
    look_around(known, inspector, AT_ONCE)
    await check_store(inspector.db, known)


def test_the_strict_look_at_our_schemas_finds_nothing(inspector: Inspector) -> None:
    listed = inspector.run("tools/list", "--strict")
    assert (listed.returncode, listed.stderr) == (0, ""), "it warns on stderr"
    assert json.loads(listed.stdout)["result"]["tools"]
    assert not inspector.db.exists(), "listing writes nothing"
