"""Stores of a known size for the benchmarks, written through our own Python API.

`fill(db_path, messages)` is deterministic: the same size gives the same conversations and texts, so that
two stores differ in their length and in nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Appended, Body, Draft, Group
from ccn_mcp.store.sqlite.log import SqliteLog

START_US: Final = 1_767_225_600_000_000
LONG_SESSION: Final = "bench-long"
"""The conversation that every second message belongs to; the benchmarks read and write this one."""

SHORT_LENGTH: Final = 50
BATCH: Final = 500

TEXT: Final = (
    "the harbour was quiet when we compared the two ledgers and found that every line agreed except one "
    "which had been written twice by a client that lost its connection between the commit and the answer"
)
WORDS: Final = tuple(TEXT.split())
SENTENCE_WORDS: Final = 24


@dataclass(frozen=True)
class Message:
    """One message to append; `session_id` opens or finds its conversation."""

    session_id: str
    role: Literal["user", "assistant"]
    content: str


def messages_of(count: int) -> Iterator[Message]:
    """`count` messages: every second one in the long conversation, the rest in short ones."""
    for number in range(count):
        turn, in_short = divmod(number, 2)
        session = f"bench-short-{turn // SHORT_LENGTH}" if in_short else LONG_SESSION
        yield Message(session, "assistant" if turn % 2 else "user", _text(number))


def fill(db_path: Path, messages: int) -> str:
    """Write a store of `messages` messages at `db_path`; returns the id of the long conversation.

    The path must not exist yet: a store that is already there is never added to.
    """
    if db_path.exists():
        raise FileExistsError(f"{db_path} exists; choose a path for a new store")
    return append_all(db_path, _batches(messages_of(messages)))


def append_all(db_path: Path, batches: Iterator[list[Message]]) -> str:
    """Append every batch in order through the store's own writer; returns the long conversation's id.

    Conversations are opened as `record_message` opens them for a client session, so the server under
    test finds them by their session.
    """
    log = SqliteLog(db_path)
    opened: dict[str, str] = {}
    time_us = START_US
    try:
        for batch in batches:
            groups = []
            for message in batch:
                time_us += 1_000_000
                if message.session_id not in opened:
                    opened[message.session_id] = f"c_bench{len(opened):08d}"
                    groups.append(Group((_opening(message.session_id, opened, time_us),)))
                body: Body = {
                    "conversation": opened[message.session_id],
                    "principal": "local",
                    "role": message.role,
                    "source": "tool",
                    "text": message.content,
                }
                groups.append(Group((Draft(Kind.MESSAGE, time_us, body),)))
            for outcome in log.append_batch(groups):
                if not isinstance(outcome, Appended):
                    raise TypeError(f"the store refused a message: {outcome!r}")
    finally:
        log.close()
    return opened[LONG_SESSION]


def _opening(session: str, opened: dict[str, str], time_us: int) -> Draft:
    body: Body = {
        "conversation": opened[session],
        "key": f"ccn:session:{session}",
        "principal": "local",
        "scope": "default",
        "session": session,
        "source": "tool",
    }
    return Draft(Kind.CONVERSATION, time_us, body)


def _batches(messages: Iterator[Message]) -> Iterator[list[Message]]:
    while batch := list(islice(messages, BATCH)):
        yield batch


def _text(number: int) -> str:
    """About 150 characters that differ from message to message, for the search index as well."""
    start = number * 7 % len(WORDS)
    words = [WORDS[(start + step) % len(WORDS)] for step in range(SENTENCE_WORDS)]
    return f"note {number}: {' '.join(words)}."
