"""Cards inside PNG and .charx files: strict readers of what somebody else packed. Nothing is unpacked to disk."""

from __future__ import annotations

import binascii
import struct
import zlib
from base64 import b64decode
from typing import Final

from ccn_mcp.domain.errors import BadPlate

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
ZIP_SIGNATURE: Final = b"PK\x03\x04"
CARD_BYTES_MAX: Final = 4_194_304
"""JSON of one card, unpacked."""

CHUNKS_MAX: Final = 65_536
ZIP_ITEMS_MAX: Final = 4_096
CARD_KEYWORDS: Final = (b"ccv3", b"chara")
"""The text chunks that hold a card, the better one first."""

_HEAD: Final = struct.Struct(">I4s")
_CRC: Final = struct.Struct(">I")
_ZIP_END: Final = struct.Struct("<4s4HIIH")
_ZIP_ITEM: Final = struct.Struct("<4s6H3I5H2I")
_ZIP_LOCAL: Final = struct.Struct("<4s5H3I2H")
_ZIP_COMMENT_BYTES_MAX: Final = 65_535
_CARD: Final = b"card.json"
_STORED, _DEFLATED = 0, 8
_BAD_ZIP: Final = (
    "this archive is damaged or of a kind that is not read ({}); take card.json out, import that"
)


def card_in_png(data: bytes) -> tuple[bytes, list[str]]:
    """The card's JSON and notes for the person.

    Raises:
        BadPlate: a damaged file, no card, two different cards, or one that is too large.
    """
    found: dict[bytes, bytes] = {}
    at, count = len(PNG_SIGNATURE), 0
    kind = b""
    while kind != b"IEND":
        kind, content, at = _chunk(data, at)
        count += 1
        if count > CHUNKS_MAX:
            raise BadPlate(f"this PNG has over {CHUNKS_MAX:,} chunks and is no card; save the image again")
        if (count == 1) != (kind == b"IHDR"):
            raise BadPlate("this PNG does not begin with exactly one header; it is damaged, get it again")
        keyword, _, text = content.partition(b"\0") if kind == b"tEXt" else (b"", b"", b"")
        if keyword not in CARD_KEYWORDS:
            continue
        if found.setdefault(keyword, text) != text:
            raise BadPlate(
                f"this PNG has two different {keyword.decode()!r} cards; export it again with the program "
                "that made it, so that one is left"
            )
    notes = [f"{len(data) - at:,} bytes after the image's end were not read"] if at < len(data) else []
    for keyword in CARD_KEYWORDS:
        if keyword in found:
            other = len(found) == len(CARD_KEYWORDS)
            notes.insert(0, f"read from the PNG's {keyword.decode()!r} text chunk")
            return _from_base64(found[keyword]), [*notes, *(["its 'chara' chunk was not read"] * other)]
    raise BadPlate(
        "this PNG has no character card (no 'ccv3' or 'chara' text chunk); services that scale or convert "
        "images remove it: get the original file, or the card as JSON"
    )


def _chunk(data: bytes, at: int) -> tuple[bytes, bytes, int]:
    """A chunk's kind and content, and where the next one begins."""
    if at + _HEAD.size > len(data):
        raise BadPlate("this PNG ends before its last chunk; it is cut off, get it again")
    length, kind = _HEAD.unpack_from(data, at)
    start = at + _HEAD.size
    end = start + length
    if end + _CRC.size > len(data):
        raise BadPlate(
            f"a chunk at byte {at:,} of this PNG reaches past its end; it is cut off, get it again"
        )
    if not (kind.isalpha() and kind.isascii()):
        raise BadPlate(f"byte {at:,} of this PNG begins no chunk; it is damaged, get it again")
    if _CRC.unpack_from(data, end)[0] != zlib.crc32(data[at + 4 : end]):
        raise BadPlate(f"a chunk at byte {at:,} of this PNG fails its checksum; it is damaged, get it again")
    return kind, data[start:end], end + _CRC.size


