"""The protocol's own conformance suite against our HTTP server: two of its releases, both eras.

Scenarios are those that any server must pass; the others call tools that only the suite's own example server has.
The suite cannot send a token, so the server runs with --no-auth.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients.harness import bare_environment
from tests.clients.npm import LINUX_ONLY, fetched
from tests.server.http_wire import HttpServer, request

pytestmark = [pytest.mark.slow, LINUX_ONLY]

SCENARIO_S_MAX: Final = 90.0
SUITE: Final = "@modelcontextprotocol/conformance"
OLD: Final = "0.1.16"
NEW: Final = "0.2.0-alpha.12"

SHARED: Final = ("tools-list", "resources-list", "prompts-list", "server-sse-multiple-streams")
LEGACY: Final = (*SHARED, "server-initialize", "ping", "dns-rebinding-protection")
MODERN: Final = (
    *SHARED,
    "server-stateless",
    "sep-2164-resource-not-found",
    "dns-rebinding-protection",
    "caching",
    "http-header-validation",
)
CASES: Final = (
    [(OLD, None, name) for name in LEGACY]
    + [(NEW, "2025-11-25", name) for name in (*LEGACY, "server-session-lifecycle")]
    + [(NEW, "2026-07-28", name) for name in MODERN]
)
OPTIONAL: Final = (
    [(version, revision, "resources-subscribe") for version, revision in ((OLD, None), (NEW, "2025-11-25"))]
    + [
        (version, revision, "resources-unsubscribe")
        for version, revision in ((OLD, None), (NEW, "2025-11-25"))
    ]
    + [(OLD, None, "completion-complete"), (NEW, "2026-07-28", "completion-complete")]
)
"""Run where the server says that it serves them."""

NEEDS_THE_SUITES_TOOL: Final = {
    "sep-2575-server-rejects-undeclared-capability",
    "sep-2575-missing-capability-http-400",
}
"""Checks of `server-stateless` that call `test_missing_capability`, a tool of the suite's example server."""


@pytest.fixture(scope="session")
def suites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two releases of the suite."""
    return {
        version: fetched(tmp_path_factory, f"{SUITE}@{version}") / "dist" / "index.js"
        for version in (OLD, NEW)
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with HttpServer(tmp_path_factory.mktemp("conformance") / "store" / "ccn.db", "--no-auth") as running:
        yield running


def checks(
    node: Path, suite: Path, url: str, scenario: str, revision: str | None, folder: Path
) -> list[dict[str, Any]]:
    """What the suite found, check by check."""
    asked = ["--url", url, "--scenario", scenario, "--output-dir", str(folder / "out")]
    done = subprocess.run(
        [str(node), str(suite), "server", *asked, *(["--spec-version", revision] if revision else [])],
        cwd=folder,
        env=bare_environment(folder / "home"),
        capture_output=True,
        text=True,
        timeout=SCENARIO_S_MAX,
        check=False,
    )
    written = list((folder / "out").rglob("checks.json"))
    assert len(written) == 1, done.stdout[-2_000:] + done.stderr[-2_000:]
    found: list[dict[str, Any]] = json.loads(written[0].read_text())
    assert found
    return found


def failures(found: list[dict[str, Any]]) -> dict[str, str]:
    return {item["id"]: item.get("errorMessage", "") for item in found if item["status"] == "FAILURE"}


@pytest.mark.parametrize(("version", "revision", "scenario"), CASES)
def test_the_suite_finds_nothing(
    node: Path,
    suites: dict[str, Path],
    server: HttpServer,
    tmp_path: Path,
    version: str,
    revision: str | None,
    scenario: str,
) -> None:
    found = checks(node, suites[version], server.url, scenario, revision, tmp_path)
    failed = failures(found)
    if scenario == "server-stateless":
        assert set(failed) == NEEDS_THE_SUITES_TOOL, failed
    else:
        assert not failed
    assert any(item["status"] == "SUCCESS" for item in found)


@pytest.mark.parametrize(("version", "revision", "scenario"), OPTIONAL)
def test_what_is_served_passes(
    node: Path,
    suites: dict[str, Path],
    server: HttpServer,
    tmp_path: Path,
    version: str,
    revision: str | None,
    scenario: str,
) -> None:
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "c", "version": "1"},
    }
    answer = server.ask(body=request(0, "initialize", params)).message()["result"]["capabilities"]
    served = (
        "completions" in answer if "completion" in scenario else answer.get("resources", {}).get("subscribe")
    )
    if not served:
        pytest.skip(f"{scenario.split('-')[0]}: the server says that it does not serve this")
    assert not failures(checks(node, suites[version], server.url, scenario, revision, tmp_path))


def test_the_suite_left_the_server_standing(server: HttpServer) -> None:
    assert server.process.poll() is None
    assert len(server.said) == 2, server.said
