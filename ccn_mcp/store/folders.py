"""Folders that a power cut does not take back, whatever they hold."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def make_folders(path: Path) -> None:
    """Make the folder and those above it that are missing, for their owner only (0700), and keep their names.

    Raises:
        OSError: one of them cannot be made.
    """
    # One by one: `parents=True` would make all but the last with the account's umask.
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Have the names in this folder on the disk: syncing a file is no promise that its name is kept (POSIX fsync).

    Done as well as the system can: Windows and some file systems have no such call for folders.
    """
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
