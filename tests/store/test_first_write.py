"""What a first write leaves behind where it is refused: nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ccn_mcp.domain.errors import CcnError, StoreForeign, UnknownConversation, UnknownInstance
from ccn_mcp.domain.models import Group
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.node.world import node_on
from tests.store.model import opening, said

pytestmark = pytest.mark.anyio


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_refused_first_message_leaves_no_file(tmp_path: Path) -> None:
    db = tmp_path / "data" / "ccn.db"
    async with node_on(db) as node:
        with pytest.raises(UnknownConversation):
            await node.record_message("user", "x", conversation_id="c_nowhere")
        assert not db.parent.exists()
        assert (await node.record_message("user", "x"))["n"] == 1
    assert db.exists()


async def test_one_that_can_begin_the_store_begins_it_whatever_the_others_ask(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "ccn.db")
    refused, opened, answered = log.append_batch(
        [Group((said("x", "c9"),)), Group((opening("c1"),)), Group((said("y", "c1"),))]
    )
    log.close()
    assert isinstance(refused, UnknownConversation)
    assert not isinstance(opened, CcnError)
    assert not isinstance(answered, CcnError)


async def test_a_batch_that_is_refused_whole_tells_each_its_own(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "ccn.db")
    told = log.append_batch([Group((said("x", "c9"),)), Group(touch={"i9": 1})])
    log.close()
    assert [type(answer) for answer in told] == [UnknownConversation, UnknownInstance]
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("mode", ["delete", "wal"])
async def test_nothing_is_put_beside_another_applications_database(tmp_path: Path, mode: str) -> None:
    db = tmp_path / "other.db"
    with closing(sqlite3.connect(db)) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute("CREATE TABLE theirs (x)")
        other.commit()
    before = db.read_bytes()
    async with SqliteStore(db) as store:
        with pytest.raises(StoreForeign):
            await store.append(Group((opening("c1"),)))
    assert names_in(tmp_path) == ["other.db"]
    assert db.read_bytes() == before


async def test_a_store_without_its_lock_files_is_written_on(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    async with SqliteStore(db) as store:
        await store.append(Group((opening("c1"),)))
    for suffix in (".lock", ".queue"):
        db.with_name(f"{db.name}{suffix}").unlink()
    async with SqliteStore(db) as store:
        assert (await store.append(Group((said("x"),)))).receipts[0].n == 1
        assert (await store.verify()).fault is None
