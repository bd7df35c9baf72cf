"""Resources: what a client can attach or read without calling a tool. Reading one writes nothing.

In mcp 2.3 a resource that is listed gets no context, so a middleware keeps the calling client's node for the
length of a request; prompts and completions use the same one.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.resources import Resource
from mcp_types import Annotations

from ccn_mcp import __version__
from ccn_mcp.domain.character import RELATIONAL, TRAIT_POLES, TRAITS, describe, from_blob
from ccn_mcp.domain.errors import BadInput, CcnError, NotFound
from ccn_mcp.domain.instances import UNKNOWN_GROUP, Instance, group_of
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import PAGE_CONVERSATIONS_MAX, PAGE_MESSAGES_MAX, RESULT_CHARS_MAX
from ccn_mcp.domain.models import RecordQuery
from ccn_mcp.domain.plate import Plate, fenced, render_plate
from ccn_mcp.domain.prompt import RECORD_EMPTY, RECORD_LABEL, quoted
from ccn_mcp.node import history
from ccn_mcp.node.history import chars_of
from ccn_mcp.node.instances import seat_of_session
from ccn_mcp.node.node import Node
from ccn_mcp.node.results import HistoryMessage

PLATE: Final = "ccn://plate"
CHARACTER: Final = "ccn://character"
CONSENSUS: Final = "ccn://consensus"
INSTANCES: Final = "ccn://instances"
HEAD: Final = "ccn://chain/head"
CONVERSATIONS: Final = "ccn://conversations"
CONVERSATION: Final = "ccn://conversations/{id}"
HEALTH: Final = "ccn://health"

MARKDOWN: Final = "text/markdown"
JSON: Final = "application/json"
ENVELOPE_CHARS: Final = 200

PLATE_CUT: Final = (
    "(cut here by ccn_mcp: {shown:,} of {total:,} characters shown; load_plate delivers all of it)"
)
NOTHING_YET: Final = "There is no record yet: the store is created by the first message or load_plate."

Read = Callable[[Node], Awaitable[str]]

_NODE: Final[ContextVar[Node]] = ContextVar("node of this request")


def current_node() -> Node:
    """The node of the client whose request is being answered."""
    return _NODE.get()


async def keeps_node(ctx: ServerRequestContext[Any], call_next: CallNext) -> HandlerResult:
    """Middleware: remember whose request this is, for what the SDK calls without a context."""
    if isinstance(ctx.lifespan_context, Node):
        _NODE.set(ctx.lifespan_context)
    return await call_next(ctx)


@contextmanager
def told() -> Iterator[None]:
    """Raise the SDK's errors for every error that we foresee: -32602 for what is not there."""
    try:
        yield
    except NotFound as error:
        raise ResourceNotFoundError(f"{error.code}: {error}") from error
    except CcnError as error:
        raise ResourceError(f"{error.code}: {error}") from error


class NodeResource(Resource):
    """A resource that is read from the node at the time of reading."""

    view: Read

    async def read(self) -> str:
        """See `Resource.read`; what we foresee is told, in the words of our errors."""
        with told():
            return await self.view(current_node())


async def read_conversation(
    id: str,  # noqa: A002 - the name in the template
) -> str:
    """Read `ccn://conversations/{id}`."""
    with told():
        return await conversation(current_node(), id)


def resources() -> list[Resource]:
    """The listed resources."""
    return [
        _made(PLATE, "plate", "The Plate", "The document that each session starts from.", plate, 0.9, MARKDOWN),
        _made(CHARACTER, "character", "Character", "The 16 traits and where this instance stands.", character,
              0.3, MARKDOWN),
        _made(CONSENSUS, "consensus", "Consensus", "Who reports, what was decided lately, and why.", consensus, 0.3),
        _made(INSTANCES, "instances", "Connected instances", "Who is connected to this record.", instances, 0.3),
        _made(HEAD, "chain-head", "Head of the record", "Keep it: verify_chain(known_head=…) compares.", head, 0.4),
        _made(CONVERSATIONS, "conversations", "Conversations", "The newest conversations of this scope.",
              conversations, 0.6),
        _made(HEALTH, "health", "Health", "Whether the store can be read, and how large it is.", health, 0.1),
    ]  # fmt: skip


