"""A baseline that somebody wrote down, or nobody chose, is labelled as such wherever it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp_types import TextResourceContents

from ccn_mcp.node.node import Node
from ccn_mcp.server.app import build_server
from ccn_mcp.settings import Settings
from tests.cli.conftest import Run, on_store
from tests.node.world import node_on, plate_of, spread

pytestmark = pytest.mark.anyio
MEANS = {"authored": "measured by nobody", "default": "neither measured nor chosen"}


@pytest.fixture(params=MEANS)
def source(request: pytest.FixtureRequest, db: Path) -> str:
    async def report(node: Node) -> None:
        await node.set_plate(plate_of() if request.param == "authored" else plate_of(None))
        mine = (await node.load_plate(model="m"))["instance_id"]
        await node.report_character_vector(
            [0.8] * 16 if request.param == "default" else spread(0.52), instance_id=mine
        )

    on_store(db, report)
    named: str = request.param
    return named


def test_on_the_command_line(cli: Run, db: Path, source: str, tmp_path: Path) -> None:
    picture = tmp_path / "drift.svg"
    for command in (("status",), ("drift", "--svg", str(picture)), ("consensus", "explain")):
        ran = cli(*command, "--db", str(db))
        assert ran.status == 0
        said = " ".join(ran.out.split())
        assert source in said or MEANS[source] in said, command
        document = json.loads(
            cli(*command[:2] if command[0] == "consensus" else command[:1], "--db", str(db), "--json").out
        )
        assert source in sources(document), command
    assert f"baseline ({source})" in picture.read_text(encoding="utf-8")


def sources(document: Any) -> set[str]:
    """Every `baseline_source` in a document."""
    if isinstance(document, list):
        return set().union(*map(sources, document))
    if not isinstance(document, dict):
        return set()
    own = {document["baseline_source"]} if isinstance(document.get("baseline_source"), str) else set()
    return own.union(*map(sources, document.values()))


async def test_to_an_instance(db: Path, source: str) -> None:
    async with Client(build_server(Settings(db=db))) as client:
        mine = ((await client.call_tool("load_plate", {"model": "m"})).meta or {})["ccn/instance_id"]
        for tool, arguments in (
            ("report_character_vector", {"traits": [0.8] * 16}),
            ("consensus_status", {}),
        ):
            found = await client.call_tool(tool, {"instance_id": mine, **arguments})
            assert sources(found.structured_content) == {source}, tool
        (content,) = (await client.read_resource("ccn://character")).contents
        assert isinstance(content, TextResourceContents)
        assert MEANS[source] in content.text
        (content,) = (await client.read_resource("ccn://consensus")).contents
        assert isinstance(content, TextResourceContents)
        assert sources(json.loads(content.text)) == {source}
    async with node_on(db) as node:
        series = await node.consensus_status(for_person=True)
    assert sources(series) == {source}
