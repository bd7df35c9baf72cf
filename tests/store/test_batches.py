"""A batch writes its rows together; every answer and every row is what one group at a time would have given."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from ccn_mcp.domain.errors import CcnError
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Appended, Body, Draft, Group, Guard, Receipt
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.log import Outcome, SqliteLog

GROUPS = 900
"""Enough entries for the log to keep more than one hash of a complete subtree."""

KINDS = (Kind.MESSAGE, Kind.CONVERSATION, Kind.INSTANCE, Kind.VECTOR, Kind.METRIC)
ROWS = (
    "SELECT seq, time, kind, commitment, salt, body, blob FROM entry ORDER BY seq",
    "SELECT * FROM record ORDER BY seq",
    "SELECT * FROM conversation ORDER BY id",
    "SELECT * FROM instance ORDER BY id",
    "SELECT level, i FROM node ORDER BY level, i",
    "SELECT rowid FROM message_fts WHERE message_fts MATCH 'word' ORDER BY rowid",
)


def salts() -> Callable[[], bytes]:
    numbers = count()
    return lambda: next(numbers).to_bytes(16, "big")


def history(seed: int) -> list[Group]:
    """Groups of every kind that a batch treats in its own way, a good part of which must be refused or replayed."""
    rng = random.Random(seed)  # noqa: S311  # which groups come; no secret
    return [group(rng, at) for at in range(GROUPS)]


def group(rng: random.Random, at: int) -> Group:
    drafts = tuple(
        draft(rng, at * 10 + place, first=not place) for place in range(rng.choice((1, 1, 1, 2, 3, 0)))
    )
    guard = None
    if rng.random() < 0.1:
        # Of a size near to what the log has by now, so that some are lost and some are not.
        kinds = rng.choice(((Kind.MESSAGE,), (Kind.VECTOR, Kind.CONSENSUS), (Kind.INSTANCE, Kind.MESSAGE)))
        guard = Guard(kinds, rng.randrange(2 * at + 1))
    touch = {f"i{rng.randrange(6)}": at} if rng.random() < 0.1 else {}
    return Group(drafts, guard, touch)


def draft(rng: random.Random, time_us: int, *, first: bool) -> Draft:
    body: Body = {"principal": "local", "source": "tool"}
    number = rng.randrange(120)
    kind = rng.choices(KINDS, (20, 2, 2, 2, 1))[0]
    if kind in (Kind.MESSAGE, Kind.CONVERSATION) or rng.random() < 0.5:
        body["conversation"] = f"c{number % 12}"
    if kind == Kind.MESSAGE:
        body |= {"role": "user", "text": f"word {number % 4}"}
    elif kind == Kind.CONVERSATION:
        body["scope"] = rng.choice(("default", "other"))
    else:
        body["instance"] = f"i{number % 6}"
    if rng.random() < (0.25 if first else 0.02):
        # Mostly one that belongs to what is said, so that it is a repetition; else another one's.
        body["key"] = f"k{number if rng.random() < 0.9 else 0}"
    return Draft(kind, time_us, body, b"blob" if kind == Kind.VECTOR else b"")


def told(outcome: Outcome | None) -> tuple[Receipt, ...] | tuple[str, str]:
    """An answer without its head, which counts the whole batch and depends on the store's identity."""
    if isinstance(outcome, CcnError):
        return outcome.code, str(outcome)
    assert isinstance(outcome, Appended)
    return outcome.receipts


def contents(path: Path) -> list[list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO message_fts (message_fts, rank) VALUES ('integrity-check', 1)")
        return [connection.execute(rows).fetchall() for rows in ROWS]


def appended(path: Path, groups: list[Group], sizes: Callable[[], int]) -> list[object]:
    log = SqliteLog(path, salt=salts())
    answers: list[object] = []
    while len(answers) < len(groups):
        answers += map(told, log.append_batch(groups[len(answers) : len(answers) + sizes()]))
    log.close()
    assert verify_file(path, deep=True).fault is None
    return answers


@pytest.mark.parametrize("seed", range(4))
def test_batches_of_any_size_give_what_single_groups_give(tmp_path: Path, seed: int) -> None:
    groups = history(seed)
    rng = random.Random(seed)  # noqa: S311  # how long batches are; no secret
    single = appended(tmp_path / "single.db", groups, lambda: 1)
    batched = appended(tmp_path / "batched.db", groups, lambda: rng.choice((2, 7, 40, 100)))
    assert batched == single
    assert contents(tmp_path / "batched.db") == contents(tmp_path / "single.db")
    refused = {
        answer[0] for answer in single if isinstance(answer, tuple) and answer and isinstance(answer[0], str)
    }
    assert {"unknown_conversation", "idempotency_conflict", "store_moved", "unknown_instance"} <= refused
    assert any(
        isinstance(answer, tuple) and answer and getattr(answer[0], "replayed", False) for answer in single
    )
