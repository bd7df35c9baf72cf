"""Heads that are kept outside of the store: a file of lines, one per signed head, newest last.

    TAG SIZE:ROOT TIME NOTE

TAG names the store and the path it is named by, ROOT is the whole root in hex, TIME is UTC, NOTE the signed note in
base64. A line is added by one `write`, so programs that share the file do not tear each other's.
"""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from ccn_mcp.domain.errors import BadHead
from ccn_mcp.domain.ledger import Head, parse_head
from ccn_mcp.domain.models import Claim
from ccn_mcp.store.folders import make_folders

HEADS_MAX: Final = 1_000
"""Heads of one store that are read back."""

FILE_BYTES_MAX: Final = 1 << 20
"""A file of our own that has grown longer loses its older half."""

READ_BYTES_MAX: Final = 16 << 20
"""The newest part of a file that is read; one that the person chose may be longer."""

COMMAND_S_MAX: Final = 60.0
"""A command that is given heads is ended after this long."""


def tag_of(store_id: bytes, place: Path) -> str:
    """Names one store at one path, links not followed: a copy elsewhere goes its own way, and is no forgery of this."""
    return f"{store_id.hex()}-{sha256(os.fsencode(place)).hexdigest()[:8]}"


class HeadsFile:
    """Heads in the file at `path`, which appears with the first one (0600).

    Only our `own` is shortened, and has its folder made (0700). One that the person chose is theirs, and a folder made
    where a disk should be mounted would look like that disk.
    """

    def __init__(self, path: Path, *, own: bool = False) -> None:
        self.path = path
        self._own = own

    def append(self, tag: str, head: Head, note: bytes) -> None:
        """Add one line.

        Raises:
            OSError: it was not added, or not whole.
        """
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f"{tag} {head.size}:{head.root.hex()} {stamp} {base64.b64encode(note).decode()}\n"
        if self._own:
            make_folders(self.path.parent)
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # After a line that was written in part, ours would be part of it.
            data = line.encode() if _ends_a_line(handle) else b"\n" + line.encode()
            if (written := os.write(handle, data)) != len(data):
                raise OSError(f"only {written} of {len(data)} bytes could be written to {self.path}")
            grown = os.fstat(handle).st_size > FILE_BYTES_MAX
        finally:
            os.close(handle)
        if self._own and grown:
            self._shorten()

    def read(self, tag: str, by: str) -> Sequence[Claim]:
        """The newest heads of one store, by size, at most `HEADS_MAX`; lines that are none are passed over.

        Nothing where the file cannot be read; `trouble` says so.
        """
        found: set[Claim] = set()
        with suppress(OSError):
            for line in self._lines():
                words = line.split()
                if len(words) < 2 or words[0] != tag:
                    continue
                with suppress(BadHead):
                    found.add(Claim(*parse_head(words[1]), by))
        return sorted(found)[-HEADS_MAX:]

    def trouble(self) -> str | None:
        """Why the file cannot be read. One that is not there yet is none, if its folder is."""
        try:
            with self.path.open("rb"):
                return None
        except OSError as failed:
            if isinstance(failed, FileNotFoundError) and self.path.parent.is_dir():
                return None
            return f"the heads in {self.path} cannot be read: {failed}"

    def _lines(self) -> list[str]:
        with self.path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - READ_BYTES_MAX))
            return file.read(READ_BYTES_MAX).decode("ascii", "replace").splitlines()

    def _shorten(self) -> None:
        lines = self._lines()
        handle, name = tempfile.mkstemp(dir=self.path.parent)  # 0600
        draft = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="ascii", errors="replace") as file:
                file.writelines(f"{line}\n" for line in lines[len(lines) // 2 :])
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)


def _ends_a_line(handle: int) -> bool:
    """Whether the file is empty or its last byte is a line feed."""
    if os.lseek(handle, 0, os.SEEK_END) == 0:
        return True
    os.lseek(handle, -1, os.SEEK_END)
    return os.read(handle, 1) == b"\n"


class Command:
    """A program of the person's own that is given each signed head on its standard input."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._running: subprocess.Popen[bytes] | None = None
        self._until = 0.0

    def give(self, note: bytes) -> None:
        """Start it, unless the last one still runs; waits for nothing.

        Raises:
            OSError: it could not be started, or the one before has failed.
        """
        if self._running is not None:
            status = self._running.poll()
            if status is None and time.monotonic() < self._until:
                return
            if status is None:
                self._running.kill()
            self._running = None
            if status:
                raise OSError(f"the command for heads ended with status {status}")
        self._running = subprocess.Popen(
            self._words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._until = time.monotonic() + COMMAND_S_MAX
        if self._running.stdin is not None:
            # A note is far shorter than any pipe, so this never waits.
            with self._running.stdin as pipe:
                pipe.write(note)
