"""The original six functions, for programs that embed the record: a bot, a chat program, a script.

    await initialize_ccn_integration("my.db")
    opened = await create_conversation_with_continuity("Harbour")
    await record_message(opened["conversation_id"], "user", "Remember the harbour.")
    await close_ccn_integration()

or `async with Integration("my.db") as ccn:`, which closes by itself and may be there several times at once.

The functions act on what `initialize_ccn_integration` opened in the event loop that calls them. Each loop has
its own; they may use the same file, like any other processes. Failures are the errors of
`ccn_mcp.domain.errors`; each says what to do next. `open_node` has everything that is not here.
"""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypedDict
from weakref import WeakKeyDictionary

from ccn_mcp import __version__, settings
from ccn_mcp.app import node_of
from ccn_mcp.domain.character import RELATIONAL, parse_vector
from ccn_mcp.domain.errors import BadInput, CcnError, Refused
from ccn_mcp.domain.limits import PAGE_MESSAGES_DEFAULT, PAGE_MESSAGES_MAX
from ccn_mcp.node.context import Caller, echoed
from ccn_mcp.node.results import HistoryMessage, Judged, Recorded

if TYPE_CHECKING:
    from ccn_mcp.node.node import Node

MESSAGES_MAX: Final = 10_000
"""Messages that one `get_conversation_history` returns at the most; `before` brings the rest."""


class Health(TypedDict):
    """How the store is. `ok` is False if it cannot be used or `verify` found a fault; `error` says why.

    A store that does not exist yet is healthy: the first message creates it. `verified` is None unless
    `verify=True` was given.
    """

    ok: bool
    error: str | None
    version: str
    db: str
    exists: bool
    entries: int
    head: str | None
    bytes: int
    plate: str | None
    connected: int
    verified: bool | None


class Continuity(TypedDict):
    """A conversation and what its model starts from: give `context` to the model before anything else.

    `receipt` shows later that this delivery arrived; `directive` is what to do next, None if nothing is.
    """

    conversation_id: str
    instance_id: str
    context: str
    tokens: int
    turns: int
    plate: str
    receipt: str
    directive: str | None
    head: str


class ConversationHistory(TypedDict):
    """Messages, oldest first. `total` counts the conversation; `before` brings the older ones, if any.

    The `text` of a message is None once it was erased.
    """

    conversation_id: str
    total: int
    messages: list[HistoryMessage]
    before: int | None


