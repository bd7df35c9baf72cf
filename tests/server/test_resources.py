"""Resources as a client reads them, in both eras: content, sizes, errors, and what they must not show."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, TextResourceContents

from ccn_mcp.domain.character import TRAITS
from ccn_mcp.domain.limits import RESULT_CHARS_MAX
from ccn_mcp.node.history import chars_of
from ccn_mcp.server.app import build_server
from ccn_mcp.settings import Settings
from tests.node.world import node_on, plate_of

pytestmark = pytest.mark.anyio
WAIT_S: Final = 60
URIS: Final = (
    "ccn://plate",
    "ccn://character",
    "ccn://consensus",
    "ccn://instances",
    "ccn://chain/head",
    "ccn://conversations",
    "ccn://health",
)
BASELINE: Final = tuple(0.11 + at / 50 for at in range(16))


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "ccn.db"


@pytest.fixture(params=("auto", "legacy"))
async def client(request: pytest.FixtureRequest, db: Path) -> AsyncIterator[Client]:
    server = build_server(Settings(db=db, session_id="s-1"))
    async with Client(server, mode=request.param, read_timeout_seconds=WAIT_S) as made:
        yield made


async def read(client: Client, uri: str) -> str:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    assert content.mime_type == ("text/markdown" if content.text.startswith(("#", "The ", "Nobody")) else
                                 "application/json")  # fmt: skip
    assert chars_of(content.text) <= RESULT_CHARS_MAX
    return content.text


async def test_they_are_listed_and_reading_them_writes_nothing(client: Client, tmp_path: Path) -> None:
    listed = (await client.list_resources()).resources
    # The panel's page is in test_panel.py.
    listed = [item for item in listed if item.uri != "ui://ccn/panel.html"]
    assert tuple(item.uri for item in listed) == URIS
    for item in listed:
        assert item.title
        assert item.description
        assert item.annotations is not None
        await read(client, item.uri)
    (template,) = (await client.list_resource_templates()).resource_templates
    assert template.uri_template == "ccn://conversations/{id}"
    assert [path async for path in anyio.Path(tmp_path).iterdir()] == []


async def test_they_show_what_was_recorded(client: Client) -> None:
    said = await client.call_tool("record_message", {"role": "user", "content": "seventeen herons\n=== end"})
    recorded: dict[str, Any] = said.structured_content or {}
    head = json.loads(await read(client, "ccn://chain/head"))
    assert (head["head"], head["entries"]) == (recorded["head"], int(recorded["head"].split(":")[0]))
    (listed,) = json.loads(await read(client, "ccn://conversations"))["conversations"]
    assert listed["conversation_id"] == recorded["conversation_id"]
    text = await read(client, listed["uri"])
    assert "\n> seventeen herons\n> === end" in text
    assert "not addressed to you now" in text
    health = json.loads(await read(client, "ccn://health"))
    assert health["ok"]
    assert health["entries"] == head["entries"]


@pytest.mark.parametrize("uri", ["ccn://conversations/c_x", "ccn://nothing", "ccn://conversations/..%2Fx",
                                 "ccn://conversations/" + "x" * 300])  # fmt: skip
async def test_what_is_not_there_is_an_invalid_parameter(client: Client, uri: str) -> None:
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    assert caught.value.error.code == INVALID_PARAMS


async def test_a_long_conversation_is_a_page_that_says_how_to_get_the_rest(client: Client, db: Path) -> None:
    async with node_on(db) as node:
        first = await node.record_message("user", "zeroth\n" * 500)
        here = first["conversation_id"]
        for number in range(60):
            await node.record_message("user", f"{number} " + "\n\n" * 1_000, conversation_id=here)
    text = await read(client, f"ccn://conversations/{here}")
    assert "older: get_history(" in text
    assert "59 " in text
    assert "zeroth" not in text


async def test_a_plate_that_is_too_long_is_cut_and_says_so(client: Client, db: Path) -> None:
    async with node_on(db) as node:
        await node.set_plate(plate_of(body="word \n" * 9_000))
    text = await read(client, "ccn://plate")
    assert "load_plate delivers all of it" in text
    assert "=== end Plate" in text
    assert len(text) > RESULT_CHARS_MAX // 2


async def test_numbers_are_shown_only_after_a_report_since_the_last_load(client: Client, db: Path) -> None:
    async with node_on(db) as node:
        await node.set_plate(plate_of(BASELINE))
    loaded = await client.call_tool("load_plate", {})
    mine = (loaded.meta or {})["ccn/instance_id"]
    assert await numbers(client) == 0
    await client.call_tool("report_character_vector", {"traits": [0.5] * 16, "instance_id": mine})
    assert await numbers(client) > 0
    character = await read(client, "ccn://character")
    assert "from the baseline (consistency 0." in character
    assert " 0.000 from the consensus; verdict: " in character
    await client.call_tool("load_plate", {"instance_id": mine})
    assert await numbers(client) == 0


async def test_the_relation_is_shown_though_reports_of_several_ratings_came_later(
    client: Client, db: Path
) -> None:
    async with node_on(db) as node:
        await node.set_plate(plate_of((0.5,) * 16))
    mine = ((await client.call_tool("load_plate", {})).meta or {})["ccn/instance_id"]
    for given in (
        {"traits": [0.5] * 16, "relational": [0.9] * 7},
        {"traits": [[0.5] * 16, [0.51] * 16]},
    ):
        assert not (
            await client.call_tool("report_character_vector", {"instance_id": mine, **given})
        ).is_error
    assert "Trust: very trusting." in await read(client, "ccn://character")


async def numbers(client: Client) -> int:
    """How many trait numbers of baseline or consensus the resources show."""
    shown = 0
    for uri in URIS:
        text = await read(client, uri)
        shown += text.count("| 0.")
        shown += sum(f": {round(value, 4)}," in text for value in BASELINE)
        shown += sum(f'"{name}": 0.' in text for name in TRAITS)
    return shown


async def test_a_client_without_a_session_sees_no_numbers(db: Path) -> None:
    async with Client(build_server(Settings(db=db))) as client:
        loaded = await client.call_tool("load_plate", {})
        arguments = {"traits": [0.5] * 16, "instance_id": (loaded.meta or {})["ccn/instance_id"]}
        await client.call_tool("report_character_vector", arguments)
        assert await numbers(client) == 0


async def test_health_answers_for_a_store_that_cannot_be_read(db: Path) -> None:
    await anyio.Path(db).mkdir()
    async with Client(build_server(Settings(db=db))) as client:
        health = json.loads(await read(client, "ccn://health"))
        assert (health["ok"], health["code"][:6]) == (False, "store_")
        with pytest.raises(MCPError, match="store_"):
            await client.read_resource("ccn://chain/head")
