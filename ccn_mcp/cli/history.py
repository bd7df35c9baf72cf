"""`ccn-mcp history`: list conversations, read one, search all."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.cli.scopes import named
from ccn_mcp.cli.status import show_conversation
from ccn_mcp.domain.errors import BadInput
from ccn_mcp.settings import DEFAULT_SCOPE

if TYPE_CHECKING:
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.results import History
    from ccn_mcp.settings import Settings

CHARS_MAX: Final = 256_000_000
"""A person's terminal takes what was asked for; only a model's context is short of room."""

_VALUE: Final = r'"(?:[^"\\]|\\.)*"|-?[0-9]+'
_CALL: Final = re.compile(rf"get_history\(((?:\w+=(?:{_VALUE})(?:, )?)*)\)")
_ARGUMENT: Final = re.compile(rf"(\w+)=({_VALUE})")

Id = Annotated[str | None, typer.Argument(metavar="[CONVERSATION_ID]", help="Read this conversation.")]
Conversation = Annotated[
    str | None, typer.Option("--conversation", metavar="ID", help="The same, as other commands have it.")
]
Words = Annotated[
    str | None, typer.Option("--search", metavar="WORDS", help="Find messages; word* is a prefix.")
]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="How many, at most 200.")]
Before = Annotated[
    int | None, typer.Option("--before", metavar="ENTRY", help="Only what is older than this entry.")
]
After = Annotated[
    int | None, typer.Option("--after", metavar="ENTRY", help="Only what is newer than this entry.")
]
Order = Annotated[
    str, typer.Option("--order", metavar="newest|oldest", help="Which end to keep of a long one.")
]
Role = Annotated[str | None, typer.Option("--role", metavar="ROLE", help="user, assistant, system or tool.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="ISO date or time.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="ISO date or time.")]
Named = Annotated[
    str | None,
    typer.Option("--scope", metavar="NAME", help="Only this scope; `.` is the folder that you are in."),
]
Everywhere = Annotated[
    bool,
    typer.Option("--all-scopes", help="Every project's. The default outside of Claude Code and CCN_SCOPE."),
]


def history(
    conversation_id: Id = None,
    conversation: Conversation = None,
    search: Words = None,
    limit: Limit = None,
    before: Before = None,
    after: After = None,
    order: Order = "newest",
    role: Role = None,
    since: Since = None,
    until: Until = None,
    scope: Named = None,
    all_scopes: Everywhere = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """List, read and search conversations.

    Without arguments it lists conversations; with an id it shows that one, oldest message first.
    """
    conversation_id = _either(conversation_id, conversation)
    chosen = output.load_settings(db)
    where = _where(chosen, scope, all_scopes=all_scopes)

    async def work(node: Node) -> tuple[History, bool]:
        from ccn_mcp.node.history import get_history
        from ccn_mcp.node.scopes import must_be_a_scope

        await output.must_exist(node)
        if scope is not None:
            await must_be_a_scope(node.ctx, where)
        found = await get_history(
            node.ctx,
            conversation_id=conversation_id,
            query=search,
            order=order,
            before=before,
            after=after,
            role=role,
            since=since,
            until=until,
            limit=limit,
            scope=where,
            chars_max=CHARS_MAX,
        )
        empty = not (found["conversations"] or found["hits"] or found["messages"])
        return found, empty and conversation_id is None and await _elsewhere(node)

    found, elsewhere = output.on_node(chosen, work)
    same = _same(db, where if scope is not None else None, all_scopes=all_scopes)
    found["left_out"] = _in_options(found["left_out"], same)
    if as_json:
        output.emit(found)
        return
    _show(found, searched=search is not None, read=conversation_id is not None)
    if elsewhere:
        output.tell(f"Nothing in the scope {chosen.scope}; other scopes have conversations: add --all-scopes")


def _show(found: History, *, searched: bool, read: bool) -> None:
    if searched:
        _show_hits(found)
    elif read:
        _show_page(found)
    else:
        _show_list(found)
    if found["left_out"]:
        for note in [found["left_out"]] if searched else found["left_out"].split("; "):
            output.say(f"Left out: {note}", "dim")


def _either(argument: str | None, option: str | None) -> str | None:
    if None not in (argument, option) and argument != option:
        raise BadInput("two conversations are named; leave the argument or --conversation out")
    return option if option is not None else argument


def _same(db: str | None, scope: str | None, *, all_scopes: bool) -> str:
    """The options with which the next command looks at the same place."""
    said = f" --db {shlex.quote(db)}" if db else ""
    if scope is not None:
        return f"{said} --scope {shlex.quote(scope)}"
    return said + (" --all-scopes" if all_scopes else "")


def _where(chosen: Settings, scope: str | None, *, all_scopes: bool) -> str:
    """The scope to look in, `*` for all. A person at a terminal has no project; a session and CCN_SCOPE name one."""
    if scope is not None:
        if all_scopes:
            raise BadInput("--scope and --all-scopes contradict each other; leave one of them out")
        return named(scope)
    return "*" if all_scopes or chosen.scope == DEFAULT_SCOPE else chosen.scope


async def _elsewhere(node: Node) -> bool:
    found = await node.get_history(scope="*", limit=1)
    return bool(found["conversations"])


def _in_options(left_out: str | None, same: str) -> str | None:
    """What the node tells an instance (`get_history(...)`), as a command line."""
    if left_out is None:
        return None
    from ccn_mcp.node.history import AROUND_A_HIT

    def command(found: re.Match[str]) -> str:
        words = ["ccn-mcp history"]
        for name, value in _ARGUMENT.findall(found[1]):
            word = shlex.quote(str(json.loads(value)))
            option = "search" if name == "query" else name
            words.append(word if name == "conversation_id" else f"--{option} {word}")
        return " ".join(words) + same

    return _CALL.sub(command, left_out.removesuffix(AROUND_A_HIT))


def _show_list(found: History) -> None:
    for item in found["conversations"]:
        show_conversation(item)
    if not found["conversations"]:
        output.say("No conversations.")


def _show_hits(found: History) -> None:
    for hit in found["hits"]:
        output.say(f"  {hit['conversation_id']}", "cyan")
        where = f"message {hit['n']}, entry {hit['seq']}, {hit['role']}, {output.minute(hit['at'])}"
        output.tell(where, indent="    ", style="dim")
        output.tell(output.one_line(hit["excerpt"], 400), indent="    ")
    output.say(output.amount(len(found["hits"]), "match").replace("matchs", "matches"))


def _show_page(found: History) -> None:
    for message in found["messages"]:
        speaker = f" ({output.one_line(message['name'], 60)})" if message["name"] else ""
        heading = f"{message['n']}. {message['role']}{speaker}"
        output.say(f"{heading}  {output.minute(message['at'])}  entry {message['seq']}", "bold")
        # Indented, so that no recorded line can pass for one of the headings.
        text = message["text"] if message["text"] is not None else "(erased)"
        output.say("\n".join(f"  {line}" for line in output.shown(text).split("\n")))
        output.say()
    output.say(f"{len(found['messages']):,} of {found['total']:,} messages", "dim")
