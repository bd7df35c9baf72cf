"""Twelve attacks and what finds each: the table of `docs/attacks.md`, carried out on copies of a real store.

The attacker has the store's file and recomputes everything that needs no key. A cell that says "not found" is
asserted to be that: what the documentation says nobody sees is not claimed to be seen by accident.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from mcp.client import Client

from ccn_mcp.app import open_node
from ccn_mcp.cli.main import run
from ccn_mcp.domain import jcs
from ccn_mcp.domain.errors import StoreRolledBack
from ccn_mcp.domain.ledger import Head
from ccn_mcp.domain.models import Group, Verification
from ccn_mcp.domain.rotation import rotation_body
from ccn_mcp.server.app import build_server
from ccn_mcp.settings import Settings
from ccn_mcp.store.keeper import HEADS_FOLDER, FileKeeper
from ccn_mcp.store.keys import FOLDER as KEYS_FOLDER
from ccn_mcp.store.sqlite import connect
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.signing import root_here
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.server.wire import Server
from tests.store.attacks import (
    Attack,
    body_of,
    count_again,
    cut,
    each,
    edit_body,
    erase,
    index_again,
    make,
    recompute,
    renumber,
    sql,
    swap,
    the_file,
)
from tests.store.model import said

pytestmark = pytest.mark.anyio

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "attacks.md"
FAULT_STATUS: Final = 6
WAIT_S: Final = 60


# ---- the store under attack ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A store with what is kept outside of it: keys and memory in `config`, heads in a second place."""

    folder: Path

    @property
    def db(self) -> Path:
        return self.folder / "data" / "ccn.db"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def memory(self) -> Path:
        return self.config / HEADS_FOLDER

    @property
    def elsewhere(self) -> Path:
        return self.folder / "other-disk" / "heads"

    def keeper(self, *, elsewhere: bool = False) -> FileKeeper:
        """What this account keeps; `elsewhere` as with CCN_HEADS."""
        return keeper_of(self.config, self.db, self.elsewhere if elsewhere else None)

    def signed(self) -> list[int]:
        """The sizes of the signed heads in the store."""
        with closing(sqlite3.connect(self.db)) as connection:
            return [size for (size,) in connection.execute("SELECT size FROM checkpoint ORDER BY size")]

    def attack(self, attack: Attack) -> None:
        with the_file(self.db) as connection:
            attack(connection)


def keeper_of(folder: Path, db: Path, elsewhere: Path | None = None) -> FileKeeper:
    return FileKeeper(lambda: folder, connect.real_path(db), elsewhere=elsewhere)


def write(db: Path, keeper: FileKeeper | None, *texts: str) -> Head:
    """One process that records and ends, which signs; without a keeper it is one that has no key, such as a hook."""
    log = SqliteLog(db) if keeper is None else SqliteLog(db, keeper=keeper)
    try:
        done = [item for text in texts for item in log.append_batch([Group((said(text),))])]
    finally:
        log.close()
    (*_, last) = done
    assert not isinstance(last, Exception)
    assert last is not None
    return last.head


@dataclass(frozen=True)
class World:
    """The store, an older copy of its file, and the newest head, which somebody holds elsewhere."""

    place: Place
    older: Path
    held: str


SIGNED: Final = (16, 17, 19)
ENTRIES: Final = 21
"""Entries 19 and 20 came after the last signature."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Signed three times, then a tail that is not signed yet; with the folder that all of it is kept in."""
    folder = tmp_path_factory.mktemp("matrix")
    place = Place(folder / "now")
    place.db.parent.mkdir(parents=True)
    place.elsewhere.parent.mkdir()
    keeper = place.keeper(elsewhere=True)
    asyncio.run(make(place.db, keeper))
    write(place.db, keeper, "four")
    older = folder / "older.db"
    shutil.copy(place.db, older)
    write(place.db, keeper, "five", "six")
    held = write(place.db, None, "seven", "eight")
    assert (tuple(place.signed()), held.size) == (SIGNED, ENTRIES)
    shutil.copytree(place.folder, folder / "kept")
    return World(place, older, str(held))


