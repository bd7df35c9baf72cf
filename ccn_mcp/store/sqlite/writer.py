"""The writer: one thread per process that owns the log and takes whatever waits into one transaction.

While it commits, the next batch gathers in the queue, so the more callers wait, the fewer commits each costs.
A caller that is cancelled leaves nothing open, because no transaction ever spans an await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple

from ccn_mcp.domain.errors import StoreBusy
from ccn_mcp.domain.limits import BATCH_DRAFTS_MAX, WAITING_DRAFTS_MAX
from ccn_mcp.domain.models import Appended, Group
from ccn_mcp.store.sqlite.log import Outcome, SqliteLog


class _Waiting(NamedTuple):
    group: Group | None
    """None asks the thread to close the log and end."""

    future: asyncio.Future[Appended | None]


class Writer:
    """Appends groups in the order in which they come. For one event loop; the thread starts with the first."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self._queue: SimpleQueue[_Waiting] = SimpleQueue()
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False

    async def append(self, group: Group) -> Appended:
        """Wait for the group's commit.

        Raises:
            StoreBusy: too many wait already. Otherwise as `Store.append`.
        """
        if self._queue.qsize() >= WAITING_DRAFTS_MAX:
            raise StoreBusy(
                f"{WAITING_DRAFTS_MAX} writes are waiting already; nothing was written, try again later"
            )
        done = await self._ask(group)
        if done is None:
            raise AssertionError("only a request to close has no answer")
        return done

    async def close(self) -> None:
        """Finish what waits, then close the log; goes on to its end even if this task is cancelled."""
        if self._thread is not None and not self._closing:
            self._closing = True
            await asyncio.shield(self._ask(None))

    def _ask(self, group: Group | None) -> asyncio.Future[Appended | None]:
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._loop = loop
            # A daemon, so that a process which is told to end does not wait for another one's lock.
            self._thread = Thread(target=self._run, name="ccn-writer", daemon=True)
            self._thread.start()
        future: asyncio.Future[Appended | None] = loop.create_future()
        self._queue.put(_Waiting(group, future))
        return future

    # ---- in the thread ----

    def _run(self) -> None:
        while True:
            batch = self._gather()
            closing = batch.pop() if batch[-1].group is None else None
            if batch:
                self._commit(batch)
            if closing is not None:
                self._close(closing)
                return

    def _gather(self) -> list[_Waiting]:
        """Everything that waits, up to a request to close; blocks until there is something."""
        batch = [self._queue.get()]
        try:
            while batch[-1].group is not None and len(batch) < BATCH_DRAFTS_MAX:
                batch.append(self._queue.get_nowait())
        except Empty:
            pass
        return batch

    def _commit(self, batch: list[_Waiting]) -> None:
        groups = [waiting.group for waiting in batch if waiting.group is not None]
        outcomes: Sequence[Outcome | Exception | None]
        try:
            # Asked once the turn has come: who gave up meanwhile is left out.
            outcomes = self._log.append_batch(groups, lambda index: not batch[index].future.cancelled())
        except Exception as error:  # noqa: BLE001  # each caller gets it, and the next batch still comes
            outcomes = [error] * len(batch)
        self._tell(batch, outcomes)

    def _close(self, closing: _Waiting) -> None:
        error: Exception | None = None
        try:
            self._log.close()
        except Exception as exc:  # noqa: BLE001  # for the caller of `close`
            error = exc
        self._tell([closing], [error])

    def _tell(self, batch: list[_Waiting], outcomes: Sequence[Outcome | Exception | None]) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return  # nobody is there to be told; what was committed stays
        try:
            loop.call_soon_threadsafe(_settle, batch, outcomes)
        except RuntimeError:
            return  # closed between the two lines above


def _settle(batch: list[_Waiting], outcomes: Sequence[Outcome | Exception | None]) -> None:
    for waiting, outcome in zip(batch, outcomes, strict=True):
        if waiting.future.done():
            continue
        if isinstance(outcome, Exception):
            waiting.future.set_exception(outcome)
        else:
            waiting.future.set_result(outcome)
