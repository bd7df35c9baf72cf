"""The stub refuses what the service refuses and counts its cache as the service does; the scripted model is strict."""

from __future__ import annotations

from typing import Any, Final

import pytest

from ccn_mcp.domain.talk import Asked, Reply, Turn, text_block
from tests.claude import stub as service
from tests.claude.faults import LOOKBACK_BLOCKS, OLD, PromptCache, refused, signature
from tests.claude.scripted import Says, ScriptedModel
from tests.claude.stub import Json, Request, Text

MODEL: Final = "claude-sonnet-5-5"
USER: Final = {"role": "user", "content": "hello"}
ANSWER: Final = {"role": "assistant", "content": "hi"}
NOTE: Final = {"role": "system", "content": "It is Monday."}
MARK: Final = {"type": "ephemeral"}
HOUR: Final = {"type": "ephemeral", "ttl": "1h"}


def request(*messages: Json, **changed: Any) -> Request:
    body = {"model": MODEL, "max_tokens": 100, "messages": list(messages), **changed}
    return Request(0.0, "POST", "/v1/messages", {}, body)


def marked(text: str, mark: Json | None) -> Json:
    return {"type": "text", "text": text} | ({} if mark is None else {"cache_control": mark})


def thought(by: str, **more: Any) -> Json:
    return {"type": "thinking", "thinking": "hm", "signature": by, **more}


@pytest.mark.parametrize(
    "taken",
    [
        request(USER),
        request(USER, NOTE),
        request(USER, ANSWER, USER, NOTE),
        request(USER, {"role": "assistant", "content": [thought(signature(MODEL))]}, USER),
        request(USER, system=[marked("a", HOUR), marked("b", HOUR), marked("c", MARK)]),
    ],
)
def test_what_the_service_takes(taken: Request) -> None:
    assert refused(taken) is None


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (request(USER, max_tokens=0), "max_tokens"),
        (request(USER, temperature=0), "sampling"),
        (request(ANSWER), "first message"),
        (request(USER, USER), "alternate"),
        (request(USER, ANSWER), "prefilled"),
        (request(NOTE, USER), "system"),
        (request(USER, ANSWER, NOTE), "system"),
        (request(USER, NOTE, model=OLD[0]), "system"),
        (request({"role": "user", "content": [marked("", None)]}), "non-empty"),
        (request(USER, {"role": "assistant", "content": [thought("another")]}, USER), "signature"),
        (
            request(
                USER, {"role": "assistant", "content": [thought(signature(MODEL), cache_control=MARK)]}, USER
            ),
            "thinking",
        ),
        (request(USER, system=[marked(word, HOUR) for word in "abcde"]), "maximum of 4"),
        (request(USER, system=[marked("a", MARK), marked("b", HOUR)]), "ttl"),
    ],
)
def test_what_the_service_refuses(bad: Request, why: str) -> None:
    assert why in (refused(bad) or "")


def asked(*texts: str, mark_at: int) -> Request:
    """One turn of these blocks, the one at `mark_at` marked."""
    blocks = [marked(text * 40, MARK if at == mark_at else None) for at, text in enumerate(texts)]
    return request({"role": "user", "content": blocks})


def test_the_cache_knows_prefixes_by_their_bytes() -> None:
    cache = PromptCache(lambda _: service.Reply(Text("x")))
    first = cache.count(asked("a", "b", mark_at=1))
    again = cache.count(asked("a", "b", "c", mark_at=2))
    other = cache.count(asked("A", "b", "c", mark_at=2))
    assert (first["cache_read_input_tokens"], first["input_tokens"]) == (0, 0)
    assert again["cache_read_input_tokens"] == first["cache_creation_input_tokens"] > 0
    assert again["cache_creation"]["ephemeral_5m_input_tokens"] > 0
    assert other["cache_read_input_tokens"] == 0


@pytest.mark.parametrize(("further", "read"), [(LOOKBACK_BLOCKS, True), (LOOKBACK_BLOCKS + 1, False)])
def test_the_cache_looks_twenty_blocks_back(further: int, read: bool) -> None:
    cache = PromptCache(lambda _: service.Reply(Text("x")))
    cache.count(asked("a", mark_at=0))
    later = cache.count(asked("a", *("b" * further), mark_at=further))
    assert (later["cache_read_input_tokens"] > 0) is read


@pytest.mark.anyio
async def test_the_scripted_model_says_what_it_was_told_to_and_no_more() -> None:
    model = ScriptedModel("one", Says(("two",), waits=("a moment",)), ValueError("a bug"))
    question = Asked(MODEL, (Turn("user", (text_block("hello"),)),))
    waits: list[str] = []
    first, second = Reply(), Reply()
    await model.answer(question, first)
    await model.answer(question, second, on_wait=waits.append)
    assert (first.text, second.text, waits) == ("one", "two", ["a moment"])
    with pytest.raises(ValueError, match="a bug"):
        await model.answer(question, Reply())
    with pytest.raises(AssertionError, match="question 4"):
        await model.answer(question, Reply())
    assert model.asked == [question] * 4
