"""`ccn-mcp proof`: proofs as short texts, made from the store or checked without one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import BadInput, BadNote, BadProof, NotFound

if TYPE_CHECKING:
    from ccn_mcp.domain.checkpoint import Checkpoint


def proof(
    seq: Annotated[int | None, typer.Argument(metavar="[SEQ]", help="The entry's position.", min=0)] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="HEAD", help="A head (SIZE:ROOT) that you kept; with --check, compared."
        ),
    ] = None,
    check: Annotated[
        str | None, typer.Option("--check", metavar="FILE", help="Check a proof instead; - is stdin.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="KEY", help="With --check: who must have signed. Default: the key pinned here."
        ),
    ] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Print a proof that an entry is in the log, or that the log still contains a head; or check one.

    The proof is a short text with the newest signed head in it. It shows an entry's position, time and kind, and a
    hash of what it says, not the words. Exit status 6 if nothing is proved.
    """
    if check is not None:
        if seq is not None:
            raise BadInput("give either an entry or a proof to check")
        found = _check(_read(check), since, key, db)
        if as_json:
            output.emit(found)
        else:
            output.say("ok", "bold green")
            for name, value in found.items():
                output.say(f"{name:9}{value}")
        return
    if (seq is None) == (since is None) or key is not None:
        raise BadInput("give the position of an entry, or a head with --from, or a file with --check")
    from ccn_mcp.store.sqlite.proofs import entry_proof, head_proof

    path = output.load_settings(db).db
    text = entry_proof(path, seq) if seq is not None else head_proof(path, since or "")
    if as_json:
        output.emit({"proof": text})
    else:
        sys.stdout.write(text)


def _read(name: str) -> bytes:
    from ccn_mcp.domain.limits import PROOF_BYTES_MAX

    if name == "-":
        return sys.stdin.buffer.read(PROOF_BYTES_MAX + 1)
    path = Path(name).expanduser()
    if not path.is_file():
        raise NotFound(f"there is no file {path}; give one that `ccn-mcp proof` printed, or - for stdin")
    with path.open("rb") as file:
        return file.read(PROOF_BYTES_MAX + 1)


def _check(data: bytes, held: str | None, key: str | None, db: str | None) -> dict[str, Any]:
    from ccn_mcp.domain import consistency_text, proof_text

    if data.startswith(consistency_text.MAGIC.encode()):
        old = consistency_text.parse_consistency(data)
        head, signer = _signed(old.note, key, db)
        consistency_text.check_consistency(old)
        if held is not None and not old.old.matches(held):
            raise BadProof(f"the proof begins with the head {old.old}, not with yours, {held}")
        return {"log": head.origin, "contains": str(old.old), "head": str(head.head), "key": signer}
    if held is not None:
        raise BadInput("--from is compared with a consistency proof; this is the proof of an entry")
    text = proof_text.parse_inclusion(data)
    head, signer = _signed(text.note, key, db)
    return {"log": head.origin, **_entry(text, head), "head": str(head.head), "key": signer}


def _signed(note: str, key: str | None, db: str | None) -> tuple[Checkpoint, str]:
    """The head, signed by the key that is trusted."""
    from ccn_mcp.app import keeper_of
    from ccn_mcp.domain.checkpoint import open_checkpoint, parse_checkpoint, parse_key, parse_note
    from ccn_mcp.store import ed25519

    origin = parse_checkpoint(parse_note(note).text).origin
    if key is None:
        try:
            store_id = bytes.fromhex(origin.removeprefix("ccn-log/"))
        except ValueError:
            raise BadNote(f"{origin} is no log of this program; the proof cannot be checked here") from None
        key = keeper_of(output.load_settings(db)).pinned(store_id)
    if key is None:
        raise BadInput(
            f"this account trusts no key of {origin}: without one, anybody could have signed. Ask its owner for what "
            "`ccn-mcp key show` prints there and give it with --key"
        )
    return open_checkpoint(note, origin, [parse_key(key)], ed25519.verify), key


def _entry(text: Any, head: Checkpoint) -> dict[str, Any]:
    """What the 110 bytes of the entry say, once the proof has shown that they are in the log."""
    from ccn_mcp.domain.ledger import ENTRY, ENTRY_TAG, leaf_hash
    from ccn_mcp.domain.proof_text import check_inclusion
    from ccn_mcp.node.context import iso

    if text.extra is None or len(text.extra) != ENTRY.size:
        raise BadNote("the proof does not hold the 110 bytes of its entry as extra data", 2)
    check_inclusion(text, leaf_hash(text.extra))
    tag, store_id, seq, time_us, kind, _, committed = ENTRY.unpack(text.extra)
    if tag != ENTRY_TAG or head.origin != f"ccn-log/{store_id.hex()}" or seq != text.index:
        raise BadProof(f"what is in the log at {text.index} is no entry of it")
    return {"entry": seq, "kind": kind, "at": iso(time_us), "content": committed.hex()}
