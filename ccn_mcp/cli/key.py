"""`ccn-mcp key`: show, change and pin the key that signs the record's heads. Changing it is the person's act alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import BadInput, KeyUnusable, NoStore, Refused

if TYPE_CHECKING:
    from ccn_mcp.domain.models import KeyChange
    from ccn_mcp.node.node import Node
    from ccn_mcp.settings import Settings
    from ccn_mcp.store.keeper import FileKeeper
    from ccn_mcp.store.sqlite.state import KeyState


def build() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(
        help="Show, change or pin the key that signs the record's heads.",
        rich_markup_mode="rich" if output.fancy() else None,
    )
    app.command("show", **output.example("ccn-mcp key show"))(show)
    app.command("rotate", **output.example("ccn-mcp key rotate", "ccn-mcp key rotate --lost"))(rotate)
    app.command("pin", **output.example("ccn-mcp key pin 'ccn-log/…+…+…'"))(pin)
    return app


# ---- show ----------------------------------------------------------------------------------------------


def show(db: Db = None, as_json: AsJson = False) -> None:
    """Show the public keys of this store.

    Which is pinned, whether the private half is here, and how far the record is signed.
    """
    chosen = output.load_settings(db)
    keeper, state = _state(chosen)
    facts = facts_of(keeper, state)
    if as_json:
        output.emit(facts)
        return
    output.say(f"Store      {state.store_id.hex()}")
    for key in facts["keys"]:
        output.say(f"Key        {key['key']}", "bold" if key["current"] else "")
        word = {
            "first": "first",
            "next": "announced by the key before it",
            "lost": "after a lost key, signed by nobody",
        }
        said = [f"from entry {key['from']:,}, {word.get(key['event'], key['event'])}"]
        said += ["in use" if key["current"] else "retired", *(["pinned"] if key["pinned"] else [])]
        output.say(f"           {', '.join(said)}")
    if not facts["keys"]:
        output.tell(
            "Key        none yet: the record names none. The next program that writes here makes one."
        )
    if facts["pinned"] is None:
        output.tell("Pinned     none: this account has not trusted a key of this store yet")
    elif not any(key["pinned"] for key in facts["keys"]):
        output.say(f"Pinned     {facts['pinned']}, which the record does not name", "bold red")
    output.tell(f"Private    {_private_words(facts)}")
    output.say(f"Signed to  {facts['signed_to']:,} of {facts['entries']:,}")


def _private_words(facts: dict[str, Any]) -> str:
    if facts["private"] == "here":
        return "here"
    if facts["private"] == "elsewhere":
        return "not here: another machine or account signs, or it was lost"
    return f"cannot be used: {facts['trouble']}"


def facts_of(keeper: FileKeeper, state: KeyState) -> dict[str, Any]:
    """What is known of a store's keys, for people and programs; nothing of it is secret."""
    private, trouble = "elsewhere", None
    current = state.keys[-1].key if state.keys else None
    try:
        signer = keeper.ring.signer(state.store_id, create=False)
        if signer is not None and current in (None, str(signer.key)):
            private = "here"
    except KeyUnusable as wrong:
        private, trouble = wrong.reason, str(wrong)
    pinned = keeper.pinned(state.store_id)
    return {
        "store_id": state.store_id.hex(),
        "keys": [
            {
                "key": item.key,
                "from": item.seq,
                "event": item.event,
                "current": item is state.keys[-1],
                "pinned": item.key == pinned,
            }
            for item in state.keys
        ],
        "pinned": pinned,
        "private": private,
        "trouble": trouble,
        "signed_to": state.signed_to,
        "entries": state.size,
    }


def _state(chosen: Settings) -> tuple[FileKeeper, KeyState]:
    from ccn_mcp.app import keeper_of
    from ccn_mcp.store.sqlite.state import key_state

    keeper = keeper_of(chosen)
    state = key_state(chosen.db, keeper)
    if state is None:
        raise NoStore(
            f"there is no store at {chosen.db} yet; the first message or load_plate creates it, and its key"
        )
    return keeper, state


# ---- rotate --------------------------------------------------------------------------------------------


