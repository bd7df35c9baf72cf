"""What a service does wrong, as a person sees it who talks through `ccn-mcp chat`: one clear line, and nothing lost.

The retries' own pauses are a millisecond (`retry-after-ms`), so that nothing here waits.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp.claude.api import RETRIES_MAX
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Body, RecordQuery
from ccn_mcp.domain.talk import INTERRUPTED
from ccn_mcp.node.node import Node
from tests.claude.faults import Cut, ErrorInside, NoStop, Thinking, checked, signature, until
from tests.claude.stub import DELTA_CHARS, Answer, Exchange, Failure, Reply, Request, Stub, Text
from tests.cli.conftest import Ran, Run, on_store

MODEL: Final = "claude-sonnet-5-5"
KEY: Final = "sk-ant-api03-" + "Zq7" * 20
ASKED: Final = "Tell me of the tide"
TOLD: Final = "The tide comes in over the flats, and the herons stand and wait for it until the evening."
SHOWN: Final = TOLD[: 2 * DELTA_CHARS]
WHOLE: Final = Reply(Text(TOLD))
NOW: Final = {"retry-after-ms": "1"}
TRIES: Final = 1 + RETRIES_MAX


@dataclass(frozen=True)
class HalfAnEvent:
    """A stream whose third delta is JSON that stops in the middle; the stream itself ends in good order."""

    reply: Reply

    def send(self, exchange: Exchange) -> None:
        """Two deltas, then half of one."""
        for event in until(self.reply, exchange, 2):
            exchange.event(event)
        data = b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0, "de\n\n'
        exchange._chunk(data)  # the stub has no other way to send what is no JSON


@dataclass(frozen=True)
class HalfABody:
    """A response whose JSON stops in the middle, and the connection with it."""

    status: int = 200

    def send(self, exchange: Exchange) -> None:
        """A head that promises more than comes."""
        exchange.json(self.status, {"type": "message", "content": []}, {"content-length": "9000", **NOW})
        exchange.cut()


@dataclass(frozen=True)
class Fault:
    """A fault, what it is called in the record, what its line says, and what it leaves."""

    answers: tuple[Answer, ...]
    ended: str
    line: str
    partial: str = ""
    marked: bool = True
    """Whether the next request says that the reply was interrupted."""

    tries: int = 1


FAULTS: Final[dict[str, Fault]] = {
    "429s until the retries are spent": Fault(
        (Failure(429, "rate_limit_error", headers=NOW),) * TRIES,
        "rate_limit_error",
        "wait a little, then ask again",
        tries=TRIES,
    ),
    "529s until the retries are spent": Fault(
        (Failure(529, "overloaded_error", headers=NOW),) * TRIES,
        "overloaded_error",
        "wait a little, then ask again",
        tries=TRIES,
    ),
    "a pause of an hour": Fault(
        (Failure(429, "rate_limit_error", headers={"retry-after": "3600"}),),
        "rate_limit_error",
        "asks for a pause of 60 minutes",
    ),
    "a retired model": Fault((Failure(404, "not_found_error"),), "not_found_error", "with --model"),
    "closed after two deltas": Fault((Cut(WHOLE),), "connection", "then ask again", SHOWN),
    "reset after two deltas": Fault((Cut(WHOLE, reset=True),), "connection", "then ask again", SHOWN),
    "an error event with status 200": Fault(
        (ErrorInside(WHOLE),), "overloaded_error", "then ask again", SHOWN
    ),
    "a clean end without message_stop": Fault((NoStop(WHOLE),), "truncated", "ask again", SHOWN),
    "half an event's JSON": Fault((HalfAnEvent(WHOLE),), "unreadable", "ask again", SHOWN),
    "half of a body": Fault((HalfABody(),), "connection", "then ask again"),
    "half of an error's body": Fault(
        (HalfABody(500),) * TRIES,
        "connection",
        "then ask again",
        tries=TRIES,
    ),
    "a refusal": Fault((Reply(Text(SHOWN), stop_reason="refusal"),), "refusal", "ask in another way", SHOWN),
    "a refusal without a word": Fault((Reply(stop_reason="refusal"),), "refusal", "ask in another way"),
    "the limit of tokens": Fault(
        (Reply(Text(SHOWN), stop_reason="max_tokens"),), "max_tokens", "ask it to go on", SHOWN, marked=False
    ),
    "closed within a thought": Fault(
        (Cut(Reply(Thinking("The person wants to hear of the tide", signature(MODEL)), Text(TOLD))),),
        "connection",
        "then ask again",
    ),
}


@pytest.fixture
def says(cli: Run, db: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """`ccn-mcp chat …` in this process against a stub."""

    def chat(stub: Stub, *arguments: str, **more: str) -> Ran:
        with monkeypatch.context() as changed:
            given = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stub.url, "CCN_DB": str(db), **more}
            for name, value in given.items():
                changed.setenv(name, value)
            return cli("chat", *arguments)

    return chat


def kept(db: Path, kind: Kind) -> list[Body]:
    """Every entry of a kind, oldest first; the chain is whole."""

    async def read(node: Node) -> list[Body]:
        assert (await node.verify_chain())["ok"]
        records = await node.ctx.store.records(RecordQuery(kinds=(kind,), oldest_first=True, limit=100))
        return [record.body for record in records if record.body is not None]

    found: list[Body] = on_store(db, read)
    return found


def sent(request: Request) -> list[tuple[str, list[str]]]:
    """The conversation's own turns in a request."""
    return [
        (turn["role"], [block["text"] for block in turn["content"]])
        for turn in request.messages
        if turn["role"] != "system"
    ]


