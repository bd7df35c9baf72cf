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
from ccn_mcp.domain.models import Appended, Draft, Erased, Group
from ccn_mcp.store.sqlite.log import SqliteLog

Work = Group | tuple[Draft, ...] | None
"""A group to append, redactions to erase by; None asks the thread to close the log and end."""

Answer = Appended | Erased | None


class _Waiting(NamedTuple):
    work: Work
    future: asyncio.Future[Answer]


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
        if not isinstance(done, Appended):
            raise TypeError("a group is answered by what was appended")
        return done

    async def erase(self, redactions: Sequence[Draft]) -> Erased:
        """Wait until the redactions are recorded and what they name is gone. See `Store.erase`."""
        done = await self._ask(tuple(redactions))
        if not isinstance(done, Erased):
            raise TypeError("redactions are answered by what was erased")
        return done

    async def close(self) -> None:
        """Finish what waits, then close the log; goes on to its end even if this task is cancelled."""
        if self._thread is not None and not self._closing:
            self._closing = True
            await asyncio.shield(self._ask(None))

    def _ask(self, work: Work) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._loop = loop
            # A daemon, so that a process which is told to end does not wait for another one's lock.
            self._thread = Thread(target=self._run, name="ccn-writer", daemon=True)
            self._thread.start()
        future: asyncio.Future[Answer] = loop.create_future()
        self._queue.put(_Waiting(work, future))
        return future

    # ---- in the thread ----

    def _run(self) -> None:
        while True:
            batch = self._gather()
            last = None if isinstance(batch[-1].work, Group) else batch.pop()
            if batch:
                self._commit(batch)
            if last is not None and last.work is None:
                self._close(last)
                return
            if last is not None:
                self._erase(last)

    def _gather(self) -> list[_Waiting]:
        """Everything that waits, up to what is no group; blocks until there is something."""
        batch = [self._queue.get()]
        try:
            while isinstance(batch[-1].work, Group) and len(batch) < BATCH_DRAFTS_MAX:
                batch.append(self._queue.get_nowait())
        except Empty:
            pass
        return batch

    def _commit(self, batch: list[_Waiting]) -> None:
        groups = [waiting.work for waiting in batch if isinstance(waiting.work, Group)]
        outcomes: Sequence[Answer | Exception]
        try:
            # Asked once the turn has come: who gave up meanwhile is left out.
            outcomes = self._log.append_batch(groups, lambda index: not batch[index].future.cancelled())
        except Exception as error:  # noqa: BLE001  # each caller gets it, and the next batch still comes
            outcomes = [error] * len(batch)
        self._tell(batch, outcomes)

    def _erase(self, erasing: _Waiting) -> None:
        if not isinstance(erasing.work, tuple) or erasing.future.cancelled():
            return
        outcome: Erased | Exception
        try:
            outcome = self._log.erase(erasing.work)
        except Exception as error:  # noqa: BLE001  # for the caller
            outcome = error
        self._tell([erasing], [outcome])

    def _close(self, closing: _Waiting) -> None:
        error: Exception | None = None
        try:
            self._log.close()
        except Exception as exc:  # noqa: BLE001  # for the caller of `close`
            error = exc
        self._tell([closing], [error])

    def _tell(self, batch: list[_Waiting], outcomes: Sequence[Answer | Exception]) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return  # nobody is there to be told; what was committed stays
        try:
            loop.call_soon_threadsafe(_settle, batch, outcomes)
        except RuntimeError:
            return  # closed between the two lines above


def _settle(batch: list[_Waiting], outcomes: Sequence[Answer | Exception]) -> None:
    for waiting, outcome in zip(batch, outcomes, strict=True):
        if waiting.future.done():
            continue
        if isinstance(outcome, Exception):
            waiting.future.set_exception(outcome)
        else:
            waiting.future.set_result(outcome)