def add_resources(server: MCPServer[Any]) -> None:
    """Put all of them on a server; a middleware has to be `keeps_node`."""
    for made in resources():
        server.add_resource(made)
    server.resource(
        CONVERSATION,
        name="conversation",
        title="A conversation",
        description="The newest messages of one conversation, as a labelled record.",
        mime_type=MARKDOWN,
        annotations=Annotations(audience=["user", "assistant"], priority=0.6),
    )(read_conversation)


def _made(
    uri: str, name: str, title: str, description: str, view: Read, priority: float, mime_type: str = JSON
) -> NodeResource:
    return NodeResource(
        uri=uri,
        name=name,
        title=title,
        description=description,
        mime_type=mime_type,
        annotations=Annotations(audience=["user", "assistant"], priority=priority),
        view=view,
    )


# ---- what they show ------------------------------------------------------------------------------------


async def plate(node: Node) -> str:
    """The Plate as an instance reads it: without numbers and without the answers to the recall questions."""
    found = (await node.plate()).plate
    text = render_plate(found)
    body = len(found.body)
    while chars_of(text) > RESULT_CHARS_MAX:
        body -= max(1, chars_of(text) - RESULT_CHARS_MAX)
        text = render_plate(_cut(found, body))
    return text


def _cut(found: Plate, body: int) -> Plate:
    shown = max(0, body - ENVELOPE_CHARS)
    note = PLATE_CUT.format(shown=shown, total=len(found.body))
    return replace(found, body=f"{found.body[:shown]}\n\n{note}")


async def character(node: Node) -> str:
    """The traits in words; numbers once this session's instance has reported since its last load."""
    from ccn_mcp.node.baselines import SAID, baseline_of  # not needed to start serving
    from ccn_mcp.node.character import NOT_REPORTED
    from ccn_mcp.node.consensus import has_reported, last_judgement

    ctx, caller = node.ctx, node.caller
    seat = await seat_of_session(ctx, caller, caller.session_id) if caller.session_id else None
    group = group_of(Instance.from_body(seat.snapshot)) if seat is not None else UNKNOWN_GROUP
    base = await baseline_of(ctx, group, await node.plate())
    lines = [
        "# Character",
        f"Measurement: {ctx.settings.character}. Baseline: {SAID[base.source]}.",
    ]
    if seat is None or seat.report_blob is None or not await has_reported(ctx, seat):
        poles = [f"- {name}: {low} to {high}" for name, (low, high) in TRAIT_POLES.items()]
        return "\n\n".join([*lines, NOT_REPORTED, "\n".join(poles)]) + "\n"
    last = await last_judgement(ctx, group)
    agreed = last.recorded.consensus if last is not None else None
    columns = (base.vector, agreed, from_blob(seat.report_blob, len(TRAITS)))
    rows = ["| trait | from | to | baseline | consensus | yours |", "|---|---|---|---|---|---|"]
    for at, (name, (low, high)) in enumerate(TRAIT_POLES.items()):
        numbers = " | ".join("none" if vector is None else f"{vector[at]:.2f}" for vector in columns)
        rows.append(f"| {name} | {low} | {high} | {numbers} |")
    words = [f"- {sentence}" for sentence in await _relational(node, seat.instance_id)]
    state = ["The relation as this instance reported it last:\n" + "\n".join(words)] if words else []
    return "\n\n".join([*lines, *await _last_report(node, seat.instance_id), "\n".join(rows), *state]) + "\n"


async def _last_report(node: Node, instance_id: str) -> list[str]:
    """The last point of the time series, in a line."""
    from ccn_mcp.node.series import series

    for last in (await series(node.ctx, instance_id=instance_id, limit=1))["points"]:
        if last["from_baseline"] is not None and last["from_consensus"] is not None:
            said = (
                f"Last report ({last['at']}): {last['from_baseline']:.3f} from the baseline (consistency "
                f"{last['consistency']:.3f}), {last['from_consensus']:.3f} from the consensus; "
                f"verdict: {last['action']}."
            )
            return [said]
    return []


METRICS_SEEN_MAX = 50
"""Newest metrics among which the relational ones are looked for; reports of several ratings leave others."""


async def _relational(node: Node, instance_id: str) -> tuple[str, ...]:
    query = RecordQuery(kinds=(Kind.METRIC,), subject=instance_id, limit=METRICS_SEEN_MAX)
    for record in await node.ctx.store.records(query):
        if record.body is not None and record.body.get("metric") == "relational":
            return describe(from_blob(record.blob, len(RELATIONAL)), names=RELATIONAL)
    return ()


