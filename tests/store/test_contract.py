"""The contract of `ccn_mcp.ports.Store`, run against every back end.

A new back end adds one branch to `make_backend` and its name to `BACKENDS`; nothing else here knows which
one it is testing. What only one back end can show (files, locks, attacks on the bytes) is tested elsewhere.
"""

from __future__ import annotations

import asyncio
import functools
import random
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

import anyio
import pytest

from ccn_mcp.domain import jcs, ledger
from ccn_mcp.domain.erasure import TOMBSTONE, key_tombstone, text_tombstone
from ccn_mcp.domain.errors import (
    BadHead,
    BadInput,
    CcnError,
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
from ccn_mcp.domain.limits import CONTENT_BYTES_MAX, ERASURES_PER_BATCH_MAX, LINE_CHARS_MAX, VOTERS_MAX
from ccn_mcp.domain.merkle import EMPTY_ROOT, Frontier
from ccn_mcp.domain.models import (
    Appended,
    Body,
    ConversationQuery,
    Draft,
    Erased,
    Erasure,
    Group,
    Guard,
    LineQuery,
    Message,
    MessagePage,
    MessageQuery,
    Receipt,
    Record,
    RecordQuery,
    SearchQuery,
)
from ccn_mcp.ports import Store
from tests.store.memory_store import SECRET, MemoryLog, MemoryStore
from tests.store.model import (
    T0,
    WORDS,
    Known,
    decision,
    found_in,
    opening,
    page_of,
    random_group,
    random_message_query,
    random_search,
    random_text,
    redaction,
    report,
    said,
    seeded,
    snapshot,
)

pytestmark = pytest.mark.anyio

BACKENDS = ("memory", "sqlite")
SALT = bytes(range(100, 116))
WAIT_S_MAX = 20
ALL = RecordQuery(oldest_first=True, limit=10_000)

P = ParamSpec("P")
T = TypeVar("T")


# ---- back ends -------------------------------------------------------------------------------------------


@dataclass
class Backend:
    """One log and the stores that are open on it.

    `make` gives another store on the same log, as another process would have it. `exists` tells whether
    anything has been written.
    """

    make: Callable[[], Store]
    exists: Callable[[], bool]
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def open(self) -> Store:
        """One more store on the log."""
        return await self.stack.enter_async_context(self.make())

    async def close(self) -> None:
        """Close every store."""
        await self.stack.aclose()

    async def reopen(self) -> Store:
        """Close every store; what a new one finds is what was durable."""
        await self.close()
        return await self.open()


def make_backend(name: str, folder: Path) -> Backend:
    """The back end called `name`, empty, with a known salt."""
    if name == "memory":
        log = MemoryLog()
        return Backend(lambda: MemoryStore(log, salt=lambda: SALT), lambda: bool(log.rows))
    if name == "sqlite":
        from ccn_mcp.store.sqlite.store import SqliteStore  # the suite runs without the others' drivers

        path = folder / "store" / "ccn.db"
        return Backend(
            lambda: SqliteStore(path, salt=lambda: SALT, secret=lambda _: SECRET), path.parent.exists
        )
    # if name == "postgres": skip without a server, fail without one under CI; a fresh schema per test.
    raise AssertionError(name)


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made = make_backend(request.param, tmp_path)
    yield made
    async with asyncio.timeout(WAIT_S_MAX):
        await made.close()


@pytest.fixture
async def store(backend: Backend) -> Store:
    return await backend.open()


def bounded(test: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    """A test that hangs fails."""

    @functools.wraps(test)
    async def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async with asyncio.timeout(WAIT_S_MAX):
            await test(*args, **kwargs)

    return run


# ---- shorthand -------------------------------------------------------------------------------------------


async def put(store: Store, *drafts: Draft, guard: Guard | None = None, **touch: int) -> Appended:
    return await store.append(Group(drafts, guard, touch))


async def opened(store: Store, *conversations: str) -> None:
    for conversation in conversations or ("c1",):
        await put(store, opening(conversation))


async def messages_of(store: Store, conversation: str = "c1") -> list[Message]:
    return list((await store.page(MessageQuery(conversation, limit=10_000))).messages)


async def texts_of(store: Store, conversation: str = "c1") -> list[str | None]:
    return [message.text for message in await messages_of(store, conversation)]


async def found(store: Store, text: str, limit: int = 100) -> list[str | None]:
    return [hit.message.text for hit in (await store.search(SearchQuery(text, limit))).hits]


async def lease_of(store: Store, instance: str = "i1") -> int:
    (seat,) = await store.seats(instance_id=instance)
    return seat.seen_us - T0


async def sound(store: Store) -> Head:
    """The log is whole; returns its head."""
    checked = await store.verify()
    assert checked.fault is None
    assert checked.level == 1
    info = await store.info()
    assert (checked.entries, checked.head) == (info.head.size, info.head)
    return checked.head


async def refused(store: Store, group: Group, error: type[CcnError]) -> None:
    """The group fails with `error` and leaves no trace, not even in what is beside the log."""
    before = await everything(store)
    with pytest.raises(error):
        await store.append(group)
    assert await everything(store) == before


async def everything(store: Store) -> list[object]:
    """All that can be asked of a store without knowing what is in it."""
    conversations = await store.conversations(ConversationQuery(limit=1_000))
    pages: list[object] = [
        await store.page(MessageQuery(conversation.id, limit=10_000)) for conversation in conversations
    ]
    return [await store.info(), await store.records(ALL), conversations, await store.seats(), *pages]


def receipt(appended: Appended) -> Receipt:
    (only,) = appended.receipts
    return only


# ---- an empty store --------------------------------------------------------------------------------------


@bounded
async def test_reading_a_store_that_does_not_exist_finds_it_empty_and_writes_nothing(
    backend: Backend,
) -> None:
    store = await backend.open()
    info = await store.info()
    assert (info.store_id, info.head) == (None, Head(0, EMPTY_ROOT))
    assert list(await store.records(ALL)) == []
    assert list(await store.conversations(ConversationQuery())) == []
    assert list(await store.seats()) == []
    assert list(await store.seats(instance_id="i1")) == []
    searched = await store.search(SearchQuery("word", 5))
    assert (searched.hits, searched.more) == ((), False)
    with pytest.raises(UnknownConversation):
        await store.page(MessageQuery("c1", limit=5))
    checked = await store.verify()
    assert (checked.level, checked.entries, checked.fault, checked.known_head) == (None, 0, None, None)
    assert checked.head == Head(0, EMPTY_ROOT)
    assert not backend.exists()
    await backend.close()
    assert not backend.exists()


@bounded
async def test_an_empty_store_has_had_the_empty_head_and_no_other(store: Store) -> None:
    assert (await store.verify(known_head=str(Head(0, EMPTY_ROOT)))).known_head is True
    checked = await store.verify(known_head="5:" + "ab" * 16)
    assert checked.known_head is False
    assert checked.fault is not None
    assert checked.fault.code == "known_head"


@bounded
async def test_the_first_draft_follows_the_genesis_entry(store: Store) -> None:
    appended = await put(store, opening())
    assert (receipt(appended).seq, appended.head.size) == (1, 2)
    first, second = await store.records(ALL)
    assert (first.seq, first.kind) == (0, Kind.GENESIS)
    assert (second.seq, second.kind) == (1, Kind.CONVERSATION)
    info = await store.info()
    assert info.store_id is not None
    assert len(info.store_id) == 16
    assert info.head == appended.head


@bounded
async def test_two_stores_have_two_identities(
    store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    other = make_backend(request.node.callspec.params["backend"], tmp_path / "other")
    second = await other.open()
    await put(store, opening())
    await put(second, opening())
    assert (await store.info()).store_id != (await second.info()).store_id
    await other.close()


@bounded
async def test_a_group_without_drafts_and_leases_does_nothing(store: Store) -> None:
    appended = await put(store)
    assert appended == Appended((), Head(0, EMPTY_ROOT))
    assert (await store.info()).store_id is None
    await opened(store)
    assert (await put(store)).head == (await store.info()).head


@bounded
async def test_a_refused_first_append_leaves_an_empty_store(store: Store) -> None:
    await refused(store, Group((said("hello"),)), UnknownConversation)
    info = await store.info()
    assert (info.store_id, info.head) == (None, Head(0, EMPTY_ROOT))
    assert (await store.verify()).level is None
    assert receipt(await put(store, opening())).seq == 1


# ---- append ----------------------------------------------------------------------------------------------


@bounded
async def test_receipts_name_position_time_body_and_place_in_the_conversation(store: Store) -> None:
    await opened(store, "c1", "c2")
    drafts = [said("one"), decision(at=1), said("uno", "c2", at=2), said("two", at=3)]
    appended = await put(store, *drafts)
    assert [(r.seq, r.time_us, r.body, r.n, r.replayed) for r in appended.receipts] == [
        (3, T0, drafts[0].body, 1, False),
        (4, T0 + 1, drafts[1].body, None, False),
        (5, T0 + 2, drafts[2].body, 1, False),
        (6, T0 + 3, drafts[3].body, 2, False),
    ]
    assert receipt(await put(store, said("three"))).n == 3
    assert [message.n for message in await messages_of(store)] == [1, 2, 3]


@bounded
async def test_what_was_appended_is_read_back_as_it_was(store: Store) -> None:
    await opened(store)
    drafts = [
        said("hello", at=5, role="assistant", name="Ada", source="hook"),
        report("i1", 0.1, -2.5, at=6),
        Draft(
            Kind.USAGE,
            T0 + 7,
            {"n": -1, "deep": [[], {}, {"a": [1, None, True, "x"]}], "": "", "big": 2**53 - 1},
        ),
        Draft(Kind.METRIC, T0 + 8, {}, bytes(range(256)) * 40),
    ]
    await put(store, *drafts)
    records = list(await store.records(replace(ALL, after=1)))
    assert [Draft(r.kind, r.time_us, r.body or {}, r.blob) for r in records] == drafts
    (message,) = await messages_of(store)
    assert message == Message(2, T0 + 5, 1, "c1", "assistant", "hello", "hook", "Ada")


@bounded
async def test_a_caller_who_changes_a_body_afterwards_changes_nothing(store: Store) -> None:
    draft = decision()
    kept = dict(draft.body)
    await put(store, draft)
    draft.body["group"] = "changed"
    (record,) = await store.records(RecordQuery(kinds=(Kind.CONSENSUS,)))
    assert record.body == kept
    await sound(store)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (0, 1, 9, 10)])
@bounded
async def test_every_kind_is_kept(store: Store, kind: Kind) -> None:
    await put(store, decision(kind=kind))
    (record,) = await store.records(RecordQuery(kinds=(kind,)))
    assert (record.seq, record.kind, record.body) == (1, kind, decision().body)
    await sound(store)


@bounded
async def test_a_group_larger_than_usual_is_one_unit(store: Store) -> None:
    appended = await put(store, opening(), *(said(str(number)) for number in range(500)))
    assert [r.n for r in appended.receipts[1:]] == list(range(1, 501))
    assert await texts_of(store) == [str(number) for number in range(500)]


@bounded
async def test_a_conversation_may_be_opened_and_used_in_one_group(store: Store) -> None:
    await put(store, opening("new"), said("hello", "new"), snapshot(conversation="new"))
    assert await texts_of(store, "new") == ["hello"]


@pytest.mark.parametrize(
    "draft",
    [
        said("x", "nowhere"),
        said("x", None),
        said("x", "C1"),
        said("x", "c1 "),
        said("x", ""),
        snapshot(conversation="nowhere"),
    ],
    ids=["unknown", "none", "other case", "space", "empty", "instance"],
)
@bounded
async def test_an_unknown_conversation_refuses_the_whole_group(store: Store, draft: Draft) -> None:
    await put(store, opening(), said("kept"), snapshot())
    await refused(
        store, Group((opening("c2"), said("lost"), draft), touch={"i1": T0 + 9}), UnknownConversation
    )
    with pytest.raises(UnknownConversation):
        await store.page(MessageQuery("c2", limit=1))
    assert await found(store, "lost") == []
    # The numbering goes on as if nothing had been tried.
    assert receipt(await put(store, said("next"))) == Receipt(4, T0, said("next").body, 2)
    await sound(store)


@bounded
async def test_a_conversation_opened_later_in_the_group_is_too_late(store: Store) -> None:
    await refused(store, Group((said("x", "c1"), opening("c1"))), UnknownConversation)


@bounded
async def test_a_conversation_cannot_be_opened_twice(store: Store) -> None:
    await put(store, opening(title="first"))
    await refused(store, Group((opening(title="second"),)), Conflict)
    await refused(store, Group((opening("c2"), opening("c2"))), Conflict)
    (conversation,) = await store.conversations(ConversationQuery())
    assert conversation.title == "first"


@bounded
async def test_a_refused_group_leaves_its_neighbours_alone(store: Store) -> None:
    """Some back ends write many groups in one transaction."""
    await opened(store)
    groups = [
        Group((said(f"{number}"), said("x", "nowhere" if number % 3 == 0 else "c1"))) for number in range(60)
    ]
    outcomes = await asyncio.gather(*map(store.append, groups), return_exceptions=True)
    for number, outcome in enumerate(outcomes):
        assert isinstance(outcome, UnknownConversation if number % 3 == 0 else Appended)
    assert sorted(map(str, await texts_of(store))) == sorted(
        [str(number) for number in range(60) if number % 3] + ["x"] * 40
    )
    assert [message.n for message in await messages_of(store)] == list(range(1, 81))
    await sound(store)


UNSTORABLE = {
    "lone surrogate": (said("a\ud800b"),),
    "U+0000": (said("a\x00b"),),
    "U+0000 in a name": (Draft(Kind.USAGE, T0, {"a\x00b": 1}),),
    "not a number": (Draft(Kind.USAGE, T0, {"n": float("nan")}),),
    "integer beyond 2^53": (Draft(Kind.USAGE, T0, {"n": 2**53}),),
    "time beyond 64 bits": (decision(at=2**63),),
    "a key that is not the first draft's": (said("a"), said("b", key="k1")),
    "a key twice": (said("a", key="k1"), said("a", key="k1")),
    "conversation without id": (Draft(Kind.CONVERSATION, T0, {}),),
    "instance without id": (Draft(Kind.INSTANCE, T0, {}),),
}


@pytest.mark.parametrize("drafts", UNSTORABLE.values(), ids=UNSTORABLE)
@bounded
async def test_what_cannot_be_stored_is_the_callers_error_and_nobody_elses(
    store: Store, drafts: tuple[Draft, ...]
) -> None:
    await opened(store)
    bad = Group((decision("lost"), *drafts)) if len(drafts) == 1 else Group(drafts)
    good = [Group((said(str(number)),)) for number in range(6)]
    groups = [*good[:3], bad, *good[3:]]
    outcomes = await asyncio.gather(*map(store.append, groups), return_exceptions=True)
    assert isinstance(outcomes[3], BadInput)
    assert all(isinstance(outcome, Appended) for outcome in (*outcomes[:3], *outcomes[4:]))
    assert sorted(map(str, await texts_of(store))) == list("012345")
    assert list(await store.records(RecordQuery(subject="lost"))) == []
    await sound(store)


# ---- guards ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.CONSENSUS, Kind.INSTANCE, Kind.MESSAGE, Kind.CONVERSATION])
@bounded
async def test_a_guard_lets_through_until_an_entry_of_its_kinds_comes(store: Store, kind: Kind) -> None:
    drafts = {
        Kind.CONSENSUS: decision(),
        Kind.INSTANCE: snapshot(),
        Kind.MESSAGE: said("x"),
        Kind.CONVERSATION: opening("c2"),
    }
    await opened(store)
    size = (await put(store, decision("before", kind=Kind.PLATE))).head.size
    guard = Guard((Kind.KEY, kind), size)
    await put(store, decision("other", kind=Kind.METRIC), guard=guard)
    seq = receipt(await put(store, drafts[kind], guard=guard)).seq
    await refused(store, Group((decision("late"),), guard), StoreMoved)
    await refused(store, Group((decision("late"),), replace(guard, size=seq)), StoreMoved)
    await put(store, decision("on time"), guard=replace(guard, size=seq + 1))
    await put(store, decision("no kinds"), guard=Guard((), 0))


@bounded
async def test_a_guard_on_an_empty_store_finds_nothing(store: Store) -> None:
    await put(store, decision(), guard=Guard((Kind.CONSENSUS,), 0))
    await refused(store, Group((decision(),), Guard((Kind.CONSENSUS,), 0)), StoreMoved)


@bounded
async def test_a_lost_guard_does_not_renew_leases_either(store: Store) -> None:
    await put(store, snapshot(), decision())
    await refused(store, Group((), Guard((Kind.CONSENSUS,), 0), {"i1": T0 + 9}), StoreMoved)
    assert await lease_of(store) == 0


@bounded
async def test_of_rivals_with_the_same_guard_exactly_one_wins(store: Store) -> None:
    await opened(store)
    for turn in range(10):
        guard = Guard((Kind.CONSENSUS,), (await store.info()).head.size)
        rivals = [Group((decision(f"{turn}/{n}"), decision(f"{turn}/{n}")), guard) for n in range(5)]
        outcomes = await asyncio.gather(*map(store.append, rivals), return_exceptions=True)
        winners = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Appended)]
        assert len(winners) == 1
        assert sum(isinstance(outcome, StoreMoved) for outcome in outcomes) == 4
        records = await store.records(RecordQuery((Kind.CONSENSUS,), after=guard.size - 1, limit=9))
        assert [r.body and r.body["group"] for r in records] == [f"{turn}/{winners[0]}"] * 2
    await sound(store)


