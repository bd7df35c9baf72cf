"""A call that only reads keeps an instance connected, and writes no more than it must."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccn_mcp.domain.instances import Event
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import LEASE_TOUCH_S
from ccn_mcp.domain.models import RecordQuery
from tests.node.world import FakeClock, head_of, node_on

pytestmark = pytest.mark.anyio
LEASE_S = 1_000


async def test_looking_at_the_consensus_renews_the_lease_without_an_entry(tmp_path: Path) -> None:
    clock = FakeClock()
    async with node_on(tmp_path / "a.db", clock=clock, lease_us=LEASE_S * 1_000_000) as node:
        mine = (await node.load_plate())["instance_id"]
        before = await head_of(node)
        for _ in range(3):
            clock.pass_s(LEASE_S * 0.9)
            status = await node.consensus_status(instance_id=mine)
            assert status["connected"] == 1
        assert await head_of(node) == before


async def test_a_lease_is_not_written_again_within_a_minute(tmp_path: Path) -> None:
    clock = FakeClock()
    async with node_on(tmp_path / "a.db", clock=clock) as node:
        mine = (await node.load_plate())["instance_id"]
        clock.pass_s(LEASE_TOUCH_S - 1)
        await node.consensus_status(instance_id=mine)
        seat = (await node.ctx.store.seats(instance_id=mine))[0]
        assert clock.at_us - seat.seen_us == (LEASE_TOUCH_S - 1) * 1_000_000
        clock.pass_s(1)
        await node.consensus_status(instance_id=mine)
        assert (await node.ctx.store.seats(instance_id=mine))[0].seen_us == clock.at_us


async def test_coming_back_after_the_lease_is_recorded(tmp_path: Path) -> None:
    clock = FakeClock()
    async with node_on(tmp_path / "a.db", clock=clock, lease_us=LEASE_S * 1_000_000) as node:
        mine = (await node.load_plate())["instance_id"]
        clock.pass_s(LEASE_S + 1)
        assert (await node.consensus_status())["connected"] == 0
        assert (await node.consensus_status(instance_id=mine))["connected"] == 1
        found = await node.ctx.store.records(RecordQuery(kinds=(Kind.INSTANCE,), subject=mine))
        assert found[0].body is not None
        assert found[0].body["event"] == Event.RETURNED
