"""The original functions: they do what they did, on one store, in as many event loops as there are."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ccn_mcp import integration
from ccn_mcp.domain.character import DEFAULT_BASELINE, DEFAULT_RELATIONAL, RELATIONAL, TRAITS
from ccn_mcp.domain.errors import (
    BadInput,
    BadVector,
    EmptyContent,
    IdempotencyConflict,
    ReceiptRequired,
    Refused,
    UnknownConversation,
)
from ccn_mcp.integration import Integration

WAIT_S = 60
AWAY = [0.1] * 16


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CCN_DB", "CCN_SCOPE", "CLAUDE_CODE_SESSION_ID", "CLAUDE_PROJECT_DIR", "CLAUDECODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data" / "ccn.db"


@pytest.fixture
async def ccn(db: Path, anyio_backend: str) -> AsyncIterator[Integration]:
    async with Integration(db) as opened:
        yield opened


@pytest.mark.anyio
async def test_the_original_names_work_together(db: Path) -> None:
    health = await integration.initialize_ccn_integration(db)
    assert (health["ok"], health["exists"], health["head"]) == (True, False, None)
    assert not (await integration.get_health_status())["exists"], "initialising writes nothing"
    opened = await integration.create_conversation_with_continuity("Harbour")
    conversation = opened["conversation_id"]
    assert opened["instance_id"] in opened["context"]
    first = await integration.record_message(conversation, "user", "Remember the harbour.")
    await integration.record_message(conversation, "assistant", "Noted.")
    history = await integration.get_conversation_history(conversation)
    assert [item["text"] for item in history["messages"]] == ["Remember the harbour.", "Noted."]
    assert (history["total"], history["before"]) == (2, None)
    judged = await integration.record_consciousness_metrics(
        conversation,
        dict(zip(TRAITS, DEFAULT_BASELINE, strict=True)),
        dict(zip(RELATIONAL, DEFAULT_RELATIONAL, strict=True)),
    )
    assert judged["action"] == "ok"
    assert judged["instance_id"] == opened["instance_id"]
    health = await integration.get_health_status(verify=True)
    assert (health["ok"], health["verified"], health["connected"]) == (True, True, 1)
    assert health["entries"] > first["seq"]
    await integration.close_ccn_integration()
    await integration.close_ccn_integration()
    with pytest.raises(Refused, match="initialize_ccn_integration"):
        await integration.get_health_status()


@pytest.mark.anyio
async def test_a_later_conversation_continues_from_an_earlier_one(db: Path) -> None:
    async with Integration(db) as ccn:
        first = await ccn.create_conversation_with_continuity("First")
        await ccn.record_message(first["conversation_id"], "user", "seventeen herons")
    async with Integration(db) as ccn:
        second = await ccn.create_conversation_with_continuity("Second")
        assert "seventeen herons" in second["context"]
        assert second["conversation_id"] != first["conversation_id"]
        again = await ccn.create_conversation_with_continuity(conversation_id=first["conversation_id"])
        assert again["conversation_id"] == first["conversation_id"]
    async with Integration(db, scope="elsewhere") as ccn:
        other = await ccn.create_conversation_with_continuity()
        assert "seventeen herons" not in other["context"]


@pytest.mark.anyio
async def test_history_pages_and_shows_long_messages_whole(ccn: Integration) -> None:
    conversation = (await ccn.create_conversation_with_continuity())["conversation_id"]
    texts = ["long " * 20_000, *(f"message {number}" for number in range(2, 251))]
    await asyncio.gather(*(ccn.record_message(conversation, "tool", text) for text in texts[1:]))
    await ccn.record_message(conversation, "system", texts[0])
    newest = await ccn.get_conversation_history(conversation, 3)
    assert newest["messages"][-1]["text"] == texts[0]
    assert [item["n"] for item in newest["messages"]] == [248, 249, 250]
    rest = await ccn.get_conversation_history(conversation, 1_000, before=newest["before"])
    assert [item["n"] for item in rest["messages"]] == list(range(1, 248))
    assert rest["before"] is None
    exactly = await ccn.get_conversation_history(conversation, 250)
    assert (len(exactly["messages"]), exactly["before"]) == (250, None)


@pytest.mark.anyio
async def test_a_retry_with_the_same_key_records_once(ccn: Integration) -> None:
    conversation = (await ccn.create_conversation_with_continuity())["conversation_id"]
    first = await ccn.record_message(conversation, "user", "hello", idempotency_key="1")
    again = await ccn.record_message(conversation, "user", "hello", idempotency_key="1")
    assert (again["seq"], again["already_recorded"]) == (first["seq"], True)
    with pytest.raises(IdempotencyConflict):
        await ccn.record_message(conversation, "user", "goodbye", idempotency_key="1")


@pytest.mark.anyio
async def test_what_cannot_be_used_is_refused_and_leaves_nothing(ccn: Integration) -> None:
    conversation = (await ccn.create_conversation_with_continuity())["conversation_id"]
    before = (await ccn.get_health_status())["entries"]
    with pytest.raises(EmptyContent):
        await ccn.record_message(conversation, "user", " ")
    with pytest.raises(UnknownConversation):
        await ccn.record_message("c_nowhere", "user", "hello")
    with pytest.raises(UnknownConversation):
        await ccn.get_conversation_history("c_nowhere")
    for limit in (0, -1, integration.MESSAGES_MAX + 1):
        with pytest.raises(BadInput, match="limit"):
            await ccn.get_conversation_history(conversation, limit)
    for empty in ("", "  "):
        with pytest.raises(BadInput, match="conversation_id"):
            await ccn.record_message(empty, "user", "hello")
        with pytest.raises(BadInput, match="conversation_id"):
            await ccn.get_conversation_history(empty)
        with pytest.raises(BadInput, match="conversation_id"):
            await ccn.record_consciousness_metrics(empty, AWAY)
    with pytest.raises(BadVector):
        await ccn.record_consciousness_metrics(conversation, [0.5] * 15)
    with pytest.raises(BadVector):
        await ccn.record_consciousness_metrics("c_nowhere", AWAY, [2.0] * 7)
    with pytest.raises(UnknownConversation):
        await ccn.record_consciousness_metrics("c_nowhere", AWAY)
    assert (await ccn.get_health_status())["entries"] == before


@pytest.mark.anyio
async def test_a_conversation_of_an_earlier_run_gets_one_instance(db: Path) -> None:
    async with Integration(db) as ccn:
        conversation = (await ccn.create_conversation_with_continuity())["conversation_id"]
    async with Integration(db) as ccn:
        judged = await asyncio.gather(
            *(ccn.record_consciousness_metrics(conversation, list(DEFAULT_BASELINE)) for _ in range(3))
        )
        assert len({item["instance_id"] for item in judged}) == 1


@pytest.mark.anyio
async def test_after_a_reinit_the_receipt_lets_the_next_report_in(ccn: Integration) -> None:
    conversation = (await ccn.create_conversation_with_continuity())["conversation_id"]
    actions: list[str] = []
    while not actions or actions[-1] != "reinit":
        actions.append((await ccn.record_consciousness_metrics(conversation, AWAY))["action"])
        assert len(actions) < 5
    with pytest.raises(ReceiptRequired):
        await ccn.record_consciousness_metrics(conversation, list(DEFAULT_BASELINE))
    again = await ccn.create_conversation_with_continuity(conversation_id=conversation)
    back = await ccn.record_consciousness_metrics(
        conversation, list(DEFAULT_BASELINE), receipt=again["receipt"]
    )
    assert back["action"] == "ok"


@pytest.mark.anyio
async def test_health_answers_where_others_raise(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_text("this is no database " * 100)
    async with Integration(damaged) as ccn:
        health = await ccn.get_health_status()
    assert health["ok"] is False
    assert str(damaged) in (health["error"] or "")


@pytest.mark.anyio
async def test_health_says_what_verification_found(db: Path) -> None:
    import sqlite3

    async with Integration(db) as ccn:
        conversation = (await ccn.create_conversation_with_continuity())["conversation_id"]
        await ccn.record_message(conversation, "user", "as it was")
    with sqlite3.connect(db) as raw:
        raw.execute("UPDATE record SET text = 'as it was not' WHERE text = 'as it was'")
    raw.close()
    async with Integration(db) as ccn:
        health = await ccn.get_health_status(verify=True)
    assert (health["ok"], health["verified"]) == (False, False)
    assert health["error"]


@pytest.mark.anyio
async def test_closed_and_unopened_ones_say_so(db: Path) -> None:
    ccn = Integration(db)
    with pytest.raises(Refused, match="not open"):
        await ccn.get_health_status()
    async with ccn:
        with pytest.raises(Refused, match="already"):
            await ccn.__aenter__()
    with pytest.raises(Refused, match="not open"):
        await ccn.record_message("c_1", "user", "hello")


@pytest.mark.anyio
async def test_initialising_again_changes_the_store(db: Path, tmp_path: Path) -> None:
    await integration.initialize_ccn_integration(db)
    other = await integration.initialize_ccn_integration(tmp_path / "other.db")
    assert other["db"].endswith("other.db")
    assert (await integration.get_health_status())["db"] == other["db"]
    await integration.close_ccn_integration()


def test_each_event_loop_has_its_own_and_they_share_the_file(db: Path) -> None:
    texts: list[list[str | None]] = []
    barrier = threading.Barrier(3)

    async def one(number: int) -> None:
        with pytest.raises(Refused):
            await integration.get_health_status()
        await integration.initialize_ccn_integration(db, client=f"thread {number}")
        try:
            opened = await integration.create_conversation_with_continuity(f"Thread {number}")
            await asyncio.to_thread(barrier.wait, WAIT_S)
            for word in ("one", "two", "three"):
                await integration.record_message(opened["conversation_id"], "user", f"{word} {number}")
            history = await integration.get_conversation_history(opened["conversation_id"])
            texts.append([item["text"] for item in history["messages"]])
        finally:
            await integration.close_ccn_integration()

    threads = [threading.Thread(target=asyncio.run, args=(one(number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(texts) == [[f"{word} {number}" for word in ("one", "two", "three")] for number in range(3)]

    async def check() -> None:
        async with Integration(db) as ccn:
            assert (await ccn.get_health_status(verify=True))["verified"] is True

    asyncio.run(check())


def test_a_program_that_forgets_to_close_ends_and_keeps_what_it_recorded(db: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from ccn_mcp.integration import *\n"
        "from ccn_mcp.integration import initialize_ccn_integration as start\n"
        "async def main():\n"
        "    await start(sys.argv[1])\n"
        "    opened = await create_conversation_with_continuity()\n"
        "    await record_message(opened['conversation_id'], 'user', 'kept')\n"
        "    print(opened['conversation_id'])\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(db)], capture_output=True, text=True, timeout=WAIT_S, check=True
    )

    async def read() -> list[str | None]:
        async with Integration(db) as ccn:
            history = await ccn.get_conversation_history(done.stdout.strip())
            return [item["text"] for item in history["messages"]]

    assert asyncio.run(read()) == ["kept"]
