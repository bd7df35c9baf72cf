"""The writer: one thread per process that owns the log and takes whatever waits into one transaction.

While it commits, the next batch gathers in the queue, so the more callers wait, the fewer commits each costs.
A caller that is cancelled leaves nothing open, because no transaction ever spans an await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, NamedTuple

from ccn_mcp.domain.errors import StoreBusy, StoreError
from ccn_mcp.domain.limits import BATCH_DRAFTS_MAX, WAITING_DRAFTS_MAX
from ccn_mcp.domain.models import Appended, Draft, Erased, Group, KeyChange, Maintained
from ccn_mcp.store.sqlite.log import SqliteLog

QUIET_S: Final = 30.0
"""After this long without work the writer does its chores; see `SqliteLog.do_chores`."""

QUIET_TRIES_MAX: Final = 20
"""Quiet moments in a row that are used, where a reader keeps the chores from being finished."""


class Maintain(NamedTuple):
    """Ask for `SqliteLog.maintain`."""

    vacuum: bool


class Tidy(NamedTuple):
    """Ask for `SqliteLog.tidy`."""


TIDY: Final = Tidy()


class RotateKey(NamedTuple):
    """Ask for `SqliteLog.rotate_key`."""

    lost: bool


Work = Group | Maintain | Tidy | RotateKey | tuple[Draft, ...] | None
"""A group to append, redactions to erase by; None asks the thread to close the log and end."""

Answer = Appended | Erased | Maintained | KeyChange | tuple[bool, int] | None


class _Waiting(NamedTuple):
    work: Work
    future: asyncio.Future[Answer]


class Writer:
    """Appends groups in the order in which they come. For one event loop; the thread starts with the first."""

    def __init__(self, log: SqliteLog, quiet_s: float = QUIET_S) -> None:
        self._log = log
        self._quiet_s = quiet_s
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

    async def erase(self, redactions: Sequence[Draft], *, finish: bool) -> Erased:
        """Wait until the redactions are recorded and what they name is gone. See `Store.erase`."""
        done = await self._ask(tuple(redactions))
        if not isinstance(done, Erased):
            raise TypeError("redactions are answered by what was erased")
        more, pending = finish and done.pending > 0, done.pending
        while more:  # what waits meanwhile is written between two steps
            try:
                step = await self._ask(TIDY)
            except StoreError:
                break  # it is erased and stays pending: a later call, or a quiet moment, goes on
            if not isinstance(step, tuple):
                raise TypeError("a step of cleaning up is answered by what is left")
            more, pending = step
        return replace(done, pending=pending)

    async def maintain(self, *, vacuum: bool) -> Maintained:
        """Wait until the store is tidy. See `Store.maintain`."""
        done = await self._ask(Maintain(vacuum))
        if not isinstance(done, Maintained):
            raise TypeError("maintenance is answered by what was done")
        return done

    async def rotate_key(self, *, lost: bool) -> KeyChange:
        """Wait until the log has another key. See `Store.rotate_key`."""
        done = await self._ask(RotateKey(lost))
        if not isinstance(done, KeyChange):
            raise TypeError("a change of keys is answered by the change")
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
                if self._log.sign_in_s() == 0:
                    self._sign()
            if last is not None and last.work is None:
                self._close(last)
                return
            if last is not None:
                self._do(last)

    def _gather(self) -> list[_Waiting]:
        """Everything that waits, up to what is no group; blocks until there is something."""
        batch = [self._next()]
        try:
            while isinstance(batch[-1].work, Group) and len(batch) < BATCH_DRAFTS_MAX:
                batch.append(self._queue.get_nowait())
        except Empty:
            pass
        return batch

    def _next(self) -> _Waiting:
        """What waits next. Wakes by itself to sign and while there are chores; then it blocks until somebody asks."""
        while (wait_s := self._log.sign_in_s()) is not None:
            try:
                return self._queue.get(timeout=wait_s)
            except Empty:
                self._sign()
        for _ in range(QUIET_TRIES_MAX):
            if not self._log.has_chores():
                break
            try:
                return self._queue.get(timeout=self._quiet_s)
            except Empty:
                self._quiet()
        return self._queue.get()

    def _sign(self) -> None:
        with suppress(
            Exception
        ):  # the next append tries again; `doctor` tells a person what is wrong with the key
            self._log.sign()

    def _quiet(self) -> None:
        """Nothing has waited for a while: the moment for housekeeping."""
        with suppress(Exception):  # nobody asked for it, and whoever comes next is served all the same
            self._log.do_chores(self._queue.empty)

    def _commit(self, batch: list[_Waiting]) -> None:
        groups = [waiting.work for waiting in batch if isinstance(waiting.work, Group)]
        outcomes: Sequence[Answer | Exception]
        try:
            # Asked once the turn has come: who gave up meanwhile is left out.
            outcomes = self._log.append_batch(groups, lambda index: not batch[index].future.cancelled())
        except Exception as error:  # noqa: BLE001  # each caller gets it, and the next batch still comes
            outcomes = [error] * len(batch)
        self._tell(batch, outcomes)

    def _do(self, asked: _Waiting) -> None:
        """What is no group and so stands alone."""
        work = asked.work
        if work is None or isinstance(work, Group) or asked.future.cancelled():
            return
        outcome: Answer | Exception
        try:
            outcome = self._special(work)
        except Exception as error:  # noqa: BLE001  # for the caller
            outcome = error
        self._tell([asked], [outcome])

    def _special(self, work: Maintain | Tidy | RotateKey | tuple[Draft, ...]) -> Answer:
        if isinstance(work, Maintain):
            return self._log.maintain(vacuum=work.vacuum)
        if isinstance(work, RotateKey):
            return self._log.rotate_key(lost=work.lost)
        if isinstance(work, Tidy):
            return self._log.tidy()
        return self._log.erase(work, finish=False)

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
