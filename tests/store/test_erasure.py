"""After an erasure no file of the store holds the words, whatever else was open; half an erasure never happens."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from ccn_mcp.domain.erasure import text_tombstone
from ccn_mcp.domain.errors import StoreUnavailable
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Group, RecordQuery, SearchQuery
from ccn_mcp.store.secret import SECRET_BYTES, SECRET_FILE, SecretFile
from ccn_mcp.store.sqlite import append, erasure
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.clients.harness import ROOT
from tests.store.model import opening, redaction, said, seeded

pytestmark = pytest.mark.anyio
WAIT_S: Final = 60
SECRET: Final = b"s" * SECRET_BYTES
TOKEN: Final = "zqxj7wvk"  # noqa: S105  # a word that is nowhere else


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "store" / "ccn.db"


@pytest.fixture
async def store(db: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(db, secret=lambda _: SECRET) as made:
        await made.append(Group((opening(), said("before"), said(f"the {TOKEN} word"), said("after"))))
        yield made


SAID: Final = 3
"""Where the token was said."""


def holders(db: Path, word: str) -> list[str]:
    """The files beside the store that hold the word."""
    return sorted(path.name for path in db.parent.iterdir() if word.encode() in path.read_bytes())


@contextmanager
def reading(db: Path) -> Iterator[sqlite3.Connection]:
    """Another program in the middle of a read."""
    with closing(sqlite3.connect(db, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entry").fetchone()
        yield reader


async def test_the_word_is_in_no_file_afterwards(store: SqliteStore, db: Path) -> None:
    head = (await store.info()).head
    assert holders(db, TOKEN)
    erased = await store.erase([redaction(SAID)])
    assert (erased.pending, holders(db, TOKEN)) == (0, [])
    assert (await store.search(SearchQuery(TOKEN, 5))).hits == ()
    assert len((await store.search(SearchQuery("before", 5))).hits) == 1
    checked = await store.verify(known_head=str(head))
    assert (checked.fault, checked.erased, checked.known_head) == (None, 1, True)
    with closing(sqlite3.connect(db)) as other:
        other.execute("INSERT INTO message_fts (message_fts, rank) VALUES ('integrity-check', 1)")
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("seed", range(3))
async def test_no_word_of_many_stays_whatever_its_length_and_company(db: Path, seed: int) -> None:
    """Messages of a word to many pages, in the middle and at the ends, one by one and together."""
    rng = seeded(seed)
    words = {}
    async with SqliteStore(db, secret=lambda _: SECRET) as store:
        await store.append(Group((opening(),)))
        for number in range(240):
            word, filler = f"u{seed}q{number:04d}zvx", rng.choice([0, 1, 20, 300, 3_000])
            key = f"key-{word}" if rng.random() < 0.5 else None
            texts = [f"w{rng.randrange(3_000)}" for _ in range(filler)]
            texts.insert(rng.randint(0, len(texts)), word)
            done = await store.append(Group((said(" ".join(texts), key=key),)))
            words[done.receipts[0].seq] = word
        gone: list[int] = []
        for _ in range(12):
            some = rng.sample(sorted(set(words) - set(gone)), rng.choice([1, 2, 8]))
            assert (await store.erase([redaction(seq) for seq in some])).pending == 0
            gone += some
            await store.append(Group((said("something else"),)))
            assert [words[seq] for seq in gone if holders(db, words[seq])] == []
        checked = await store.verify()
        assert (checked.level, checked.erased) == (1, len(gone))
        kept = [seq for seq in words if seq not in gone]
        for seq in rng.sample(kept, 20):
            (hit,) = (await store.search(SearchQuery(words[seq], 5))).hits
            assert hit.message.seq == seq


async def test_the_index_is_merged_in_steps_and_others_write_between_them(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The word is in the middle of an index that takes many steps; what is written meanwhile stays findable."""
    monkeypatch.setattr(erasure, "MERGE_PAGES", 1)
    steps: list[bool] = []
    tidy = SqliteLog.tidy

    def counted(log: SqliteLog) -> tuple[bool, int]:
        done = tidy(log)
        steps.append(done[0])
        return done

    monkeypatch.setattr(SqliteLog, "tidy", counted)
    rng = seeded(7)
    texts = [" ".join(f"w{rng.randrange(20_000)}" for _ in range(400)) for _ in range(60)]
    async with SqliteStore(db, secret=lambda _: SECRET) as store, SqliteStore(db) as other:
        await store.append(Group((opening(),)))
        for text in [*texts[:30], f"the {TOKEN} word", *texts[30:]]:
            await store.append(Group((said(text),)))
        assert (await store.erase([redaction(32)])).pending == 0
        quiet = len(steps)
        assert steps == [*[True] * (quiet - 1), False]
        assert quiet > 3
        assert holders(db, TOKEN) == []
        await store.append(Group((said(f"again {TOKEN}"),)))
        erasing = asyncio.create_task(store.erase([redaction(63 + 1)]))
        written = 0
        while not erasing.done():
            await (store, other)[written % 2].append(Group((said(f"meanwhile {written}"),)))
            written += 1
        assert (await erasing).pending == 0
        assert written > 1
        assert holders(db, TOKEN) == []
        assert len((await store.search(SearchQuery("meanwhile", written + 1))).hits) == written
        assert (await store.verify()).fault is None


