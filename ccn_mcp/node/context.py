"""What every use case is given: the store and the world, and who is calling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ccn_mcp.domain.errors import BadInput, Excluded, PrivateSession
from ccn_mcp.domain.jcs import check_text
from ccn_mcp.domain.limits import ID_CHARS_MAX
from ccn_mcp.domain.models import Message
from ccn_mcp.ports import Clock, Entropy, Store
from ccn_mcp.settings import Settings

if TYPE_CHECKING:
    from ccn_mcp.domain.spending import Totals

LOCAL = "local"
"""The principal of stdio, of the command line and of Python: the account that owns the store."""

ECHO_CHARS_MAX: Final = 60
EXCLUDED: Final = (
    "the person has excluded this folder from recording, so nothing was recorded; do not try again in this session. "
    "Should they want it back: ccn-mcp exclude --list shows why, ccn-mcp exclude --remove FOLDER undoes it"
)
PRIVATE: Final = (
    "the person has switched recording off for this session, so nothing was recorded; do not try again until they "
    "say that it is on (they do that with /ccn:record, or: ccn-mcp hook private off)"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the server knows it; nothing here is the caller's own claim.

    `source` goes into every entry that the call makes: tool, hook, import, cli, python.
    """

    principal: str = LOCAL
    source: str = "tool"
    client: str = ""
    session_id: str | None = None


@dataclass(slots=True)
class Context:
    """One node: a store, a clock, names, settings.

    `seen_us` (leases) and `sessions` (the conversation of a principal's client session, which never changes
    once it is in the log) spare reads, and so does `spending`: by period and conversation, the newest usage entry
    that was added up, and the sum.
    """

    store: Store
    clock: Clock
    entropy: Entropy
    settings: Settings
    chosen_plate: Callable[[], bytes] | None = None
    """Reads the file that the person chose as their Plate in a client's settings; None: they chose none."""

    seen_us: dict[str, int] = field(default_factory=dict)
    sessions: dict[tuple[str, str], str] = field(default_factory=dict)
    spending: dict[tuple[str, str | None], tuple[int, Totals]] = field(default_factory=dict)
    private: Callable[[], bool] = lambda: False
    """Whether the person wants nothing of this session recorded now; asked at each act."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        return self.clock.now_us()


def must_record(ctx: Context) -> None:
    """Go on only where recording is allowed: each verb that would add to the record asks this first.

    Raises:
        Excluded: this process works in a folder that the person has excluded. PrivateSession.
    """
    if ctx.settings.excluded is not None:
        raise Excluded(EXCLUDED)
    if ctx.private():
        raise PrivateSession(PRIVATE)


def shown_us(message: Message) -> int:
    """When a message was said; of one that was imported that is not when it was recorded."""
    return message.time_us if message.said_us is None else message.said_us


def iso(time_us: int) -> str:
    """`2026-11-22T15:52:07Z`: a time as people and models read it, to the second."""
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str, what: str) -> int:
    """Microseconds of an ISO 8601 date or time; without an offset it is UTC.

    Raises:
        BadInput: not a date or time.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError as exc:
        raise BadInput(
            f"{what} is {echoed(text)}; write a date or time such as 2026-11-22T15:00:00Z"
        ) from exc
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (when - _EPOCH) // timedelta(microseconds=1)


def echoed(value: object) -> str:
    """`value` as an error message quotes it: on one line, and short however long it is."""
    text = repr(value) if not isinstance(value, str) else repr(value[:ECHO_CHARS_MAX])
    return text if len(text) <= 2 * ECHO_CHARS_MAX else text[: 2 * ECHO_CHARS_MAX] + "…"


def short_text(value: str | None, what: str, most: int = ID_CHARS_MAX) -> str | None:
    """An id, key, title or model name from outside: stripped, storable, not too long; empty is None.

    Raises:
        BadInput: too long.
        BadText: cannot be stored.
    """
    if value is None or not (value := value.strip()):
        return None
    if len(value) > most:
        raise BadInput(f"{what} has {len(value)} characters; at most {most} are kept, shorten it")
    return check_text(value, what)
