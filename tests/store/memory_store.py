"""The reference back end: the `Store` contract in plain Python, obviously correct rather than fast.

It shares nothing with the real back ends but the pure domain functions. Every call does its work in one
step of the event loop, so concurrency is trivial here; the yield after each write is where a cancelled
append "may have been written".
"""

from __future__ import annotations

import asyncio
import re
import secrets
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import TracebackType
from typing import Self

from ccn_mcp import __version__
from ccn_mcp.domain import jcs, ledger
from ccn_mcp.domain.assurance import level_of
from ccn_mcp.domain.erasure import (
    REREAD,
    TOMBSTONE,
    check_erasable,
    conflict,
    earlier_of,
    key_tombstone,
    redaction_of,
    target_of,
)
from ccn_mcp.domain.errors import (
    BadInput,
    Conflict,
    ConversationErased,
    IdempotencyConflict,
    KeyUnusable,
    NoStore,
    NotFound,
    StoreClosed,
    StoreMoved,
    TooLarge,
    UnknownConversation,
    UnknownInstance,
)
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.limits import ERASURES_PER_BATCH_MAX, LINE_CHARS_MAX, SEARCH_CANDIDATES_MAX, VOTERS_MAX
from ccn_mcp.domain.merkle import root_of
from ccn_mcp.domain.models import (
    Appended,
    Body,
    Conversation,
    ConversationQuery,
    Draft,
    Erased,
    Erasure,
    Fault,
    Group,
    KeyChange,
    Line,
    LineQuery,
    Maintained,
    Message,
    MessagePage,
    MessageQuery,
    Receipt,
    Record,
    RecordQuery,
    SearchHit,
    SearchPage,
    SearchQuery,
    Seat,
    StoreInfo,
    Verification,
)
from ccn_mcp.domain.projection import (
    ERASED_SCOPE,
    Columns,
    columns_of,
    kept_columns,
    said_us,
    same_payload,
    scope_of,
)
from ccn_mcp.ports import Progress

SECRET = bytes(range(32))
"""Of the tombstones."""


@dataclass(slots=True)
class Row:
    """One stored entry; salt, body and blob are None once erased, `columns` stays for the page's gap."""

    seq: int
    time_us: int
    kind: Kind
    leaf: bytes
    committed: bytes
    salt: bytes | None
    body: bytes | None
    blob: bytes | None
    columns: Columns
    n: int | None

    def content(self) -> Body:
        """The stored body as a fresh value; empty once erased."""
        value = jcs.decode(self.body) if self.body is not None else {}
        assert isinstance(value, dict)
        return value

    def text_of(self, name: str) -> str | None:
        """A text field of the body."""
        value = self.content().get(name)
        return value if isinstance(value, str) else None


@dataclass(slots=True)
class MemoryLog:
    """What is on "disk": it outlives the stores that are opened on it."""

    store_id: bytes | None = None
    rows: list[Row] = field(default_factory=list)
    leases: dict[str, int] = field(default_factory=dict)

    def head(self, size: int | None = None) -> Head:
        """The head now, or as it was at `size`."""
        rows = self.rows if size is None else self.rows[:size]
        return Head(len(rows), root_of(row.leaf for row in rows))

    def of_kind(self, kind: Kind) -> list[Row]:
        """Every entry of a kind, oldest first."""
        return [row for row in self.rows if row.kind == kind]

    def messages(self, conversation_id: str) -> list[Row]:
        """Every message of a conversation, oldest first."""
        return [row for row in self.of_kind(Kind.MESSAGE) if row.columns.conversation == conversation_id]


