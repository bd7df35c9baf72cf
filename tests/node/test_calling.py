"""A call to a model and its entry in the record, whatever ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp.domain.errors import CostCeiling
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Appended, Body, Group, RecordQuery
from ccn_mcp.domain.talk import Asked, Reply, Turn, text_block
from ccn_mcp.node.calling import call
from ccn_mcp.node.context import Context
from ccn_mcp.node.node import Node
from tests.claude.scripted import Says, ScriptedModel
from tests.node.world import node_on

pytestmark = pytest.mark.anyio

ASKED = Asked("claude-sonnet-5-5", (Turn("user", (text_block("hello"),)),))
WAIT_S = 30.0


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with node_on(tmp_path / "ccn.db") as made:
        yield made


@dataclass
class Held:
    """The store, with its appends held back until they are let go."""

    store: Any
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, group: Group) -> Appended:
        self.begun.set()
        await self.let_go.wait()
        appended: Appended = await self.store.append(group)
        self.done.set()
        return appended

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


async def asking(node: Node, port: ScriptedModel, ctx: Context | None = None) -> Reply:
    there = await node.open_conversation()
    ctx = ctx or node.ctx
    return (
        await call(ctx, node.caller, port, ASKED, purpose="chat", conversation=there, instance="i_1")
    ).reply


async def recorded(node: Node) -> list[Body]:
    records = await node.ctx.store.records(RecordQuery(kinds=(Kind.USAGE,), oldest_first=True, limit=10))
    return [record.body for record in records if record.body is not None]


async def test_a_whole_reply(node: Node) -> None:
    reply = await asking(node, ScriptedModel("Hello."))
    assert (reply.text, reply.whole) == ("Hello.", True)
    (entry,) = await recorded(node)
    assert (entry["purpose"], entry["instance"], entry["complete"]) == ("chat", "i_1", True)


async def test_a_back_end_that_breaks_leaves_its_entry(node: Node) -> None:
    with pytest.raises(RuntimeError, match="broke"):
        await asking(node, ScriptedModel(RuntimeError("it broke")))
    assert [entry["stop"] for entry in await recorded(node)] == ["open"]


async def test_a_second_interrupt_does_not_stop_the_entry(node: Node) -> None:
    says = Says(("The tide ",), hold_after=0)
    held = Held(node.ctx.store)
    task = asyncio.create_task(asking(node, ScriptedModel(says), replace(node.ctx, store=held)))
    async with asyncio.timeout(WAIT_S):
        await says.held.wait()
        task.cancel()
        await held.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held.let_go.set()
        await held.done.wait()
    assert [(entry["stop"], entry["complete"]) for entry in await recorded(node)] == [("cancelled", False)]


async def test_a_ceiling_is_asked_first(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db", cost_conversation_pico=10) as node:
        with pytest.raises(CostCeiling):
            await asking(node, port := ScriptedModel("never"))
        assert port.asked == []
        assert await recorded(node) == []
