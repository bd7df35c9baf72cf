"""Signed heads, remembered heads, stored subtree hashes: what the writer keeps and what it refuses to go on from."""

from __future__ import annotations

import asyncio
import base64
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from ccn_mcp.app import keeper_of as keeper_for
from ccn_mcp.domain.errors import StoreBusy, StoreRolledBack
from ccn_mcp.domain.ledger import Head
from ccn_mcp.domain.models import Claim, ConversationQuery, Group, Verification
from ccn_mcp.settings import Settings
from ccn_mcp.store.heads import FILE_BYTES_MAX, HeadsFile
from ccn_mcp.store.keeper import HEADS_FOLDER, FileKeeper
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.sqlite import append, connect, definitions, erasure, log, nodes
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.signing import root_here
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.attacks import edit_body, recompute
from tests.store.model import opening, redaction, said, seeded

pytestmark = pytest.mark.anyio

WAIT_S_MAX: Final = 20.0
MANY: Final = 600
"""Messages: more than two complete subtrees of 256."""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ccn.db"


@pytest.fixture
def keeper(tmp_path: Path, db: Path) -> FileKeeper:
    return keeper_of(tmp_path / "config", db)


def keeper_of(folder: Path, db: Path, elsewhere: Path | None = None) -> FileKeeper:
    """A keeper as one account has it."""
    return FileKeeper(lambda: folder, connect.real_path(db), elsewhere=elsewhere)


async def write(db: Path, keeper: FileKeeper, *texts: str) -> Head:
    """Open the store, append, close; the head."""
    async with SqliteStore(db, keeper=keeper) as store:
        if (await store.info()).store_id is None:
            await store.append(Group((opening("c1"),)))
        for text in texts:
            await store.append(Group((said(text),)))
        return (await store.info()).head


def checked(
    db: Path, keeper: FileKeeper, known_head: str | None = None, *, newer: bool = False
) -> Verification:
    return verify_file(db, known_head, keeper=keeper, newer=newer)


@contextmanager
def the_file(db: Path) -> Iterator[sqlite3.Connection]:
    """The file without its triggers, as somebody who edits it opens it."""
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        triggers = list(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for _, sql in triggers:
            connection.execute(sql)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


# ---- signing ---------------------------------------------------------------------------------------------


async def test_a_closed_store_is_signed_to_its_end_by_the_key_that_its_genesis_names(
    db: Path, keeper: FileKeeper
) -> None:
    head = await write(db, keeper, "one", "two")
    found = checked(db, keeper)
    assert (found.level, found.signed_to, found.fault, found.remarks) == (2, head.size, None, ())
    head = await write(db, keeper, "three")
    assert checked(db, keeper).signed_to == head.size


async def test_what_came_after_the_last_signature_is_said_to_be_unsigned(
    db: Path, keeper: FileKeeper
) -> None:
    signed = await write(db, keeper, "one")
    async with SqliteStore(db) as store:  # a program that has no key, such as a hook
        await store.append(Group((said("two"),)))
    found = checked(db, keeper)
    assert (found.level, found.signed_to, found.entries) == (2, signed.size, signed.size + 1)


async def test_a_store_that_a_hook_began_is_given_a_key_by_the_next_program(
    db: Path, keeper: FileKeeper
) -> None:
    async with SqliteStore(db) as store:
        await store.append(Group((opening("c1"), said("one"))))
    assert checked(db, keeper).remarks == ("no head of this log is signed yet",)
    head = await write(db, keeper, "two")
    found = checked(db, keeper)
    assert (found.level, found.fault) == (2, None)
    assert found.signed_to == found.entries == head.size + 1, "the key entry is the last one"


async def test_another_account_neither_signs_nor_cries_wolf(
    db: Path, keeper: FileKeeper, tmp_path: Path
) -> None:
    signed = await write(db, keeper, "one")
    other = keeper_of(tmp_path / "other", db)
    await write(db, other, "two")
    found = checked(db, other)
    assert (found.level, found.signed_to, found.fault) == (1, 0, None)
    assert "never trusted their key" in found.remarks[0]
    assert checked(db, keeper).signed_to == signed.size


async def test_a_key_that_cannot_be_kept_keeps_no_message_from_being_recorded(
    db: Path, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "config"
    in_the_way.write_text("no folder")
    await write(db, keeper_of(in_the_way, db), "one")
    found = checked(db, keeper_of(in_the_way, db))
    assert (found.level, found.messages, found.fault) == (1, 1, None)


def _cut(note: bytes) -> bytes:
    return note[:-20]


def _other_log(note: bytes) -> bytes:
    return note.replace(b"ccn-log/", b"ccn-lag/")


def _other_root(note: bytes) -> bytes:
    first, size, _, rest = note.split(b"\n", 3)
    return b"\n".join((first, size, base64.b64encode(bytes(32)), rest))


def _other_signature(note: bytes) -> bytes:
    return note[:-12] + b"AAAAAAAAA==\n"


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (_cut, "signature"),
        (_other_log, "signature"),
        (_other_root, "known_head"),
        (_other_signature, "signature"),
    ],
)
async def test_a_signed_head_that_was_edited_is_found(
    db: Path, keeper: FileKeeper, edit: Callable[[bytes], bytes], code: str
) -> None:
    await write(db, keeper, "one")
    with the_file(db) as connection:
        (note,) = connection.execute("SELECT note FROM checkpoint").fetchone()
        connection.execute("UPDATE checkpoint SET note = ?", (edit(note),))
    found = checked(db, keeper)
    assert found.fault is not None
    assert (found.fault.code, found.level) == (code, 0)


