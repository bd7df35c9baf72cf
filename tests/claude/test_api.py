"""The API back end against the stub: what is sent, what is kept, and one clear line for everything that goes wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import anthropic
import httpx2
import pytest

from ccn_mcp.claude.api import RETRIES_MAX, ApiModel, problem, retry_after_s
from ccn_mcp.claude.lines import HIDDEN
from ccn_mcp.domain.talk import PROBLEM_CHARS_MAX, Asked, Block, Reply, Turn, text_block
from tests.claude import stub as service
from tests.claude.faults import (
    OLD,
    Cut,
    CutAtTheEnd,
    ErrorInside,
    Events,
    Held,
    NoStop,
    PromptCache,
    Thinking,
    Unheard,
    checked,
    signature,
)
from tests.claude.stub import Answer, Failure, Json, Request, Stub, Text, tokens_in

pytestmark = pytest.mark.anyio

MODEL: Final = "claude-sonnet-5-5"
KEY: Final = "sk-ant-api03-thekeyofthetestthatnobodymaysee0123456789"
LONG: Final = "Grüße aus dem Hafen, wo die Reiher stehen, und dann noch ein langer zweiter Satz."
WAIT_S: Final = 30.0
NEXT_STEPS: Final = ("ask", "check", "choose", "see", "log in", "set ", "begin", "make")
SCHEMA: Final = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


def said(*texts: str, model: str | None = None) -> tuple[Turn, ...]:
    """Turns of the person and the model in turn."""
    return tuple(
        Turn("assistant" if at % 2 else "user", (text_block(text),), model if at % 2 else None)
        for at, text in enumerate(texts)
    )


@dataclass
class Got:
    """What came of one call."""

    reply: Reply = field(default_factory=Reply)
    pieces: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)


async def ask(model: ApiModel, asked: Asked, got: Got | None = None) -> Got:
    """One call, with everything that it says on the way."""
    got = got or Got()
    await model.answer(asked, got.reply, on_text=got.pieces.append, on_wait=got.waits.append)
    return got


def connected(stub: Stub, *, deadline_s: float = WAIT_S, key: str = KEY) -> ApiModel:
    return ApiModel(anthropic.AsyncAnthropic(base_url=stub.url, api_key=key), deadline_s=deadline_s)


async def answered(
    script: Iterable[Answer] | Callable[[Request], Answer],
    asked: Asked | None = None,
    *,
    deadline_s: float = WAIT_S,
) -> tuple[Got, list[Request]]:
    """One question to a stub with this script, and what arrived there."""
    with Stub(script) as stub:
        async with aclosing(connected(stub, deadline_s=deadline_s)) as model:
            got = await ask(model, asked or Asked(MODEL, said("hello")))
    return got, stub.turns


def one_clear_line(problem: str) -> None:
    """A line that a person can act on."""
    assert problem
    assert "\n" not in problem
    assert len(problem) <= PROBLEM_CHARS_MAX
    assert any(word in problem for word in NEXT_STEPS)


# ---- a reply that comes whole --------------------------------------------------------------------------


async def test_after_529_and_429_there_is_one_reply_and_the_pauses_were_kept() -> None:
    later = {"retry-after": "1"}
    script: list[Answer] = [
        Failure(529, "overloaded_error", headers=later),
        Failure(429, "rate_limit_error", headers=later),
        service.Reply(Text(LONG)),
    ]
    got, turns = await answered(script)
    assert (got.reply.text, got.reply.ended, got.reply.problem) == (LONG, "end_turn", "")
    times = [request.at for request in turns]
    assert len(times) == 3
    assert min(times[1] - times[0], times[2] - times[1]) >= 1.0, "the header's second was waited for"
    assert [line.split(";")[0] for line in got.waits] == [
        "the API is overloaded",
        "the API's rate limit is reached",
    ]
    assert "in 1 s (1)" in got.waits[0]


async def test_every_block_is_kept_as_it_came_and_sent_again_unchanged() -> None:
    thought = Thinking("first I look at the harbour, then at the herons", signature(MODEL))
    new = Unheard({"type": "a_block_of_tomorrow", "deep": [1, {"a": None}], "text_like": "x"})
    blocks = (thought, Text(LONG), new)
    with Stub(checked(lambda _: service.Reply(*blocks))) as stub:
        async with aclosing(connected(stub)) as model:
            first = await ask(model, Asked(MODEL, said("one")))
            answer = Turn("assistant", tuple(first.reply.blocks), first.reply.model)
            turns = (*said("one"), answer, *said("two"))
            same = await ask(model, Asked(MODEL, turns))
            other = await ask(model, Asked("claude-opus-5-5", turns))
    assert first.reply.blocks == [block.block() for block in blocks]
    assert first.reply.text == LONG == "".join(first.pieces)
    assert same.reply.ended == other.reply.ended == "end_turn", (
        "the stub refuses a thought that is not the model's"
    )
    assert stub.turns[1].messages[1]["content"] == [block.block() for block in blocks]
    assert stub.turns[2].messages[1]["content"] == [block.block() for block in blocks[1:]]


async def test_the_second_turn_reads_the_system_parts_and_the_first_turn_from_the_cache() -> None:
    plate = "You are Ann's companion. " * 200
    state = "In the last session she was worried about the ferry. " * 50
    script = checked(PromptCache(lambda _: service.Reply(Text("an answer"))))
    with Stub(script) as stub:
        async with aclosing(connected(stub)) as model:
            asked = Asked(MODEL, said("one"), system=(plate, "", state), note="It is Monday, 10:00.")
            first = await ask(model, asked)
            turns = said("one", first.reply.text, "two", model=MODEL)
            second = await ask(model, Asked(MODEL, turns, system=asked.system, note="It is Monday, 10:05."))
    usage = first.reply.usage
    assert usage is not None
    assert usage["cache_creation"]["ephemeral_1h_input_tokens"] >= tokens_in(plate)
    assert usage["cache_creation"]["ephemeral_5m_input_tokens"] > 0
    assert (usage["cache_read_input_tokens"], first.reply.counted) == (0, True)
    again = second.reply.usage
    assert again is not None
    assert (
        again["cache_read_input_tokens"]
        >= usage["cache_creation_input_tokens"]
        >= tokens_in([plate, state]) - 2
    )
    one, two = (request.body for request in stub.turns)
    assert one["system"] == two["system"], "a system that changes is not read from the cache"
    assert [one["messages"][-1], two["messages"][-1]] == [
        {"role": "system", "content": "It is Monday, 10:00."},
        {"role": "system", "content": "It is Monday, 10:05."},
    ]


async def test_at_most_four_marks_whatever_the_parts() -> None:
    got, turns = await answered(
        checked(lambda _: service.Reply(Text("fine"))), Asked(MODEL, said("one"), system=tuple("abcdef"))
    )
    assert got.reply.whole, got.reply.problem
    marked = [part["text"] for part in turns[0].body["system"] if "cache_control" in part]
    assert marked == ["d", "e", "f"]


async def test_an_old_model_gets_the_note_inside_the_persons_turn_and_its_end_is_told_once() -> None:
    old = OLD[0]
    with Stub(checked(lambda _: service.Reply(Text("fine")))) as stub:
        async with aclosing(connected(stub)) as model:
            got = [await ask(model, Asked(old, said("one"), note="It is Monday.")) for _ in range(2)]
    assert [entry.reply.ended for entry in got] == ["end_turn"] * 2
    for request in stub.turns:
        (turn,) = request.messages
        assert [block["text"] for block in turn["content"]] == ["one", "It is Monday."]
        assert "cache_control" not in turn["content"][-1], "the note changes with every turn"
    ((line,), none) = (entry.waits for entry in got)
    assert (old in line, "end-of-life" in line, "\n" in line) == (True, True, False)
    assert none == []


async def test_a_schema_goes_along_and_the_reply_is_its_json() -> None:
    asked = Asked(MODEL, said("who?"), schema=SCHEMA, effort="low")
    got, turns = await answered([service.Reply(Text('{"name": "Ann"}'))], asked)
    assert (got.reply.ended, got.reply.text) == ("end_turn", '{"name": "Ann"}')
    sent = turns[0].body["output_config"]
    assert (sent["effort"], sent["format"]["schema"]["required"]) == ("low", ["name"])


async def test_a_reply_whose_last_event_is_lost_is_whole() -> None:
    got, _ = await answered([CutAtTheEnd(service.Reply(Text(LONG)))])
    assert (got.reply.text, got.reply.ended, got.reply.counted) == (LONG, "end_turn", True)


# ---- what goes wrong after the first byte --------------------------------------------------------------

TALK: Final = service.Reply(Thinking("hm", signature(MODEL)), Text(LONG))
SHOWN: Final = LONG[: service.DELTA_CHARS]
"""Two deltas of `TALK` after its thought, which has two."""

AFTER: Final = 2 + 1

AFTER_TWO: Final[dict[str, tuple[Answer, str]]] = {
    "the socket is closed": (Cut(TALK, AFTER), "connection"),
    "the connection is reset": (Cut(TALK, AFTER, reset=True), "connection"),
    "an error event with status 200": (ErrorInside(TALK, deltas=AFTER), "overloaded_error"),
    "an unknown error event": (ErrorInside(TALK, "a_new_error", "of tomorrow", AFTER), "a_new_error"),
    "a clean end without message_stop": (NoStop(TALK, AFTER), "truncated"),
}


@pytest.mark.parametrize("fault", AFTER_TWO)
async def test_what_came_before_a_fault_is_kept_and_it_is_not_asked_for_again(fault: str) -> None:
    answer, ended = AFTER_TWO[fault]
    got, turns = await answered([answer, TALK])
    reply = got.reply
    assert reply.ended == ended
    one_clear_line(reply.problem)
    assert reply.text == SHOWN == "".join(got.pieces)
    assert [block["type"] for block in reply.blocks] == ["thinking", "text"]
    assert reply.blocks[1] == text_block(SHOWN)
    assert reply.usage is not None
    assert (reply.usage["output_tokens"], reply.counted) == (1, False)
    assert (reply.request_id, reply.model) == ("req_stub_1", MODEL)
    assert len(turns) == 1, "a reply that has begun is never asked for twice"


async def test_half_a_thought_is_not_kept() -> None:
    got, _ = await answered([Cut(TALK, 1)])
    assert (got.reply.blocks, got.reply.text, got.reply.ended) == ([], "", "connection")


@pytest.mark.parametrize(
    ("reply", "asked", "ended"),
    [
        (service.Reply(Text(LONG), stop_reason="refusal"), None, "refusal"),
        (service.Reply(Text(LONG), stop_reason="max_tokens"), None, "max_tokens"),
        (
            service.Reply(Text(LONG), stop_reason="model_context_window_exceeded"),
            None,
            "model_context_window_exceeded",
        ),
        (service.Reply(Text(LONG), stop_reason="of_tomorrow"), None, "of_tomorrow"),
        (service.Reply(Text('{"name": "An')), Asked(MODEL, said("who?"), schema=SCHEMA), "malformed"),
        (
            service.Reply(Text('{"name": "An'), stop_reason="max_tokens"),
            Asked(MODEL, said("who?"), schema=SCHEMA),
            "max_tokens",
        ),
    ],
    ids=["refusal", "max_tokens", "context", "unknown", "cut JSON", "JSON at the limit"],
)
async def test_a_reply_that_is_not_whole_is_kept_counted_and_said(
    reply: service.Reply, asked: Asked | None, ended: str
) -> None:
    got, _ = await answered([reply], asked)
    assert (got.reply.ended, got.reply.whole, got.reply.counted) == (ended, False, True)
    one_clear_line(got.reply.problem)
    assert got.reply.blocks == [block.block() for block in reply.blocks]


def begun(**changed: Any) -> Json:
    message: Json = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 1},
    }
    return {"type": "message_start", "message": {**message, **changed}}


NONSENSE: Final[dict[str, tuple[Json, ...]]] = {
    "a delta of no block": (
        begun(),
        {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta"}},
    ),
    "no message at all": ({"type": "message_stop"},),
    "no usage": (begun(usage=None),),
    "a usage in words": (begun(usage="some"),),
    "content in words": (begun(content="hello"), {"type": "message_stop"}),
    "blocks that are none": (begun(content=[5, None, {"type": "text"}]),),
    "no model": (begun(model=None),),
    "a message of another shape": ({"type": "message_start", "message": "hello"},),
}


@pytest.mark.parametrize("what", NONSENSE)
async def test_nonsense_is_one_line_and_no_traceback(what: str) -> None:
    got, _ = await answered([Events(NONSENSE[what])])
    assert got.reply.ended in ("unreadable", "truncated")
    one_clear_line(got.reply.problem)


# ---- what goes wrong before it -------------------------------------------------------------------------

BEFORE: Final[dict[str, tuple[Failure, str, int]]] = {
    "401": (Failure(401, "authentication_error"), "authentication_error", 1),
    "402": (Failure(402, "billing_error"), "billing_error", 1),
    "403": (Failure(403, "permission_error"), "permission_error", 1),
    "404": (Failure(404, "not_found_error", "model: claude-sonnet-5-5"), "not_found_error", 1),
    "413": (Failure(413, "request_too_large"), "request_too_large", 1),
    "400": (Failure(400, "invalid_request_error", "messages: too many\nlines"), "invalid_request_error", 1),
    "422": (Failure(422, "an_error_of_tomorrow", "x" * 5_000), "an_error_of_tomorrow", 1),
    "500": (Failure(500, "api_error", headers={"retry-after-ms": "1"}), "api_error", 1 + RETRIES_MAX),
    "529": (
        Failure(529, "overloaded_error", headers={"retry-after-ms": "1"}),
        "overloaded_error",
        1 + RETRIES_MAX,
    ),
    "429": (
        Failure(429, "rate_limit_error", headers={"retry-after-ms": "1"}),
        "rate_limit_error",
        1 + RETRIES_MAX,
    ),
}


@pytest.mark.parametrize("status", BEFORE)
async def test_a_refused_request_is_one_clear_line_after_a_few_tries(status: str) -> None:
    failure, ended, tries = BEFORE[status]
    got, turns = await answered(lambda _: failure)
    assert (got.reply.ended, got.reply.text, got.reply.blocks, got.reply.usage) == (ended, "", [], None)
    one_clear_line(got.reply.problem)
    assert got.reply.request_id == f"req_stub_{tries}"
    assert len(turns) == tries
    assert len(got.waits) == tries - 1


async def test_an_hour_long_pause_is_not_waited_for() -> None:
    failure = Failure(429, "rate_limit_error", headers={"retry-after": "3600"})
    async with asyncio.timeout(WAIT_S):
        got, turns = await answered([failure, TALK], deadline_s=600)
    assert (got.reply.ended, len(turns)) == ("rate_limit_error", 1)
    one_clear_line(got.reply.problem)
    assert "60 minutes" in got.reply.problem


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 3600),
        ({"retry-after": "Sun, 22 Nov 2026 09:00:00 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 0),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0),
    ],
)
def test_a_pause_is_read_from_every_header_that_can_ask_for_it(
    headers: dict[str, str], seconds: float
) -> None:
    assert retry_after_s(headers) == seconds


async def test_a_service_that_is_not_there_or_is_another_one() -> None:
    with Stub([]) as stub:
        closed = stub.url
        async with aclosing(
            ApiModel(anthropic.AsyncAnthropic(base_url=f"{stub.url}/elsewhere", api_key=KEY))
        ) as model:
            other = await ask(model, Asked(MODEL, said("hello")))
    assert other.reply.ended in ("no_service", "not_found_error")
    one_clear_line(other.reply.problem)
    client = anthropic.AsyncAnthropic(base_url=closed, api_key=KEY)
    async with aclosing(ApiModel(client, deadline_s=2.0)) as model:
        gone = await ask(model, Asked(MODEL, said("hello")))
    assert gone.reply.ended in ("unreachable", "deadline"), "it is tried again meanwhile"
    one_clear_line(gone.reply.problem)
    assert "could not be reached" in gone.waits[0]


async def test_what_was_never_sent_is_told_from_what_was_lost() -> None:
    with Stub([]) as stub:
        closed = stub.url
    client = anthropic.AsyncAnthropic(base_url=closed, api_key=KEY, max_retries=0)
    async with client:
        with pytest.raises(anthropic.APIConnectionError) as raised:
            await client.models.list()
    assert problem(raised.value, MODEL)[0] == "unreachable"
    assert problem(httpx2.RemoteProtocolError("cut"), MODEL)[0] == "connection"


# ---- the key -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["401", "400"])
async def test_the_key_is_in_nothing_that_we_keep_or_show(
    answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ccn_mcp")
    own = "a-token-in-no-known-format"
    echo = f"what is {own} and Authorization: Bearer {KEY}?"
    failure = Failure(int(answer), "echoing_error", echo)
    with Stub(lambda _: failure) as stub:
        client = anthropic.AsyncAnthropic(base_url=stub.url, auth_token=own)
        async with aclosing(ApiModel(client)) as model:
            got = await ask(model, Asked(MODEL, said("hello")))
        kept = repr(stub.journal[0].body)
    assert stub.journal[0].headers["authorization"] == f"Bearer {own}", "else this shows nothing"
    everything = repr(got) + kept + "".join(record.getMessage() for record in caplog.records if ours(record))
    assert own not in everything
    assert KEY not in everything
    assert HIDDEN in got.reply.problem


def ours(record: logging.LogRecord) -> bool:
    """The SDK's own debug logs are its affair."""
    return record.name.startswith("ccn_mcp")


