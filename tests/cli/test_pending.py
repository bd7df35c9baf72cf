"""An erasure that is not finished is said wherever a person looks, with what to do; and `verify --deep`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mcp import Client

from ccn_mcp.server.app import build_server
from ccn_mcp.settings import Settings
from tests.cli.conftest import Run, Seeded, on_store

WHAT_TO_DO = "ccn-mcp doctor lists the processes"


@pytest.fixture
def reader(store: Seeded) -> Iterator[sqlite3.Connection]:
    """A program that reads the store as it was before a message was erased."""
    with closing(sqlite3.connect(store.db, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM entry").fetchone()
        assert on_store(store.db, lambda node: node.redact_message(store.seqs[0]))["pending"]
        yield other


def words(text: str) -> str:
    return " ".join(text.split())


def test_status_verify_and_doctor_say_that_an_erasure_is_pending(
    cli: Run, store: Seeded, reader: sqlite3.Connection
) -> None:
    for command in ("status", "verify"):
        ran = cli(command, "--db", str(store.db))
        assert ran.status == 0
        assert "1 pending" in ran.out
        assert WHAT_TO_DO in words(ran.out)
        assert json.loads(cli(command, "--db", str(store.db), "--json").out)["erasures_pending"] == 1
    checked = json.loads(cli("doctor", "--db", str(store.db), "--json").out)
    found = {item["check"]: item for item in checked["checks"]}["erasures"]
    assert (found["status"], checked["ok"]) == ("warn", True)
    assert WHAT_TO_DO in found["do"]


def test_once_it_is_finished_nothing_is_said(cli: Run, store: Seeded, reader: sqlite3.Connection) -> None:
    reader.execute("ROLLBACK")
    on_store(store.db, lambda node: node.record_message("user", "cleans up"))
    for command in ("status", "verify"):
        assert "pending" not in cli(command, "--db", str(store.db)).out
        assert json.loads(cli(command, "--db", str(store.db), "--json").out)["erasures_pending"] == 0
    checked = json.loads(cli("doctor", "--db", str(store.db), "--json").out)
    assert {item["check"]: item["status"] for item in checked["checks"]}["erasures"] == "ok"


@pytest.mark.anyio
async def test_the_health_resource_says_so(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    async with Client(build_server(Settings(db=db))) as client:

        async def health() -> dict[str, object]:
            read = (await client.read_resource("ccn://health")).contents[0]
            found: dict[str, object] = json.loads(read.text)  # type: ignore[union-attr]  # text
            return found

        said = await client.call_tool("record_message", {"role": "user", "content": "heron"})
        assert (await health())["erasures_pending"] == 0
        with closing(sqlite3.connect(db, isolation_level=None)) as connection:
            connection.execute("INSERT INTO erasure VALUES (?)", ((said.structured_content or {})["seq"],))
        found = await health()
    assert found["erasures_pending"] == 1
    assert WHAT_TO_DO in str(found["note"])


def test_a_deep_check_finds_what_the_usual_one_passes_over(cli: Run, store: Seeded) -> None:
    ran = cli("verify", "--deep", "--db", str(store.db))
    assert ran.status == 0
    assert "every body is in its one form" in words(ran.out)
    with closing(sqlite3.connect(store.db, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO message_fts (message_fts, rowid, text) VALUES ('delete', ?, 'noted, herons')",
            (store.seqs[1],),
        )
    assert cli("verify", "--db", str(store.db)).status == 0
    ran = cli("verify", "--deep", "--db", str(store.db))
    assert ran.status == 6
    assert f"entry {store.seqs[1]}" in ran.out
    fault = json.loads(cli("verify", "--deep", "--db", str(store.db), "--json").out)["fault"]
    assert (fault["code"], fault["seq"]) == ("search", store.seqs[1])
