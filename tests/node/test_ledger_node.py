"""verify_chain: what it says of a store that is whole, empty, behind a kept head, or changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from ccn_mcp.domain.errors import BadHead
from ccn_mcp.node.ledger import NOT_YET
from tests.node.world import FakeClock, node_on

pytestmark = pytest.mark.anyio
HEADS: Final = (
    "",
    " ",
    "12",
    "1:zz",
    "-1:" + "0" * 64,
    "1:" + "0" * 31,
    "9" * 400 + ":" + "0" * 64,
    "\ud800",
)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "ccn.db"


async def test_a_whole_store_reaches_level_one_and_counts(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock) as node:
        first = await node.record_message("user", "one", session_id="s")
        clock.pass_s(-60)
        last = await node.record_message("assistant", "two", session_id="s")
        found = await node.verify_chain(known_head=f" {first['head']} ")
    assert (found["ok"], found["level"], found["known_head_matches"]) == (True, 3, True)
    assert (found["entries"], found["messages"], found["erased"]) == (4, 2, 0)
    assert found["clock_regressions"] == 1
    assert (found["head"], found["fault"]) == (last["head"], None)


async def test_a_store_that_is_not_there_yet_is_no_fault(db: Path) -> None:
    async with node_on(db) as node:
        found = await node.verify_chain()
    assert (found["ok"], found["level"], found["entries"], found["meaning"]) == (True, None, 0, NOT_YET)


async def test_a_head_that_the_log_does_not_have_is_no_success(db: Path) -> None:
    async with node_on(db) as node:
        kept = (await node.record_message("user", "one", session_id="s"))["head"]
        size, root = kept.split(":")
        for other in (f"{size}:{'0' * 64}", f"{int(size) - 1}:{root}", f"{int(size) + 1}:{root}"):
            found = await node.verify_chain(known_head=other)
            assert (found["ok"], found["known_head_matches"]) == (False, False), other


@pytest.mark.parametrize("wrong", HEADS[2:])
async def test_what_is_no_head_is_refused(db: Path, wrong: str) -> None:
    async with node_on(db) as node:
        for _ in range(2):
            with pytest.raises(BadHead) as caught:
                await node.verify_chain(known_head=wrong)
            assert len(str(caught.value)) < 500
            await node.record_message("user", "now there is a store", session_id="s")


@pytest.mark.parametrize("nothing", HEADS[:2])
async def test_an_empty_head_counts_as_left_out(db: Path, nothing: str) -> None:
    async with node_on(db) as node:
        await node.record_message("user", "one")
        assert (await node.verify_chain(known_head=nothing))["known_head_matches"] is None


async def test_a_changed_text_is_found_at_its_position(db: Path) -> None:
    async with node_on(db) as node:
        for text in ("one", "two", "three"):
            done = await node.record_message("user", text, session_id="s")
    with closing(sqlite3.connect(db)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("UPDATE record SET text = 'changed' WHERE seq = ?", (done["seq"],))
        connection.commit()
    async with node_on(db) as node:
        found = await node.verify_chain()
    assert not found["ok"]
    assert found["fault"] is not None
    assert found["fault"]["seq"] == done["seq"]
    assert found["fault"]["at"] == "2026-11-18T11:06:40Z"
