"""`ccn-mcp export --bundle` and `ccn-mcp verify-bundle`: the record as files that anybody can check anywhere."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson
from ccn_mcp.domain.errors import BadInput, Conflict, NotFound, VerificationFailed

if TYPE_CHECKING:
    from ccn_mcp.settings import Settings
    from ccn_mcp.store.sqlite.bundle import Bundled

FAULT_STATUS: Final = 6
SCRIPTS: Final = ("verify_bundle.py", "verify_bundle.mjs")
README: Final = """\
This folder holds a whole record of ccn-mcp: {entries} entries of {log},
written so that it can be checked without that program, without its author, and without a network.

  python3 -I verify_bundle.py . [--key KEY] [--head SIZE:ROOT]      Python 3.9 or newer, nothing to install
  node verify_bundle.mjs . [--key KEY] [--head SIZE:ROOT]           Node 18 or newer, the same check once more

Whoever gave you this folder gave you these two programs as well. Read them (each is one short file), or take
them from another copy of ccn-mcp. Ask for KEY or for a head by another way than the one that this folder took:
without them you learn that the record is whole and fits together, and not who made it or when.

  head               the size and root that all entries add up to, here {head}
  checkpoint         the newest signed head (C2SP tlog-checkpoint), covering {signed_to} of {entries} entries
  checkpoints/       older signed heads that are kept for good
  tile/              the Merkle tree and its entries (C2SP tlog-tiles)
  payload/           what each entry says, or nothing where it was erased
  keys               the keys that sign, each with the entry that announced it
  anchors/           time stamps: openssl ts -verify -in N.tsr -data N.note -CAfile THE-AUTHORITYS.pem

It holds everything that was recorded, word for word. What is erased from the record later stays in this folder.
"""
PRIVACY: Final = (
    "It holds the whole record, word for word. Give it only to those who may read all of it. What is erased from the "
    "store later stays in this folder."
)

Bundle = Annotated[
    str | None,
    typer.Option("--bundle", metavar="FOLDER", help="Write all of the record as files to check anywhere."),
]


def export_bundle(name: str, chosen: Settings, as_json: bool) -> None:
    """Write the bundle, check it, and put it in place as a whole or not at all.

    Raises:
        Conflict: the folder exists. BadInput: it cannot be made. VerificationFailed: the record is damaged.
    """
    target = Path(name).expanduser().absolute()
    _check_target(target)
    try:
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:40]}."))  # 0700
    except OSError as failed:
        raise BadInput(
            f"cannot write in {target.parent}: {failed.strerror}; choose another folder"
        ) from failed
    try:
        done = _write(draft, chosen.db)
        if hasattr(os, "sync"):
            os.sync()  # once for thousands of files, before the name that says that all are there
        _check_target(target)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    found = {
        "folder": str(target),
        "store_id": done.store_id.hex(),
        "entries": done.head.size,
        "erased": done.erased,
        "signed_to": done.signed_to,
        "head": f"{done.head.size}:{done.head.root.hex()}",
    }
    if as_json:
        output.emit(found)
        return
    output.say(f"{target}", "bold")
    output.say(f"Entries  {done.head.size:,}, of which {done.erased:,} erased")
    output.say(f"Signed   to {done.signed_to:,} of {done.head.size:,}")
    output.say(f"Head     {done.head}")
    output.tell(PRIVACY)
    output.say(f"To check it anywhere:  python3 -I verify_bundle.py {target}")


def _check_target(target: Path) -> None:
    if os.path.lexists(target):
        raise Conflict(f"{target} exists; nothing was written. Choose another folder")
    if not target.parent.is_dir():
        raise BadInput(f"there is no folder {target.parent}; make it first, or choose another place")


def _write(draft: Path, db: Path) -> Bundled:
    from ccn_mcp import data
    from ccn_mcp.data import verify_bundle
    from ccn_mcp.domain.checkpoint import origin_of
    from ccn_mcp.store.sqlite.bundle import put_file, write_bundle

    with output.bar("Writing") as progress:
        done = write_bundle(db, draft, progress)
    text = README.format(
        entries=done.head.size, log=origin_of(done.store_id), head=done.head, signed_to=done.signed_to
    )
    put_file(draft / "README.txt", text.encode())
    for name in SCRIPTS:
        put_file(draft / name, data.read(name))
    try:
        with output.bar("Checking") as progress:
            verify_bundle.check(draft, None, None, progress)
    except verify_bundle.Fault as fault:
        raise VerificationFailed(
            f"the record does not make a bundle that can be checked ({fault}); nothing was written. "
            "Run `ccn-mcp verify`"
        ) from fault
    return done


def verify_bundle(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="What `export --bundle` wrote.")],
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="The log's key, as you know it from elsewhere."),
    ] = None,
    known_head: Annotated[
        str | None,
        typer.Option("--known-head", metavar="HEAD", help="A head (SIZE:ROOT) that you kept from earlier."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a bundle, by the program that lies in every bundle, from this installation.

    Reads the folder and nothing else: no store, no settings, no network. Exit status 6 if something does not fit.
    """
    from ccn_mcp.data import verify_bundle as verifier
    from ccn_mcp.domain.checkpoint import parse_key
    from ccn_mcp.domain.ledger import parse_head

    path = Path(folder).expanduser()
    if not path.is_dir():
        raise NotFound(f"there is no folder {path}; give the folder that `ccn-mcp export --bundle` wrote")
    if key is not None:
        parse_key(key)
    head = None
    if known_head is not None:
        size, root = parse_head(known_head)
        head = f"{size}:{root}"
    try:
        with output.bar("Verifying") as progress:
            found = verifier.check(path, key, head, progress)
    except verifier.Fault as fault:
        _refuse(str(fault), as_json)
        raise typer.Exit(FAULT_STATUS) from None
    if as_json:
        output.emit({"ok": True, **found, "fault": None})
    else:
        output.say(verifier.report(found).rstrip("\n"))


def _refuse(fault: str, as_json: bool) -> None:
    if as_json:
        found: dict[str, Any] = {"ok": False, "fault": fault}
        output.emit(found)
    else:
        output.say("NOT AS IT WAS WRITTEN", "bold red")
        output.say(fault)
