"""`ccn-mcp cost`: what calls to a model have cost."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import ConversationErased

if TYPE_CHECKING:
    from ccn_mcp.node.costs import CallLine, Costs, Sum
    from ccn_mcp.node.node import Node


class By(StrEnum):
    """What is added up."""

    CALL = "call"
    CONVERSATION = "conversation"
    DAY = "day"
    MONTH = "month"


Each = Annotated[By, typer.Option("--by", help="A line for each of these.")]
Last = Annotated[int, typer.Option("--last", min=1, max=1_000, help="Newest lines to show.")]
Conversation = Annotated[
    str | None, typer.Option("--conversation", metavar="ID", help="Only calls of this conversation.")
]


def cost(
    by: Each = By.DAY,
    last: Last = 20,
    conversation: Conversation = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """See what calls to a model have cost: call by call, or by conversation, day or month (UTC).

    Prices are those of the day of each call. What has no known price is shown as unknown, never as 0.
    """
    chosen = output.load_settings(db)

    async def work(node: Node) -> Costs:
        from ccn_mcp.node.conversations import require_conversation
        from ccn_mcp.node.costs import costs

        await output.must_exist(node)
        if conversation is not None:
            with suppress(ConversationErased):  # what it cost is counted as erased
                await require_conversation(node.ctx, conversation)
        return await costs(node.ctx, by=by.value, conversation_id=conversation, last=last)

    found = output.on_node(chosen, work)
    if as_json:
        output.emit(found)
    else:
        _show(found)


def _show(found: Costs) -> None:
    own = f", yours of {found['own_prices']} before them" if found["own_prices"] else ""
    output.say(f"Cost by {found['by']}, prices of {found['prices']}{own}")
    if not (found["total"]["calls"] or found["total"]["erased"]):
        output.say("No call to a model has been recorded here.")
    for call in found["calls"]:
        _show_call(call)
    names = max([len(line["name"]) for line in found["sums"]], default=0)
    for line in found["sums"]:
        output.say(f"  {line['name']:<{names}}  {_of(line)}")
    if found["total"]["calls"]:
        output.say(f"Total: {_of(found['total'])}")
    if found["left_out"]:
        output.say(f"Left out above: {found['left_out']}")
    if found["total"]["erased"]:
        erased = output.amount(found["total"]["erased"], "call")
        output.say(f"{erased} erased with what belongs to a person: in no sum")
    for ceiling in found["ceilings"]:
        so_far = f", today {ceiling['spent']}" if ceiling["spent"] else ""
        output.say(f"Ceiling ${ceiling['usd']} ({ceiling['setting']}){so_far}")
    if found["without_price"]:
        models = ", ".join(f"{model} ({count:,})" for model, count in found["without_price"].items())
        output.tell(f"Without a price: {models}. Give them one in {found['prices_file']}.", style="yellow")


def _of(line: Sum) -> str:
    tokens = line["tokens"]
    return (
        f"{output.amount(line['calls'], 'call')}: {line['text']} (tokens: {tokens['input']:,} in, "
        f"{tokens['output']:,} out, cache {tokens['written']:,} written, {tokens['read']:,} read)"
    )


def _show_call(call: CallLine) -> None:
    batch = ", batch" if call["batch"] else ""
    ended = "" if call["complete"] else f", broke off ({output.one_line(call['stop'])})"
    what = f"{call['purpose']}, {call['backend']}{batch}{ended}; entry {call['seq']}"
    model = output.one_line(call["model"])
    output.say(f"  {output.minute(call['at'])}  {model}  {call['text']}  ({what})")
