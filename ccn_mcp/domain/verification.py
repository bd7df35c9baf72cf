"""Checking a log: every hash, every link, every query column, in one pass over the stored rows. Pure.

Hashes are taken over the stored bytes; nothing is re-serialised. A body is parsed only to compare the query
columns with it. The first fault ends the pass: after it, nothing that follows can be trusted anyway.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from ccn_mcp.domain.jcs import loads_trusted
from ccn_mcp.domain.ledger import (
    COMMIT_TAG,
    ENTRY,
    ENTRY_TAG,
    LENGTH,
    NO_LEAF,
    SALT_BYTES,
    STORE_ID_BYTES,
    Head,
    Kind,
    parse_head,
)
from ccn_mcp.domain.merkle import EMPTY_ROOT, HASH_BYTES, Frontier
from ccn_mcp.domain.models import Body, Fault, Verification
from ccn_mcp.domain.projection import columns_of, scope_of

PROGRESS_EVERY: Final = 4_096
_REST: Final = struct.Struct(ENTRY.format.replace("12s16s", ""))
"""An entry without its tag and store id, which are the same throughout a log."""

EMPTY: Final = Head(0, EMPTY_ROOT)

_GENESIS, _MESSAGE, _VECTOR = int(Kind.GENESIS), int(Kind.MESSAGE), int(Kind.VECTOR)
_REDACTION, _INSTANCE, _CONVERSATION = int(Kind.REDACTION), int(Kind.INSTANCE), int(Kind.CONVERSATION)


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
    the number of query rows without an entry.
    """

    store_id: bytes
    size: int
    leaf: bytes
    frontier: bytes
    conversations: Iterable[tuple[str, int, str, int, int]]
    instances: Iterable[tuple[str, int, int | None]]
    stray: int


class _Wrong(Exception):  # never leaves this module
    def __init__(self, code: str, detail: str, seq: int | None = None, time_us: int | None = None) -> None:
        super().__init__(detail)
        self.fault = Fault(code, seq, time_us, detail)


@dataclass
class _Sums:
    """What the rows add up to, to be compared with the derived tables at the end."""

    tree: Frontier = field(default_factory=Frontier)
    leaf: bytes = NO_LEAF
    messages: int = 0
    regressions: int = 0
    conversations: dict[str, list[int | str]] = field(default_factory=dict)
    instances: dict[str, list[int | None]] = field(default_factory=dict)
    erased: dict[int, tuple[str | None, str | None]] = field(default_factory=dict)
    redactions: dict[int, Body] = field(default_factory=dict)
    known: bool | None = None
    strict: Fault | None = None
    """The first fault that the hashes alone would not show; after it the sums are off, so only hashes count."""