class Integration:
    """One open store, as an async context manager. Use it in the event loop that opened it.

    `db` is a path; without it CCN_DB or the user data folder is used. `scope` keeps this program's
    conversations apart from others'; `client` is its name as the person sees it; `config_dir` holds its keys.
    """

    def __init__(
        self,
        db: str | Path | None = None,
        *,
        scope: str | None = None,
        client: str = "integration",
        config_dir: str | Path | None = None,
    ) -> None:
        chosen = settings.load(db, config_dir=config_dir)
        self.settings = dataclasses.replace(chosen, scope=scope) if scope else chosen
        self._caller = Caller(source="python", client=client)
        self._stack = AsyncExitStack()
        self._node: Node | None = None
        self._instances: dict[str, str] = {}
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        if self._node is not None:
            raise Refused("this Integration is open already; make another one")
        self._node = await self._stack.enter_async_context(node_of(self.settings, self._caller))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the store. What was acknowledged is on disk in any case; a second close does nothing."""
        self._node = None
        await self._stack.aclose()

    @property
    def node(self) -> Node:
        """The node underneath, with every verb.

        Raises:
            Refused: not open, or closed.
        """
        if self._node is None:
            raise Refused("this Integration is not open; use it as `async with Integration(...) as ccn:`")
        return self._node

    async def create_conversation_with_continuity(
        self,
        title: str | None = None,
        *,
        conversation_id: str | None = None,
        model: str | None = None,
        history_tokens: int | None = None,
    ) -> Continuity:
        """Open a conversation (or go on with `conversation_id`) and get what its model starts from.

        That is the Plate, then the newest records of the scope within `history_tokens`. A conversation that
        this Integration opened keeps its instance.

        Raises:
            BadInput, UnknownConversation, InstanceFailed, StoreError.
        """
        async with self._opening:
            loaded = await self.node.load_plate(
                instance_id=self._instances.get(conversation_id or ""),
                conversation_id=conversation_id,
                model=model,
                title=title,
                history_tokens=history_tokens,
            )
            self._instances[loaded["conversation_id"]] = loaded["instance_id"]
        return {
            "conversation_id": loaded["conversation_id"],
            "instance_id": loaded["instance_id"],
            "context": loaded["text"],
            "tokens": loaded["tokens"],
            "turns": loaded["turns"],
            "plate": loaded["plate"],
            "receipt": loaded["receipt"],
            "directive": loaded["directive"],
            "head": loaded["head"],
        }

    async def record_message(
        self,
        conversation_id: str,
        role: str,
        content: str,
        *,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Append one message (role user, assistant, system or tool); durable when this returns.

        Raises:
            UnknownRole, EmptyContent, TooLarge, BadText, UnknownConversation, IdempotencyConflict: nothing was
            stored. StoreError: the store could not take it.
        """
        _must_be_named(conversation_id)
        return await self.node.record_message(
            role,
            content,
            conversation_id=conversation_id,
            instance_id=self._instances.get(conversation_id) if role == "assistant" else None,
            name=name,
            idempotency_key=idempotency_key,
        )

    async def get_conversation_history(
        self, conversation_id: str, limit: int = PAGE_MESSAGES_DEFAULT, *, before: int | None = None
    ) -> ConversationHistory:
        """The newest `limit` messages whole, oldest first; `before` (a seq) goes back from there.

        Raises:
            BadInput, UnknownConversation.
        """
        _must_be_named(conversation_id)
        if not 1 <= limit <= MESSAGES_MAX:
            raise BadInput(f"limit is {echoed(limit)}; give a number from 1 to {MESSAGES_MAX:,}")
        from ccn_mcp.node.history import get_history

        found: list[HistoryMessage] = []
        total = 0
        while True:
            page = await get_history(
                self.node.ctx,
                conversation_id=conversation_id,
                limit=min(limit - len(found), PAGE_MESSAGES_MAX),
                before=before,
                chars_max=1 << 62,  # a program takes messages whole
            )
            total = max(total, page["total"])
            found[:0] = page["messages"]
            more = bool(page["messages"]) and page["messages"][0]["n"] > 1
            before = found[0]["seq"] if more else None
            if before is None or len(found) >= limit:
                break
        return {"conversation_id": conversation_id, "total": total, "messages": found, "before": before}

    async def record_consciousness_metrics(
        self,
        conversation_id: str,
        traits: object,
        relational: object = None,
        *,
        scale: str = "unit",
        receipt: str | None = None,
        idempotency_key: str | None = None,
    ) -> Judged:
        """Record 16 traits, and 7 relational metrics if given, as the report of the conversation's instance.

        The name is the original one. This records numbers that it is given and compares them with the
        Plate's baseline and with other reports: it measures no consciousness and claims nothing about any.
        Both take a list in order or a map by name (docs/character.md). After the action `reinit`, call
        `create_conversation_with_continuity(conversation_id=...)`, give its context to the model, and pass
        its `receipt` with the next report.

        Raises:
            BadVector: not such a vector; nothing was stored. UnknownConversation, IdempotencyConflict.
            ReceiptRequired, InstanceFailed: the instance was flagged and has to load the Plate first.
        """
        # Refused before an instance is opened for it.
        parse_vector(traits, scale=scale)
        if relational is not None:
            parse_vector(relational, scale=scale, names=RELATIONAL)
        return await self.node.report_character_vector(
            traits,
            instance_id=await self._instance_of(conversation_id),
            scale=scale,
            relational=relational,
            receipt=receipt,
            idempotency_key=idempotency_key,
        )

    async def get_health_status(self, *, verify: bool = False) -> Health:
        """The store at a glance, `verify=True` also every hash of it. Answers, where others would raise."""
        health = Health(
            ok=True,
            error=None,
            version=__version__,
            db=str(self.settings.db),
            exists=False,
            entries=0,
            head=None,
            bytes=0,
            plate=None,
            connected=0,
            verified=None,
        )
        node = self.node
        try:
            seen = await node.status()
            health.update({"exists": seen["exists"], "entries": seen["entries"], "bytes": seen["bytes"]})
            health.update({"plate": seen["plate"], "connected": len(seen["instances"])})
            health["head"] = seen["head"] if seen["exists"] else None
            if verify and seen["exists"]:
                checked = await node.verify_chain()
                fault = checked["fault"]
                said = fault["detail"] if fault else None
                health.update({"verified": checked["ok"], "ok": checked["ok"], "error": said})
        except CcnError as error:
            health.update({"ok": False, "error": str(error)})
        return health

    async def _instance_of(self, conversation_id: str) -> str:
        """The instance that this Integration has in the conversation; opened if there is none yet."""
        async with self._opening:
            if (known := self._instances.get(conversation_id)) is not None:
                return known
            _must_be_named(conversation_id)
            loaded = await self.node.load_plate(conversation_id=conversation_id, history_tokens=0)
            return self._instances.setdefault(conversation_id, loaded["instance_id"])


