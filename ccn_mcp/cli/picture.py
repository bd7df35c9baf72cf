"""Small pictures of time series: blocks for a terminal; SVG and PNG drawn from the same few lines and words."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final, Literal, TypeAlias

Values: TypeAlias = Sequence[float | None]
Kind: TypeAlias = Literal["own", "base", "agreed", "grid"]
Dot: TypeAlias = Callable[[int, int, tuple[int, int, int]], None]

BLOCKS: Final = "▁▂▃▄▅▆▇█"
PLAIN: Final = "_.-=+*#@"
SPAN_MIN: Final = 0.2
"""A line's own range is drawn at least this wide, so that noise does not look like a mountain."""

SIDE_MAX: Final = 8_000
"""Pixels of a picture's side."""

_DASHES: Final = {"own": 0, "grid": 0, "base": 6, "agreed": 2}
_COLOURS: Final = {
    "own": (11, 92, 173),
    "base": (143, 63, 0),
    "agreed": (23, 112, 58),
    "grid": (205, 205, 200),
}
_INK: Final = (40, 40, 38)


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points, in pixels."""

    kind: Kind
    points: tuple[tuple[float, float], ...]


@dataclass(slots=True)
class Picture:
    """Lines and words on a sheet; words are (x, y of their foot, text)."""

    width: int
    height: int
    lines: list[Line] = field(default_factory=list)
    words: list[tuple[float, float, str]] = field(default_factory=list)

    def plot(
        self, box: tuple[float, float, float, float], title: str, given: Sequence[tuple[Kind, Values]]
    ) -> None:
        """One diagram in `box` (x, y, width, height): a title above, a frame of two lines, the range at its side."""
        x, y, wide, high = box
        low, high_value = bounds([value for _, values in given for value in values])
        self.words.append((x, y + 10, title))
        top, foot, left = y + 20, y + high - 4, x + 30
        for value, at in ((high_value, top), (low, foot)):
            self.lines.append(Line("grid", ((left, at), (x + wide, at))))
            self.words.append((x, at + 5, f"{value:.2f}"))
        for kind, values in given:
            step = (x + wide - left) / max(1, len(values) - 1)
            places = [
                None if value is None
                else (left + step * at, foot - (foot - top) * (value - low) / (high_value - low))
                for at, value in enumerate(values)
            ]  # fmt: skip
            self.lines += [Line(kind, part) for part in _unbroken(places)]


def _unbroken(places: Sequence[tuple[float, float] | None]) -> list[tuple[tuple[float, float], ...]]:
    parts: list[list[tuple[float, float]]] = [[]]
    for place in places:
        if place is None:
            parts.append([])
        else:
            parts[-1].append(place)
    # A point alone would be invisible: it becomes a short dash.
    return [
        tuple(part) if len(part) > 1 else ((part[0][0] - 2, part[0][1]), (part[0][0] + 2, part[0][1]))
        for part in parts
        if part
    ]


def bounds(values: Values) -> tuple[float, float]:
    """The lowest and highest value, widened to `SPAN_MIN` where they lie closer, within 0 to 1 where they do."""
    known = [value for value in values if value is not None] or [0.0]
    low, high = min(known), max(known)
    if (lacking := SPAN_MIN - (high - low)) > 0:
        low = max(0.0, low - lacking / 2)
        high = max(high, low + SPAN_MIN)
        if max(known) <= 1 < high:
            low, high = 1 - SPAN_MIN, 1.0
    return low, high


def spark(values: Values, width: int, *, blocks: str = BLOCKS) -> str:
    """The values as a row of at most `width` blocks; where there are more values, each block is a mean."""
    low, high = bounds(values)
    count = min(width, len(values))
    cells = []
    for at in range(count):
        part = values[at * len(values) // count : (at + 1) * len(values) // count]
        known = [value for value in part if value is not None]
        if not known:
            cells.append(" ")
            continue
        mean = sum(known) / len(known)
        cells.append(blocks[round((mean - low) / (high - low) * (len(blocks) - 1))])
    return "".join(cells)


# ---- SVG -----------------------------------------------------------------------------------------------

_STYLE: Final = (
    "svg{background:#fff}path{fill:none;stroke-width:2}text{font:12px system-ui,sans-serif;fill:#282826}"
    ".own{stroke:#0b5cad}.base{stroke:#8f3f00;stroke-dasharray:6 4}.agreed{stroke:#17703a;stroke-dasharray:2 3}"
    ".grid{stroke:#cdcdc8;stroke-width:1}@media(prefers-color-scheme:dark){svg{background:#1c1c1b}"
    "text{fill:#ededea}.own{stroke:#7ab8ff}.base{stroke:#ffb070}.agreed{stroke:#7fd99b}.grid{stroke:#55554f}}"
)


def svg(picture: Picture) -> str:
    """The picture as an SVG document, in light and dark, with nothing from outside."""
    width, height = picture.width, picture.height
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">', f"<style>{_STYLE}</style>"]
    for line in picture.lines:
        way = "L".join(f"{x:.1f} {y:.1f}" for x, y in line.points)
        parts.append(f'<path class="{line.kind}" d="M{way}"/>')
    parts += [f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>' for x, y, text in picture.words]
    return "\n".join([*parts, "</svg>", ""])


# ---- PNG -----------------------------------------------------------------------------------------------

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_/,():"
_DIGITS: Final = (
    "257556565634443655567464774644345535575572227111525565544447577556555525552656442556365655342167222255557"
    "555525577555255552227124775557262277174771717557117471774757711227575775717000020070000007112440002424442"
    "4222402020"
)
_GLYPHS: Final = {letter: _DIGITS[5 * at : 5 * at + 5] for at, letter in enumerate(_LETTERS)}
"""Letters of 3 by 5 pixels: five octal digits, one a row. Other characters are left empty."""

_SCALE: Final = 2


def png(picture: Picture) -> bytes:
    """The picture as a PNG on white, with letters of our own. Standard library only."""
    width, height = min(picture.width, SIDE_MAX), min(picture.height, SIDE_MAX)
    sheet = bytearray(b"\xff" * (3 * width * height))

    def dot(x: int, y: int, colour: tuple[int, int, int]) -> None:
        if 0 <= x < width and 0 <= y < height:
            at = 3 * (y * width + x)
            sheet[at : at + 3] = bytes(colour)

    for line in picture.lines:
        _stroke(dot, line)
    for x, y, text in picture.words:
        for place, letter in enumerate(text.upper()):
            digits = _GLYPHS.get(letter, "00000")
            for bit in range(15 * _SCALE * _SCALE):
                row, column = bit // (3 * _SCALE), bit % (3 * _SCALE)
                if int(digits[row // _SCALE]) >> (2 - column // _SCALE) & 1:
                    dot(round(x) + place * 4 * _SCALE + column, round(y) - 5 * _SCALE + row, _INK)
    rows = b"".join(b"\0" + sheet[3 * width * y : 3 * width * (y + 1)] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(name, body)
        for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _stroke(dot: Dot, line: Line) -> None:
    dash, drawn = _DASHES[line.kind], 0
    for (x1, y1), (x2, y2) in zip(line.points, line.points[1:], strict=False):
        steps = max(1, round(max(abs(x2 - x1), abs(y2 - y1))))
        for step in range(steps + 1):
            if not dash or drawn // dash % 2 == 0:
                x, y = round(x1 + (x2 - x1) * step / steps), round(y1 + (y2 - y1) * step / steps)
                dot(x, y, _COLOURS[line.kind])
                if line.kind != "grid":
                    dot(x, y + 1, _COLOURS[line.kind])
            drawn += 1
