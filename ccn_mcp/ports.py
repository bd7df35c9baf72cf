"""What the node needs from the world. Few methods, domain values, loud contracts; no SQL, no SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from ccn_mcp.domain.anchors import Stamp
from ccn_mcp.domain.ledger import Head
from ccn_mcp.domain.models import (
    Appended,
    Body,
    Claim,
    Conversation,
    ConversationQuery,
    Draft,
    Erased,
    Group,
    KeyChange,
    Line,
    LineQuery,
    Maintained,
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

if TYPE_CHECKING:  # whoever talks to a model has imported it; the server has not
    from ccn_mcp.domain.talk import Asked, Reply

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


class LanguageModel(Protocol):
    """Someone who answers: the API, the person's own Claude Code, a script."""

    @property
    def backend(self) -> str:
        """Which of them: api, claude_code, scripted."""

    def missing(self) -> str:
        """What the person has to see to before it can be asked at all, in one line; empty if nothing."""

    async def answer(
        self,
        asked: Asked,
        reply: Reply,
        *,
        on_text: Callable[[str], None] = lambda _: None,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Fill `reply`; returns when it has ended, within the back end's deadline.

        What the service, the network or a missing credential does is never raised: `reply.ended` and `reply.problem`
        tell. `on_text` gets each piece of text as it comes, `on_wait` a line for the person when it takes longer.
        Cancelled, it raises as usual; `reply` has what came before, and ended `cancelled`.
        """

    async def aclose(self) -> None:
        """Let go of connections and processes."""


class Batches(Protocol):
    """Requests to a model that are answered within a day, at half the price."""

    @property
    def backend(self) -> str:
        """Which back end carries them: api."""

    async def submit(self, requests: Mapping[str, Asked]) -> str:
        """Send requests by their names, and return the batch's id.

        Raises:
            JudgeFailed: it could not be sent; the message says what to do.
        """

    async def results(self, batch: str, asked: Asked) -> Mapping[str, Reply] | None:
        """What came of each request of a batch, by its name; None while it is at work, nothing once it is gone.

        `asked` is what every one of them asked.

        Raises:
            JudgeFailed: the service could not be asked; asking again changes nothing.
        """

    async def aclose(self) -> None:
        """Let go of connections."""


class Keeper(Protocol):
    """What is kept outside of the store: the key that signs its heads, and the heads that it had.

    Called from the writer's thread; no method raises for what is missing, because signing must never keep a
    message from being recorded: None, or nothing, says that it could not be done.
    """

    def key(self, store_id: bytes, /, *, create: bool) -> str | None:
        """The public key (C2SP vkey) that signs here; made with its private half, if `create` asks for it."""

    def pinned(self, store_id: bytes, /) -> str | None:
        """The public key that this account trusts for the store: the first it saw."""

    def sign(self, store_id: bytes, head: Head, /) -> bytes | None:
        """The head as a signed note."""

    def remember(self, store_id: bytes, head: Head, note: bytes, /) -> None:
        """Keep the head of a state that is durable, here and wherever the person asked for it."""

    def next_key(self, store_id: bytes, seq: int, /, *, lost: bool) -> Body:
        """The body of the key entry at position `seq`, for a next key that is kept here from now on.

        The key that is due signs it; where that is `lost`, nobody does. Asked again, it announces the same key.

        Raises:
            KeyUnusable: there is no key that could sign it, or none can be made. This method tells.
        """

    def settle(self, store_id: bytes, announced: str, /, *, lost: bool = False) -> None:
        """Finish a change of keys, if one is under way: the announced key takes over, the one before it is destroyed.

        After a `lost` key, this account trusts the announced one from now on, if it made it.
        """

    def stamp(self, note: bytes, token: bytes, /) -> Stamp:
        """What an outside authority's time stamp of a signed head is worth to this account."""

    def heads(self, store_id: bytes, /) -> Sequence[Claim]:
        """The heads that are remembered here, oldest first, at most `HEADS_MAX`."""

    def heads_elsewhere(self, store_id: bytes, /) -> Sequence[Claim]:
        """Those in the second place that the person named, at most `HEADS_MAX`."""


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
            ConversationErased: an entry names one that was erased.
            UnknownInstance: `touch` names an instance that is not there.
        """

    async def erase(self, redactions: Sequence[Draft], *, finish: bool = True) -> Erased:
        """Record redactions (kind 6, `target` names an entry's seq) and remove what they name, in one unit.

        At most `ERASURES_PER_BATCH_MAX` at once, of the kinds in `projection.ERASABLE`. The store adds what stays
        and tombstones: a later append with the erased entry's key, or with a message's text from a hook or an
        import, is answered as replayed, with an empty body (an erased conversation's: its id). An erased
        conversation takes no more entries, and is not listed; an instance whose newest snapshot was erased is
        not there; an erased report is none. What is erased already stays so and is said to be.

        `pending` counts entries whose bytes the files may still hold: because somebody reads an older state, or
        because the caller has more to erase and will clean up with the last call (`finish` False). Each later
        call, also one without redactions, tries again.

        Raises:
            NotFound: there is no such entry. BadInput: it cannot be erased. TooLarge. Nothing was erased then.
        """

    async def maintain(self, *, vacuum: bool = False) -> Maintained:
        """Give back what the store does not need and finish pending erasures; writers take turns meanwhile.

        What was recorded is not touched: head, entries and answers are the same before and after. `vacuum` also
        gives free space inside the store back, which may keep writers waiting.

        Raises:
            StoreFull: there is no room for `vacuum`; nothing was done.
        """

    async def rotate_key(self, *, lost: bool = False) -> KeyChange:
        """Change the key that signs the heads: sign the head, announce the next key, destroy the old one, sign again.

        A process that ends anywhere in between loses nothing: the next signature finishes the change. Where the
        private key is `lost`, the next one is announced without its signature.

        Raises:
            NoStore: nothing was written yet. KeyUnusable: the key that is due is not here (or is, and not lost at
            all), or no next one can be made. The key is the same as before then.
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

    async def lines(self, query: LineQuery) -> Sequence[Line]:
        """Messages that still have their content, whatever conversation they belong to; at most `query.limit`."""

    async def search(self, query: SearchQuery) -> SearchPage:
        """Messages whose text has every word of the query (a word ending in * matches as a prefix)."""

    async def conversations(self, query: ConversationQuery) -> Sequence[Conversation]:
        """Conversations by last activity, newest first."""

    async def seats(self, *, seen_since_us: int = 0, instance_id: str | None = None) -> Sequence[Seat]:
        """Instances seen since then, most recently seen first, at most `VOTERS_MAX`; or the one named."""

    async def verify(
        self,
        *,
        known_head: str | None = None,
        progress: Progress | None = None,
        deep: bool = False,
        newer: bool = False,
    ) -> Verification:
        """Check every entry and every query column against the hashes; faults are returned, not raised.

        `deep` asks, where that found nothing, whether the store's indexes say what its tables say and each body
        has its one form (RFC 8785); it takes several times as long. `newer` reads only what came after `known_head`,
        once the log's stored hashes have shown that it contains it; counts and level are then those of the newer.

        Raises:
            BadHead: `known_head` is not a head.
        """

    async def __aenter__(self) -> Self:
        """Ready to use; opens nothing yet."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what waits, then close."""
