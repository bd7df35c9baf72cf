"""Random histories of an honest writer and an attacker: a check never says more than a small model finds justified.

The model knows no hash and no signature. It remembers what the log held at each moment that a head was signed or
kept, and compares that with what the log holds now, entry by entry.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from ccn_mcp.domain.errors import CcnError, StoreRolledBack
from ccn_mcp.domain.models import Group, Verification
from ccn_mcp.store.keeper import HEADS_FOLDER, FileKeeper
from ccn_mcp.store.sqlite import connect
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.signing import root_here
from tests.store.attacks import (
    Attack,
    count_again,
    cut,
    each,
    edit_body,
    index_again,
    make,
    recompute,
    renumber,
    sql,
    the_file,
)
from tests.store.model import said, seeded

SEEDS: Final = 200
SEEDS_MORE: Final = 1_500
STEPS_MAX: Final = 7
KEY: Final = 5

Row = tuple[int, int, bytes | None, bytes | None, bytes | None]
"""Time, kind, salt, body, blob: all that an entry says."""

Rows = tuple[Row, ...]


@dataclass
class Model:
    """What was there whenever the honest key signed, and what is known to be wrong with the file as it is."""

    signed: dict[bytes, Rows] = field(default_factory=dict)
    """By note: the entries that it was made for."""

    announced: set[tuple[int, Row]] = field(default_factory=set)
    """Changes of keys that the honest writer made, by position."""

    memory: list[Rows] = field(default_factory=list)
    elsewhere: list[Rows] = field(default_factory=list)
    held: list[tuple[str, Rows]] = field(default_factory=list)
    """Heads that somebody took from the record while it was honest."""

    stale: bool = False
    """Whether an entry was changed and its hash was not."""


@dataclass
class Play:
    """One history: the store, what is kept outside of it, the model of both."""

    folder: Path
    rng: random.Random
    model: Model
    snapshots: list[tuple[Path, bool]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def db(self) -> Path:
        return self.folder / "data" / "ccn.db"

    def keeper(self, *, elsewhere: bool = True) -> FileKeeper:
        other = self.folder / "other-disk" / "heads" if elsewhere else None
        if other is not None:
            other.parent.mkdir(parents=True, exist_ok=True)
        return FileKeeper(lambda: self.folder / "config", connect.real_path(self.db), elsewhere=other)

    def reading(self) -> closing[sqlite3.Connection]:
        """The file while nobody has it open, without the files that SQLite would put beside it."""
        return closing(sqlite3.connect(f"file:{self.db}?immutable=1", uri=True))

    def rows(self) -> Rows:
        with self.reading() as connection:
            return tuple(connection.execute("SELECT time, kind, salt, body, blob FROM entry ORDER BY seq"))

    def notes(self) -> dict[int, bytes]:
        with self.reading() as connection:
            return dict(connection.execute("SELECT size, note FROM checkpoint"))

    def messages(self) -> list[int]:
        return [seq for seq, row in enumerate(self.rows()) if row[1] == 1]

    # ---- the honest writer ----

    def record(self, *, signs: bool = True) -> None:
        log = SqliteLog(self.db, keeper=self.keeper()) if signs else SqliteLog(self.db)
        groups = [Group((said(f"word {self.rng.random()}"),)) for _ in range(self.rng.randint(1, 3))]
        self._honestly(log, lambda: log.append_batch(groups))

    def change_key(self) -> None:
        log = SqliteLog(self.db, keeper=self.keeper())
        self._honestly(log, log.rotate_key)

    def _honestly(self, log: SqliteLog, work: Callable[[], object]) -> None:
        if self.model.stale:
            return  # what it signed would be the entry as it was: a model without hashes does not know that one
        before = self.notes()
        try:
            work()
        except StoreRolledBack:
            assert not self.remembers_only_what_is_there(), "refused without a reason"
            self.told.append("refused")
        except CcnError:
            self.told.append("not done")
        finally:
            log.close()
        rows = self.rows()
        with self.reading() as connection:
            self.model.held.append((str(root_here(connection, len(rows))), rows))
        for size, note in self.notes().items():
            if before.get(size) != note:
                self.model.signed[note] = rows[:size]
                self.model.memory.append(rows[:size])
                self.model.elsewhere.append(rows[:size])
        if "not done" not in self.told[-1:]:
            here = [(seq, row) for seq, row in enumerate(rows) if row[1] == KEY]
            self.model.announced.update(here[-1:] if work == log.rotate_key else ())

    # ---- the attacker ----

    def attack(self, *attacks: Attack) -> None:
        with the_file(self.db) as connection:
            each(*attacks)(connection)

    def perfectly(self, *attacks: Attack) -> None:
        self.attack(*attacks, recompute, count_again, index_again)
        self.model.stale = False

    def rewrite(self) -> None:
        seq = self.rng.choice(self.messages())
        text = f"forged {self.rng.random()}"
        columns = sql("UPDATE record SET text = ? WHERE seq = ?", text, seq)
        self.perfectly(edit_body(seq, text=text), columns)

    def cut_off(self) -> None:
        self.perfectly(cut(self.rng.randint(4, len(self.rows()))))

    def take_out(self) -> None:
        if len(self.messages()) > 2:
            self.perfectly(renumber(self.rng.choice(self.messages())))

    def edit_and_leave(self) -> None:
        self.attack(edit_body(self.rng.choice(self.messages()), text=f"forged {self.rng.random()}"))
        self.model.stale = True

    def edit_what_is_shown(self) -> None:
        self.attack(sql("UPDATE record SET text = 'x' WHERE seq = ?", self.rng.choice(self.messages())))

    def drop_later_notes(self) -> None:
        size = self.rng.choice([0, *self.notes()])
        self.attack(lambda connection: connection.execute("DELETE FROM checkpoint WHERE size > ?", (size,)))

    def drop_a_note(self) -> None:
        size = self.rng.choice([0, *self.notes()])
        self.attack(lambda connection: connection.execute("DELETE FROM checkpoint WHERE size = ?", (size,)))

    def put_an_old_note_back(self) -> None:
        note = self.rng.choice(list(self.model.signed))
        size = len(self.model.signed[note])
        self.attack(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, 1)", (size, note)
            )
        )

    def sign_with_an_own_key(self) -> None:
        forger = FileKeeper(lambda: self.folder / "forger", connect.real_path(self.db))

        def run(connection: sqlite3.Connection) -> None:
            store_id, size = connection.execute("SELECT store_id, size FROM log").fetchone()
            forger.key(store_id, create=True)
            note = forger.sign(store_id, root_here(connection, size))
            connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, 0)", (size, note))

        self.attack(run)

    def forget(self) -> None:
        shutil.rmtree(self.folder / "config" / HEADS_FOLDER, ignore_errors=True)
        self.model.memory.clear()

    def lose_the_other_disk(self) -> None:
        shutil.rmtree(self.folder / "other-disk", ignore_errors=True)
        self.model.elsewhere.clear()

    def snapshot(self) -> None:
        copy = self.folder / f"copy-{len(self.snapshots)}.db"
        shutil.copy(self.db, copy)
        self.snapshots.append((copy, self.model.stale))

    def roll_back(self) -> None:
        if self.snapshots:
            copy, self.model.stale = self.rng.choice(self.snapshots)
            shutil.copy(copy, self.db)

    # ---- what is justified ----

    def remembers_only_what_is_there(self) -> bool:
        rows = self.rows()
        return all(rows[: len(then)] == then for then in (*self.model.memory, *self.model.elsewhere))

    def shown_as_recorded(self) -> bool:
        with self.reading() as connection:
            both = connection.execute(
                "SELECT r.text, e.body FROM record r JOIN entry e USING (seq) WHERE r.kind = 1"
            ).fetchall()
        return all(text == json.loads(body)["text"] for text, body in both)

    def judge(self, found: Verification, *, elsewhere: bool, held: Rows | None = None) -> None:
        """Compare an answer with what the entries themselves say."""
        rows, notes = self.rows(), self.notes()

        def still_there(then: Rows) -> bool:
            return rows[: len(then)] == then

        kept = [
            *self.model.memory,
            *(self.model.elsewhere if elsewhere else ()),
            *(() if held is None else (held,)),
        ]
        honest = {size: self.model.signed[note] for size, note in notes.items() if note in self.model.signed}
        keys = [(seq, row) for seq, row in enumerate(rows) if row[1] == KEY]
        signed_to = max((size for size, then in honest.items() if still_there(then)), default=0)
        matched = [*(self.model.elsewhere if elsewhere else ()), *(() if held is None else (held,))]
        matched_to = max((len(then) for then in matched if still_there(then)), default=0)
        wrong = (
            self.model.stale
            or not self.shown_as_recorded()
            or not all(map(still_there, [*kept, *honest.values()]))
            or len(honest) < len(notes)
            or (bool(notes) and not self.model.announced.issuperset(keys))
            or any(seq < signed_to and seq not in honest for seq, _ in keys)
        )
        level = 3 if matched_to else 2 if signed_to else 1
        assert (found.fault is not None) == wrong, (found, self.told)
        if wrong:
            assert (found.level or 0, found.signed_to, found.matched_to) == (0, 0, 0), self.told
        else:
            assert (found.level, found.signed_to, found.matched_to) == (level, signed_to, matched_to), (
                self.told
            )


MOVES: Final[tuple[tuple[int, Callable[[Play], None]], ...]] = (
    (6, Play.record),
    (2, lambda play: play.record(signs=False)),
    (2, Play.change_key),
    (3, Play.snapshot),
    (3, Play.roll_back),
    (3, Play.rewrite),
    (3, Play.cut_off),
    (1, Play.take_out),
    (1, Play.edit_and_leave),
    (1, Play.edit_what_is_shown),
    (3, Play.drop_later_notes),
    (2, Play.drop_a_note),
    (2, Play.put_an_old_note_back),
    (1, Play.sign_with_an_own_key),
    (4, Play.forget),
    (3, Play.lose_the_other_disk),
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """A store that was signed once, and where it lies: remembered heads belong to one place."""
    play = Play(tmp_path_factory.mktemp("play") / "now", seeded(0), Model())
    play.db.parent.mkdir(parents=True)
    asyncio.run(make(play.db, play.keeper()))
    play.rng = seeded(1)
    rows = play.rows()
    ((_, note),) = play.notes().items()
    play.model.signed[note] = rows
    play.model.memory.append(rows)
    play.model.elsewhere.append(rows)
    shutil.copytree(play.folder, play.folder.with_name("kept"))
    return play


def played(begun: Play, seed: int) -> set[str]:
    """One history, judged after every move; the names of faults that came up."""
    shutil.rmtree(begun.folder)
    shutil.copytree(begun.folder.with_name("kept"), begun.folder)
    model = begun.model
    play = Play(
        begun.folder,
        seeded(seed),
        Model(dict(model.signed), set(), list(model.memory), list(model.elsewhere)),
    )
    weights, moves = zip(*MOVES, strict=True)
    seen: set[str] = set()
    with suppress(IndexError):  # nothing is left to attack
        for _ in range(play.rng.randint(2, STEPS_MAX)):
            move = play.rng.choices(moves, weights)[0]
            play.told.append(move.__name__)
            move(play)
            seen |= look(play)
    return seen


def look(play: Play) -> set[str]:
    elsewhere = play.rng.random() < 0.5
    keeper = play.keeper(elsewhere=elsewhere)
    if play.model.held and play.rng.random() < 0.4:
        head, rows = play.rng.choice(play.model.held)
        found = verify_file(play.db, head, keeper=keeper)
        play.judge(found, elsewhere=elsewhere, held=rows)
    else:
        found = verify_file(play.db, keeper=keeper)
        play.judge(found, elsewhere=elsewhere)
    return {found.fault.code if found.fault is not None else str(found.level)}


def test_a_check_says_what_is_justified_and_no_more(begun: Play) -> None:
    seen = set[str]().union(*(played(begun, seed) for seed in range(SEEDS)))
    assert seen >= {"1", "2", "3", "content", "columns", "known_head", "signature"}


@pytest.mark.slow
def test_a_check_says_what_is_justified_and_no_more_in_many_histories(begun: Play) -> None:
    for seed in range(SEEDS, SEEDS_MORE):
        played(begun, seed)
