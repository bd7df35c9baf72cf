"""Attacks on the file with plain SQL: what each one is called, where it is seen, and at which level.

The attacker has the file, drops the triggers and knows the format. What the table at the end of this module
lists is found by nothing but a head that somebody kept elsewhere; the documentation says so.
"""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp.domain import jcs, ledger
from ccn_mcp.domain.errors import StoreCorrupt
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Draft, Group
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.attacks import (
    CONSENSUS,
    INSTANCE,
    LAST,
    MESSAGE,
    OTHER_32,
    REPORT,
    SECOND_SNAPSHOT,
    SIZE,
    Attack,
    after,
    count_again,
    count_in,
    cut,
    each,
    edit_body,
    erase,
    erase_kept,
    forge,
    make,
    recommit,
    recompute,
    redaction,
    renumber,
    sql,
    swap,
)
from tests.store.model import decision, said

pytestmark = pytest.mark.anyio

# ---- the table -----------------------------------------------------------------------------------------

FOUND: Final[dict[str, tuple[Attack, str, int | None, int | None]]] = {
    # what the entries say: no level
    "text in the body": (edit_body(3, text="forged"), "content", 3, None),
    "author in the body": (edit_body(8, role="user"), "content", 8, None),
    "body of the genesis": (edit_body(0, program="other"), "content", 0, None),
    "body of the last": (edit_body(LAST, text="forged"), "content", LAST, None),
    "the blob": (
        sql("UPDATE entry SET blob = ? WHERE seq = 7", struct.pack("<2d", 1.0, 0.25)),
        "content",
        7,
        None,
    ),
    "a blob where none was": (sql("UPDATE entry SET blob = x'00' WHERE seq = 3"), "content", 3, None),
    "the salt": (sql("UPDATE entry SET salt = ? WHERE seq = 3", bytes(16)), "content", 3, None),
    "body with its commitment": (each(edit_body(4, text="forged"), recommit(4)), "entry", 4, None),
    "the commitment": (sql("UPDATE entry SET commitment = ? WHERE seq = 3", OTHER_32), "content", 3, None),
    "a longer commitment": (
        sql("UPDATE entry SET commitment = CAST(commitment || x'00' AS BLOB) WHERE seq = 3"),
        "content",
        3,
        None,
    ),
    "time": (sql("UPDATE entry SET time = time + 1 WHERE seq = 5"), "entry", 5, None),
    "time of the genesis": (sql("UPDATE entry SET time = 0 WHERE seq = 0"), "entry", 0, None),
    "kind": (sql("UPDATE entry SET kind = 3 WHERE seq = 5"), "entry", 5, None),
    "kind in both tables": (
        each(
            sql("UPDATE entry SET kind = 3 WHERE seq = 11"),
            sql("UPDATE record SET kind = 3 WHERE seq = 11"),
        ),
        "entry",
        11,
        None,
    ),
    "a kind that does not fit": (sql("UPDATE entry SET kind = 70000 WHERE seq = 5"), "entry", 5, None),
    "a negative kind": (sql("UPDATE entry SET kind = -1 WHERE seq = 5"), "entry", 5, None),
    "the leaf": (sql("UPDATE entry SET leaf = ? WHERE seq = 9", OTHER_32), "entry", 9, None),
    "two entries swapped": (swap("entry", 3, 4), "entry", 3, None),
    "two entries swapped with their columns": (
        each(swap("entry", 3, 4), swap("record", 3, 4)),
        "entry",
        3,
        None,
    ),
    "one deleted in the middle": (sql("DELETE FROM entry WHERE seq = 8"), "gap", 8, None),
    "one deleted with its columns": (
        each(sql("DELETE FROM entry WHERE seq = 8"), sql("DELETE FROM record WHERE seq = 8")),
        "gap",
        8,
        None,
    ),
    "one deleted and the rest renumbered": (renumber(8), "entry", 8, None),
    "the genesis deleted": (sql("DELETE FROM entry WHERE seq = 0"), "gap", 0, None),
    "a negative position": (sql("UPDATE entry SET seq = -5 WHERE seq = 0"), "gap", 0, None),
    "the tail cut off": (cut(13), "head", 13, None),
    "the last cut off": (cut(LAST), "head", LAST, None),
    "everything cut off": (cut(0), "genesis", 0, None),
    "part of the content blanked": (sql("UPDATE entry SET salt = NULL WHERE seq = 3"), "content", 3, 0),
    "an extra entry that is not counted": (forge(MESSAGE), "head", SIZE, None),
    "an extra entry without columns": (forge(MESSAGE, record=False), "columns", SIZE, None),
    "store_id": (sql("UPDATE log SET store_id = ?", bytes(16)), "entry", 0, None),
    "a longer store_id": (
        sql("UPDATE log SET store_id = CAST(store_id || x'00' AS BLOB)"),
        "head",
        None,
        None,
    ),
    "log.size": (sql("UPDATE log SET size = size + 1"), "head", SIZE, None),
    "log.leaf": (sql("UPDATE log SET leaf = ?", OTHER_32), "head", LAST, None),
    "log.leaf of the entry before": (
        sql("UPDATE log SET leaf = (SELECT leaf FROM entry WHERE seq = 14)"),
        "head",
        LAST,
        None,
    ),
    "log.frontier": (sql("UPDATE log SET frontier = ?", OTHER_32), "head", LAST, None),
    "log.frontier emptied": (sql("UPDATE log SET frontier = x''"), "head", LAST, None),
    "the log row deleted": (sql("DELETE FROM log"), "entry", 0, None),
    # what queries see: level 0
    "record.text": (sql("UPDATE record SET text = 'forged' WHERE seq = 3"), "columns", 3, 0),
    "record.text of two": (
        each(
            sql("UPDATE record SET text = 'forged' WHERE seq = 14"),
            sql("UPDATE record SET text = 'forged' WHERE seq = 4"),
        ),
        "columns",
        4,
        0,
    ),
    "record.role": (sql("UPDATE record SET role = 'assistant' WHERE seq = 3"), "columns", 3, 0),
    "record.conversation": (sql("UPDATE record SET conversation = 'c2' WHERE seq = 3"), "columns", 3, 0),
    "record.key": (sql("UPDATE record SET key = 'k9' WHERE seq = 4"), "columns", 4, 0),
    "record.key gone": (sql("UPDATE record SET key = NULL WHERE seq = 4"), "columns", 4, 0),
    "record.principal": (sql("UPDATE record SET principal = 'you' WHERE seq = 4"), "columns", 4, 0),
    "record.subject": (sql("UPDATE record SET subject = 'i2' WHERE seq = 7"), "columns", 7, 0),
    "record.kind": (sql("UPDATE record SET kind = 3 WHERE seq = 3"), "columns", 3, 0),
    "record.n": (sql("UPDATE record SET n = n + 1 WHERE seq = 5"), "columns", 5, 0),
    "record.n gone": (sql("UPDATE record SET n = NULL WHERE seq = 5"), "columns", 5, 0),
    "a record.n where none belongs": (sql("UPDATE record SET n = 1 WHERE seq = 11"), "columns", 11, 0),
    "columns of two swapped": (swap("record", 3, 4), "columns", 3, 0),
    "a stray query row": (
        sql(
            "INSERT INTO record (seq, kind, n, conversation, role, text) VALUES (99, 1, 7, 'c1', 'user', 'x')"
        ),
        "columns",
        None,
        0,
    ),
    "a stray query row before the first": (
        sql(
            "INSERT INTO record (seq, kind, n, conversation, role, text) VALUES (-1, 1, 7, 'c1', 'user', 'x')"
        ),
        "columns",
        None,
        0,
    ),
    "a query row gone": (sql("DELETE FROM record WHERE seq = 9"), "columns", 9, 0),
    "a query row moved away": (sql("UPDATE record SET seq = 99 WHERE seq = 9"), "columns", 9, 0),
    "content blanked": (erase(4), "erased", 4, 0),
    "content of the genesis blanked": (erase(0), "genesis", 0, 0),
    "content of the last blanked": (erase(LAST), "erased", LAST, 0),
    "content blanked, columns kept": (
        sql("UPDATE entry SET salt = NULL, body = NULL, blob = NULL WHERE seq = 4"),
        "columns",
        4,
        0,
    ),
    "an erased message under another's name": (
        each(
            erase(4),
            redaction(4, conversation="c1", role="user"),
            sql("UPDATE record SET role = 'assistant' WHERE seq = 4"),
        ),
        "erased",
        4,
        0,
    ),
    "a report blanked": (erase_kept(REPORT), "erased", REPORT, 0),
    "a report blanked under another's redaction": (
        each(erase_kept(REPORT), redaction(REPORT, about="i2")),
        "erased",
        REPORT,
        0,
    ),
    "an erased report given to another instance": (
        each(
            erase_kept(REPORT),
            redaction(REPORT, about="i1"),
            sql("UPDATE record SET subject = 'i2' WHERE seq = ?", REPORT),
        ),
        "erased",
        REPORT,
        0,
    ),
    "an erased report's instance gone from the list": (
        each(erase_kept(REPORT), redaction(REPORT, about="i1"), sql("UPDATE instance SET report = NULL")),
        "instance",
        SECOND_SNAPSHOT,
        0,
    ),
    "an erased report with its instance forgotten": (
        each(erase(REPORT), redaction(REPORT)),
        "instance",
        SECOND_SNAPSHOT,
        0,
    ),
    "a snapshot blanked": (erase_kept(SECOND_SNAPSHOT), "erased", SECOND_SNAPSHOT, 0),
    "a consensus entry blanked, with a redaction": (
        each(erase(CONSENSUS), redaction(CONSENSUS)),
        "erased",
        CONSENSUS,
        0,
    ),
    "a redaction blanked, with a redaction": (
        each(erase(4), redaction(4, conversation="c1", role="user"), erase(SIZE), redaction(SIZE)),
        "erased",
        SIZE,
        0,
    ),
    "a conversation's opening blanked": (
        each(erase(1), sql("UPDATE conversation SET scope = '' WHERE id = 'c1'")),
        "erased",
        1,
        0,
    ),
    "a conversation closed without an erasure": (
        sql("UPDATE conversation SET scope = '' WHERE id = 'c1'"),
        "conversation",
        1,
        0,
    ),
    "an erased conversation opened again": (
        each(erase(1), redaction(1, conversation="c1")),
        "conversation",
        1,
        0,
    ),
    "an erased entry that gets a place among messages": (
        each(
            erase_kept(REPORT),
            redaction(REPORT, about="i1"),
            sql("UPDATE record SET n = 1 WHERE seq = ?", REPORT),
        ),
        "columns",
        REPORT,
        0,
    ),
    "a longer commitment of an erased message": (
        each(
            erase(4),
            redaction(4, conversation="c1", role="user"),
            sql("UPDATE entry SET commitment = CAST(commitment || x'00' AS BLOB) WHERE seq = 4"),
        ),
        "entry",
        4,
        0,
    ),
    "conversation.messages": (
        sql("UPDATE conversation SET messages = 5 WHERE id = 'c1'"),
        "conversation",
        1,
        0,
    ),
    "conversation.last_seq": (
        sql("UPDATE conversation SET last_seq = 3 WHERE id = 'c1'"),
        "conversation",
        1,
        0,
    ),
    "conversation.scope": (sql("UPDATE conversation SET scope = 'x' WHERE id = 'c2'"), "conversation", 2, 0),
    "conversation.seq": (sql("UPDATE conversation SET seq = 3 WHERE id = 'c1'"), "conversation", 3, 0),
    "conversation.id": (sql("UPDATE conversation SET id = 'c3' WHERE id = 'c1'"), "conversation", 1, 0),
    "a conversation gone": (sql("DELETE FROM conversation WHERE id = 'c1'"), "conversation", 1, 0),
    "a conversation more": (
        sql("INSERT INTO conversation VALUES ('c3', 99, 'default', 0, 99)"),
        "conversation",
        99,
        0,
    ),
    "instance.seq": (sql("UPDATE instance SET seq = 6"), "instance", 6, 0),
    "instance.report": (sql("UPDATE instance SET report = NULL"), "instance", 12, 0),
    "an instance gone": (sql("DELETE FROM instance"), "instance", 12, 0),
    "an instance more": (sql("INSERT INTO instance VALUES ('i2', 3, NULL, 0)"), "instance", 3, 0),
    # forged with right hashes and counted, but not everywhere
    "an extra message, counted in the log only": (
        each(forge({**MESSAGE, "text": "x"}), count_in),
        "conversation",
        1,
        0,
    ),
    "a message of a conversation that was never opened": (
        each(forge({**MESSAGE, "conversation": "c9"}), count_in),
        "conversation",
        SIZE,
        0,
    ),
    "a body that is no object": (each(forge({}, kind=3, raw=b"[1]"), count_in), "body", SIZE, 0),
    "a body that is no JSON": (each(forge({}, kind=3, raw=b"\xff{"), count_in), "body", SIZE, 0),
    "a body nested beyond measure": (each(forge({}, kind=3, raw=b"[" * 200_000), count_in), "body", SIZE, 0),
    "a second genesis": (each(forge({}, kind=0), count_in), "genesis", SIZE, 0),
    "an entry cut off, the log mended": (cut(LAST, log=True), "conversation", 1, 0),
    # the definitions
    "a view that shows other text": (
        lambda connection: connection.executescript(
            "DROP VIEW message_text; CREATE VIEW message_text (seq, text) AS "
            "SELECT seq, replace(text, 'uno', 'forged') FROM record WHERE kind = 1 AND text IS NOT NULL"
        ),
        "schema",
        None,
        0,
    ),
    "a trigger that writes along": (
        lambda connection: connection.execute(
            "CREATE TRIGGER along AFTER INSERT ON record BEGIN UPDATE instance SET seen = 0; END"
        ),
        "schema",
        None,
        0,
    ),
    "an index gone": (lambda connection: connection.execute("DROP INDEX record_key"), "schema", None, 0),
}