# ---- idempotency -----------------------------------------------------------------------------------------


@bounded
async def test_a_repeated_key_gives_the_first_answer_and_writes_nothing(store: Store) -> None:
    await put(store, opening(), snapshot())
    first = await put(store, said("hello", key="k1", at=1), said("more"))
    before = await everything(store)
    again = await store.append(
        Group((said("hello", key="k1", at=99, source="hook"), said("else"), opening()), touch={"i1": T0 + 50})
    )
    assert again.receipts == (replace(first.receipts[0], replayed=True),)
    assert again.head == first.head
    assert await everything(store) == before
    assert receipt(await put(store, said("new", key="k2"))).seq == again.head.size


@bounded
async def test_a_key_with_another_payload_is_a_conflict(store: Store) -> None:
    await put(store, opening(), opening("c2"))
    await put(store, said("hello", key="k1"))
    for other in (
        said("bye", key="k1"),
        said("hello", "c2", key="k1"),
        said("hello", key="k1", role="assistant"),
    ):
        await refused(store, Group((other,)), IdempotencyConflict)
    await refused(store, Group((opening("c3", key="k1"),)), IdempotencyConflict)
    await put(store, report("i1", 0.5, key="v1"))
    assert receipt(await put(store, report("i1", 0.5, key="v1", at=9))).replayed
    await refused(store, Group((report("i1", 0.25, key="v1"),)), IdempotencyConflict)


