"""Making a file beside its place and moving it there once it is whole; leftovers of what was killed are cleared."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from ccn_mcp.domain.errors import CcnError, Conflict, StoreBusy, StoreError, StoreFull, StoreReadOnly
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.sqlite import connect

PREFIX: Final = ".ccn-part-"
_BUSY: Final = "working"
STALE_S: Final = 60.0
"""A leftover folder is cleared only when it is older: a new one takes its lock a moment after it is made."""

_FULL: Final = (28, 122)  # ENOSPC, EDQUOT


@contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A private folder on the disk of `target`; it is gone afterwards, whatever happens.

    Raises:
        StoreReadOnly, StoreFull: it cannot be made.
    """
    with disk_words(target):
        make_folders(target.parent)
        clear_leftovers(target.parent)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=target.parent))  # 0700
    try:
        # Held until the end: it tells others that this folder is no leftover.
        with closing(Turnstile(folder / _BUSY, 0)) as busy, busy:
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_leftovers(parent: Path) -> int:
    """Remove the folders of those that were killed; returns how many."""
    cleared = 0
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError, StoreError):
            if folder.is_symlink() or time.time() - folder.stat().st_mtime < STALE_S:
                continue
            with suppress(StoreBusy), closing(Turnstile(folder / _BUSY, 0)) as busy, busy:
                shutil.rmtree(folder, ignore_errors=True)
                cleared += 1
    return cleared


def make_folders(folder: Path) -> None:
    """Each missing folder with 0700, one by one: `parents=True` would use the account's umask."""
    for one in (*reversed(folder.parents), folder):
        if not one.is_dir():
            one.mkdir(mode=0o700, exist_ok=True)


def put_in_place(part: Path, target: Path, *, replace: bool) -> None:
    """Move the finished file to its place, durably.

    Raises:
        Conflict: somebody made `target` meanwhile, and it is not to be replaced.
    """
    sync(part)
    if replace:
        part.replace(target)
    else:
        try:
            os.link(part, target)  # unlike a rename, fails if somebody made the file meanwhile
        except FileExistsError as exc:
            raise Conflict(f"{target} exists; nothing was written there") from exc
        except OSError:  # a file system without hard links
            part.rename(target)
        else:
            part.unlink()
    sync(target.parent)


def sync(path: Path) -> None:
    """What is in the file, or the names in the folder, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def words_of(part: Path, target: Path) -> Iterator[None]:
    """What goes wrong with `part` is told of `target`, which is what the person knows."""
    try:
        with disk_words(target), connect.our_words(target):
            yield
    except CcnError as exc:
        if str(part) not in str(exc):
            raise
        raise type(exc)(str(exc).replace(str(part), str(target))) from exc


@contextmanager
def disk_words(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into ours, each with a next step."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise StoreFull(
                f"the disk that would hold {path} is full; nothing was written. Free some space"
            ) from exc
        raise StoreReadOnly(
            f"cannot write {path}: {exc.strerror or exc}; choose another place, or give this account access to it"
        ) from exc
