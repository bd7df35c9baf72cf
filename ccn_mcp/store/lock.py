"""The turnstile: one writer at a time on a store file, in turn, across processes and threads.

Two lock files. A writer takes `queue`, then `work`, then lets go of `queue`: whoever holds `queue` is next,
so a busy process that has just finished cannot overtake one that waits. The kernel releases both when a
process dies. Standard library only, because the hook uses it too. Polled, because a blocking lock cannot
be given a deadline.
"""

from __future__ import annotations

import os
import sys
import time

from ccn_mcp.domain.errors import StoreBusy, StoreError, StoreReadOnly, StoreUnavailable
from ccn_mcp.domain.limits import STORE_WAIT_S_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Final, Self

QUEUE_POLL_S: Final = 0.001
WORK_POLL_S: Final = 0.0002

if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            os.lseek(handle, 0, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(handle: int) -> None:
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)


class Turnstile:
    """`with turnstile:` around every write and checkpoint of the store at `path`.

    Not reentrant. Creates `PATH.queue` and `PATH.lock` (0600) on first use and leaves them there.

    Raises:
        StoreBusy: after `wait_s` seconds.
        StoreReadOnly, StoreUnavailable: if the lock files cannot be made.
    """

    def __init__(self, path: Path, wait_s: float = STORE_WAIT_S_MAX) -> None:
        self._path = path
        self._wait_s = wait_s
        self._handles: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        queue, work = self._open()
        deadline = time.monotonic() + self._wait_s
        self._take(queue, QUEUE_POLL_S, deadline)
        try:
            self._take(work, WORK_POLL_S, deadline)
        finally:
            _unlock(queue)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handles is not None:
            _unlock(self._handles[1])

    def close_in_turn(self, close: Callable[[], None]) -> None:
        """Close a connection in turn, because the last one to close checkpoints.

        Without a turn it is closed all the same: whoever has the turn has the file open, so this connection is
        not the last one, and where no lock file can be made nothing can be checkpointed either.
        """
        try:
            self.__enter__()
        except StoreError:
            close()
            return
        try:
            close()
        finally:
            self.__exit__(None, None, None)

    def close(self) -> None:
        """Let go of the lock files."""
        if self._handles is not None:
            for handle in self._handles:
                os.close(handle)
            self._handles = None

    def _take(self, handle: int, poll_s: float, deadline: float) -> None:
        while not self._try(handle):
            if time.monotonic() >= deadline:
                raise StoreBusy(
                    f"another process has kept the store {self._path} locked for {self._wait_s:g} s; "
                    "nothing was written. Try again; `ccn-mcp doctor` lists the processes that have it open"
                )
            time.sleep(poll_s)

    def _try(self, handle: int) -> bool:
        try:
            return _try_lock(handle)
        except OSError as exc:
            raise StoreUnavailable(
                f"cannot lock the store {self._path}: {exc.strerror}; nothing was written. If it is on a network "
                "drive, choose a place on a local disk with --db or CCN_DB"
            ) from exc

    def _open(self) -> tuple[int, int]:
        if self._handles is None:
            queue = self._open_one(".queue")
            try:
                self._handles = (queue, self._open_one(".lock"))
            except BaseException:
                os.close(queue)
                raise
        return self._handles

    def _open_one(self, suffix: str) -> int:
        path = self._path.with_name(self._path.name + suffix)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except (PermissionError, IsADirectoryError) as exc:
            raise StoreReadOnly(
                f"cannot write beside the store: {path}: {exc.strerror}; give this account write access "
                "to the folder, or choose another place with --db or CCN_DB"
            ) from exc
        except OSError as exc:
            kind = StoreReadOnly if exc.errno == 30 else StoreUnavailable  # 30: EROFS
            raise kind(
                f"cannot open the lock file {path}: {exc.strerror}; choose another place with --db or CCN_DB"
            ) from exc
