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
    """TO BE COMPLETED against the store. Append every batch, in order, and return a conversation id.

    Contract:
    - opens (and so creates) the store at `db_path` with the same settings as `ccn-mcp serve --db`,
    - finds or opens one conversation per `session_id`, as `record_message(session_id=...)` does,
    - appends each batch (at most `BATCH` messages) in one transaction, or through the writer with all
      of the batch waiting, so that 100,000 messages take seconds,
    - closes the store (WAL checkpointed, no lock left), since a server process opens it next,
    - returns the `conversation_id` of `LONG_SESSION`, as `get_history(conversation_id=...)` takes it.

    Expected shape: `asyncio.run` over `ccn_mcp.store...` or `ccn_mcp.open_node(...)`.
    """
    raise NotImplementedError(f"bench/fill.py: append_all must write {db_path} through ccn_mcp.store")


def _batches(messages: Iterator[Message]) -> Iterator[list[Message]]:
    while batch := list(islice(messages, BATCH)):
        yield batch


def _text(number: int) -> str:
    """About 150 characters that differ from message to message, for the search index as well."""
    start = number * 7 % len(WORDS)
    words = [WORDS[(start + step) % len(WORDS)] for step in range(SENTENCE_WORDS)]
    return f"note {number}: {' '.join(words)}."
