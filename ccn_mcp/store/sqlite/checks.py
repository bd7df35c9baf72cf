"""What can refuse a group, asked before its first write; and what a repeated one is answered."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from ccn_mcp.domain import jcs
from ccn_mcp.domain.entries import Appended, Body, Draft, Group, Guard, Receipt
from ccn_mcp.domain.errors import (
    BadInput,
    CcnError,
    Conflict,
    ConversationErased,
    IdempotencyConflict,
    StoreMoved,
    UnknownConversation,
    UnknownInstance,
)
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.projection import ERASED_SCOPE, same_payload
from ccn_mcp.store.sqlite import connect
from ccn_mcp.store.sqlite.insert import Conversations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from ccn_mcp.domain.jcs import Json
    from ccn_mcp.store.secret import Secret


def checked_body(draft: Draft, *, first: bool) -> bytes:
    """The bytes to hash, once nothing in the draft can make a later statement fail for its neighbours too.

    Raises:
        BadInput, BadText: the draft cannot be stored.
    """
    body = draft.body
    key = body.get("key")
    if key is not None and not (first and isinstance(key, str) and isinstance(body.get("principal"), str)):
        raise BadInput(
            "an idempotency key is text, stands in a group's first draft and has a principal beside it"
        )
    name = _NAMED_BY.get(draft.kind)
    if name is not None and not (isinstance(body.get(name), str) and body[name]):
        raise BadInput(f"an entry of kind {draft.kind.name.lower()} needs a {name}, as text")
    if not -(2**63) <= draft.time_us < 2**63:
        raise BadInput(f"the time {draft.time_us} does not fit 64 bits; give microseconds since 1970")
    return jcs.encode(body)


def refused_by_nothing(groups: Sequence[Group]) -> list[Appended | CcnError | None] | None:
    """What each group is refused with where there is no store yet; None if one of them can begin one.

    The first to be written would meet an empty store, so this asks one in memory.
    """
    refused: list[Appended | CcnError | None] = []
    with closing(sqlite3.connect(":memory:")) as nothing:
        for schema in connect.SCHEMAS:
            nothing.executescript(schema.read_text("utf-8"))
        for group in groups:
            try:
                for index, draft in enumerate(group.drafts):
                    checked_body(draft, first=not index)
                check_references(nothing, Conversations(nothing), group)
            except CcnError as error:
                refused.append(error)
            else:
                return None
    return refused


_NAMED_BY: Final = {Kind.CONVERSATION: "conversation", Kind.INSTANCE: "instance"}


def check_references(connection: sqlite3.Connection, conversations: Conversations, group: Group) -> None:
    """What a group names must be there, or be opened by the group itself, earlier.

    Raises:
        Conflict, UnknownConversation, ConversationErased, UnknownInstance.
    """
    opened: set[Json] = set()
    instances: set[Json] = set()
    for draft in group.drafts:
        name = draft.body.get("conversation")
        here = name in opened
        scope = None if here or name is None else conversations.scope(name)
        if draft.kind == Kind.CONVERSATION:
            if here or scope is not None:
                raise Conflict(f"the conversation {name!r} exists already; use it as it is")
            opened.add(name)
        elif scope == ERASED_SCOPE:
            raise ConversationErased(
                f"the conversation {name!r} was erased, so nothing more is recorded in it; leave conversation_id "
                "out to open a new one"
            )
        elif scope is None and not here and (draft.kind == Kind.MESSAGE or _names_one(draft)):
            raise UnknownConversation(
                f"there is no conversation {name!r} in this store; leave conversation_id out to open "
                "a new one, or call get_history without arguments to list the existing ones"
            )
        if draft.kind == Kind.INSTANCE:
            instances.add(draft.body.get("instance"))
    for name in group.touch:
        if name not in instances and not _is_instance(connection, name):
            raise UnknownInstance(f"there is no instance {name!r} in this store; call load_plate to open one")


def _names_one(draft: Draft) -> bool:
    return draft.kind == Kind.INSTANCE and draft.body.get("conversation") is not None


def _is_instance(connection: sqlite3.Connection, name: str) -> bool:
    return connection.execute("SELECT 1 FROM instance WHERE id = ?", (name,)).fetchone() is not None


def check_guard(connection: sqlite3.Connection, guard: Guard) -> None:
    """Nobody has decided meanwhile.

    Raises:
        StoreMoved.
    """
    marks = ",".join("?" * len(guard.kinds))
    # `kind <> 1` lets SQLite use the partial index.
    others = "" if Kind.MESSAGE in guard.kinds else "kind <> 1 AND "
    newer = connection.execute(
        f"SELECT 1 FROM record WHERE {others}kind IN ({marks}) AND seq >= ? LIMIT 1",  # noqa: S608  # fixed text
        (*map(int, guard.kinds), guard.size),
    ).fetchone()
    if newer is not None:
        raise StoreMoved("another writer decided first; read the state again and retry")


def find_replay(connection: sqlite3.Connection, draft: Draft, secret: Secret) -> Receipt | None:
    """The answer that the draft's key was given before, also where its message was erased since.

    Raises:
        IdempotencyConflict: the key was used with another payload.
    """
    key = draft.body.get("key")
    if key is None:
        return None
    row = connection.execute(
        "SELECT e.seq, e.time, e.kind, e.body, e.blob, r.n FROM record r JOIN entry e USING (seq) "
        "WHERE r.principal = ? AND r.key = ?",
        (draft.body.get("principal"), key),
    ).fetchone()
    if row is None:
        if connection.execute(_ANY_REDACTION).fetchone() is None:
            return None
        from ccn_mcp.store.sqlite import erasure  # most logs have none, and a hook is in a hurry

        return erasure.find_tombstone(connection, draft, secret)
    seq, time_us, kind, body_bytes, blob, n = row
    body = parse_body(body_bytes)
    if body is None or not same_payload(kind, body, blob or b"", draft):
        raise IdempotencyConflict(
            f"the idempotency key {key!r} was used before (entry {seq}) with another payload; "
            "use a new key for new content"
        )
    return Receipt(seq, time_us, body, n, replayed=True)


# `kind <> 1` lets SQLite use the partial index; 6 is a redaction.
_ANY_REDACTION: Final = "SELECT 1 FROM record WHERE kind <> 1 AND kind = 6 LIMIT 1"


def parse_body(data: bytes | None) -> Body | None:
    """The stored body of an entry as a value; None once erased or if it is not a JSON object."""
    if data is None:
        return None
    try:
        value = jcs.loads_trusted(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
