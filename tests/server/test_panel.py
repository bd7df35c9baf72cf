"""The panel of MCP Apps as a host gets it: announced, named by its tool, whole in one file, numbers for it alone."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from mcp.client import Client, advertise
from mcp_types import TextResourceContents

from ccn_mcp import data
from ccn_mcp.server.app import build_server
from ccn_mcp.server.panel import META_KEY, MIME_TYPE, URI, Panel
from ccn_mcp.settings import Settings

pytestmark = pytest.mark.anyio
APPS: Final = advertise("io.modelcontextprotocol/ui", {"mimeTypes": [MIME_TYPE]})
WAIT_S: Final = 60


@pytest.fixture(params=("auto", "legacy"))
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    server = build_server(Settings(db=tmp_path / "ccn.db"))
    async with Client(server, mode=request.param, extensions=[APPS], read_timeout_seconds=WAIT_S) as made:
        yield made


async def test_a_host_is_told_of_the_panel(host: Client, request: pytest.FixtureRequest) -> None:
    assert host.server_capabilities is not None
    # The older revisions have no word for it; their hosts go by the tool's `_meta`.
    legacy = request.node.callspec.params["host"] == "legacy"
    told: dict[str, dict[str, Any]] | None = None if legacy else {Panel.identifier: {}}
    assert host.server_capabilities.extensions == told
    tools = (await host.list_tools()).tools
    showing = [tool.name for tool in tools if "ui" in (tool.meta or {})]
    assert showing == ["consensus_status"]
    assert (tools[-1].meta or {})["ui"] == {"resourceUri": URI}
    (listed,) = [item for item in (await host.list_resources()).resources if item.uri == URI]
    assert listed.mime_type == MIME_TYPE
    (content,) = (await host.read_resource(URI)).contents
    assert isinstance(content, TextResourceContents)
    assert (content.mime_type, content.text.encode()) == (MIME_TYPE, data.read("panel.html"))
    assert (content.meta or {})["ui"] == {"prefersBorder": True}


async def test_numbers_go_to_the_panel_and_never_to_the_model(host: Client) -> None:
    loaded = (await host.call_tool("load_plate", {})).meta or {}
    mine = {"instance_id": loaded["ccn/instance_id"]}
    await host.call_tool("report_character_vector", {**mine, "traits": [0.625] * 16})
    await host.call_tool("load_plate", mine)
    result = await host.call_tool("consensus_status", mine)
    assert "0.625" not in json.dumps(result.structured_content)
    assert "0.625" not in "".join(part.text for part in result.content if part.type == "text")
    numbers = (result.meta or {})[META_KEY]
    (point,) = numbers["series"]["points"]
    assert point["traits"] == [0.625] * 16
    assert numbers["entries"] == int((result.structured_content or {})["head"].split(":")[0])


async def test_a_conversation_of_another_scope_is_not_named(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    seen = []
    for scope in ("one", "two"):
        async with Client(build_server(Settings(db=db, scope=scope)), extensions=[APPS]) as client:
            loaded = (await client.call_tool("load_plate", {})).meta or {}
            mine = {"instance_id": loaded["ccn/instance_id"]}
            await client.call_tool("report_character_vector", {**mine, "traits": [0.625] * 16})
            numbers = ((await client.call_tool("consensus_status", {})).meta or {})[META_KEY]
            seen.append([point["conversation_id"] for point in numbers["series"]["points"]])
            talk = loaded["ccn/conversation_id"]
    assert seen[0] != [None]
    assert seen[1] == [None, talk]


@pytest.mark.parametrize("mime_types", [None, ["text/html"]], ids=str)
async def test_a_client_that_shows_no_panel_gets_no_numbers(
    tmp_path: Path, mime_types: list[str] | None
) -> None:
    extensions = [advertise(Panel.identifier, {"mimeTypes": mime_types})] if mime_types else None
    async with Client(build_server(Settings(db=tmp_path / "ccn.db")), extensions=extensions) as client:
        result = await client.call_tool("consensus_status", {})
        assert META_KEY not in (result.meta or {})
        assert result.structured_content


def test_the_page_is_one_file_that_asks_for_nothing_and_builds_no_markup() -> None:
    html = data.read("panel.html").decode()
    assert not re.findall(
        r"""(?:src|href|action)\s*=\s*["']?(?!data:,|["'#])""", html.partition("<script>")[0]
    )
    # The one address is a namespace.
    assert set(re.findall(r"https?://[^\"'\s)]+", html)) == {"http://www.w3.org/2000/svg"}
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "import(",
    ):
        assert word not in html, word
    assert not re.findall(r"\bon[a-z]+\s*=\s*[\"']|style\s*=|<form|@import|url\(", html)
    assert len(html) < 40_000
