"""A compaction is in the record, the instance is asked to report, and the person sees the measure before and after."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccn_mcp.cli import drift
from ccn_mcp.node.compaction import compacted
from ccn_mcp.node.series import series
from tests.node.world import FakeClock, node_on, plate_of, spread

pytestmark = pytest.mark.anyio


async def test_reports_before_and_after_stand_beside_the_compaction(tmp_path: Path) -> None:
    clock = FakeClock()
    async with node_on(tmp_path / "ccn.db", clock=clock) as node:
        await node.set_plate(plate_of())
        loaded = await node.load_plate(session_id="a", model="m")
        instance = loaded["instance_id"]
        told = await compacted(node.ctx, node.caller, "a")
        assert "No report of this conversation came before it." in told
        assert f'report_character_vector(instance_id="{instance}")' in told
        clock.pass_s(60)
        await node.report_character_vector(spread(0.52), instance_id=instance)
        clock.pass_s(60)
        assert "the verdict was: ok." in await compacted(node.ctx, node.caller, "a")
        clock.pass_s(60)
        await node.report_character_vector(spread(0.58), instance_id=instance)
        found = await series(node.ctx)
        (one,) = found["compactions"]
        assert (one["instance_id"], one["conversation_id"]) == (instance, loaded["conversation_id"])
        assert found["points"][0]["seq"] < one["seq"] < found["points"][1]["seq"]
        (line,) = drift._compactions(found)
        first, second = (point["from_baseline"] for point in found["points"])
        assert f"from the baseline {first:.3f} before, {second:.3f} after" in line
        assert (await series(node.ctx, conversation_id="c_other"))["compactions"] == []
        assert await compacted(node.ctx, node.caller, "of nobody") == ""


async def test_where_the_measure_is_off_it_is_recorded_and_nothing_is_asked(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db", character="off") as node:
        await node.load_plate(session_id="a")
        before = (await node.ctx.store.info()).head.size
        assert await compacted(node.ctx, node.caller, "a") == ""
        assert (await node.ctx.store.info()).head.size == before + 1
