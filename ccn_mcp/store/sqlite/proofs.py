"""Proofs from a store file, read only: that it holds an entry, that it still contains a head that somebody kept."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Final

from ccn_mcp.domain.consistency_text import format_consistency
from ccn_mcp.domain.errors import BadInput, NotFound, NotSigned, VerificationFailed
from ccn_mcp.domain.ledger import NO_LEAF, Head, entry_bytes, parse_head
from ccn_mcp.domain.limits import STORE_WAIT_S_MAX
from ccn_mcp.domain.proof import consistency_proof, inclusion_proof, root_at
from ccn_mcp.domain.proof_text import format_inclusion
from ccn_mcp.store.sqlite import nodes
from ccn_mcp.store.sqlite.reading import one_state

_NEWEST: Final = "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1"
_ENTRY: Final = "SELECT time, kind, commitment FROM entry WHERE seq = ?"
_LEAF: Final = "SELECT leaf FROM entry WHERE seq = ?"


def entry_proof(path: Path, seq: int, wait_s: float = STORE_WAIT_S_MAX) -> str:
    """C2SP tlog-proof of entry `seq` in the newest signed head; the entry's 110 bytes are its extra data.

    Raises:
        NoStore. NotFound: there is no such entry. NotSigned: no signed head covers it yet. VerificationFailed: the
            store is damaged. StoreError.
    """
    with one_state(path, wait_s) as (connection, store_id, size):
        row = connection.execute(_ENTRY, (seq,)).fetchone()
        if row is None:
            raise NotFound(f"there is no entry {seq}: the log has {size}, from 0 to {size - 1}")
        covered, note = _covering(connection, seq + 1, f"entry {seq}")
        previous = connection.execute(_LEAF, (seq - 1,)).fetchone()[0] if seq else NO_LEAF
        proof = inclusion_proof(seq, covered, partial(nodes.read, connection))
        return format_inclusion(
            seq, proof, note, entry_bytes(store_id, seq, row[0], row[1], previous, row[2])
        )


def head_proof(path: Path, held: str, wait_s: float = STORE_WAIT_S_MAX) -> str:
    """A consistency proof (`domain.consistency_text`) from the held head to the newest signed one.

    Raises:
        BadHead: it is none. BadInput: it is of size 0, from which nothing can be shown. NoStore. NotSigned: no signed
            head is that large yet. VerificationFailed: the log does not contain it, or is damaged. StoreError.
    """
    old, prefix = parse_head(held)
    if old == 0:
        raise BadInput(
            "every log contains the head of size 0, so a proof from it shows nothing; give a head of size 1 or more"
        )
    with one_state(path, wait_s) as (connection, _, size):
        read = partial(nodes.read, connection)
        here = Head(min(old, size), root_at(min(old, size), read))
        if old > size or not here.root.hex().startswith(prefix):
            raise VerificationFailed(
                f"this log does not contain the head that you hold: that is {old}:{prefix[:32]}, and here is {here}. "
                "It was cut off or rewritten, or it is another log; keep both and run `ccn-mcp verify --known-head`"
            )
        covered, note = _covering(connection, old, f"the head of size {old}")
        return format_consistency(here, consistency_proof(old, covered, read), note)


def _covering(connection: sqlite3.Connection, size: int, what: str) -> tuple[int, str]:
    older = connection.execute("PRAGMA user_version").fetchone()[0] < 2
    row = None if older else connection.execute(_NEWEST).fetchone()
    if row is None or row[0] < size:
        reach = (
            "no head of this log is signed" if row is None else f"the newest signed head is of size {row[0]}"
        )
        raise NotSigned(
            f"no signed head covers {what} yet: {reach}. A program that records signs within seconds and when it ends; "
            "`ccn-mcp doctor` says whether this account has the key"
        )
    return row[0], row[1].decode()