async def test_a_signed_head_that_is_filed_under_another_size_is_found(db: Path, keeper: FileKeeper) -> None:
    head = await write(db, keeper, "one")
    with the_file(db) as connection:
        connection.execute("UPDATE checkpoint SET size = size - 1")
    found = checked(db, keeper)
    assert found.fault is not None
    assert found.fault.code == "signature"
    assert f"size {head.size}" in found.fault.detail


async def test_dropping_the_signed_heads_lowers_the_level_and_the_memory_still_knows(
    db: Path, keeper: FileKeeper, tmp_path: Path
) -> None:
    await write(db, keeper, "one")
    with the_file(db) as connection:
        connection.execute("DELETE FROM checkpoint")
    found = checked(db, keeper)
    assert (found.level, found.signed_to, found.remarks) == (1, 0, ("no head of this log is signed yet",))


# ---- rollback --------------------------------------------------------------------------------------------


async def test_an_older_copy_is_refused_with_both_heads_and_can_still_be_read(
    db: Path, keeper: FileKeeper
) -> None:
    older = await write(db, keeper, "one")
    shutil.copy(db, db.with_suffix(".copy"))
    newer = await write(db, keeper, "two")
    shutil.copy(db.with_suffix(".copy"), db)
    with pytest.raises(StoreRolledBack) as refused:
        await write(db, keeper, "three")
    assert str(older) in str(refused.value)
    assert str(newer) in str(refused.value)
    found = checked(db, keeper)
    assert found.fault is not None
    assert str(older) in found.fault.detail
    assert str(newer) in found.fault.detail
    async with SqliteStore(db, keeper=keeper) as store:
        assert len(await store.conversations(ConversationQuery(5))) == 1


async def test_a_log_that_was_written_anew_to_the_same_length_is_refused(
    db: Path, keeper: FileKeeper, tmp_path: Path
) -> None:
    await write(db, keeper, "one")
    shutil.copy(db, db.with_suffix(".copy"))
    await write(db, keeper, "two")
    shutil.copy(db.with_suffix(".copy"), db)
    async with SqliteStore(db) as store:  # somebody without the memory
        await store.append(Group((said("two, otherwise"),)))
        await store.append(Group((said("three"),)))
    with pytest.raises(StoreRolledBack):
        await write(db, keeper, "four")


async def test_a_copy_at_another_place_goes_its_own_way(db: Path, keeper: FileKeeper, tmp_path: Path) -> None:
    await write(db, keeper, "one")
    copy = tmp_path / "copy" / "ccn.db"
    copy.parent.mkdir()
    shutil.copy(db, copy)
    other = keeper_of(tmp_path / "config", copy)
    await write(copy, other, "on the copy", "and on")
    await write(db, keeper, "here")
    assert (checked(db, keeper).level, checked(copy, other).level) == (2, 2)