class MemoryStore:
    """The `Store` protocol over a `MemoryLog`."""

    def __init__(
        self,
        log: MemoryLog | None = None,
        *,
        salt: Callable[[], bytes] = lambda: secrets.token_bytes(ledger.SALT_BYTES),
        store_id: Callable[[], bytes] = lambda: secrets.token_bytes(ledger.STORE_ID_BYTES),
    ) -> None:
        self._log = log or MemoryLog()
        self._salt = salt
        self._store_id = store_id
        self._closed = False

    async def __aenter__(self) -> Self:
        self._closed = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True

    def _open(self) -> MemoryLog:
        if self._closed:
            raise StoreClosed("the store was closed; open it again")
        return self._log

    # ---- writing ----

    async def append(self, group: Group) -> Appended:
        log = self._open()
        receipts = self._append(log, group)
        appended = Appended(receipts, log.head())
        await asyncio.sleep(0)
        return appended

    def _append(self, log: MemoryLog, group: Group) -> tuple[Receipt, ...]:
        bodies = [_check_draft(draft, first=index == 0) for index, draft in enumerate(group.drafts)]
        if group.drafts and (replay := _find_replay(log, group.drafts[0])) is not None:
            return (replay,)
        _check_guard(log, group)
        _check_names(log, group)
        # Nothing below this line can fail.
        receipts = []
        for draft, body in zip(group.drafts, bodies, strict=True):
            if not log.rows:
                self._write_genesis(log, draft.time_us)
            receipts.append(self._write(log, draft, body))
        for instance_id, seen_us in group.touch.items():
            log.leases[instance_id] = max(log.leases[instance_id], seen_us)
        return tuple(receipts)

    def _write_genesis(self, log: MemoryLog, time_us: int) -> None:
        log.store_id = self._store_id()
        body: Body = {"format": "ccn.entry/1", "program": f"ccn_mcp {__version__}"}
        self._write(log, Draft(Kind.GENESIS, time_us, body), jcs.encode(body))

    def _write(self, log: MemoryLog, draft: Draft, body: bytes) -> Receipt:
        assert log.store_id is not None
        seq, salt, columns = len(log.rows), self._salt(), columns_of(draft.kind, draft.body)
        previous = log.rows[-1].leaf if log.rows else ledger.NO_LEAF
        committed = ledger.commitment(salt, body, draft.blob)
        leaf = ledger.leaf_hash(
            ledger.entry_bytes(log.store_id, seq, draft.time_us, draft.kind, previous, committed)
        )
        n = None
        if draft.kind == Kind.MESSAGE and columns.conversation is not None:
            n = len(log.messages(columns.conversation)) + 1
        row = Row(seq, draft.time_us, draft.kind, leaf, committed, salt, body, draft.blob, columns, n)
        log.rows.append(row)
        if draft.kind == Kind.INSTANCE and columns.subject is not None:
            log.leases[columns.subject] = max(log.leases.get(columns.subject, draft.time_us), draft.time_us)
        return Receipt(seq, draft.time_us, row.content(), n)

    async def erase(self, redactions: Sequence[Draft], *, finish: bool = True) -> Erased:  # noqa: ARG002  # of the protocol; nothing is ever pending here
        log = self._open()
        if len(redactions) > ERASURES_PER_BATCH_MAX:
            raise TooLarge(f"at most {ERASURES_PER_BATCH_MAX} at once")
        targets = [_target(log, draft) for draft in redactions]
        items = [self._erase(log, draft, row) for draft, row in zip(redactions, targets, strict=True)]
        erased = Erased(tuple(items), log.head(), 0)
        await asyncio.sleep(0)
        return erased

    def _erase(self, log: MemoryLog, draft: Draft, row: Row) -> Erasure:
        columns = row.columns
        if row.body is None:
            return Erasure(row.seq, columns.conversation, columns.role, row.n, already=True)
        recorded = redaction_of(draft, SECRET, row.kind, columns)
        receipt = self._write(log, recorded, jcs.encode(recorded.body))
        row.salt = row.body = row.blob = None
        return Erasure(row.seq, columns.conversation, columns.role, row.n, redaction=receipt.seq)

    async def maintain(self, *, vacuum: bool = False) -> Maintained:
        done = Maintained(exists=bool(self._open().rows), vacuumed=vacuum and bool(self._log.rows))
        await asyncio.sleep(0)
        return done

    async def rotate_key(self, *, lost: bool = False) -> KeyChange:  # noqa: ARG002  # of the protocol
        if not self._open().rows:
            raise NoStore("nothing was written yet")
        raise KeyUnusable("missing", "this store keeps no key")

    # ---- reading ----

    async def info(self) -> StoreInfo:
        log = self._open()
        return StoreInfo(log.store_id, log.head(), conversations=len(log.of_kind(Kind.CONVERSATION)))

    async def records(self, query: RecordQuery) -> Sequence[Record]:
        log = self._open()
        rows = [row for row in log.rows if _fits(row, query)]
        if not rows and query.key is not None:
            left = key_tombstone(SECRET, query.principal or "", query.key)
            query = replace(query, principal=TOMBSTONE, key=left)
            rows = [row for row in log.rows if _fits(row, query)]
        if not query.oldest_first:
            rows.reverse()
        return [
            Record(
                row.seq, row.time_us, row.kind, None if row.body is None else row.content(), row.blob or b""
            )
            for row in rows[: query.limit]
        ]

    async def page(self, query: MessageQuery) -> MessagePage:
        log = self._open()
        _check_conversation(query.conversation_id, _conversation_ids(log.rows))
        matches = [
            row
            for row in log.messages(query.conversation_id)
            if (query.role is None or row.columns.role == query.role)
            and (query.since_us is None or row.time_us >= query.since_us)
            and (query.until_us is None or row.time_us < query.until_us)
        ]
        window = [
            row
            for row in matches
            if (query.after is None or row.seq > query.after)
            and (query.before is None or row.seq < query.before)
        ]
        shown = window[-query.limit :] if query.newest else window[: query.limit]
        if shown:
            older = sum(row.seq < shown[0].seq for row in matches)
            newer = sum(row.seq > shown[-1].seq for row in matches)
        else:
            older = 0 if query.after is None else sum(row.seq <= query.after for row in matches)
            newer = 0 if query.before is None else sum(row.seq >= query.before for row in matches)
        return MessagePage(tuple(map(_message, shown)), len(matches), older, newer)

    async def lines(self, query: LineQuery) -> Sequence[Line]:
        log = self._open()
        found = [
            Line(
                row.seq,
                row.time_us,
                row.columns.conversation or "",
                row.columns.role or "",
                row.columns.principal,
                row.text_of("name"),
                (row.columns.text or "")[:LINE_CHARS_MAX],
            )
            for row in log.of_kind(Kind.MESSAGE)
            if row.body is not None and _is_wanted(row, query)
        ]
        return found[: query.limit]

    async def search(self, query: SearchQuery) -> SearchPage:
        log = self._open()
        wanted = _wanted(query.text)
        found: list[tuple[int, Row]] = []
        for row in log.of_kind(Kind.MESSAGE):
            if row.body is None or not _in_reach(log, row, query):
                continue
            words = words_of(row.columns.text or "")
            counts = [sum(_same_word(word, *want) for word in words) for want in wanted]
            if all(counts):
                found.append((sum(counts), row))
        found.sort(key=lambda hit: (hit[0] if query.ranked else 0, hit[1].seq), reverse=True)
        hits = tuple(
            SearchHit(_message(row), _excerpt(row.columns.text or "", wanted))
            for _, row in found[: query.limit]
        )
        return SearchPage(hits, len(found) > query.limit, min(len(found), SEARCH_CANDIDATES_MAX))

    async def conversations(self, query: ConversationQuery) -> Sequence[Conversation]:
        log = self._open()
        every = [_conversation(log, row) for row in log.of_kind(Kind.CONVERSATION)]
        every.sort(key=lambda conversation: conversation.last_seq, reverse=True)
        return [
            conversation
            for conversation in every
            if (query.id is None or conversation.id == query.id)
            and (query.scope is None or conversation.scope == query.scope)
            and (query.before is None or conversation.last_seq < query.before)
            and (query.erased or not conversation.erased)
        ][: query.limit]

    async def seats(self, *, seen_since_us: int = 0, instance_id: str | None = None) -> Sequence[Seat]:
        log = self._open()
        if instance_id is not None:
            return (
                [seat for seat in [_seat(log, instance_id)] if seat.snapshot]
                if instance_id in log.leases
                else []
            )
        every = [_seat(log, name) for name, seen_us in log.leases.items() if seen_us >= seen_since_us]
        seats = [seat for seat in every if seat.snapshot]
        seats.sort(key=lambda seat: seat.seen_us, reverse=True)
        return seats[:VOTERS_MAX]

    async def verify(
        self,
        *,
        known_head: str | None = None,
        progress: Progress | None = None,
        deep: bool = False,
        newer: bool = False,
    ) -> Verification:
        log = self._open()
        await asyncio.sleep(0)  # so that nobody who verifies in a loop keeps the others from running
        known, fault = None, _first_fault(log, progress)
        if known_head is not None:
            size, _ = ledger.parse_head(known_head)
            known = size <= len(log.rows) and log.head(size).matches(known_head)
            if not known and fault is None:
                fault = Fault("known_head", None, None, f"the log never had the head {known_head}")
        if deep and fault is None:
            fault = _first_odd_body(log)
        since = ledger.parse_head(known_head)[0] if newer and known_head is not None else 0
        rows = log.rows[since:]
        times = [row.time_us for row in log.rows[max(0, since - 1) :]]
        matched = 0 if known_head is None or fault is not None else ledger.parse_head(known_head)[0]
        return Verification(
            level=_level(log, fault, matched if not since else 0),
            entries=len(log.rows),
            messages=sum(row.kind == Kind.MESSAGE for row in rows),
            erased=sum(row.body is None for row in rows),
            clock_regressions=sum(later < earlier for earlier, later in pairwise(times)),
            head=log.head(),
            fault=fault,
            known_head=known,
            matched_to=matched,
            since=since,
        )


