"""Making a store from a backup: a log of its own with every entry at its old place (docs/formats.md, "A restored log").

Built and checked beside its place, then moved there in one step. Nothing is changed before that.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ccn_mcp import __version__
from ccn_mcp.domain import jcs, ledger
from ccn_mcp.domain.assurance import GENESIS_KEY_FIELD
from ccn_mcp.domain.errors import (
    BadInput,
    Conflict,
    NoStore,
    NotFound,
    StoreBusy,
    StoreError,
    StoreUnavailable,
    VerificationFailed,
)
from ccn_mcp.domain.ledger import NO_LEAF, Head, Kind
from ccn_mcp.domain.limits import BATCH_DRAFTS_MAX, ERASURES_PER_BATCH_MAX
from ccn_mcp.domain.merkle import Frontier
from ccn_mcp.domain.models import Body, Draft, Verification
from ccn_mcp.domain.restoring import Past, genesis_of
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.secret import Secret, no_secret
from ccn_mcp.store.sqlite import append, beside, connect, log, nodes, reads
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.backup import Progress, open_to_read
from ccn_mcp.store.sqlite.checks import parse_body
from ccn_mcp.store.sqlite.tail import Tail

COPY_BYTES: Final = 1_048_576
SIDE_FILES: Final = ("-wal", "-shm")
_NAMES_KEPT: Final = ("target", "by", "source", "reason")
"""What a redaction says; the rest of it is added anew where it is done again."""

NameKey = Callable[[bytes], str | None]
"""The public key that is to sign the heads of the store with this id, if any."""


@dataclass(frozen=True, slots=True)
class Present:
    """What stands where the store is to go. `head` is None where it cannot be read."""

    path: Path
    size: int
    head: Head | None
    erased_since: tuple[Draft, ...] = ()
    """Redactions that were made after the backup; they are done again in the restored store."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A finished restore. `moved` is where what was there before lies now."""

    path: Path
    store_id: bytes
    past: Past
    checked: Verification
    erased_again: int
    moved: Path | None


@dataclass
class Restoring:
    """A backup that was checked, before anything is written at its place; `build`, then `put_in_place`."""

    backup: Path
    target: Path
    checked: Verification
    store_id: bytes
    present: Present | None
    _folder: Path
    _told: Progress
    _built: list[Restored] = field(default_factory=list)

    def build(self, now_us: int, secret: Secret = no_secret, name_key: NameKey = lambda _: None) -> Restored:
        """Make the new store beside its place and check it.

        Raises:
            VerificationFailed: what was made is not what the backup holds. StoreError.
        """
        part, new_id = self._folder / "new.db", secrets.token_bytes(ledger.STORE_ID_BYTES)
        with beside.words_of(part, self.target):
            with closing(open_to_read(self._folder / "backup.db")) as source:
                genesis = source.execute("SELECT commitment, body FROM entry WHERE seq = 0").fetchone()
                past = Past(self.store_id, self.checked.head, genesis[0], now_us)
                program: Body = {"format": "ccn.entry/1", "program": f"ccn_mcp {__version__}"}
                if (key := name_key(new_id)) is not None:
                    program[GENESIS_KEY_FIELD] = key
                body = genesis_of(program, past, parse_body(genesis[1]) or {})
                connect.make_file(part)
                with closing(connect.connect(part)) as made:
                    connect.migrate(made, part)
                    _fill(source, made, Tail(new_id, NO_LEAF, Frontier()), jcs.encode(body), self._told)
            again = _erase_again(part, self.present.erased_since if self.present else (), secret)
            found = verify_file(part, progress=lambda done, total: self._told("Checking", done, total))
        before = self.checked
        same = (found.entries - again, found.messages, found.erased - again) == (
            before.entries,
            before.messages,
            before.erased,
        )
        if found.fault is not None or not same:
            detail = found.fault.detail if found.fault is not None else "entries are missing"
            raise VerificationFailed(
                f"the restored store does not verify ({detail}); nothing was put in place"
            )
        done = Restored(self.target, new_id, past, found, again, None)
        self._built.append(done)
        return done

    def put_in_place(self, aside: Path | None) -> Restored:
        """Move the new store to its place; what is there goes to `aside`.

        Raises:
            Conflict: something is there, and `aside` is None. StoreBusy: another program has the present store open.
            StoreError. Nothing was changed then.
        """
        done = self._built[-1]
        part = self._folder / "new.db"
        with (
            closing(Turnstile(self.target)) as turnstile,
            beside.disk_words(self.target),
            turnstile,
            ExitStack() as undo,
        ):
            if not connect.is_empty(self.target):
                if aside is None:
                    raise Conflict(f"{self.target} exists; nothing was changed")
                _nobody_has(self.target)
                _move_aside(self.target, aside, undo)
            connect.discard_leftovers(self.target)
            beside.put_in_place(part, self.target, replace=True)
            undo.pop_all()
        moved = aside if self.present is not None else None
        return Restored(done.path, done.store_id, done.past, done.checked, done.erased_again, moved)


