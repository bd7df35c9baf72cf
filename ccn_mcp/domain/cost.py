"""What a call to a model costs: its usage, dated prices, and one multiplied by the other. Pure and exact.

Prices are absolute, in US dollars per million tokens, because no class of tokens is a fixed share of another (cache
reads are 0.025 to 0.1 of input). What has no price is unknown, never 0. `data/prices.json` is the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from typing import Any, Final

from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.limits import ID_CHARS_MAX, JSON_INT_MAX

PICO: Final = 10**12
"""Pico-dollars in a dollar: the unit of the record. The cheapest token, with every discount, costs 5,500 of them,
so the price of one call is a whole number; a person's own prices may be finer and are rounded."""

MODELS_MAX: Final = 1_000
ROWS_MAX: Final = 100
_MILLION: Final = 1_000_000
_RATE: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_DATED: Final = re.compile(r"-[0-9]{8}\Z")
_CLASSES: Final = {"in": "input", "out": "output", "w5m": "write_5m", "w1h": "write_1h", "read": "read"}
_FACTORS: Final = ("batch", "geo_us", "fast")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call by class, as they are billed, and what multiplies their price.

    `input` is what no cache had a part in. `extras` says that the call also used what has a price of its own that no
    table here has (web search), so that the tokens' price is a lower bound.
    """

    input: int = 0
    output: int = 0
    write_5m: int = 0
    write_1h: int = 0
    read: int = 0
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None
    extras: bool = False

    @property
    def prompt(self) -> int:
        """Tokens of the whole prompt, cached or not: what tiers go by."""
        return self.input + self.write_5m + self.write_1h + self.read


def usage_of(reported: Mapping[str, Any] | None) -> Usage | None:
    """The usage object of a reply (JSON of the Messages API). Fields that are not known are passed over.

    None where it does not say what was used: nothing, or counts that are none. A write to the cache whose lifetime
    is not told counts as one of five minutes.
    """
    if not isinstance(reported, Mapping):
        return None
    parts = reported.get("cache_creation")
    parts = parts if isinstance(parts, Mapping) else {}
    counts = [
        _count(reported.get("input_tokens"), None),
        _count(reported.get("output_tokens"), None),
        _count(reported.get("cache_read_input_tokens"), 0),
        _count(parts.get("ephemeral_5m_input_tokens"), 0),
        _count(parts.get("ephemeral_1h_input_tokens"), 0),
        _count(reported.get("cache_creation_input_tokens"), 0),
    ]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return None
    sent, output, read, short, hour, written = known
    return Usage(
        input=sent,
        output=output,
        write_5m=max(short, written - hour),
        write_1h=hour,
        read=read,
        service_tier=_word(reported.get("service_tier")),
        inference_geo=_word(reported.get("inference_geo")),
        speed=_word(reported.get("speed")),
        extras=_extras(reported),
    )


def worst_case(prompt: int, max_tokens: int, *, batch: bool = False) -> Usage:
    """What a call can use at the most: all of its prompt written to the dearest cache, and its longest reply."""
    return Usage(output=max_tokens, write_1h=prompt, service_tier="batch" if batch else None)


def _count(value: object, missing: int | None) -> int | None:
    if value is None:
        return missing
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= JSON_INT_MAX:
        return None
    return value


def _word(value: object) -> str | None:
    return value[:ID_CHARS_MAX] if isinstance(value, str) and value else None


def _extras(reported: Mapping[str, Any]) -> bool:
    tools = reported.get("server_tool_use")
    searched = isinstance(tools, Mapping) and any(
        name != "web_fetch_requests" and isinstance(count, int) and count > 0 for name, count in tools.items()
    )
    rounds = reported.get("iterations")  # a compaction's tokens are not in the total
    return searched or any(
        isinstance(item, Mapping) and item.get("type") == "compaction"
        for item in (rounds if isinstance(rounds, list) else ())
    )


# ---- the table -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per million tokens, by class."""

    input: Decimal
    output: Decimal
    write_5m: Decimal
    write_1h: Decimal
    read: Decimal


