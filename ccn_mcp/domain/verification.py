"""Checking a log: every hash, every link, every query column, in one pass over the stored rows. Pure.

Hashes are taken over the stored bytes; nothing is re-serialised. A body is parsed only to compare the query
columns with it. The first fault ends the pass: after it, nothing that follows can be trusted anyway.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from ccn_mcp.domain.assurance import HOLDER, contradiction
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
from ccn_mcp.domain.models import Body, Claim, Fault, Verification
from ccn_mcp.domain.projection import ERASABLE, ERASED_SCOPE, Columns, columns_of, kept_columns, scope_of
from ccn_mcp.domain.verification_types import Row, Start, Tail

PROGRESS_EVERY: Final = 4_096
_REST: Final = struct.Struct(ENTRY.format.replace("12s16s", ""))
"""An entry without its tag and store id, which are the same throughout a log."""

EMPTY: Final = Head(0, EMPTY_ROOT)

_GENESIS, _MESSAGE, _VECTOR = int(Kind.GENESIS), int(Kind.MESSAGE), int(Kind.VECTOR)
_REDACTION, _INSTANCE, _CONVERSATION = int(Kind.REDACTION), int(Kind.INSTANCE), int(Kind.CONVERSATION)


class _Wrong(Exception):  # never leaves this module
    def __init__(self, code: str, detail: str, seq: int | None = None, time_us: int | None = None) -> None:
        super().__init__(detail)
        self.fault = Fault(code, seq, time_us, detail)


@dataclass
class _Sums:
    """What the rows add up to, to be compared with the derived tables at the end."""

    tree: Frontier = field(default_factory=Frontier)
    leaf: bytes = NO_LEAF
    last_us: int = 0
    begun: int = 0
    """How many entries there were before the first row."""

    messages: int = 0
    regressions: int = 0
    conversations: dict[str, list[int | str]] = field(default_factory=dict)
    instances: dict[str, list[int | None]] = field(default_factory=dict)
    erased: dict[int, tuple[str | None, str | None, str | None]] = field(default_factory=dict)
    redactions: dict[int, Body] = field(default_factory=dict)
    sizes: Sequence[int] = ()
    """Sizes that somebody claims a root for."""

    roots: dict[int, str] = field(default_factory=dict)
    """Roots (hex) at those sizes, as far as the rows reach."""

    strict: Fault | None = None
    """The first fault that the hashes alone would not show; after it the sums are off, so only hashes count."""


def verify_rows(
    rows: Iterable[Row],
    tail: Tail,
    *,
    known_head: str | None = None,
    claims: Sequence[Claim] = (),
    start: Start | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Check all rows in order against `tail`; the result carries the first fault, if any.

    With a `start`, only the rows from there on: `tail` then lists the conversations that they belong to, and no
    instances, and claims about earlier sizes are for the caller to check.

    `claims` are heads that others hold: each must be the root that the rows add up to at its size. `known_head`
    is the caller's own, and the answer says whether it matched.

    Raises:
        BadHead: `known_head` is not a head.
    """
    known = None if known_head is None else Claim(*parse_head(known_head), HOLDER)
    claimed = sorted({*claims, *(() if known is None else (known,))})
    sums = _begin(tail, start, [claim.size for claim in claimed])
    fault, chain_whole = _read(rows, tail, sums, progress, partly=start is not None)
    contradicted = [claim for claim in claimed if not claim.holds(sums.roots.get(claim.size))]
    if fault is None and contradicted:
        # The caller's own head first: it is what was asked about.
        first = known if known is not None and known in contradicted else contradicted[0]
        fault = contradiction(first, Head(sums.tree.size, sums.tree.root()))
    return Verification(
        level=1 if fault is None else 0 if chain_whole else None,
        entries=sums.tree.size,
        messages=sums.messages,
        erased=len(sums.erased),
        clock_regressions=sums.regressions,
        head=Head(sums.tree.size, sums.tree.root()),
        fault=fault,
        known_head=None
        if known is None or (fault is not None and fault.code != "known_head")
        else known not in contradicted,
        since=0 if start is None else sums.begun,
    )


def _begin(tail: Tail, start: Start | None, sizes: Sequence[int]) -> _Sums:
    if start is None:
        sums = _Sums(sizes=sizes)
    else:
        sums = _Sums(
            tree=start.tree,
            leaf=start.leaf,
            last_us=start.time_us,
            begun=start.tree.size,
            sizes=sizes,
            conversations=start.conversations,
        )
    sums.roots[sums.begun] = sums.tree.root().hex()
    sums.tree.completed = [] if tail.nodes is not None else None
    return sums