def _level(log: MemoryLog, fault: Fault | None, matched: int) -> int | None:
    if fault is not None:
        return 0 if fault.code in ("body", "known_head") else None
    return level_of(1, signed_to=0, matched_to=matched, witnessed_to=0) if log.rows else None


# ---- checks before writing -------------------------------------------------------------------------------


def _check_draft(draft: Draft, *, first: bool) -> bytes:
    body = jcs.encode(draft.body)
    columns = columns_of(draft.kind, draft.body)
    if not -(2**63) <= draft.time_us < 2**63:
        raise BadInput("a time is a signed 64-bit number of microseconds")
    if columns.key is not None and not first:
        raise BadInput("only the first draft of a group may carry an idempotency key")
    if columns.key is not None and columns.principal is None:
        raise BadInput("an idempotency key has a principal beside it")
    if draft.kind == Kind.CONVERSATION and columns.conversation is None:
        raise BadInput("a conversation entry names its conversation")
    if draft.kind == Kind.INSTANCE and columns.subject is None:
        raise BadInput("an instance entry names its instance")
    return body


def _check_guard(log: MemoryLog, group: Group) -> None:
    guard = group.guard
    if guard is not None and any(row.kind in guard.kinds for row in log.rows[guard.size :]):
        raise StoreMoved("newer entries exist; read again and retry")