@dataclass(frozen=True, slots=True)
class Row:
    """The prices of a model from a day on (ISO date, UTC). `as_of` is the date of the table that says so.

    Where a prompt has more than `above_tokens`, cached ones included, every token of the call costs `above`.
    """

    since: str
    rates: Rates
    as_of: str
    above_tokens: int | None = None
    above: Rates | None = None


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices of models by day, and the factors of batches, of inference in the US and of fast mode.

    `own` is the date of the person's own table that lies over it.
    """

    as_of: str
    models: Mapping[str, tuple[Row, ...]]
    batch: Decimal
    geo_us: Decimal
    fast: Decimal
    own: str | None = None

    def row(self, model: str, day: str) -> Row | None:
        """What holds for a model on a day: an id that ends in a date stands for the model without it."""
        rows = self.models.get(model) or self.models.get(_DATED.sub("", model), ())
        return next((row for row in reversed(rows) if row.since <= day), None)


def parse_table(value: Json, *, under: PriceTable | None = None) -> PriceTable:
    """A price table from JSON; over the table `under`, if there is one, row by row (model, from).

    A table that lies over another may leave the factors out.

    Raises:
        BadInput: names the key that is wrong, and what it should be.
    """
    table = _object(value, "the file")
    _only(table, {"as_of", "models", *_FACTORS}, "")
    as_of = _day(table.get("as_of"), "as_of")
    models = {} if under is None else dict(under.models)
    given = _object(table.get("models"), "models")
    if len(given) > MODELS_MAX:
        raise BadInput(f"models has {len(given):,} models; at most {MODELS_MAX:,} are read")
    for model, rows in given.items():
        found = {row.since: row for row in models.get(model, ())}
        found |= {row.since: row for row in _rows(rows, f"models.{model[:ID_CHARS_MAX]}", as_of)}
        models[model] = tuple(found[since] for since in sorted(found))
    batch, geo_us, fast = (
        getattr(under, name) if under is not None and name not in table else _number(table, name, "")
        for name in _FACTORS
    )
    if under is None:
        return PriceTable(as_of, models, batch, geo_us, fast)
    return PriceTable(under.as_of, models, batch, geo_us, fast, own=as_of)


def _rows(value: Json, at: str, as_of: str) -> list[Row]:
    if not isinstance(value, list) or not 0 < len(value) <= ROWS_MAX:
        raise BadInput(f"{at} should be a list of 1 to {ROWS_MAX} rows of prices")
    rows: list[Row] = []
    for n, item in enumerate(value):
        here = f"{at}[{n}]"
        row = _object(item, here)
        _only(row, {"from", "above", *_CLASSES}, here)
        since = _day(row.get("from"), f"{here}.from")
        if any(other.since == since for other in rows):
            raise BadInput(f"{here}.from is {since}, and so is that of a row before it; keep one of the two")
        rows.append(Row(since, _rates(row, here), as_of, *_above(row, here)))
    return rows


def _above(row: Mapping[str, Json], at: str) -> tuple[int | None, Rates | None]:
    if "above" not in row:
        return None, None
    here = f"{at}.above"
    above = _object(row["above"], here)
    _only(above, {"tokens", *_CLASSES}, here)
    tokens = above.get("tokens")
    if isinstance(tokens, bool) or not isinstance(tokens, int) or not 0 < tokens <= JSON_INT_MAX:
        raise BadInput(f"{here}.tokens should be a whole number of tokens, such as 100000")
    return tokens, _rates(above, here)


def _rates(row: Mapping[str, Json], at: str) -> Rates:
    return Rates(**{field: _number(row, name, at) for name, field in _CLASSES.items()})


def _number(row: Mapping[str, Json], name: str, at: str) -> Decimal:
    value, key = row.get(name), f"{at}.{name}" if at else name
    if value is None:
        raise BadInput(f'{key} is missing; give a decimal number as text, such as "{name}": "0.5"')
    if not isinstance(value, str) or not _RATE.fullmatch(value):
        raise BadInput(f'{key} should be a decimal number as text, such as "0.5", with at most 6 decimals')
    return Decimal(value)


def _day(value: Json, key: str) -> str:
    try:
        if isinstance(value, str) and date.fromisoformat(value).isoformat() == value:
            return value
    except ValueError:
        pass
    raise BadInput(f'{key} should be a date such as "2026-11-22"')


def _object(value: Json, key: str) -> Mapping[str, Json]:
    if isinstance(value, dict):
        return value
    raise BadInput(f"{key} should be a JSON object, {{…}}")


def _only(found: Mapping[str, Json], known: set[str], at: str) -> None:
    for name in found:
        if name not in known:
            raise BadInput(
                f"{at + '.' if at else ''}{name[:ID_CHARS_MAX]} is not known; use {', '.join(sorted(known))}"
            )


# ---- the price -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Price:
    """What a call costs in US dollars, and the date of the table that says so."""

    usd: Decimal
    as_of: str


def price(model: str, usage: Usage, day: str, table: PriceTable) -> Price | None:
    """The price of one call to the model that served it, on a day (ISO date, UTC); None where it is not known."""
    row = table.row(model, day)
    if row is None:
        return None
    rates = row.rates
    if row.above is not None and row.above_tokens is not None and usage.prompt > row.above_tokens:
        rates = row.above
    total = (
        usage.input * rates.input
        + usage.output * rates.output
        + usage.write_5m * rates.write_5m
        + usage.write_1h * rates.write_1h
        + usage.read * rates.read
    ) / _MILLION
    if usage.service_tier == "batch":
        total *= table.batch
    if usage.inference_geo == "us":
        total *= table.geo_us
    if usage.speed == "fast":
        total *= table.fast
    return Price(total, row.as_of)


def cost(model: str, usage: Usage, day: str, table: PriceTable) -> Decimal | None:
    """US dollars of one call; None, never 0, where the model or its price on that day is not known."""
    found = price(model, usage, day, table)
    return None if found is None else found.usd


def at_most(usage: Usage | None, worst: Usage | None) -> Usage | None:
    """What a call that broke off can have used: what was counted, with the longest reply; None if nobody knows."""
    if usage is None:
        return worst
    return None if worst is None else replace(usage, output=max(usage.output, worst.output))


def pico_of(usd: Decimal) -> int:
    """US dollars in pico-dollars, exact for the packaged prices."""
    return int((usd * PICO).to_integral_value(ROUND_HALF_EVEN))


def dollars(pico: int) -> str:
    """Pico-dollars as a person reads them: `$12.34`, `$0.0123`, `$0.000012`; what is above 0 never reads as 0."""
    places = 2 if pico >= PICO else 4 if pico >= PICO // 100 else 6
    shown = (Decimal(pico) / PICO).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    if pico == 0:
        return "$0"
    return f"${shown:,}" if shown else "under $0.000001"


def exact_dollars(pico: int) -> str:
    """Pico-dollars as a decimal number of dollars that loses nothing: `0.0123`."""
    return format((Decimal(pico) / PICO).normalize(), "f")
