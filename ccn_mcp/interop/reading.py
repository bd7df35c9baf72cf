"""Reading files that we do not trust: bounded lines, a JSON array element by element, the members of a zip."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, Protocol

from ccn_mcp.domain.errors import BadInput, TooLarge
from ccn_mcp.domain.imported import Skipped
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.limits import IMPORT_VALUE_BYTES_MAX, UNZIPPED_BYTES_MAX, ZIP_MEMBERS_MAX

CHUNK_BYTES: Final = 1 << 18
BOM: Final = b"\xef\xbb\xbf"
_OUTSIDE: Final = re.compile(rb'["\[\]{},]')
_INSIDE: Final = re.compile(rb'["\\]')
_OPENING: Final = b"[{"
_EXPORTED: Final = re.compile(r"(?:.*/)?conversations(?:-\d+)?\.json")


class Readable(Protocol):
    """What the parsers need of a file."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""

    def readline(self, size: int, /) -> bytes:
        """Up to the end of the line, at most `size` bytes."""


class Truncated(ValueError):
    """The file ends, or goes wrong, in the middle of a value."""


def load(data: bytes) -> Json:
    """The JSON value in `data`. Bytes that are not UTF-8 become lone surrogates, which are replaced later.

    Raises:
        ValueError: not JSON, a name twice in an object, or nested too deeply; says which.
    """
    try:
        value: Json = json.loads(data.decode("utf-8", "surrogateescape"), object_pairs_hook=_no_duplicates)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    except json.JSONDecodeError:
        raise ValueError("not JSON") from None
    return value


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("JSON that names a field twice")
    return found


def lines(file: Readable, most: int = IMPORT_VALUE_BYTES_MAX) -> Iterator[tuple[int, bytes | None, bool]]:
    """Each line that is not empty: its number from 1, its bytes (None if it has more than `most`), whether it ended."""
    number = 0
    while data := file.readline(most + 1):
        number += 1
        if number == 1:
            data = data.removeprefix(BOM)
        whole = data.endswith(b"\n")
        if len(data) > most and not whole:
            while not whole and (more := file.readline(CHUNK_BYTES)):
                whole = more.endswith(b"\n")
            yield number, None, whole
        elif line := data.strip():
            yield number, line, whole


def json_lines(file: Readable, name: str) -> Iterator[tuple[str, Json | Skipped]]:
    """Each line's place in the file called `name`, and its value, or why it is left out."""
    for number, data, whole in lines(file):
        where = f"{name}, line {number}"
        if data is None:
            yield where, Skipped("a line that is too long", where)
            continue
        try:
            value = load(data)
        except ValueError as error:
            yield where, Skipped(str(error) if whole else "the last line is not whole", where)
            continue
        yield where, value


def elements(file: Readable, most: int = IMPORT_VALUE_BYTES_MAX) -> Iterator[tuple[int, bytes | None]]:
    """The elements of the JSON array that the file is, one by one: number from 1, bytes (None if more than `most`).

    Only one is in memory at a time. What lies between two commas is not looked at: that is `load`'s part.

    Raises:
        Truncated: the file ends before the array does. What came before was yielded.
    """
    number, depth, size, start = 1, 0, 0, 0
    pieces: list[bytes] = []
    for chunk, at, mark in _marks(file):
        if not mark:  # the chunk ends
            size += at - start if depth else 0
            if depth and size <= most:
                pieces.append(chunk[start:])
            start = 0
        elif mark in _OPENING:
            depth += 1
            start = at + 1 if depth == 1 else start
        elif depth > 1:
            depth -= mark != b","
        elif depth == 1:
            size += at - start
            data = b"".join([*pieces, chunk[start:at]]).strip() if size <= most else None
            if data != b"" or mark == b",":
                yield number, data
            number, pieces, size, start = number + 1, [], 0, at + 1
            if mark != b",":
                return
    raise Truncated("the file ends in the middle")


def _marks(file: Readable) -> Iterator[tuple[bytes, int, bytes]]:
    """Brackets and commas outside of strings: the chunk, the place in it, which; and none at each chunk's end."""
    inside, at = False, 0
    while chunk := file.read(CHUNK_BYTES):
        while (found := (_INSIDE if inside else _OUTSIDE).search(chunk, at)) is not None:
            at = found.end()
            if found[0] == b"\\":
                at += 1
            elif found[0] == b'"':
                inside = not inside
            else:
                yield chunk, found.start(), found[0]
        yield chunk, len(chunk), b""
        at = max(0, at - len(chunk))  # a backslash at the end is about the next chunk's first byte


def whole(file: Readable, most: int = IMPORT_VALUE_BYTES_MAX) -> bytes:
    """All of a file that is one JSON object.

    Raises:
        TooLarge: it has more than `most` bytes.
    """
    data = file.read(most + 1)
    if len(data) > most:
        raise TooLarge(
            f"the file is one JSON object of more than {most:,} bytes; export it as JSONL or as an array"
        )
    return data.removeprefix(BOM)


class Unpacked:
    """A member of a zip, up to a number of bytes whatever its header promises."""

    def __init__(self, file: Readable, most: int) -> None:
        self._file = file
        self._left = most

    def read(self, size: int, /) -> bytes:
        """As a file does.

        Raises:
            TooLarge. Truncated: the zip is damaged.
        """
        try:
            data = self._file.read(size)
        except (zlib.error, zipfile.BadZipFile, EOFError, OSError) as exc:
            raise Truncated("the zip is damaged from here on") from exc
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge(_TOO_MUCH)
        return data

    def readline(self, size: int, /) -> bytes:
        """Exports are arrays."""
        return self.read(size)


_TOO_MUCH: Final = (
    f"the zip unpacks to more than {UNZIPPED_BYTES_MAX:,} bytes; unpack it yourself and import what is in it"
)


def conversations_in(file: BinaryIO, most: int = UNZIPPED_BYTES_MAX) -> Iterator[tuple[str, Unpacked]]:
    """The conversations.json of an export's zip, or its numbered pieces, one by one.

    Raises:
        BadInput: it is no zip, or none is in it. TooLarge.
    """
    try:
        packed = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError) as exc:
        raise BadInput("the zip is damaged; download it again, or unpack it yourself") from exc
    with packed:
        members = packed.infolist()
        if len(members) > ZIP_MEMBERS_MAX:
            raise TooLarge(
                f"the zip holds {len(members):,} files; at most {ZIP_MEMBERS_MAX:,} are looked at, unpack it yourself"
            )
        wanted = sorted(
            (one for one in members if _EXPORTED.fullmatch(one.filename)), key=lambda one: one.filename
        )
        if not wanted:
            raise BadInput("there is no conversations.json in this zip; is it an account's export?")
        if sum(one.file_size for one in wanted) > most:
            raise TooLarge(_TOO_MUCH)
        for one in wanted:
            try:
                opened = packed.open(one)
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as exc:
                raise BadInput(
                    "the zip is damaged or protected by a password; unpack it yourself and import what is in it"
                ) from exc
            with opened:
                yield one.filename, Unpacked(opened, most)