def _find_replay(log: MemoryLog, draft: Draft) -> Receipt | None:
    columns = columns_of(draft.kind, draft.body)
    if columns.key is None:
        return None
    for row in log.rows:
        if (row.columns.principal, row.columns.key) == (columns.principal, columns.key):
            if row.body is None:
                return _erased_answer(row, draft, columns.key)
            if not _says_the_same(row, draft):
                raise IdempotencyConflict(f"the key {columns.key!r} came before with another payload")
            return Receipt(row.seq, row.time_us, row.content(), row.n, replayed=True)
    if draft.kind == Kind.MESSAGE and draft.body.get("source") in REREAD:
        # What a hook or an import reads again, whatever key it comes under.
        conversation = columns.conversation
        while conversation is not None:
            for row in log.messages(conversation):
                if row.body is None and (row.columns.role, row.columns.text) == (columns.role, columns.text):
                    return Receipt(row.seq, row.time_us, {}, row.n, replayed=True)
            openings = [
                row for row in log.of_kind(Kind.CONVERSATION) if row.columns.conversation == conversation
            ]
            conversation = earlier_of(openings[0].columns.key) if openings else None
    return None


def _erased_answer(row: Row, draft: Draft, key: str) -> Receipt:
    if refusal := conflict(draft.kind, row.kind, row.seq, key):
        raise refusal
    left: Body = {"conversation": row.columns.conversation} if row.kind == Kind.CONVERSATION else {}
    return Receipt(row.seq, row.time_us, left, row.n, replayed=True)


