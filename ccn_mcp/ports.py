"""What the node needs from the world. Few methods, domain values, loud contracts; no SQL, no SDK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from ccn_mcp.domain.models import (
    Appended,
    Conversation,
    ConversationQuery,
    Draft,
    Erased,
    Group,
    MessagePage,
    MessageQuery,
    Record,
    RecordQuery,
    SearchPage,
    SearchQuery,
    Seat,
    StoreInfo,
    Verification,
)

Progress = Callable[[int, int], None]
"""Called with (done, total) entries from any thread; must return quickly."""


class Clock(Protocol):
    """Wall time. Durations that matter are between two of these, so a jump shows as a long or short lease."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""


class Entropy(Protocol):
    """Unguessable names."""

    def name(self, prefix: str) -> str:
        """`prefix` and at least 120 random bits, ASCII letters and digits."""


class Store(Protocol):
    """One append-only log and what can be asked of it.

    Durability: a method that returns has its effect on stable storage. Concurrency: any number of tasks
    may call at once, and several processes may hold the same store; each sees one unbroken log. Retries:
    an append that raised may be repeated, with an idempotency key it cannot double. Cancellation: a
    cancelled call leaves nothing open; a cancelled append may or may not have been written. Errors:
    every expected failure is a `StoreError` or one of the errors named below. Reading or opening a store
    that does not exist yet finds it empty and writes nothing.
    """

    async def append(self, group: Group) -> Appended:
        """Append a group's drafts as one unit, in order, and return their receipts and the new head.

        Raises:
            IdempotencyConflict: the key was used with another payload.
            StoreMoved: the guard found newer entries.
            UnknownConversation: a message or an instance names a conversation that is not there.
            UnknownInstance: `touch` names an instance that is not there.
        """

    async def erase(self, redactions: Sequence[Draft]) -> Erased:
        """Record redactions (kind 6, `target` names a message's seq) and remove what they name, in one unit.

        The store adds conversation, role and tombstones: a later append with the erased message's key, or with
        its text from a hook or an import, is answered as replayed, with an empty body. What is erased already
        stays so and is said to be. `pending` counts messages whose bytes the files may still hold, because
        somebody reads an older state; each later call, also one without redactions, tries again.

        Raises:
            NotFound: there is no such entry. BadInput: it is no message. Nothing was erased then.
        """

    async def info(self) -> StoreInfo:
        """Store id, head, and how many erasures are pending."""

    async def records(self, query: RecordQuery) -> Sequence[Record]:
        """Entries, at most `query.limit`."""

    async def page(self, query: MessageQuery) -> MessagePage:
        """Messages of a conversation.

        Raises:
            UnknownConversation: no such conversation.
        """

    async def search(self, query: SearchQuery) -> SearchPage:
        """Messages whose text has every word of the query (a word ending in * matches as a prefix)."""

    async def conversations(self, query: ConversationQuery) -> Sequence[Conversation]:
        """Conversations by last activity, newest first."""

    async def seats(self, *, seen_since_us: int = 0, instance_id: str | None = None) -> Sequence[Seat]:
        """Instances seen since then, most recently seen first, at most `VOTERS_MAX`; or the one named."""

    async def verify(
        self, *, known_head: str | None = None, progress: Progress | None = None
    ) -> Verification:
        """Check every entry and every query column against the hashes; faults are returned, not raised.

        Raises:
            BadHead: `known_head` is not a head.
        """

    async def __aenter__(self) -> Self:
        """Ready to use; opens nothing yet."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what waits, then close."""
