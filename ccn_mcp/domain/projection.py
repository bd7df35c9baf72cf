"""What can be queried about an entry, as a pure function of its hashed body.

A store keeps these columns beside the log so that it can find things; `verify` computes them again from
the hashed bytes and compares, so a query cannot return what the log does not commit to.
"""

from __future__ import annotations

from collections import namedtuple

from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import JSON_INT_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NamedTuple

    from ccn_mcp.domain.entries import Body, Draft
    from ccn_mcp.domain.jcs import Json

    class Columns(NamedTuple):
        """Query columns of one entry. `subject` is what it is about: an instance, a consensus group, a conversation."""

        conversation: str | None
        subject: str | None
        role: str | None
        principal: str | None
        key: str | None
        text: str | None

else:
    # A tuple, since it goes into SQL as it is; made so because a hook does not import `typing` (`values.py`).
    Columns = namedtuple("Columns", "conversation subject role principal key text")


def columns_of(kind: int, body: Body) -> Columns:
    """The query columns that `body` commits to; a field of the wrong type counts as absent."""
    get = body.get
    if kind == Kind.MESSAGE:
        return Columns(
            _text(get("conversation")),
            None,
            _text(get("role")),
            _text(get("principal")),
            _text(get("key")),
            _text(get("text")),
        )
    subject = _SUBJECTS.get(kind)
    if kind == Kind.VALIDATION and "instance" not in body:
        subject = "group"  # a pinned baseline is a group's
    return Columns(
        _text(get("conversation")),
        _text(get(subject)) if subject else None,
        None,
        _text(get("principal")),
        _text(get("key")),
        None,
    )


_SUBJECTS: dict[int, str] = {
    Kind.VECTOR: "instance",
    Kind.METRIC: "instance",
    Kind.CONSENSUS: "group",
    Kind.REDACTION: "target",
    Kind.PLATE: "digest",
    Kind.INSTANCE: "instance",
    Kind.VALIDATION: "instance",
    Kind.USAGE: "conversation",
}

ERASABLE: Final = frozenset(
    {
        Kind.MESSAGE,
        Kind.VECTOR,
        Kind.METRIC,
        Kind.PLATE,
        Kind.INSTANCE,
        Kind.CONVERSATION,
        Kind.VALIDATION,
        Kind.USAGE,
    }
)
"""Kinds whose content can be erased. The others hold nothing that anybody said, and the log leans on them."""

_NAMES_INSTANCE: Final = frozenset({Kind.VECTOR, Kind.METRIC, Kind.INSTANCE, Kind.VALIDATION})

ERASED_SCOPE: Final = ""
"""The scope of an erased conversation: none that a conversation can have, since an empty one is `default`."""


def kept_columns(kind: int, columns: Columns) -> Columns:
    """What stays of an erased entry: which conversation and role, and the instance's id, all made by the server."""
    subject = columns.subject if kind in _NAMES_INSTANCE else None
    return Columns(columns.conversation, subject, columns.role, None, None, None)


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def scope_of(body: Body) -> str:
    """The scope that a conversation entry names."""
    return _text(body.get("scope")) or "default"


def said_us(body: Body) -> int | None:
    """When a message was said, in microseconds since 1970, where its body says so: an import, a hook that came late."""
    for name in ("said_at", "at"):
        found = body.get(name)
        if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= JSON_INT_MAX:
            return found
    return None


_SAME: dict[int, tuple[str, ...]] = {
    Kind.MESSAGE: ("conversation", "role", "text", "name"),
    Kind.CONVERSATION: ("session",),
    Kind.VECTOR: ("instance", "vec"),
    Kind.USAGE: ("request_id", "tokens"),
}


def same_payload(kind: int, stored: Body, stored_blob: bytes, draft: Draft) -> bool:
    """Whether a draft with a key that was used before says the same as the entry that used it.

    Fields that the server mints anew for every request do not count.
    """
    if kind != draft.kind or stored_blob != draft.blob:
        return False
    names = _SAME.get(kind)
    if names is None:
        return stored == draft.body
    return all(stored.get(name) == draft.body.get(name) for name in names)
