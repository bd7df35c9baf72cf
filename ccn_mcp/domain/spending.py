"""Usage entries (kind 12) and what they add up to. Pure; whole numbers only.

An entry says what one call to a model used and what that cost by the prices of its day. It has ids and numbers, and
no words of anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

from ccn_mcp.domain.cost import PriceTable, Usage, at_most, dollars, pico_of, price
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.limits import JSON_INT_MAX
from ccn_mcp.domain.models import Body

Purpose = Literal["chat", "judge", "validate", "spawn", "summary"]

FREE: Final = frozenset(
    {
        "no_credential",
        "unreachable",
        "authentication_error",
        "permission_error",
        "billing_error",
        "invalid_request_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "overloaded_error",
        "api_error",
    }
)
"""How a call ends that the service refused before it began: it costs nothing. One that was cut off is none of these."""

UNMADE: Final = frozenset({"no_credential", "no_program", "unsent"})
"""How a call ends that was never made, by whichever back end."""

_TOKENS: Final = ("input", "output", "write_5m", "write_1h", "read")
_TEXTS: Final = ("conversation", "instance", "served", "request_id", "as_of")


@dataclass(frozen=True, slots=True)
class Call:
    """One call to a model. Amounts are pico-dollars (10^-12), times microseconds UTC.

    `served` is the model that answered. `usage` is None where it was not told. Unless `complete`, the counts are
    those of a reply that broke off: `cost` is a lower bound then, and `most` what it may have been. `cost` is None
    where it is not known; it is by the prices of `as_of`, or, without that, what the back end itself said.
    """

    purpose: str
    backend: str
    asked: str
    stop: str
    complete: bool
    at_us: int
    served: str | None = None
    conversation: str | None = None
    instance: str | None = None
    usage: Usage | None = None
    batch: bool = False
    request_id: str | None = None
    as_of: str | None = None
    cost: int | None = None
    most: int | None = None

    @property
    def model(self) -> str:
        """The model that the call is priced by."""
        return self.served or self.asked

    @property
    def day(self) -> str:
        """The day of the call (ISO date, UTC)."""
        return day_of(self.at_us)

    def to_body(self) -> Body:
        """What is hashed; None is left out."""
        body: Body = {
            "purpose": self.purpose,
            "backend": self.backend,
            "asked": self.asked,
            "stop": self.stop,
            "complete": self.complete,
            "at": self.at_us,
        }
        body |= {name: value for name in _TEXTS if (value := getattr(self, name)) is not None}
        if self.batch:
            body["batch"] = True
        if self.usage is not None:
            body["tokens"] = {name: getattr(self.usage, name) for name in _TOKENS}
            marks = (
                ("tier", self.usage.service_tier),
                ("geo", self.usage.inference_geo),
                ("speed", self.usage.speed),
                ("extras", self.usage.extras or None),
            )
            body |= {name: value for name, value in marks if value is not None}
        for name, amount in (("cost_pico", self.cost), ("most_pico", self.most)):
            if amount is not None:
                body[name] = amount if amount <= JSON_INT_MAX else str(amount)
        return body


def call_of(body: Mapping[str, Json]) -> Call:
    """A call from an entry's body; a field of the wrong type counts as absent."""
    texts = {name: _text(body.get(name)) for name in _TEXTS}
    return Call(
        purpose=_text(body.get("purpose")) or "",
        backend=_text(body.get("backend")) or "",
        asked=_text(body.get("asked")) or "",
        stop=_text(body.get("stop")) or "",
        complete=body.get("complete") is True,
        at_us=min(_amount(body.get("at")) or 0, JSON_INT_MAX),
        usage=_usage(body),
        batch=body.get("batch") is True,
        cost=_amount(body.get("cost_pico")),
        most=_amount(body.get("most_pico")),
        **texts,
    )


def priced(call: Call, table: PriceTable) -> Call:
    """The call with its price; one that has a price keeps it, whatever the table says now."""
    if call.cost is not None or call.usage is None:
        return call
    found = price(call.model, call.usage, call.day, table)
    return call if found is None else replace(call, cost=pico_of(found.usd), as_of=found.as_of)


def bounded(call: Call, worst: Usage | None, table: PriceTable) -> Call:
    """The call with its price and, where that is none or a lower bound, what it can have cost by `worst`."""
    call = priced(call, table)
    most = None
    if total_of(call, table).unbounded and (used := at_most(call.usage, worst)) is not None:
        most = price(call.model, used, call.day, table)
    return call if most is None else replace(call, most=pico_of(most.usd))


def day_of(time_us: int) -> str:
    """The day (ISO date, UTC) of a moment in microseconds."""
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).date().isoformat()


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _amount(value: Json) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 30:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _usage(body: Mapping[str, Json]) -> Usage | None:
    tokens = body.get("tokens")
    if not isinstance(tokens, dict):
        return None
    sent, output, short, hour, read = (_amount(tokens.get(name)) or 0 for name in _TOKENS)
    return Usage(
        input=sent,
        output=output,
        write_5m=short,
        write_1h=hour,
        read=read,
        service_tier=_text(body.get("tier")),
        inference_geo=_text(body.get("geo")),
        speed=_text(body.get("speed")),
        extras=body.get("extras") is True,
    )


# ---- sums ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Totals:
    """What calls add up to. `pico` counts known prices, so it is a lower bound where `unknown` or `cut` is not 0.

    `most` is what it may have been at the most, `unbounded` the calls of which that cannot be said. `unknown` calls
    have no price; `cut` ones have a lower bound. `erased` entries say nothing any more and are in no sum.
    `unread` says that there were more entries than one reading takes.
    """

    calls: int = 0
    pico: int = 0
    most: int = 0
    unknown: int = 0
    unbounded: int = 0
    cut: int = 0
    erased: int = 0
    input: int = 0
    output: int = 0
    written: int = 0
    read: int = 0
    unread: bool = False

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.calls + other.calls,
            self.pico + other.pico,
            self.most + other.most,
            self.unknown + other.unknown,
            self.unbounded + other.unbounded,
            self.cut + other.cut,
            self.erased + other.erased,
            self.input + other.input,
            self.output + other.output,
            self.written + other.written,
            self.read + other.read,
            self.unread or other.unread,
        )

    @property
    def exact(self) -> bool:
        """Whether the sum is all that was spent."""
        return not (self.unknown or self.cut or self.unread)

    def __str__(self) -> str:
        """As a person reads it: `$0.12`, `at least $0.12; 2 calls of unknown price`, `unknown`."""
        if self.unknown and self.unknown == self.calls:
            return "unknown"
        said = dollars(self.pico) if self.exact else f"at least {dollars(self.pico)}"
        if self.unknown:
            said += f"; {self.unknown:,} call{'s' * (self.unknown > 1)} of unknown price"
        return said


ERASED: Final = Totals(erased=1)


def total_of(call: Call, table: PriceTable) -> Totals:
    """One call as a sum. One whose price was not known when it was made has the one that the table gives it now."""
    call = priced(call, table)
    used = call.usage or Usage()
    extra = used.extras and call.as_of is not None  # what a back end says that it cost has everything in it
    exact = call.complete and not extra
    known = call.cost is not None
    most = call.cost if known and exact else None if extra else call.most
    return Totals(
        calls=1,
        pico=call.cost or 0,
        most=max(most or 0, call.cost or 0),
        unknown=int(not known),
        unbounded=int(most is None),
        cut=int(known and not exact),
        input=used.input,
        output=used.output,
        written=used.write_5m + used.write_1h,
        read=used.read,
    )
