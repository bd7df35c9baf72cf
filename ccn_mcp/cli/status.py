"""`ccn-mcp status`: the store at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db

if TYPE_CHECKING:
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.results import HistoryConversation, InstanceStatus, Status

SHOWN_MAX = 10


def status(db: Db = None, as_json: AsJson = False) -> None:
    """See the store at a glance.

    Where it is, how far it has come, which Plate is in force, who is connected, the last conversations.
    """
    found, count = output.on_node(output.load_settings(db), _read)
    if as_json:
        output.emit({**found, "conversation_count": count})
    elif not found["exists"]:
        _show_nothing(found)
    else:
        _show(found, count)


async def _read(node: Node) -> tuple[Status, int]:
    from ccn_mcp.node.status import count_conversations

    return await node.status(), await count_conversations(node.ctx)


def _show_nothing(found: Status) -> None:
    output.say(f"Store          {found['db']}")
    output.tell(
        "There is no store at this place yet. The first message that a client records, or its first "
        "load_plate, creates it; so does ccn-mcp plate set FILE."
    )
    output.tell("To see it all work on a store that is thrown away afterwards, run: ccn-mcp demo")


def _show(found: Status, count: int) -> None:
    output.say(f"Store          {found['db']} ({output.size(found['bytes'])})")
    output.say(f"Entries        {found['entries']:,}")
    output.say(f"Head           {found['head']}")
    output.say(f"Plate          {found['plate']}")
    if found["plate_is_starter"]:
        output.tell(
            "the starter that comes with the program; choose your own with ccn-mcp plate set FILE",
            indent="  ",
        )
    output.say(f"Connected      {output.amount(len(found['instances']), 'instance')}")
    for instance in found["instances"][:SHOWN_MAX]:
        _show_instance(instance)
    if (more := len(found["instances"]) - SHOWN_MAX) > 0:
        output.say(f"  and {more} more")
    last = found["conversations"]
    output.say(f"Conversations  {count:,}" + (f", the last {len(last)}:" if count > len(last) else ""))
    for item in last:
        show_conversation(item)
    output.say()
    output.tell("Keep the head somewhere else. Later it shows that nothing before it was changed:")
    output.say(f"  ccn-mcp verify --known-head {found['head']}")


def _show_instance(item: InstanceStatus) -> None:
    output.say(f"  {item['instance_id']}", "cyan")
    said = [output.one_line(item[name], 60) for name in ("client", "model") if item[name]]
    drift = item["from_baseline"]
    said += [item["state"], f"last heard {output.minute(item['last_seen'])}"]
    said += [f"{drift:.2f} from the Plate's baseline"] if drift is not None else []
    output.tell(", ".join(said), indent="    ")


def show_conversation(item: HistoryConversation) -> None:
    """One conversation of a list, in two lines."""
    output.say(f"  {item['conversation_id']}", "cyan")
    title = f"{output.one_line(item['title'], 80)}: " if item["title"] else ""
    scope = "" if item["scope"] == "default" else f", scope {output.one_line(item['scope'])}"
    messages = output.amount(item["messages"], "message")
    output.tell(f"{title}{messages}, last {output.minute(item['last_at'])}{scope}", indent="    ")