def rotate(
    lost: Annotated[
        bool,
        typer.Option(
            "--lost", help="The private key is gone for good: name a new one without its signature."
        ),
    ] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Change the key that signs.

    The old key announces the new one and is destroyed, so who steals the new one cannot sign older heads. Asks you
    to type a word. Needs a terminal; refused inside Claude Code.
    """
    chosen = output.load_settings(db)
    only_the_person(chosen, f"ccn-mcp key rotate{' --lost' if lost else ''}")
    _, state = _state(chosen)
    current = state.keys[-1].key if state.keys else "none yet"
    lines = [f"The key in use: {current}", f"Signed to entry {state.signed_to:,} of {state.size:,}.", ""]
    lines += _LOST if lost else _ROTATE
    confirm(lines, "lost" if lost else "rotate")

    async def work(node: Node) -> KeyChange:
        return await node.ctx.store.rotate_key(lost=lost)

    done = output.on_node(chosen, work)
    keeper, state = _state(chosen)
    facts = facts_of(keeper, state)
    if as_json:
        output.emit({"entry": done.seq, "old": done.old, "new": done.new, "lost": lost, **facts})
        return
    output.say(f"The key is changed (entry {done.seq:,}).", "green")
    output.say(f"New key    {done.new}")
    output.say(f"Signed to  {facts['signed_to']:,} of {facts['entries']:,}")
    if facts["private"] != "here" or state.signed_to <= done.seq:
        output.tell(
            "It does not sign yet: the next program that writes here finishes the change.", style="yellow"
        )
    if lost:
        output.tell("Where else you check this record, trust the new key: ccn-mcp key pin KEY")


_ROTATE = (
    "It signs the head once more and announces a new key; then it is overwritten and removed. Where it",
    "is pinned, the record goes on to verify from it. Backups of the config folder still hold it: delete",
    "them. Nothing has been changed yet.",
)
_LOST = (
    "The record will say that the private key was lost, and name a new one that nobody signed for. Heads",
    "that were signed before are then no longer covered by a signature that this account trusts; heads",
    "kept elsewhere still count. Whoever can write the store could do the same, so it shows nothing by",
    "itself: other accounts will be told, and must pin the new key themselves. Nothing has been changed yet.",
)


# ---- pin -----------------------------------------------------------------------------------------------


def pin(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A public key, as ccn-mcp key show prints it.")],
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Trust this public key for the store.

    Compare it with what `key show` prints where the store is written. Asks you to type its id. Needs a terminal;
    refused inside Claude Code.
    """
    from ccn_mcp.domain.checkpoint import ED25519, origin_of, parse_key

    chosen = output.load_settings(db)
    only_the_person(chosen, f"ccn-mcp key pin '{key}'")
    keeper, state = _state(chosen)
    wanted = parse_key(key.strip())
    old = keeper.pinned(state.store_id)
    if wanted.algorithm != ED25519 or wanted.name != origin_of(state.store_id):
        raise BadInput(
            f"this is no key of {origin_of(state.store_id)}; ccn-mcp key show prints those of this store"
        )
    if old != str(wanted):
        lines = [f"Pinned now: {old or 'none'}", f"To be pinned: {wanted}", ""]
        if str(wanted) not in {item.key for item in state.keys}:
            lines.append("The record as it is here names no such key: verify will then call it wrong.")
        lines.append(
            "From then on verify trusts what this key signs, and the keys that it announces, and no other."
        )
        confirm(lines, wanted.key_id.hex())
        keeper.ring.trust(state.store_id, wanted)
    if as_json:
        output.emit({"changed": old != str(wanted), "old": old, "pinned": str(wanted)})
    elif old == str(wanted):
        output.say("This key is pinned already; nothing was changed.")
    else:
        output.say("Pinned. ccn-mcp verify says how far it has signed.", "green")


# ---- the person ----------------------------------------------------------------------------------------


def only_the_person(chosen: Settings, command: str) -> None:
    """Stop what is not a person at a terminal: a bump against models, no wall against the account's owner.

    Raises:
        Refused.
    """
    if chosen.inside_claude_code:
        raise Refused(
            "which key is trusted is the person's own choice, and this runs inside Claude Code. Open a terminal of "
            f"your own and run there: {command}"
        )
    # The question goes to stderr, so that stdout can be one JSON document.
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(
            "changing what is trusted needs a person at a terminal: run it without pipes or redirections of its input, "
            "so that it can show you what changes and ask"
        )


def confirm(lines: list[str], word: str) -> None:
    """Show what would happen and ask for the word.

    Raises:
        Refused: something else was typed.
    """
    sys.stderr.write(output.shown("\n".join(lines)) + "\n")
    sys.stderr.write(f"To go ahead, type {word}: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != word:
        raise Refused(f"that is not {word}; nothing was changed")
