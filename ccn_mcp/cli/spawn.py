"""`ccn-mcp spawn`: the person's own Claude Code as a registered instance that goes on where others stopped."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import BadInput, TooLarge

if TYPE_CHECKING:
    from ccn_mcp.domain.talk import Reply
    from ccn_mcp.node.continuity import Loading
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.spawning import Start
    from ccn_mcp.settings import Settings

FAILED_STATUS: Final = 4
PROMPT_CHARS_MAX: Final = 1_048_576


def spawn(
    further: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTIONS]", help="Further options of claude, after two dashes."),
    ] = None,
    conversation: Annotated[
        str | None, typer.Option("--conversation", metavar="ID", help="Hand this conversation over to it.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option("--print", metavar="PROMPT", help="Ask this, print the answer and stop. - reads stdin."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model. Default: Claude Code's own choice.")
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate/--no-validate", help="First show that its context arrives.")
    ] = True,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Start your own Claude Code as an instance with Plate, state and history; its hooks record it.

    It is registered, gets the conversation handed over if you name one, and shows first that its context arrived:
    up to three tries, each a short call of the model. The session's cost is your Claude Code's own.
    """
    from ccn_mcp import settings
    from ccn_mcp.app import new_session_id
    from ccn_mcp.claude import spawn as process
    from ccn_mcp.cli.install_claude import installed, plugin_folder

    if as_json and prompt is None:
        raise BadInput("--json prints the answer to one prompt: give it with --print")
    process.find_program()
    session_id = new_session_id()
    chosen = settings.for_session(session_id, str(Path.cwd()), db)
    said = _piped() if prompt == "-" else prompt
    plugin = None if installed() else plugin_folder()
    loaded, start = asyncio.run(_begin(chosen, session_id, conversation, model, validate=validate))
    if start is not None and not start.good:
        _fail(loaded, start, as_json=as_json)
    with process.prepared(
        chosen, loaded.context.text, session_id, model=model, plugin=plugin, further=further or ()
    ) as session:
        if said is None:
            status = process.talk(session)
            asyncio.run(_end(chosen, loaded, None))
            _told(chosen, loaded)
        else:
            reply = _reply(model)
            status = process.once(session, said, reply)
            asyncio.run(_end(chosen, loaded, reply))
            _answered(loaded, session_id, start, reply, as_json=as_json)
    if status:
        raise typer.Exit(status)


def _piped() -> str:
    """The prompt on standard input.

    Raises:
        BadInput: there is none. TooLarge.
    """
    text = sys.stdin.read(PROMPT_CHARS_MAX + 1) if sys.stdin is not None else ""
    if not text.strip():
        raise BadInput("--print - reads the prompt from standard input, and there is none")
    if len(text) > PROMPT_CHARS_MAX:
        raise TooLarge(
            f"the prompt has more than {PROMPT_CHARS_MAX:,} characters; put it in a file and name that"
        )
    return text


async def _begin(
    chosen: Settings, session_id: str, conversation: str | None, model: str | None, *, validate: bool
) -> tuple[Loading, Start | None]:
    """Register the instance, and see whether its context arrives."""
    from ccn_mcp.app import node_of
    from ccn_mcp.claude.claude_code import ClaudeCodeModel
    from ccn_mcp.domain.prompt import Recorder
    from ccn_mcp.node.context import Caller
    from ccn_mcp.node.continuity import load
    from ccn_mcp.node.spawning import start

    caller = Caller(source="cli", client="claude-code", session_id=session_id)
    async with node_of(chosen, caller) as node:
        loaded = await load(
            node.ctx,
            caller,
            conversation_id=conversation,
            session_id=session_id,
            model=model,
            recorder=Recorder.HOOK,
        )
        if not validate:
            return loaded, None
        port = ClaudeCodeModel(within=Path.cwd())
        found = await start(node.ctx, caller, loaded, port, model or chosen.model, on_wait=output.complain)
        if not found.good:
            await node.end_instances(instance_id=loaded.ids.instance_id)
        return loaded, found


def _fail(loaded: Loading, start: Start, *, as_json: bool) -> None:
    if as_json:
        output.emit({"instance_id": loaded.ids.instance_id, "start": start._asdict()})
    elif start.state == "failed":
        output.complain(
            f"failed: after {output.amount(start.tries, 'try').replace('trys', 'tries')} the instance "
            f"{loaded.ids.instance_id} did not show that its context arrived, so it was not let go. {start.note}"
        )
    else:
        output.complain(f"not started: {start.note}")
    raise typer.Exit(FAILED_STATUS)


async def _end(chosen: Settings, loaded: Loading, reply: Reply | None) -> None:
    """The instance has ended, whether or not its hook could say so; and what it cost, where that is known."""
    from ccn_mcp.app import node_of
    from ccn_mcp.domain.talk import Asked
    from ccn_mcp.node.context import Caller
    from ccn_mcp.node.usage import record_usage, usage_draft

    caller = Caller(source="cli", client="claude-code")
    async with node_of(chosen, caller) as node:
        if reply is not None:
            draft = usage_draft(
                node.ctx,
                caller,
                Asked(reply.model, ()),
                reply,
                backend="claude_code",
                purpose="spawn",
                conversation=loaded.ids.conversation_id,
                instance=loaded.ids.instance_id,
            )
            await record_usage(node.ctx, draft)
        await node.end_instances(instance_id=loaded.ids.instance_id)


def _reply(model: str | None) -> Reply:
    from ccn_mcp.domain.talk import Reply

    return Reply(model=model or "")


def _told(chosen: Settings, loaded: Loading) -> None:
    async def count(node: Node) -> int:
        page = await node.get_history(conversation_id=loaded.ids.conversation_id, limit=1)
        return int(page["total"] or 0)

    recorded = output.on_node(chosen, count)
    output.say(f"{loaded.ids.conversation_id} has {output.amount(recorded, 'message')} now.")
    output.say(f"To hand it over again: ccn-mcp spawn --conversation {loaded.ids.conversation_id}")


def _answered(loaded: Loading, session_id: str, start: Start | None, reply: Reply, *, as_json: bool) -> None:
    if as_json:
        output.emit(
            {
                "text": reply.text,
                "ended": reply.ended,
                "problem": reply.problem or None,
                "instance_id": loaded.ids.instance_id,
                "conversation_id": loaded.ids.conversation_id,
                "session_id": session_id,
                "start": start._asdict() if start is not None else None,
                "cost_usd": None if reply.spent_usd is None else str(reply.spent_usd),
            }
        )
    elif reply.problem:
        output.complain(reply.problem)
    else:
        output.say(reply.text)