async def test_a_head_kept_elsewhere_raises_the_level_and_tells_of_a_rollback(
    db: Path, tmp_path: Path
) -> None:
    keeper = keeper_of(tmp_path / "config", db, tmp_path / "elsewhere")
    older = await write(db, keeper, "one")
    shutil.copy(db, db.with_suffix(".copy"))
    newer = await write(db, keeper, "two")
    found = checked(db, keeper)
    assert (found.level, found.matched_to) == (3, newer.size)
    # Whoever rolls back the store and this account's own memory has not reached the other place.
    shutil.copy(db.with_suffix(".copy"), db)
    shutil.rmtree(tmp_path / "config" / "heads")
    found = checked(db, keeper)
    assert found.fault is not None
    assert (found.fault.code, found.level) == ("known_head", 0)
    assert str(older) in found.fault.detail
    assert str(newer) in found.fault.detail


def test_a_heads_file_stays_bounded_and_passes_over_what_is_no_head(tmp_path: Path) -> None:
    file = HeadsFile(tmp_path / "heads" / "file", own=True)
    assert not file.read("tag", "somebody")
    long = b"x" * 4_000
    for size in range(1, 300):
        file.append("tag", Head(size, size.to_bytes(32, "big")), long)
    with file.path.open("a") as torn:
        torn.write("tag 12:zz\n\ntag\nother 500:" + "0" * 64 + " x y\n")
    found = file.read("tag", "somebody")
    assert found[-1].size == 299
    assert file.path.stat().st_size <= FILE_BYTES_MAX + 10_000
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_the_person_chose_is_never_shortened_and_its_folder_never_made(tmp_path: Path) -> None:
    file = HeadsFile(tmp_path / "usb" / "heads")
    with pytest.raises(FileNotFoundError):
        file.append("quiet", Head(1, bytes(32)), b"note")
    assert not file.path.parent.exists(), "a disk that is not there does not become a folder"
    file.path.parent.mkdir()
    file.append("quiet", Head(7, bytes(32)), b"note")
    with file.path.open("a") as busy:
        busy.write(f"busy 5:{'0' * 64} x {'y' * 4_000}\n" * (2 * FILE_BYTES_MAX // 4_000 + 10))
    file.append("busy", Head(8, bytes(32)), b"note")
    assert file.path.stat().st_size > 2 * FILE_BYTES_MAX
    assert [claim.size for claim in file.read("quiet", "somebody")] == [7]


def test_a_head_after_a_torn_line_is_kept(tmp_path: Path) -> None:
    file = HeadsFile(tmp_path / "heads")
    file.append("tag", Head(5, bytes(32)), b"note")
    with file.path.open("a") as torn:
        torn.write("tag 6:0202")
    file.append("tag", Head(7, bytes(32)), b"note")
    assert [claim.size for claim in file.read("tag", "somebody")] == [5, 7]
    assert "\n\n" not in file.path.read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of a file as POSIX does")
def test_a_head_that_was_written_in_part_is_told(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from ccn_mcp.domain.ledger import Head\n"
        "from ccn_mcp.store.heads import HeadsFile\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))\n"
        "try:\n"
        "    HeadsFile(Path(sys.argv[1])).append('tag', Head(5, bytes(32)), b'note')\n"
        "except OSError as told:\n"
        "    sys.exit(f'told: {told}')\n"
    )
    words = [sys.executable, "-B", "-c", program, str(tmp_path / "heads")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_S_MAX, check=False)
    assert (done.returncode, "told: only 50 of" in done.stderr) == (1, True), done.stderr
    assert (tmp_path / "heads").stat().st_size == 50


def put_a_link(db: Path, older: Path) -> None:
    db.unlink()
    db.symlink_to(older)


async def test_a_link_at_the_stores_place_does_not_switch_the_memory_off(db: Path, tmp_path: Path) -> None:
    """Heads are filed under the path as named; what lies there is what may have been changed."""
    chosen = Settings(db=db, config_dir=tmp_path / "config", heads=tmp_path / "usb")
    await write(db, keeper_for(chosen), "one")
    older = Path(shutil.copy(db, tmp_path / "older.db"))
    newest = await write(db, keeper_for(chosen), "two")
    put_a_link(db, older)
    found = checked(db, keeper_for(chosen))
    assert found.fault is not None
    assert (found.level, found.fault.code, str(newest) in found.fault.detail) == (0, "known_head", True)
    with pytest.raises(StoreRolledBack):
        await write(db, keeper_for(chosen), "on the older one")


async def test_one_place_that_fails_does_not_keep_a_head_from_the_others(db: Path, tmp_path: Path) -> None:
    gone, kept = tmp_path / "gone" / "heads", tmp_path / "kept"
    words = ("/bin/sh", "-c", f"cat > {kept}")
    keeper = FileKeeper(lambda: tmp_path / "config", db, elsewhere=gone, command=words)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / HEADS_FOLDER).write_text("not a folder")
    keeper.remember(bytes(16), Head(5, bytes(32)), b"note")
    assert keeper._command is not None
    assert keeper._command._running is not None
    keeper._command._running.wait(WAIT_S_MAX)
    assert kept.read_bytes() == b"note"
    (tmp_path / "config" / HEADS_FOLDER).unlink()
    keeper = FileKeeper(lambda: tmp_path / "config", db, elsewhere=gone, command=("/no/such/program",))
    keeper.remember(bytes(16), Head(6, bytes(32)), b"note")
    told = keeper.trouble(bytes(16))
    assert told is not None
    assert str(gone) in told
    assert "/no/such/program" in told
    assert [claim.size for claim in keeper.heads(bytes(16))] == [6]


async def test_a_second_place_that_cannot_be_read_is_told(db: Path, tmp_path: Path) -> None:
    usb = tmp_path / "usb"
    usb.mkdir()
    keeper = keeper_of(tmp_path / "config", db, usb / "heads")
    assert keeper.trouble(bytes(16)) is None, "the file appears with the first head"
    keeper.remember(bytes(16), Head(6, bytes(32)), b"note")
    assert keeper.trouble(bytes(16)) is None
    shutil.rmtree(usb)
    told = keeper.trouble(bytes(16))
    assert told is not None
    assert str(usb / "heads") in told
    usb.write_text("no folder")
    assert keeper.trouble(bytes(16)) is not None


# ---- stored subtree hashes -------------------------------------------------------------------------------


async def fill(db: Path, count: int = MANY) -> None:
    async with SqliteStore(db) as store:
        await store.append(Group((opening("c1"), *(said(f"word {n}") for n in range(count)))))


async def stored_nodes(db: Path) -> list[tuple[int, int, bytes]]:
    with closing(sqlite3.connect(db)) as connection:
        return connection.execute("SELECT level, i, hash FROM node ORDER BY level, i").fetchall()


async def test_each_complete_subtree_is_kept_and_checked(db: Path) -> None:
    await fill(db)
    kept = await stored_nodes(db)
    assert [row[:2] for row in kept] == [(1, 0), (1, 1)]
    assert verify_file(db).level == 1
    with the_file(db) as connection:
        connection.execute("UPDATE node SET hash = zeroblob(32) WHERE i = 1")
    found = verify_file(db)
    assert found.fault is not None
    assert (found.fault.code, found.level) == ("node", 0)


async def test_what_an_older_program_left_out_is_made_up_by_the_next_append(db: Path) -> None:
    await fill(db)
    kept = await stored_nodes(db)
    with the_file(db) as connection:
        connection.execute("DELETE FROM node")
    async with SqliteStore(db) as store:
        await store.append(Group((said("more"),)))
    assert await stored_nodes(db) == kept
    assert verify_file(db).level == 1


async def test_a_file_of_format_1_is_read_as_it_is_and_brought_up_by_the_first_write(db: Path) -> None:
    await fill(db)
    kept = await stored_nodes(db)
    with the_file(db) as connection:
        connection.execute("DROP TABLE node")
        connection.execute("DROP TABLE checkpoint")
        connection.execute("PRAGMA user_version = 1")
    before = await asyncio.to_thread(db.read_bytes)
    assert verify_file(db).level == 1
    async with SqliteStore(db) as store:
        assert (await store.info()).head.size == MANY + 2
    assert await asyncio.to_thread(db.read_bytes) == before
    async with SqliteStore(db) as store:
        await store.append(Group((said("more"),)))
    assert await stored_nodes(db) == kept
    found = verify_file(db)
    assert (found.level, found.entries, found.fault) == (1, MANY + 3, None)
    fresh = db.with_name("fresh.db")
    await fill(fresh, count=1)
    with closing(sqlite3.connect(db)) as old, closing(sqlite3.connect(fresh)) as new:
        assert set(old.execute(definitions.DEFINITIONS)) == set(new.execute(definitions.DEFINITIONS))
        assert (old.execute("PRAGMA user_version").fetchone(),) == (
            new.execute("PRAGMA user_version").fetchone(),
        )


# ---- only what is new ------------------------------------------------------------------------------------


async def test_only_what_is_new_is_read(db: Path) -> None:
    await fill(db)
    heads = {}
    with closing(sqlite3.connect(db)) as connection:
        for size in (1, 2, 255, 256, 257, 512, MANY + 1, MANY + 2):
            heads[size] = str(root_here(connection, size))
    for size, head in heads.items():
        found = verify_file(db, head, newer=True)
        assert (found.fault, found.level, found.since, found.known_head) == (None, 1, size, True), size
        assert found.entries == MANY + 2
        assert found.messages == MANY + 2 - max(size, 2)
        whole = verify_file(db, head)
        assert (whole.level, whole.known_head, whole.head) == (3, True, found.head)


@pytest.mark.parametrize("seed", range(6))
async def test_what_was_changed_after_the_head_is_found_and_what_lies_before_is_not_read(
    db: Path, seed: int
) -> None:
    await fill(db)
    size = 300
    with closing(sqlite3.connect(db)) as connection:
        head = str(root_here(connection, size))
    seq = seeded(seed).randrange(size, MANY + 2)
    with the_file(db) as connection:
        connection.execute(
            "UPDATE entry SET body = CAST(replace(body, 'word', 'ward') AS BLOB) WHERE seq = 100"
        )
    assert verify_file(db, head, newer=True).fault is None
    assert verify_file(db, head).fault is not None
    edits = (
        "UPDATE entry SET body = CAST(replace(body, 'word', 'ward') AS BLOB) WHERE seq = ?",
        "UPDATE record SET text = 'other' WHERE seq = ?",
        "UPDATE record SET n = n + 1 WHERE seq = ?",
        "UPDATE entry SET time = time + 1 WHERE seq = ?",
        "UPDATE conversation SET messages = messages + 1 WHERE seq < ?",
        "UPDATE node SET hash = zeroblob(32) WHERE level = 1 AND i = 1 AND ? > 0",
    )
    with the_file(db) as connection:
        assert connection.execute(edits[seed], (seq,)).rowcount == 1
    assert verify_file(db, head, newer=True).fault is not None


async def test_another_log_is_no_continuation(db: Path) -> None:
    await fill(db)
    for wrong in (f"300:{'0' * 32}", f"{MANY + 9}:{'0' * 32}"):
        found = verify_file(db, wrong, newer=True)
        assert found.fault is not None
        assert (found.fault.code, found.known_head, found.level) == ("known_head", False, 0)


async def test_a_head_before_the_first_entry_reads_all(db: Path) -> None:
    await fill(db, count=3)
    found = verify_file(db, f"0:{'e3b0c44298fc1c149afbf4c8996fb924'}", newer=True)
    assert (found.fault, found.messages, found.since) == (None, 3, 0)


def test_nodes_are_read_in_the_order_of_their_index(tmp_path: Path) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE node (level, i, hash, PRIMARY KEY (level, i))")
        nodes.write(connection, [(1, 1, b"b" * 32), (1, 0, b"a" * 32), (2, 0, b"c" * 32)])
        assert nodes.read(connection, 1, 0, 256) == [b"a" * 32, b"b" * 32]
        assert nodes.read(connection, 2, 0, 1) == [b"c" * 32]


# ---- behind the back of a process that runs ---------------------------------------------------------------


def rewrite(db: Path) -> None:
    """Change the first message and compute everything again, in place."""
    with the_file(db) as connection:
        edit_body(2, text="forged")(connection)
        connection.execute("UPDATE record SET text = 'forged' WHERE seq = 2")
        recompute(connection)


@pytest.mark.parametrize("others", [0, 3, 300])
async def test_a_record_that_was_rewritten_in_place_gets_neither_an_append_nor_a_signature(
    db: Path, keeper: FileKeeper, others: int
) -> None:
    async with SqliteStore(db, keeper=keeper) as store:
        await store.append(Group((opening("c1"), said("original"))))
        rewrite(db)
        if others:
            async with SqliteStore(db) as stranger:
                await stranger.append(Group(tuple(said(f"later {n}") for n in range(others))))
        with pytest.raises(StoreRolledBack):
            await store.append(Group((said("more"),)))
        with pytest.raises(StoreRolledBack):
            await store.maintain()
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("SELECT count(*) FROM checkpoint").fetchone() == (0,)


@pytest.mark.parametrize("others", [1, 300])
async def test_what_others_append_meanwhile_is_no_rewriting(
    db: Path, keeper: FileKeeper, others: int
) -> None:
    async with SqliteStore(db, keeper=keeper) as store, SqliteStore(db) as other:
        await store.append(Group((opening("c1"), said("original"))))
        await other.append(Group(tuple(said(f"later {n}") for n in range(others))))
        await store.append(Group((said("more"),)))
    assert checked(db, keeper).level == 2


async def test_a_signature_that_could_not_be_made_is_made_when_the_store_closes(
    db: Path, keeper: FileKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(db, keeper=keeper, wait_s=0.05) as store:
        await store.append(Group((opening("c1"), said("one"))))
        with closing(Turnstile(db)) as turnstile, turnstile, pytest.raises(StoreBusy):
            await store.maintain()
    found = checked(db, keeper)
    assert found.signed_to == found.entries


async def test_only_what_is_new_falls_back_to_all_where_something_is_missing(
    db: Path, keeper: FileKeeper
) -> None:
    await fill(db)
    with closing(sqlite3.connect(db)) as connection:
        head = str(root_here(connection, 300))
    with the_file(db) as connection:
        connection.execute("DELETE FROM node")
    found = verify_file(db, head, newer=True)
    assert found.fault is not None
    assert found.fault.code == "node"
    with the_file(db) as connection:
        connection.execute("DELETE FROM entry WHERE seq = 299")
    found = verify_file(db, head, newer=True)
    assert found.fault is not None
    assert (found.fault.code, found.fault.seq) == ("gap", 299)


async def test_only_what_is_new_still_checks_the_signatures(db: Path, keeper: FileKeeper) -> None:
    head = await write(db, keeper, "one")
    await write(db, keeper, "two")
    with the_file(db) as connection:
        note = connection.execute("SELECT note FROM checkpoint ORDER BY size DESC").fetchone()[0]
        connection.execute("UPDATE checkpoint SET note = ? WHERE note = ?", (_other_signature(note), note))
    found = checked(db, keeper, str(head), newer=True)
    assert found.fault is not None
    assert found.fault.code == "signature"


# ---- what is durable is not told as failed -----------------------------------------------------------------


async def test_an_append_beside_a_clean_up_that_fails_is_acknowledged(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    async with SqliteStore(db) as store:
        await store.append(Group((opening("c1"), said("secret"), said("kept"))))
        monkeypatch.setattr(erasure, "finish", lambda *_: 1)
        assert (await store.erase([redaction(2)])).pending
        monkeypatch.setattr(append, "PENDING_RETRY_S", 0.0)
        monkeypatch.setattr(erasure, "merge", full)
        await store.append(Group((said("after"),)))
        assert (await store.verify()).messages == 3


async def test_an_erasure_whose_clean_up_fails_is_pending_and_not_failed(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_: log.SqliteLog) -> tuple[bool, int]:
        raise StoreBusy("another program cleans up")

    async with SqliteStore(db) as store:
        await store.append(Group((opening("c1"), said("secret"))))
        monkeypatch.setattr(log.SqliteLog, "tidy", busy)
        erased = await store.erase([redaction(2)])
        assert erased.pending == 1
        assert (await store.verify()).erased == 1


async def test_only_opening_asks_the_second_place_while_others_wait(
    db: Path, keeper: FileKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def ask(store_id: bytes) -> list[Claim]:
        asked.append(store_id)
        return []

    monkeypatch.setattr(keeper, "heads_elsewhere", ask)
    async with SqliteStore(db, keeper=keeper) as store:
        await store.append(Group((opening("c1"), said("one"))))
        await store.maintain()
        await store.append(Group((said("two"),)))
    assert checked(db, keeper).signed_to == 4
    assert len(asked) <= 2, "at opening (a new file has nothing to compare yet) and by the check itself"
