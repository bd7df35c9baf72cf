"""The TypeScript clients of both generations, which most applications are built on: stdio and Streamable HTTP.

The client runs in a Node process that does what it is told, line by line, so the tour is the same for all of them.
The person behind this client says yes when they are asked.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import pytest

from ccn_mcp import __version__
from tests.clients.harness import Json, bare_environment, server_arguments
from tests.clients.npm import LINUX_ONLY, TS_CLIENT2, TS_SDK1, fetched
from tests.clients.tour import Known, check_store, guide, look_around, make_store
from tests.server.http_wire import HttpServer

pytestmark = [pytest.mark.slow, pytest.mark.anyio, LINUX_ONLY]

LIFE_S_MAX: Final = 120.0
HERE: Final = Path(__file__).parent
REMOTE: Final = "ts_remote.mjs"
LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
PINNED: Final = {"pin": MODERN}

CLIENTS: Final = [
    pytest.param(TS_SDK1, "ts_sdk1.mjs", None, LEGACY, id="sdk-1"),
    pytest.param(TS_CLIENT2, "ts_client2.mjs", None, LEGACY, id="client-2-default"),
    pytest.param(TS_CLIENT2, "ts_client2.mjs", "auto", MODERN, id="client-2-auto"),
    pytest.param(TS_CLIENT2, "ts_client2.mjs", PINNED, MODERN, id="client-2-pinned"),
]
"""Package, script, how it negotiates, and the revision that must come of it."""


class TypeScript:
    """A client in a Node process; what the process says first is in `hello`."""

    def __init__(self, node: Path, script: Path, wanted: Json, home: Path) -> None:
        self.process = subprocess.Popen(
            [str(node), str(script), json.dumps(wanted)],
            cwd=home,
            env=bare_environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._limit = threading.Timer(LIFE_S_MAX, self.process.kill)
        self._limit.daemon = True
        self.hello: Json = {}

    def __enter__(self) -> Self:
        self._limit.start()
        self.hello = self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _, complaints = self.process.communicate()
        self._limit.cancel()
        assert error is not None or (self.process.returncode, complaints) == (0, "")

    def ask(self, method: str, **params: Any) -> Json:
        """See `tour.Client`."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"method": method, "params": params}) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        assert "result" in answer, answer
        result: Json = answer["result"]
        return result

    def _answer(self) -> Json:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        answer: Json = json.loads(line)
        return answer


Connect: TypeAlias = Callable[[str, str, Json], TypeScript]


@pytest.fixture
def connect(node: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Connect:
    """A client from its package, its script and how it reaches the server."""

    def to(package: str, script: str, wanted: Json) -> TypeScript:
        # Node looks for packages beside the script, so the script goes there.
        folder = fetched(tmp_path_factory, package).parents[2]
        for name in (script, REMOTE):
            shutil.copy(HERE / name, folder)
        home = tmp_path / "client"
        home.mkdir()
        return TypeScript(node, folder / script, wanted, home)

    return to


async def visit(client: TypeScript, db: Path, revision: str) -> None:
    """Everything there is, and an erasure that the person agrees to."""
    assert client.hello["revision"] == revision
    assert client.hello["server"]["version"] == __version__
    assert client.hello["instructions"]
    known = Known()
    erased = json.loads(guide(known, client))
    assert (erased["seq"], erased["erased"]) == (known.seq, True)
    look_around(known, client)
    await check_store(db, known, erased=True)


@pytest.mark.parametrize(("package", "script", "mode", "revision"), CLIENTS)
async def test_over_stdio(
    connect: Connect, tmp_path: Path, package: str, script: str, mode: Any, revision: str
) -> None:
    db, home = tmp_path / "record.db", tmp_path / "server"
    await make_store(db)
    server = {
        "command": sys.executable,
        "args": server_arguments(db),
        "env": bare_environment(home),
        "cwd": str(home),
    }
    with connect(package, script, {**server, "mode": mode}) as client:
        await visit(client, db, revision)


@pytest.mark.parametrize(("package", "script", "mode", "revision"), CLIENTS)
async def test_over_http(
    connect: Connect, tmp_path: Path, package: str, script: str, mode: Any, revision: str
) -> None:
    db = tmp_path / "store" / "record.db"
    db.parent.mkdir()
    with HttpServer(db) as server:
        await make_store(db)
        token = server.token_file.read_text().strip()
        with connect(package, script, {"url": server.url, "token": token, "mode": mode}) as client:
            await visit(client, db, revision)
