"""The stub answers as the official client expects of the real service, and lets nothing pass unseen."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final, TypeAlias

import anthropic
import httpx2
import pytest
from anthropic.types import MessageParam, ToolResultBlockParam

from tests.claude.stub import Answer, Exchange, Failure, Reply, Request, Stub, Text, ToolUse, text_of

MODEL: Final = "claude-stub"
WAIT_S: Final = 30
HELLO: Final[list[MessageParam]] = [{"role": "user", "content": "hello"}]
LONG: Final = "Grüße aus dem Hafen, mit «Anführung» und\neiner zweiten Zeile. " * 3
LOOK: Final = ToolUse("toolu_1", "look", {"where": LONG, "deep": [1, {"a": None}]})

Connect: TypeAlias = Callable[[Stub], anthropic.Anthropic]


@pytest.fixture
def connect() -> Iterator[Connect]:
    made: list[anthropic.Anthropic] = []

    def to(stub: Stub) -> anthropic.Anthropic:
        made.append(anthropic.Anthropic(base_url=stub.url, api_key="stub", max_retries=1, timeout=WAIT_S))
        return made[-1]

    yield to
    for client in made:
        client.close()


def ask(client: anthropic.Anthropic) -> anthropic.types.Message:
    return client.messages.create(model=MODEL, max_tokens=100, messages=HELLO)


def test_a_stream_and_a_plain_answer_say_the_same(connect: Connect) -> None:
    reply = Reply(Text(LONG), LOOK)
    with Stub([reply, reply]) as stub:
        client = connect(stub)
        plain = ask(client)
        with client.messages.stream(model=MODEL, max_tokens=100, messages=HELLO) as stream:
            streamed = stream.get_final_message()
        assert stream.request_id == "req_stub_2"
    assert [block.to_dict() for block in plain.content] == [Text(LONG).block(), LOOK.block()]
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in plain.content]
    assert plain.stop_reason == streamed.stop_reason == "tool_use"
    assert streamed.usage.output_tokens == plain.usage.output_tokens > 1


def test_the_events_come_in_the_real_order() -> None:
    with Stub([Reply(Text(LONG), LOOK)]) as stub:
        body = b'{"model": "m", "stream": true, "messages": []}'
        with closing(urllib.request.urlopen(f"{stub.url}/v1/messages?beta=true", body, WAIT_S)) as response:  # noqa: S310 - loopback
            assert response.headers["content-type"].startswith("text/event-stream")
            sent = response.read().decode()
    names = re.findall(r"^event: (\w+)$", sent, re.MULTILINE)
    runs = [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    first = [block[0], "ping", *block[1:]]
    assert runs == ["message_start", *first, *block, "message_delta", "message_stop"]
    assert names.count("content_block_delta") > 4, "several deltas, so that a stream can be cut between two"


def test_look_ups_need_no_script_and_everything_is_in_the_journal(connect: Connect) -> None:
    with Stub([]) as stub:
        client = connect(stub)
        few = client.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens
        many = client.messages.count_tokens(model=MODEL, messages=HELLO * 50).input_tokens
        assert 0 < few < many
        assert client.models.retrieve(MODEL).id == MODEL
        with pytest.raises(urllib.error.HTTPError, match="404") as missing:
            urllib.request.urlopen(f"{stub.url}/elsewhere?a=b", timeout=WAIT_S)  # noqa: S310 - loopback
        missing.value.close()
        journal = [(request.method, request.path) for request in stub.journal]
        times = [request.at for request in stub.journal]
    counted = ("POST", "/v1/messages/count_tokens")
    assert journal == [counted, counted, ("GET", f"/v1/models/{MODEL}"), ("GET", "/elsewhere")]
    assert times == sorted(times)
    assert stub.turns == []
    assert stub.journal[0].headers["authorization"] == "Bearer stub"


def test_a_function_answers_by_what_was_asked(connect: Connect) -> None:
    def script(request: Request) -> Answer:
        results = request.tool_results
        return Reply(Text(text_of(results["toolu_1"]))) if results else Reply(LOOK)

    with Stub(script) as stub:
        client = connect(stub)
        used = ask(client)
        result: ToolResultBlockParam = {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "content": [{"type": "text", "text": "a harbour"}],
        }
        answer: MessageParam = {"role": "assistant", "content": used.content}
        asked: list[MessageParam] = [*HELLO, answer, {"role": "user", "content": [result]}]
        said = client.messages.create(model=MODEL, max_tokens=100, messages=asked)
    assert said.content[0].to_dict() == Text("a harbour").block()
    assert len(stub.turns) == 2


def test_failures_arrive_as_the_client_names_them(connect: Connect) -> None:
    again = {"retry-after": "0"}
    with Stub([Failure(529, "overloaded_error", headers=again), Reply(Text("then"))]) as stub:
        client = connect(stub)
        assert ask(client).content[0].to_dict() == Text("then").block()
        with pytest.raises(anthropic.BadRequestError, match="no further answer"):
            ask(client)
    assert len(stub.turns) == 3, "one was tried again, the one after the end of the script was not"


def test_a_fault_is_a_small_class_of_its_own(connect: Connect) -> None:
    class Cut:
        def send(self, exchange: Exchange) -> None:
            for number, event in enumerate(Reply(Text(LONG)).events(exchange)):
                if number == 5:
                    exchange.cut()
                    return
                exchange.event(event)

    with (
        Stub([Cut()]) as stub,
        connect(stub).messages.stream(model=MODEL, max_tokens=9, messages=HELLO) as stream,
    ):
        with pytest.raises((httpx2.RemoteProtocolError, anthropic.APIError)):
            stream.until_done()
        said = stream.current_message_snapshot.content[0].to_dict()["text"]
    assert isinstance(said, str)
    assert said
    assert LONG.startswith(said)
    assert said != LONG


def test_an_assertion_in_a_script_fails_the_test(connect: Connect) -> None:
    def script(_: Request) -> Answer:
        raise AssertionError("not what was asked for")

    def run() -> None:
        with Stub(script) as stub, pytest.raises(anthropic.BadRequestError, match="the script failed"):
            ask(connect(stub))

    with pytest.raises(AssertionError, match="not what was asked for"):
        run()
