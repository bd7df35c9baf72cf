"""`ccn-mcp anchor`: have an outside authority witness the newest signed head (RFC 3161)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import NoStore, Refused

if TYPE_CHECKING:
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.results import Anchored
    from ccn_mcp.settings import Settings


def anchor(
    tsa: Annotated[
        str,
        typer.Option(
            "--tsa", metavar="URL", help="The authority's address (https, or http on this machine)."
        ),
    ],
    tsa_ca: Annotated[
        str | None,
        typer.Option(
            "--tsa-ca",
            metavar="FILE",
            help="Its CA certificates (PEM). This account trusts them for time stamps from then on.",
        ),
    ] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Have an outside authority put the time to the newest signed head.

    It is sent the head's hash and nothing else. The answer is checked, then recorded; verify shows level 4 where you
    trust its CA. Needs the extra: pip install 'ccn-mcp[anchors]'
    """
    chosen = output.load_settings(db)
    if chosen.inside_claude_code:
        raise Refused(
            "whom to trust as a witness is the person's own choice, and this runs inside Claude Code; run it in a "
            "terminal of your own"
        )
    note = _newest_note(chosen)
    stamped = _stamp(chosen, note, tsa, Path(tsa_ca).expanduser() if tsa_ca is not None else None)

    async def record(node: Node) -> Anchored:
        from ccn_mcp.node.anchors import record_anchor

        return await record_anchor(
            node.ctx,
            node.caller,
            note=note,
            answer=stamped.answer,
            authority=stamped.authority,
            time_us=stamped.time_us,
            verified=stamped.verified,
        )

    done = output.on_node(chosen, record)
    if as_json:
        output.emit(done)
    else:
        _show(done)


class _Stamped(NamedTuple):
    answer: bytes
    authority: str
    time_us: int
    verified: bool


def _newest_note(chosen: Settings) -> bytes:
    from ccn_mcp.app import keeper_of
    from ccn_mcp.store.sqlite.state import key_state

    state = key_state(chosen.db, keeper_of(chosen))
    if state is None:
        raise NoStore(f"there is no store at {chosen.db} yet, so there is no head to witness")
    if state.note is None:
        raise Refused("no head of this record is signed yet; ccn-mcp doctor says why")
    return state.note


def _stamp(chosen: Settings, note: bytes, url: str, source: Path | None) -> _Stamped:
    """Ask, and check the answer before anything is recorded or trusted."""
    from ccn_mcp.cli import tsa as authority
    from ccn_mcp.settings import config_folder
    from ccn_mcp.store import timestamps

    shown, config = authority.checked_url(url), config_folder(chosen)
    known = timestamps.read_authorities([source]) if source is not None else timestamps.trusted(config)
    query, nonce = timestamps.request(note)
    answer = authority.ask(url, query)
    if source is None and not known.roots:
        return _Stamped(answer, shown, timestamps.read(answer, note, nonce), verified=False)
    time_us = timestamps.verify(answer, note, known, nonce)
    if source is not None:
        timestamps.trust(config, source)
    return _Stamped(answer, shown, time_us, verified=True)


def _show(done: Anchored) -> None:
    style = "green" if done["verified"] else "yellow"
    output.say(
        f"Witnessed to entry {done['size']:,}: {output.minute(done['at'])}, {done['authority']}", style
    )
    output.say(f"Root       {done['root']}")
    output.say(f"Recorded   entry {done['seq']}")
    if not done["verified"]:
        output.tell(
            "This account trusts no authority yet, so nobody has checked who signed the time stamp, and verify "
            "does not count it. Run it again with --tsa-ca FILE, the authority's CA certificates."
        )
    output.say(f"Head       {done['head']}")
