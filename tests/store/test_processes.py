"""Several real processes on one store file: nothing lost, nothing failed, one unbroken chain, fair shares."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any, Final

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client

import ccn_mcp
from ccn_mcp.domain.models import ConversationQuery
from ccn_mcp.store import lock
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.clients.harness import bare_environment, server_arguments, structured
from tests.store.worker import WAIT_S_MAX, Json, check, finish, plan, text_of, workers

pytestmark = pytest.mark.anyio

G8_S: Final = 4.0
SHARE_MIN: Final = 0.8
LONGEST_WAIT_S: Final = 1.0
LOOKS_MAX: Final = 10_000_000
"""How often a test looks at a lock before it gives up: some ten seconds."""


@pytest.mark.parametrize(("writers", "count"), [(2, 100), (4, 60)])
async def test_processes_that_write_at_once_lose_nothing(tmp_path: Path, writers: int, count: int) -> None:
    db = tmp_path / "store" / "ccn.db"
    names = [f"w{number}" for number in range(writers)]
    with workers(*(plan(db, name, count=count, flights=3) for name in names)) as running:
        told = dict(zip(names, finish(running), strict=True))
    for lines in told.values():
        assert sorted(line["number"] for line in lines if "seq" in line) == list(range(count))
        assert not any(line["again"] for line in lines if "seq" in line)
    await check(db, told, whole=True)


@pytest.mark.parametrize("attempt", range(5))
async def test_four_first_starts_at_once_make_one_store(tmp_path: Path, attempt: int) -> None:
    db = tmp_path / "not" / "there" / "yet" / "ccn.db"
    names = ["a", "b", "c", "d"]
    with workers(*(plan(db, name, count=3) for name in names)) as running:
        assert not db.parent.parent.parent.exists()
        told = dict(zip(names, finish(running), strict=True))
    await check(db, told, whole=True)
    async with SqliteStore(db) as store:
        assert len(await store.conversations(ConversationQuery())) == 4
        # One genesis entry, one entry per conversation, three messages each.
        assert (await store.info()).head.size == 1 + 4 + 12


async def test_eight_calls_in_flight_in_one_process(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    with workers(plan(db, "busy", count=400, flights=8)) as running:
        (lines,) = finish(running)
    assert sorted(line["number"] for line in lines if "seq" in line) == list(range(400))
    assert lines[-1]["done"]
    await check(db, {"busy": lines}, whole=True)


async def test_the_same_session_opened_by_four_processes_is_one_conversation(tmp_path: Path) -> None:
    db = tmp_path / "ccn.db"
    with workers(*(plan(db, "same", count=20) for _ in range(4))) as running:
        told = finish(running)
    every = [line for lines in told for line in lines if "seq" in line]
    # Same keys and same texts: of the four tries of each message one wrote, three were told so.
    assert len(every) == 80
    assert sum(line["again"] for line in every) == 60
    assert len({line["seq"] for line in every}) == 20
    assert len({line["conversation"] for line in every}) == 1
    await check(db, {"same": every}, whole=False)
    async with SqliteStore(db) as store:
        assert (await store.verify()).messages == 20


@pytest.mark.slow  # it counts shares, so nothing may run beside it
async def test_four_writers_for_four_seconds_share_fairly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Goal G8. The one test here that runs for a set time, because shares and waits are what it is about."""
    db = tmp_path / "ccn.db"
    names = ["a", "b", "c", "d"]
    with workers(*(plan(db, name, seconds=G8_S) for name in names)) as running:
        told = dict(zip(names, finish(running), strict=True))
    counts = [sum("seq" in line for line in lines) for lines in told.values()]
    longest = [float(lines[-1]["longest_wait_s"]) for lines in told.values()]
    share = min(counts) / (sum(counts) / len(counts))
    with capsys.disabled():
        print(f"\nG8: messages {counts}, smallest share {share:.3f}, longest wait {max(longest):.3f} s")
    assert share >= SHARE_MIN
    assert max(longest) <= LONGEST_WAIT_S
    await check(db, told, whole=True)


