"""One call to a model: refused where it could pass a ceiling, and what it used recorded, whatever ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ccn_mcp.domain.talk import Asked, Reply
from ccn_mcp.node.context import Caller, Context
from ccn_mcp.node.usage import Recorded, check_ceiling, record_usage, usage_draft
from ccn_mcp.ports import LanguageModel

if TYPE_CHECKING:
    from ccn_mcp.domain.spending import Purpose


class Called(NamedTuple):
    """What came of a call, and the entry of what it used."""

    reply: Reply
    usage: Recorded


async def call(
    ctx: Context,
    caller: Caller,
    port: LanguageModel,
    asked: Asked,
    *,
    purpose: Purpose,
    conversation: str,
    instance: str | None,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Called:
    """What the model answers, whole or not; what it used is durable when this returns or raises.

    Raises:
        CostCeiling: nothing was sent. As `check_ceiling` and `record_usage`.
    """
    await check_ceiling(ctx, asked, conversation)
    reply = Reply()
    try:
        await port.answer(asked, reply, on_wait=on_wait)
    finally:
        draft = usage_draft(
            ctx,
            caller,
            asked,
            reply,
            backend=port.backend,
            purpose=purpose,
            conversation=conversation,
            instance=instance,
        )
        # A second Ctrl-C does not stop that.
        kept = asyncio.ensure_future(record_usage(ctx, draft))
        await asyncio.shield(kept)
    return Called(reply, kept.result())
