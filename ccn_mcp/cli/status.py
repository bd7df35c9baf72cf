"""`ccn-mcp status`: the store at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db

if TYPE_CHECKING:
    from ccn_mcp.node.results import HistoryConversation, InstanceStatus, Status
    from ccn_mcp.settings import Settings

SHOWN_MAX = 10


class Signing(TypedDict):
    """How far the record is signed and witnessed. `private` is here, elsewhere, or why the key cannot be used."""

    key: str | None
    private: str
    pinned: str | None
    signed_to: int
    remembered_head_matches: bool | None
    heads_trouble: str | None
    anchors: int
    witnessed_to: int
    witnessed_by: str | None


def status(db: Db = None, as_json: AsJson = False) -> None:
    """See the store at a glance.

    Where it is, how far it has come, which Plate is in force, who is connected, the last conversations.
    """
    chosen = output.load_settings(db)
    found = output.on_node(chosen, lambda node: node.status())
    signing = _signing(chosen) if found["exists"] else None
    if as_json:
        output.emit({**found, "signing": signing})
    elif not found["exists"]:
        _show_nothing(found)
    else:
        _show(found, signing)


def _signing(chosen: Settings) -> Signing | None:
    """How far the record is signed and witnessed, by which key."""
    from ccn_mcp.app import keeper_of
    from ccn_mcp.cli.key import facts_of
    from ccn_mcp.store.sqlite.state import key_state

    keeper = keeper_of(chosen)
    state = key_state(chosen.db, keeper)
    if state is None:
        return None
    facts = facts_of(keeper, state)
    return {
        "key": state.keys[-1].key if state.keys else None,
        "private": facts["private"],
        "pinned": facts["pinned"],
        "signed_to": state.signed_to,
        "remembered_head_matches": state.contradicted is None if state.remembered else None,
        "heads_trouble": keeper.trouble(state.store_id),
        "anchors": state.anchors,
        "witnessed_to": state.witnessed.to,
        "witnessed_by": state.witnessed.authority,
    }


def _show_signing(found: Signing, entries: int) -> None:
    where = {"here": "", "elsewhere": ", the key is not here"}.get(
        found["private"], ", the key cannot be used"
    )
    output.say(f"Signed to      {found['signed_to']:,} of {entries:,}{where}", "yellow" if where else "")
    if found["witnessed_to"]:
        output.say(f"Witnessed to   {found['witnessed_to']:,} by {found['witnessed_by']}")
    if found["remembered_head_matches"] is False:
        output.tell(
            "The record does not have the head that this account remembers: run ccn-mcp verify.",
            style="bold red",
        )
    if found["heads_trouble"]:
        output.tell(f"Heads could not be kept elsewhere: {found['heads_trouble']}", style="yellow")


def _show_nothing(found: Status) -> None:
    output.say(f"Store          {found['db']}")
    output.tell(
        "There is no store at this place yet. The first message that a client records, or its first "
        "load_plate, creates it; so does ccn-mcp plate set FILE."
    )
    output.tell("To see it all work on a store that is thrown away afterwards, run: ccn-mcp demo")


def _show(found: Status, signing: Signing | None) -> None:
    output.say(f"Store          {found['db']} ({output.size(found['bytes'])})")
    output.say(f"Entries        {found['entries']:,}")
    output.say(f"Head           {found['head']}")
    if signing is not None:
        _show_signing(signing, found["entries"])
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
    last, count = found["conversations"], found["conversation_count"]
    output.say(f"Conversations  {count:,}" + (f", the last {len(last)}:" if count > len(last) else ""))
    for item in last:
        show_conversation(item)
    show_pending(found["erasures_pending"])
    output.say()
    output.tell("Keep the head somewhere else. Later it shows that nothing before it was changed:")
    output.say(f"  ccn-mcp verify --known-head {found['head']}")


def show_pending(count: int) -> None:
    """Say that erased messages are still in the files, if there are any, why, and what to do."""
    if count:
        from ccn_mcp.node.status import ERASURES_PENDING

        output.say(f"Erasures       {count:,} pending", "yellow")
        output.tell(f"{ERASURES_PENDING}.", indent="  ")


def _show_instance(item: InstanceStatus) -> None:
    output.say(f"  {item['instance_id']}", "cyan")
    said = [output.one_line(item[name], 60) for name in ("client", "model") if item[name]]
    drift = item["from_baseline"]
    said += [item["state"], f"last heard {output.minute(item['last_seen'])}"]
    said += [f"{drift:.2f} from its baseline ({item['baseline_source']})"] if drift is not None else []
    said += [f"last verdict {item['action']}"] if item["action"] is not None else []
    output.tell(", ".join(said), indent="    ")


def show_conversation(item: HistoryConversation) -> None:
    """One conversation of a list, in two lines."""
    output.say(f"  {item['conversation_id']}", "cyan")
    title = f"{output.one_line(item['title'], 80)}: " if item["title"] else ""
    scope = "" if item["scope"] == "default" else f", scope {output.one_line(item['scope'])}"
    messages = output.amount(item["messages"], "message")
    output.tell(f"{title}{messages}, last {output.minute(item['last_at'])}{scope}", indent="    ")
