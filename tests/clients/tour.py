"""Every tool once, in an order in which a model would call them: for clients that we did not write.

A tour is a generator: it yields a tool with its arguments and is sent what a model sees of the result, the text.
What it needs later (ids, positions, heads) it takes from those texts alone, as a model has to. The store has to
hold the example Plate, which has recall questions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from mcp.server.mcpserver.prompts import Prompt

from ccn_mcp import data, open_node
from ccn_mcp.domain.plate import parse_plate
from ccn_mcp.server.catalogue import CATALOGUE
from ccn_mcp.server.panel import URI as PANEL
from ccn_mcp.server.prompts import prompts
from ccn_mcp.server.resources import CONVERSATION, resources
from tests.clients.harness import Json
from tests.domain.test_recall import true_run

QUESTION: Final = 'Keep this: "the north gate opens at 06:40", 7 °C, and\na second line.'
ANSWER: Final = "Kept. I will bring the north gate up on Thursday."
SESSION: Final = "tour-session"

Step: TypeAlias = tuple[str, Json]
Tour: TypeAlias = Generator[Step, str, str]


class Client(Protocol):
    """A client that we did not write, as far as a test needs it."""

    def ask(self, method: str, **params: Any) -> Json:
        """The result of a request, both as the protocol names them."""


@dataclass
class Known:
    """What the results said that a check afterwards needs."""

    called: list[str] = field(default_factory=list)
    conversation_id: str = ""
    instance_id: str = ""
    seq: int = 0
    head: str = ""


def tour(known: Known) -> Tour:
    """All tools, `redact_message` last; returns what was said to that. A tool without a call is an error."""
    steps = _steps(known)
    step = next(steps)
    try:
        while True:
            known.called.append(step[0])
            step = steps.send((yield step))
    except StopIteration as end:
        assert set(known.called) == set(CATALOGUE), "call every tool of the catalogue in _steps()"
        return str(end.value)


def guide(known: Known, client: Client) -> str:
    """List the tools, then take the tour with this client; returns what the tour returns."""
    assert {tool["name"] for tool in client.ask("tools/list")["tools"]} == set(CATALOGUE)
    steps = tour(known)
    tool, arguments = next(steps)
    try:
        while True:
            result = client.ask("tools/call", name=tool, arguments=arguments)
            tool, arguments = steps.send(seen(tool, result))
    except StopIteration as end:
        return str(end.value)


def seen(tool: str, result: Json) -> str:
    """What a model sees of a result. Only `redact_message` may fail: whether it can ask depends on the client."""
    text = str(result["content"][0]["text"])
    if result.get("isError"):
        assert tool == "redact_message", text
    elif CATALOGUE[tool].result is None:
        assert "structuredContent" not in result
        assert result["_meta"]["ccn/conversation_id"] in text
    else:
        assert result["structuredContent"] == json.loads(text)
    return text


def look_around(known: Known, client: Client, at_once: int = 1) -> None:
    """Read every listed resource and one of each template, get every prompt; nothing is missing from the lists."""

    def listed(kind: str, method: str, key: str) -> list[str]:
        return sorted(item[key] for item in client.ask(method)[kind])

    def read(uri: str) -> str:
        (content,) = client.ask("resources/read", uri=uri)["contents"]
        assert content["uri"] == uri
        assert content["text"]
        return str(content["text"])

    def get(prompt: Prompt) -> None:
        given = {argument.name: known.conversation_id for argument in prompt.arguments or ()}
        (message,) = client.ask("prompts/get", name=prompt.name, arguments=given)["messages"]
        assert message["content"]["text"]
        assert known.conversation_id in message["content"]["text"] or not given

    uris = sorted([PANEL, *(resource.uri for resource in resources())])
    assert listed("resources", "resources/list", "uri") == uris
    templates = listed("resourceTemplates", "resources/templates/list", "uriTemplate")
    assert templates == [CONVERSATION], "read one of each template"
    assert listed("prompts", "prompts/list", "name") == sorted(prompt.name for prompt in prompts())
    with ThreadPoolExecutor(at_once) as pool:
        *_, conversation = pool.map(read, [*uris, CONVERSATION.format(id=known.conversation_id)])
        assert QUESTION.splitlines()[-1] in conversation
        assert list(pool.map(get, prompts()))


def _steps(known: Known) -> Tour:
    plate = yield "load_plate", {"session_id": SESSION, "model": "stub-model", "title": "A tour"}
    known.instance_id, known.conversation_id = ids_in(plate)
    here = {"conversation_id": known.conversation_id}
    mine = {"instance_id": known.instance_id}
    question = {"role": "user", "content": QUESTION, "idempotency_key": "tour-1", **here}
    first = json.loads((yield "record_message", question))
    again = json.loads((yield "record_message", question))
    assert (first["already_recorded"], again["already_recorded"]) == (False, True)
    assert again["seq"] == first["seq"]
    answer = {"role": "assistant", "content": ANSWER, **here, **mine}
    second = json.loads((yield "record_message", answer))
    known.seq, known.head = second["seq"], second["head"]
    page = json.loads((yield "get_history", {**here, "order": "oldest", "limit": 10}))
    assert [item["text"] for item in page["messages"]] == [QUESTION, ANSWER]
    found = json.loads((yield "get_history", {"query": "north gate", "role": "assistant"}))
    assert [hit["seq"] for hit in found["hits"]] == [known.seq]
    checked = json.loads((yield "verify_chain", {"known_head": known.head}))
    assert (checked["ok"], checked["known_head_matches"]) == (True, True)
    report = {"traits": [0.7] * 16, "relational": [0.5] * 7, "idempotency_key": "tour-2", **mine}
    judged = json.loads((yield "report_character_vector", report))
    assert judged["action"]
    run = json.loads((yield "validate_character", mine))
    answers = {"run_id": run["run_id"], "answers": true_run(0), **mine}
    assert len(run["questions"]) == len(answers["answers"])
    scored = json.loads((yield "validate_character", answers))
    assert scored["state"] == "validated"
    status = json.loads((yield "consensus_status", mine))
    assert [item["instance_id"] for item in status["instances"] if item["you"]] == [known.instance_id]
    return (yield "redact_message", {"seq": known.seq, "reason": "asked for"})


def ids_in(prose: str) -> tuple[str, str]:
    """instance_id and conversation_id, as a model finds them in what load_plate says."""
    found = dict(re.findall(r"^(instance_id|conversation_id): (\S+)$", prose, re.MULTILINE))
    return found["instance_id"], found["conversation_id"]


async def make_store(db: Path) -> None:
    """A store in which the person has set the example Plate."""
    async with open_node(db) as node:
        await node.set_plate(parse_plate(data.read("example_plate.md")))


async def check_store(db: Path, known: Known, *, erased: bool = False) -> None:
    """The store holds what the tour recorded, word for word, and verifies."""
    async with open_node(db) as node:
        page = await node.get_history(conversation_id=known.conversation_id, order="oldest")
        kept: list[Any] = [QUESTION, None if erased else ANSWER]
        assert [item["text"] for item in page["messages"]] == kept
        checked = await node.verify_chain(known_head=known.head)
        assert checked["ok"], checked["fault"]
        assert checked["known_head_matches"]
        assert checked["erased"] == erased
