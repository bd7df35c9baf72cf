"""A client session's conversation is looked up once; the log decides which one it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ccn_mcp.domain.models import Record, RecordQuery
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.node.world import node_on

pytestmark = pytest.mark.anyio


async def test_a_session_is_looked_up_once_and_stays_in_its_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RecordQuery] = []
    real = SqliteStore.records

    async def counted(self: SqliteStore, query: RecordQuery) -> Sequence[Record]:
        asked.append(query)
        return await real(self, query)

    monkeypatch.setattr(SqliteStore, "records", counted)
    async with node_on(tmp_path / "a.db") as node, node_on(tmp_path / "a.db", seed="other") as other:
        first = await other.record_message("user", "0", session_id="s")
        asked.clear()
        for text in ("1", "2", "3"):
            said = await node.record_message("user", text, session_id="s")
            assert said["conversation_id"] == first["conversation_id"]
        assert said["n"] == 4
        assert [query.key for query in asked] == ["ccn:session:s"]
        asked.clear()
        elsewhere = await node.record_message("user", "x", session_id="t")
        assert elsewhere["conversation_id"] != first["conversation_id"]
        again = await node.record_message("user", "y", session_id="t")
        assert (again["conversation_id"], again["n"]) == (elsewhere["conversation_id"], 2)
        assert [query.key for query in asked] == ["ccn:session:t"], (
            "the first message looks once, the others never"
        )