def test_who_has_just_written_does_not_overtake_who_waits(tmp_path: Path) -> None:
    """The point of the second lock file: without it the busiest writer finds the lock free before all others."""
    db, order = tmp_path / "ccn.db", list[str]()
    busy, waiting = Turnstile(db), Turnstile(db)

    def wait_for_the_turn() -> None:
        with waiting:
            order.append("waiting")

    thread = Thread(target=wait_for_the_turn)
    with closing(busy), closing(waiting):
        with busy:
            thread.start()
            with (tmp_path / "ccn.db.queue").open("rb+") as queue:
                for _ in range(LOOKS_MAX):
                    if not lock._try_lock(queue.fileno()):
                        break  # the other one is next
                    lock._unlock(queue.fileno())
                else:
                    pytest.fail("the other one never queued")
        with busy:
            order.append("busy")
        thread.join(WAIT_S_MAX)
    assert order == ["waiting", "busy"]


async def test_a_write_ahead_log_stays_bounded_when_short_lived_writers_meet_an_idle_reader(
    tmp_path: Path,
) -> None:
    """As with hooks beside an open session: nobody who closes is the last, and nobody writes much."""
    db = tmp_path / "ccn.db"
    wal = tmp_path / "ccn.db-wal"
    text = "x" * 60_000
    async with ccn_mcp.open_node(db) as first:
        conversation = await first.open_conversation(title="long")
    async with SqliteStore(db) as reader:
        await reader.info()
        sizes = []
        for _ in range(150):
            async with ccn_mcp.open_node(db) as hook:
                await hook.record_message("user", text, conversation_id=conversation)
            sizes.append(wal.stat().st_size)
        # 150 writes of some 45 pages each would be 27 MB.
        assert max(sizes) < 14_000_000
        assert (await reader.verify()).level == 1


# ---- the servers that clients start --------------------------------------------------------------------


async def test_four_stdio_servers_write_one_unbroken_log(tmp_path: Path) -> None:
    db = tmp_path / "home" / "ccn.db"
    home = tmp_path / "home"
    names = ["a", "b", "c", "d"]
    environment = bare_environment(home)
    stderr_path = tmp_path / "stderr.txt"
    told: dict[str, list[Json]] = {}
    ready = 0
    everyone = anyio.Event()

    async def client(name: str, errlog: Any) -> None:
        nonlocal ready
        command = StdioServerParameters(
            command=sys.executable, args=server_arguments(db), env=environment, cwd=home
        )
        async with Client(stdio_client(command, errlog=errlog)) as session:
            await session.list_tools()
            ready += 1
            if ready == len(names):
                everyone.set()
            await everyone.wait()
            told[name] = await _record(session, name)

    with anyio.fail_after(WAIT_S_MAX), stderr_path.open("w", encoding="utf-8") as errlog:
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(client, name, errlog)
    assert stderr_path.read_text(encoding="utf-8") == ""
    await check(db, told, whole=True)


async def _record(session: Client, name: str) -> list[Json]:
    """30 messages, three calls at a time, each checked; then the server's own verification."""

    async def one(number: int) -> Json:
        arguments = {
            "role": "user",
            "content": text_of(name, number),
            "session_id": f"session-{name}",
            "idempotency_key": f"{name}-{number}",
        }
        result = await session.call_tool("record_message", arguments)
        answer = structured(result.model_dump(mode="json", by_alias=True, exclude_none=True))
        return {"number": number, "seq": answer["seq"], "conversation": answer["conversation_id"]}

    lines: list[Json] = []
    for start in range(0, 30, 3):
        lines += await asyncio.gather(*(one(number) for number in range(start, start + 3)))
    result = await session.call_tool("verify_chain", {})
    checked = structured(result.model_dump(mode="json", by_alias=True, exclude_none=True))
    # 2 once the server has signed, which it does every few seconds.
    assert checked["ok"], json.dumps(checked)
    assert checked["level"] in (1, 2)
    return lines
