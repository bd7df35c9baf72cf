"""Claude Code's status line: how much of this session is recorded, and whether the end of the chain holds."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from ccn_mcp.domain.erasure import SESSION
from ccn_mcp.domain.errors import CcnError
from ccn_mcp.domain.ledger import NO_LEAF, commitment, entry_bytes, leaf_hash
from ccn_mcp.interop import trouble
from ccn_mcp.store.sqlite import connect

if TYPE_CHECKING:
    import sqlite3

    from ccn_mcp.interop.hook import Call

WAIT_S_MAX: Final = 0.5
ENTRIES_CHECKED_MAX: Final = 32
"""Newest entries whose hashes are computed again: a status line is asked for several times a minute."""


def line(call: Call) -> str:
    """`recorded 214, chain ok`: messages of this session, and the newest entries' hashes."""
    if call.hidden:
        return (
            "not recorded (excluded folder)" if call.chosen.excluded is not None else "not recorded (private)"
        )
    path = connect.real_path(call.chosen.db)
    if connect.is_empty(path):
        return "recorded 0"
    try:
        with connect.our_words(path), closing(connect.connect(path, WAIT_S_MAX)) as reader:
            count = reader.execute(_RECORDED, (f"{SESSION}{call.session}",)).fetchone()
            held = holds(reader)
    except CcnError as error:
        return f"record: {error.code}"
    chain = "chain ok" if held else "chain BROKEN, run: ccn-mcp verify"
    told = ", see: ccn-mcp doctor" if trouble.read(call.config) else ""
    return f"recorded {count[0] if count else 0:,}, {chain}{told}"


def holds(reader: sqlite3.Connection) -> bool:
    """Whether each of the newest entries is what its hash says, up to the head that the log keeps."""
    log = reader.execute("SELECT store_id, size, leaf FROM log").fetchone()
    rows = reader.execute(_NEWEST, (ENTRIES_CHECKED_MAX + 1,)).fetchall()[::-1]
    if log is None:
        return not rows
    store_id, size, head = log
    if not rows or rows[-1][0] != size - 1 or rows[-1][3] != head:
        return False
    before, checked = (NO_LEAF, rows) if rows[0][0] == 0 else (rows[0][3], rows[1:])
    for seq, at_us, kind, leaf, committed, salt, body, blob in checked:
        erased = body is None
        if not erased and commitment(salt, body, blob or b"") != committed:
            return False
        if leaf_hash(entry_bytes(store_id, seq, at_us, kind, before, committed)) != leaf:
            return False
        before = leaf
    return True


_NEWEST: Final = (
    "SELECT seq, time, kind, leaf, commitment, salt, body, blob FROM entry ORDER BY seq DESC LIMIT ?"
)
_RECORDED: Final = (
    "SELECT c.messages FROM record r JOIN conversation c ON c.id = r.conversation "
    "WHERE r.principal = 'local' AND r.key = ?"
)