@pytest.fixture
def world(pristine: World) -> World:
    """As new, at the same path: the memory of a machine is that of one place."""
    shutil.rmtree(pristine.place.folder)
    shutil.copytree(pristine.place.folder.with_name("kept"), pristine.place.folder)
    return pristine


def as_held(world: World, size: int) -> str:
    """The head that somebody could hold since the log had this size."""
    copy = world.place.folder.with_name("kept") / "data" / "ccn.db"
    with closing(sqlite3.connect(copy)) as connection:
        return str(root_here(connection, size))


# ---- the table -------------------------------------------------------------------------------------------


def forget_signed(size: int) -> Attack:
    """Drop the signed heads of more than `size` entries."""
    return lambda connection: connection.execute("DELETE FROM checkpoint WHERE size > ?", (size,))


def say(seq: int, text: str) -> Attack:
    """Another text, in the entry and in what queries see."""
    return each(edit_body(seq, text=text), sql("UPDATE record SET text = ? WHERE seq = ?", text, seq))


def perfectly(*attacks: Attack) -> Attack:
    """With everything that needs no key made to fit: hashes, lists, counts, the search index."""
    return each(*attacks, recompute, count_again, index_again)


@dataclass(frozen=True)
class Row:
    """One attack, as the page calls it, and which columns find it. `attack` None: an older copy of the file."""

    name: str
    attack: Attack | None
    found: str
    """Four characters, one a column: x found, - not found."""


COLUMNS: Final = ("chain", "strict", "signed", "elsewhere")
LAST: Final = SIGNED[-1]

TABLE: Final = (
    Row("change the words of an entry", say(3, "forged"), "xxxx"),
    Row("change the time of an entry", sql("UPDATE entry SET time = time + 1 WHERE seq = 5"), "xxxx"),
    Row("swap two entries", each(swap("entry", 3, 4), swap("record", 3, 4), count_again), "xxxx"),
    Row(
        "take an entry out of the middle",
        each(*(sql(f"DELETE FROM {table} WHERE seq = 8") for table in ("entry", "record")), count_again),
        "xxxx",
    ),
    Row(
        "change what searches show, not the entry", sql("UPDATE record SET text = 'x' WHERE seq = 3"), "-xxx"
    ),
    Row("empty an entry without an erasure that says so", erase(4), "-xxx"),
    Row("cut off the end, leave the signed heads", perfectly(cut(18)), "--xx"),
    Row("change an entry, calculate every seal again", perfectly(say(3, "forged")), "--xx"),
    Row(
        "take an entry out, number and calculate all later ones again",
        perfectly(renumber(8)),
        "--xx",
    ),
    Row("cut off the end and the later signed heads", perfectly(cut(18), forget_signed(18)), "---x"),
    Row(
        "rewrite what came after the last signed head",
        perfectly(*(say(seq, "forged") for seq in range(LAST, ENTRIES))),
        "---x",
    ),
    Row("put an older copy of the whole file back", None, "---x"),
)


def strike(world: World, row: Row) -> None:
    if row.attack is None:
        shutil.copy(world.older, world.place.db)
    else:
        world.place.attack(row.attack)


