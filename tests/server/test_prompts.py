"""Prompts and completions as a client gets them, in both eras."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, PromptReference, ResourceTemplateReference, TextContent

from ccn_mcp import data
from ccn_mcp.domain.character import TRAITS
from ccn_mcp.node.rubric import rubric
from ccn_mcp.server.app import build_server
from ccn_mcp.settings import Settings
from tests.node.world import node_on

pytestmark = pytest.mark.anyio
CONTINUE: Final = PromptReference(type="ref/prompt", name="continue")
CONVERSATION: Final = ResourceTemplateReference(type="ref/resource", uri="ccn://conversations/{id}")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "ccn.db"


@pytest.fixture(params=("auto", "legacy"))
async def client(request: pytest.FixtureRequest, db: Path) -> AsyncIterator[Client]:
    async with Client(build_server(Settings(db=db)), mode=request.param, read_timeout_seconds=60) as made:
        yield made


async def text_of(client: Client, name: str, **arguments: str) -> str:
    (message,) = (await client.get_prompt(name, arguments)).messages
    assert message.role == "user"
    assert isinstance(message.content, TextContent)
    return message.content.text


async def test_they_are_listed_with_titles_and_single_word_arguments(client: Client) -> None:
    listed = (await client.list_prompts()).prompts
    assert [prompt.name for prompt in listed] == ["continue", "reflect", "validate", "commission"]
    for prompt in listed:
        assert prompt.title
        assert prompt.description
        for argument in prompt.arguments or []:
            assert argument.name.isidentifier()
            assert not argument.required, "a client without quoting cannot be asked for more than it has"


async def test_continue_names_the_conversation_that_was_chosen(client: Client, db: Path) -> None:
    assert "Call load_plate and" in await text_of(client, "continue")
    async with node_on(db) as node:
        here = (await node.record_message("user", "hello"))["conversation_id"]
    assert f'load_plate(conversation_id="{here}")' in await text_of(client, "continue", conversation=here)
    for wrong in ("c_x", 'x")', "x" * 300):
        with pytest.raises(MCPError) as caught:
            await client.get_prompt("continue", {"conversation": wrong})
        assert caught.value.error.code == INVALID_PARAMS


async def test_reflect_brings_the_whole_rubric(client: Client) -> None:
    text = await text_of(client, "reflect")
    rubric = json.loads(data.read("rubric.json"))
    assert tuple(rubric["anchors"]) == TRAITS
    assert rubric["version"] in text
    for anchors in rubric["anchors"].values():
        assert len(anchors) == len(set(anchors)) == 6
        for score, anchor in enumerate(anchors):
            assert f"  {score} {anchor}" in text
    assert 'scale="rubric"' in text
    assert len(text) < 10_000


def test_a_changed_rubric_needs_another_version() -> None:
    found = rubric()
    known = {"1": "7096728dd147cdfb2ce173db65f95f7198d4b0a388569afa0ac224afe3f581aa"}
    assert known.get(found.version) == found.digest, "it is part of the group: give it the next version"


async def test_commission_asks_for_one_report_by_the_rubric(client: Client) -> None:
    text = await text_of(client, "commission")
    assert "kind=commission" in text
    assert "load_plate with your model id" in text


async def test_validate_starts_validate_character(client: Client) -> None:
    assert "Call validate_character" in await text_of(client, "validate")


async def test_conversation_ids_are_completed_newest_first(client: Client, db: Path) -> None:
    async def values(ref: PromptReference | ResourceTemplateReference, name: str, value: str) -> list[str]:
        return (await client.complete(ref, {"name": name, "value": value})).completion.values

    assert await values(CONTINUE, "conversation", "") == []
    async with node_on(db) as node:
        ids = [await node.open_conversation() for _ in range(230)]
    newest = ids[::-1]
    assert await values(CONTINUE, "conversation", "") == newest[:100]
    assert await values(CONVERSATION, "id", "c_") == newest[:100]
    assert await values(CONVERSATION, "id", ids[0][:20]) == [ids[0]]
    assert await values(CONVERSATION, "id", "nothing") == []
    found = (await client.complete(CONTINUE, {"name": "conversation", "value": ""})).completion
    assert found.has_more is True
    assert await values(CONVERSATION, "role", "") == ["user", "assistant", "system", "tool"]
    assert await values(CONTINUE, "role", "as") == ["assistant"]
    assert await values(CONTINUE, "other", "") == []
