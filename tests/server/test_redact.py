"""`redact_message` as a client meets it: the person is asked, and only their yes erases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]  # comes with mcp, its stubs do not
import pytest
from mcp.client import Client
from mcp_types import ElicitRequestParams, ElicitResult

from ccn_mcp.server.app import build_server
from ccn_mcp.settings import Settings
from ccn_mcp.store.secret import SECRET_FILE
from tests.server.test_tools import text_of

pytestmark = pytest.mark.anyio
ERAS: Final = ("auto", "legacy")
WAIT_S: Final = 60
LONG: Final = "secret\x1b[2J " + "word " * 100


class Person:
    """Answers every question in the same way, and keeps what was asked."""

    def __init__(self, action: str, content: dict[str, Any] | None = None) -> None:
        self.answer = ElicitResult(action=action, content=content)  # type: ignore[arg-type]  # one of three
        self.asked: list[ElicitRequestParams] = []

    async def __call__(self, context: object, params: ElicitRequestParams) -> ElicitResult:
        assert context is not None
        self.asked.append(params)
        return self.answer


YES: Final = {"erase": True}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(db=tmp_path / "ccn.db", config_dir=tmp_path / "config")


def connected(settings: Settings, era: str, person: Person | None) -> Client:
    return Client(build_server(settings), mode=era, elicitation_callback=person, read_timeout_seconds=WAIT_S)


async def recorded(client: Client, content: str = LONG) -> int:
    done = await client.call_tool("record_message", {"role": "user", "content": content})
    assert done.structured_content is not None
    return int(done.structured_content["seq"])


async def erased(client: Client) -> int:
    checked = (await client.call_tool("verify_chain", {})).structured_content
    assert checked is not None
    assert checked["ok"]
    return int(checked["erased"])


@pytest.mark.parametrize("era", ERAS)
async def test_a_yes_erases_and_it_is_asked_once(settings: Settings, era: str) -> None:
    person = Person("accept", YES)
    async with connected(settings, era, person) as client:
        schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
        seq = await recorded(client)
        done = await client.call_tool("redact_message", {"seq": seq, "reason": "a\npassword"})
        assert not done.is_error
        assert done.structured_content is not None
        jsonschema.validate(done.structured_content, schemas["redact_message"])
        assert (done.structured_content["erased"], done.structured_content["pending"]) == (True, False)
        assert json.loads(text_of(done)) == done.structured_content
        (asked,) = person.asked
        for part in (f"entry {seq}", "user", "Z", "a password"):
            assert part in asked.message
        assert asked.message.count("word") <= 200 / 5 + 1
        assert "\x1b" not in asked.message
        # Gone already: nobody is asked a second time.
        again = await client.call_tool("redact_message", {"seq": seq, "reason": None})
        assert again.structured_content is not None
        assert "erased before" in again.structured_content["note"]
        assert len(person.asked) == 1
        assert await erased(client) == 1
    assert not [path for path in settings.db.parent.glob("ccn.db*") if b"secret" in path.read_bytes()]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("person", "said"),
    [
        (Person("decline"), "said no"),
        (Person("cancel"), "closed the question"),
        (Person("accept", {"erase": False}), "said no"),
    ],
    ids=["decline", "cancel", "unticked"],
)
async def test_anything_else_erases_nothing(settings: Settings, era: str, person: Person, said: str) -> None:
    async with connected(settings, era, person) as client:
        seq = await recorded(client)
        done = await client.call_tool("redact_message", {"seq": seq})
        assert not done.is_error
        assert done.structured_content is not None
        assert done.structured_content["erased"] is False
        assert said in done.structured_content["note"]
        assert await erased(client) == 0
    assert not ((settings.config_dir or Path()) / SECRET_FILE).exists()


@pytest.mark.parametrize("era", ERAS)
async def test_an_answer_to_another_question_erases_nothing(settings: Settings, era: str) -> None:
    async with connected(settings, era, Person("accept", {"other": 1})) as client:
        done = await client.call_tool("redact_message", {"seq": await recorded(client)})
        assert done.is_error
        assert await erased(client) == 0


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_cannot_ask_is_told_the_command(settings: Settings, era: str) -> None:
    async with connected(settings, era, None) as client:
        seq = await recorded(client)
        done = await client.call_tool("redact_message", {"seq": seq})
        assert done.is_error
        assert text_of(done).startswith("refused: ")
        assert text_of(done).endswith(f"ccn-mcp redact {seq}")
        assert await erased(client) == 0


@pytest.mark.parametrize("era", ERAS)
async def test_what_is_not_there_is_not_asked_about(settings: Settings, era: str) -> None:
    person = Person("accept", YES)
    async with connected(settings, era, person) as client:
        seq = await recorded(client)
        for arguments, code in (
            ({"seq": seq + 1}, "not_found: "),
            ({"seq": 0}, "bad_input: "),
            ({"seq": None}, "bad_input: "),
            ({"seq": "x"}, "bad_input: "),
            ({}, "bad_input: "),
            ({"seq": seq, "answer": {"erase": True}}, "bad_input: unknown argument"),
        ):
            done = await client.call_tool("redact_message", arguments)
            assert done.is_error
            assert text_of(done).startswith(code), (arguments, text_of(done))
        assert person.asked == []
        done = await client.call_tool("redact_message", {"seq": seq, "reason": "r" * 201})
        assert text_of(done).startswith("bad_input: reason")
        assert await erased(client) == 0
