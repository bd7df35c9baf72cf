"""The tools: how a call becomes a verb of the node. Each is a function of the same name.

What a model is told of them is in `catalogue.py`; the rules are the domain's. Parameters are tolerant (a client's
null counts as left out), because clients do not validate and models send nulls.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, TypeAlias

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Resolve
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, TextContent
from pydantic import BeforeValidator

from ccn_mcp.domain.prompt import PLATE_ONLY
from ccn_mcp.node.node import Node
from ccn_mcp.node.results import ChainCheck, Redacted
from ccn_mcp.server.asking import ErasureAnswer, ask_to_erase, find_in_scope
from ccn_mcp.server.catalogue import CATALOGUE
from ccn_mcp.server.errors import PlainTool, told_to_the_model
from ccn_mcp.server.panel import panel_meta
from ccn_mcp.server.resources import plate
from ccn_mcp.server.schemas import schema_of

CLIENT_CHARS_MAX: Final = 100
CLIENTS_KEPT_MAX: Final = 64

_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

Ctx: TypeAlias = Context[Node, Any]


def _left_out(value: object) -> object:
    return "" if value is None else value


# `str` and not `str | None`: the SDK tries to parse the text of an optional string as JSON.
Text: TypeAlias = Annotated[str, BeforeValidator(_left_out)]
Number: TypeAlias = int | None


async def load_plate(
    ctx: Ctx,
    instance_id: Text = "",
    conversation_id: Text = "",
    session_id: Text = "",
    model: Text = "",
    thinking: Text = "",
    title: Text = "",
    history_tokens: Number = None,
) -> CallToolResult:
    """Deliver the context as prose; the ids are in it and, for programs, in `_meta`. Where nothing may be
    recorded, the Plate alone."""
    found = _node(ctx).ctx
    if found.settings.excluded is not None or found.private():
        return await _plate_only(_node(ctx))
    with told_to_the_model():
        loaded = await _node(ctx).load_plate(
            instance_id=instance_id,
            conversation_id=conversation_id,
            session_id=session_id,
            model=model,
            thinking=thinking,
            title=title,
            history_tokens=history_tokens,
        )
    return CallToolResult(
        content=[TextContent(type="text", text=loaded["text"])],
        _meta={
            "ccn/instance_id": loaded["instance_id"],
            "ccn/conversation_id": loaded["conversation_id"],
            "ccn/receipt": loaded["receipt"],
            "ccn/head": loaded["head"],
        },
    )


async def _plate_only(node: Node) -> CallToolResult:
    with told_to_the_model():
        text = f"{PLATE_ONLY}\n{await plate(node)}"
    return CallToolResult(content=[TextContent(type="text", text=text)])


async def record_message(
    ctx: Ctx,
    role: Text,
    content: Text,
    conversation_id: Text = "",
    session_id: Text = "",
    instance_id: Text = "",
    idempotency_key: Text = "",
) -> CallToolResult:
    """Append one message."""
    with told_to_the_model():
        recorded = await _node(ctx).record_message(
            role,
            content,
            conversation_id=conversation_id,
            session_id=session_id,
            instance_id=instance_id,
            idempotency_key=idempotency_key,
        )
    return _structured(recorded)


async def report_character_vector(
    ctx: Ctx,
    traits: Any,
    instance_id: Text = "",
    scale: Text = "unit",
    relational: Any = None,
    receipt: Text = "",
    idempotency_key: Text = "",
) -> CallToolResult:
    """Record a self-report and judge it."""
    with told_to_the_model():
        judged = await _node(ctx).report_character_vector(
            traits,
            instance_id=instance_id,
            scale=scale or "unit",
            relational=relational,
            receipt=receipt,
            idempotency_key=idempotency_key,
        )
    return _structured(judged)


async def get_history(
    ctx: Ctx,
    conversation_id: Text = "",
    query: Text = "",
    order: Text = "newest",
    before: Number = None,
    after: Number = None,
    role: Text = "",
    since: Text = "",
    until: Text = "",
    limit: Number = None,
    offset: Number = None,
) -> CallToolResult:
    """A page, a search, or the list of conversations."""
    with told_to_the_model():
        history = await _node(ctx).get_history(
            conversation_id=conversation_id,
            query=query,
            order=order or "newest",
            before=before,
            after=after,
            role=role or None,
            since=since,
            until=until,
            limit=limit,
            offset=offset or 0,
        )
    return _structured(history)


async def verify_chain(ctx: Ctx, known_head: Text = "", since: Text = "") -> CallToolResult:
    """Check the log, telling the client how far it has come."""
    with told_to_the_model():
        checked = await _verify_with_progress(ctx, known_head, since)
    return _structured(checked)


async def validate_character(
    ctx: Ctx,
    instance_id: Text = "",
    run_id: Text = "",
    answers: Any = None,
    kind: Text = "",
    scores: Any = None,
) -> CallToolResult:
    """Hand out the six questions or a commissioning run, or take what answers them."""
    with told_to_the_model():
        run = await _node(ctx).validate_character(
            instance_id=instance_id, run_id=run_id, answers=answers, kind=kind or None, scores=scores
        )
    return _structured(run)


async def redact_message(
    ctx: Ctx,
    seq: Number,
    answer: Annotated[ElicitationResult[ErasureAnswer], Resolve(ask_to_erase)],
    reason: Text = "",
) -> CallToolResult:
    """Erase one message once the person has agreed."""
    node = _node(ctx)
    with told_to_the_model():
        if isinstance(answer, AcceptedElicitation) and answer.data.erase:
            return _structured(await node.redact_message(seq, reason=reason))
        kept = await find_in_scope(node.ctx, seq)
        said = "closed the question" if answer.action == "cancel" else "said no"
        result: Redacted = {
            "seq": kept.seq,
            "conversation_id": kept.conversation_id,
            "erased": False,
            "pending": False,
            "head": str((await node.ctx.store.info()).head),
            "note": f"The person {said}: nothing was erased. Leave it at that unless they bring it up again.",
        }
        return _structured(result)


async def consensus_status(ctx: Ctx, instance_id: Text = "") -> CallToolResult:
    """Who is connected and what was decided."""
    with told_to_the_model():
        node = _node(ctx)
        status = await node.consensus_status(instance_id=instance_id)
        meta = await panel_meta(node, ctx)
    return _structured(status, meta)


FUNCTIONS: Final = (
    load_plate,
    record_message,
    report_character_vector,
    get_history,
    verify_chain,
    validate_character,
    redact_message,
    consensus_status,
)


def tools() -> list[Tool]:
    """The tools as the SDK takes them, with the schemas of the catalogue."""
    made = []
    for function in FUNCTIONS:
        entry = CATALOGUE[function.__name__]
        tool = PlainTool.from_function(
            function,
            title=entry.title,
            description=entry.description,
            annotations=entry.annotations,
            meta=entry.meta,
            structured_output=False,
        )
        tool.parameters = entry.input_schema
        if entry.result is not None:
            # The SDK advertises a schema without a model and checks no result against it: no cost per call.
            tool.fn_metadata.output_schema = schema_of(entry.result)
        made.append(tool)
    return made


# ---- around them ---------------------------------------------------------------------------------------


def _node(ctx: Ctx) -> Node:
    """The node, for the client that is calling."""
    node: Node = ctx.request_context.lifespan_context
    params = ctx.session.client_params
    client = _shown(params.client_info.name, params.client_info.version) if params is not None else ""
    return node.for_client(client, node.ctx.settings.session_id)


@lru_cache(maxsize=CLIENTS_KEPT_MAX)
def _shown(name: str, version: str) -> str:
    """A client's own name for itself, as far as it can be printed."""
    text = "".join(character for character in f"{name} {version}" if character.isprintable())
    return text.strip()[:CLIENT_CHARS_MAX]


def _structured(result: Mapping[str, Any], meta: dict[str, Any] | None = None) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=_JSON.encode(result))],
        structured_content=dict(result),
        _meta=meta,
    )


async def _verify_with_progress(ctx: Ctx, known_head: str, since: str) -> ChainCheck:
    """Verify in its own thread and report from this one."""
    loop = asyncio.get_running_loop()
    moved = asyncio.Event()
    reached = [0, 0]

    def progress(done: int, total: int) -> None:
        reached[:] = done, total
        loop.call_soon_threadsafe(moved.set)

    async def tell() -> None:
        while True:
            await moved.wait()
            moved.clear()
            await ctx.report_progress(
                reached[0], reached[1], f"{reached[0]:,} of {reached[1]:,} entries checked"
            )

    telling = asyncio.create_task(tell())
    try:
        return await _node(ctx).verify_chain(known_head=known_head, since=since, progress=progress)
    finally:
        telling.cancel()