def _says_the_same(row: Row, draft: Draft) -> bool:
    return same_payload(row.kind, row.content(), row.blob or b"", draft)


def _target(log: MemoryLog, draft: Draft) -> Row:
    seq = target_of(draft)
    if seq >= len(log.rows):
        raise NotFound(f"there is no entry {seq}")
    check_erasable(log.rows[seq].kind, seq)
    return log.rows[seq]


def _check_names(log: MemoryLog, group: Group) -> None:
    conversations = _conversation_ids(log.rows)
    instances = set(log.leases)
    for draft in group.drafts:
        columns = columns_of(draft.kind, draft.body)
        gone = [row for row in log.of_kind(Kind.CONVERSATION) if row.body is None]
        if draft.kind != Kind.CONVERSATION and columns.conversation in {
            row.columns.conversation for row in gone
        } - {None}:
            raise ConversationErased(f"the conversation {columns.conversation!r} was erased")
        if draft.kind == Kind.MESSAGE or (draft.kind == Kind.INSTANCE and columns.conversation is not None):
            _check_conversation(columns.conversation, conversations)
        if draft.kind == Kind.INSTANCE and columns.subject is not None:
            instances.add(columns.subject)
        if draft.kind == Kind.CONVERSATION and columns.conversation is not None:
            if columns.conversation in conversations:
                raise Conflict(f"the conversation {columns.conversation!r} exists already")
            conversations.add(columns.conversation)
    for instance_id in group.touch:
        if instance_id not in instances:
            raise UnknownInstance(f"there is no instance {instance_id!r}")


def _conversation_ids(rows: Iterable[Row]) -> set[str]:
    return {
        row.columns.conversation
        for row in rows
        if row.kind == Kind.CONVERSATION and row.columns.conversation is not None
    }


def _check_conversation(conversation_id: str | None, known: set[str]) -> None:
    if conversation_id not in known:
        raise UnknownConversation(f"there is no conversation {conversation_id!r}")


# ---- rows as values --------------------------------------------------------------------------------------


def _fits(row: Row, query: RecordQuery) -> bool:
    columns = kept_columns(row.kind, row.columns) if row.body is None else row.columns
    return (
        (not query.kinds or row.kind in query.kinds)
        and (query.subject is None or columns.subject == query.subject)
        and (not query.subjects or columns.subject in query.subjects)
        and (not query.seqs or row.seq in query.seqs)
        and (query.principal is None or columns.principal == query.principal)
        and (query.key is None or columns.key == query.key)
        and (query.after is None or row.seq > query.after)
    )


def _is_wanted(row: Row, query: LineQuery) -> bool:
    return (
        (not query.seqs or row.seq in query.seqs)
        and (query.conversation_id is None or row.columns.conversation == query.conversation_id)
        and (query.since_us is None or row.time_us >= query.since_us)
        and (query.until_us is None or row.time_us < query.until_us)
        and (query.person is None or query.person in (row.columns.principal, row.text_of("name")))
        and (query.after is None or row.seq > query.after)
        and (query.before is None or row.seq < query.before)
    )


def _message(row: Row) -> Message:
    columns = row.columns
    assert row.n is not None
    assert columns.conversation is not None
    return Message(
        seq=row.seq,
        time_us=row.time_us,
        n=row.n,
        conversation_id=columns.conversation,
        role=columns.role or "",
        text=None if row.body is None else columns.text,
        source=row.text_of("source") or "",
        name=row.text_of("name"),
        said_us=None if row.body is None else said_us(row.content()),
    )


def _conversation(log: MemoryLog, opening: Row) -> Conversation:
    assert opening.columns.conversation is not None
    messages = log.messages(opening.columns.conversation)
    last = messages[-1] if messages else opening
    return Conversation(
        id=opening.columns.conversation,
        seq=opening.seq,
        time_us=opening.time_us,
        scope=scope_of(opening.content()) if opening.body is not None else ERASED_SCOPE,
        title=opening.text_of("title"),
        session_id=opening.text_of("session"),
        messages=len(messages),
        last_seq=last.seq,
        last_us=last.time_us,
        erased=opening.body is None,
    )


