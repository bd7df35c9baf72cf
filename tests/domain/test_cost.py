"""Prices and sums: agreement with an independent implementation, then the arithmetic that it does not have."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import genai_prices
import pytest
from genai_prices.data import providers
from hypothesis import given
from hypothesis import strategies as st

from ccn_mcp import data
from ccn_mcp.domain import jcs
from ccn_mcp.domain.cost import (
    PICO,
    PriceTable,
    Usage,
    at_most,
    cost,
    dollars,
    exact_dollars,
    parse_table,
    pico_of,
    price,
    usage_of,
    worst_case,
)
from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.limits import JSON_INT_MAX
from ccn_mcp.domain.spending import ERASED, Call, Totals, bounded, call_of, priced, total_of

TABLE: Final = parse_table(jcs.decode(data.read("prices.json")))
TODAY: Final = "2026-11-22"
USAGES: Final = 2_000
ORACLE_DAY: Final = datetime(2026, 11, 22, tzinfo=UTC)
MILLION: Final = 1_000_000
MODELS: Final = (
    "claude-fable-5-2",
    "claude-fable-5-1",
    "claude-opus-5-5",
    "claude-opus-5",
    "claude-opus-4-8",
    "claude-sonnet-5-5",
    "claude-sonnet-5",
    "claude-sonnet-4-6",
    "claude-haiku-5-5",
    "claude-haiku-4-5",
)


def usd(model: str, usage: Usage, day: str = TODAY, table: PriceTable = TABLE) -> Decimal:
    found = cost(model, usage, day, table)
    assert found is not None
    return found


# ---- the oracle ----------------------------------------------------------------------------------------


def oracle(model: str, usage: Usage) -> Decimal:
    """What genai-prices says; its input counts what came from and went to the cache, too."""
    writes = usage.write_5m + usage.write_1h
    counted = genai_prices.Usage(
        input_tokens=usage.prompt,
        output_tokens=usage.output,
        cache_read_tokens=usage.read,
        cache_write_tokens=writes,
        cache_write_1h_tokens=usage.write_1h,
    )
    context = {"processing": "batch"} if usage.service_tier == "batch" else None
    found = genai_prices.calc_price(
        counted,
        model,
        provider_id="anthropic",
        genai_request_timestamp=ORACLE_DAY,
        price_context=context,
    )
    return Decimal(found.total_price)


def random_usage(rolled: random.Random) -> Usage:
    """Some small, some over every tier, some without one class or another, some of a batch."""

    def tokens() -> int:
        return rolled.choice((0, rolled.randrange(200), rolled.randrange(60_000), rolled.randrange(400_000)))

    return Usage(
        input=tokens(),
        output=tokens(),
        write_5m=tokens(),
        write_1h=tokens(),
        read=tokens(),
        service_tier=rolled.choice((None, "standard", "batch")),
    )


def test_two_thousand_usages_cost_what_genai_prices_says() -> None:
    known = {model.id for provider in providers if provider.id == "anthropic" for model in provider.models}
    shared = [model for model in MODELS if model in known]
    assert len(shared) == len(MODELS)  # the oracle knows all of them now
    rolled = random.Random(7_610)  # noqa: S311  # the same usages on every run
    over = 0
    for _ in range(USAGES):
        model, usage = rolled.choice(shared), random_usage(rolled)
        over += model == "claude-haiku-5-5" and usage.prompt > 100_000
        assert usd(model, usage) == oracle(model, usage), (model, usage)
    assert over > 50


def test_the_table_has_every_model() -> None:
    assert set(TABLE.models) == set(MODELS)
    assert TABLE.as_of == TODAY


# ---- by hand -------------------------------------------------------------------------------------------

PER_CLASS: Final = {
    "claude-fable-5-2": "8 40 10 16 0.20",
    "claude-fable-5-1": "10 50 12.5 20 0.25",
    "claude-opus-5-5": "4 20 5 8 0.20",
    "claude-opus-5": "5 25 6.25 10 0.50",
    "claude-opus-4-8": "5 25 6.25 10 0.50",
    "claude-sonnet-5-5": "2 10 2.5 4 0.10",
    "claude-sonnet-5": "2 10 2.5 4 0.20",
    "claude-sonnet-4-6": "3 15 3.75 6 0.30",
    "claude-haiku-4-5": "1 5 1.25 2 0.10",
}


@pytest.mark.parametrize("model", PER_CLASS)
def test_a_million_tokens_of_each_class(model: str) -> None:
    names = ("input", "output", "write_5m", "write_1h", "read")
    for name, rate in zip(names, PER_CLASS[model].split(), strict=True):
        assert usd(model, Usage(**{name: MILLION})) == Decimal(rate), name  # type: ignore[arg-type]  # counts only


OPUS: Final = Usage(input=1_000, output=2_000, write_5m=3_000, write_1h=4_000, read=5_000)
OPUS_USD: Final = Decimal("0.092")
"""(1,000 x 4 + 2,000 x 20 + 3,000 x 5 + 4,000 x 8 + 5,000 x 0.20) / 10^6."""


@pytest.mark.parametrize(
    ("changed", "factor"),
    [
        ({}, "1"),
        ({"service_tier": "standard"}, "1"),
        ({"service_tier": "priority"}, "1"),
        ({"service_tier": "batch"}, "0.5"),
        ({"inference_geo": "us"}, "1.1"),
        ({"inference_geo": "global"}, "1"),
        ({"speed": "fast"}, "2"),
        ({"speed": "standard"}, "1"),
        ({"service_tier": "batch", "inference_geo": "us"}, "0.55"),
        ({"inference_geo": "us", "speed": "fast"}, "2.2"),
    ],
)
def test_what_multiplies_a_price(changed: dict[str, str], factor: str) -> None:
    assert usd("claude-opus-5-5", replace(OPUS, **changed)) == OPUS_USD * Decimal(factor)  # type: ignore[arg-type]  # texts only


def test_haikus_tier_counts_cached_tokens_and_begins_above_100_000() -> None:
    at = Usage(input=10_000, output=1_000, write_5m=20_000, write_1h=30_000, read=40_000)
    assert at.prompt == 100_000
    assert usd("claude-haiku-5-5", at) == Decimal("0.0104")
    for name in ("input", "write_5m", "write_1h", "read"):
        above = replace(at, **{name: getattr(at, name) + 1})
        assert usd("claude-haiku-5-5", above) > 5 * Decimal("0.0104")
    above = replace(at, read=40_001)
    assert usd("claude-haiku-5-5", above) == Decimal("0.05200005")
    assert usd("claude-haiku-5-5", replace(at, output=200_000)) < Decimal("0.2")  # the reply is no prompt


def test_prices_are_those_of_the_day() -> None:
    read = Usage(read=MILLION)
    assert usd("claude-sonnet-5-5", read, "2026-10-06") == Decimal("0.20")
    assert usd("claude-sonnet-5-5", read, "2026-10-07") == Decimal("0.10")
    assert usd("claude-sonnet-5-5", read, "2030-01-01") == Decimal("0.10")
    assert cost("claude-sonnet-5-5", read, "2026-09-28", TABLE) is None


@pytest.mark.parametrize(
    "model",
    ["claude-omega-9", "", "claude-sonnet", "claude-sonnet-5-5-turbo", "claude-sonnet-5-5-2026", "gpt-6"],
)
def test_what_is_not_known_is_none_and_never_0(model: str) -> None:
    assert cost(model, OPUS, TODAY, TABLE) is None
    assert cost(model, Usage(), TODAY, TABLE) is None


def test_a_dated_id_is_its_model() -> None:
    assert usd("claude-haiku-4-5-20251001", OPUS) == usd("claude-haiku-4-5", OPUS)


counts = st.integers(0, 10**9)
usages = st.builds(
    Usage,
    input=counts,
    output=counts,
    write_5m=counts,
    write_1h=counts,
    read=counts,
    service_tier=st.sampled_from([None, "batch"]),
    inference_geo=st.sampled_from([None, "us"]),
    speed=st.sampled_from([None, "fast"]),
)


@given(usages, usages, st.sampled_from(sorted(PER_CLASS)))
def test_two_calls_cost_what_their_tokens_cost_together(a: Usage, b: Usage, model: str) -> None:
    b = replace(b, service_tier=a.service_tier, inference_geo=a.inference_geo, speed=a.speed)
    both = replace(
        a,
        input=a.input + b.input,
        output=a.output + b.output,
        write_5m=a.write_5m + b.write_5m,
        write_1h=a.write_1h + b.write_1h,
        read=a.read + b.read,
    )
    assert usd(model, a) + usd(model, b) == usd(model, both)


@given(usages, st.sampled_from(MODELS), st.sampled_from(["input", "output", "write_5m", "write_1h", "read"]))
def test_more_tokens_never_cost_less(usage: Usage, model: str, name: str) -> None:
    more = replace(usage, **{name: getattr(usage, name) + 1})
    assert usd(model, more) > usd(model, usage)


@given(usages, st.sampled_from(MODELS))
def test_the_record_loses_nothing_of_a_price(usage: Usage, model: str) -> None:
    exact = usd(model, usage)
    assert Decimal(pico_of(exact)) == exact * PICO
    assert Decimal(exact_dollars(pico_of(exact))) == exact


# ---- what the API reports ------------------------------------------------------------------------------

REPORTED: Final[dict[str, Any]] = {
    "input_tokens": 10,
    "output_tokens": 20,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 40,
    "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 18},
    "service_tier": "batch",
    "inference_geo": "us",
    "speed": "fast",
    "output_tokens_details": {"thinking_tokens": 4},
    "server_tool_use": None,
    "something_new": {"of": [2027]},
}


def test_a_usage_object_of_the_api() -> None:
    assert usage_of(REPORTED) == Usage(10, 20, 12, 18, 40, "batch", "us", "fast")


def test_missing_counts_of_the_cache_are_0() -> None:
    nothing = {**dict.fromkeys(REPORTED), "input_tokens": 10, "output_tokens": 20}
    assert usage_of(nothing) == usage_of({"input_tokens": 10, "output_tokens": 20}) == Usage(10, 20)


def test_a_write_whose_lifetime_is_not_told_is_of_five_minutes() -> None:
    found = usage_of({**REPORTED, "cache_creation": None})
    assert found is not None
    assert (found.write_5m, found.write_1h) == (30, 0)
    partly = usage_of({**REPORTED, "cache_creation": {"ephemeral_1h_input_tokens": 5}})
    assert partly is not None
    assert (partly.write_5m, partly.write_1h) == (25, 5)


@pytest.mark.parametrize(
    "reported",
    [
        None,
        {},
        {"output_tokens": 1},
        {"input_tokens": 1},
        {**REPORTED, "input_tokens": "10"},
        {**REPORTED, "output_tokens": -1},
        {**REPORTED, "cache_read_input_tokens": True},
        {**REPORTED, "input_tokens": 1.5},
        {**REPORTED, "input_tokens": JSON_INT_MAX + 1},
    ],
)
def test_what_counts_nothing_is_no_usage(reported: dict[str, Any] | None) -> None:
    assert usage_of(reported) is None


@pytest.mark.parametrize(
    ("more", "extras"),
    [
        ({"server_tool_use": {"web_search_requests": 1}}, True),
        ({"server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 3}}, False),
        ({"iterations": [{"type": "message"}, {"type": "compaction"}]}, True),
        ({"iterations": [{"type": "message"}]}, False),
    ],
)
def test_what_has_a_price_of_its_own_is_told(more: dict[str, Any], extras: bool) -> None:
    found = usage_of({**REPORTED, **more})
    assert found is not None
    assert found.extras is extras


# ---- a person's own prices -----------------------------------------------------------------------------

ROW: Final = {"from": "2026-10-07", "in": "1", "out": "2", "w5m": "3", "w1h": "4", "read": "5"}


def own(**more: Any) -> Any:
    return {"as_of": "2026-12-01", "models": {"claude-new": [ROW]}, **more}


def test_own_prices_go_before_the_packaged_ones_row_by_row() -> None:
    rows = [{**ROW, "read": "7"}, {**ROW, "from": "2027-01-01", "read": "9"}]
    table = parse_table(own(models={"claude-sonnet-5-5": rows, "claude-new": [ROW]}), under=TABLE)
    read = Usage(read=MILLION)
    days = {"2026-10-06": "0.20", "2026-10-07": "7", "2027-01-01": "9"}
    assert {day: str(usd("claude-sonnet-5-5", read, day, table)) for day in days} == days
    assert usd("claude-new", read, table=table) == 5
    assert usd("claude-opus-5-5", OPUS, table=table) == OPUS_USD
    assert (table.as_of, table.own) == (TODAY, "2026-12-01")
    found = [price(model, read, TODAY, table) for model in ("claude-new", "claude-opus-5-5")]
    assert [item and item.as_of for item in found] == ["2026-12-01", TODAY]
    assert cost("claude-new", read, TODAY, TABLE) is None  # the packaged table is as it was


def test_own_factors_go_before_the_packaged_ones() -> None:
    table = parse_table(own(batch="0.25"), under=TABLE)
    assert (table.batch, table.geo_us, table.fast) == (Decimal("0.25"), Decimal("1.1"), Decimal(2))


ABOVE: Final = {"tokens": 5, "in": "1", "out": "2", "w5m": "3", "w1h": "4", "read": "5"}


def without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != name}


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ([], "the file"),
        (own(as_of="22 Nov"), "as_of"),
        (own(as_of=None), "as_of"),
        (own(models=[]), "models"),
        (own(modles={}), "modles"),
        (own(batch=0.5), "batch"),
        (own(batch="half"), "batch"),
        (own(models={"m": ROW}), "models.m "),
        (own(models={"m": []}), "models.m "),
        (own(models={"m": [ROW, 3]}), "models.m[1] "),
        (own(models={"m": [without(ROW, "read")]}), "models.m[0].read "),
        (own(models={"m": [{**ROW, "read": 0.1}]}), "models.m[0].read "),
        (own(models={"m": [{**ROW, "read": "-1"}]}), "models.m[0].read "),
        (own(models={"m": [{**ROW, "read": "1e3"}]}), "models.m[0].read "),
        (own(models={"m": [{**ROW, "read": "NaN"}]}), "models.m[0].read "),
        (own(models={"m": [{**ROW, "read": "0.0000001"}]}), "models.m[0].read "),
        (own(models={"m": [{**ROW, "raed": "1"}]}), "models.m[0].raed "),
        (own(models={"m": [{**ROW, "from": "2026-13-01"}]}), "models.m[0].from "),
        (own(models={"m": [{**ROW, "from": "20261001"}]}), "models.m[0].from "),
        (own(models={"m": [ROW, ROW]}), "models.m[1].from "),
        (own(models={"m": [{**ROW, "above": 5}]}), "models.m[0].above "),
        (own(models={"m": [{**ROW, "above": {**ABOVE, "tokens": "5"}}]}), "models.m[0].above.tokens "),
        (own(models={"m": [{**ROW, "above": without(ABOVE, "out")}]}), "models.m[0].above.out "),
    ],
)
def test_a_table_that_cannot_be_used_names_the_key(wrong: Any, key: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_table(wrong, under=TABLE)
    assert str(refused.value).startswith(key)


def test_a_whole_table_needs_its_factors() -> None:
    with pytest.raises(BadInput, match=r"^batch is missing"):
        parse_table(own())


# ---- entries and sums ----------------------------------------------------------------------------------

CALL: Final = Call(
    purpose="chat",
    backend="api",
    asked="claude-opus-5-5",
    stop="end_turn",
    complete=True,
    at_us=1_795_305_600_000_000,  # 22 Nov 2026
    served="claude-opus-5-5",
    conversation="c_1",
    instance="i_1",
    usage=OPUS,
    request_id="req_1",
)


@pytest.mark.parametrize(
    "call",
    [
        CALL,
        priced(CALL, TABLE),
        replace(CALL, usage=None, served=None, complete=False, most=12),
        replace(
            CALL, usage=replace(OPUS, service_tier="batch", inference_geo="us", speed="fast", extras=True)
        ),
        replace(CALL, batch=True, cost=JSON_INT_MAX + 1, most=10**20, as_of=TODAY),
    ],
)
def test_an_entry_says_what_the_call_was(call: Call) -> None:
    body = jcs.encode(call.to_body())
    assert call_of(json.loads(body)) == call
    assert b"." not in body  # no number with a fraction, whatever it costs
    assert call_of(jcs.decode(body)) == call  # type: ignore[arg-type]  # an object


def test_the_price_of_an_entry_does_not_move_with_the_table() -> None:
    call = priced(CALL, TABLE)
    assert (call.cost, call.as_of) == (pico_of(OPUS_USD), TODAY)
    dearer = parse_table(own(models={"claude-opus-5-5": [ROW]}), under=TABLE)
    assert priced(call, dearer) == call
    assert priced(CALL, dearer).cost != call.cost


def test_a_price_that_was_unknown_is_filled_in_later() -> None:
    call = priced(replace(CALL, served="claude-new"), TABLE)
    assert call.cost is None
    assert str(total_of(call, TABLE)) == "unknown"
    assert str(total_of(call, parse_table(own(), under=TABLE))) == "$0.0550"  # 55,000 / 10^6


def test_a_reply_that_broke_off_is_a_lower_bound() -> None:
    cut = bounded(replace(CALL, complete=False), worst_case(9_000, 8_000), TABLE)
    assert cut.cost == pico_of(OPUS_USD)
    assert cut.most == pico_of(OPUS_USD + Decimal("0.12"))  # 6,000 tokens more at 20
    sums = total_of(cut, TABLE)
    assert (sums.cut, sums.unknown, sums.unbounded, sums.exact) == (1, 0, 0, False)
    assert (str(sums), sums.most) == ("at least $0.0920", cut.most)
    assert at_most(OPUS, None) is None


def test_what_has_no_price_in_the_table_makes_a_lower_bound_that_nobody_can_bound() -> None:
    searched = replace(CALL, usage=replace(OPUS, extras=True))
    told = total_of(bounded(searched, worst_case(9_000, 8_000), TABLE), TABLE)
    assert (str(told), told.cut, told.unbounded) == ("at least $0.0920", 1, 1)
    said = total_of(replace(searched, cost=pico_of(OPUS_USD)), TABLE)
    assert (str(said), said.cut, said.unbounded) == ("$0.0920", 0, 0)


def test_a_call_of_which_nothing_was_counted() -> None:
    unknown = replace(CALL, usage=None, complete=False)
    told = bounded(unknown, worst_case(1_000, 100), TABLE)
    assert (told.cost, told.most) == (None, pico_of(Decimal("0.01")))  # (1,000 x 8 + 100 x 20) / 10^6
    assert total_of(told, TABLE) == Totals(calls=1, unknown=1, most=pico_of(Decimal("0.01")))
    assert total_of(bounded(unknown, None, TABLE), TABLE).unbounded == 1


def test_sums_say_what_they_do_not_know() -> None:
    known, unknown = total_of(priced(CALL, TABLE), TABLE), total_of(replace(CALL, served="x"), TABLE)
    assert str(known + known) == "$0.1840"
    assert str(known + unknown) == "at least $0.0920; 1 call of unknown price"
    assert str(known + unknown + unknown) == "at least $0.0920; 2 calls of unknown price"
    assert str(unknown + unknown) == "unknown"
    assert str(Totals()) == "$0"
    assert str(known + ERASED) == "$0.0920"
    assert str(known + Totals(unread=True)) == "at least $0.0920"


sums = st.builds(Totals, *([st.integers(0, 10**6)] * 11), st.booleans())


@given(sums, sums, sums)
def test_sums_add_up_in_any_order(a: Totals, b: Totals, c: Totals) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Totals() == a
    assert (a + b).pico >= a.pico


@pytest.mark.parametrize(
    ("amount", "shown", "exact"),
    [
        ("0", "$0", "0"),
        ("0.0000000055", "under $0.000001", "0.0000000055"),
        ("0.000012", "$0.000012", "0.000012"),
        ("0.0123", "$0.0123", "0.0123"),
        ("0.5", "$0.5000", "0.5"),
        ("12.345", "$12.35", "12.345"),
        ("12345.6", "$12,345.60", "12345.6"),
        ("100", "$100.00", "100"),
    ],
)
def test_amounts_as_people_read_them(amount: str, shown: str, exact: str) -> None:
    pico = pico_of(Decimal(amount))
    assert (dollars(pico), exact_dollars(pico)) == (shown, exact)