@bounded
async def test_a_key_belongs_to_its_principal_and_is_taken_literally(store: Store) -> None:
    await opened(store)
    keys = ["k", "K", "k ", " k", "é", "e\u0301", "%", "_", "", "'", "\ufeff", "🙂"]
    for principal in ("me", "you", "Me", "me "):
        for key in keys:
            appended = await put(store, said(f"{principal}{key}", key=key, principal=principal))
            assert not receipt(appended).replayed
    assert len(await messages_of(store)) == 4 * len(keys)
    for principal in ("me", "you"):
        for key in keys:
            assert receipt(await put(store, said(f"{principal}{key}", key=key, principal=principal))).replayed
            (record,) = await store.records(RecordQuery(principal=principal, key=key, limit=9))
            assert record.body
            assert record.body["text"] == f"{principal}{key}"
    assert list(await store.records(RecordQuery(principal="they", key="k"))) == []


@bounded
async def test_a_key_without_a_principal_is_refused_since_it_could_double(store: Store) -> None:
    await opened(store)
    await refused(store, Group((said("hello", key="k1", principal=None),)), BadInput)
    assert not receipt(await put(store, said("hello", key="k1"))).replayed


@bounded
async def test_a_replay_comes_before_unknown_names_and_the_guard(store: Store) -> None:
    await opened(store)
    first = receipt(await put(store, said("hello", key="k1")))
    again = Group((said("hello", key="k1"), said("x", "nowhere")), touch={"nobody": T0})
    assert receipt(await store.append(again)) == replace(first, replayed=True)
    guarded = replace(again, guard=Guard((Kind.CONVERSATION,), 0))
    assert receipt(await store.append(guarded)) == replace(first, replayed=True)


@bounded
async def test_opening_with_a_key_may_be_repeated(store: Store) -> None:
    first = await put(store, opening("c1", session="s1", key="k1"))
    again = await put(store, opening("c2", session="s1", key="k1"))
    assert receipt(again) == replace(receipt(first), replayed=True)
    assert receipt(again).body["conversation"] == "c1"
    await refused(store, Group((opening("c3", session="s2", key="k1"),)), IdempotencyConflict)


@bounded
async def test_a_refused_group_does_not_use_up_its_key(store: Store) -> None:
    await opened(store)
    await refused(store, Group((said("hello", key="k1"), said("x", "nowhere"))), UnknownConversation)
    assert not receipt(await put(store, said("another", key="k1"))).replayed


@bounded
async def test_retries_that_run_beside_the_original_write_once(store: Store) -> None:
    await opened(store)
    groups = [Group((said(f"{n}", key=f"k{n}"), said(f"{n}b"))) for n in range(10) for _ in range(6)]
    seeded(3).shuffle(groups)
    outcomes = await asyncio.gather(*map(store.append, groups))
    seqs: dict[str, set[int]] = {}
    originals = 0
    for group, outcome in zip(groups, outcomes, strict=True):
        originals += not outcome.receipts[0].replayed
        assert len(outcome.receipts) == (1 if outcome.receipts[0].replayed else 2)
        seqs.setdefault(str(group.drafts[0].body["key"]), set()).add(outcome.receipts[0].seq)
        assert outcome.head.size > outcome.receipts[0].seq
    assert originals == 10
    assert all(len(found) == 1 for found in seqs.values())
    assert sorted(map(str, await texts_of(store))) == sorted(f"{n}{s}" for n in range(10) for s in ("", "b"))
    await sound(store)


# ---- leases and seats ------------------------------------------------------------------------------------


@bounded
async def test_a_lease_is_renewed_and_never_moves_backwards(store: Store) -> None:
    await put(store, snapshot(at=10))
    head = (await store.info()).head
    steps = ((20, 20), (15, 20), (30, 30), (0, 30))
    for seen, lease in steps:
        appended = await put(store, i1=T0 + seen)
        assert (appended.receipts, appended.head) == ((), head)
        assert await lease_of(store) == lease
    await put(store, snapshot(at=25))
    assert await lease_of(store) == 30
    await put(store, snapshot(at=40), i1=T0 + 35)
    assert await lease_of(store) == 40
    await put(store, snapshot(at=41), i1=T0 + 50)
    assert await lease_of(store) == 50
    await sound(store)


@bounded
async def test_touching_an_unknown_instance_refuses_the_whole_group(store: Store) -> None:
    await put(store, opening(), snapshot(), report("i2", 0.5))
    await refused(store, Group((said("lost"),), touch={"i1": T0 + 9, "i2": T0 + 9}), UnknownInstance)
    await refused(store, Group(touch={"i1": T0 + 9, "I1": T0 + 9}), UnknownInstance)
    await put(store, snapshot("i2"), i1=T0 + 9, i2=T0 + 9)
    assert (await lease_of(store), await lease_of(store, "i2")) == (9, 9)


@bounded
async def test_touching_in_an_empty_store_is_refused(store: Store) -> None:
    await refused(store, Group(touch={"i1": T0}), UnknownInstance)


@bounded
async def test_a_seat_shows_the_newest_snapshot_and_report(store: Store) -> None:
    await put(store, opening(), snapshot(at=1, conversation="c1"))
    (seat,) = await store.seats()
    assert (seat.instance_id, seat.snapshot_seq, seat.snapshot["conversation"]) == ("i1", 2, "c1")
    assert (seat.report_seq, seat.report_us, seat.report_body, seat.report_blob) == (None,) * 4
    newest = report("i1", 0.5, -1.0, at=3)
    await put(store, report("i1", 0.25, at=4), newest, report("i2", 0.75), snapshot(state="flagged", at=0))
    (seat,) = await store.seats()
    assert (seat.snapshot, seat.snapshot_seq) == (snapshot(state="flagged").body, 6)
    assert (seat.report_seq, seat.report_us, seat.report_body, seat.report_blob) == (
        4,
        T0 + 3,
        newest.body,
        newest.blob,
    )
    assert seat.seen_us == T0 + 1  # a report renews nothing by itself


@bounded
async def test_seats_come_by_last_sight_since_a_time_or_by_name(store: Store) -> None:
    seen = {"i1": 50, "i2": 10, "i3": 40, "i4": 20}
    await put(store, *(snapshot(name, at=at) for name, at in seen.items()))
    assert [seat.instance_id for seat in await store.seats()] == ["i1", "i3", "i4", "i2"]
    await put(store, i2=T0 + 45)
    assert [s.instance_id for s in await store.seats(seen_since_us=T0 + 40)] == ["i1", "i2", "i3"]
    assert [s.instance_id for s in await store.seats(seen_since_us=T0 + 41)] == ["i1", "i2"]
    assert list(await store.seats(seen_since_us=T0 + 51)) == []
    assert [s.instance_id for s in await store.seats(instance_id="i4")] == ["i4"]
    assert list(await store.seats(instance_id="i5")) == []


@bounded
async def test_seats_beyond_the_maximum_are_left_out(store: Store) -> None:
    surplus = 30
    drafts = [snapshot(f"i{n}", at=n) for n in range(VOTERS_MAX + surplus)]
    for start in range(0, len(drafts), 400):
        await put(store, *drafts[start : start + 400])
    seats = await store.seats()
    assert [s.seen_us - T0 for s in seats] == list(range(VOTERS_MAX + surplus - 1, surplus - 1, -1))
    assert [s.instance_id for s in await store.seats(instance_id="i0")] == ["i0"]


# ---- entries ---------------------------------------------------------------------------------------------


@bounded
async def test_entries_are_found_by_kind_subject_position_and_key(store: Store) -> None:
    await put(store, opening(), snapshot("i1"), snapshot("i2"), report("i1", 0.5), report("i2", 0.5))
    await put(store, report("i1", 0.75, key="k1"), said("x"), decision("i1"))

    async def seqs(**query: object) -> list[int]:
        made = replace(RecordQuery(limit=100), **query)  # type: ignore[arg-type]  # names are checked by replace
        return [record.seq for record in await store.records(made)]

    assert await seqs() == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert await seqs(oldest_first=True) == list(range(9))
    assert await seqs(limit=1) == [8]
    assert await seqs(limit=3, oldest_first=True) == [0, 1, 2]
    assert await seqs(kinds=(Kind.VECTOR,)) == [6, 5, 4]
    assert await seqs(kinds=(Kind.MESSAGE,)) == [7]
    assert await seqs(kinds=(Kind.MESSAGE, Kind.VECTOR), oldest_first=True) == [4, 5, 6, 7]
    assert await seqs(kinds=(Kind.ANCHOR,)) == []
    assert await seqs(subject="i1") == [8, 6, 4, 2]
    assert await seqs(subject="i1", kinds=(Kind.VECTOR, Kind.INSTANCE)) == [6, 4, 2]
    assert await seqs(subject="I1") == []
    assert await seqs(seqs=(3, 0, 7, 7, 99)) == [7, 3, 0]
    assert await seqs(seqs=(7, 3), oldest_first=True) == [3, 7]
    assert await seqs(seqs=(3, 7), kinds=(Kind.MESSAGE,)) == [7]
    assert await seqs(principal="me", key="k1") == [6]
    assert await seqs(principal="me", key="k1", kinds=(Kind.MESSAGE,)) == []
    assert await seqs(after=5) == [8, 7, 6]
    assert await seqs(after=5, oldest_first=True, limit=2) == [6, 7]
    assert await seqs(after=8) == []
    assert await seqs(after=3, kinds=(Kind.VECTOR,), subject="i1", oldest_first=True) == [4, 6]
    assert await seqs(after=-1, oldest_first=True, limit=1) == [0]


@bounded
async def test_walking_the_log_by_position_meets_every_entry_once(store: Store) -> None:
    await put(store, opening(), *(said(str(n)) for n in range(50)))
    met: list[int] = []
    while records := await store.records(
        RecordQuery(oldest_first=True, after=met[-1] if met else None, limit=7)
    ):
        met += [record.seq for record in records]
        assert len(met) <= 52
    assert met == list(range(52))