@contextmanager
def restoring(backup: Path, target: Path, progress: Progress | None = None) -> Iterator[Restoring]:
    """Check the backup on a copy of it, so that reading leaves nothing beside it.

    Raises:
        NotFound: there is no such file. VerificationFailed: it is not as it was written. StoreError.
    """
    told = progress or (lambda *_: None)
    target = connect.real_path(target)
    if connect.is_empty(backup):
        raise NotFound(f"there is no backup at {backup}; name a file that `ccn-mcp backup` wrote")
    if connect.real_path(backup) == target:
        raise BadInput(f"{backup} is the store itself; name a file that `ccn-mcp backup` wrote")
    with beside.work_folder(target) as folder:
        copy = folder / "backup.db"
        told("Reading", 0, 1)
        _take(backup, copy, target)
        with beside.words_of(copy, backup):
            checked = verify_file(copy, progress=lambda done, total: told("Verifying", done, total))
            if checked.fault is not None:
                raise VerificationFailed(
                    f"{backup} is not as it was written ({checked.fault.detail}); nothing was restored. Look at it "
                    f"with `ccn-mcp verify --db {backup}`, and try an older backup"
                )
            with closing(open_to_read(copy)) as source:
                row = source.execute("SELECT store_id, leaf FROM log").fetchone()
            if row is None:
                raise NotFound(f"{backup} holds no record yet, so there is nothing to restore")
        present = _look(target, row[0], row[1], checked.entries)
        yield Restoring(backup, target, checked, row[0], present, folder, told)


def _take(backup: Path, copy: Path, target: Path) -> None:
    """The backup's bytes, and those of a write-ahead log beside it: a medium that cannot be written will do."""
    for suffix in ("", "-wal"):
        try:
            source = backup.with_name(backup.name + suffix).open("rb")
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise StoreUnavailable(f"cannot read {backup}: {exc.strerror}; check its permissions") from exc
        with source, beside.disk_words(target):
            made = copy.with_name(copy.name + suffix)
            connect.make_file(made)
            with made.open("wb") as taken:
                shutil.copyfileobj(source, taken, COPY_BYTES)


# ---- the new log ---------------------------------------------------------------------------------------


def _fill(
    source: sqlite3.Connection, made: sqlite3.Connection, tail: Tail, genesis: bytes, told: Progress
) -> None:
    # Thrown away if it is not finished, so it needs no log of its own while it grows.
    made.execute("PRAGMA journal_mode = DELETE").fetchone()
    made.execute("BEGIN IMMEDIATE")
    total: int = source.execute("SELECT size FROM log").fetchone()[0]
    for row in source.execute(reads.VERIFY_ROWS):
        _add(made, tail, row, genesis)
        if not row[0] % BATCH_DRAFTS_MAX:
            told("Restoring", row[0], total)
    for read, write in _LISTS:
        made.executemany(write, source.execute(read))
    made.execute("INSERT INTO message_fts (message_fts) VALUES ('optimize')")
    nodes.write(made, tail.tree.completed or ())
    tail.write(made, first=True)
    made.execute("COMMIT")
    made.execute("PRAGMA journal_mode = WAL").fetchone()


def _add(made: sqlite3.Connection, tail: Tail, row: reads.SqlRow, genesis: bytes) -> None:
    """One entry at its old place: all but the genesis keeps its commitment, and so its salt."""
    seq, time_us, kind, _, committed, salt, body, blob = row[:8]
    if seq == 0:
        salt, body, blob = append.random_salt(), genesis, b""
        committed = ledger.commitment(salt, body, blob)
    leaf = ledger.leaf_hash(ledger.entry_bytes(tail.store_id, seq, time_us, kind, tail.leaf, committed))
    made.execute(
        "INSERT INTO entry (seq, time, kind, leaf, commitment, salt, body, blob) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (seq, time_us, kind, leaf, committed, salt, body, blob),
    )
    tail.tree.append(leaf)
    tail.leaf = leaf
    if body is not None and not jcs.is_canonical(body):
        raise VerificationFailed(
            f"entry {seq} of the backup is not in the one form that is written (RFC 8785), so another program made "
            "it; nothing was restored"
        )
    # The query columns were checked against the content, so they are taken over, what is left of erased entries too.
    made.execute(_RECORD, (seq, *row[8:]))
    if row[15] is not None:
        made.execute("INSERT INTO message_fts (rowid, text) VALUES (?, ?)", (seq, row[15]))


