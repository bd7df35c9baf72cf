"""Writing the whole log as files that a stranger can check (docs/formats.md, Bundle): C2SP tlog-tiles and content."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from ccn_mcp.domain.assurance import announced_key
from ccn_mcp.domain.checkpoint import Checkpoint, encode, origin_of
from ccn_mcp.domain.errors import VerificationFailed
from ccn_mcp.domain.ledger import LENGTH, NO_LEAF, Head, Kind, entry_bytes, leaf_hash
from ccn_mcp.domain.limits import STORE_WAIT_S_MAX
from ccn_mcp.domain.merkle import TILE_HASHES, Frontier
from ccn_mcp.store.folders import make_folders
from ccn_mcp.store.sqlite import signing
from ccn_mcp.store.sqlite.checks import parse_body
from ccn_mcp.store.sqlite.reading import one_state

Progress = Callable[[int, int], object]
"""Is told how many entries of how many are written."""

PRESENT: Final = b"\1"
ERASED: Final = b"\0"
ENTRY_LENGTH: Final = (110).to_bytes(2, "big")
ENTRIES: Final = "SELECT seq, time, kind, leaf, commitment, salt, body, blob FROM entry ORDER BY seq"
NOTES: Final = "SELECT size, note, kept FROM checkpoint ORDER BY size DESC"

Row = tuple[int, int, int, bytes, bytes, bytes | None, bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class Bundled:
    """What a bundle holds."""

    store_id: bytes
    head: Head
    erased: int
    signed_to: int


def write_bundle(path: Path, folder: Path, progress: Progress, wait_s: float = STORE_WAIT_S_MAX) -> Bundled:
    """Write the log at `path` into `folder`, which is there and empty; one state of it, while writers go on.

    Raises:
        NoStore: there is none. VerificationFailed: an entry does not match its hash. OSError. StoreError.
    """
    with one_state(path, wait_s) as (connection, store_id, size):
        return _Writer(folder, store_id, size).write(connection, progress)


class _Writer:
    def __init__(self, folder: Path, store_id: bytes, size: int) -> None:
        self._folder, self._store_id, self._size = folder, store_id, size
        self._folders = {folder}
        self._rows: list[list[bytes]] = []
        self._tiles: list[int] = []
        self._tree = Frontier()
        self._leaf = NO_LEAF
        self._erased = 0

    def write(self, connection: sqlite3.Connection, progress: Progress) -> Bundled:
        rows = iter(connection.execute(ENTRIES))
        for first in range(0, self._size, TILE_HASHES):
            self._some_entries(rows, first, min(TILE_HASHES, self._size - first))
            progress(min(first + TILE_HASHES, self._size), self._size)
        if self._tree.size != self._size or next(rows, None) is not None:
            raise VerificationFailed(
                f"the log counts {self._size:,} entries and does not hold just these, so no bundle was written; run "
                "`ccn-mcp verify`"
            )
        for level, row in enumerate(self._rows):
            if row:
                self._put_tile(level, row)
        head = Head(self._size, self._tree.root())
        self._put("head", encode(Checkpoint(origin_of(self._store_id), head.size, head.root)).encode())
        named = [(seq, announced_key(seq, body)) for seq, body in signing.key_entries(connection)]
        self._put("keys", "".join(f"{seq} {key}\n" for seq, key in named if key is not None).encode())
        return Bundled(self._store_id, head, self._erased, self._put_notes(connection))

    def _some_entries(self, rows: Iterable[Row], first: int, width: int) -> None:
        name = tile_name(first // TILE_HASHES, width)
        with ExitStack() as stack:
            entries = stack.enter_context(self._open(f"tile/entries/{name}"))
            payload = stack.enter_context(self._open(f"payload/{name}"))
            for expected, row in zip(range(first, first + width), rows, strict=False):
                seq, time_us, kind, leaf, committed, salt, body, blob = row
                entry = entry_bytes(self._store_id, seq, time_us, kind, self._leaf, committed)
                self._leaf = leaf_hash(entry)
                if seq != expected or self._leaf != leaf:
                    raise VerificationFailed(
                        f"entry {expected} does not match its hash, so no bundle was written; run `ccn-mcp verify`"
                    )
                entries.write(ENTRY_LENGTH + entry)
                self._add(leaf)
                if salt is None or body is None or blob is None:
                    self._erased += 1
                    payload.write(ERASED)
                    continue
                payload.write(PRESENT + salt + LENGTH.pack(len(body)) + body + LENGTH.pack(len(blob)) + blob)
                if kind == Kind.ANCHOR:
                    self._put(f"anchors/{seq}.note", str((parse_body(body) or {}).get("note")).encode())
                    self._put(f"anchors/{seq}.tsr", blob)

    def _add(self, leaf: bytes) -> None:
        completed = self._tree.completed = [(0, self._tree.size, leaf)]
        self._tree.append(leaf)
        for level, _, found in completed:
            if level == len(self._rows):
                self._rows.append([])
                self._tiles.append(0)
            self._rows[level].append(found)
            if len(self._rows[level]) == TILE_HASHES:
                self._put_tile(level, self._rows[level])
                self._rows[level] = []

    def _put_tile(self, level: int, hashes: list[bytes]) -> None:
        self._put(f"tile/{level}/{tile_name(self._tiles[level], len(hashes))}", b"".join(hashes))
        self._tiles[level] += 1

    def _put_notes(self, connection: sqlite3.Connection) -> int:
        """The newest signed head, and those that are kept for good; how many entries the newest covers."""
        if connection.execute("PRAGMA user_version").fetchone()[0] < 2:
            return 0
        newest = 0
        for size, note, kept in connection.execute(NOTES):
            if not newest:
                newest = size
                self._put("checkpoint", note)
            elif kept:
                self._put(f"checkpoints/{size}", note)
        return newest

    def _put(self, name: str, data: bytes) -> None:
        with self._open(name) as file:
            file.write(data)

    def _open(self, name: str) -> BinaryIO:
        path = self._folder / name
        if path.parent not in self._folders:
            make_folders(path.parent)
            self._folders.add(path.parent)
        return _new(path)


def put_file(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, and that was not there.

    Raises:
        OSError: it was, or cannot be written.
    """
    with _new(path) as file:
        file.write(data)


def _new(path: Path) -> BinaryIO:
    return os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600), "wb"
    )


def tile_name(index: int, width: int) -> str:
    """`x001/x234/067` for tile 1234067; `.p/WIDTH` follows where it is not full (C2SP tlog-tiles)."""
    name = f"{index % 1000:03d}"
    while index >= 1000:
        index //= 1000
        name = f"x{index % 1000:03d}/{name}"
    return name if width == TILE_HASHES else f"{name}.p/{width}"