# ---- conversations ---------------------------------------------------------------------------------------


@bounded
async def test_a_conversation_shows_how_far_it_has_come(store: Store) -> None:
    await put(store, opening("c1", at=5, scope="work", title="Äpfel", session="s1"), opening("c2", at=6))
    one, two = sorted(await store.conversations(ConversationQuery()), key=lambda c: c.id)
    assert (one.id, one.seq, one.time_us, one.scope, one.title, one.session_id) == (
        "c1",
        1,
        T0 + 5,
        "work",
        "Äpfel",
        "s1",
    )
    assert (one.messages, one.last_seq, one.last_us) == (0, 1, T0 + 5)
    assert (two.scope, two.title, two.session_id) == ("default", None, None)
    await put(store, said("a", at=50), said("b", at=20), decision())
    (one,) = await store.conversations(ConversationQuery(id="c1"))
    assert (one.messages, one.last_seq, one.last_us) == (2, 4, T0 + 20)
    assert (one.seq, one.time_us) == (1, T0 + 5)


@bounded
async def test_conversations_come_by_last_activity_and_page_without_gaps(store: Store) -> None:
    rng = seeded(5)
    ids = [f"c{n}" for n in range(25)]
    await put(store, *(opening(c, scope="work" if n % 3 else None) for n, c in enumerate(ids)))
    order = list(ids)
    for _ in range(60):
        c = rng.choice(ids[:20])
        await put(store, said("x", c, at=rng.randint(0, 99)))
        order.remove(c)
        order.append(c)
    order.reverse()
    for scope, expected in (
        (None, order),
        ("work", [c for c in order if int(c[1:]) % 3]),
        ("default", [c for c in order if int(c[1:]) % 3 == 0]),
        ("nowhere", []),
    ):
        for limit in (1, 4, 25, 100):
            met: list[str] = []
            before: int | None = None
            while page := await store.conversations(ConversationQuery(limit, scope, before)):
                assert len(page) <= limit
                met += [conversation.id for conversation in page]
                assert len(met) <= len(expected)
                before = page[-1].last_seq
            assert met == expected
    assert list(await store.conversations(ConversationQuery(id="nowhere"))) == []
    assert list(await store.conversations(ConversationQuery(id="c1", scope="default"))) == []


@bounded
async def test_the_store_knows_how_many_conversations_were_opened(store: Store, backend: Backend) -> None:
    assert (await store.info()).conversations == 0
    await refused(store, Group((said("hello", "nowhere"),)), UnknownConversation)
    assert (await store.info()).conversations == 0
    for n in range(30):
        await put(store, opening(f"c{n}", scope="work" if n % 3 else None), said("x", f"c{n}"))
        assert (await store.info()).conversations == n + 1
    await refused(store, Group((opening("c1"),)), Conflict)
    assert (await store.info()).conversations == 30
    assert (await (await backend.reopen()).info()).conversations == 30


# ---- pages -----------------------------------------------------------------------------------------------


