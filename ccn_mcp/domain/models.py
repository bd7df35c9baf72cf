"""The values that pass between the node and a store. Plain, frozen, without behaviour of their own.

Those of an append are in `entries.py`, for hooks; everybody else finds them here too.
"""

from __future__ import annotations

from dataclasses import dataclass

from ccn_mcp.domain.entries import Appended as Appended
from ccn_mcp.domain.entries import Body as Body
from ccn_mcp.domain.entries import Draft as Draft
from ccn_mcp.domain.entries import Group as Group
from ccn_mcp.domain.entries import Guard as Guard
from ccn_mcp.domain.entries import Receipt as Receipt
from ccn_mcp.domain.ledger import Head, Kind

SOURCES = ("tool", "hook", "import", "cli", "python", "server")
"""Where an entry came from; set by the program, never by a model."""

ROLES_CALLER = ("user", "assistant")
ROLES = ("user", "assistant", "system", "tool")


@dataclass(frozen=True, slots=True)
class Erasure:
    """What became of one redaction: `redaction` is its entry, None where the target was erased `already`."""

    seq: int
    conversation: str | None
    role: str | None
    n: int | None
    redaction: int | None = None
    already: bool = False


@dataclass(frozen=True, slots=True)
class Erased:
    """The answer to `Store.erase`. `pending`: how many erased entries the store's files may still hold."""

    items: tuple[Erasure, ...]
    head: Head
    pending: int


@dataclass(frozen=True, slots=True)
class Maintained:
    """What `Store.maintain` did. Bytes are those of the store's file and write-ahead log together.

    `wal_emptied` is False where a reader still needs the write-ahead log, `index_merged` and `analysed` where the
    work was left unfinished because it would have kept others waiting. `leftovers`: folders that a killed backup or
    restore had left beside the store, and that are gone now.
    """

    exists: bool
    bytes_before: int = 0
    bytes_after: int = 0
    erasures_finished: int = 0
    erasures_pending: int = 0
    wal_emptied: bool = True
    index_steps: int = 0
    index_merged: bool = True
    analysed: bool = True
    vacuumed: bool = False
    leftovers: int = 0


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What `Store.rotate_key` did: entry `seq` announces `new` (public keys as text); `old` signed before, if any."""

    seq: int
    old: str | None
    new: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """Identity and state of a store; `store_id` is None while nothing has been written yet.

    `conversations` is how many were opened, in all scopes, those included whose opening was erased.
    """

    store_id: bytes | None
    head: Head
    erasures_pending: int = 0
    conversations: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One entry as it was read; `body` is None once erased."""

    seq: int
    time_us: int
    kind: Kind
    body: Body | None
    blob: bytes = b""


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """Entries by kind and subject, or by position, or by idempotency key; newest first unless asked.

    The key of an erased message finds the redaction entry, as long as its tombstone can be read.
    """

    kinds: tuple[Kind, ...] = ()
    subject: str | None = None
    subjects: tuple[str, ...] = ()
    seqs: tuple[int, ...] = ()
    principal: str | None = None
    key: str | None = None
    oldest_first: bool = False
    after: int | None = None
    limit: int = 1


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `text` is None once erased. `said_us` is when it was said, if that was earlier."""

    seq: int
    time_us: int
    n: int
    conversation_id: str
    role: str
    text: str | None
    source: str
    name: str | None = None
    said_us: int | None = None


@dataclass(frozen=True, slots=True)
class MessageQuery:
    """A page of one conversation, always returned oldest first.

    `newest` chooses the end that is kept where more than `limit` match. `before` and `after` are
    positions in the log (seq), exclusive; times are microseconds UTC, `since` inclusive, `until` exclusive.
    """

    conversation_id: str
    limit: int
    newest: bool = True
    before: int | None = None
    after: int | None = None
    role: str | None = None
    since_us: int | None = None
    until_us: int | None = None


@dataclass(frozen=True, slots=True)
class LineQuery:
    """Messages of any conversation that still have their content, oldest first; every filter that is given counts.

    `person` is a message's principal or its name, exactly; times as in `MessageQuery`, positions exclusive.
    """

    limit: int
    seqs: tuple[int, ...] = ()
    conversation_id: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    person: str | None = None
    after: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One message in short: `line` is the first `LINE_CHARS_MAX` characters of its text."""

    seq: int
    time_us: int
    conversation_id: str
    role: str
    principal: str | None
    name: str | None
    line: str


@dataclass(frozen=True, slots=True)
class MessagePage:
    """`total` matches in all; `older` and `newer` of them lie beyond the page."""

    messages: tuple[Message, ...]
    total: int
    older: int
    newer: int


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """Full text over all messages, or those of one conversation or scope; newest first or ranked.

    `before` is the position (seq) of the oldest hit seen, exclusive.
    """

    text: str
    limit: int
    conversation_id: str | None = None
    scope: str | None = None
    role: str | None = None
    ranked: bool = False
    before: int | None = None


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A message that matched, with a short excerpt around the first match."""

    message: Message
    excerpt: str


@dataclass(frozen=True, slots=True)
class SearchPage:
    """`more` says that further matches exist; `candidates` is how many matches were looked at."""

    hits: tuple[SearchHit, ...]
    more: bool
    candidates: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation and how far it has come."""

    id: str
    seq: int
    time_us: int
    scope: str
    title: str | None
    session_id: str | None
    messages: int
    last_seq: int
    last_us: int
    erased: bool = False


@dataclass(frozen=True, slots=True)
class ConversationQuery:
    """Conversations by last activity, newest first; `before` is the `last_seq` of the last one seen.

    Those that were erased are left out unless `erased` asks for them too.
    """

    limit: int = 20
    scope: str | None = None
    before: int | None = None
    id: str | None = None
    erased: bool = False


@dataclass(frozen=True, slots=True)
class Seat:
    """An instance as the store knows it: its newest snapshot, when it was last seen, its newest report."""

    instance_id: str
    snapshot: Body
    snapshot_seq: int
    seen_us: int
    report_seq: int | None
    report_us: int | None
    report_body: Body | None
    report_blob: bytes | None


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that does not fit. `seq` is the entry it concerns, None for the log as a whole."""

    code: str
    seq: int | None
    time_us: int | None
    detail: str


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """A head that somebody holds: the log must still have `root` (hex, at least 128 bits) at `size`.

    `by` says who, so that it reads on after "the head that": `you hold`, `this machine remembers`.
    """

    size: int
    root: str
    by: str

    def holds(self, root: str | None) -> bool:
        """Whether the log's own root at that size (hex; None where it does not reach it) is the claimed one."""
        return root is not None and root.startswith(self.root)


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check found. `level` is the assurance level reached (`domain/assurance.py`), None if there is none.

    `known_head` is None where the caller gave none, else whether the log still has that head. The three `_to`
    say how many entries a good signature, a head held elsewhere and an outside witness cover; `since` is the
    size up to which entries were not read again because the caller vouched for them.
    """

    level: int | None
    entries: int
    messages: int
    erased: int
    clock_regressions: int
    head: Head
    fault: Fault | None = None
    known_head: bool | None = None
    signed_to: int = 0
    matched_to: int = 0
    witnessed_to: int = 0
    since: int = 0
    remarks: tuple[str, ...] = ()
