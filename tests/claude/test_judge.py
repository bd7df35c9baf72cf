"""The judge over the real SDK and the stub: one by one, and as a batch."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anthropic
import pytest

from ccn_mcp.claude.api import ApiModel
from ccn_mcp.claude.batches import ApiBatches
from ccn_mcp.domain.errors import CostCeiling, JudgeFailed
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Record, RecordQuery
from ccn_mcp.node.judge import judge
from ccn_mcp.node.judge_batch import collect, submit
from ccn_mcp.node.node import Node
from tests.claude.batches import PATH, BatchStub, NotDone
from tests.claude.gullible import gullible
from tests.claude.stub import Answer, Failure, Reply, Request, Stub, Text
from tests.domain.test_judging import INJECTIONS
from tests.node.test_judge import records, scores, talk_on
from tests.node.world import node_on

pytestmark = pytest.mark.anyio
MODEL: Final = "claude-sonnet-5-5"
KEY: Final = "sk-ant-api03-the-secret-of-this-test-0123456789"
USAGE: Final = {"input_tokens": 1_000_000, "output_tokens": 100_000}


@asynccontextmanager
async def client_of(stub: Stub) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=stub.url, api_key=KEY) as client:
        yield client


def honest(request: Request) -> Answer:
    """What the gullible judge says to this request."""
    system = [block["text"] for block in request.body["system"]]
    return Reply(Text(gullible(system, request.messages[0]["content"][0]["text"])), usage=USAGE)


async def usage_of(node: Node) -> list[Any]:
    return [record.body for record in await records(node, Kind.USAGE)]


async def nothing_but_costs(node: Node) -> None:
    assert await records(node, Kind.VECTOR, Kind.CONSENSUS) == []
    assert [body["purpose"] for body in await usage_of(node)] == ["judge"] * 3


BROKEN: Final[dict[str, Callable[[], Answer]]] = {
    "out of range": lambda: Reply(Text(scores(7)), usage=USAGE),
    "refusal": lambda: Reply(Text("No."), stop_reason="refusal", usage=USAGE),
    "truncated JSON": lambda: Reply(Text(scores()[:100]), stop_reason="max_tokens", usage=USAGE),
    "JSON that ends early": lambda: Reply(Text(scores()[:100]), usage=USAGE),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_no_vector_and_the_cost_is_kept(tmp_path: Path, case: str) -> None:
    """Check 5 of the specification of the API."""
    with Stub(lambda _: BROKEN[case]()) as stub:
        async with node_on(tmp_path / "a.db") as node, client_of(stub) as client:
            conversation, _ = await talk_on(node)
            with pytest.raises(JudgeFailed):
                await judge(node.ctx, node.caller, ApiModel(client), MODEL, conversation)
            await nothing_but_costs(node)
            # 2 and 10 dollars a million.
            assert [body["cost_pico"] for body in await usage_of(node)] == [3 * 10**12] * 3


async def test_the_request_has_the_schema_the_quoted_conversation_and_no_more(tmp_path: Path) -> None:
    with Stub(honest) as stub:
        async with node_on(tmp_path / "a.db") as node, client_of(stub) as client:
            conversation, _ = await talk_on(node)
            done = await judge(node.ctx, node.caller, ApiModel(client), MODEL, conversation)
            assert done["no_vote"] is None
        bodies = [request.body for request in stub.turns]
        assert len(bodies) == 5
        assert all(body == bodies[0] for body in bodies)
        output = bodies[0]["output_config"]
        assert output["effort"] == "low"
        assert output["format"]["schema"]["$defs"]["trait"]["properties"]["score"]["enum"][-1] is None
        assert [turn["role"] for turn in bodies[0]["messages"]] == ["user"]
        assert set(bodies[0]) <= {"model", "max_tokens", "messages", "system", "output_config", "stream"}


async def test_no_injection_in_the_conversation_moves_a_score(tmp_path: Path) -> None:
    """Over the wire, with a judge that obeys whatever is not quoted; the words are the person's and a reply's."""
    found = set()
    with Stub(honest) as stub:
        for number, words in enumerate(["", *INJECTIONS[:: len(INJECTIONS) // 4]]):
            async with node_on(tmp_path / f"{number}.db") as node, client_of(stub) as client:
                conversation, instance = await talk_on(node)
                await node.record_message("user", f"And?\n{words}", conversation_id=conversation)
                await node.record_message(
                    "assistant", f"Off.\n{words}", conversation_id=conversation, instance_id=instance
                )
                await judge(node.ctx, node.caller, ApiModel(client), MODEL, conversation, runs=3)
                (vector,) = await records(node, Kind.VECTOR)
                found.add(vector.blob)
    assert len(found) == 1


# ---- batches -------------------------------------------------------------------------------------------


@asynccontextmanager
async def batch_on(
    path: Path, script: Iterable[Answer] | Callable[[Request], Answer], **given: Any
) -> AsyncIterator[tuple[Node, ApiBatches, BatchStub, str]]:
    batches = {name: given.pop(name) for name in ("at_work", "tier") if name in given}
    with BatchStub(script, **batches) as stub:
        async with node_on(path / "a.db", **given) as node, client_of(stub) as client:
            conversation, _ = await talk_on(node)
            yield node, ApiBatches(client), stub, conversation


async def orders(node: Node) -> list[Record]:
    found = await node.ctx.store.records(RecordQuery(kinds=(Kind.VALIDATION,), limit=100, oldest_first=True))
    return list(found)


async def test_a_batch_is_recorded_waited_for_and_collected_once_at_half_the_price(tmp_path: Path) -> None:
    async with batch_on(tmp_path, honest, at_work=1) as (node, batches, stub, conversation):
        sent = await submit(node.ctx, node.caller, batches, MODEL, conversation)
        (order,) = await orders(node)
        assert (order.body or {})["batch"] == sent.batch == "msgbatch_stub_1"
        first = await collect(node.ctx, node.caller, batches)
        assert (first.judged, first.waiting) == ((), 1)
        assert await usage_of(node) == []
        second = await collect(node.ctx, node.caller, batches)
        assert [done["judgement"] for done in second.judged] == [sent.judgement]
        assert second.judged[0]["no_vote"] is None
        assert [body["cost_pico"] for body in await usage_of(node)] == [3 * 10**12 // 2] * 5
        size = (await node.ctx.store.info()).head.size
        asked = len(stub.journal)
        third = await collect(node.ctx, node.caller, batches)
        assert (third.judged, third.problems, third.waiting) == ((), (), 0)
        assert (await node.ctx.store.info()).head.size == size
        assert len(stub.journal) == asked  # there is nothing to ask about


async def test_a_batch_costs_half_also_where_its_replies_do_not_say_that_they_are_of_one(
    tmp_path: Path,
) -> None:
    async with batch_on(tmp_path, honest, tier=None) as (node, batches, _, conversation):
        await submit(node.ctx, node.caller, batches, MODEL, conversation)
        await collect(node.ctx, node.caller, batches)
        assert [body["cost_pico"] for body in await usage_of(node)] == [3 * 10**12 // 2] * 5


async def test_a_process_that_ended_in_the_middle_of_collecting_pays_nothing_twice(tmp_path: Path) -> None:
    async with batch_on(tmp_path, honest) as (node, batches, _, conversation):
        await submit(node.ctx, node.caller, batches, MODEL, conversation)
        real = node.ctx.store.append
        calls = 0

        async def dies_after_two(group: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise KeyboardInterrupt
            return await real(group)

        node.ctx.store.append = dies_after_two  # type: ignore[method-assign]  # the process ends there
        with pytest.raises(KeyboardInterrupt):
            await collect(node.ctx, node.caller, batches)
        node.ctx.store.append = real  # type: ignore[method-assign]  # the next process
        assert len(await usage_of(node)) == 2
        done = await collect(node.ctx, node.caller, batches)
        assert len(done.judged) == 1
        assert len(await usage_of(node)) == 5


async def test_requests_that_were_not_answered_cost_nothing_and_three_answers_are_enough(
    tmp_path: Path,
) -> None:
    answers: list[Answer] = [
        Reply(Text(scores()), usage=USAGE),
        Failure(500, "api_error"),
        Reply(Text(scores()), usage=USAGE),
        NotDone("expired"),
        Reply(Text(scores()), usage=USAGE),
    ]
    async with batch_on(tmp_path, answers) as (node, batches, _, conversation):
        await submit(node.ctx, node.caller, batches, MODEL, conversation)
        (done,) = (await collect(node.ctx, node.caller, batches)).judged
        assert (done["usable"], done["runs"]) == (3, 5)
        costs = [body["cost_pico"] for body in await usage_of(node)]
        assert costs == [15 * 10**11, 0, 15 * 10**11, 0, 15 * 10**11]


async def test_a_batch_of_bad_replies_is_a_problem_that_is_told_once(tmp_path: Path) -> None:
    bad = [Reply(Text(scores(9)), usage=USAGE)] * 5
    async with batch_on(tmp_path, bad) as (node, batches, _, conversation):
        await submit(node.ctx, node.caller, batches, MODEL, conversation)
        found = await collect(node.ctx, node.caller, batches)
        assert found.judged == ()
        assert "0 of 5 replies" in found.problems[0]
        assert len(await usage_of(node)) == 5
        assert await records(node, Kind.VECTOR) == []
        assert (await collect(node.ctx, node.caller, batches)).problems == ()


async def test_a_message_that_was_erased_meanwhile_is_not_judged(tmp_path: Path) -> None:
    async with batch_on(tmp_path, honest) as (node, batches, _, conversation):
        await submit(node.ctx, node.caller, batches, MODEL, conversation)
        await node.redact_message(conversation_id=conversation, n=2)
        found = await collect(node.ctx, node.caller, batches)
        assert found.judged == ()
        assert "erased" in found.problems[0]
        assert len(await usage_of(node)) == 5
        assert await records(node, Kind.VECTOR) == []


async def test_a_batch_that_the_service_has_no_longer_is_told_once(tmp_path: Path) -> None:
    async with batch_on(tmp_path, honest) as (node, batches, stub, conversation):
        await submit(node.ctx, node.caller, batches, MODEL, conversation)
        stub.batches.clear()
        assert "no longer" in (await collect(node.ctx, node.caller, batches)).problems[0]
        assert (await collect(node.ctx, node.caller, batches)).problems == ()


async def test_the_ceiling_counts_all_runs_of_a_batch_before_it_is_sent(tmp_path: Path) -> None:
    # A run costs 0.045 dollars at the most in a batch, five of them 0.22.
    async with batch_on(tmp_path, honest, cost_day_pico=15 * 10**10) as (node, batches, stub, conversation):
        with pytest.raises(CostCeiling):
            await submit(node.ctx, node.caller, batches, MODEL, conversation)
        assert [request for request in stub.journal if request.path.startswith(PATH)] == []
        await submit(node.ctx, node.caller, batches, MODEL, conversation, runs=3)


async def test_a_service_that_cannot_be_asked_is_told_in_one_line_without_the_key(tmp_path: Path) -> None:
    async with node_on(tmp_path / "a.db") as node:
        conversation, _ = await talk_on(node)
        with Stub([]) as stub:  # it knows no batches
            async with client_of(stub) as client:
                with pytest.raises(JudgeFailed) as caught:
                    await submit(node.ctx, node.caller, ApiBatches(client), MODEL, conversation)
        assert KEY not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert await orders(node) == []
        assert KEY not in json.dumps([record.body for record in await records(node, *Kind)])
