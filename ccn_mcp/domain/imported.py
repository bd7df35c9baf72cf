"""What a parser of somebody else's file hands on: conversations, messages, and what it left out and why. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, TypeAlias

from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.limits import CONTENT_BYTES_MAX, ID_CHARS_MAX, JSON_INT_MAX
from ccn_mcp.domain.models import Body

DIGEST_CHARS: Final = 32
PART_CHARS: Final = CONTENT_BYTES_MAX // 4
WORD_CHARS_MAX: Final = 40
"""Of a name in the file (a block's type, say) that is shown to the person."""

OTHER_BRANCHES: Final = "#other-branches"
"""Follows a conversation's session: what was said on branches that were left."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM: Final = 1e11
"""Seconds would be the year 5138: so large a number counts milliseconds."""

_ROLES: Final = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "gpt": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the person wants besides what was said: `tools` (a line for each use), `thinking`."""

    tools: bool = False
    thinking: bool = False


@dataclass(frozen=True, slots=True)
class Chat:
    """The messages that follow belong to this conversation.

    `session` finds it in the record, `origin` is part of its messages' keys. `scope` is the one it had before,
    `folder` where it took place.
    """

    format: str
    session: str
    origin: str
    title: str | None = None
    scope: str | None = None
    folder: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """One message. `id` is the same whenever the file is read; `about` goes into the entry's `original`.

    Where a hook may have recorded it too, `prompt` and `nth` are what the hook knows it by. `copy_of` is the session
    that it was said in, where this is a copy of that.
    """

    id: str
    role: str
    text: str
    said_us: int | None = None
    name: str | None = None
    about: Body = field(default_factory=dict)
    prompt: str = ""
    nth: int = 1
    copy_of: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that is not imported: why, in few words that are the same for all of its kind, and where it is."""

    reason: str
    where: str = ""


Item: TypeAlias = "Chat | Said | Skipped"


def key_of(chat: Chat, said: Said, part: int = 1) -> str:
    """The idempotency key of a message, from its original ids alone: importing it again finds it."""
    return f"import:{chat.format}:{digest(chat.origin, said.id, str(part))}"


def digest(*texts: str) -> str:
    """128 bits that tell these texts from all others, in hex."""
    joined = b"".join(b"%d:%s" % (len(data), data) for data in (_bytes(text) for text in texts))
    return sha256(joined).hexdigest()[:DIGEST_CHARS]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def original_id(value: object) -> str | None:
    """An id of the file's own as it can be kept; a long or odd one goes by its digest, anything else is None."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    if isinstance(value, int):
        value = str(value) if abs(value) < 10**ID_CHARS_MAX else ""
    if not (value := value.strip()):
        return None
    plain = len(value) <= ID_CHARS_MAX and value.isprintable()  # no U+0000, no lone surrogate
    return value if plain else f"digest:{digest(value)}"


def word(value: object, most: int = WORD_CHARS_MAX) -> str:
    """A name in the file, short and showable."""
    text = value if isinstance(value, str) else type(value).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text[:most]) or "none"


def role_of(value: object) -> str | None:
    """One of our roles for what other programs call them; None for a role that we do not know."""
    return _ROLES.get(value.lower()) if isinstance(value, str) and len(value) <= WORD_CHARS_MAX else None


def micros(value: object) -> int | None:
    """Microseconds since 1970 of a time in a file: ISO 8601, or seconds or milliseconds; None if it is none."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, str):
            when = datetime.fromisoformat(value.strip())
            when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
            found = (when - _EPOCH) // timedelta(microseconds=1)
        elif isinstance(value, int | float) and math.isfinite(value):
            found = round(value * (1_000 if abs(value) >= _MILLISECONDS_FROM else 1_000_000))
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found <= JSON_INT_MAX else None


def parts_of(text: str) -> list[str]:
    """`text` in pieces that one message can hold; hooks cut at the same places (`interop/recording.py`)."""
    if len(text) <= PART_CHARS or len(text.encode("utf-8")) <= CONTENT_BYTES_MAX:
        return [text]
    return [text[at : at + PART_CHARS] for at in range(0, len(text), PART_CHARS)]


def newest_path(
    parents: dict[str, str | None], times: dict[str, int | None], leaf: str | None = None
) -> set[str]:
    """The messages from the root to `leaf`, else to the newest leaf; all of them where no parents are named.

    Both are in the file's order; a parent that is not there, or a ring, ends the path.
    """
    if not any(parent in parents for parent in parents.values()):
        return set(parents)
    if leaf not in parents:
        inner = set(parents.values())
        order = {name: place for place, name in enumerate(parents)}
        leaves = [name for name in parents if name not in inner] or list(parents)
        leaf = max(leaves, key=lambda name: (_or_least(times.get(name)), order[name]))
    path: set[str] = set()
    at: str | None = leaf
    while at is not None and at in parents and at not in path:
        path.add(at)
        at = parents[at]
    return path


def _or_least(time_us: int | None) -> float:
    return -math.inf if time_us is None else time_us


def text_at(value: dict[str, Json], *names: str) -> str | None:
    """The first of these fields that is text with something in it."""
    return next(
        (found for name in names if isinstance(found := value.get(name), str) and found.strip()), None
    )