@pytest.mark.parametrize("name", FOUND)
async def test_an_attack_is_found_where_it_was_made(tmp_path: Path, name: str) -> None:
    attack, code, seq, level = FOUND[name]
    db = tmp_path / "ccn.db"
    await make(db)
    checked = await after(db, attack)
    assert checked.fault is not None, "not found"
    assert (checked.fault.code, checked.fault.seq, checked.level) == (code, seq, level), checked.fault.detail
    assert checked.fault.detail


@pytest.mark.parametrize("name", FOUND)
async def test_a_log_that_was_attacked_is_read_and_written_without_a_crash(tmp_path: Path, name: str) -> None:
    """A broken record may be refused, in words of ours, or go on; it never ends in an error of Python's."""
    db = tmp_path / "ccn.db"
    await make(db)
    await after(db, FOUND[name][0])
    refusals: list[str] = []
    async with SqliteStore(db) as store:
        for call in (store.info, lambda: store.append(Group((decision(at=90),))), store.info):
            try:
                await call()
            except StoreCorrupt as error:
                refusals.append(str(error))
        assert (await store.verify()).fault is not None, "writing on has hidden the fault"
    assert all("run `ccn-mcp verify`" in refusal for refusal in refusals)


@pytest.mark.parametrize(
    "name", ["log.leaf", "log.size", "log.frontier emptied", "the log row deleted", "the tail cut off"]
)
async def test_a_log_whose_end_was_changed_is_not_written_on(tmp_path: Path, name: str) -> None:
    """An entry linked to a wrong end would break the chain for good, and the blame would fall on it."""
    db = tmp_path / "ccn.db"
    await make(db)
    before = await after(db, FOUND[name][0])
    async with SqliteStore(db) as store:
        with pytest.raises(StoreCorrupt, match="nothing was written"):
            await store.append(Group((decision(at=90),)))
    assert verify_file(db) == before


