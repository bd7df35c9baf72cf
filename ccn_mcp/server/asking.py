"""Questions to the person that a tool asks through the client, in both eras of the protocol.

A question is the same text whenever it is asked again: newer clients bring the answer with a repeated call.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit
from mcp_types import ClientCapabilities
from pydantic import BaseModel, Field

from ccn_mcp.domain.errors import NotFound, Refused
from ccn_mcp.node.context import Context as NodeContext
from ccn_mcp.node.context import iso
from ccn_mcp.node.conversations import in_scope
from ccn_mcp.node.erasure import Doomed, find_message
from ccn_mcp.node.node import Node
from ccn_mcp.server.errors import told_to_the_model

SHOWN_CHARS_MAX: Final = 200

Ctx: TypeAlias = Context[Node, Any]


class ErasureAnswer(BaseModel):
    """What the person is asked for."""

    erase: bool = Field(title="Erase it for good", description="This cannot be undone.")


async def ask_to_erase(ctx: Ctx, seq: int | None, reason: str) -> Elicit[ErasureAnswer] | ErasureAnswer:
    """The question; no question where the message is gone already.

    Raises:
        ToolError: there is no such message, or the client cannot ask.
    """
    node: Node = ctx.request_context.lifespan_context
    with told_to_the_model():
        doomed = await find_in_scope(node.ctx, seq)
    if doomed.text is None:
        return ErasureAnswer(erase=True)
    if not can_ask(ctx.client_capabilities):
        raise ToolError(
            f"{Refused.code}: only the person can decide this, and this client cannot ask them. Tell them to run "
            f"in a terminal of their own: ccn-mcp redact {doomed.seq}"
        )
    question = (
        f"Erase this message from your record for good? {doomed.role}, {iso(doomed.time_us)}, entry {doomed.seq}:\n\n"
        f"{_shown(doomed.text)}"
    )
    if reason.strip():
        question += f"\n\nReason given, which stays in the record: {_shown(reason)}"
    return Elicit(question, ErasureAnswer)


async def find_in_scope(ctx: NodeContext, seq: int | None) -> Doomed:
    """The message at `seq`: positions are easily guessed, so another project's is not to be had by them.

    Raises:
        As `find_message`; NotFound also where the message is in another scope.
    """
    doomed = await find_message(ctx, seq=seq)
    if not await in_scope(ctx, doomed.conversation_id):
        raise NotFound(
            f"there is no message {doomed.seq} in this scope; get_history shows theirs. For another project's, "
            f"the person runs in a terminal of their own: ccn-mcp redact {doomed.seq}"
        )
    return doomed


def can_ask(capabilities: ClientCapabilities | None) -> bool:
    """Whether the client shows forms; a bare `elicitation: {}` says that it does."""
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def _shown(text: str) -> str:
    """The beginning of `text` on one line, without anything that a client's screen would act on."""
    line = " ".join(text.split())
    cut = line if len(line) <= SHOWN_CHARS_MAX else line[:SHOWN_CHARS_MAX] + "…"
    return "".join(character if character.isprintable() else "�" for character in cut)