def _must_be_named(conversation_id: str) -> None:
    # Left empty, a message would open a conversation of its own.
    if not conversation_id.strip():
        raise BadInput("conversation_id is empty; take it from create_conversation_with_continuity")


# ---- the functions with the original names -------------------------------------------------------------
_open: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Integration]] = WeakKeyDictionary()


def _current() -> Integration:
    found = _open.get(asyncio.get_running_loop())
    if found is None:
        raise Refused(
            "nothing is initialised in this event loop; first await initialize_ccn_integration() in it"
        )
    return found


async def initialize_ccn_integration(
    db: str | Path | None = None,
    *,
    scope: str | None = None,
    client: str = "integration",
    config_dir: str | Path | None = None,
) -> Health:
    """Open the store for this event loop and say how it is; an earlier one of this loop is closed.

    Opening writes nothing: the file appears with the first message. Arguments as for `Integration`.

    Raises:
        BadInput: a setting has a value that it cannot have.
    """
    fresh = Integration(db, scope=scope, client=client, config_dir=config_dir)
    await close_ccn_integration()
    _open[asyncio.get_running_loop()] = await fresh.__aenter__()
    return await fresh.get_health_status()


async def close_ccn_integration() -> None:
    """Close what this event loop has initialised; without anything there is nothing to do."""
    if (found := _open.pop(asyncio.get_running_loop(), None)) is not None:
        await found.close()


async def create_conversation_with_continuity(
    title: str | None = None,
    *,
    conversation_id: str | None = None,
    model: str | None = None,
    history_tokens: int | None = None,
) -> Continuity:
    """See `Integration.create_conversation_with_continuity`."""
    return await _current().create_conversation_with_continuity(
        title, conversation_id=conversation_id, model=model, history_tokens=history_tokens
    )


async def record_message(
    conversation_id: str,
    role: str,
    content: str,
    *,
    name: str | None = None,
    idempotency_key: str | None = None,
) -> Recorded:
    """See `Integration.record_message`."""
    return await _current().record_message(
        conversation_id, role, content, name=name, idempotency_key=idempotency_key
    )


async def get_conversation_history(
    conversation_id: str, limit: int = PAGE_MESSAGES_DEFAULT, *, before: int | None = None
) -> ConversationHistory:
    """See `Integration.get_conversation_history`."""
    return await _current().get_conversation_history(conversation_id, limit, before=before)


async def record_consciousness_metrics(
    conversation_id: str,
    traits: object,
    relational: object = None,
    *,
    scale: str = "unit",
    receipt: str | None = None,
    idempotency_key: str | None = None,
) -> Judged:
    """See `Integration.record_consciousness_metrics`: it records numbers and measures no consciousness."""
    return await _current().record_consciousness_metrics(
        conversation_id, traits, relational, scale=scale, receipt=receipt, idempotency_key=idempotency_key
    )


async def get_health_status(*, verify: bool = False) -> Health:
    """See `Integration.get_health_status`."""
    return await _current().get_health_status(verify=verify)