async def long_conversation(store: Store, rng: random.Random) -> list[Message]:
    """Messages with holes in their positions, times that repeat and run backwards, several roles."""
    await opened(store, "c1", "c2")
    every = []
    for n in range(1, 24):
        role = rng.choice(["user", "user", "assistant"])
        draft = said(f"text {n}", at=rng.choice([n, n, n - 3, n // 4]), role=role)
        drafts = [draft, *rng.sample([said("elsewhere", "c2"), decision()], rng.randint(0, 2))]
        appended = (await put(store, *drafts)).receipts[0]
        every.append(Message(appended.seq, draft.time_us, n, "c1", role, f"text {n}", "tool"))
    return every


@pytest.mark.parametrize("seed", range(2))
@bounded
async def test_every_page_is_what_a_plain_list_gives(store: Store, seed: int) -> None:
    rng = seeded(seed)
    every = await long_conversation(store, rng)
    for _ in range(300):
        query = random_message_query(rng, every)
        assert await store.page(query) == page_of(every, query), query


@pytest.mark.parametrize("newest", [True, False])
@bounded
async def test_pages_at_every_boundary(store: Store, newest: bool) -> None:
    every = (await long_conversation(store, seeded(9)))[:6]
    bounds = [None, *range(every[0].seq - 1, every[-1].seq + 2)]
    full = await messages_of(store)
    for before in bounds:
        for limit in (1, 5, 23):
            for after in bounds[:1] if before else bounds:
                query = MessageQuery("c1", limit, newest, before, after)
                assert await store.page(query) == page_of(full, query), query


@pytest.mark.parametrize("limit", [1, 2, 7, 23, 50])
@bounded
async def test_walking_in_either_direction_meets_every_message_once(store: Store, limit: int) -> None:
    every = await long_conversation(store, seeded(1))
    met: list[Message] = []
    page = await store.page(MessageQuery("c1", limit))
    while page.messages:
        met[:0] = page.messages
        assert len(met) <= len(every)
        assert (page.older, page.newer) == (len(every) - len(met), len(met) - len(page.messages))
        page = await store.page(MessageQuery("c1", limit, before=page.messages[0].seq))
    assert (met, page) == (every, MessagePage((), len(every), 0, len(every)))
    met = []
    page = await store.page(MessageQuery("c1", limit, newest=False))
    while page.messages:
        met += page.messages
        assert len(met) <= len(every)
        page = await store.page(MessageQuery("c1", limit, newest=False, after=page.messages[-1].seq))
    assert (met, page) == (every, MessagePage((), len(every), len(every), 0))


@bounded
async def test_a_page_of_a_conversation_without_messages_is_empty(store: Store) -> None:
    await opened(store, "c1", "c2")
    await put(store, said("x", "c2"))
    for query in (MessageQuery("c1", 5), MessageQuery("c1", 5, before=9), MessageQuery("c1", 5, after=0)):
        assert await store.page(query) == MessagePage((), 0, 0, 0)
    with pytest.raises(UnknownConversation):
        await store.page(MessageQuery("C1", 5))


@bounded
async def test_a_page_belongs_to_one_state_of_a_growing_log(store: Store) -> None:
    await opened(store)
    writers = asyncio.gather(*(put(store, said(str(n), role="user")) for n in range(300)))
    seen = 0
    while not writers.done():
        page, filtered = await asyncio.gather(
            store.page(MessageQuery("c1", 20)), store.page(MessageQuery("c1", 20, role="user"))
        )
        for one in (page, filtered):
            numbers = [message.n for message in one.messages]
            assert numbers == list(range(one.older + 1, one.older + 1 + len(numbers)))
            assert one.total == one.older + len(numbers) + one.newer
        assert page.total >= seen
        seen = page.total
        await asyncio.sleep(0)
    await writers
    assert (await store.page(MessageQuery("c1", 20))).total == 300


# ---- text ------------------------------------------------------------------------------------------------

TEXTS = [
    "é",
    "e\u0301",
    "\ufeffwith a BOM",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🇳🇿",
    "\U0010ffff\U00010000\ue000\ufffd\ufffe\uffff",
    "\u0001\u001f\u007f\u0085\u2028\u2029",
    "line\r\nline\rline\n",
    "  outer spaces\t",
    "\u202eright to left\u202c שלום مرحبا",
    "'; DROP TABLE entry; --\" %s %(x)s ?1 :x $1 \\u0041 \\x00",
    "Ⅷ ﬁ ½ ß ẞ İ \u0131 Σς",
    "",
    " ",
]


@bounded
async def test_text_comes_back_byte_for_byte(store: Store, backend: Backend) -> None:
    await put(store, *(opening(f"c{n}", title=text) for n, text in enumerate(TEXTS)))
    await put(store, *(said(text, "c0", name=text) for text in TEXTS))
    for again in (False, True):
        kept = await backend.reopen() if again else store
        messages = await messages_of(kept, "c0")
        assert [(m.text or "").encode() for m in messages] == [text.encode() for text in TEXTS]
        assert [(m.name or "").encode() for m in messages] == [text.encode() for text in TEXTS]
        for n, text in enumerate(TEXTS):
            (conversation,) = await kept.conversations(ConversationQuery(id=f"c{n}"))
            assert conversation.title == text
        await sound(kept)
    assert unicodedata.normalize("NFC", TEXTS[1]) == TEXTS[0]  # the list does hold both forms


@bounded
async def test_the_largest_message_comes_back_byte_for_byte(store: Store) -> None:
    rng = seeded(2)
    letters = "aé€😀\n b\u0301"
    text = "".join(rng.choices(letters, k=CONTENT_BYTES_MAX // 3))
    while len(text.encode()) > CONTENT_BYTES_MAX:
        text = text[:-1000]
    text += "x" * (CONTENT_BYTES_MAX - len(text.encode()))
    assert len(text.encode()) == CONTENT_BYTES_MAX
    await opened(store)
    await put(store, said(text, key="k1"))
    assert receipt(await put(store, said(text, key="k1"))).replayed
    assert await texts_of(store) == [text]
    (record,) = await store.records(RecordQuery(kinds=(Kind.MESSAGE,)))
    assert record.body
    assert record.body["text"] == text
    assert receipt(await put(store, said("next"))).n == 2
    await sound(store)


# ---- search ----------------------------------------------------------------------------------------------


@bounded
async def test_search_finds_what_a_plain_list_gives(store: Store) -> None:
    rng = seeded(4)
    await put(store, opening("c1"), opening("c2", scope="work"), opening("c3", scope="work"))
    every: list[Known] = []
    for _ in range(120):
        conversation, role = rng.choice(["c1", "c2", "c3"]), rng.choice(["user", "assistant"])
        words = rng.choices(list(WORDS), k=rng.randint(1, 6))
        seq = receipt(await put(store, said(random_text(rng, words), conversation, role=role))).seq
        scope = "default" if conversation == "c1" else "work"
        every.append(Known(seq, conversation, scope, role, frozenset(words)))
    texts = {record.seq: (record.body or {}).get("text") for record in await store.records(ALL)}
    some = 0
    for _ in range(400):
        query, wanted = random_search(rng)
        expected = found_in(every, query, wanted)
        page = await store.search(query)
        seqs = [hit.message.seq for hit in page.hits]
        if query.ranked:
            assert len(seqs) == len(set(seqs)) == min(len(expected), query.limit), query
            assert set(seqs) <= set(expected), query
        else:
            assert seqs == expected[: query.limit], query
        assert page.more is (len(expected) > query.limit), query
        assert page.candidates >= len(seqs)
        assert all(hit.message.text == texts[hit.message.seq] for hit in page.hits)
        some += len(expected) > 0
    assert some > 100  # the queries are not all too narrow to mean anything


@pytest.mark.parametrize(
    "text",
    [
        'light "harbour',
        "light AND harbour",
        "light OR harbour",
        "light NOT harbour",
        "NEAR(light harbour)",
        "NEAR/3 light harbour",
        "-light -harbour",
        "text:light harbour",
        "{text}: light harbour",
        "(light harbour",
        "light + harbour",
        "^light harbour;",
        "light' OR '1'='1 harbour",
        "* light* harb* *",
        "light\\ % harbour",
        "light/harbour",
        "light\u200bharbour",
        "LÍGHT hárbour",
        "«light» harbour…",
    ],
)
@bounded
async def test_nothing_in_a_query_is_syntax(store: Store, text: str) -> None:
    """`words` has all that the queries contain, operators included, and so matches every one of them."""
    words = "harbour light and or not near 3 text 1 ' \" and the rest"
    await put(store, opening(), said(words), said("light"), said("harbour"))
    assert await found(store, text) == [words]


@pytest.mark.parametrize(
    "text", ["", "   ", "*", '"', '""', "-", "( )", ":", "🙂", "\u0301", "…", "'", "_", "\t\n"]
)
@bounded
async def test_a_query_without_a_word_is_refused(store: Store, text: str) -> None:
    with pytest.raises(BadInput):
        await store.search(SearchQuery(text, 5))
    await put(store, opening(), said("word"))
    with pytest.raises(BadInput):
        await store.search(SearchQuery(text, 5))


@pytest.mark.parametrize(
    ("stored", "query"),
    [
        ("café", "cafe\u0301"),
        ("cafe\u0301", "CAFÉ"),
        ("cafe\u0301s de nuit", "cafés"),
        ("cafés de nuit", "cafe\u0301s"),
        ("Tiếng Việt", "tieng viet"),
        ("Tie\u0302\u0301ng", "tiếng"),
        ("Ελλάδα", "ΕΛΛΆΔΑ"),
        ("ЁЛКА", "ёлка"),
        ("naïveté", "NAIVE*"),
        ("北京 市", "北京"),
        ("x²", "x²"),
        ("snake_case", "snake"),
        ("don't", "don't"),
    ],
)
@bounded
async def test_case_and_diacritics_do_not_matter(store: Store, stored: str, query: str) -> None:
    await put(store, opening(), said(stored), said("nothing of the kind"))
    assert await found(store, query) == [stored]


@bounded
async def test_a_star_makes_a_prefix_of_its_own_word_only(store: Store) -> None:
    await put(store, opening(), said("harbour lights"), said("harbour light"), said("harbours light"))
    assert await found(store, "harbour light") == ["harbour light"]
    assert await found(store, "harbour light*") == ["harbour light", "harbour lights"]
    assert await found(store, "harbour* light") == ["harbours light", "harbour light"]
    assert await found(store, "arbour*") == []


@bounded
async def test_a_page_between_any_two_positions_says_what_lies_on_either_side(store: Store) -> None:
    await opened(store, "c1", "c2")
    for n in range(12):
        await put(store, said(str(n), "c2" if n % 3 else "c1"))
    seqs = [message.seq for message in await messages_of(store)]
    for after in (None, *range(17)):
        for before in (None, *range((after or 0) + 1, 17)):
            inside = [s for s in seqs if (after is None or s > after) and (before is None or s < before)]
            page = await store.page(MessageQuery("c1", 50, before=before, after=after))
            assert ([message.seq for message in page.messages], page.total) == (inside, 4)
            if inside:
                assert (page.older, page.newer) == (seqs.index(inside[0]), 3 - seqs.index(inside[-1]))
            elif before is not None:
                assert page.older == sum(s < before for s in seqs)
            else:
                assert (page.older, page.newer) == ((4, 0) if after is not None else (0, 4))


@bounded
async def test_ranking_puts_first_what_says_the_word_most_and_otherwise_the_newest(store: Store) -> None:
    texts = [
        "a light*house, Light by lïght",
        "light one",
        "lights no",
        "light two",
        "light, again light",
    ]
    await put(store, opening(), *map(said, texts))
    page = await store.search(SearchQuery("LIGHT", 3, ranked=True))
    assert [hit.message.text for hit in page.hits] == [texts[0], texts[4], texts[3]]
    assert page.more
    assert all("ght" in hit.excerpt for hit in page.hits)
    page = await store.search(SearchQuery("light*", 9, ranked=True))
    assert [hit.message.text for hit in page.hits] == [texts[0], *(texts[n] for n in (4, 3, 2, 1))]
    assert not page.more


@bounded
async def test_a_search_in_one_conversation_or_scope_finds_what_is_older_than_the_rest(store: Store) -> None:
    await put(
        store,
        opening("old", scope="work"),
        said("light", "old"),
        opening("new"),
        opening("last", scope="work"),
    )
    for n in range(40):
        await put(store, said(f"light {n}", "new"))
    for ranked in (False, True):
        for query in (
            SearchQuery("light", 5, conversation_id="old", ranked=ranked),
            SearchQuery("light", 5, scope="work", ranked=ranked),
            SearchQuery("light", 5, conversation_id="old", scope="work", role="user", ranked=ranked),
        ):
            page = await store.search(query)
            assert ([hit.message.text for hit in page.hits], page.more) == (["light"], False), query
        for query in (
            SearchQuery("light", 5, scope="nowhere", ranked=ranked),
            SearchQuery("light", 5, conversation_id="last", ranked=ranked),
            SearchQuery("light", 5, conversation_id="nowhere", ranked=ranked),
        ):
            assert (await store.search(query)).hits == (), query


@bounded
async def test_an_excerpt_is_short_and_shows_the_match(store: Store) -> None:
    long = "padding " * 3_000
    await put(store, opening(), said(f"{long} the NEEDLE lies here {long}"), said("a needle"))
    short, buried = (await store.search(SearchQuery("needle", 5))).hits
    assert "needle" in short.excerpt
    assert "needle" in buried.excerpt.lower()
    assert len(buried.excerpt) < 1_000


@bounded
async def test_a_message_is_found_as_soon_as_it_is_acknowledged(store: Store) -> None:
    await opened(store)

    async def say_and_find(n: int) -> None:
        await put(store, said(f"token{n}"))
        assert await found(store, f"token{n}") == [f"token{n}"]

    await asyncio.gather(*map(say_and_find, range(50)))


# ---- heads and verification ------------------------------------------------------------------------------


@bounded
async def test_every_head_is_the_root_that_an_outsider_computes_from_the_entries(store: Store) -> None:
    """RFC 6962 roots over leaves that are made here from what the store gives back and the known salt."""
    await opened(store)
    drafts = [
        (said(f"{n} é", at=-n), report("i1", n / 7)) if n % 5 else (said(str(n)), decision())
        for n in range(40)
    ]
    heads = [(await put(store, *pair)).head for pair in drafts]
    heads += [outcome.head for outcome in await asyncio.gather(*(put(store, *pair) for pair in drafts))]
    store_id = (await store.info()).store_id
    assert store_id is not None
    tree, previous = Frontier(), ledger.NO_LEAF
    roots = {0: tree.root()}
    for record in await store.records(ALL):
        committed = ledger.commitment(SALT, jcs.encode(record.body), record.blob)
        entry = ledger.entry_bytes(store_id, record.seq, record.time_us, record.kind, previous, committed)
        previous = ledger.leaf_hash(entry)
        tree.append(previous)
        roots[tree.size] = tree.root()
    assert len(roots) == 2 + 1 + 4 * len(drafts)
    for head in heads:
        assert head.root == roots[head.size]
    for size, root in [*roots.items()][::3]:
        assert (await store.verify(known_head=f"{size}:{root.hex()}")).known_head is True


@bounded
async def test_a_head_that_the_log_never_had_is_a_fault(store: Store) -> None:
    heads = [(await put(store, opening(f"c{n}"))).head for n in range(5)]
    head = heads[2]
    text = head.root.hex()
    flipped = f"{int(text[0], 16) ^ 1:x}{text[1:]}"
    last = f"{text[:-1]}{int(text[-1], 16) ^ 1:x}"
    for known in (
        f"{head.size}:{flipped[:32]}",
        f"{head.size}:{last}",
        f"{head.size - 1}:{text}",
        f"{heads[-1].size + 1}:{heads[-1].root.hex()}",
        f"{10**18}:{text}",
        f"0:{text}",
    ):
        checked = await store.verify(known_head=known)
        assert checked.known_head is False, known
        assert checked.fault is not None
        assert checked.fault.code == "known_head"
        assert checked.entries == 6
    for known in (str(head), f"  {str(head).upper()}\n", f"{head.size}:{text}", f"{head.size}:{text[:40]}"):
        checked = await store.verify(known_head=known)
        assert (checked.known_head, checked.fault, checked.level) == (True, None, 3), known
    await sound(store)


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize(
    "text", ["", "x", "5", "5:", "5:abc", "-1:" + "a" * 32, "5:" + "g" * 32, "5:" + "a" * 65]
)
@bounded
async def test_what_is_no_head_is_refused(store: Store, text: str, filled: bool) -> None:
    if filled:
        await opened(store)
    with pytest.raises(BadHead):
        await store.verify(known_head=text)


@bounded
async def test_verification_counts_what_there_is(store: Store) -> None:
    times = [10, 20, 15, 15, 30, 29, 28]
    await put(store, opening(at=5), snapshot(at=6), *(said("x", at=at) for at in times))
    calls: list[tuple[int, int]] = []
    checked = await store.verify(progress=lambda done, total: calls.append((done, total)))
    assert (checked.level, checked.fault, checked.known_head) == (1, None, None)
    assert (checked.entries, checked.messages, checked.erased) == (10, 7, 0)
    assert checked.clock_regressions == 3
    assert checked.head == (await store.info()).head
    assert calls == sorted(calls)
    assert all(0 <= done <= total == 10 for done, total in calls)


@bounded
async def test_verification_beside_writers_sees_one_state(store: Store) -> None:
    await opened(store)
    writers = asyncio.gather(*(put(store, said(str(n)), snapshot(f"i{n % 7}", at=n)) for n in range(200)))
    sizes = [2]
    while not writers.done():
        checked = await store.verify(known_head=None)
        assert (checked.level, checked.fault) == (1, None)
        assert checked.entries == checked.head.size >= sizes[-1]
        sizes.append(checked.entries)
        await asyncio.sleep(0)
    heads = {appended.head for appended in await writers}
    for head in seeded(1).sample(sorted(heads, key=str), min(20, len(heads))):
        assert (await store.verify(known_head=str(head))).known_head is True
    assert (await sound(store)).size == 2 + 400


# ---- many at once ----------------------------------------------------------------------------------------


@bounded
async def test_two_hundred_appends_at_once_are_each_acknowledged_once(store: Store) -> None:
    await opened(store)
    outcomes = await asyncio.gather(
        *(put(store, said(f"{n}a", at=n), said(f"{n}b", at=n)) for n in range(200))
    )
    for n, outcome in enumerate(outcomes):
        first, second = outcome.receipts
        assert second.seq == first.seq + 1  # a group is one unit, nothing comes between
        assert (first.body["text"], second.body["text"]) == (f"{n}a", f"{n}b")
        assert outcome.head.size > second.seq
    seqs = [one.seq for outcome in outcomes for one in outcome.receipts]
    assert sorted(seqs) == list(range(2, 402))
    kept = {message.seq: message for message in await messages_of(store)}
    for outcome in outcomes:
        for one in outcome.receipts:
            assert (kept[one.seq].n, kept[one.seq].text) == (one.n, one.body["text"])
    await sound(store)


@bounded
async def test_the_first_appends_to_a_new_store_may_race(backend: Backend) -> None:
    stores = [await backend.open() for _ in range(3)]
    outcomes = await asyncio.gather(
        *(put(stores[n % 3], opening(f"c{n}"), said("x", f"c{n}")) for n in range(30))
    )
    assert sorted(outcome.receipts[0].seq for outcome in outcomes) == list(range(1, 61, 2))
    infos = [await store.info() for store in stores]
    assert infos[0] == infos[1] == infos[2]
    assert len(await stores[0].records(RecordQuery(kinds=(Kind.GENESIS,), limit=9))) == 1
    await sound(stores[1])


@bounded
async def test_two_stores_on_one_log_see_each_other_at_once(backend: Backend) -> None:
    one, two = await backend.open(), await backend.open()
    assert (await two.info()).store_id is None
    await opened(one)
    await put(one, snapshot())
    for n in range(20):
        writer, reader = (one, two) if n % 2 else (two, one)
        appended = await put(writer, said(f"word{n}", key=f"k{n}"), i1=T0 + n)
        assert receipt(appended).n == n + 1
        assert (await reader.info()).head == appended.head
        assert await found(reader, f"word{n}") == [f"word{n}"]
        assert await lease_of(reader) == n
        assert receipt(await put(reader, said(f"word{n}", key=f"k{n}"))).replayed
    assert await everything(one) == await everything(two)
    guard = Guard((Kind.CONSENSUS,), 0)
    outcomes = await asyncio.gather(
        *(put(store, decision(), guard=guard) for store in (one, two, one, two)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Appended) for outcome in outcomes) == 1
    await sound(two)


# ---- cancellation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["task", "scope"])
@bounded
async def test_cancelled_appends_leave_the_log_whole_and_the_store_usable(store: Store, way: str) -> None:
    """Every acknowledged append is there; every other is there whole and once, or not at all."""
    rng = seeded(6)
    await opened(store)
    for turn in range(6):
        acknowledged = await appends_of_which_many_are_cancelled(store, rng, turn, way)
        kept = {message.seq: message.text for message in await messages_of(store)}
        for text, one in acknowledged.items():
            assert (kept[one[0].seq], kept[one[1].seq]) == (f"{text}a", f"{text}b")
        texts = [text for text in kept.values() if text and text.startswith(f"{turn}/")]
        assert len(texts) == len(set(texts))
        assert {text[:-1] for text in texts if text[-1] == "a"} == {t[:-1] for t in texts if t[-1] == "b"}
        size = (await sound(store)).size
        assert receipt(await put(store, said("next"))).seq == size
        # Whoever was cancelled may try again, and cannot double.
        for n in range(60):
            await put(store, said(f"{turn}/{n}a", key=f"{turn}/{n}"), said(f"{turn}/{n}b"))
        texts = [text for text in map(str, await texts_of(store)) if text.startswith(f"{turn}/")]
        assert sorted(texts) == sorted(f"{turn}/{n}{end}" for n in range(60) for end in "ab")
    await sound(store)


async def appends_of_which_many_are_cancelled(
    store: Store, rng: random.Random, turn: int, way: str
) -> dict[str, tuple[Receipt, ...]]:
    acknowledged: dict[str, tuple[Receipt, ...]] = {}
    scopes: dict[int, anyio.CancelScope] = {}

    async def say(n: int) -> None:
        text = f"{turn}/{n}"
        # asyncio cancels once; an anyio scope (the MCP SDK uses them) cancels at every await until left.
        with anyio.CancelScope() as scopes[n]:
            appended = await put(store, said(f"{text}a", key=text), said(f"{text}b"))
            acknowledged[text] = appended.receipts

    tasks = [asyncio.create_task(say(n)) for n in range(60)]
    waiting = rng.sample(range(60), 40)
    while waiting:
        for _ in range(rng.choice([0, 0, 1, 3, 30, 300])):
            await asyncio.sleep(0)
        for _ in range(rng.choice([1, 1, 2, 10])):
            if waiting:
                n = waiting.pop()
                if way == "task" or n not in scopes:
                    tasks[n].cancel()
                else:
                    scopes[n].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert len(acknowledged) >= 20
    return acknowledged


@bounded
async def test_cancelling_everyone_who_waits_stops_nothing(store: Store) -> None:
    rng = seeded(8)
    await opened(store)
    for turn in range(20):
        tasks = [asyncio.create_task(put(store, said(f"{turn}/{n}"))) for n in range(5)]
        for _ in range(rng.choice([0, 1, 2, 5, 50, 500])):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        late = asyncio.create_task(put(store, said(f"{turn}/late")))
        await asyncio.gather(*tasks, return_exceptions=True)
        assert receipt(await late).seq < (await store.info()).head.size
    await sound(store)


@bounded
async def test_cancelled_reads_leave_the_store_usable(store: Store) -> None:
    rng = seeded(7)
    await put(store, opening(), snapshot(), *(said(f"word {n}") for n in range(200)))
    before = await everything(store)
    for _ in range(8):
        reads: list[Callable[[], Awaitable[object]]] = [
            lambda: messages_of(store),
            lambda: found(store, "word"),
            store.verify,
            store.seats,
            store.info,
            lambda: store.records(ALL),
        ]
        tasks = [asyncio.ensure_future(read()) for read in reads for _ in range(3)]
        rng.shuffle(tasks)
        for task in tasks:
            for _ in range(rng.choice([0, 0, 1, 20])):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await put(store, i1=T0)
    assert await everything(store) == before
    await sound(store)


# ---- closing and reopening -------------------------------------------------------------------------------


@bounded
async def test_closing_finishes_what_waits(backend: Backend) -> None:
    store = await backend.open()
    await opened(store)
    tasks = [asyncio.create_task(put(store, said(str(n)))) for n in range(100)]
    await asyncio.sleep(0)  # every task has called append; a few may have been written
    await backend.close()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*tasks)
    store = await backend.open()
    kept = {message.seq: message.text for message in await messages_of(store)}
    assert [kept[receipt(outcome).seq] for outcome in outcomes] == [str(n) for n in range(100)]
    await sound(store)


@bounded
async def test_appends_that_race_with_closing_are_written_or_told(backend: Backend) -> None:
    store = await backend.open()
    tasks = [asyncio.create_task(put(store, opening(f"c{n}"))) for n in range(40)]
    closing = asyncio.create_task(backend.close())
    tasks += [asyncio.create_task(put(store, opening(f"c{n}"))) for n in range(40, 60)]
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await closing
    assert all(isinstance(outcome, Appended | StoreClosed) for outcome in outcomes)
    store = await backend.open()
    kept = {conversation.id for conversation in await store.conversations(ConversationQuery(100))}
    assert kept == {f"c{n}" for n, outcome in enumerate(outcomes) if isinstance(outcome, Appended)}


@bounded
async def test_a_closed_store_refuses_and_may_be_closed_again(backend: Backend) -> None:
    store = backend.make()
    async with store:
        await opened(store)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: put(store, said("late")),
        store.info,
        lambda: store.page(MessageQuery("c1", 1)),
        store.verify,
    ]
    for call in calls:
        with pytest.raises(StoreClosed):
            await call()
    await store.__aexit__(None, None, None)
    assert await texts_of(await backend.open()) == []


@bounded
async def test_a_store_closes_when_its_block_fails(backend: Backend) -> None:
    async def fail() -> None:
        async with backend.make() as store:
            await opened(store)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert (await (await backend.open()).info()).head.size == 2


@bounded
async def test_closing_while_cancelled_loses_nothing_that_was_acknowledged(backend: Backend) -> None:
    acknowledged: set[int] = set()

    async def session(turn: int, enough: asyncio.Event) -> None:
        async with backend.make() as store:
            with suppress(Conflict):
                await opened(store)
            for n in range(50):
                acknowledged.add(receipt(await put(store, said(f"{turn}/{n}"))).seq)
                if n == turn:
                    enough.set()

    for turn in range(4):
        enough = asyncio.Event()
        task = asyncio.create_task(session(turn, enough))
        await enough.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    store = await backend.open()
    assert acknowledged <= {message.seq for message in await messages_of(store)}
    await sound(store)


@bounded
async def test_a_reopened_store_is_the_same_log(store: Store, backend: Backend) -> None:
    await put(store, opening(title="t"), snapshot(), report("i1", 0.5), decision())
    await put(store, said("hello", key="k1"), i1=T0 + 77)
    before, head = await everything(store), await sound(store)
    for _ in range(2):
        store = await backend.reopen()
        assert await everything(store) == before
        assert await lease_of(store) == 77
        assert await found(store, "hello") == ["hello"]
        assert (await store.verify(known_head=str(head))).known_head is True
        assert await sound(store) == head
        assert receipt(await put(store, said("hello", key="k1"))) == Receipt(
            5, T0, said("hello", key="k1").body, 1, replayed=True
        )
    assert receipt(await put(store, said("more"))) == Receipt(6, T0, said("more").body, 2)
    assert (await store.verify(known_head=str(head))).known_head is True


# ---- erasure ---------------------------------------------------------------------------------------------


@bounded
async def test_an_erased_message_stays_as_a_gap(store: Store) -> None:
    await put(store, opening(), said("before"))
    await put(store, said("secret word", key="k1"))
    await put(store, said("after"))
    head = (await store.info()).head
    erased = await store.erase([redaction(3, reason="asked")])
    assert erased == Erased((Erasure(3, "c1", "user", 2, redaction=5),), (await store.info()).head, 0)
    assert await texts_of(store) == ["before", None, "after"]
    gap = (await messages_of(store))[1]
    assert (gap.seq, gap.n, gap.conversation_id, gap.role, gap.name) == (3, 2, "c1", "user", None)
    assert await found(store, "secret") == []
    (record,) = await store.records(RecordQuery(seqs=(3,)))
    assert (record.body, record.blob, record.kind) == (None, b"", Kind.MESSAGE)
    page = await store.page(MessageQuery("c1", 1, role="user", before=4))
    assert (page.total, page.older, page.newer, page.messages) == (3, 1, 1, (gap,))
    # A late retry of the erased message does not bring it back, whatever it says.
    again = receipt(await put(store, said("secret word", key="k1")))
    assert (again.seq, again.n, again.body, again.replayed) == (3, 2, {}, True)
    other = receipt(await put(store, said("secret words", "c1", role="assistant", key="k1")))
    assert (other.seq, other.body, other.replayed) == (3, {}, True)
    assert len(await messages_of(store)) == 3
    checked = await store.verify(known_head=str(head))
    assert (checked.level, checked.fault, checked.erased, checked.messages) == (3, None, 1, 3)
    assert checked.known_head is True


@bounded
async def test_the_redaction_entry_says_what_went_and_nothing_of_it(store: Store) -> None:
    await put(store, opening())
    await put(store, said("secret word", key="k1"))
    await put(store, said("no key"))
    await store.erase([redaction(2, reason="asked"), redaction(3)])
    first, second = await store.records(RecordQuery(kinds=(Kind.REDACTION,), oldest_first=True, limit=9))
    assert first.body == {
        "target": "2",
        "conversation": "c1",
        "role": "user",
        "reason": "asked",
        "principal": TOMBSTONE,
        "key": key_tombstone(SECRET, "me", "k1"),
        "text_tombstone": text_tombstone(SECRET, "c1", "user", "secret word"),
    }
    assert second.body == {
        "target": "3",
        "conversation": "c1",
        "role": "user",
        "text_tombstone": text_tombstone(SECRET, "c1", "user", "no key"),
    }
    # The key of the erased entry leads to the redaction, of the same principal only.
    assert list(await store.records(RecordQuery(principal="me", key="k1"))) == [first]
    assert list(await store.records(RecordQuery(principal="they", key="k1"))) == []
    assert list(await store.records(RecordQuery(subject="2"))) == [first]
    await sound(store)


@bounded
async def test_what_was_erased_does_not_come_back(store: Store, backend: Backend) -> None:
    await put(store, opening(), opening("c2", at=1))
    await put(store, said("one", key="k1"))
    await put(store, said("two"))
    await store.erase([redaction(3), redaction(4)])
    store = await backend.reopen()
    size = (await store.info()).head.size
    for source in ("hook", "import"):
        # Read again from a transcript, under a key of its own.
        again = receipt(await put(store, said("two", key=f"{source}-1", source=source)))
        assert (again.seq, again.n, again.body, again.replayed) == (4, 2, {}, True)
        first = receipt(await put(store, said("one", key=f"{source}-2", source=source)))
        assert (first.seq, first.n, first.body, first.replayed) == (3, 1, {}, True)
    with pytest.raises(IdempotencyConflict):
        await put(store, report(key="k1"))
    assert (await store.info()).head.size == size
    # Said anew, elsewhere, by another or in another role, it is another message.
    for draft in (
        said("two"),
        said("two", key="t1"),
        said("two", "c2", key="h1", source="hook"),
        said("two", role="assistant", key="h2", source="hook"),
        said("one", key="k1", principal="they"),
    ):
        assert receipt(await put(store, draft)).replayed is False
    await sound(store)


@bounded
async def test_a_key_of_an_erased_message_is_refused_to_anything_else(store: Store) -> None:
    await put(store, opening())
    await put(store, said("one", key="k1"), snapshot())
    await store.erase([redaction(2)])
    with pytest.raises(IdempotencyConflict):
        await put(store, report(key="k1"))
    with pytest.raises(IdempotencyConflict):
        await put(store, opening("c2", key="k1"))


@bounded
async def test_erasing_again_changes_nothing_and_says_so(store: Store) -> None:
    await put(store, opening(), said("one"), said("two"))
    await store.erase([redaction(2)])
    head = (await store.info()).head
    again = await store.erase([redaction(2)])
    assert again == Erased((Erasure(2, "c1", "user", 1, already=True),), head, 0)
    both = await store.erase([redaction(3), redaction(3)])
    assert [item.already for item in both.items] == [False, True]
    assert (await store.erase([])).items == ()
    assert (await store.info()).erasures_pending == 0
    await sound(store)


@bounded
async def test_what_cannot_be_erased_is_refused_whole(store: Store, backend: Backend) -> None:
    with pytest.raises(NotFound):
        await store.erase([redaction(0)])
    assert (await store.erase([])).head.size == 0
    assert not backend.exists()
    await put(store, opening(), said("one"), decision())
    head = (await store.info()).head
    for bad in (redaction(0), redaction(3), said("x"), Draft(Kind.REDACTION, T0, {})):
        with pytest.raises(BadInput):
            await store.erase([redaction(2), bad])
    for target in ("-1", "1.0", "٣", "9" * 30, ""):
        with pytest.raises(BadInput):
            await store.erase([Draft(Kind.REDACTION, T0, {"target": target})])
    with pytest.raises(NotFound):
        await store.erase([redaction(2), redaction(9)])
    with pytest.raises(TooLarge):
        await store.erase([redaction(2)] * (ERASURES_PER_BATCH_MAX + 1))
    assert (await store.info()).head == head
    assert await texts_of(store) == ["one"]


@bounded
async def test_every_kind_that_may_be_erased_keeps_its_place_and_nothing_else(store: Store) -> None:
    await put(store, opening(title="a title", session="s1", key="ccn:session:s1"))
    await put(store, snapshot(conversation="c1"))
    await put(store, report("i1", 0.5, key="r1"))
    for kind in (Kind.METRIC, Kind.VALIDATION, Kind.USAGE):
        body: Body = {"instance": "i1", "principal": "me", "conversation": "c1"}
        await put(store, Draft(kind, T0, body))
    await put(store, Draft(Kind.PLATE, T0, {"digest": "d", "principal": "me"}, b"the Plate"))
    await put(store, said("stays until last"))
    head = (await store.info()).head
    seqs = [4, 2, 3, 5, 6, 7, 1]
    erased = await store.erase([redaction(seq, reason="asked") for seq in seqs])
    assert [item.already for item in erased.items] == [False] * len(seqs)
    assert all((record.body, record.blob) == (None, b"") for record in await everything_at(store, seqs))
    about = {str((record.body or {})["target"]): record.body or {} for record in await redactions_of(store)}
    assert [about[str(seq)].get("about") for seq in (1, 2, 3, 4, 5, 6, 7)] == [None, *["i1"] * 4, None, None]
    checked = await store.verify(known_head=str(head))
    assert (checked.fault, checked.erased, checked.known_head) == (None, len(seqs), True)
    # The erased report is none, the erased snapshot no instance, the conversation not listed.
    assert list(await store.seats()) == list(await store.seats(instance_id="i1")) == []
    assert list(await store.conversations(ConversationQuery())) == []
    (gone,) = await store.conversations(ConversationQuery(erased=True))
    assert (gone.id, gone.erased, gone.title, gone.session_id, gone.scope) == ("c1", True, None, None, "")
    assert (gone.messages, await texts_of(store)) == (1, ["stays until last"])
    await sound(store)


async def everything_at(store: Store, seqs: list[int]) -> Sequence[Record]:
    found = await store.records(RecordQuery(seqs=tuple(seqs), limit=len(seqs)))
    assert len(found) == len(seqs)
    return found


async def redactions_of(store: Store) -> Sequence[Record]:
    return await store.records(RecordQuery(kinds=(Kind.REDACTION,), limit=99))


@bounded
async def test_an_erased_report_leaves_its_instance_without_one(store: Store) -> None:
    await put(store, opening(), snapshot())
    await put(store, report("i1", 0.5, key="r1"))
    (seat,) = await store.seats()
    assert seat.report_seq == 3
    await store.erase([redaction(3)])
    (seat,) = await store.seats()
    assert (seat.report_seq, seat.report_us, seat.report_body, seat.report_blob) == (None, None, None, None)
    again = receipt(await put(store, report("i1", 0.9, key="r1")))
    assert (again.seq, again.replayed, again.body) == (3, True, {})
    with pytest.raises(IdempotencyConflict):
        await put(store, said("x", key="r1"))
    await put(store, report("i1", 0.25))
    (seat,) = await store.seats()
    assert (seat.report_seq, (await store.verify()).level) == (5, 1)


@bounded
async def test_an_erased_conversation_takes_nothing_more_and_its_session_is_known(store: Store) -> None:
    await put(store, opening("c1", session="s1", key="ccn:session:s1"))
    await put(store, said("known", key="k1", source="import"), snapshot(conversation="c1"))
    await store.erase([redaction(1), redaction(2)])
    size = (await store.info()).head.size
    for source in ("hook", "import", "tool"):
        # The transcript again, by whoever reads it: the conversation's id, and each message it knows.
        again = receipt(await put(store, opening("c9", session="s1", key="ccn:session:s1", title="a title")))
        assert (again.seq, again.replayed, again.body) == (1, True, {"conversation": "c1"})
        known = receipt(await put(store, said("known", key="k1", source=source)))
        assert (known.seq, known.replayed) == (2, True)
    for draft in (said("new", key="k2", source="import"), said("new"), snapshot("i2", conversation="c1")):
        with pytest.raises(ConversationErased):
            await put(store, draft)
    with pytest.raises(Conflict):
        await put(store, opening("c1"))
    assert (await store.info()).head.size == size
    # The one that takes its place, and a third one: what was erased in those before it is known there too.
    await put(store, opening("c2", session="s1", key="ccn:after:c1"))
    await put(store, said("later", "c2", key="k3", source="hook"))
    await store.erase([redaction(size), redaction(size + 1)])
    await put(store, opening("c3", session="s1", key="ccn:after:c2"))
    for text, seq in (("known", 2), ("later", size + 1)):
        reread = receipt(await put(store, said(text, "c3", key=f"other-{text}", source="import")))
        assert (reread.seq, reread.replayed, reread.body) == (seq, True, {})
    assert receipt(await put(store, said("known", "c3", key="t1"))).replayed is False
    await sound(store)


@bounded
async def test_lines_are_what_still_has_content_by_every_filter(store: Store) -> None:
    await put(store, opening(), opening("c2"))
    for number in range(12):
        conversation, name = ("c1", "c2")[number % 2], ("Ann", None, "Bob")[number % 3]
        who = ("me", "they")[number // 6]
        await put(
            store, said(f"line {number} " + "x" * 300, conversation, at=number, name=name, principal=who)
        )
    await store.erase([redaction(5)])
    every = await store.lines(LineQuery(99))
    assert [line.seq for line in every] == [3, 4, *range(6, 15)]
    first = every[0]
    assert (first.conversation_id, first.role, first.name, first.principal) == ("c1", "user", "Ann", "me")
    assert (first.line.startswith("line 0 x"), len(first.line)) == (True, LINE_CHARS_MAX)

    for query, expected in (
        (LineQuery(99, conversation_id="c1"), [3, 7, 9, 11, 13]),
        (LineQuery(99, person="Ann"), [3, 6, 9, 12]),
        (LineQuery(99, person="they"), [*range(9, 15)]),
        (LineQuery(99, person="ann"), []),
        (LineQuery(99, since_us=T0 + 3, until_us=T0 + 6), [6, 7, 8]),
        (LineQuery(99, since_us=T0 + 3, person="Bob", conversation_id="c2"), [8, 14]),
        (LineQuery(99, seqs=(3, 5, 8)), [3, 8]),
        (LineQuery(99, after=6, before=9), [7, 8]),
        (LineQuery(2, after=3), [4, 6]),
    ):
        assert [line.seq for line in await store.lines(query)] == expected, query
    found = await store.records(RecordQuery(subjects=("5", "6"), limit=9))
    assert [(record.body or {})["target"] for record in found] == ["5"]


# ---- maintenance -----------------------------------------------------------------------------------------


@bounded
async def test_maintenance_changes_nothing_that_can_be_asked(store: Store) -> None:
    await put(store, opening(), opening("c2"), snapshot(conversation="c1"))
    for number in range(40):
        await put(store, said(f"word number {number}", key=f"k{number}"), i1=T0 + number)
    await put(store, report("i1", 0.5))
    await store.erase([redaction(10)])
    before = [await everything(store), await found(store, "word")]
    for vacuum in (False, True):
        done = await store.maintain(vacuum=vacuum)
        assert (done.exists, done.vacuumed, done.erasures_pending) == (True, vacuum, 0)
        assert [await everything(store), await found(store, "word")] == before
        await sound(store)
    assert receipt(await put(store, said("word number 0", key="k0"))).replayed
    assert receipt(await put(store, said("after"))).n == 41


@bounded
async def test_maintaining_a_store_that_does_not_exist_makes_none(backend: Backend) -> None:
    store = await backend.open()
    assert (await store.maintain()).exists is False
    assert (await store.maintain(vacuum=True)).exists is False
    assert not backend.exists()


@bounded
async def test_maintenance_beside_writers_keeps_nobody_from_writing(backend: Backend) -> None:
    first, second = await backend.open(), await backend.open()
    await opened(first)
    outcomes = await asyncio.gather(
        *(put(first, said(f"a{number}")) for number in range(60)),
        second.maintain(),
        *(put(second, said(f"b{number}")) for number in range(60)),
        first.maintain(vacuum=True),
    )
    assert len(outcomes) == 122
    assert len(await messages_of(first)) == 120
    await sound(second)


# ---- keys ------------------------------------------------------------------------------------------------


@bounded
async def test_a_key_that_is_not_here_is_not_changed(backend: Backend) -> None:
    store = await backend.open()
    for lost in (False, True):
        with pytest.raises(NoStore):
            await store.rotate_key(lost=lost)
    assert not backend.exists()
    await put(store, opening(), said("one"))
    before = await everything(store)
    for lost in (False, True):
        with pytest.raises(KeyUnusable):
            await store.rotate_key(lost=lost)
    assert await everything(store) == before
    await put(store, said("two"))
    await sound(store)


# ---- against the reference -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@bounded
async def test_any_history_gives_the_answers_of_the_reference(
    store: Store, backend: Backend, seed: int
) -> None:
    """Random groups, many of them refused, on this store and on a `MemoryStore`: no answer may differ."""
    rng = seeded(100 + seed)
    told = 0
    async with MemoryStore(salt=lambda: SALT) as reference:
        for step in range(150):
            instances = sorted(seat.instance_id for seat in await reference.seats())
            group = random_group(rng, instances, (await reference.info()).head.size)
            expected, got = await outcome_of(reference, group), await outcome_of(store, group)
            assert got == expected, (step, group)
            told += isinstance(expected, str)
            if step == 75:
                store = await backend.reopen()
        assert 20 < told < 130
        assert (await contents(store)) == (await contents(reference))
        for _ in range(80):
            query, _ = random_search(rng)
            if not query.ranked:
                ours, theirs = await store.search(query), await reference.search(query)
                assert [h.message for h in ours.hits] == [h.message for h in theirs.hits], query
    await sound(store)


async def outcome_of(store: Store, group: Group) -> str | tuple[int, Sequence[Receipt]]:
    try:
        appended = await store.append(group)
    except (UnknownConversation, UnknownInstance):
        return "refused"
    except (StoreMoved, IdempotencyConflict) as error:
        return error.code
    except Conflict:
        return "refused"  # a group with several faults may be told any of them
    return appended.head.size, appended.receipts


async def contents(store: Store) -> list[object]:
    """`everything` without what every log has of its own, plus each conversation's filtered pages."""
    _, records, conversations, seats, *pages = await everything(store)
    assert isinstance(records, Sequence)
    assert isinstance(seats, Sequence)
    for conversation in await store.conversations(ConversationQuery(100)):
        pages += [
            await store.page(MessageQuery(conversation.id, 3, role="user", since_us=T0 + 2_000)),
            await store.page(MessageQuery(conversation.id, 3, newest=False, until_us=T0 + 8_000)),
        ]
    return [records[1:], conversations, sorted(seats, key=lambda seat: str(seat.instance_id)), *pages]