async def test_a_reader_makes_it_pending_and_a_later_call_clean(store: SqliteStore, db: Path) -> None:
    with reading(db):
        erased = await store.erase([redaction(SAID)])
        assert (erased.pending, erased.items[0].already) == (1, False)
        assert holders(db, TOKEN)
        assert (await store.info()).erasures_pending == 1
        # Nobody who asks now gets it, and the log is whole.
        assert (await store.search(SearchQuery(TOKEN, 5))).hits == ()
        assert (await store.verify()).level == 1
        assert (await store.erase([redaction(SAID)])).pending == 1
        assert (await store.erase([])).pending == 1
    done = await store.erase([])
    assert (done.pending, holders(db, TOKEN), (await store.info()).erasures_pending) == (0, [], 0)


async def test_the_next_write_makes_it_clean(
    store: SqliteStore, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append, "PENDING_RETRY_S", 0.0)
    with reading(db):
        await store.erase([redaction(SAID)])
        await store.append(Group((said("more"),)))
        assert holders(db, TOKEN)
    await store.append(Group((said("and more"),)))
    assert (holders(db, TOKEN), (await store.info()).erasures_pending) == ([], 0)


async def test_pending_survives_a_restart(store: SqliteStore, db: Path) -> None:
    with reading(db):
        await store.erase([redaction(SAID)])
        async with SqliteStore(db) as other:
            assert (await other.info()).erasures_pending == 1
    async with SqliteStore(db) as other:
        assert (await other.info()).erasures_pending == 1
        await other.append(Group((said("the first write of another process"),)))
        assert (holders(db, TOKEN), (await other.info()).erasures_pending) == ([], 0)


async def test_the_trigger_still_refuses_everything_else(store: SqliteStore, db: Path) -> None:
    await store.erase([redaction(SAID)])
    statements = (
        f"UPDATE entry SET body = x'7b7d' WHERE seq = {SAID}",
        f"UPDATE entry SET time = time + 1 WHERE seq = {SAID}",
        f"UPDATE entry SET leaf = zeroblob(32) WHERE seq = {SAID}",
        "UPDATE entry SET salt = NULL, body = NULL, blob = NULL WHERE seq = 2",
        "UPDATE entry SET salt = NULL, body = NULL, blob = NULL WHERE kind = 6",
        "UPDATE entry SET body = NULL WHERE seq = 2",
        f"DELETE FROM entry WHERE seq = {SAID}",
        f"DELETE FROM entry WHERE seq = {SAID + 2}",
    )
    with closing(sqlite3.connect(db, isolation_level=None)) as other:
        for statement in statements:
            with pytest.raises(sqlite3.IntegrityError, match="ccn-mcp redact"):
                other.execute(statement)


@pytest.mark.parametrize(
    ("column", "fault"), [("reason", "content"), ("target", "content"), ("record", "columns")]
)
async def test_an_edited_redaction_is_found(store: SqliteStore, db: Path, column: str, fault: str) -> None:
    erased = await store.erase([redaction(SAID, reason="asked")])
    at = erased.items[0].redaction
    with closing(sqlite3.connect(db, isolation_level=None)) as other:
        if column == "record":
            other.execute("UPDATE record SET conversation = 'c9' WHERE seq = ?", (at,))
        else:
            other.execute("DROP TRIGGER entry_unchanged")
            body = json.loads(other.execute("SELECT body FROM entry WHERE seq = ?", (at,)).fetchone()[0])
            body[column] = "2"
            other.execute("UPDATE entry SET body = ? WHERE seq = ?", (json.dumps(body).encode(), at))
    found = (await store.verify()).fault
    assert found is not None
    assert (found.code, found.seq) == (fault, at)


async def test_content_that_goes_without_a_redaction_of_its_own_is_found(
    store: SqliteStore, db: Path
) -> None:
    await store.erase([redaction(SAID)])
    with closing(sqlite3.connect(db, isolation_level=None)) as other:
        sql = other.execute("SELECT sql FROM sqlite_master WHERE name = 'entry_unchanged'").fetchone()[0]
        other.execute("DROP TRIGGER entry_unchanged")
        other.execute("UPDATE entry SET salt = NULL, body = NULL, blob = NULL WHERE seq = 2")
        other.execute("UPDATE record SET principal = NULL, key = NULL, text = NULL WHERE seq = 2")
        other.execute(sql)
    found = (await store.verify()).fault
    assert found is not None
    assert (found.code, found.seq) == ("erased", 2)


# ---- all or nothing --------------------------------------------------------------------------------------

