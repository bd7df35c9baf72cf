"""Usage entries on a real store: what they say, what they add up to, and the ceilings that stop a call."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp.domain.copies import Selection
from ccn_mcp.domain.cost import pico_of
from ccn_mcp.domain.errors import BadInput, CostCeiling, Excluded, IdempotencyConflict
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Record, RecordQuery
from ccn_mcp.domain.spending import Totals
from ccn_mcp.domain.talk import Asked, Reply, Turn, text_block
from ccn_mcp.node import usage as module
from ccn_mcp.node.context import Caller
from ccn_mcp.node.costs import NO_CONVERSATION, costs
from ccn_mcp.node.node import Node
from ccn_mcp.node.redaction import erase, plan
from ccn_mcp.node.usage import Recorded, check_ceiling, record_usage, spent, usage_draft, worst_of
from tests.node.world import FakeClock, head_of, node_on

pytestmark = pytest.mark.anyio

NOON: Final = 1_795_348_800_000_000
"""22 November 2026, 12:00 UTC."""

DAY_S: Final = 24 * 3600
MODEL: Final = "claude-opus-5-5"
USED: Final = {"input_tokens": 5_000, "output_tokens": 4_000}
CENTS: Final = Decimal("0.10")
"""What `USED` costs of `MODEL`."""

PRICES: Final = """{"as_of": "2026-12-01", "models": {"claude-new": [
  {"from": "2026-11-01", "in": "1", "out": "2", "w5m": "3", "w1h": "4", "read": "5"}]}}"""


def asked(model: str = MODEL, *, words: str = "x" * 2_700, longest: int = 4_000) -> Asked:
    return Asked(model, (Turn("user", (text_block(words),)),), max_tokens=longest)


def reply(**more: Any) -> Reply:
    given = {"ended": "end_turn", "model": MODEL, "request_id": "req_1", "usage": USED, "counted": True}
    return Reply(**{**given, **more})


CUT: Final = {"ended": "cancelled", "counted": False, "usage": {**USED, "output_tokens": 1}}


async def call(
    node: Node, said: Reply | None = None, conversation: str | None = None, **more: Any
) -> Recorded:
    draft = usage_draft(
        node.ctx,
        node.caller,
        more.pop("to", asked()),
        said or reply(),
        backend="api",
        purpose="chat",
        conversation=conversation,
        **more,
    )
    return await record_usage(node.ctx, draft)


def noon(tmp_path: Path, **settings: Any) -> AbstractAsyncContextManager[Node]:
    settings.setdefault("config_dir", tmp_path / "config")
    return node_on(tmp_path / "ccn.db", clock=FakeClock(NOON), **settings)


def pass_s(node: Node, seconds: float) -> None:
    clock = node.ctx.clock
    assert isinstance(clock, FakeClock)
    clock.pass_s(seconds)


async def usage_entries(node: Node) -> Sequence[Record]:
    return await node.ctx.store.records(RecordQuery(kinds=(Kind.USAGE,), limit=100, oldest_first=True))


# ---- entries -------------------------------------------------------------------------------------------


async def test_an_entry_says_what_the_call_used_and_cost(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        conversation = await node.open_conversation()
        made = await call(node, conversation=conversation, instance="i_1")
        (record,) = await usage_entries(node)
        assert record.body == {
            "purpose": "chat",
            "backend": "api",
            "asked": MODEL,
            "served": MODEL,
            "stop": "end_turn",
            "complete": True,
            "at": NOON,
            "conversation": conversation,
            "instance": "i_1",
            "request_id": "req_1",
            "tokens": {"input": 5_000, "output": 4_000, "write_5m": 0, "write_1h": 0, "read": 0},
            "as_of": "2026-11-22",
            "cost_pico": pico_of(CENTS),
            "principal": "local",
            "source": "tool",
        }
        assert (made.seq, str(made.head)) == (record.seq, await head_of(node))
        by_subject = await node.ctx.store.records(RecordQuery(kinds=(Kind.USAGE,), subject=conversation))
        assert [item.seq for item in by_subject] == [record.seq]
        assert (await node.verify_chain(deep=True))["ok"]


async def test_a_query_column_that_was_changed_is_found(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        one, two = [await node.open_conversation() for _ in range(2)]
        made = await call(node, conversation=one)
        with closing(sqlite3.connect(tmp_path / "ccn.db", isolation_level=None)) as forger:
            forger.execute("UPDATE record SET subject = ? WHERE seq = ?", (two, made.seq))
        checked = await node.verify_chain()
        assert not checked["ok"]
        assert checked["fault"] is not None
        assert checked["fault"]["seq"] == made.seq


async def test_the_model_that_answered_sets_the_price(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        made = await call(node, reply(model="claude-fable-5-1"))
        assert (made.call.asked, made.call.served) == (MODEL, "claude-fable-5-1")
        assert made.call.cost == pico_of(Decimal("0.25"))


async def test_what_the_back_end_says_goes_before_the_table(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        made = await call(node, reply(spent_usd=Decimal("0.75"), model="claude-omega-9"))
        assert (made.call.cost, made.call.as_of) == (pico_of(Decimal("0.75")), None)
        assert str(await spent(node.ctx)) == "$0.7500"


async def test_a_batch_costs_half_whether_or_not_its_reply_says_so(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        said = await call(node, reply(usage={**USED, "service_tier": "batch"}), batch=True)
        unsaid = await call(node, batch=True)
        assert said.call.cost == unsaid.call.cost == pico_of(CENTS / 2)
        assert unsaid.call.batch


async def test_a_call_that_the_service_refused_costs_nothing(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        refused = await call(node, reply(ended="overloaded_error", request_id="", usage=None, counted=False))
        assert (refused.call.cost, refused.call.complete) == (0, True)
        broken = await call(node, reply(ended="connection", request_id="", usage=None, counted=False))
        assert broken.call.cost is None
        nothing = {"ended": "overloaded_error", "request_id": "", "usage": None, "counted": False}
        said = await call(node, reply(**nothing, spent_usd=Decimal("0.5")))
        assert said.call.cost == pico_of(Decimal("0.5"))
        about = {"backend": "claude_code", "purpose": "judge"}
        draft = usage_draft(node.ctx, node.caller, asked(), reply(**nothing), **about)  # type: ignore[arg-type]  # texts
        assert "cost_pico" not in draft.body
        answered = await call(node, reply(ended="not_found_error", usage=None, counted=False))
        assert answered.call.cost == 0, "a refusal has a request id, too"
        began = await call(node, reply(ended="overloaded_error", counted=False))
        assert not began.call.complete
        assert began.call.cost


async def test_a_reply_that_broke_off_is_bounded_by_what_was_asked(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        made = await call(node, reply(**CUT))
        assert made.call.cost == pico_of(Decimal("0.02002"))
        assert made.call.most == pico_of(CENTS)
        assert str(await spent(node.ctx)) == "at least $0.0200"


async def test_the_same_key_is_recorded_once(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        first = await call(node, key="batch-1:judge-2")
        pass_s(node, 5)
        again = await call(node, key="batch-1:judge-2")
        assert again.seq == first.seq
        assert again.call == first.call
        with pytest.raises(IdempotencyConflict):
            await call(node, reply(request_id="req_2"), key="batch-1:judge-2")
        assert (await spent(node.ctx)).calls == 1


async def test_names_that_cannot_be_stored_lose_no_entry(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        made = await call(node, reply(model=MODEL, request_id="r\x00\ud800" + "q" * 500, ended="x\x00"))
        assert made.call.cost == pico_of(CENTS)
        assert made.call.stop == "x\ufffd"


async def test_prices_that_cannot_be_read_lose_no_entry_and_stop_the_next_call(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"as_of": "2026-12-01", "models": {"m": [{"from": "soon"}]}}', "utf-8")
    async with noon(tmp_path, prices=file) as node:
        assert (await call(node)).call.cost is None
        with pytest.raises(BadInput) as told:
            await check_ceiling(node.ctx, asked())
        assert str(file) in str(told.value)
        assert "models.m[0].from" in str(told.value)


async def test_an_excluded_folder_records_and_asks_nothing(tmp_path: Path) -> None:
    async with noon(tmp_path, excluded=tmp_path) as node:
        with pytest.raises(Excluded):
            await check_ceiling(node.ctx, asked())
        with pytest.raises(Excluded):
            await call(node)


# ---- a person's own prices -----------------------------------------------------------------------------


async def test_own_prices_are_found_in_the_config_folder(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    async with noon(tmp_path) as node:
        assert (await call(node, reply(model="claude-new"))).call.cost is None
        assert str(await spent(node.ctx)) == "unknown"
        folder.mkdir(exist_ok=True)
        (folder / "prices.json").write_text(PRICES, "utf-8")
        made = await call(node, reply(model="claude-new"))
        assert (made.call.cost, made.call.as_of) == (pico_of(Decimal("0.013")), "2026-12-01")
        # The first one's price is known by now.
        assert str(await spent(node.ctx)) == "$0.0260"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, "which is not there"),
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"as_of": "2026-12-01", "as_of": "2026-12-02"}', "same name twice"),
        (b"[]", "the file should be a JSON object"),
        (b" " * 2_000_000, "larger than"),
    ],
)
async def test_a_file_of_prices_that_cannot_be_used(tmp_path: Path, written: bytes | None, said: str) -> None:
    file = tmp_path / "mine.json"
    if written is not None:
        file.write_bytes(written)
    async with noon(tmp_path, prices=file) as node:
        with pytest.raises(BadInput, match=said) as told:
            await spent(node.ctx)
        assert str(file) in str(told.value)


async def test_a_folder_in_the_place_of_the_prices(tmp_path: Path) -> None:
    async with noon(tmp_path, prices=tmp_path) as node:
        with pytest.raises(BadInput, match="cannot be read"):
            await spent(node.ctx)


# ---- sums ----------------------------------------------------------------------------------------------


async def test_what_was_spent_by_day_month_and_conversation(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        one, two = [await node.open_conversation() for _ in range(2)]
        await call(node, conversation=one)
        pass_s(node, DAY_S)
        await call(node, conversation=one)
        await call(node, conversation=two)
        pass_s(node, 10 * DAY_S)
        await call(node)
        await call(node, reply(model="claude-omega-9"), conversation=two)
        sums = {
            "2026-11-21": "$0",
            "2026-11-22": "$0.1000",
            "2026-11-23": "$0.2000",
            "2026-11": "$0.3000",
            "2026-12": "at least $0.1000; 1 call of unknown price",
            "": "at least $0.4000; 1 call of unknown price",
        }
        for _ in range(2):  # from the log, then from what is remembered
            assert {period: str(await spent(node.ctx, period=period)) for period in sums} == sums
            assert str(await spent(node.ctx, conversation=one)) == "$0.2000"
            assert (await spent(node.ctx, conversation=two)).unknown == 1
            assert str(await spent(node.ctx, conversation=two, period="2026-11-23")) == "$0.1000"


async def test_later_questions_read_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with noon(tmp_path) as node:
        for _ in range(3):
            await call(node)
        read: list[int] = []
        records = node.ctx.store.records

        async def counted(query: RecordQuery) -> Sequence[Record]:
            found = await records(query)
            read.append(len(found))
            return found

        monkeypatch.setattr(node.ctx.store, "records", counted)
        assert (await spent(node.ctx, period="2026-11-22")).calls == 3
        await call(node)
        assert (await spent(node.ctx, period="2026-11-22")).calls == 4
        assert (await spent(node.ctx, period="2026-11-22")).calls == 4
        assert read == [3, 1, 0]


async def test_a_day_is_read_back_to_its_beginning_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENTRIES_AT_ONCE", 2)
    async with noon(tmp_path) as node:
        for _ in range(30):
            await call(node)
        pass_s(node, 3 * DAY_S)
        for _ in range(5):
            await call(node)
        assert (await spent(node.ctx, period="2026-11-25")).calls == 5
        assert (await spent(node.ctx, period="2026-11")).calls == 35
        limits: list[int] = []
        records = node.ctx.store.records

        async def seen(query: RecordQuery) -> Sequence[Record]:
            limits.append(query.limit)
            return await records(query)

        monkeypatch.setattr(node.ctx.store, "records", seen)
        node.ctx.spending.clear()
        assert (await spent(node.ctx, period="2026-11-25")).calls == 5
        assert max(limits) == 16


async def test_more_entries_than_are_read_are_told(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        for _ in range(4):
            await call(node)
        records, whole = await module.read_usage(node.ctx, None, "2026-11-22", most=3)
        assert (len(records), whole) == (3, False)


async def test_another_process_counts_too(tmp_path: Path) -> None:
    async with noon(tmp_path) as node, noon(tmp_path, seed="b") as other:
        await call(node)
        assert (await spent(other.ctx)).calls == 1
        await call(node)
        assert (await spent(other.ctx)).calls == (await spent(node.ctx)).calls == 2


# ---- ceilings ------------------------------------------------------------------------------------------

WORST: Final = pico_of(Decimal("0.0874"))


def test_the_worst_case_counts_everything_that_is_sent() -> None:
    small = worst_of(asked(words="x", longest=7))
    assert small.output == 7
    for more in (
        replace(asked(words="x", longest=7), system=("y" * 300,)),
        replace(asked(words="x", longest=7), note="y" * 300),
        replace(asked(words="x", longest=7), schema={"title": "y" * 300}),
    ):
        assert worst_of(more).prompt >= small.prompt + 100
    assert worst_of(asked(), batch=True).service_tier == "batch"


async def test_a_call_that_could_pass_the_days_ceiling_is_not_made(tmp_path: Path) -> None:
    async with noon(tmp_path, cost_day_pico=pico_of(Decimal("0.30"))) as node:
        await check_ceiling(node.ctx, asked())
        await call(node)
        await call(node)
        await check_ceiling(node.ctx, asked())  # 0.2000 and at most 0.0874
        await call(node, reply(usage={"input_tokens": 5_000, "output_tokens": 0}))
        before = await head_of(node)
        with pytest.raises(CostCeiling) as stopped:
            await check_ceiling(node.ctx, asked())
        assert stopped.value.code == "cost_ceiling"
        for part in ("$0.2200", "$0.0874", "$0.3000", "CCN_COST_DAY_USD"):
            assert part in str(stopped.value)
        await check_ceiling(node.ctx, asked(longest=100))
        assert await head_of(node) == before
        pass_s(node, DAY_S)
        await check_ceiling(node.ctx, asked())


async def test_a_ceiling_is_reached_exactly(tmp_path: Path) -> None:
    worst = worst_of(asked())
    most = pico_of((worst.write_1h * 8 + Decimal(worst.output) * 20) / 1_000_000)
    async with noon(tmp_path, cost_day_pico=most) as node:
        await check_ceiling(node.ctx, asked())
    async with noon(tmp_path, cost_day_pico=most - 1) as node:
        with pytest.raises(CostCeiling):
            await check_ceiling(node.ctx, asked())


async def test_a_conversation_has_a_ceiling_of_its_own(tmp_path: Path) -> None:
    async with noon(tmp_path, cost_conversation_pico=pico_of(Decimal("0.15"))) as node:
        one, two = [await node.open_conversation() for _ in range(2)]
        await call(node, conversation=one)
        pass_s(node, 40 * DAY_S)
        with pytest.raises(CostCeiling, match="CCN_COST_CONVERSATION_USD"):
            await check_ceiling(node.ctx, asked(), one)
        await check_ceiling(node.ctx, asked(), two)
        await check_ceiling(node.ctx, asked())


async def test_calls_at_once_are_counted_together(tmp_path: Path) -> None:
    async with noon(tmp_path, cost_day_pico=pico_of(Decimal("0.20"))) as node:
        await check_ceiling(node.ctx, asked(), times=2)
        with pytest.raises(CostCeiling):
            await check_ceiling(node.ctx, asked(), times=3)
        await check_ceiling(node.ctx, asked(), times=4, batch=True)


async def test_replies_that_broke_off_count_with_what_they_can_have_cost(tmp_path: Path) -> None:
    async with noon(tmp_path, cost_day_pico=pico_of(Decimal("0.25"))) as node:
        for _ in range(2):
            await call(node, reply(**CUT))
        assert (await spent(node.ctx)).pico == pico_of(Decimal("0.04004"))
        with pytest.raises(CostCeiling, match="up to"):
            await check_ceiling(node.ctx, asked())


async def test_a_model_without_a_price_is_not_asked_under_a_ceiling(tmp_path: Path) -> None:
    async with noon(tmp_path, cost_day_pico=10**15) as node:
        with pytest.raises(CostCeiling, match="claude-omega-9"):
            await check_ceiling(node.ctx, asked("claude-omega-9"))
    async with noon(tmp_path) as node:
        await check_ceiling(node.ctx, asked("claude-omega-9"))


async def test_after_a_call_that_nobody_can_bound_a_ceiling_stops_all(tmp_path: Path) -> None:
    async with noon(tmp_path, cost_day_pico=10**15) as node:
        await call(node, reply(model="claude-new"))
        with pytest.raises(CostCeiling, match="one call"):
            await check_ceiling(node.ctx, asked())
        folder = tmp_path / "config"
        folder.mkdir(exist_ok=True)
        (folder / "prices.json").write_text(PRICES, "utf-8")
        await check_ceiling(node.ctx, asked())
        # One that was cut off before it was counted is bounded, so it stops nothing.
        await call(node, reply(ended="connection", request_id="", usage=None, counted=False))
        await check_ceiling(node.ctx, asked())


# ---- erasure -------------------------------------------------------------------------------------------


async def test_an_erased_conversation_still_counts(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        conversation = (await node.record_message("user", "secret"))["conversation_id"]
        await call(node, conversation=conversation)
        await erase(node.ctx, node.caller, await plan(node.ctx, Selection(conversation_id=conversation)))
        assert str(await spent(node.ctx)) == "$0.1000"
        late = await call(node, conversation=conversation, instance="i_1")
        assert (late.call.conversation, late.call.instance) == (None, None)
        assert str(await spent(node.ctx)) == "$0.2000"
        assert (await node.verify_chain())["ok"]


async def test_all_of_a_person_takes_what_they_spent_and_is_told(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        theirs = node.as_caller(Caller(principal="ada"))
        await node.record_message("user", "mine")
        await theirs.record_message("user", "hers")
        await call(node)
        await call(theirs)
        assert str(await spent(node.ctx)) == "$0.2000"
        await erase(node.ctx, node.caller, await plan(node.ctx, Selection(person="ada")))
        assert await spent(node.ctx) == replace(await spent(node.ctx), calls=1, erased=1)
        found = await costs(node.ctx)
        assert (found["total"]["text"], found["total"]["erased"]) == ("$0.1000", 1)
        assert (await node.verify_chain())["ok"]


# ---- for the person ------------------------------------------------------------------------------------


async def test_costs_by_each(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        one = await node.open_conversation()
        await call(node, conversation=one)
        pass_s(node, 10 * DAY_S)
        await call(node, reply(model="claude-omega-9"))
        await call(node, reply(**CUT), conversation=one)
        before = await head_of(node)
        found = await costs(node.ctx, by="call", last=2)
        assert [(line["model"], line["usd"]) for line in found["calls"]] == [
            (MODEL, "0.02002"),
            ("claude-omega-9", None),
        ]
        assert (found["left_out"], found["without_price"]) == ("1 older ones", {"claude-omega-9": 1})
        names = {}
        for by in ("conversation", "day", "month"):
            sums = (await costs(node.ctx, by=by))["sums"]
            names[by] = [(line["name"], line["calls"], line["usd"], line["exact"]) for line in sums]
        assert names == {
            "conversation": [(one, 2, "0.12002", False), (NO_CONVERSATION, 1, None, False)],
            "day": [("2026-12-02", 2, "0.02002", False), ("2026-11-22", 1, "0.1", True)],
            "month": [("2026-12", 2, "0.02002", False), ("2026-11", 1, "0.1", True)],
        }
        assert (await costs(node.ctx, conversation_id=one))["total"]["at_most"] == "0.2"
        assert await head_of(node) == before


async def test_an_empty_store_has_cost_nothing(tmp_path: Path) -> None:
    async with noon(tmp_path) as node:
        assert await spent(node.ctx) == Totals()
        assert (await costs(node.ctx))["total"]["usd"] == "0"
        with pytest.raises(BadInput):
            await costs(node.ctx, last=0)
