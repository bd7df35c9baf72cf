"""`ccn-mcp judge` against a Messages API on loopback."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp.cli import judge
from ccn_mcp.domain.judging import RUNS_DEFAULT
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import RecordQuery
from ccn_mcp.node.examining import LAST_DEFAULT, TOKENS_DEFAULT
from ccn_mcp.node.node import Node
from tests.claude.batches import BatchStub
from tests.claude.gullible import gullible
from tests.claude.stub import Answer, Exchange, Reply, Request, Text
from tests.cli.conftest import RUN_S_MAX, Ran, Run, environment, on_store

KEY = "sk-ant-api03-" + "Zq7" * 20


def honest(request: Request) -> Answer:
    system = [block["text"] for block in request.body["system"]]
    usage = {"input_tokens": 1000, "output_tokens": 500}
    return Reply(Text(gullible(system, request.messages[0]["content"][0]["text"])), usage=usage)


@pytest.fixture
def stub() -> Iterator[BatchStub]:
    with BatchStub(honest) as running:
        yield running


@pytest.fixture
def spoken(db: Path) -> str:
    """A conversation with four replies; its id."""

    async def fill(node: Node) -> str:
        loaded = await node.load_plate(model="claude-x")
        given = {"conversation_id": loaded["conversation_id"]}
        for number in range(4):
            await node.record_message("user", f"Question {number}\x1b[31m?", **given)
            await node.record_message(
                "assistant", f"Answer {number}, with care.", instance_id=loaded["instance_id"], **given
            )
        return loaded["conversation_id"]

    conversation: str = on_store(db, fill)
    return conversation


@pytest.fixture
def judges(cli: Run, db: Path, stub: BatchStub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """`ccn-mcp judge …` in this process, against the stub."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", stub.url)
    monkeypatch.setenv("CCN_DB", str(db))
    return lambda *arguments: cli("judge", *arguments)


def kinds(db: Path, kind: Kind) -> list[Any]:
    async def read(node: Node) -> list[Any]:
        found = await node.ctx.store.records(RecordQuery(kinds=(kind,), limit=100, oldest_first=True))
        return [record.body for record in found]

    found: list[Any] = on_store(db, read)
    return found


def test_the_options_say_the_defaults_that_hold() -> None:
    assert (judge.RUNS, judge.LAST, judge.TOKENS) == (RUNS_DEFAULT, LAST_DEFAULT, TOKENS_DEFAULT)


def test_a_judgement_in_words_and_as_json(spoken: str, db: Path, judges: Callable[..., Ran]) -> None:
    done = judges("--continue")
    assert (done.status, done.err) == (0, "")
    assert "5 of 5 runs usable, 4 replies" in done.out
    assert len([line for line in done.out.splitlines() if "(5 runs)" in line]) == 16
    assert "In the consensus as `judge` (entry" in done.out
    assert "Baseline: the program's default" in done.out
    again = json.loads(judges("--conversation", spoken, "--runs", "3", "--no-vote", "--json").out)
    assert again["no_vote"] == "it was asked to stay out of the consensus"
    assert (again["runs"], again["usable"], again["conversation_id"]) == (3, 3, spoken)
    assert [body["purpose"] for body in kinds(db, Kind.USAGE)] == ["judge"] * 8


def test_what_would_be_sent_is_shown_and_nothing_is(
    spoken: str, db: Path, stub: BatchStub, judges: Callable[..., Ran]
) -> None:
    done = judges("--continue", "--dry-run")
    assert (done.status, stub.journal, kinds(db, Kind.USAGE)) == (0, [], [])
    assert "> Answer 3, with care." in done.out
    assert "\x1b" not in done.out
    assert "at most $0." in done.out
    whole, half = (
        json.loads(judges("--continue", "--dry-run", "--json", *more).out) for more in ((), ("--batch",))
    )
    assert whole["prompt"] == half["prompt"]
    assert float(whole["costs_at_most"][1:]) == pytest.approx(2 * float(half["costs_at_most"][1:]), rel=0.01)
    assert judges("--continue", "--dry-run", "--json", "--model", "nobody").out.count('"unknown"') == 1


def test_a_batch_is_sent_and_collected(spoken: str, db: Path, judges: Callable[..., Ran]) -> None:
    assert "No batch" in judges("--collect").out
    sent = judges("--continue", "--batch")
    assert "Sent as batch msgbatch_stub_1" in sent.out
    found = json.loads(judges("--collect", "--json").out)
    assert [item["conversation_id"] for item in found["judged"]] == [spoken]
    assert "No batch" in judges("--collect").out
    assert all(body["batch"] for body in kinds(db, Kind.USAGE))
    assert judges("--continue", "--batch", "--backend", "claude-code").status == 2


def test_what_cannot_be_judged_is_said_in_one_line(db: Path, judges: Callable[..., Ran]) -> None:
    assert judges().status == 2
    assert judges("--continue").status == 3  # there is no store
    assert not db.exists()
    conversation = on_store(db, lambda node: node.record_message("user", "Hello"))["conversation_id"]
    refused = judges("--conversation", conversation)
    assert (refused.status, refused.out) == (4, "")
    assert "has 0 to judge" in refused.err
    assert judges("--conversation", conversation, "--backend", "telepathy").status == 2
    assert judges("--conversation", "c_nowhere").status == 3


def test_a_ceiling_stops_it(
    spoken: str, stub: BatchStub, judges: Callable[..., Ran], monkeypatch: Any
) -> None:
    del spoken
    monkeypatch.setenv("CCN_COST_DAY_USD", "0.000001")
    done = judges("--continue")
    assert (done.status, stub.journal) == (4, [])
    assert "CCN_COST_DAY_USD" in done.err


@pytest.mark.slow
def test_a_ctrl_c_keeps_what_was_spent(spoken: str, db: Path) -> None:
    del spoken
    first = threading.Event()
    let_go = threading.Event()

    class Slow:
        def send(self, exchange: Exchange) -> None:
            first.set()
            let_go.wait(RUN_S_MAX)
            exchange.cut()

    def script(request: Request) -> Answer:
        return honest(request) if len(running.turns) == 1 else Slow()

    with BatchStub(script) as running:
        env = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": running.url, "CCN_DB": str(db)}
        with subprocess.Popen(
            [sys.executable, "-m", "ccn_mcp", "judge", "--continue"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**env),
        ) as process:
            assert first.wait(RUN_S_MAX)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=RUN_S_MAX)
            let_go.set()
    assert (process.returncode, out, err) == (130, "", "ccn-mcp: stopped\n")
    assert [body["stop"] for body in kinds(db, Kind.USAGE)] == ["end_turn", "cancelled"]
    assert kinds(db, Kind.VALIDATION) == []
