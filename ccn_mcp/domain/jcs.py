"""Canonical JSON: RFC 8785 (JCS) out, strict JSON in. Standard library only, so that the hook can use it.

What is hashed is the exact byte string that `encode` returns; nothing re-serialises it later.
"""

from __future__ import annotations

import json
import math
import re
from json.encoder import encode_basestring as _quote
from json.scanner import make_scanner

from ccn_mcp.domain.errors import BadJson, BadText
from ccn_mcp.domain.limits import JSON_DEPTH_MAX, JSON_INT_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_DEPTH_REFUSED: Final = f"JSON nested deeper than {JSON_DEPTH_MAX} levels; flatten it and send it again"


def check_text(text: str, what: str) -> str:
    """Return `text` if every back end can store it, byte for byte.

    PostgreSQL refuses U+0000 and lone surrogates, and SQLite's JSON functions cut text at U+0000.

    Raises:
        BadText: with the position of the first character that cannot be stored.
    """
    if (found := _UNSTORABLE.search(text)) is None:
        return text
    name = (
        "U+0000 (or a lone surrogate, half of an emoji)"
        if found[0] == "\x00"
        else f"a lone surrogate (U+{ord(found[0]):04X})"
    )
    raise BadText(f"{what} has {name} at character {found.start()}; remove or replace it and send it again")


def replace_unstorable(text: str) -> tuple[str, int]:
    """For hooks and imports, which must not fail: U+FFFD for what cannot be stored, and how many."""
    return _UNSTORABLE.subn("\ufffd", text)


def encode(value: Json) -> bytes:
    """The RFC 8785 bytes of `value`.

    Raises:
        BadJson: for NaN, infinities, integers beyond 2^53-1, other types, deep nesting.
        BadText: for strings with U+0000 or a lone surrogate.
    """
    try:
        text = _flat(value) if type(value) is dict else None
        return (_encode(value, JSON_DEPTH_MAX) if text is None else text).encode("utf-8")
    except UnicodeEncodeError as exc:
        raise BadText("a string has a lone surrogate; remove or replace it and send it again") from exc


def _flat(value: dict[str, Json]) -> str | None:
    """An object of nothing but text under ASCII names, as most are, in half the time; None for any other."""
    try:
        if not "".join(value).isascii():  # else the names' order would need their UTF-16 form
            return None
        text = ",".join([f"{_quote(name)}:{_quote(value[name])}" for name in sorted(value)])  # type: ignore[arg-type]  # TypeError tells
    except TypeError:
        return None
    return None if "\\u0000" in text else f"{{{text}}}"


def _encode(value: Json, depth_left: int) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        if abs(value) > JSON_INT_MAX:
            raise BadJson(f"the integer {value} does not survive JSON numbers; write it as a string")
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if depth_left == 0:
        raise BadJson(_DEPTH_REFUSED)
    if isinstance(value, list):
        return "[" + ",".join([_encode(item, depth_left - 1) for item in value]) + "]"
    if isinstance(value, dict):
        pairs = [
            _quoted(key) + ":" + _encode(value[key], depth_left - 1)
            for key in sorted(value, key=_utf16_order)
        ]
        return "{" + ",".join(pairs) + "}"
    raise BadJson(f"{type(value).__name__} is not a JSON type")


def _quoted(text: str) -> str:
    if "\x00" in text:
        raise BadText("a string has U+0000, which not every store can hold; remove it and send it again")
    return _quote(text)


def _utf16_order(key: str) -> bytes:
    # RFC 8785 section 3.2.3: names are sorted by UTF-16 code units, which differs from code points
    # above the Basic Multilingual Plane.
    if not isinstance(key, str):
        raise BadJson("an object's names must be strings")
    return key.encode("utf-16-be", "surrogatepass")


def _number(value: float) -> str:
    """ECMAScript's Number::toString, which RFC 8785 section 3.2.2.3 prescribes."""
    if not math.isfinite(value):
        raise BadJson("NaN and infinities are not JSON; leave the value out or use null")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    # repr gives the shortest digits that read back as the same double, as ECMAScript does.
    mantissa, _, power = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(power or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    exponent = f"e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return sign + digits[0] + ("." + digits[1:] if count > 1 else "") + exponent


def decode(data: bytes | str) -> Json:
    """Parse JSON that has exactly one meaning.

    Raises:
        BadJson: for duplicate names, NaN, infinities, numbers out of range, deep nesting, a BOM,
            anything after the value, or bytes that are not UTF-8.
        BadText: for U+0000 and lone surrogates inside strings.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
    except UnicodeDecodeError as exc:
        raise BadJson(f"not UTF-8 at byte {exc.start}") from exc
    if _too_deep(text):
        raise BadJson(_DEPTH_REFUSED)
    try:
        value: Json = json.loads(
            text, object_pairs_hook=_no_duplicates, parse_constant=_no_constants, parse_float=_finite
        )
    except json.JSONDecodeError as exc:
        raise BadJson(f"not JSON: {exc.msg} at character {exc.pos}") from exc
    except ValueError as exc:  # int() refuses numbers of more than 4,300 digits
        raise BadJson("a number has too many digits; write it as a string") from exc
    _check_strings(value)
    return value


_scan_once: Final = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # typeshed names the wrong class


def loads_trusted(data: bytes) -> Json:
    """Parse bytes that `encode` wrote, without the checks of `decode`; twice as fast as `json.loads`.

    Raises:
        ValueError: not JSON or not UTF-8.
    """
    text = data.decode("utf-8")
    try:
        value: Json
        value, end = _scan_once(text, 0)
    except (StopIteration, RecursionError) as exc:
        raise ValueError("not JSON") from exc
    if end != len(text):
        raise ValueError("something follows the JSON value")
    return value


def is_canonical(data: bytes) -> bool:
    """Whether `data` is byte for byte the RFC 8785 form of what it says."""
    try:
        return encode(decode(data)) == data
    except (BadJson, BadText):
        return False


def _too_deep(text: str) -> bool:
    # Counted outside of strings before parsing: the C parser would raise RecursionError from inside.
    depth = 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text, re.DOTALL):
        character = token[0]
        if character in "[{":
            depth += 1
            if depth > JSON_DEPTH_MAX:
                return True
        elif character in "]}":
            depth -= 1
    return False


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise BadJson("an object has the same name twice; keep one of the two")
    return made


def _no_constants(name: str) -> float:
    raise BadJson(f"{name} is not JSON; leave the value out or use null")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise BadJson(f"the number {digits[:40]} is out of range; write it as a string")
    return value


def _check_strings(value: Json) -> None:
    if isinstance(value, str):
        check_text(value, "a string")
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            check_text(name, "a name")
            _check_strings(item)
