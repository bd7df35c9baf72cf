"""The values of an append: what is asked to be written, and what became of it. A hook makes these and no others."""

from __future__ import annotations

from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from ccn_mcp.domain.ledger import Head, Kind

Body = dict[str, Json]

SESSION: Final = "ccn:session:"
"""The key under which a client session opens its conversation: this and the session's id."""

AFTER: Final = "ccn:after:"
"""The key of the conversation that takes the place of an erased one: this and the erased one's id."""

SESSION_CONVERSATIONS_MAX: Final = 100
"""Erased conversations of one client session that are followed."""

_NOBODY: Final[Mapping[str, int]] = {}


class Draft(Value):
    """An entry before it has a place in the log. Times are microseconds UTC."""

    kind: Kind
    time_us: int
    body: Body
    blob: bytes = b""


class Guard(Value):
    """Append only if no entry of `kinds` has come at or after position `size`."""

    kinds: tuple[Kind, ...]
    size: int


class Group(Value):
    """Drafts that are appended together or not at all.

    Only the first draft may carry an idempotency key (`body["key"]`). `touch` renews instances' leases
    in the same transaction, and may stand alone.
    """

    drafts: tuple[Draft, ...] = ()
    guard: Guard | None = None
    touch: Mapping[str, int] = _NOBODY


class Receipt(Value):
    """What became of one draft. `n` is a message's position in its conversation, from 1."""

    seq: int
    time_us: int
    body: Body
    n: int | None = None
    replayed: bool = False


class Appended(Value):
    """The answer to a group: a receipt per draft (the first only, if replayed) and the log's head."""

    receipts: tuple[Receipt, ...]
    head: Head
