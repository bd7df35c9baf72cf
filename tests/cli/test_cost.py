"""`ccn-mcp cost`: calls and sums, in words and as JSON; what is not known says so."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp.domain.cost import pico_of
from ccn_mcp.domain.errors import BadInput
from ccn_mcp.settings import load
from tests.cli.conftest import Run
from tests.node.test_usage import CUT, call, reply
from tests.node.world import FakeClock, node_on

NOON = 1_795_348_800_000_000


@pytest.fixture
def spending(db: Path) -> str:
    """Two calls of a conversation on the 22nd, one without a price and one that broke off on the 23rd."""

    async def work() -> str:
        clock = FakeClock(NOON)
        async with node_on(db, clock=clock, config_dir=db.parent / "config") as node:
            conversation = await node.open_conversation()
            await call(node, conversation=conversation)
            await call(node, conversation=conversation, batch=True)
            clock.pass_s(24 * 3600)
            await call(node, reply(model="claude-omega-9"))
            await call(node, reply(**CUT))
            return conversation

    return asyncio.run(work())


@pytest.fixture(autouse=True)
def _config(monkeypatch: pytest.MonkeyPatch, db: Path) -> None:
    monkeypatch.setenv("CCN_CONFIG_DIR", str(db.parent / "config"))


def test_by_day(cli: Run, db: Path, spending: str) -> None:
    ran = cli("cost", "--db", str(db))
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert [line.split(" (tokens")[0] for line in lines[:4]] == [
        "Cost by day, prices of 2026-11-22",
        "  2026-11-23  2 calls: at least $0.0200; 1 call of unknown price",
        "  2026-11-22  2 calls: $0.1500",
        "Total: 4 calls: at least $0.1700; 1 call of unknown price",
    ]
    assert lines[3].endswith(" (tokens: 20,000 in, 12,001 out, cache 0 written, 0 read)")
    rest = " ".join(lines[4:])
    assert "Without a price: claude-omega-9 (1)." in rest
    assert str(db.parent / "config" / "prices.json") in ran.out.replace("\n", "")


def test_by_call_unknown_is_unknown(cli: Run, db: Path, spending: str) -> None:
    ran = cli("cost", "--by", "call", "--last", "3", "--db", str(db))
    cut, unknown, batch = ran.out.splitlines()[1:4]
    assert "at least $0.0200" in cut
    assert "broke off (cancelled)" in cut
    assert "claude-omega-9  unknown  (chat, api;" in unknown
    assert "$0.0500  (chat, api, batch;" in batch
    assert "Left out above: 1 older ones" in ran.out
    assert "$0 " not in ran.out


def test_by_conversation_and_month(cli: Run, db: Path, spending: str) -> None:
    by_conversation = cli("cost", "--by", "conversation", "--db", str(db)).out
    assert f"{spending}  2 calls: $0.1500" in " ".join(by_conversation.split(" ")).replace("   ", "  ")
    only = cli("cost", "--by", "month", "--conversation", spending, "--db", str(db)).out
    assert "2026-11  2 calls: $0.1500" in only
    assert "unknown" not in only


def test_as_json(cli: Run, db: Path, spending: str) -> None:
    found: dict[str, Any] = json.loads(cli("cost", "--json", "--db", str(db)).out)
    assert (found["by"], found["prices"], found["own_prices"]) == ("day", "2026-11-22", None)
    assert [(line["name"], line["usd"], line["exact"]) for line in found["sums"]] == [
        ("2026-11-23", "0.02002", False),
        ("2026-11-22", "0.15", True),
    ]
    assert found["total"]["unknown"] == found["total"]["cut"] == 1
    assert found["without_price"] == {"claude-omega-9": 1}
    calls = json.loads(cli("cost", "--json", "--by", "call", "--db", str(db)).out)["calls"]
    assert [line["usd"] for line in calls] == ["0.02002", None, "0.05", "0.1"]


def test_own_prices_and_ceilings_are_told(
    cli: Run, db: Path, spending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = db.parent / "mine.json"
    row = '[{"from": "2026-11-01", "in": "1", "out": "1", "w5m": "1", "w1h": "1", "read": "1"}]'
    own.write_text(f'{{"as_of": "2026-12-01", "models": {{"claude-omega-9": {row}}}}}', "utf-8")
    monkeypatch.setenv("CCN_PRICES", str(own))
    monkeypatch.setenv("CCN_COST_DAY_USD", "2.50")
    monkeypatch.setenv("CCN_COST_CONVERSATION_USD", "1")
    ran = cli("cost", "--db", str(db))
    assert ran.out.startswith("Cost by day, prices of 2026-11-22, yours of 2026-12-01 before them")
    assert "unknown" not in ran.out
    assert "Ceiling $2.5 (CCN_COST_DAY_USD), today " in ran.out, "whatever day the test runs on"
    assert "Ceiling $1 (CCN_COST_CONVERSATION_USD)" in ran.out
    own.write_text('{"as_of": "2026-12-01", "models": {"m": [{}]}}', "utf-8")
    ran = cli("cost", "--db", str(db))
    assert ran.status == 2
    assert str(own) in ran.err
    assert "models.m[0].from" in ran.err


def test_a_conversation_that_is_not_there_is_not_found(cli: Run, db: Path, spending: str) -> None:
    assert cli("cost", "--conversation", spending, "--db", str(db)).status == 0
    ran = cli("cost", "--conversation", "c_x", "--db", str(db))
    assert (ran.status, ran.out) == (3, "")
    assert "there is no conversation 'c_x'" in ran.err


def test_nothing_was_spent_and_nothing_is_there(cli: Run, db: Path) -> None:
    assert cli("cost", "--db", str(db)).status == 3

    async def work() -> None:
        async with node_on(db) as node:
            await node.open_conversation()

    asyncio.run(work())
    ran = cli("cost", "--db", str(db))
    assert ran.status == 0
    assert "No call to a model has been recorded here." in ran.out


@pytest.mark.parametrize(
    ("given", "usd"), [("2.50", "2.5"), ("0", "0"), ("1000000", "1000000"), ("0.000001", "0.000001")]
)
def test_a_ceiling_in_dollars(given: str, usd: str) -> None:
    settings = load("ccn.db", {"CCN_COST_DAY_USD": given, "CCN_COST_CONVERSATION_USD": given})
    assert settings.cost_day_pico == settings.cost_conversation_pico == pico_of(Decimal(usd))


@pytest.mark.parametrize(
    "given", ["-1", "1.", ".5", "1,5", "ten", "1e3", "9999999", "1.0000001", "$2", "1.2.3", "²"]
)
def test_a_ceiling_that_is_none(given: str) -> None:
    with pytest.raises(BadInput, match="CCN_COST_DAY_USD"):
        load("ccn.db", {"CCN_COST_DAY_USD": given})


def test_without_the_settings_there_is_no_ceiling() -> None:
    settings = load("ccn.db", {"CCN_COST_DAY_USD": ""})
    assert (settings.cost_day_pico, settings.cost_conversation_pico, settings.prices) == (None, None, None)