def verify_rows(
    rows: Iterable[Row],
    tail: Tail,
    *,
    known_head: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Check all rows in order against `tail`; the result carries the first fault, if any.

    Raises:
        BadHead: `known_head` is not a head.
    """
    wanted = parse_head(known_head) if known_head is not None else None
    sums = _Sums(known=None if wanted is None else wanted[0] == 0 and EMPTY.matches(known_head or ""))
    chain_whole = False
    fault: Fault | None = None
    try:
        _check_rows(rows, tail, sums, wanted, progress)
        _check_head(sums, tail)
        chain_whole = True
        fault = sums.strict
        if fault is None:
            _check_derived(sums, tail)
    except (struct.error, TypeError) as exc:
        # No entry that was ever hashed can hold it, and whoever wrote it has switched SQLite's checks off.
        at = sums.tree.size
        fault = sums.strict or Fault("entry", at, None, f"entry {at} holds a value that no entry has: {exc}")
    except _Wrong as wrong:
        # A strict fault further up is nearer to where the trouble began.
        fault = sums.strict or wrong.fault
    if fault is None and wanted is not None and not sums.known:
        fault = _other_head(known_head or "", wanted[0], sums.tree)
    return Verification(
        level=1 if fault is None else 0 if chain_whole else None,
        entries=sums.tree.size,
        messages=sums.messages,
        erased=len(sums.erased),
        clock_regressions=sums.regressions,
        head=Head(sums.tree.size, sums.tree.root()),
        fault=fault,
        known_head=sums.known if fault is None or fault.code == "known_head" else None,
    )


def _check_rows(  # noqa: C901  # the hot loop: a helper would cost a tenth of it
    rows: Iterable[Row],
    tail: Tail,
    sums: _Sums,
    wanted: tuple[int, str] | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    tree, previous, last_time = sums.tree, NO_LEAF, 0
    pack, pack_rest, add_leaf, store_id = LENGTH.pack, _REST.pack, tree.append, tail.store_id
    no_blob = pack(0)
    fixed = b"\x00" + ENTRY_TAG + store_id
    stop_at = wanted[0] if wanted is not None else -1
    if len(store_id) != STORE_ID_BYTES:
        # Packing would cut it to length, or fill it up.
        raise _Wrong("head", "the identity that the log keeps is not one", None)
    for expected, row in enumerate(rows):
        seq, time_us, kind, leaf, commitment, salt, body, blob = row[:8]
        if seq != expected:
            raise _Wrong("gap", f"entry {expected} is missing: the next one there is entry {seq}", expected)
        if body is None or salt is None or blob is None:
            try:
                _note_erased(Row(*row), sums)
            except _Wrong as wrong:
                sums.strict = sums.strict or wrong.fault
        else:
            sealed = no_blob if not blob else pack(len(blob)) + blob
            # Nothing but its fixed length parts the salt from what follows it.
            if (
                len(salt) != SALT_BYTES
                or sha256(COMMIT_TAG + salt + pack(len(body)) + body + sealed).digest() != commitment
            ):
                raise _Wrong(
                    "content", f"the content of entry {seq} was changed after it was recorded", seq, time_us
                )
        previous = sha256(fixed + pack_rest(seq, time_us, kind, previous, commitment)).digest()
        if previous != leaf:
            raise _Wrong(
                "entry",
                f"entry {seq} does not match its hash: its time, kind, content hash or link to the entry "
                "before it was changed",
                seq,
                time_us,
            )
        if time_us < last_time:
            sums.regressions += 1
        last_time = time_us
        add_leaf(leaf)
        size = expected + 1
        if body is not None and sums.strict is None:
            try:
                _check_columns(row, sums)
            except _Wrong as wrong:
                sums.strict = wrong.fault
        if size == stop_at and wanted is not None:
            sums.known = tree.root().hex().startswith(wanted[1])
        if progress is not None and not size % PROGRESS_EVERY:
            progress(size, tail.size)
    sums.leaf = previous


def _check_columns(row: Row, sums: _Sums) -> None:
    seq, kind, data = row[0], row[2], row[6]
    try:
        body = loads_trusted(data or b"")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _Wrong("body", f"the body of entry {seq} is not a JSON object", seq, row[1])
    get = body.get
    # The common case first, without building what it is compared with; `columns_of` decides where they differ.
    told = (get("conversation"), None, get("role"), get("principal"), get("key"), get("text"))
    if row[8] != kind or ((kind != _MESSAGE or row[10:] != told) and row[10:] != columns_of(kind, body)):
        raise _Wrong(
            "columns",
            f"what queries see of entry {seq} differs from what was recorded: the query columns were changed",
            seq,
            row[1],
        )
    if kind == _MESSAGE:
        _count(sums, seq, row[1], row[10], row[9])
    elif row[9] is not None:
        raise _Wrong(
            "columns", f"entry {seq} has a position in a conversation but is no message", seq, row[1]
        )
    else:
        _note_other(sums, seq, kind, body, row[1])


def _count(sums: _Sums, seq: int, time_us: int, conversation: str | None, n: int | None) -> None:
    sums.messages += 1
    counted = sums.conversations.get(conversation or "")
    if counted is None:
        raise _Wrong(
            "conversation", f"entry {seq} belongs to a conversation that was never opened", seq, time_us
        )
    counted[2] += 1  # type: ignore[operator]  # [seq, scope, messages, last_seq]
    counted[3] = seq
    if counted[2] != n:
        raise _Wrong(
            "columns", f"entry {seq} is message {counted[2]} of its conversation but says {n}", seq, time_us
        )


def _note_other(sums: _Sums, seq: int, kind: int, body: Body, time_us: int) -> None:
    if (kind == _GENESIS) != (seq == 0):
        raise _Wrong("genesis", "the log does not begin with its one genesis entry", seq, time_us)
    if kind == _CONVERSATION:
        sums.conversations[str(body.get("conversation"))] = [seq, scope_of(body), 0, seq]
    elif kind == _INSTANCE:
        sums.instances.setdefault(str(body.get("instance")), [seq, None])[0] = seq
    elif kind == _VECTOR:
        known = sums.instances.get(str(body.get("instance")))
        if known is not None:
            known[1] = seq
    elif kind == _REDACTION:
        target = body.get("target")
        if isinstance(target, str) and target.isascii() and target.isdigit():
            sums.redactions[int(target)] = body


def _note_erased(row: Row, sums: _Sums) -> None:
    """An erased entry keeps its place, its role and its hashes, and nothing else."""
    if len(row.commitment) != HASH_BYTES:
        raise _Wrong("entry", f"the content hash of entry {row.seq} is not one", row.seq, row.time_us)
    if row.seq == 0:
        raise _Wrong("genesis", "the content of the log's genesis entry is gone", 0, row.time_us)
    if row.body is not None or row.salt is not None or row.blob is not None:
        raise _Wrong("content", f"part of the content of entry {row.seq} is gone", row.seq, row.time_us)
    if row.record_kind != row.kind or (row.subject, row.principal, row.key, row.text) != (None,) * 4:
        raise _Wrong(
            "columns", f"entry {row.seq} was erased but queries still see content", row.seq, row.time_us
        )
    sums.erased[row.seq] = (row.conversation, row.role)
    if row.kind == _MESSAGE:
        _count(sums, row.seq, row.time_us, row.conversation, row.n)


def _check_head(sums: _Sums, tail: Tail) -> None:
    tree = sums.tree
    if tree.size == 0:
        raise _Wrong("genesis", "the log is empty: its genesis entry is gone", 0)
    if tail.size != tree.size:
        raise _Wrong(
            "head",
            f"the log says that it has {tail.size} entries, but {tree.size} are there: "
            "the end was cut off or added to by something else",
            min(tree.size, max(tail.size, 0)),
        )
    if tail.leaf != sums.leaf:
        raise _Wrong("head", "the hash that the log keeps of its last entry is another one's", tree.size - 1)
    if tail.frontier != tree.to_bytes():
        raise _Wrong(
            "head", "the Merkle frontier that the log keeps is not that of its entries", tree.size - 1
        )


def _check_derived(sums: _Sums, tail: Tail) -> None:
    for seq, seen in sums.erased.items():
        redaction = sums.redactions.get(seq)
        if redaction is None or seen != (redaction.get("conversation"), redaction.get("role")):
            raise _Wrong("erased", f"the content of entry {seq} is gone without a redaction entry", seq)
    if tail.stray:
        raise _Wrong("columns", f"{tail.stray} query rows belong to no entry", None)
    for name, seq, scope, messages, last_seq in tail.conversations:
        if sums.conversations.pop(name, None) != [seq, scope, messages, last_seq]:
            raise _Wrong("conversation", f"the list of conversations is wrong about {name}", seq)
    if sums.conversations:
        name, counted = next(iter(sums.conversations.items()))
        raise _Wrong("conversation", f"the conversation {name} is missing from the list", int(counted[0]))
    for name, seq, report in tail.instances:
        if sums.instances.pop(name, None) != [seq, report]:
            raise _Wrong("instance", f"the list of instances is wrong about {name}", seq)
    if sums.instances:
        name, kept = next(iter(sums.instances.items()))
        raise _Wrong("instance", f"the instance {name} is missing from the list", kept[0])


def _other_head(text: str, size: int, tree: Frontier) -> Fault:
    if size > tree.size:
        detail = (
            f"the log is shorter than the head you hold: you hold {text}, the log ends at "
            f"{Head(tree.size, tree.root())}; it was cut off, or an older copy was put in its place"
        )
    else:
        detail = (
            f"the log was rewritten before entry {size}: you hold {text}, and its entries up to there "
            f"now have another root; it ends at {Head(tree.size, tree.root())}"
        )
    return Fault("known_head", None, None, detail)