def one_line(done: Ran, line: str, waits: int = 0) -> None:
    """Beside one line for each pause there is exactly one, and it says what to do."""
    lines = done.err.splitlines()
    assert all(said.startswith("ccn-mcp: ") for said in lines), done.err
    assert sum("trying again" in said for said in lines) == waits
    assert len(lines) == waits + 1
    assert line in lines[-1]
    assert "Traceback" not in done.out + done.err


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_nothing_is_lost_and_it_goes_on(
    name: str, db: Path, says: Callable[..., Ran]
) -> None:
    fault = FAULTS[name]
    script = iter((*fault.answers, WHOLE))
    with Stub(checked(lambda _: next(script))) as stub:
        done = says(stub, ASKED)
        assert done.status == 1
        one_line(done, fault.line, fault.tries - 1)
        assert done.out == (f"{fault.partial}\n" if fault.partial else "")
        assert len(stub.turns) == fault.tries
        said = [(body["role"], body["text"], body.get("ended")) for body in kept(db, Kind.MESSAGE)]
        replied = [("assistant", fault.partial, fault.ended)] if fault.partial else []
        assert said == [("user", ASKED, None), *replied]
        (usage,) = kept(db, Kind.USAGE)
        assert (usage["purpose"], usage["stop"], usage["asked"]) == ("chat", fault.ended, MODEL)
        assert usage["conversation"] == kept(db, Kind.MESSAGE)[0]["conversation"]
        again = says(stub, "--continue", "Go on")
    assert (again.status, again.out, again.err) == (0, f"{TOLD}\n", "")
    if fault.partial:
        marks = [INTERRUPTED] if fault.marked else []
        turns = [("user", [ASKED]), ("assistant", [fault.partial, *marks]), ("user", ["Go on"])]
    else:
        turns = [("user", [ASKED, "Go on"])]
    assert sent(stub.turns[-1]) == turns
    assert [body["stop"] for body in kept(db, Kind.USAGE)] == [fault.ended, "end_turn"]


def test_what_was_counted_before_a_fault_has_a_lower_bound_of_its_cost(
    db: Path, says: Callable[..., Ran]
) -> None:
    with Stub([Cut(WHOLE)]) as stub:
        says(stub, ASKED)
    (usage,) = kept(db, Kind.USAGE)
    assert usage["complete"] is False
    assert int(str(usage["most_pico"])) > int(str(usage["cost_pico"])) > 0
    (_, reply) = kept(db, Kind.MESSAGE)
    assert reply["request"] == usage["request_id"] == "req_stub_1"


def test_what_was_refused_before_the_model_cost_nothing(db: Path, says: Callable[..., Ran]) -> None:
    with Stub([Failure(404, "not_found_error")]) as stub:
        says(stub, ASKED)
    (usage,) = kept(db, Kind.USAGE)
    assert (usage["complete"], usage["cost_pico"]) == (True, 0)


def test_a_rate_limit_that_passes_is_waited_for(db: Path, says: Callable[..., Ran]) -> None:
    with Stub([Failure(429, "rate_limit_error", headers={"retry-after": "0", **NOW}), WHOLE]) as stub:
        done = says(stub, ASKED)
        assert len(stub.turns) == 2
    assert (done.status, done.out) == (0, f"{TOLD}\n")
    (line,) = done.err.splitlines()
    assert "rate limit is reached; trying again" in line
    said = [(body["role"], body["text"], body.get("ended")) for body in kept(db, Kind.MESSAGE)]
    assert said == [("user", ASKED, None), ("assistant", TOLD, None)]
    assert [body["stop"] for body in kept(db, Kind.USAGE)] == ["end_turn"], "one call, whatever its tries"


def test_without_a_credential_nothing_is_sent_or_recorded(db: Path, says: Callable[..., Ran]) -> None:
    with Stub([WHOLE]) as stub:
        done = says(stub, ASKED, ANTHROPIC_API_KEY="")
    assert done.status == 3
    one_line(done, "set ANTHROPIC_API_KEY")
    assert stub.turns == []
    assert not db.exists()


@pytest.mark.parametrize("name", ["closed after two deltas", "a retired model"])
def test_json_says_the_same_in_its_document(name: str, says: Callable[..., Ran]) -> None:
    fault = FAULTS[name]
    with Stub(fault.answers) as stub:
        done = says(stub, ASKED, "--json")
    assert (done.status, done.err) == (1, "")
    found: dict[str, Any] = json.loads(done.out)
    assert (found["text"], found["ended"]) == (fault.partial, fault.ended)
    assert fault.line in found["problem"]
    assert (found["seq"] is None) == (not fault.partial)