def _read(
    rows: Iterable[Row],
    tail: Tail,
    sums: _Sums,
    progress: Callable[[int, int], None] | None,
    *,
    partly: bool,
) -> tuple[Fault | None, bool]:
    """The first fault of the rows and of what the store says of them, and whether the hashes are those of one log."""
    chain_whole = False
    try:
        _check_rows(rows, tail, sums, progress)
        _check_head(sums, tail)
        chain_whole = True
        if sums.strict is None:
            _check_derived(sums, tail, partly=partly)
    except (struct.error, TypeError) as exc:
        # No entry that was ever hashed can hold it, and whoever wrote it has switched SQLite's checks off.
        at = sums.tree.size
        wrong_value = Fault("entry", at, None, f"entry {at} holds a value that no entry has: {exc}")
        return sums.strict or wrong_value, chain_whole
    except _Wrong as wrong:
        # A strict fault further up is nearer to where the trouble began.
        return sums.strict or wrong.fault, chain_whole
    return sums.strict, chain_whole


def _check_rows(  # noqa: C901  # the hot loop: a helper would cost a tenth of it
    rows: Iterable[Row],
    tail: Tail,
    sums: _Sums,
    progress: Callable[[int, int], None] | None,
) -> None:
    tree, previous, last_time = sums.tree, sums.leaf, sums.last_us
    pack, pack_rest, add_leaf, store_id = LENGTH.pack, _REST.pack, tree.append, tail.store_id
    no_blob = pack(0)
    fixed = b"\x00" + ENTRY_TAG + store_id
    stops = iter(sorted(size for size in {*sums.sizes} if size > tree.size))
    stop_at = next(stops, -1)
    if len(store_id) != STORE_ID_BYTES:
        # Packing would cut it to length, or fill it up.
        raise _Wrong("head", "the identity that the log keeps is not one", None)
    for expected, row in enumerate(rows, tree.size):
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
        if size == stop_at:
            sums.roots[size] = tree.root().hex()
            stop_at = next(stops, -1)
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
    elif kind == _REDACTION:
        target = body.get("target")
        if isinstance(target, str) and target.isascii() and target.isdigit():
            sums.redactions[int(target)] = body
    else:
        _note_instance(sums, seq, kind, str(body.get("instance")))


def _note_instance(sums: _Sums, seq: int, kind: int, instance: str) -> None:
    if kind == _INSTANCE:
        sums.instances.setdefault(instance, [seq, None])[0] = seq
    elif kind == _VECTOR and (known := sums.instances.get(instance)) is not None:
        known[1] = seq


def _note_erased(row: Row, sums: _Sums) -> None:
    """An erased entry keeps its place, the columns of `kept_columns` and its hashes, and nothing else."""
    seq, kind = row.seq, row.kind
    stays = kept_columns(kind, Columns(*row[10:]))
    wrong: tuple[str, str] | None = None
    if len(row.commitment) != HASH_BYTES:
        wrong = "entry", f"the content hash of entry {seq} is not one"
    elif seq == 0:
        wrong = "genesis", "the content of the log's genesis entry is gone"
    elif row.body is not None or row.salt is not None or row.blob is not None:
        wrong = "content", f"part of the content of entry {seq} is gone"
    elif kind not in ERASABLE:
        wrong = "erased", f"the content of entry {seq} is gone, whose kind is never erased"
    elif row.record_kind != kind or row[10:] != stays:
        wrong = "columns", f"entry {seq} was erased but queries still see content"
    elif kind != _MESSAGE and row.n is not None:
        wrong = "columns", f"entry {seq} has a position in a conversation but is no message"
    if wrong is not None:
        raise _Wrong(*wrong, seq, row.time_us)
    sums.erased[seq] = (row.conversation, row.role, row.subject)
    if kind == _MESSAGE:
        _count(sums, seq, row.time_us, row.conversation, row.n)
    elif kind == _CONVERSATION:
        sums.conversations[str(row.conversation)] = [seq, ERASED_SCOPE, 0, seq]
    else:
        _note_instance(sums, seq, kind, str(row.subject))


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


def _check_derived(sums: _Sums, tail: Tail, *, partly: bool) -> None:
    for seq, seen in sums.erased.items():
        redaction = sums.redactions.get(seq)
        if redaction is None or seen != tuple(map(redaction.get, ("conversation", "role", "about"))):
            raise _Wrong("erased", f"the content of entry {seq} is gone without a redaction entry", seq)
    if sums.tree.completed is not None and sorted(sums.tree.completed) != list(tail.nodes or ()):
        raise _Wrong("node", "the hashes that proofs are made from are not those of the entries", None)
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
    if sums.instances and not partly:
        name, kept = next(iter(sums.instances.items()))
        raise _Wrong("instance", f"the instance {name} is missing from the list", kept[0])
