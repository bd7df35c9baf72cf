"""Claude Desktop's bundle: made, packed and unpacked by the official tool, then run as its manifest says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp_types import TextContent

from ccn_mcp import __version__, open_node
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import RecordQuery
from ccn_mcp.server.catalogue import CATALOGUE
from tests.clients.harness import ROOT, bare_environment
from tests.clients.npm import LINUX_ONLY, MCPB, fetched

pytestmark = pytest.mark.anyio

MAKE: Final = ROOT / "deploy" / "desktop" / "make_bundle.py"
RUN_S_MAX: Final = 300.0
"""`uv` fetches what the server needs, as it does on a person's computer."""

START_S_MAX: Final = 120.0
PLATE: Final = "# Ferry\n\nYou work with Noor.\n"
SUBSTITUTE: Final = """
import { getMcpConfigForManifest } from "@anthropic-ai/mcpb/node";
const [manifest, extensionPath, userConfig, home] = JSON.parse(process.argv[2]);
const config = await getMcpConfigForManifest(
  { manifest, extensionPath, userConfig, systemDirs: { HOME: home }, pathSeparator: "/" });
console.log(JSON.stringify(config));
"""
MACHINE: Final = re.compile(r'"(/(home|root|Users|tmp|work|var|opt)\\b|[A-Z]:\\\\)')
UV_KNOWS: Final = ("UV_", "PIP_", "SSL_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA")
"""How this machine reaches a package index is no part of what is tried."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that gets packed."""
    out = tmp_path_factory.mktemp("bundle") / "ccn-mcp"
    run(sys.executable, str(MAKE), str(out), cwd=ROOT)
    return out


@pytest.fixture
def manifest(made: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made / "manifest.json").read_text())
    return found


def run(*words: str, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    return done.stdout


def test_the_manifest_names_what_the_server_has(manifest: dict[str, Any]) -> None:
    assert manifest["version"] == __version__
    assert {tool["name"]: tool["description"] for tool in manifest["tools"]} == {
        name: entry.description for name, entry in CATALOGUE.items()
    }
    assert [prompt["name"] for prompt in manifest["prompts"]] == [
        "continue",
        "reflect",
        "validate",
        "commission",
    ]
    assert all(prompt["text"] for prompt in manifest["prompts"])
    settings = manifest["user_config"].values()
    assert [(item["required"], item["default"]) for item in settings] == [(False, ""), (False, "")], (
        "a required one without a value yields no command; one without a default stays a placeholder"
    )


def test_only_what_is_needed_goes_in(made: Path) -> None:
    files = [path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()]
    assert {name.split("/")[0] for name in files} == {
        *("ccn_mcp", "plugin", ".claude-plugin"),
        *("pyproject.toml", "README.md", "LICENSE", "icon.png", "manifest.json"),
    }
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ccn_mcp").rglob("*.py")}
    assert ours <= set(files)
    assert not [name for name in files if "__pycache__" in name or "test" in name or name.endswith(".db")]
    assert not MACHINE.search((made / "manifest.json").read_text())


# ---- packed, unpacked and run --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the official tool."""
    return fetched(tmp_path_factory, MCPB)


@pytest.fixture(scope="module")
def unpacked(made: Path, tool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Claude Desktop has on disk after a double click."""
    folder = tmp_path_factory.mktemp("Claude Extensions")
    program = ("node", str(tool / "dist" / "cli" / "cli.js"))
    assert "schema validation passes" in run(*program, "validate", str(made / "manifest.json"), cwd=folder)
    packed, place = folder / "ccn-mcp.mcpb", folder / "local ccn-mcp"
    run(*program, "pack", str(made), str(packed), cwd=folder)
    run(*program, "unpack", str(packed), str(place), cwd=folder)
    return place


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    shutil.rmtree(tmp_path / "home", ignore_errors=True)  # what uv keeps there is large


def command(tool: Path, place: Path, home: Path, chosen: dict[str, str]) -> StdioServerParameters:
    """The server's command line and environment, put together by the official code."""
    script = tool.parents[2] / "substitute.mjs"
    script.write_text(SUBSTITUTE)
    read = json.loads((place / "manifest.json").read_text())
    config = json.loads(
        run("node", str(script), json.dumps([read, str(place), chosen, str(home)]), cwd=tool.parents[2])
    )
    uv = shutil.which(config["command"])
    if uv is None:
        pytest.fail("uv is needed to run the bundle and was not found; python -m pip install uv")
    own = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251  # how uv reaches its index, and nothing else
        if name.startswith(UV_KNOWS)
    }
    environment = {**bare_environment(home), **own, **config["env"], "UV_CACHE_DIR": str(home / "uv-cache")}
    environment["PATH"] = os.pathsep.join((str(Path(uv).parent), os.defpath))
    return StdioServerParameters(command=uv, args=config["args"], env=environment, cwd=home)


@asynccontextmanager
async def desktop(parameters: StdioServerParameters) -> Any:
    with anyio.fail_after(RUN_S_MAX):
        async with Client(stdio_client(parameters), read_timeout_seconds=START_S_MAX) as client:
            yield client


@pytest.mark.slow
@LINUX_ONLY
async def test_it_runs_as_the_manifest_says(tool: Path, unpacked: Path, home: Path, tmp_path: Path) -> None:
    folder, plate = tmp_path / "my record", tmp_path / "my plate.md"
    folder.mkdir()
    plate.write_text(PLATE)
    async with desktop(command(tool, unpacked, home, {"folder": str(folder), "plate": str(plate)})) as client:
        read = json.loads((unpacked / "manifest.json").read_text())
        assert [item.name for item in (await client.list_tools()).tools] == [i["name"] for i in read["tools"]]
        assert [item.name for item in (await client.list_prompts()).prompts] == [
            item["name"] for item in read["prompts"]
        ]
        assert list(folder.iterdir()) == [], "a start writes nothing"
        loaded = await client.call_tool("load_plate", {})
        (said,) = loaded.content
        assert isinstance(said, TextContent)
        assert "You work with Noor." in said.text
        recorded = await client.call_tool("record_message", {"role": "user", "content": "seventeen herons"})
        assert not recorded.is_error
    async with open_node(folder / "ccn.db", config_dir=tmp_path / "reader") as node:
        found = await node.ctx.store.records(RecordQuery(kinds=(Kind.PLATE, Kind.MESSAGE), limit=9))
    bodies = [item.body for item in found if item.body is not None]
    assert {(item.get("name"), item.get("text"), item["source"]) for item in bodies} == {
        ("Ferry", None, "settings"),
        (None, "seventeen herons", "tool"),
    }


@pytest.mark.slow
@LINUX_ONLY
async def test_left_empty_it_uses_the_record_of_the_other_clients(
    tool: Path, unpacked: Path, home: Path
) -> None:
    async with desktop(command(tool, unpacked, home, {})) as client:
        recorded = await client.call_tool("record_message", {"role": "user", "content": "seventeen herons"})
        assert not recorded.is_error
    assert (home / ".local" / "share" / "ccn-mcp" / "ccn.db").is_file()