async def test_the_parts_of_an_entry_cannot_be_cut_elsewhere(tmp_path: Path) -> None:
    """The hash covers salt, body and blob in a row: a salt of another length would make other parts of them."""
    db = tmp_path / "ccn.db"
    await make(db)
    other = jcs.encode({"instance": "i1", "value": "never measured"})
    blob = ledger.LENGTH.pack(len(other)) + other + ledger.LENGTH.pack(0)
    async with SqliteStore(db) as store:
        await store.append(Group((Draft(Kind.METRIC, 0, {"instance": "i1", "value": "measured"}, blob),)))

    def cut_elsewhere(connection: sqlite3.Connection) -> None:
        row = "SELECT salt, body, blob FROM entry WHERE seq = ?"
        salt, body, _ = connection.execute(row, (SIZE,)).fetchone()
        length = ledger.LENGTH.pack
        longer = salt + length(len(body)) + body + length(len(blob))
        assert ledger.commitment(longer, other, b"") == ledger.commitment(salt, body, blob)
        sql("UPDATE entry SET salt = ?, body = ?, blob = x'' WHERE seq = ?", longer, other, SIZE)(connection)

    checked = await after(db, cut_elsewhere)
    assert checked.fault is not None, "not found"
    assert (checked.fault.code, checked.fault.seq, checked.level) == ("content", SIZE, None)


