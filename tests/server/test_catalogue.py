"""The catalogue as a client gets it: what it costs, what clients would drop, and whether it is true."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote
from xml.etree import ElementTree

import jsonschema  # type: ignore[import-untyped]  # comes with mcp, its stubs do not
import pytest
from mcp.client import Client
from mcp_types import ListToolsResult
from mcp_types import Tool as Listed

from ccn_mcp import data
from ccn_mcp.domain.character import TRAITS
from ccn_mcp.domain.plate import parse_plate
from ccn_mcp.node import results
from ccn_mcp.server import tools as tool_functions
from ccn_mcp.server.app import build_server
from ccn_mcp.server.catalogue import CATALOGUE
from ccn_mcp.server.schemas import schema_of
from ccn_mcp.settings import Settings
from tests.node.world import head_of, node_on

pytestmark = pytest.mark.anyio
NAMES: Final = (
    "load_plate",
    "record_message",
    "report_character_vector",
    "get_history",
    "verify_chain",
    "validate_character",
    "redact_message",
    "consensus_status",
)
READING: Final = {"get_history", "verify_chain", "consensus_status"}
CLIENT_KEY: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
INPUT_BYTES_MAX: Final = 7_500
LOADED_BYTES_MAX: Final = 4_000
LIST_BYTES_MAX: Final = 16_000
TEXT_CHARS_MAX: Final = 4_096
ICON_BYTES_MAX: Final = 400


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with Client(build_server(Settings(db=tmp_path / "ccn.db"))) as connected:
        yield connected


@pytest.fixture
async def listed(client: Client) -> ListToolsResult:
    return await client.list_tools()


def on_the_wire(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)


def size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def input_bytes(tools: list[Listed]) -> int:
    return sum(
        size({"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema})
        for tool in tools
    )


async def test_the_tools_are_these_and_cost_no_more_than_this(listed: ListToolsResult) -> None:
    assert tuple(tool.name for tool in listed.tools) == NAMES
    assert listed.next_cursor is None
    always = [tool for tool in listed.tools if (tool.meta or {}).get("anthropic/alwaysLoad")]
    assert input_bytes(listed.tools) <= INPUT_BYTES_MAX
    assert input_bytes(always) <= LOADED_BYTES_MAX
    assert size(on_the_wire(listed)) <= LIST_BYTES_MAX


async def test_the_server_has_one_small_icon_and_nothing_else_has(
    client: Client, listed: ListToolsResult
) -> None:
    assert client.server_info is not None
    (icon,) = client.server_info.icons or []
    kind, _, drawing = icon.src.partition(",")
    assert (kind, icon.mime_type) == ("data:image/svg+xml", "image/svg+xml")
    assert len(icon.src) <= ICON_BYTES_MAX
    picture = ElementTree.fromstring(unquote(drawing))  # noqa: S314  # our own
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(picture) == 2
    assert not any(tool.icons for tool in listed.tools)


async def test_nothing_is_cut_or_dropped_by_a_client(client: Client, listed: ListToolsResult) -> None:
    assert client.instructions
    assert len(client.instructions) <= TEXT_CHARS_MAX
    for tool in listed.tools:
        assert tool.title
        assert tool.description
        assert len(tool.description) <= TEXT_CHARS_MAX
        assert re.fullmatch(r"[a-z_]{1,40}", tool.name)
        schema = tool.input_schema
        assert schema["type"] == "object"
        assert not {"anyOf", "oneOf", "allOf", "$ref"} & schema.keys()
        jsonschema.Draft202012Validator.check_schema(schema)
        for key, value in schema["properties"].items():
            assert CLIENT_KEY.fullmatch(key)
            assert value, "an empty schema is a warning in the inspector"
            assert not isinstance(value.get("type"), list)
        assert set(schema.get("required", ())) <= schema["properties"].keys()


@pytest.mark.parametrize("name", NAMES)
def test_the_properties_are_the_functions_parameters(name: str) -> None:
    function = getattr(tool_functions, name)
    # `answer` is the person's: the SDK asks for it, no model can give it.
    ours = ("ctx", "answer")
    parameters = {
        key: value for key, value in inspect.signature(function).parameters.items() if key not in ours
    }
    schema = CATALOGUE[name].input_schema
    assert list(parameters) == list(schema["properties"])
    needed = [key for key, value in parameters.items() if value.default is inspect.Parameter.empty]
    assert needed == schema.get("required", [])
    assert inspect.iscoroutinefunction(function)
    hints = typing.get_type_hints(function)
    for key, value in schema["properties"].items():
        if "type" in value:
            # A list is checked by the node: clients send them as text, too.
            plain = {"string": str, "integer": int | None, "array": Any}[value["type"]]
            assert hints[key] == plain, (name, key)


async def test_the_hints_and_the_meta_are_these(listed: ListToolsResult) -> None:
    for tool in listed.tools:
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint == (tool.name in READING)
        assert tool.annotations.open_world_hint is False
        if tool.name not in READING:
            assert tool.annotations.destructive_hint == (tool.name == "redact_message")
            assert tool.annotations.idempotent_hint == (tool.name == "redact_message")
        meta = tool.meta or {}
        assert (meta.get("anthropic/alwaysLoad") is True) == (tool.name in ("load_plate", "get_history"))
        assert bool(meta.get("anthropic/searchHint")) != bool(meta.get("anthropic/alwaysLoad"))
        assert (tool.output_schema is None) == (tool.name == "load_plate")
    assert (listed.tools[0].meta or {})["anthropic/maxResultSizeChars"] == 200_000


async def test_tools_that_say_they_only_read_change_nothing(client: Client, tmp_path: Path) -> None:
    loaded = await client.call_tool("load_plate", {"session_id": "s"})
    mine = (loaded.meta or {})["ccn/instance_id"]
    async with node_on(tmp_path / "ccn.db") as node:
        before = await head_of(node)
        for name, arguments in (
            ("get_history", {}),
            ("verify_chain", {}),
            ("consensus_status", {"instance_id": mine}),
        ):
            assert not (await client.call_tool(name, arguments)).is_error
        assert await head_of(node) == before
        await client.call_tool("record_message", {"role": "user", "content": "x"})
        assert await head_of(node) != before


async def test_every_output_schema_is_one_and_every_result_fits_it(client: Client, tmp_path: Path) -> None:
    schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
    checkers = {}
    for name, schema in schemas.items():
        if schema is not None:
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
            checkers[name] = jsonschema.Draft202012Validator(closed(schema))
    for name, arguments in await calls_of_every_kind(client, tmp_path / "ccn.db"):
        result = await client.call_tool(name, arguments)
        assert not result.is_error, result.content
        if name not in checkers:
            assert result.structured_content is None
            continue
        checkers[name].validate(result.structured_content)
        assert json.loads(result.content[0].text) == result.structured_content  # type: ignore[union-attr]  # text


async def calls_of_every_kind(client: Client, db: Path) -> list[tuple[str, dict[str, Any]]]:
    """Calls whose answers hold every optional field, empty and filled; the first ones meet an empty store."""
    vector = {"traits": [0.9] * 16, "relational": [0.5] * 7}
    empty: list[tuple[str, dict[str, Any]]] = [
        ("get_history", {}),
        ("verify_chain", {}),
        ("verify_chain", {"known_head": "0:" + "0" * 64}),
        ("consensus_status", {}),
        ("get_history", {"query": "x"}),
    ]
    for name, arguments in empty:
        assert not (await client.call_tool(name, arguments)).is_error
    async with node_on(db) as node:
        await node.set_plate(parse_plate(data.read("example_plate.md")))
    loaded = (await client.call_tool("load_plate", {"title": "T", "model": "m"})).meta or {}
    run = (
        await client.call_tool("validate_character", {"instance_id": loaded["ccn/instance_id"]})
    ).structured_content or {}
    mine, here = loaded["ccn/instance_id"], loaded["ccn/conversation_id"]
    fresh = ((await client.call_tool("load_plate", {"model": "m"})).meta or {})["ccn/instance_id"]
    commission = (
        await client.call_tool("validate_character", {"instance_id": fresh, "kind": "commission"})
    ).structured_content or {}
    assert (await client.call_tool("verify_chain", {"known_head": loaded["ccn/head"]})).structured_content
    return [
        ("load_plate", {"instance_id": mine}),
        ("record_message", {"role": "user", "content": "word " * 20_000, "conversation_id": here}),
        (
            "record_message",
            {"role": "user", "content": "once", "conversation_id": here, "idempotency_key": "k"},
        ),
        (
            "record_message",
            {"role": "user", "content": "once", "conversation_id": here, "idempotency_key": "k"},
        ),
        ("get_history", {}),
        ("get_history", {"conversation_id": here}),
        ("get_history", {"conversation_id": here, "before": 0}),
        ("get_history", {"query": "word"}),
        ("get_history", {"limit": 1}),
        ("report_character_vector", {**vector, "instance_id": mine}),
        ("validate_character", {"instance_id": mine}),
        (
            "validate_character",
            {"instance_id": mine, "run_id": run["run_id"], "answers": ["I am Quire."] * 6},
        ),
        (
            "validate_character",
            {"instance_id": fresh, "run_id": commission["run_id"], "scores": dict.fromkeys(TRAITS, 4)},
        ),
        ("consensus_status", {"instance_id": mine}),
        ("consensus_status", {}),
        ("verify_chain", {}),
        ("verify_chain", {"known_head": "1:" + "0" * 64}),
        ("verify_chain", {"known_head": loaded["ccn/head"]}),
    ]


def closed(schema: Any) -> Any:
    """The schema with nothing allowed that it does not name, so that a forgotten field is seen."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return {**inner, "additionalProperties": False} if "properties" in schema else inner


def test_a_schema_is_made_of_the_types_that_results_have_and_of_no_others() -> None:
    assert schema_of(results.Drift) == {
        "type": "object",
        "properties": {"rms": {"type": "number"}, "max": {"type": "number"}},
        "required": ["rms", "max"],
    }
    assert schema_of(list[str] | None) == {
        "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]
    }
    with pytest.raises(TypeError):
        schema_of(set[str])