def _seat(log: MemoryLog, instance_id: str) -> Seat:
    snapshot = [row for row in log.of_kind(Kind.INSTANCE) if row.columns.subject == instance_id][-1]
    reports = [row for row in log.of_kind(Kind.VECTOR) if row.columns.subject == instance_id]
    report = reports[-1] if reports and reports[-1].body is not None else None
    return Seat(
        instance_id=instance_id,
        snapshot=snapshot.content(),
        snapshot_seq=snapshot.seq,
        seen_us=log.leases[instance_id],
        report_seq=report.seq if report else None,
        report_us=report.time_us if report else None,
        report_body=report.content() if report and report.body is not None else None,
        report_blob=report.blob if report else None,
    )


# ---- words -----------------------------------------------------------------------------------------------


def _folded(text: str, keep: str = "") -> str:
    """Lower case without diacritics; everything that is no letter, digit or private character is a space."""
    characters = []
    for character in unicodedata.normalize("NFD", text):
        category = unicodedata.category(character)
        if category[0] in "LN" or category == "Co" or character in keep:
            characters.append(character.lower())
        elif category[0] != "M":
            characters.append(" ")
    return "".join(characters)


def words_of(text: str) -> list[str]:
    """The words of a message as the index sees them."""
    return _folded(text).split()


def _wanted(query: str) -> list[tuple[str, bool]]:
    """The words of a query, and whether each is a prefix."""
    found: list[tuple[str, str]] = re.findall(r"([^\s*]+)(\*?)", _folded(query, keep="*"))
    if not found:
        raise BadInput("the query has no word; give at least one letter or digit")
    return [(word, star == "*") for word, star in found]


def _same_word(word: str, wanted: str, prefix: bool) -> bool:
    return word.startswith(wanted) if prefix else word == wanted


def _in_reach(log: MemoryLog, row: Row, query: SearchQuery) -> bool:
    if query.conversation_id not in (None, row.columns.conversation):
        return False
    if query.role not in (None, row.columns.role):
        return False
    if query.before is not None and row.seq >= query.before:
        return False
    return query.scope is None or any(
        opening.body is not None and scope_of(opening.content()) == query.scope
        for opening in log.of_kind(Kind.CONVERSATION)
        if opening.columns.conversation == row.columns.conversation
    )


def _excerpt(text: str, wanted: list[tuple[str, bool]]) -> str:
    pieces = text.split()
    for at, piece in enumerate(pieces):
        if any(_same_word(word, *want) for word in words_of(piece) for want in wanted):
            return " ".join(pieces[max(0, at - 8) : at + 9])
    return text[:200]


# ---- verification ----------------------------------------------------------------------------------------


def _first_fault(log: MemoryLog, progress: Progress | None) -> Fault | None:
    previous = ledger.NO_LEAF
    redacted = {row.columns.subject for row in log.of_kind(Kind.REDACTION)}
    for seq, row in enumerate(log.rows):
        code = _row_fault(log, row, seq, previous, redacted)
        if code is not None:
            return Fault(code, seq, row.time_us, f"entry {seq} does not fit its hashes")
        previous = row.leaf
        if progress is not None:
            progress(seq + 1, len(log.rows))
    return None


def _first_odd_body(log: MemoryLog) -> Fault | None:
    for row in log.rows:
        if row.body is not None and jcs.encode(jcs.decode(row.body)) != row.body:
            return Fault("body", row.seq, row.time_us, f"the body of entry {row.seq} is not canonical")
    return None


def _row_fault(log: MemoryLog, row: Row, seq: int, previous: bytes, redacted: set[str | None]) -> str | None:
    if row.seq != seq or (row.kind == Kind.GENESIS) != (seq == 0):
        return "order"
    entry = ledger.entry_bytes(log.store_id or b"", seq, row.time_us, row.kind, previous, row.committed)
    if ledger.leaf_hash(entry) != row.leaf:
        return "leaf"
    if row.body is None or row.salt is None:
        return None if str(seq) in redacted else "missing"
    if ledger.commitment(row.salt, row.body, row.blob or b"") != row.committed:
        return "content"
    return None if columns_of(row.kind, row.content()) == row.columns else "columns"
