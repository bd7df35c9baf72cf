"""What a store file says of its keys and signed heads, for the person's commands; reads only, creates nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccn_mcp.domain.anchors import Witnessed
from ccn_mcp.domain.assurance import announced_key
from ccn_mcp.domain.limits import STORE_WAIT_S_MAX
from ccn_mcp.domain.models import Body
from ccn_mcp.ports import Keeper
from ccn_mcp.store.nobody import NOBODY
from ccn_mcp.store.sqlite import anchors, connect, reads, signing

FORMAT_MIN: Final = 2
"""Older files hold no signed heads."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key that the log names, from the entry at `seq` on. `event` is first, next or lost."""

    seq: int
    event: str
    key: str


@dataclass(frozen=True, slots=True)
class KeyState:
    """A log's keys, oldest first; its newest signed head (`note`); what this account remembers and who witnessed it.

    `remembered` counts the places that hold a head, here and elsewhere; `contradicted` is the newest of one of them
    that the log does not have. Signatures of heads are not checked here.
    """

    store_id: bytes
    size: int
    keys: Sequence[KeyEntry]
    signed_to: int
    note: bytes | None
    remembered: int
    contradicted: str | None
    anchors: int
    witnessed: Witnessed


def key_state(path: Path, keeper: Keeper = NOBODY) -> KeyState | None:
    """The state of the file at `path`; None where nothing was written yet.

    Raises:
        StoreError: the file cannot be read, or is none of ours.
    """
    path = connect.real_path(path)
    if connect.is_empty(path):
        return None
    with connect.our_words(path):
        connection = connect.connect_to_read(path, STORE_WAIT_S_MAX)
        if connection is None:
            return None
        with closing(connection):
            connection.execute("BEGIN")  # one state of the log
            row = connection.execute(reads.VERIFY_TAIL).fetchone()
            if row is None:
                return None
            store_id, size = row[0], row[1]
            if connection.execute("PRAGMA user_version").fetchone()[0] < FORMAT_MIN:
                return KeyState(store_id, size, (), 0, None, 0, None, 0, Witnessed())
            note = connection.execute(
                "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1"
            ).fetchone()
            remembered = [*keeper.heads(store_id)[-1:], *keeper.heads_elsewhere(store_id)[-1:]]
            wrong = (
                f"{claim.size}:{claim.root[:32]}, which {claim.by}"
                for claim in remembered
                if claim.size > size or not claim.holds(signing.root_here(connection, claim.size).root.hex())
            )
            return KeyState(
                store_id,
                size,
                _keys(signing.key_entries(connection)),
                note[0] if note is not None else 0,
                note[1] if note is not None else None,
                len(remembered),
                next(wrong, None),
                anchors.count(connection, store_id),
                anchors.check(connection, store_id, size, keeper),
            )


def _keys(entries: Sequence[tuple[int, Body]]) -> list[KeyEntry]:
    found: list[KeyEntry] = []
    for seq, body in entries:
        if (key := announced_key(seq, body)) is not None:
            found.append(KeyEntry(seq, str(body.get("event", "first")) if seq else "first", key))
    return found
