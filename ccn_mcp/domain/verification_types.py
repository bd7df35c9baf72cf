"""What a check is given: the rows of a log, what its store says of their sum, and where to begin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ccn_mcp.domain.merkle import Frontier


class Row(NamedTuple):
    """One entry with its query columns, in the order in which a store hands it over.

    A plain tuple of the same shape will do; `record_kind` is None where the entry has no query row.
    """

    seq: int
    time_us: int
    kind: int
    leaf: bytes
    commitment: bytes
    salt: bytes | None
    body: bytes | None
    blob: bytes | None
    record_kind: int | None
    n: int | None
    conversation: str | None
    subject: str | None
    role: str | None
    principal: str | None
    key: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Tail:
    """What a store says of its own end: compared with what the rows add up to.

    `conversations` gives (id, seq, scope, messages, last_seq), `instances` (id, seq, report), `stray`
    the number of query rows without an entry, `nodes` (level, index, hash) by both; None where none are kept.
    """

    store_id: bytes
    size: int
    leaf: bytes
    frontier: bytes
    conversations: Iterable[tuple[str, int, str, int, int]]
    instances: Iterable[tuple[str, int, int | None]]
    stray: int
    nodes: Iterable[tuple[int, int, bytes]] | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Where a check of the newer entries begins: what the entries before add up to, which are not read again.

    `conversations` gives [seq, scope, messages, last_seq] as of then, for each that has newer messages.
    """

    tree: Frontier
    leaf: bytes
    time_us: int
    conversations: dict[str, list[int | str]]
