"""Time series: what the log says of each report, filtered and bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccn_mcp.domain.character import TRAITS, drift
from ccn_mcp.domain.errors import BadInput
from ccn_mcp.node import series as module
from ccn_mcp.node.context import iso
from ccn_mcp.node.node import Node
from ccn_mcp.node.series import series
from tests.node.world import BASE, START_US, FakeClock, head_of, node_on, plate_of, spread

pytestmark = pytest.mark.anyio


async def two_instances(node: Node, clock: FakeClock) -> list[tuple[str, str]]:
    """Three reports of one, two of the other, a minute apart, in turn."""
    await node.set_plate(plate_of())
    who = []
    for session in ("a", "b"):
        loaded = await node.load_plate(session_id=session, model="m")
        who.append((loaded["instance_id"], loaded["conversation_id"]))
    for turn, (at, value) in enumerate([(0, 0.52), (1, 0.55), (0, 0.53), (1, 0.56), (0, 0.54)]):
        clock.pass_s(60)
        await node.report_character_vector(
            spread(value), instance_id=who[at][0], relational=[0.5] * 7 if turn == 2 else None
        )
    return who


async def test_each_report_with_its_drifts_and_its_verdict(tmp_path: Path) -> None:
    clock = FakeClock()
    async with node_on(tmp_path / "ccn.db", clock=clock) as node:
        (first, talk), (second, other) = await two_instances(node, clock)
        before = await head_of(node)
        found = await series(node.ctx)
        assert await head_of(node) == before
    points = found["points"]
    assert [point["instance_id"] for point in points] == [first, second, first, second, first]
    assert [point["conversation_id"] for point in points] == [talk, other, talk, other, talk]
    assert [point["traits"][0] for point in points] == [0.52, 0.55, 0.53, 0.56, 0.54]
    assert [point["at"] for point in points] == [iso(START_US + 60_000_000 * n) for n in range(1, 6)]
    assert {point["measured_by"] for point in points} == {"self_report"}
    assert [point["relational"] for point in points] == [None, None, [0.5] * 7, None, None]
    for point in points:
        away = round(drift(tuple(point["traits"]), BASE), 4)
        assert point["from_baseline"] == away
        assert point["consistency"] == round(1 - away, 4)
        assert point["action"] == "ok"
    # Two reports: the median lies between them.
    assert points[1]["from_consensus"] == round(abs(0.55 - 0.535) / 4, 4)
    assert points[0]["from_consensus"] == 0
    assert found["baseline"] == list(BASE)
    assert found["consensus"] == spread(0.55)
    assert (found["traits"], found["left_out"]) == (list(TRAITS), None)


async def test_filters_and_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    async with node_on(tmp_path / "ccn.db", clock=clock) as node:
        (first, _), (second, other) = await two_instances(node, clock)
        only = (await series(node.ctx, instance_id=second))["points"]
        assert [point["traits"][0] for point in only] == [0.55, 0.56]
        assert (await series(node.ctx, conversation_id=other))["points"] == only
        late = await series(node.ctx, since=iso(START_US + 240_000_000))
        assert [point["traits"][0] for point in late["points"]] == [0.56, 0.54]
        newest = await series(node.ctx, instance_id=first, limit=1)
        assert [point["traits"][0] for point in newest["points"]] == [0.54]
        assert newest["points"][0]["action"] == "ok"
        assert newest["left_out"] == "2 older reports"
        assert (await series(node.ctx, instance_id="i_nobody"))["points"] == []
        monkeypatch.setattr(module, "SCAN_MAX", 4)
        cut = await series(node.ctx)
        assert len(cut["points"]) == 4
        assert cut["left_out"] == "what lies before the newest 4 reports"
        # What judged the first of these is out of sight; a later evaluation, in which it still counted, is not it.
        monkeypatch.setattr(module, "SCAN_MAX", 3)
        old, new = (await series(node.ctx, instance_id=second))["points"]
        assert (old["action"], old["from_baseline"], old["consistency"]) == (None, None, None)
        assert new["action"] == "ok"
        for limit in (0, module.REPORTS_MAX + 1):
            with pytest.raises(BadInput, match="limit"):
                await series(node.ctx, limit=limit)
        with pytest.raises(BadInput, match="since"):
            await series(node.ctx, since="yesterday")


async def test_a_store_without_reports_and_without_a_file(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db") as node:
        found = await series(node.ctx)
    assert (found["points"], found["consensus"], found["left_out"]) == ([], None, None)
    assert not (tmp_path / "ccn.db").exists()