def _from_base64(text: bytes) -> bytes:
    if len(text) > CARD_BYTES_MAX * 4 // 3 + 4:
        raise BadPlate(_too_large(len(text) * 3 // 4))
    try:
        return b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as exc:
        raise BadPlate("the card in this PNG is not base64; export it again as JSON") from exc


def _too_large(count: int) -> str:
    return (
        f"the card has {count:,} bytes of JSON, at most {CARD_BYTES_MAX:,} are read; take its lore book and "
        "data out of it, they are not part of a Plate"
    )


def card_in_charx(data: bytes) -> tuple[bytes, list[str]]:
    """The bytes of `card.json` and notes. No other item is opened, and no name in it is used as a path.

    Raises:
        BadPlate: a damaged or encrypted archive, no card, two cards, or one that unpacks to too much.
    """
    count, at = _directory(data)
    found: list[tuple[int, ...]] = []
    for _ in range(count):
        if at + _ZIP_ITEM.size > len(data):
            raise BadPlate(_BAD_ZIP.format("its directory is cut off"))
        signature, *numbers = _ZIP_ITEM.unpack_from(data, at)
        if signature != b"PK\x01\x02":
            raise BadPlate(_BAD_ZIP.format("its directory is not where it says"))
        name_size, extra_size, comment_size = numbers[9:12]
        start = at + _ZIP_ITEM.size
        if data[start : start + name_size] == _CARD:
            found.append(tuple(numbers))
        at = start + name_size + extra_size + comment_size
    if len(found) != 1:
        raise BadPlate(f"this archive has {len(found)} items named card.json, a .charx file has exactly one")
    notes = ["read from card.json in the archive"]
    if count > 1:
        notes.append(f"{count - 1:,} other items in the archive were not opened")
    return _unpacked(data, found[0]), notes


def _directory(data: bytes) -> tuple[int, int]:
    """How many items the archive has, and where their list begins."""
    tail = max(0, len(data) - _ZIP_COMMENT_BYTES_MAX - _ZIP_END.size)
    at = data.rfind(b"PK\x05\x06", tail)
    if at < 0 or at + _ZIP_END.size > len(data):
        raise BadPlate(_BAD_ZIP.format("it has no end"))
    _, disk, first_disk, here, count, _, offset, _ = _ZIP_END.unpack_from(data, at)
    if disk or first_disk or here != count:
        raise BadPlate(_BAD_ZIP.format("it is one of several parts"))
    if count > ZIP_ITEMS_MAX:
        raise BadPlate(_BAD_ZIP.format(f"over {ZIP_ITEMS_MAX:,} items"))
    return count, offset


def _unpacked(data: bytes, numbers: tuple[int, ...]) -> bytes:
    """The card's bytes. The sizes in the directory are claims: what is unpacked ends at the limit."""
    flags, method, crc, packed, size, offset = (*numbers[2:4], *numbers[6:9], numbers[15])
    if flags & 1:
        raise BadPlate("card.json in this archive is encrypted; export it without a password")
    if size > CARD_BYTES_MAX:
        raise BadPlate(_too_large(size))
    if offset + _ZIP_LOCAL.size > len(data):
        raise BadPlate(_BAD_ZIP.format("card.json is not where it says"))
    signature, *local = _ZIP_LOCAL.unpack_from(data, offset)
    start = offset + _ZIP_LOCAL.size
    named = data[start : start + local[8]] == _CARD
    start += local[8] + local[9]
    if signature != ZIP_SIGNATURE or not named or start + packed > len(data):
        raise BadPlate(_BAD_ZIP.format("card.json is not where it says"))
    content = data[start : start + packed]
    if method == _DEFLATED:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, CARD_BYTES_MAX + 1)
        except zlib.error as exc:
            raise BadPlate(_BAD_ZIP.format("card.json does not unpack")) from exc
    elif method != _STORED:
        raise BadPlate(_BAD_ZIP.format("card.json is packed in another way than deflate"))
    if len(content) > CARD_BYTES_MAX:
        raise BadPlate(_too_large(len(content)))
    if len(content) != size or zlib.crc32(content) != crc:
        raise BadPlate(_BAD_ZIP.format("card.json fails its checksum"))
    return content