_RECORD: Final = (
    "INSERT INTO record (seq, kind, n, conversation, subject, role, principal, key, text) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_LISTS: Final = (
    (
        "SELECT id, seq, scope, messages, last_seq FROM conversation",
        "INSERT INTO conversation VALUES (?, ?, ?, ?, ?)",
    ),
    ("SELECT id, seq, report, seen FROM instance", "INSERT INTO instance VALUES (?, ?, ?, ?)"),
)


def _erase_again(part: Path, redactions: tuple[Draft, ...], secret: Secret) -> int:
    """What was erased after the backup was made does not come back with it."""
    if not redactions:
        return 0
    with closing(log.SqliteLog(part, secret=secret)) as made:
        batches = [
            redactions[at : at + ERASURES_PER_BATCH_MAX]
            for at in range(0, len(redactions), ERASURES_PER_BATCH_MAX)
        ]
        return sum(not item.already for batch in batches for item in made.erase(batch).items)


# ---- what is there now ---------------------------------------------------------------------------------


def _look(target: Path, store_id: bytes, leaf: bytes, size: int) -> Present | None:
    if connect.is_empty(target):
        return None
    taken = sum(
        path.stat().st_size
        for path in (target, *(target.with_name(target.name + end) for end in SIDE_FILES))
        if path.exists()
    )
    try:
        with connect.our_words(target), closing(open_to_read(target)) as there:
            there.execute("BEGIN")
            row = there.execute(reads.HEAD).fetchone()
            if row is None:
                return Present(target, taken, None)
            head = Head(row[1], connect.frontier_of(target, row[1], row[2]).root())
            last = there.execute("SELECT leaf FROM entry WHERE seq = ?", (size - 1,)).fetchone()
            # The same log, gone on: position by position the same entries.
            continues = row[0] == store_id and last == (leaf,)
            return Present(target, taken, head, _redactions(there, size) if continues else ())
    except (StoreError, NoStore):
        return Present(target, taken, None)


def _redactions(there: sqlite3.Connection, size: int) -> tuple[Draft, ...]:
    found = []
    for time_us, data in there.execute(_REDACTIONS, (size,)):
        body = parse_body(data) or {}
        target = body.get("target")
        if isinstance(target, str) and target.isdigit() and int(target) < size:
            found.append(
                Draft(Kind.REDACTION, time_us, {name: body[name] for name in _NAMES_KEPT if name in body})
            )
    return tuple(found)


# `kind <> 1` lets SQLite use the partial index; 6 is a redaction.
_REDACTIONS: Final = (
    "SELECT e.time, e.body FROM record r JOIN entry e USING (seq) "
    "WHERE r.kind <> 1 AND r.kind = 6 AND r.seq >= ? ORDER BY r.seq"
)


def _nobody_has(target: Path) -> None:
    """Every connection to a store in WAL mode, also an idle one, keeps its mode from being changed.

    Raises:
        StoreBusy: somebody has it open. A damaged file is nobody's.
    """
    mode = None
    with suppress(StoreError), connect.our_words(target):
        try:
            with closing(connect.connect(target, wait_s=0.1)) as mine:
                mode = mine.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
                mine.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as exc:
            mode = (
                "wal" if exc.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) else mode
            )
    if mode == "wal":
        raise StoreBusy(
            f"{target} is in use by another program, so nothing was changed. Stop every client and server that uses "
            "it (`ccn-mcp doctor` lists them), then try again"
        )


def _move_aside(target: Path, aside: Path, undo: ExitStack) -> None:
    """The present file keeps its name until the new one takes it; what belongs to it goes with it."""
    for suffix in SIDE_FILES:
        there, away = (path.with_name(path.name + suffix) for path in (target, aside))
        with suppress(FileNotFoundError):
            there.rename(away)
            undo.callback(away.rename, there)
    try:
        aside.hardlink_to(target)
        undo.callback(aside.unlink)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        target.rename(aside)
        undo.callback(aside.rename, target)
