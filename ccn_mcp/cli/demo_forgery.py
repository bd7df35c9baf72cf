"""What the demo does to its own store behind the server's back: four forgeries, with plain sqlite3."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from ccn_mcp.domain import jcs
from ccn_mcp.domain.ledger import NO_LEAF, Kind, commitment, entry_bytes, leaf_hash
from ccn_mcp.domain.merkle import Frontier
from ccn_mcp.store.keeper import HEADS_FOLDER

TRIGGER: Final = "entry_unchanged"


@contextmanager
def _opened(db: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        yield connection


def change_column(db: Path, seq: int, old: str, new: str) -> None:
    """Change what queries see of a message, and leave the hashed body alone."""
    with _opened(db) as connection:
        connection.execute("UPDATE record SET text = replace(text, ?, ?) WHERE seq = ?", (old, new, seq))


def change_body(db: Path, seq: int, old: str, new: str) -> None:
    """Change the recorded body as well; the trigger that stops accidents goes and comes back."""
    with _opened(db) as connection:
        ((sql,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (TRIGGER,)).fetchall()
        ((body,),) = connection.execute("SELECT body FROM entry WHERE seq = ?", (seq,)).fetchall()
        connection.execute(f"DROP TRIGGER {TRIGGER}")
        connection.execute(
            "UPDATE entry SET body = ? WHERE seq = ?", (bytes(body).replace(old.encode(), new.encode()), seq)
        )
        connection.execute(sql)


def recompute_every_hash(db: Path) -> None:
    """Make the log fit its changed content again: what somebody can do who has the file and this program."""
    with _opened(db) as connection:
        ((sql,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (TRIGGER,)).fetchall()
        connection.execute(f"DROP TRIGGER {TRIGGER}")
        ((store_id,),) = connection.execute("SELECT store_id FROM log").fetchall()
        tree, leaf = Frontier(), NO_LEAF
        tree.completed = []
        rows = connection.execute(
            "SELECT seq, time, kind, salt, body, blob FROM entry ORDER BY seq"
        ).fetchall()
        for seq, time_us, kind, salt, body, blob in rows:
            committed = commitment(salt, body, blob)
            leaf = leaf_hash(entry_bytes(store_id, seq, time_us, kind, leaf, committed))
            tree.append(leaf)
            connection.execute(
                "UPDATE entry SET leaf = ?, commitment = ? WHERE seq = ?", (leaf, committed, seq)
            )
        connection.execute("UPDATE log SET leaf = ?, frontier = ?", (leaf, tree.to_bytes()))
        connection.executemany("INSERT OR REPLACE INTO node VALUES (?, ?, ?)", tree.completed)
        connection.execute(sql)


def forget_every_head(db: Path, config: Path) -> None:
    """Drop what else would tell: the signed heads, those in instances' reports, those beside the signing key."""
    with _opened(db) as connection:
        ((sql,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (TRIGGER,)).fetchall()
        connection.execute(f"DROP TRIGGER {TRIGGER}")
        reports = connection.execute("SELECT seq, body FROM entry WHERE kind = ?", (int(Kind.VECTOR),))
        for seq, data in reports.fetchall():
            body = json.loads(data)
            del body["seen"]
            connection.execute("UPDATE entry SET body = ? WHERE seq = ?", (jcs.encode(body), seq))
        connection.execute("DELETE FROM checkpoint")
        connection.execute(sql)
    recompute_every_hash(db)
    shutil.rmtree(config / HEADS_FOLDER, ignore_errors=True)
