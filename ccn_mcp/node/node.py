"""`Node`: the verbs, the same from Python, the tools and the command line."""

from __future__ import annotations

from ccn_mcp.domain.plate import Plate
from ccn_mcp.node import conversations, history, ledger, plates
from ccn_mcp.node.context import Caller, Context
from ccn_mcp.node.plates import PlateInForce
from ccn_mcp.node.results import (
    ChainCheck,
    Consensus,
    History,
    Judged,
    Loaded,
    Recorded,
    Redacted,
    Status,
    Validation,
)
from ccn_mcp.ports import Progress


class Node:
    """One caller's view of a store. Cheap to make; `as_caller` gives another caller's view."""

    def __init__(self, ctx: Context, caller: Caller) -> None:
        self.ctx = ctx
        self.caller = caller

    def as_caller(self, caller: Caller) -> Node:
        """The same store for another caller."""
        return Node(self.ctx, caller)

    def for_client(self, client: str, session_id: str | None) -> Node:
        """The same caller, known to come from this client program and session."""
        return Node(self.ctx, Caller(self.caller.principal, self.caller.source, client, session_id))

    async def load_plate(
        self,
        *,
        instance_id: str | None = None,
        conversation_id: str | None = None,
        session_id: str | None = None,
        model: str | None = None,
        thinking: str | None = None,
        title: str | None = None,
        history_tokens: int | None = None,
    ) -> Loaded:
        """Open or renew an instance and return the context that it starts from (prose in `text`).

        Raises:
            UnknownInstance, UnknownConversation, BadInput.
        """
        from ccn_mcp.node.continuity import load_plate

        return await load_plate(
            self.ctx,
            self.caller,
            instance_id=instance_id,
            conversation_id=conversation_id,
            session_id=session_id,
            model=model,
            thinking=thinking,
            title=title,
            history_tokens=history_tokens,
        )

    async def record_message(
        self,
        role: str,
        content: str,
        *,
        conversation_id: str | None = None,
        session_id: str | None = None,
        instance_id: str | None = None,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Append one message; durable when this returns.

        Raises:
            UnknownRole, EmptyContent, TooLarge, BadText, BadInput, UnknownConversation, UnknownInstance,
            IdempotencyConflict: nothing was stored. StoreError: the store could not take it.
        """
        return await conversations.record_message(
            self.ctx,
            self.caller,
            role=role,
            content=content,
            conversation_id=conversation_id,
            session_id=session_id,
            instance_id=instance_id,
            name=name,
            idempotency_key=idempotency_key,
        )

    async def report_character_vector(
        self,
        traits: object,
        *,
        instance_id: str | None = None,
        scale: str = "unit",
        relational: object = None,
        receipt: str | None = None,
        idempotency_key: str | None = None,
    ) -> Judged:
        """Record an instance's 16 traits and say what follows from them.

        Raises:
            BadVector, BadInput, UnknownInstance, IdempotencyConflict, ReceiptRequired, InstanceFailed,
            Refused.
        """
        from ccn_mcp.node.character import report_character_vector

        return await report_character_vector(
            self.ctx,
            self.caller,
            instance_id=instance_id,
            traits=traits,
            scale=scale,
            relational=relational,
            receipt=receipt,
            idempotency_key=idempotency_key,
        )

    async def get_history(
        self,
        *,
        conversation_id: str | None = None,
        query: str | None = None,
        order: str = "newest",
        before: int | None = None,
        after: int | None = None,
        role: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        scope: str | None = None,
    ) -> History:
        """A page of a conversation, the hits of a search, or the list of conversations.

        Raises:
            BadInput, UnknownConversation.
        """
        return await history.get_history(
            self.ctx,
            conversation_id=conversation_id,
            query=query,
            order=order,
            before=before,
            after=after,
            role=role,
            since=since,
            until=until,
            limit=limit,
            offset=offset,
            scope=scope,
        )

    async def verify_chain(
        self,
        *,
        known_head: str | None = None,
        since: str | None = None,
        progress: Progress | None = None,
        deep: bool = False,
    ) -> ChainCheck:
        """Check the whole log, and that it still contains a head that the caller kept.

        `deep` also compares every index with what it indexes and each body with its one form, in memory.
        `since`, a head, reads only what came after it.

        Raises:
            BadHead: `known_head` is not SIZE:ROOT.
        """
        return await ledger.verify_chain(
            self.ctx, known_head=known_head, since=since, progress=progress, deep=deep
        )

    async def consensus_status(
        self, *, instance_id: str | None = None, for_person: bool = False
    ) -> Consensus:
        """Who is connected, in which state, and what was decided.

        Raises:
            UnknownInstance.
        """
        from ccn_mcp.node.character import consensus_status

        return await consensus_status(self.ctx, self.caller, instance_id=instance_id, for_person=for_person)

    async def validate_character(
        self,
        *,
        instance_id: str | None = None,
        run_id: str | None = None,
        answers: object = None,
        kind: str | None = None,
        scores: object = None,
    ) -> Validation:
        """Hand out a run (six questions, or the rubric for `kind` commission), or take its answers or scores, once.

        Raises:
            BadVector, BadInput, TooLarge, BadText, UnknownInstance, NotFound, Conflict, Refused.
        """
        from ccn_mcp.node.validation import validate_character

        return await validate_character(
            self.ctx,
            self.caller,
            instance_id=instance_id,
            run_id=run_id,
            answers=answers,
            kind=kind,
            scores=scores,
        )

    async def redact_message(
        self,
        seq: int | None = None,
        *,
        conversation_id: str | None = None,
        n: int | None = None,
        reason: str | None = None,
    ) -> Redacted:
        """Erase the message at `seq`, or message `n` of a conversation. Ask the person first: this is theirs.

        Raises:
            NotFound, BadInput, BadText, UnknownConversation: nothing was erased.
        """
        from ccn_mcp.node.erasure import redact_message

        return await redact_message(
            self.ctx, self.caller, seq=seq, conversation_id=conversation_id, n=n, reason=reason
        )

    async def end_instances(
        self, *, instance_id: str | None = None, session_id: str | None = None
    ) -> list[str]:
        """End one instance, or all of a client session: a clean exit. Returns the ids of those that ended now.

        Raises:
            UnknownInstance.
        """
        from ccn_mcp.node.instances import end_instances

        return await end_instances(
            self.ctx, self.caller, instance_id=instance_id, session_id=session_id or self.caller.session_id
        )

    async def open_conversation(self, *, title: str | None = None, session_id: str | None = None) -> str:
        """A new conversation's id, or the session's own one.

        Raises:
            BadInput.
        """
        return await conversations.open_conversation(self.ctx, self.caller, session=session_id, title=title)

    async def plate(self) -> PlateInForce:
        """The Plate in force."""
        return await plates.current_plate(self.ctx)

    async def set_plate(self, plate: Plate) -> PlateInForce:
        """Put another Plate in force. Ask the person first: this is theirs to decide."""
        return await plates.set_plate(self.ctx, self.caller, plate)

    async def plate_versions(self) -> list[PlateInForce]:
        """Every Plate that was in force, newest first."""
        return await plates.plate_versions(self.ctx)

    async def status(self) -> Status:
        """The store at a glance; a store that does not exist yet is not created."""
        from ccn_mcp.node.status import status

        return await status(self.ctx, self.caller)