# ---- found by a head that somebody kept only -----------------------------------------------------------

HIDDEN: Final[dict[str, Attack]] = {
    "edited and recomputed": each(
        edit_body(3, text="forged"), sql("UPDATE record SET text = 'forged' WHERE seq = 3"), recompute
    ),
    "time edited and recomputed": each(sql("UPDATE entry SET time = time + 1 WHERE seq = 5"), recompute),
    "deleted, renumbered and recomputed": each(renumber(8), recompute, count_again),
    "tail cut off with everything beside it": cut(13, log=True, derived=True),
    "another identity, recomputed": each(sql("UPDATE log SET store_id = ?", bytes(16)), recompute),
}


@pytest.mark.parametrize("name", HIDDEN)
async def test_a_forger_who_recomputes_everything_meets_the_head_that_was_kept(
    tmp_path: Path, name: str
) -> None:
    db = tmp_path / "ccn.db"
    head = await make(db)
    checked = await after(db, HIDDEN[name])
    assert (checked.level, checked.fault) == (1, None), "the attack is supposed to be perfect"
    known = verify_file(db, head)
    assert known.fault is not None
    assert (known.fault.code, known.known_head) == ("known_head", False)
    # Both heads are shown: the one that was kept and the one that is there.
    assert head in known.fault.detail
    assert str(known.head) in known.fault.detail