async def consensus(node: Node) -> str:
    """What `consensus_status` says for this session's instance."""
    return _fitted({**await node.consensus_status()}, "instances")


async def instances(node: Node) -> str:
    """Who is connected."""
    status = await node.consensus_status()
    shown = {name: status[name] for name in ("connected", "voting", "group", "instances", "head")}
    return _fitted(shown, "instances")


async def head(node: Node) -> str:
    """The head of the log, in its short form and whole."""
    info = await node.ctx.store.info()
    return _json(
        {
            "head": str(info.head),
            "entries": info.head.size,
            "root": info.head.root.hex(),
            "store_id": info.store_id.hex() if info.store_id is not None else None,
            "use": "keep head outside of this machine; verify_chain(known_head=…) then shows whether it still holds",
        }
    )


async def conversations(node: Node) -> str:
    """The newest conversations of the scope, each with its own resource."""
    listed = await node.get_history(limit=PAGE_CONVERSATIONS_MAX)
    shown = [
        {**item, "uri": CONVERSATION.format(id=item["conversation_id"])} for item in listed["conversations"]
    ]
    return _fitted({"conversations": shown, "left_out": listed["left_out"]}, "conversations")


async def conversation(node: Node, conversation_id: str) -> str:
    """The newest messages of a conversation, quoted, and the call that brings the rest."""
    room = RESULT_CHARS_MAX
    while True:
        try:
            page = await history.get_history(
                node.ctx, conversation_id=conversation_id, limit=PAGE_MESSAGES_MAX, chars_max=room
            )
        except BadInput as error:
            raise NotFound(f"there is no conversation {conversation_id[:60]!r} in this store") from error
        text = _record(conversation_id, page["total"], page["messages"], page["left_out"])
        if chars_of(text) <= RESULT_CHARS_MAX:
            return text
        room = room * 2 // 3


def _record(conversation_id: str, total: int, messages: list[HistoryMessage], left_out: str | None) -> str:
    lines = [f"# Conversation {conversation_id}", f"{len(messages)} of {total} messages, the newest ones."]
    if left_out:
        lines.append(f"Left out: {left_out}")
    if not messages:
        return "\n\n".join([*lines, RECORD_EMPTY]) + "\n"
    turns = "\n".join(map(_turn, messages))
    return "\n\n".join([*lines, RECORD_LABEL, fenced("record", turns)]) + "\n"


def _turn(message: HistoryMessage) -> str:
    mark = ", erased at the person's wish" if message["text"] is None else ", cut" if message["cut"] else ""
    header = f"[{message['role']}] (seq {message['seq']}, {message['at']}{mark})"
    return header if message["text"] is None else f"{header}\n{quoted(message['text'])}"


async def health(node: Node) -> str:
    """Whether the store answers. A store that cannot be read is an answer here, not an error."""
    settings = node.ctx.settings
    known = {
        "version": __version__,
        "character": settings.character,
        "lease_s": settings.lease_us // 1_000_000,
    }
    try:
        status = await node.status()
    except CcnError as error:
        return _json({"ok": False, **known, "code": error.code, "detail": str(error)})
    names = (
        "exists",
        "store_id",
        "entries",
        "head",
        "bytes",
        "erasures_pending",
        "plate",
        "plate_is_starter",
    )
    shown = {name: status[name] for name in names}  # type: ignore[literal-required]  # its own keys
    note = {} if status["exists"] else {"note": NOTHING_YET}
    if status["erasures_pending"]:
        from ccn_mcp.node.status import ERASURES_PENDING  # not needed to start serving

        note["note"] = f"{status['erasures_pending']} erasures are pending: {ERASURES_PENDING}"
    return _json({"ok": True, **known, **shown, "connected": len(status["instances"]), **note})


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def _fitted(value: dict[str, Any], key: str) -> str:
    """The JSON of `value`, with the last items of one of its lists dropped where it is too long."""
    items: list[object] = value[key]
    text = _json(value)
    while chars_of(text) > RESULT_CHARS_MAX and items:
        dropped = max(1, len(items) // 10)
        items = items[:-dropped]
        text = _json({**value, key: items, "shown": f"{len(items)} of {len(value[key])} {key}"})
    return text