def unsigned(world: World) -> Verification:
    """What the file says without any signed head in it."""
    copy = world.place.folder / "unsigned.db"
    shutil.copy(world.place.db, copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("DELETE FROM checkpoint")
    return verify_file(copy)


def without_memory(world: World) -> FileKeeper:
    """The pinned key, and no head that was remembered."""
    shutil.rmtree(world.place.memory)
    return world.place.keeper()


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_each_attack_is_found_where_the_page_says_and_nowhere_else(
    world: World, row: Row, column: str
) -> None:
    strike(world, row)
    expected = row.found[COLUMNS.index(column)] == "x"
    if column == "chain":
        found = unsigned(world)
        assert (found.level is None) == expected, found
        return
    if column == "strict":
        found = unsigned(world)
    elif column == "signed":
        found = verify_file(world.place.db, keeper=without_memory(world))
    else:
        found = verify_file(world.place.db, world.held, keeper=without_memory(world))
        assert found.known_head is not True
    assert (found.fault is not None) == expected, found
    # What it does not see it does not claim either: a level below that of the column that would.
    assert found.level in ((None, 0) if expected else (COLUMNS.index(column),))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_what_a_deep_check_does_not_add(world: World, row: Row) -> None:
    """The perfect forgeries are perfect: reading more of the same file shows no more of them."""
    strike(world, row)
    found = verify_file(world.place.db, keeper=without_memory(world), deep=True)
    assert (found.fault is not None) == (row.found[2] == "x")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
@pytest.mark.parametrize("holder", ["this machine", "another disk"])
def test_remembered_heads_find_all_but_what_came_after_the_last_signature(
    world: World, row: Row, holder: str
) -> None:
    strike(world, row)
    if holder == "this machine":
        keeper = world.place.keeper()
    else:
        shutil.rmtree(world.place.memory)
        keeper = world.place.keeper(elsewhere=True)
    found = verify_file(world.place.db, keeper=keeper)
    not_covered = row.name == "rewrite what came after the last signed head"
    assert (found.fault is None) == not_covered
    if not_covered:
        assert found.entries == ENTRIES
        assert (found.signed_to, found.matched_to) == (LAST, 0 if holder == "this machine" else LAST)


def test_an_untouched_store_reaches_each_level(world: World) -> None:
    place = world.place
    found = unsigned(world)
    assert (found.level, found.fault, found.signed_to, found.matched_to) == (1, None, 0, 0)
    found = verify_file(place.db, keeper=place.keeper())
    assert (found.level, found.fault, found.signed_to, found.matched_to) == (2, None, LAST, 0)
    found = verify_file(place.db, keeper=place.keeper(elsewhere=True))
    assert (found.level, found.fault, found.signed_to, found.matched_to) == (3, None, LAST, LAST)
    found = verify_file(place.db, world.held, keeper=place.keeper(elsewhere=True))
    assert (found.level, found.fault, found.signed_to, found.matched_to) == (3, None, LAST, ENTRIES)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_head_covers_what_came_before_it_and_nothing_else(world: World, row: Row) -> None:
    """With a head from before the change, the answer matches it, and says how far that goes."""
    strike(world, row)
    head = as_held(world, 3)
    found = verify_file(world.place.db, head, keeper=without_memory(world))
    if row.found[2] == "x":
        assert found.fault is not None
        return
    assert (found.fault, found.known_head, found.level, found.matched_to) == (None, True, 3, 3)


@pytest.mark.parametrize("holder", ["the store", "this machine", "another disk"])
def test_a_check_of_what_is_new_asks_the_newer_heads_too(world: World, holder: str) -> None:
    """Cut off after the head that it begins with: only a newer one shows it, wherever that is."""
    place, since = world.place, as_held(world, 16)
    assert verify_file(place.db, since, newer=True, keeper=place.keeper(elsewhere=True)).fault is None
    place.attack(perfectly(cut(18)) if holder == "the store" else perfectly(cut(18), forget_signed(18)))
    keeper = place.keeper(elsewhere=holder == "another disk")
    if holder != "this machine":
        shutil.rmtree(place.memory)
    found = verify_file(place.db, since, newer=True, keeper=keeper)
    assert found.fault is not None
    assert (found.fault.code, found.matched_to) == ("known_head", 0)
    if holder == "the store":
        damaged = sql("UPDATE checkpoint SET note = CAST(replace(note, '19', '18') AS BLOB) WHERE size = 19")
        place.attack(damaged)
        found = verify_file(place.db, since, newer=True, keeper=keeper)
        assert found.fault is not None
        assert (found.fault.code, found.level) == ("signature", 0)


# ---- forgers with keys -----------------------------------------------------------------------------------


def store_id_of(connection: sqlite3.Connection) -> bytes:
    found: bytes = connection.execute("SELECT store_id FROM log").fetchone()[0]
    return found


def sign_with(thief: FileKeeper, *sizes: int) -> Attack:
    """Drop every signed head and sign these sizes with whatever key the thief has."""

    def run(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM checkpoint")
        for size in sizes:
            note = thief.sign(store_id_of(connection), root_here(connection, size))
            assert note is not None
            connection.execute("INSERT INTO checkpoint VALUES (?, ?, 0)", (size, note))

    return run


def with_own_key(world: World) -> tuple[FileKeeper, str]:
    """A forger on an account of their own, and the public key that they made for this store."""
    forger = keeper_of(world.place.folder / "forger", world.place.db)
    with closing(sqlite3.connect(world.place.db)) as connection:
        key = forger.key(store_id_of(connection), create=True)
    assert key is not None
    return forger, key


def thief_of(world: World) -> FileKeeper:
    """Whoever has a copy of the keys as they are now, and nothing else."""
    stolen = world.place.folder / "stolen"
    shutil.copytree(world.place.config / KEYS_FOLDER, stolen / KEYS_FOLDER)
    return keeper_of(stolen, world.place.db)


def names_a_key(key: str, event: str) -> Attack:
    """An entry of the middle becomes one that names a key."""

    def run(connection: sqlite3.Connection) -> None:
        body = jcs.encode({"event": event, "key": key})
        connection.execute("UPDATE entry SET kind = 5, body = ? WHERE seq = 11", (body,))
        connection.execute(
            "UPDATE record SET kind = 5, subject = NULL, principal = NULL, key = ? WHERE seq = 11", (key,)
        )

    return run


@pytest.mark.parametrize(
    "names_it", ["in the genesis", "in an entry", "as the next one", "as one for a lost one", "nowhere"]
)
def test_a_forger_with_a_key_of_their_own_is_found_by_whoever_pinned_the_first_one(
    world: World, names_it: str
) -> None:
    forger, key = with_own_key(world)
    place = world.place

    def announce(connection: sqlite3.Connection) -> None:
        if names_it == "in the genesis":
            edit_body(0, signed_by=key)(connection)
        elif names_it == "in an entry":
            names_a_key(key, "first")(connection)
        elif names_it == "as one for a lost one":
            names_a_key(key, "lost")(connection)
        elif names_it == "as the next one":
            names_a_key(key, "next")(connection)
            signer = forger.ring.signer(store_id_of(connection))
            assert signer is not None
            body = jcs.encode(rotation_body(store_id_of(connection), 11, signer.key, signer.sign_bytes))
            connection.execute("UPDATE entry SET body = ? WHERE seq = 11", (body,))

    place.attack(each(perfectly(say(3, "forged"), announce), sign_with(forger, *SIGNED, ENTRIES)))
    assert unsigned(world).fault is None, "the forgery is supposed to be perfect"
    found = verify_file(place.db, keeper=without_memory(world))
    assert found.fault is not None
    assert (found.fault.code, found.level, found.signed_to) == ("signature", 0, 0)
    # Without a pin nothing is claimed, and it is said why; a head that was kept finds it all the same.
    stranger = keeper_of(place.folder / "stranger", place.db)
    found = verify_file(place.db, keeper=stranger)
    assert (found.level, found.fault, found.signed_to) == (1, None, 0)
    assert "never trusted their key" in found.remarks[0]
    assert verify_file(place.db, world.held, keeper=stranger).known_head is False


def test_the_thief_of_a_key_is_found_by_heads_only(world: World) -> None:
    """Before it was changed, the present key can sign everything anew: no signature shows it."""
    place, thief = world.place, thief_of(world)
    place.attack(each(perfectly(say(3, "forged")), sign_with(thief, *SIGNED, ENTRIES)))
    assert codes(place.keeper(), place) == ["known_head"]
    assert verify_file(place.db, world.held, keeper=without_memory(world)).known_head is False
    assert codes(place.keeper(elsewhere=True), place) == ["known_head"]
    found = verify_file(place.db, keeper=place.keeper())
    assert (found.level, found.signed_to, found.fault) == (2, ENTRIES, None), "the documentation says so"


def codes(keeper: FileKeeper, place: Place) -> list[str]:
    """What is wrong, in one word; nothing if nothing is."""
    fault = verify_file(place.db, keeper=keeper).fault
    return [] if fault is None else [fault.code]


def change_key(world: World) -> int:
    """Change the key and record on; where the entry that announces it is."""
    log = SqliteLog(world.place.db, keeper=world.place.keeper(elsewhere=True))
    at = log.rotate_key().seq
    log.close()
    write(world.place.db, world.place.keeper(elsewhere=True), "after the change")
    return at


@pytest.mark.parametrize(
    "keeps", ["the older heads", "nothing", "no head of before", "the last one of before"]
)
def test_once_the_key_was_changed_its_thief_cannot_rewrite_what_came_before(world: World, keeps: str) -> None:
    place = world.place
    at = change_key(world)
    assert at in place.signed()
    assert at + 1 in place.signed()
    thief = thief_of(world)
    later = [size for size in place.signed() if size > at]

    def sign(connection: sqlite3.Connection) -> None:
        older = connection.execute("SELECT size, note FROM checkpoint WHERE size <= ?", (at,)).fetchall()
        before = [size for size, _ in older] if keeps == "the older heads" else []
        if keeps == "the last one of before":
            before = [at]
        sign_with(thief, *before, *later)(connection)
        if keeps == "nothing":
            connection.execute("DELETE FROM checkpoint WHERE size <> ?", (later[-1],))

    place.attack(each(perfectly(say(3, "forged")), sign))
    assert unsigned(world).fault is None, "the forgery is supposed to be perfect"
    assert codes(without_memory(world), place) == ["signature"]


def test_once_the_key_was_changed_its_thief_can_rewrite_what_came_after(world: World) -> None:
    """That is what a stolen key is worth; a head elsewhere shows it."""
    place = world.place
    at = change_key(world)
    thief = thief_of(world)
    kept = [(size, note) for size, note in notes_of(place) if size <= at]
    later = [size for size in place.signed() if size > at]

    def put_back(connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT INTO checkpoint VALUES (?, ?, 1)", kept)

    place.attack(each(perfectly(say(at + 1, "forged")), sign_with(thief, *later), put_back))
    found = verify_file(place.db, keeper=without_memory(world))
    assert (found.level, found.signed_to, found.fault) == (2, later[-1], None)
    assert codes(place.keeper(elsewhere=True), place) == ["known_head"]


def notes_of(place: Place) -> list[tuple[int, bytes]]:
    with closing(sqlite3.connect(place.db)) as connection:
        return connection.execute("SELECT size, note FROM checkpoint ORDER BY size").fetchall()


def test_a_retired_key_signs_nothing_more(world: World) -> None:
    """Somebody kept a copy of the key that was changed."""
    place, thief = world.place, thief_of(world)
    at = change_key(world)
    kept = notes_of(place)

    def put_back(connection: sqlite3.Connection) -> None:
        connection.executemany(
            "INSERT OR IGNORE INTO checkpoint VALUES (?, ?, 1)", [note for note in kept if note[0] <= at]
        )

    place.attack(each(perfectly(say(at + 1, "forged")), sign_with(thief, kept[-1][0]), put_back))
    assert codes(without_memory(world), place) == ["retired_key"]


# ---- the store at another place --------------------------------------------------------------------------


@pytest.mark.parametrize("forged", [False, True])
def test_on_another_account_a_store_counts_for_what_its_rows_show(world: World, forged: bool) -> None:
    """Nothing is claimed of keys and heads that this account never saw, and nothing is accused."""
    place = world.place
    if forged:
        place.attack(perfectly(say(LAST, "forged")))
    moved = place.folder / "moved" / "ccn.db"
    moved.parent.mkdir()
    shutil.copy(place.db, moved)
    other = keeper_of(place.folder / "other-account", moved)
    found = verify_file(moved, keeper=other)
    assert (found.level, found.signed_to, found.matched_to, found.fault) == (1, 0, 0, None)
    assert "never trusted their key" in found.remarks[0]
    assert (verify_file(moved, world.held, keeper=other).known_head is False) == forged


# ---- a copy that is put back (G4) ------------------------------------------------------------------------


def settings_of(place: Place, *, elsewhere: bool = False) -> Settings:
    return Settings(db=place.db, config_dir=place.config, heads=place.elsewhere if elsewhere else None)


def test_a_hook_records_on_and_the_next_check_says_so(world: World) -> None:
    """It has neither key nor memory, and must not lose what it was given."""
    place = world.place
    shutil.copy(world.older, place.db)
    assert write(place.db, None, "from a hook").size == SIGNED[1] + 1
    assert codes(place.keeper(), place) == ["known_head"]
    with pytest.raises(StoreRolledBack):
        write(place.db, place.keeper(), "from a server")


def both_heads(world: World) -> tuple[str, str]:
    """What the holder has and what is there now."""
    return world.held, as_held(world, SIGNED[1])


async def test_a_holder_is_shown_both_heads_in_process(world: World) -> None:
    shutil.copy(world.older, world.place.db)
    async with SqliteStore(world.place.db) as store:
        found = await store.verify(known_head=world.held)
    assert found.fault is not None
    assert (found.fault.code, found.known_head, found.level) == ("known_head", False, 0)
    for head in both_heads(world):
        assert head in found.fault.detail


def test_a_holder_is_shown_both_heads_on_the_command_line(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCN_CONFIG_DIR", str(world.place.folder / "stranger"))
    monkeypatch.delenv("CCN_HEADS", raising=False)
    shutil.copy(world.older, world.place.db)
    status = run(["verify", "--db", str(world.place.db), "--known-head", world.held])
    told = " ".join(capsys.readouterr().out.split())
    assert status == FAULT_STATUS
    for part in (*both_heads(world), "NOT AS IT WAS WRITTEN", "shorter", "is NOT in this record"):
        assert part in told, part
    assert run(["verify", "--db", str(world.place.db), "--known-head", world.held, "--json"]) == FAULT_STATUS
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["known_head_matches"], found["matched_to"]) == (False, False, 0)
    assert all(head in found["fault"]["detail"] for head in both_heads(world))


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_holder_is_shown_both_heads_by_the_tool(world: World, era: str) -> None:
    shutil.copy(world.older, world.place.db)
    async with connected(world.place, era) as client:
        result = await client.call_tool("verify_chain", {"known_head": world.held})
        found = result.structured_content
    assert found is not None
    assert (found["ok"], found["known_head_matches"]) == (False, False)
    assert all(head in found["fault"]["detail"] for head in both_heads(world))


def connected(place: Place, era: str = "auto", *, elsewhere: bool = False) -> Client:
    server = build_server(settings_of(place, elsewhere=elsewhere))
    return Client(server, mode=era, read_timeout_seconds=WAIT_S)


@pytest.mark.parametrize("era", ["auto", "legacy"])
@pytest.mark.parametrize("holder", ["this machine", "another disk"])
async def test_a_server_does_not_append_to_a_record_that_was_rolled_back(
    world: World, era: str, holder: str
) -> None:
    place = world.place
    shutil.copy(world.older, place.db)
    if holder == "another disk":
        shutil.rmtree(place.memory)
    before = unsigned(world).head
    async with connected(place, era, elsewhere=holder == "another disk") as client:
        for name, arguments in (
            ("record_message", {"role": "user", "content": "on the wrong record", "session_id": "s"}),
            ("load_plate", {}),
        ):
            result = await client.call_tool(name, arguments)
            told = str(result.content)
            assert result.is_error, name
            for part in (
                "store_rolled_back",
                as_held(world, LAST),
                str(before),
                "nothing was written",
                "ccn-mcp verify",
                "ccn-mcp restore",
            ):
                assert part in told, (name, part, told)
        assert (await client.call_tool("get_history", {})).is_error is False, "it can still be read"
    assert unsigned(world).head == before


def put_in_place(older: Path, db: Path) -> None:
    """As a person does it while programs run: away with the store and all that lies beside it, then the copy."""
    for path in db.parent.glob(f"{db.name}-*"):
        path.unlink()
    db.unlink()
    shutil.copy(older, db)


@pytest.mark.parametrize("signed", [True, False])
async def test_a_server_that_runs_notices_a_copy_that_is_put_in_its_place(world: World, signed: bool) -> None:
    """Also where nobody else knows of the newer state: the process has written it itself, and not signed it yet."""
    place = world.place
    copy = world.older
    if not signed:
        copy = place.folder / "as-signed.db"
        shutil.copy(place.db, copy)
    size = verify_file(copy).entries
    async with open_node(settings=settings_of(place)) as node:
        done = await node.record_message("user", "newer", conversation_id="c1")
        put_in_place(copy, place.db)
        with pytest.raises(StoreRolledBack, match="nothing was written") as refused:
            await node.record_message("user", "on the wrong record", conversation_id="c1")
        if not signed:
            assert done["head"] in str(refused.value)
    assert unsigned(world).entries == size


def test_the_program_itself_refuses_and_goes_on_answering(world: World) -> None:
    """`ccn-mcp serve` as a client starts it, over its pipes."""
    place = world.place
    shutil.copy(world.older, place.db)
    with Server(place.db, CCN_CONFIG_DIR=str(place.config)) as server:
        refused = server.call("record_message", {"role": "user", "content": "no", "session_id": "s"})
        assert refused["isError"]
        assert "store_rolled_back" in refused["content"][0]["text"]
        checked = server.call("verify_chain", {})["structuredContent"]
        assert (checked["ok"], checked["fault"]["code"]) == (False, "known_head")
    assert unsigned(world).entries == SIGNED[1]


def test_a_record_of_another_identity_is_no_older_one(world: World) -> None:
    """What the page says of it: nothing here speaks of that store, but a head that somebody holds does."""
    place = world.place

    def nameless(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE log SET store_id = ?", (bytes(16),))
        body = {name: value for name, value in body_of(connection, 0).items() if name != "signed_by"}
        connection.execute("UPDATE entry SET body = ? WHERE seq = 0", (jcs.encode(body),))
        connection.execute("DELETE FROM checkpoint")

    place.attack(perfectly(say(3, "forged"), nameless))
    found = verify_file(place.db, keeper=place.keeper(elsewhere=True))
    assert (found.level, found.fault, found.signed_to, found.matched_to) == (1, None, 0, 0)
    write(place.db, place.keeper(), "and on")
    found = verify_file(place.db, keeper=place.keeper())
    assert (found.level, found.fault) == (2, None)
    found = verify_file(place.db, world.held, keeper=place.keeper())
    assert (found.level, found.known_head) == (0, False)


# ---- what the page says ----------------------------------------------------------------------------------

FOUND_WORDS: Final = {"found": "x", "not found": "-"}


def test_the_page_has_this_table() -> None:
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    told = [(name, "".join(FOUND_WORDS.get(cell, "?") for cell in cells)) for name, *cells in rows[2:]]
    assert told == [(row.name, row.found) for row in TABLE]