DIES: Final = """
import os, signal, sqlite3, sys
from pathlib import Path
from ccn_mcp.store.sqlite import connect
from ccn_mcp.store.sqlite.log import SqliteLog
from tests.store.model import redaction

class Dying(connect.Connection):
    left = 0
    armed = False
    def execute(self, sql, *rest):
        if Dying.armed:
            if Dying.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            Dying.left -= 1
        return super().execute(sql, *rest)

connect.Connection = Dying
log = SqliteLog(Path(sys.argv[1]), secret=lambda _: b"s" * 32)
log.erase([])
Dying.left, Dying.armed = int(sys.argv[2]), True
print(log.erase([redaction(3)]).pending)
"""


def die_before(db: Path, statements: int) -> subprocess.CompletedProcess[bytes]:
    """Erase in a process that is killed before its next statement but `statements`."""
    return subprocess.run(
        [sys.executable, "-c", DIES, str(db), str(statements)],
        cwd=ROOT,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
async def test_killed_before_any_statement_it_happened_whole_or_not_at_all(tmp_path: Path) -> None:
    states = []
    for statements in range(40):
        db = tmp_path / str(statements) / "ccn.db"
        async with SqliteStore(db) as store:
            await store.append(Group((opening(), said("before"), said(f"the {TOKEN} word"))))
        done = die_before(db, statements)
        async with SqliteStore(db) as store:
            checked = await store.verify()
            redactions = await store.records(RecordQuery(kinds=(Kind.REDACTION,), limit=9))
            (record,) = await store.records(RecordQuery(seqs=(SAID,)))
            assert (checked.level, checked.erased) == (1, len(redactions))
            assert (record.body is None) == bool(redactions)
            states.append(len(redactions))
            # Whoever asks again finishes it.
            assert (await store.erase([redaction(SAID)])).pending == 0
            assert holders(db, TOKEN) == []
        if done.returncode == 0:
            break
    assert done.returncode == 0, "it has more statements than were tried"
    assert states == sorted(states)
    assert 3 <= states.index(1) < len(states) - 1, "it was never killed before and after the commit"


# ---- the secret ------------------------------------------------------------------------------------------


async def test_the_secret_is_made_by_the_first_erasure_apart_from_the_store(tmp_path: Path, db: Path) -> None:
    config = tmp_path / "home" / "config"
    async with SqliteStore(db, secret=SecretFile(lambda: config)) as store:
        await store.append(Group((opening(),)))
        await store.append(Group((said(TOKEN, key="k1"),)))
        assert not config.exists()
        await store.erase([redaction(2)])
    file = config / SECRET_FILE
    secret = file.read_bytes()
    assert len(secret) == SECRET_BYTES
    assert [item.name for item in config.iterdir()] == [SECRET_FILE]
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(config.stat().st_mode) == 0o700
    assert not any(secret in path.read_bytes() for path in db.parent.iterdir())
    async with SqliteStore(db, secret=SecretFile(lambda: config)) as store:
        again = await store.append(Group((said(TOKEN, key="k1"),)))
        assert (again.receipts[0].replayed, again.receipts[0].body) == (True, {})
        (entry,) = await store.records(RecordQuery(kinds=(Kind.REDACTION,)))
        assert entry.body is not None
        assert entry.body["text_tombstone"] == text_tombstone(secret, "c1", "user", TOKEN)
    # Without the secret nobody can tell that it was said before; a new one is another one.
    file.unlink()
    async with SqliteStore(db, secret=SecretFile(lambda: config)) as store:
        back = await store.append(Group((said(TOKEN, key="k1"),)))
        assert back.receipts[0].replayed is False
        await store.erase([redaction(back.receipts[0].seq)])
        assert (await store.verify()).level == 1
    assert file.read_bytes() != secret


async def test_a_secret_found_again_does_not_stand_in_the_way(db: Path) -> None:
    kept: list[bytes | None] = [SECRET]
    async with SqliteStore(db, secret=lambda _: kept[0]) as store:
        await store.append(Group((opening(),)))
        await store.append(Group((said("one", key="k1"),)))
        await store.erase([redaction(2)])
        kept[0] = None
        back = await store.append(Group((said("one", key="k1"),)))
        kept[0] = SECRET
        # The same tombstone twice: the first one stands for both.
        await store.erase([redaction(back.receipts[0].seq)])
        again = await store.append(Group((said("one", key="k1"),)))
        assert (again.receipts[0].replayed, again.receipts[0].seq) == (True, 2)
        assert (await store.verify()).erased == 2


async def test_where_no_secret_can_be_kept_nothing_is_erased(tmp_path: Path, db: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / SECRET_FILE).write_bytes(b"short")
    async with SqliteStore(db) as store:
        await store.append(Group((opening(), said("x"))))
    for secret in (SecretFile(lambda: tmp_path / "file" / "config"), SecretFile(lambda: tmp_path)):
        async with SqliteStore(db, secret=secret) as store:
            with pytest.raises(StoreUnavailable, match="nothing was erased"):
                await store.erase([redaction(2)])
            assert (await store.verify()).erased == 0


def test_the_log_alone_erases_for_a_program_without_a_loop(db: Path) -> None:
    log = SqliteLog(db)
    log.append_batch([Group((opening(), said(TOKEN)))])
    assert log.erase([redaction(2)]).pending == 0
    log.close()
    assert holders(db, TOKEN) == []
