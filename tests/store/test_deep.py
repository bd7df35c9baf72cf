"""What only a deep check finds: indexes that disagree with their tables, bodies in another form than ours."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import pytest

from ccn_mcp.domain import jcs, ledger
from ccn_mcp.domain.models import Appended, Draft, Fault, Group
from ccn_mcp.store.sqlite import deep
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.attacks import SIZE, Attack, after, count_in, each, forge, make, sql
from tests.store.memory_store import MemoryLog, MemoryStore
from tests.store.model import opening, said
from tests.store.test_attacks import UNSEEN

pytestmark = pytest.mark.anyio

INDEX: Final = "INSERT INTO message_fts (rowid, text) VALUES (?, ?)"
UNINDEX: Final = "INSERT INTO message_fts (message_fts, rowid, text) VALUES ('delete', ?, ?)"

FOUND: Final[dict[str, tuple[Attack, str, int | None]]] = {
    "a message taken out of the search index": (
        UNSEEN["a message taken out of the search index"],
        "search",
        3,
    ),
    "words that a message does not have": (
        UNSEEN["a message found by words that it does not have"],
        "search",
        3,
    ),
    "a message hidden from the pages": (
        UNSEEN["a message hidden from the index that pages are read by"],
        "index",
        3,
    ),
    "words in another order": (each(sql(UNINDEX, 14, "tre 1"), sql(INDEX, 14, "1 tre")), "search", 14),
    "words of two messages swapped": (
        each(
            sql(UNINDEX, 8, "due 0"),
            sql(UNINDEX, 9, "due 1"),
            sql(INDEX, 8, "due 1"),
            sql(INDEX, 9, "due 0"),
        ),
        "search",
        8,
    ),
    "words of an entry that is no message": (sql(INDEX, 7, "forged"), "search", 7),
    "words of an entry to come": (sql(INDEX, SIZE, "forged"), "search", None),
    "words of an entry before the first": (sql(INDEX, -1, "forged"), "search", None),
    "lengths that ranking uses": (sql("DELETE FROM message_fts_docsize WHERE id = 5"), "search", None),
    "a body with a space": (each(forge({}, kind=3, raw=b'{"a": 1}'), count_in), "body", SIZE),
    "a body whose names are not sorted": (
        each(forge({}, kind=3, raw=b'{"b":1,"a":1}'), count_in),
        "body",
        SIZE,
    ),
    "a body with a name twice": (each(forge({}, kind=3, raw=b'{"a":1,"a":1}'), count_in), "body", SIZE),
}


@pytest.mark.parametrize("name", FOUND)
async def test_what_the_usual_check_passes_over_is_found_where_it_is(tmp_path: Path, name: str) -> None:
    attack, code, seq = FOUND[name]
    db = tmp_path / "ccn.db"
    await make(db)
    assert (await after(db, attack)).fault is None, "the usual check is supposed not to see it"
    checked = verify_file(db, deep=True)
    assert checked.fault is not None, "not found"
    assert (checked.fault.code, checked.fault.seq, checked.level) == (code, seq, 0), checked.fault.detail


async def test_a_lookup_that_leads_to_the_wrong_page_is_found(tmp_path: Path) -> None:
    """Everything is in the index, but a search that jumps into the middle of it misses what is there."""
    db = tmp_path / "ccn.db"
    async with SqliteStore(db) as store:
        await store.append(Group((opening("c1"),)))
        for at in range(60):
            text = " ".join(f"{word}{at}" for word in ("heron", "gull", "tern") for _ in range(20))
            await store.append(Group((said(" ".join(f"{text}{n}" for n in range(20))),)))

    def mislead(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO message_fts (message_fts) VALUES ('optimize')")
        assert connection.execute("SELECT count(*) FROM message_fts_idx").fetchone()[0] > 2
        connection.execute(
            "UPDATE message_fts_idx SET pgno = (SELECT max(pgno) FROM message_fts_idx) "
            "WHERE term = (SELECT max(term) FROM message_fts_idx WHERE term < (SELECT max(term) FROM message_fts_idx))"
        )

    assert (await after(db, mislead)).fault is None
    checked = verify_file(db, deep=True)
    assert checked.fault is not None
    assert checked.fault.code == "search"


async def test_the_first_fault_of_the_usual_check_comes_first(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    head = await make(db)
    usual = await after(db, sql("UPDATE record SET role = 'assistant' WHERE seq = 5"))
    assert verify_file(db, deep=True) == usual
    other = f"{SIZE}:{'0' * 32}"
    checked = verify_file(db, other, deep=True)
    assert checked.fault is not None
    assert checked.fault.code == "columns"
    assert head != other


ODD: Final = (
    "é E\u0301 Ǟ ß İstanbul ﬁn ΑΣ ας",
    "snake_case kebab-case 3.14 don't",
    "日本語 文 👩‍👩‍👧 \ue000private",
    "x" * 40_000,
    "\x01\x02",
    " word" * 5_000,
)


@pytest.mark.parametrize("chunk", [1, deep.CHUNK_CHARS_MAX])
async def test_an_untouched_store_passes_and_is_not_written_to(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep, "CHUNK_CHARS_MAX", chunk)
    db = tmp_path / "ccn.db"
    await make(db)
    async with SqliteStore(db) as store:
        for text in ODD:
            await store.append(Group((said(text),)))
        redaction = Draft(ledger.Kind.REDACTION, 0, {"target": "4", "by": "me", "source": "cli"})
        await store.erase([redaction])
        for text in ODD:
            await store.append(Group((said(f"{text} again"),)))
    before = db.read_bytes()
    told: list[tuple[int, int]] = []
    checked = verify_file(db, progress=lambda done, total: told.append((done, total)), deep=True)
    assert (checked.level, checked.fault, checked.erased) == (1, None, 1)
    assert db.read_bytes() == before
    assert told == sorted(told)
    assert {total for _, total in told} <= {deep.PASSES * checked.entries}


async def test_writers_go_on_while_a_deep_check_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no lock that a writer needs, and judges the state that it began with."""
    db = tmp_path / "ccn.db"
    await make(db)
    real = deep._search_structure

    def written_meanwhile(connection: sqlite3.Connection) -> Fault | None:
        log = SqliteLog(db)
        (done,) = log.append_batch([Group((said("meanwhile"),))])
        assert isinstance(done, Appended)
        found = real(connection)
        log.append_batch([Group((said("and again"),))])
        log.close()
        return found

    monkeypatch.setattr(deep, "_search_structure", written_meanwhile)
    checked = verify_file(db, deep=True)
    assert (checked.level, checked.fault, checked.entries) == (1, None, SIZE)
    monkeypatch.undo()
    assert verify_file(db, deep=True).entries == SIZE + 2


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_every_store_takes_deep(tmp_path: Path, kind: str) -> None:
    async with SqliteStore(tmp_path / "a.db") if kind == "sqlite" else MemoryStore() as store:
        assert (await store.verify(deep=True)).fault is None
        done = await store.append(Group((opening("c1"), said("é"))))
        checked = await store.verify(deep=True, known_head=str(done.head))
    assert (checked.fault, checked.known_head) == (None, True)
    assert (checked.level or 0) >= 1


async def test_the_reference_store_finds_a_body_in_another_form() -> None:
    log = MemoryLog()
    async with MemoryStore(log) as store:
        await store.append(Group((opening("c1"),)))
        row = log.rows[1]
        assert row.body is not None
        assert row.salt is not None
        row.body = row.body.replace(b",", b", ", 1)
        assert jcs.decode(row.body)
        row.committed = ledger.commitment(row.salt, row.body, b"")
        row.leaf = ledger.leaf_hash(
            ledger.entry_bytes(log.store_id or b"", 1, row.time_us, row.kind, log.rows[0].leaf, row.committed)
        )
        assert (await store.verify()).level == 1
        checked = await store.verify(deep=True)
    assert checked.fault is not None
    assert (checked.fault.code, checked.fault.seq, checked.level) == ("body", 1, 0)
