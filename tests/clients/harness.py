"""The whole path that every client walks, without any SDK: it runs under mcp 2.3 and under mcp 1.x alike.

A client is a function that calls one tool and returns the result as it stands on the wire (camelCase
keys). `walk` takes that function through every step a model takes in one conversation and checks each
answer; it reads only what the tools promise.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]
Call = Callable[[str, Json], Awaitable[Json]]

ROOT: Final = Path(__file__).parents[2]
WALK_S_MAX: Final = 60.0
"""One whole walk, the start of a server process included, on a busy machine."""

SESSION: Final = "walk-session"
QUESTION: Final = "Remember this: the lighthouse keeper counted seventeen herons before breakfast."
ANSWER: Final = "Noted, and I will say so when the ferry timetable comes up again."
QUERY: Final = "herons"
ONLY_IN_QUESTION: Final = "seventeen"
ONLY_IN_ANSWER: Final = "timetable"
TRAITS: Final = [0.8] * 16
TOOLS: Final = frozenset(
    {
        "load_plate",
        "record_message",
        "report_character_vector",
        "get_history",
        "verify_chain",
        "consensus_status",
    }
)


@dataclass(frozen=True)
class Walk:
    """What a later process needs to find the same conversation again."""

    instance_id: str
    conversation_id: str
    head: Any


def server_arguments(db_path: Path) -> list[str]:
    """What follows the interpreter on the server's command line."""
    return ["-m", "ccn_mcp", "serve", "--db", str(db_path)]


def bare_environment(home: Path) -> dict[str, str]:
    """Built from nothing: this interpreter's programs, the system's, and a home folder of its own."""
    home.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.defpath))
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8"}


async def walk(call: Call) -> Walk:
    """load_plate, three records (one a retry), a report, history and search, the chain, the consensus."""
    instance_id, conversation_id = await _open(call)
    head = await _record(call, conversation_id)
    await _report(call, instance_id)
    await recall(call, conversation_id)
    await verify(call, head)
    status = structured(await call("consensus_status", {"instance_id": instance_id}))
    assert status
    assert structured(await call("consensus_status", {}))
    return Walk(instance_id, conversation_id, head)


async def recall(call: Call, conversation_id: str) -> None:
    """What was said is found again: as a whole, page by page, by a word, and in the list of conversations."""
    whole = said(structured(await call("get_history", {"conversation_id": conversation_id})))
    assert whole.count(QUESTION) == 1
    assert whole.count(ANSWER) == 1, "the retry must not appear a second time"
    newest = said(structured(await call("get_history", {"conversation_id": conversation_id, "limit": 1})))
    assert ANSWER in newest
    assert QUESTION not in newest
    page = {"conversation_id": conversation_id, "order": "oldest", "limit": 1}
    oldest = said(structured(await call("get_history", page)))
    assert QUESTION in oldest
    assert ANSWER not in oldest
    asked = {"conversation_id": conversation_id, "role": "assistant"}
    assert QUESTION not in said(structured(await call("get_history", asked)))
    found = said(structured(await call("get_history", {"query": QUERY})))
    assert ONLY_IN_QUESTION in found
    assert ONLY_IN_ANSWER not in found
    assert conversation_id in said(structured(await call("get_history", {})))


async def verify(call: Call, known_head: Any) -> None:
    """The log holds together, from its beginning and onwards from a head that the caller noted."""
    whole = structured(await call("verify_chain", {}))
    assert whole["ok"] is True
    assert whole["level"]
    assert whole["entries"] >= 2
    assert structured(await call("verify_chain", {"known_head": known_head}))["ok"] is True


async def _open(call: Call) -> tuple[str, str]:
    result = await call("load_plate", {"session_id": SESSION, "model": "stub-model", "title": "A walk"})
    assert "structuredContent" not in result, (
        "with structured content a client shows the model JSON, not prose"
    )
    prose = text_of(result)
    meta = result["_meta"]
    instance_id, conversation_id = meta["ccn/instance_id"], meta["ccn/conversation_id"]
    assert isinstance(instance_id, str)
    assert isinstance(conversation_id, str)
    assert instance_id in prose
    assert conversation_id in prose
    for name in ("ccn/head", "ccn/receipt"):
        assert meta.get(name), f"{name} is missing; a null _meta value never leaves the SDK on 2026-07-28"
    return instance_id, conversation_id


async def _record(call: Call, conversation_id: str) -> Any:
    question = {
        "role": "user",
        "content": QUESTION,
        "conversation_id": conversation_id,
        "idempotency_key": "walk-1",
    }
    answer = {"role": "assistant", "content": ANSWER, "session_id": SESSION, "idempotency_key": "walk-2"}
    first = structured(await call("record_message", question))
    second = structured(await call("record_message", answer))
    again = structured(await call("record_message", answer))
    assert first["conversation_id"] == second["conversation_id"] == conversation_id
    assert [first["already_recorded"], second["already_recorded"], again["already_recorded"]] == [
        False,
        False,
        True,
    ]
    assert second["seq"] > first["seq"]
    assert second["head"] != first["head"]
    assert (again["seq"], again["n"]) == (second["seq"], second["n"])
    return second["head"]


async def _report(call: Call, instance_id: str) -> None:
    report = {"instance_id": instance_id, "traits": TRAITS, "idempotency_key": "walk-report"}
    verdict = structured(await call("report_character_vector", report))
    assert verdict
    assert structured(await call("report_character_vector", report)), "a retry is answered like the first"


def structured(result: Json) -> Json:
    """The structured content of a result that is no error."""
    assert not result.get("isError"), text_of(result)
    content = result["structuredContent"]
    assert isinstance(content, dict)
    return content


def text_of(result: Json) -> str:
    """All text of a result, errors included, in one string."""
    return "\n".join(block["text"] for block in result["content"] if block["type"] == "text")


def said(content: Json) -> str:
    """Structured content as one string to search in."""
    return json.dumps(content, ensure_ascii=False)
