"""Goal G10: a caller is cancelled at each await of each call, before what it waits for is there and once it is.

The call runs as a task whose every suspension is counted; the cancellation comes at the N-th, for every N until the
call ends by itself. Afterwards the chain is whole, the next append succeeds, and no thread of the store is left.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp.domain.models import Group, MessageQuery, RecordQuery, SearchQuery
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.model import opening, redaction, said
from tests.store.worker import WAIT_S_MAX

pytestmark = pytest.mark.anyio

AWAITS_MAX: Final = 60
Call = Callable[[SqliteStore], Awaitable[object]]


async def append(store: SqliteStore) -> None:
    await store.append(Group((said("the cancelled one", key="cancelled"),)))


async def erase(store: SqliteStore) -> None:
    await store.erase([redaction(2)])


async def all_at_once(store: SqliteStore) -> None:
    await asyncio.gather(append(store), erase(store), store.verify(), store.info())


async def close(store: SqliteStore) -> None:
    await append(store)
    await store.info()
    await store.__aexit__(None, None, None)


CALLS: Final[dict[str, Call]] = {
    "append": append,
    "erase": erase,
    "page": lambda store: store.page(MessageQuery("c1", limit=2)),
    "search": lambda store: store.search(SearchQuery("message", 5)),
    "records": lambda store: store.records(RecordQuery(limit=5)),
    "verify": lambda store: store.verify(),
    "all at once": all_at_once,
    "close": close,
}


class Cancelling:
    """`await`s a call and has its task cancelled at the `at`-th suspension (from 0), `late` once that is over."""

    def __init__(self, call: Coroutine[Any, Any, object], at: int, *, late: bool) -> None:
        self._call = call
        self._at = at
        self._late = late
        self.suspended = 0

    def __await__(self) -> Generator[Any, Any, object]:
        task = asyncio.current_task()
        assert task is not None
        steps, send = self._call, self._call.send
        value: Any = None
        while True:
            try:
                waited = send(value)
            except StopIteration as stop:
                return stop.value
            if self.suspended == self._at:
                if self._late and waited is not None:
                    # Ours is called before the task's own: the result is there, and the task has not seen it yet.
                    waited.add_done_callback(lambda _: task.cancel())
                else:
                    asyncio.get_running_loop().call_soon(task.cancel)
            self.suspended += 1
            try:
                value, send = (yield waited), steps.send
            except BaseException as error:  # noqa: BLE001  # handed on to the call
                value, send = error, steps.throw


async def cancel_at(call: Call, store: SqliteStore, at: int, *, late: bool) -> bool:
    """Whether the call was still suspended at that await, and was cancelled there."""

    async def run() -> object:
        return await call(store)

    cancelling = Cancelling(run(), at, late=late)

    async def outer() -> object:
        return await cancelling

    with suppress(asyncio.CancelledError):
        await asyncio.create_task(outer())
    return cancelling.suspended > at


async def check_after(store: SqliteStore, db: Path, name: str) -> None:
    if name == "close":
        # Whatever the cancelled one did, another store opens the file at once.
        await store.__aexit__(None, None, None)
        store = SqliteStore(db)
    async with store:
        done = await store.append(Group((said("the next one"),)))
        retried = await store.append(Group((said("the cancelled one", key="cancelled"),)))
        checked = await store.verify()
        assert (checked.level, checked.fault) == (1, None)
        assert checked.head.size == max(done.head.size, retried.head.size)
        texts = [message.text for message in (await store.page(MessageQuery("c1", limit=50))).messages]
        assert texts.count("the cancelled one") == texts.count("the next one") == 1
        assert len((await store.search(SearchQuery("cancelled", 5))).hits) == 1
    for thread in threading.enumerate():
        if thread.name == "ccn-writer" or "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, WAIT_S_MAX)
            assert not thread.is_alive(), thread.name


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_that_is_cancelled_at_each_await(
    tmp_path: Path, name: str, fresh: bool, late: bool
) -> None:
    """`fresh` stores have not read or written yet, so opening the file is cancelled too."""
    for at in range(AWAITS_MAX):
        db = tmp_path / str(at) / "ccn.db"
        async with asyncio.timeout(WAIT_S_MAX):
            async with SqliteStore(db) as first:
                await first.append(Group((opening(), said("a message"), said("another message"))))
            store = SqliteStore(db)
            if not fresh:
                await store.append(Group((said("one more message"),)))
                await store.info()
            cancelled = await cancel_at(CALLS[name], store, at, late=late)
            await check_after(store, db, name)
        if not cancelled:
            break
    assert not cancelled, "it has more awaits than were tried"
    assert at > 0, "it was never cancelled"
