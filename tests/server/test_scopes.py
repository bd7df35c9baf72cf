"""One project's record never turns up in another's: two scopes on one store, and excluded folders."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequestParams, ElicitResult, PromptReference, ResourceTemplateReference

from ccn_mcp import settings
from ccn_mcp.server.app import build_server
from ccn_mcp.settings import Settings
from tests.node.world import head_of, node_on

pytestmark = pytest.mark.anyio
SAID: Final = "The harbour project pays seventeen herons"
TITLE: Final = "Harbour merger"
ONE: Final = "/home/ann/harbour"
TWO: Final = "/home/ann/garden"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "ccn.db"


@asynccontextmanager
async def connected(db: Path, **chosen: Any) -> AsyncIterator[Client]:
    async def declines(context: Any, params: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="decline")

    async with Client(build_server(Settings(db=db, **chosen)), elicitation_callback=declines) as client:
        yield client


async def called(client: Client, tool: str, **arguments: Any) -> tuple[bool, str, dict[str, Any]]:
    """Whether it is an error, everything that a model or program sees, and the structured part."""
    result = await client.call_tool(tool, arguments)
    return bool(result.is_error), result.model_dump_json(), result.structured_content or {}


async def harbour(db: Path) -> tuple[str, str, int]:
    """A conversation of scope ONE with an instance in it: its id, the instance's and a message's seq."""
    async with node_on(db, scope=ONE) as node:
        loaded = await node.load_plate(title=TITLE)
        said = await node.record_message(
            "user", SAID, conversation_id=loaded["conversation_id"], idempotency_key="m-1"
        )
    return loaded["conversation_id"], loaded["instance_id"], said["seq"]


async def test_nothing_of_one_project_is_in_what_another_is_shown(db: Path) -> None:
    conversation, _, _ = await harbour(db)
    async with connected(db, scope=TWO) as client:
        seen = [
            (await called(client, "load_plate"))[1],
            (await called(client, "get_history"))[1],
            (await called(client, "get_history", query="herons"))[1],
            (await called(client, "consensus_status"))[1],
            (await called(client, "verify_chain"))[1],
        ]
        for item in (await client.list_resources()).resources:
            seen.append((await client.read_resource(item.uri)).model_dump_json())  # noqa: PERF401  # awaits
        for name in ("continue", "reflect", "validate"):
            seen.append((await client.get_prompt(name)).model_dump_json())  # noqa: PERF401  # awaits
        for ref, argument in (
            (PromptReference(type="ref/prompt", name="continue"), "conversation"),
            (ResourceTemplateReference(type="ref/resource", uri="ccn://conversations/{id}"), "id"),
        ):
            offered = await client.complete(ref, {"name": argument, "value": ""})
            assert len(offered.completion.values) == 1, "the scope's own one, which load_plate opened"
            seen.append(offered.model_dump_json())
    for text in seen:
        for hidden in (conversation, ONE, "harbour project", "herons", TITLE):
            assert hidden not in text


@pytest.mark.parametrize(
    "tool", ["load_plate", "record_message", "report_character_vector", "validate_character"]
)
async def test_the_id_of_another_projects_instance_opens_nothing(db: Path, tool: str) -> None:
    conversation, instance, _ = await harbour(db)
    arguments: dict[str, dict[str, Any]] = {
        "record_message": {"role": "user", "content": "mine"},
        "report_character_vector": {"traits": [0.5] * 16},
    }
    more = arguments.get(tool, {})
    async with node_on(db) as node:
        before = await head_of(node)
    async with connected(db, scope=TWO) as client:
        failed, text, _ = await called(client, tool, instance_id=instance, **more)
    assert failed
    assert "unknown_instance" in text
    assert conversation not in text
    assert "herons" not in text
    async with node_on(db) as node:
        assert await head_of(node) == before


async def test_a_guessed_position_shows_and_erases_nothing_of_another_project(db: Path) -> None:
    conversation, _, seq = await harbour(db)
    async with connected(db, scope=TWO) as client:
        failed, text, _ = await called(client, "redact_message", seq=seq)
        assert failed
        assert "not_found" in text
        assert f"ccn-mcp redact {seq}" in text
        assert conversation not in text
        assert "herons" not in text
    async with connected(db, scope=ONE) as client:
        failed, _, found = await called(client, "redact_message", seq=seq)
        assert (failed, found["conversation_id"], found["erased"]) == (False, conversation, False)


async def test_two_projects_that_number_their_messages_alike_stay_apart(db: Path) -> None:
    conversation, _, _ = await harbour(db)
    async with connected(db, scope=TWO) as client:
        failed, text, _ = await called(
            client, "record_message", role="user", content=SAID, idempotency_key="m-1"
        )
    assert failed
    assert "idempotency_conflict" in text
    assert conversation not in text


def test_a_server_for_many_has_no_folder_and_no_session_of_its_own(tmp_path: Path) -> None:
    env = {
        "CLAUDE_PROJECT_DIR": str(tmp_path),
        "CLAUDE_CODE_SESSION_ID": "s-1",
        "CCN_EXCLUDE": str(tmp_path),
        "CCN_CONFIG_DIR": str(tmp_path / "config"),
    }
    own = settings.load(tmp_path / "ccn.db", env)
    assert (own.scope, own.session_id, own.excluded) == (str(tmp_path), "s-1", tmp_path)
    shared = settings.for_many(own, env)
    alone = settings.load(tmp_path / "ccn.db", {})
    assert (own.hooks, settings.load(tmp_path / "ccn.db", {"CLAUDECODE": "1"}).hooks, alone.hooks) == (
        True,
        True,
        False,
    )
    assert settings.for_many(alone, {}).hooks, "any session that it serves may have hooks"
    assert (shared.scope, shared.session_id, shared.excluded) == ("default", None, None)
    assert settings.for_many(own, {**env, "CCN_SCOPE": "team"}).scope == "team"


def test_long_folders_that_end_alike_have_scopes_of_their_own() -> None:
    tail = "/x" * 120
    one, two = settings.scope_of("/ann" + tail), settings.scope_of("/bob" + tail)
    assert one != two
    assert len(one) == len(two) == 200
    assert settings.scope_of("/home/ann") == "/home/ann"


# ---- excluded folders ----------------------------------------------------------------------------------


async def test_an_excluded_folder_gets_the_plate_and_leaves_no_trace(db: Path, tmp_path: Path) -> None:
    async with connected(db, scope=TWO, excluded=tmp_path) as client:
        said = client.instructions or ""
        assert "excluded" in said
        failed, text, _ = await called(client, "load_plate")
        assert not failed
        assert "excluded the folder" in text
        assert "instance_id" not in text
        assert "c_" not in json.loads(text)["content"][0]["text"]
        for tool, arguments in (
            ("record_message", {"role": "user", "content": SAID}),
            ("report_character_vector", {"traits": [0.5] * 16, "instance_id": "i_1"}),
            ("validate_character", {"instance_id": "i_1"}),
        ):
            failed, text, _ = await called(client, tool, **arguments)
            assert failed
            assert "excluded: the person has excluded this folder" in text
            assert "ccn-mcp exclude" in text
    assert not [path async for path in anyio.Path(tmp_path).iterdir()]
    async with connected(db) as client:
        assert "excluded" not in (client.instructions or "")


async def test_what_was_recorded_before_can_still_be_read_there_and_nothing_is_added(
    db: Path, tmp_path: Path
) -> None:
    conversation, instance, _ = await harbour(db)
    async with node_on(db) as node:
        before = await head_of(node)
    async with connected(db, scope=ONE, excluded=tmp_path, session_id="s-1") as client:
        assert SAID in (await called(client, "get_history", conversation_id=conversation))[1]
        await called(client, "consensus_status", instance_id=instance)
        text = (await called(client, "load_plate", conversation_id=conversation))[1]
        assert "herons" not in text, "the Plate alone"
        with pytest.raises(MCPError):
            await client.read_resource("ccn://conversations/c_none")
    async with node_on(db) as node:
        assert await head_of(node) == before
