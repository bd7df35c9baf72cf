"""The tools as a client meets them, in memory and in both eras: answers, errors, nulls, crashes, many at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from mcp.client import Client
from mcp_types import CallToolResult, Implementation, TextContent

from ccn_mcp.domain import errors
from ccn_mcp.domain.character import TRAITS
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Draft, Group
from ccn_mcp.server.app import build_server
from ccn_mcp.settings import Settings, load
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.node.world import START_US, head_of, node_on

pytestmark = pytest.mark.anyio
WAIT_S: Final = 60
ERAS: Final = ("auto", "legacy")
CODES: Final = frozenset(
    kind.code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.CcnError)
)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "ccn.db"


@pytest.fixture(params=ERAS)
async def client(request: pytest.FixtureRequest, db: Path) -> AsyncIterator[Client]:
    async with connected(Settings(db=db), request.param) as made:
        yield made


def connected(settings: Settings, era: str = "auto", name: str = "tester") -> Client:
    return Client(
        build_server(settings),
        mode=era,
        client_info=Implementation(name=name, version="7"),
        read_timeout_seconds=WAIT_S,
    )


def text_of(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


async def ok(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, text_of(result)
    content: dict[str, Any] | None = result.structured_content
    assert content is not None
    return content


async def opened(client: Client, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool("load_plate", arguments)
    assert not result.is_error, text_of(result)
    meta = result.meta or {}
    return {key.removeprefix("ccn/"): value for key, value in meta.items() if key.startswith("ccn/")}


# ---- opening -------------------------------------------------------------------------------------------


async def test_opening_and_listing_writes_nothing(client: Client, tmp_path: Path) -> None:
    assert client.server_info is None or client.server_info.name == "ccn"
    await client.list_tools()
    await ok(client, "get_history")
    await ok(client, "verify_chain")
    await ok(client, "consensus_status")
    assert [path async for path in anyio.Path(tmp_path).iterdir()] == []


async def test_load_plate_is_prose_with_its_ids_in_the_meta_too(client: Client) -> None:
    result = await client.call_tool("load_plate", {"title": "Harbour"})
    assert result.structured_content is None
    for name in ("instance_id", "conversation_id", "receipt", "head"):
        assert f"{name}: {(result.meta or {})[f'ccn/{name}']}" in text_of(result)
    status = await ok(client, "consensus_status")
    assert status["instances"][0]["client"] == "tester 7"


async def test_a_client_that_calls_itself_something_wild_is_shown_tame(db: Path) -> None:
    wild = "\x1b[31mred\u202e\n" + "x" * 500
    async with connected(Settings(db=db), "legacy", wild) as client:
        await opened(client)
        shown = (await ok(client, "consensus_status"))["instances"][0]["client"]
    assert len(shown) <= 100
    assert shown.isprintable()


async def test_the_session_of_the_environment_finds_conversation_and_instance(db: Path) -> None:
    environ = {"CLAUDE_CODE_SESSION_ID": "s-1", "CLAUDE_PROJECT_DIR": "/home/ann/harbour", "CCN_DB": str(db)}
    async with connected(load(environ=environ)) as client:
        first = await opened(client)
        said = await ok(client, "record_message", role="user", content="hello")
        await ok(client, "report_character_vector", traits=[0.8] * 16)
    async with connected(load(environ=environ)) as client:
        again = await opened(client)
        listed = await ok(client, "get_history")
        status = await ok(client, "consensus_status")
    assert again["instance_id"] == first["instance_id"]
    assert said["conversation_id"] == first["conversation_id"] == again["conversation_id"]
    assert [item["scope"] for item in listed["conversations"]] == ["/home/ann/harbour"]
    assert [item["you"] for item in status["instances"]] == [True]


# ---- errors --------------------------------------------------------------------------------------------

FULL: Final = [0.5] * 16
WRONG: Final[list[tuple[str, dict[str, Any], str]]] = [
    ("load_plate", {"instance_id": "i_x"}, "unknown_instance: "),
    ("load_plate", {"conversation_id": "c_x"}, "unknown_conversation: "),
    ("load_plate", {"history_tokens": -1}, "bad_input: "),
    ("load_plate", {"history_tokens": "many"}, "bad_input: history_tokens"),
    ("load_plate", {"history_tokens": 1.5}, "bad_input: history_tokens"),
    ("load_plate", {"title": "x" * 201}, "bad_input: title"),
    ("load_plate", {"model": ["a"]}, "bad_input: model"),
    ("record_message", {"role": "user"}, "bad_input: content"),
    ("record_message", {"content": "x"}, "bad_input: role"),
    ("record_message", {}, "bad_input: role"),
    ("record_message", {"role": None, "content": None}, "empty_content: "),
    ("record_message", {"role": "user", "content": " "}, "empty_content: "),
    ("record_message", {"role": "system", "content": "x"}, "unknown_role: "),
    ("record_message", {"role": "user", "content": 5}, "bad_input: content"),
    ("record_message", {"role": "user", "content": {"text": "x"}}, "bad_input: content"),
    ("record_message", {"role": "user", "content": "a\x00b"}, "bad_text: "),
    ("record_message", {"role": "user", "content": "x" * 2_000_000}, "too_large: "),
    (
        "record_message",
        {"role": "user", "content": "x", "conversation": "c_x"},
        "bad_input: unknown argument",
    ),
    ("record_message", {"role": "user", "content": "x", "conversation_id": "c_x"}, "unknown_conversation: "),
    ("record_message", {"role": "user", "content": "x", "idempotency_key": "ccn:x"}, "bad_input: "),
    ("report_character_vector", {"traits": FULL}, "bad_input: instance_id is missing"),
    ("report_character_vector", {}, "bad_input: traits"),
    ("report_character_vector", {"traits": None}, "bad_vector/not_a_vector: "),
    ("report_character_vector", {"traits": "a lot"}, "bad_vector/not_a_vector: "),
    ("report_character_vector", {"traits": FULL[1:]}, "bad_vector/wrong_length: "),
    ("report_character_vector", {"traits": [*FULL[1:], "0.5"]}, "bad_vector/not_a_number: "),
    ("report_character_vector", {"traits": [*FULL[1:], True]}, "bad_vector/not_a_number: "),
    ("report_character_vector", {"traits": [*FULL[1:], 50]}, "bad_vector/out_of_range: "),
    ("report_character_vector", {"traits": json.dumps([*FULL[1:], float("nan")])}, "bad_vector/non_finite: "),
    ("report_character_vector", {"traits": {"warmth": 0.5}}, "bad_vector/missing_dimension: "),
    ("report_character_vector", {"traits": dict.fromkeys([*TRAITS, "x"], 0.5)}, "bad_vector/unknown_dim"),
    ("report_character_vector", {"traits": FULL, "scale": "percent"}, "bad_vector/bad_scale: "),
    ("report_character_vector", {"traits": FULL, "relational": [0.5]}, "bad_vector/wrong_length: "),
    ("report_character_vector", {"traits": FULL, "instance_id": "i_x"}, "unknown_instance: "),
    ("get_history", {"conversation_id": "c_x"}, "unknown_conversation: "),
    ("get_history", {"limit": 0}, "bad_input: limit"),
    ("get_history", {"limit": "all"}, "bad_input: limit"),
    ("get_history", {"order": "up"}, "bad_input: order"),
    ("get_history", {"role": "robot"}, "bad_input: role"),
    ("get_history", {"query": "-"}, "bad_input: "),
    ("get_history", {"scope": "*"}, "bad_input: unknown argument 'scope'; get_history takes conversation_id"),
    ("verify_chain", {"known_head": "latest"}, "bad_head: "),
    ("verify_chain", {"known_head": 12}, "bad_input: known_head"),
    ("consensus_status", {"instance_id": "i_x"}, "unknown_instance: "),
]


async def test_every_error_reaches_the_model_as_its_code_and_what_to_do(client: Client, db: Path) -> None:
    for name, arguments, expected in WRONG:
        result = await client.call_tool(name, arguments)
        said = text_of(result)
        assert result.is_error, (name, arguments)
        assert said.startswith(expected), (name, arguments, said)
        assert said.split(":")[0].split("/")[0] in CODES
        assert 40 < len(said) < 700, said
        assert "pydantic" not in said
        assert "Traceback" not in said
    assert (await ok(client, "verify_chain"))["entries"] == 0, "nothing of it was stored"


async def test_an_unknown_tool_is_an_error(client: Client) -> None:
    result = await client.call_tool("drop_tables", {})
    assert result.is_error
    assert "Unknown tool" in text_of(result)


@pytest.mark.parametrize(
    "verb", ["append", "records", "info", "page", "search", "conversations", "seats", "verify"]
)
async def test_a_crash_discloses_nothing(client: Client, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    loaded = await opened(client, session_id="s")

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret path /home/ann/diary")

    monkeypatch.setattr(SqliteStore, verb, broken)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("load_plate", {}),
        ("record_message", {"role": "user", "content": "x"}),
        ("report_character_vector", {"traits": FULL, "instance_id": loaded["instance_id"]}),
        ("get_history", {}),
        ("get_history", {"query": "x"}),
        ("get_history", {"conversation_id": loaded["conversation_id"]}),
        ("verify_chain", {}),
        ("consensus_status", {}),
    ]
    crashed = 0
    for name, arguments in calls:
        result = await client.call_tool(name, arguments)
        if result.is_error:
            crashed += 1
            assert text_of(result) == f"Error executing tool {name}"
    assert crashed
    monkeypatch.undo()
    await ok(client, "record_message", role="user", content="goes on")


# ---- what models send ----------------------------------------------------------------------------------


async def test_null_counts_as_left_out_for_every_optional_argument(client: Client) -> None:
    mine = (await opened(client))["instance_id"]
    required = {
        "record_message": {"role": "user", "content": "x"},
        "report_character_vector": {"traits": FULL, "instance_id": mine},
        "validate_character": {"instance_id": mine},
    }
    for tool in (await client.list_tools()).tools:
        if tool.name == "redact_message":
            continue  # every argument of its own is required, and it asks the person first: test_redact.py
        nulls = dict.fromkeys(tool.input_schema["properties"])
        result = await client.call_tool(tool.name, {**nulls, **required.get(tool.name, {})})
        assert not result.is_error, (tool.name, text_of(result))


async def test_numbers_as_text_and_json_as_text_are_understood(client: Client) -> None:
    mine = (await opened(client, history_tokens="500"))["instance_id"]
    for at in range(4):
        await ok(client, "record_message", role="user", content=f"m{at}", session_id="s")
    page = await ok(client, "get_history", limit="2")
    assert page["conversations"]
    traits = json.dumps(dict.fromkeys(TRAITS, 0.5))
    judged = await ok(client, "report_character_vector", traits=traits, instance_id=mine)
    assert set(judged["consensus"].values()) == {0.5}


async def test_text_that_looks_like_json_is_kept_as_text(client: Client) -> None:
    for text in ('{"a": 1}', "[1, 2]", "null", "12", "true", '"quoted"'):
        said = await ok(client, "record_message", role="user", content=text, session_id="s")
    page = await ok(client, "get_history", conversation_id=said["conversation_id"])
    assert [message["text"] for message in page["messages"]] == [
        '{"a": 1}',
        "[1, 2]",
        "null",
        "12",
        "true",
        '"quoted"',
    ]


async def test_eight_calls_in_flight_are_all_answered(client: Client) -> None:
    loaded = await opened(client)
    seqs: list[int] = []

    async def say(at: int) -> None:
        said = await ok(
            client,
            "record_message",
            role="user",
            content=f"m{at}",
            conversation_id=loaded["conversation_id"],
            idempotency_key=f"k{at % 8}" if at < 8 else None,
        )
        seqs.append(said["seq"])

    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as group:
            for at in range(24):
                group.start_soon(say, at)
    assert len(set(seqs)) == 24
    assert (await ok(client, "verify_chain"))["level"] == 1


# ---- a long verification -------------------------------------------------------------------------------


@pytest.fixture
async def long_store(db: Path) -> Path:
    """More entries than two steps of progress, made in a few large transactions."""
    async with node_on(db) as node:
        one = (await node.record_message("user", "first"))["conversation_id"]
        same = {"conversation": one, "principal": "local", "role": "user", "source": "tool"}
        for start in range(0, 12_000, 2_000):
            drafts = [
                Draft(Kind.MESSAGE, START_US, {**same, "text": f"m{at}"})
                for at in range(start, start + 2_000)
            ]
            await node.ctx.store.append(Group(tuple(drafts)))
    return db


@pytest.mark.parametrize("era", ERAS)
async def test_a_long_verification_tells_how_far_it_has_come(long_store: Path, era: str) -> None:
    steps: list[tuple[float, float | None, str | None]] = []

    async def told(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total, message))

    async with connected(Settings(db=long_store), era) as client:
        result = await client.call_tool("verify_chain", {}, progress_callback=told)
        assert (result.structured_content or {})["level"] == 1
        with anyio.fail_after(WAIT_S):
            while not steps:
                await anyio.lowlevel.checkpoint()
    done, total, message = steps[0]
    assert 0 < done <= (total or 0) == 12_003
    assert "entries checked" in (message or "")
    assert steps == sorted(steps)


@pytest.mark.parametrize("era", ERAS)
async def test_a_verification_that_is_cancelled_leaves_the_server_usable(long_store: Path, era: str) -> None:
    started = anyio.Event()

    async def told(progress: float, total: float | None, message: str | None) -> None:
        started.set()

    async with connected(Settings(db=long_store), era) as client:

        async def check() -> None:
            await client.call_tool("verify_chain", {}, progress_callback=told)

        async with anyio.create_task_group() as group:
            group.start_soon(check)
            with anyio.fail_after(WAIT_S):
                await started.wait()
            group.cancel_scope.cancel()
        assert await ok(client, "record_message", role="user", content="goes on")
        assert (await ok(client, "verify_chain"))["ok"]


async def test_a_call_that_is_cancelled_before_its_turn_writes_nothing(db: Path) -> None:
    async with connected(Settings(db=db)) as client:
        await ok(client, "record_message", role="user", content="before", session_id="s")
        async with node_on(db) as node:
            before = await head_of(node)
            with closing(Turnstile(db)) as turnstile, turnstile:  # its turn cannot come
                with anyio.move_on_after(0):
                    await client.call_tool(
                        "record_message", {"role": "user", "content": "never", "session_id": "s"}
                    )
                await client.list_tools()  # answered after the cancellation, which came first
            said = await ok(client, "record_message", role="user", content="after", session_id="s")
            page = await ok(client, "get_history", conversation_id=said["conversation_id"])
            assert await head_of(node) != before
        assert [message["text"] for message in page["messages"]] == ["before", "after"]