async def test_a_key_that_cannot_be_sent_is_a_line_without_it() -> None:
    with Stub([]) as stub:
        async with aclosing(connected(stub, deadline_s=2.0, key="sk-ant-with-a-line\nbreak")) as model:
            got = await ask(model, Asked(MODEL, said("hello")))
    assert got.reply.ended in ("unsent", "connection", "deadline")
    one_clear_line(got.reply.problem)
    assert "with-a-line" not in repr(got)
    assert stub.journal == []


async def test_a_reply_that_is_stopped_is_kept_with_its_blocks() -> None:
    held = Held(TALK, AFTER)
    arrived = asyncio.Event()
    got = Got()
    blocks: list[Block] = []

    def piece(text: str) -> None:
        got.pieces.append(text)
        arrived.set()

    with Stub([held]) as stub:
        async with aclosing(connected(stub)) as model:
            task = asyncio.create_task(model.answer(Asked(MODEL, said("hello")), got.reply, on_text=piece))
            async with asyncio.timeout(WAIT_S):
                await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        held.let_go.set()
    blocks = got.reply.blocks
    assert (got.reply.ended, got.reply.text) == ("cancelled", SHOWN)
    assert [block["type"] for block in blocks] == ["thinking", "text"]
    assert got.reply.usage is not None
    assert not got.reply.counted
