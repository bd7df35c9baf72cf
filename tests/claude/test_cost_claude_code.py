"""What real Claude Code says that a call cost, against our prices: the same usage, cell by cell, has the same price.

Its price goes into the record as it is, so the two have to agree; its catalogue is that of the version in npm.py.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp import data
from ccn_mcp.claude.claude_code import ClaudeCodeModel
from ccn_mcp.domain import jcs
from ccn_mcp.domain.cost import cost, dollars, parse_table, pico_of, usage_of
from ccn_mcp.domain.talk import Asked, Reply, Turn, text_block
from ccn_mcp.node.talking import Talk
from tests.claude import stub as service
from tests.claude.stub import Answer, Request, Stub, Text, ToolUse
from tests.clients.harness import bare_environment
from tests.clients.npm import CLAUDE_CODE, LINUX_ONLY, fetched
from tests.interop.real_claude import QUIET, reach
from tests.node.world import node_on

pytestmark = [pytest.mark.slow, LINUX_ONLY]

TABLE: Final = parse_table(jcs.decode(data.read("prices.json")))
UNKNOWN: Final = "claude-omega-9"
OPUS: Final = "claude-opus-5-5"
TIERED: Final = "claude-haiku-5-5"
ASKED_S_MAX: Final = 60.0
SCHEMA: Final = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}

Used = dict[str, Any]


def used(sent: int, output: int, short: int = 0, hour: int = 0, read: int = 0, **more: str) -> Used:
    """The usage object of a reply."""
    lifetimes = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": hour}
    return {
        "input_tokens": sent,
        "output_tokens": output,
        "cache_creation_input_tokens": short + hour,
        "cache_creation": lifetimes,
        "cache_read_input_tokens": read,
        **more,
    }


USAGES: Final = {
    "short": used(1_234, 567, 890, 12_340, 5_670),
    "long": used(50_003, 2_001, 30_007, 20_011, 10_013),
}
"""Every class of tokens, none of which can make up for another; the long prompt is above every tier."""

EDGES: Final = {
    "all that is not long": used(100_000, 10),
    "one more": used(100_001, 10),
    "by what was cached": used(1, 10, 0, 0, 100_000),
    "a long reply is no long prompt": used(100, 120_001),
}


@dataclass
class Service:
    """A model that reports the given usage; `told` is what it reported, with the model that it was asked for."""

    usage: Callable[[int], Used]
    answer: Callable[[int, Used], Answer] = lambda _, usage: service.Reply(Text("yes"), usage=usage)
    told: list[tuple[str, Used]] = field(default_factory=list)
    numbers: count[int] = field(default_factory=count)

    def __call__(self, request: Request) -> Answer:
        number = next(self.numbers)
        usage = self.usage(number)
        self.told.append((request.body["model"], usage))
        return self.answer(number, usage)

    @property
    def price(self) -> Decimal:
        """What all the requests that came cost by our table."""
        prices = [self._price(model, usage) for model, usage in self.told]
        assert prices
        return sum(prices, Decimal(0))

    def _price(self, model: str, usage: Used) -> Decimal:
        counted = usage_of(usage)
        assert counted is not None
        found = cost(model, counted, TABLE.as_of, TABLE)
        assert found is not None, model
        return found


@dataclass(frozen=True)
class Account:
    """A Claude Code with an empty home folder."""

    program: Path
    home: Path

    def port(self, stub: Stub) -> ClaudeCodeModel:
        environment = {**bare_environment(self.home), **QUIET, **reach(stub)}
        return ClaudeCodeModel(str(self.program), environment=environment, deadline_s=ASKED_S_MAX)

    def ask(self, model: str, script: Service, schema: dict[str, Any] | None = None) -> Reply:
        """One call, and what came of it."""
        reply = Reply()
        asked = Asked(model, (Turn("user", (text_block("hello"),)),), schema=schema)
        with Stub(script) as stub:
            asyncio.run(self.port(stub).answer(asked, reply))
        assert reply.whole, reply.problem
        assert reply.model == model
        return reply

    def recorded(self, model: str, script: Service, db: Path) -> str:
        """A conversation's turn, and what `ccn-mcp cost` says of it."""

        async def say(stub: Stub) -> None:
            async with node_on(db) as node:
                talk = Talk(node.ctx, node.caller, self.port(stub), model)
                await talk.open()
                await talk.say("hello")

        with Stub(script) as stub:
            asyncio.run(say(stub))
        done = subprocess.run(
            [sys.executable, "-m", "ccn_mcp", "cost", "--by", "call", "--db", str(db)],
            env=bare_environment(self.home),
            capture_output=True,
            text=True,
            timeout=ASKED_S_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def account(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Account:
    return Account(fetched(tmp_path_factory, CLAUDE_CODE) / "claude", tmp_path / "home")


@pytest.mark.parametrize("prompt", USAGES)
@pytest.mark.parametrize("model", sorted(TABLE.models))
def test_each_price_of_the_table_is_that_of_claude_code(account: Account, model: str, prompt: str) -> None:
    script = Service(lambda _: USAGES[prompt])
    assert account.ask(model, script).spent_usd == script.price


@pytest.mark.parametrize("edge", EDGES)
def test_the_prices_of_long_prompts_begin_where_those_of_claude_code_do(account: Account, edge: str) -> None:
    script = Service(lambda _: EDGES[edge])
    assert account.ask(TIERED, script).spent_usd == script.price


@pytest.mark.parametrize("factor", [{"inference_geo": "us"}, {"speed": "fast"}, {"service_tier": "priority"}])
def test_what_multiplies_a_price(account: Account, factor: dict[str, str]) -> None:
    script = Service(lambda _: {**USAGES["short"], **factor})
    assert account.ask(OPUS, script).spent_usd == script.price


def test_a_call_of_several_requests_costs_each_by_its_own_prompt(account: Account) -> None:
    """Neither prompt is a long one; added up before they are priced, they would be."""

    def answer(number: int, usage: Used) -> Answer:
        block = (
            Text("Ann") if number == 0 else ToolUse(f"toolu_{number}", "StructuredOutput", {"name": "Ann"})
        )
        return service.Reply(block, usage=usage)

    script = Service(lambda number: used(60_000 + number, 10, 7, 11, 13), answer)
    reply = account.ask(TIERED, script, SCHEMA)
    assert len(script.told) > 1
    assert reply.spent_usd == script.price
    (added,) = {usage_of(reply.usage)}
    assert added is not None
    assert added.input == sum(usage["input_tokens"] for _, usage in script.told)


def test_what_it_cost_is_recorded_and_printed(account: Account, tmp_path: Path) -> None:
    script = Service(lambda _: USAGES["long"])
    printed = account.recorded(OPUS, script, tmp_path / "ccn.db")
    assert f"{OPUS}  {dollars(pico_of(script.price))}  (chat, claude_code;" in printed
    assert "unknown" not in printed


def test_a_model_that_nobody_knows_has_no_price(account: Account, tmp_path: Path) -> None:
    printed = account.recorded(UNKNOWN, Service(lambda _: USAGES["short"]), tmp_path / "ccn.db")
    assert f"{UNKNOWN}  unknown  (chat, claude_code;" in printed
    assert f"Without a price: {UNKNOWN} (1)." in printed
    assert "$" not in printed
