"""Heads that are kept outside of the store: a file of lines, one per signed head, newest last.

    TAG SIZE:ROOT TIME NOTE

TAG names the store and the place it lies at, ROOT is the whole root in hex, TIME is UTC, NOTE the signed note in
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
"""A file that has grown longer loses its older half."""

COMMAND_S_MAX: Final = 60.0
"""A command that is given heads is ended after this long."""


def tag_of(store_id: bytes, place: Path) -> str:
    """Names one store at one place: a copy elsewhere goes its own way, and is no forgery of this one."""
    return f"{store_id.hex()}-{sha256(os.fsencode(place)).hexdigest()[:8]}"


class HeadsFile:
    """Heads in the file at `path`, which appears with the first one; 0600, its folder 0700."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, tag: str, head: Head, note: bytes) -> None:
        """Add one line.

        Raises:
            OSError: it was not added.
        """
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f"{tag} {head.size}:{head.root.hex()} {stamp} {base64.b64encode(note).decode()}\n"
        make_folders(self.path.parent)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())
            grown = os.fstat(handle).st_size > FILE_BYTES_MAX
        finally:
            os.close(handle)
        if grown:
            self._shorten()

    def read(self, tag: str, by: str) -> Sequence[Claim]:
        """The newest heads of one store, by size, at most `HEADS_MAX`; lines that are none are passed over."""
        found: set[Claim] = set()
        for line in self._lines():
            words = line.split()
            if len(words) < 2 or words[0] != tag:
                continue
            with suppress(BadHead):
                found.add(Claim(*parse_head(words[1]), by))
        return sorted(found)[-HEADS_MAX:]

    def _lines(self) -> list[str]:
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2 * FILE_BYTES_MAX))
                return file.read(2 * FILE_BYTES_MAX).decode("ascii", "replace").splitlines()
        except OSError:
            return []

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