async def test_an_older_copy_of_the_whole_file_meets_the_head_that_was_kept(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    older = db.read_bytes()
    async with SqliteStore(db) as store:
        head = str((await store.append(Group((said("the newest"),)))).head)
    db.write_bytes(older)
    assert verify_file(db).level == 1
    known = verify_file(db, head)
    assert known.fault is not None
    assert known.fault.code == "known_head"
    assert "shorter" in known.fault.detail


async def test_a_head_that_was_kept_survives_honest_growth_and_sees_every_rewriting_before_it(
    tmp_path: Path,
) -> None:
    db = tmp_path / "ccn.db"
    head = await make(db)
    async with SqliteStore(db) as store:
        await store.append(Group((said("later"),)))
        assert (await store.verify(known_head=head)).known_head is True
    # What comes after the head that was kept is outside of it: the documentation says so.
    after_it = each(
        edit_body(SIZE, text="forged"),
        sql("UPDATE record SET text = 'forged' WHERE seq = ?", SIZE),
        recompute,
    )
    assert (await after(db, after_it, head)).known_head is True
    before_it = each(
        edit_body(LAST, text="forged"),
        sql("UPDATE record SET text = 'forged' WHERE seq = ?", LAST),
        recompute,
    )
    assert (await after(db, before_it, head)).known_head is False


# ---- what is no attack ---------------------------------------------------------------------------------


async def test_an_untouched_file_passes_after_the_triggers_were_dropped_and_restored(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    head = await make(db)
    checked = await after(db, lambda _: None, head)
    assert (checked.level, checked.fault, checked.known_head) == (3, None, True)
    assert (checked.entries, checked.messages, str(checked.head)) == (SIZE, 9, head)


async def test_a_redaction_is_no_attack(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    checked = await after(db, each(erase(4), redaction(4, conversation="c1", role="user")))
    assert (checked.level, checked.fault, checked.erased) == (1, None, 1)


async def test_redactions_of_every_kind_are_no_attack(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    checked = await after(
        db,
        each(
            erase_kept(REPORT),
            redaction(REPORT, about="i1"),
            erase_kept(INSTANCE),
            redaction(INSTANCE, conversation="c1", about="i1"),
            erase(1),
            sql("UPDATE conversation SET scope = '' WHERE id = 'c1'"),
            redaction(1, conversation="c1"),
        ),
    )
    assert (checked.level, checked.fault, checked.erased) == (1, None, 3)


async def test_leases_may_change_without_the_log(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    assert (await after(db, sql("UPDATE instance SET seen = seen + 1"))).level == 1


@pytest.mark.parametrize("name", ["entry_in_order", "entry_kept", "entry_unchanged"])
async def test_a_store_without_one_of_its_triggers_is_told(tmp_path: Path, name: str) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    with closing(sqlite3.connect(db)) as connection:
        connection.execute(f"DROP TRIGGER {name}")
    checked = verify_file(db)
    assert checked.fault is not None
    assert (checked.fault.code, checked.level) == ("schema", 0)
    assert name in checked.fault.detail


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("message_fts_keep", "TRIGGER message_fts_keep BEFORE UPDATE ON record BEGIN SELECT 1; END"),
        ("message_fts_docsize", "TRIGGER message_fts_docsize BEFORE UPDATE ON record BEGIN SELECT 1; END"),
        ("message_fts_all", "VIEW message_fts_all AS SELECT text FROM record"),
        ("message_fts_kept", "TABLE message_fts_kept (text)"),
        ("message_fts_content", "TABLE message_fts_content (text)"),
        ("message_fts_by", "INDEX message_fts_by ON record (text)"),
        ("sqlite_keep", "TRIGGER sqlite_keep BEFORE UPDATE ON record BEGIN SELECT 1; END"),
    ],
)
async def test_what_is_named_like_a_part_of_the_search_is_told(tmp_path: Path, name: str, kind: str) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        if name.startswith("sqlite") or name == "message_fts_docsize":
            table = "INSERT INTO sqlite_master VALUES ('trigger', ?, 'record', 0, ?)"
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(table, (name, f"CREATE {kind}"))
        else:
            connection.execute(f"CREATE {kind}")
    checked = verify_file(db)
    assert checked.fault is not None
    assert (checked.fault.code, checked.level) == ("schema", 0)
    assert name in checked.fault.detail


async def test_a_store_whose_journal_was_left_as_a_restore_made_it_is_written_in_wal(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    async with SqliteStore(db) as store:
        await store.append(Group((said("again", at=99),)))
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert verify_file(db).fault is None


async def test_text_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    with pytest.raises(StoreCorrupt, match="not UTF-8"):
        await after(db, sql("UPDATE record SET text = CAST(x'ff' AS TEXT) WHERE seq = 3"))


# ---- found by a deep check only ------------------------------------------------------------------------

UNSEEN: Final[dict[str, Attack]] = {
    "a message taken out of the search index": sql(
        "INSERT INTO message_fts (message_fts, rowid, text) VALUES ('delete', 3, 'uno 0')"
    ),
    "a message found by words that it does not have": sql(
        "INSERT INTO message_fts (rowid, text) VALUES (3, 'forged')"
    ),
    "a message hidden from the index that pages are read by": each(
        lambda connection: connection.execute("PRAGMA writable_schema = ON"),
        lambda connection: connection.execute(
            "UPDATE sqlite_master SET sql = sql || ' AND seq <> 3' WHERE name = 'record_message'"
        ),
        lambda connection: connection.execute("PRAGMA writable_schema = RESET"),
        lambda connection: connection.execute("REINDEX record_message"),
        lambda connection: connection.execute("PRAGMA writable_schema = ON"),
        lambda connection: connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, ' AND seq <> 3', '') WHERE name = 'record_message'"
        ),
        lambda connection: connection.execute("PRAGMA writable_schema = RESET"),
    ),
}


@pytest.mark.parametrize("name", UNSEEN)
async def test_an_index_that_disagrees_with_its_table_is_found_by_a_deep_check(
    tmp_path: Path, name: str
) -> None:
    db = tmp_path / "ccn.db"
    await make(db)
    assert (await after(db, UNSEEN[name])).fault is None, "the usual check does not compare indexes"
    checked = verify_file(db, deep=True)
    assert checked.fault is not None
    assert (checked.fault.seq, checked.level) == (3, 0)


def everything_beside(connection: sqlite3.Connection) -> list[Any]:
    """Every row of every table that is compared with the log."""
    return [list(connection.execute(f"SELECT * FROM {table}")) for table in ("record", "conversation")]


async def test_every_single_cell_of_the_query_columns_is_compared(tmp_path: Path) -> None:
    """No column of `record` can hold another value than the one that it has, in no row."""
    db = tmp_path / "ccn.db"
    await make(db)
    pristine = db.read_bytes()
    with closing(sqlite3.connect(db)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(record)") if row[1] != "seq"]
        numbers = {"kind", "n"}
        before = everything_beside(connection)
    for column in columns:
        for seq in range(SIZE):
            db.write_bytes(pristine)
            other = 11 if column in numbers else "other"
            checked = await after(db, sql(f"UPDATE record SET {column} = ? WHERE seq = ?", other, seq))
            assert checked.fault is not None, (column, seq)
            assert (checked.fault.code, checked.fault.seq) == ("columns", seq), (column, seq)
    db.write_bytes(pristine)
    with closing(sqlite3.connect(db)) as connection:
        assert everything_beside(connection) == before
