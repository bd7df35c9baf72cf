"""What one transaction appends: entries with their query columns.

The messages of a batch wait and go in together, one statement for each table; whatever else is appended goes in at
once, after them. So only a message's own columns, its conversation's count and its full-text row can be waiting
while a later group of the batch is checked, and `Inserts.settle` writes them where that group asks for them.
"""

from __future__ import annotations

from ccn_mcp.domain import jcs, ledger
from ccn_mcp.domain.entries import Draft, Group, Receipt
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.projection import Columns, columns_of, scope_of
from ccn_mcp.store.sqlite import nodes

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Any, Final

    from ccn_mcp.domain.jcs import Json
    from ccn_mcp.store.sqlite.tail import Tail


class _Conversation:
    __slots__ = ("last_seq", "messages", "scope")

    def __init__(self, scope: str, messages: int) -> None:
        self.scope = scope
        self.messages = messages
        self.last_seq: int | None = None
        """Of the newest message that waits."""


class Conversations:
    """The conversations that a transaction deals with: each is read once, and its count written once."""

    __slots__ = ("_connection", "_known")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[str, _Conversation] = {}

    def scope(self, name: Json) -> str | None:
        """The scope of the conversation of that name; None if there is none."""
        if not isinstance(name, str):
            return None
        if (known := self._known.get(name)) is None:
            row = self._connection.execute(_CONVERSATION, (name,)).fetchone()
            if row is None:
                return None
            known = self._known[name] = _Conversation(*row)
        return known.scope

    def count(self, name: str, seq: int) -> int:
        """The number, from 1, of the message at `seq` in a conversation that is there."""
        if self.scope(name) is None:
            raise LookupError(f"no conversation {name!r}")
        known = self._known[name]
        known.messages += 1
        known.last_seq = seq
        return known.messages

    def flush(self) -> None:
        """Write the counts."""
        changed = [(found, name) for name, found in self._known.items() if found.last_seq is not None]
        self._connection.executemany(
            "UPDATE conversation SET messages = ?, last_seq = ? WHERE id = ?",
            [(found.messages, found.last_seq, name) for found, name in changed],
        )
        for found, _ in changed:
            found.last_seq = None


_CONVERSATION: Final = "SELECT scope, messages FROM conversation WHERE id = ?"


class Inserts:
    """The entries of one open transaction, from `tail` on. Nothing of it may be committed before `flush`."""

    def __init__(self, connection: sqlite3.Connection, tail: Tail, salt: Callable[[], bytes]) -> None:
        self.connection = connection
        self.tail = tail
        self.conversations = Conversations(connection)
        self.content_bytes = 0
        """Of everything inserted so far."""

        self._salt = salt
        self._entries: list[tuple[Any, ...]] = []
        self._records: list[tuple[Any, ...]] = []
        self._texts: list[tuple[int, str]] = []
        self._keys: set[tuple[Json, Json]] = set()

    def insert(self, draft: Draft, body: bytes | None = None) -> Receipt:
        """Append one entry; `body` where it was encoded already."""
        tail, kind = self.tail, draft.kind
        body = jcs.encode(draft.body) if body is None else body
        seq, salt = tail.tree.size, self._salt()
        committed = ledger.commitment(salt, body, draft.blob)
        leaf = ledger.leaf_hash(
            ledger.entry_bytes(tail.store_id, seq, draft.time_us, kind, tail.leaf, committed)
        )
        self._entries.append((seq, draft.time_us, int(kind), leaf, committed, salt, body, draft.blob))
        columns = columns_of(kind, draft.body)
        n = self.conversations.count(str(columns.conversation), seq) if kind == Kind.MESSAGE else None
        self._records.append((seq, int(kind), n, *columns))
        if columns.text is not None:
            self._texts.append((seq, columns.text))
        if columns.key is not None:
            self._keys.add((columns.principal, columns.key))
        tail.tree.append(leaf)
        tail.leaf = leaf
        self.content_bytes += len(body) + len(draft.blob)
        if kind != Kind.MESSAGE:
            self._derive(seq, draft, columns)
            self.flush()
        return Receipt(seq, draft.time_us, draft.body, n)

    def settle(self, group: Group) -> None:
        """Write what waits if the checks of `group` may ask for it: its key's entry, or the kinds of its guard."""
        body = group.drafts[0].body if group.drafts else {}
        if group.guard is not None or (body.get("principal"), body.get("key")) in self._keys:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        run = self.connection.executemany
        if self._entries:
            run("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._entries)
            run(_RECORD, self._records)
            run("INSERT INTO message_fts (rowid, text) VALUES (?, ?)", self._texts)
            self.conversations.flush()
            self._entries, self._records, self._texts, self._keys = [], [], [], set()
        if self.tail.tree.completed:
            nodes.write(self.connection, self.tail.tree.completed)
            self.tail.tree.completed = []

    def _derive(self, seq: int, draft: Draft, columns: Columns) -> None:
        """What the list of conversations or instances says of this entry."""
        run = self.connection.execute
        if draft.kind == Kind.CONVERSATION:
            run(
                "INSERT INTO conversation VALUES (?, ?, ?, 0, ?)",
                (columns.conversation, seq, scope_of(draft.body), seq),
            )
        elif draft.kind == Kind.INSTANCE:
            run(
                "INSERT INTO instance VALUES (?1, ?2, NULL, ?3) "
                "ON CONFLICT (id) DO UPDATE SET seq = ?2, seen = max(seen, ?3)",
                (columns.subject, seq, draft.time_us),
            )
        elif draft.kind == Kind.VECTOR:
            run("UPDATE instance SET report = ? WHERE id = ?", (seq, columns.subject))


_RECORD: Final = (
    "INSERT INTO record (seq, kind, n, conversation, subject, role, principal, key, text) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
