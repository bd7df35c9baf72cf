"""`ccn-mcp plate`: show, compare and set the Plate. Setting it is the person's act alone."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import BadPlate, Refused

if TYPE_CHECKING:
    from ccn_mcp.domain.plate import Plate
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.plates import PlateInForce
    from ccn_mcp.settings import Settings

READ_BYTES_MAX: Final = 64_000_000
"""Larger files are not even read to say how many tokens they would be."""

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="A Plate: Markdown, see docs/plate.md.")]


def build() -> typer.Typer:
    """The group of commands."""
    from ccn_mcp.cli.plate_import import import_  # it takes the guard from here

    app = typer.Typer(
        help="Show, compare and set the Plate.",
        rich_markup_mode="rich" if output.fancy() else None,
    )
    app.command("show", **output.example("ccn-mcp plate show --raw > my-plate.md"))(show)
    app.command("diff", **output.example("ccn-mcp plate diff my-plate.md"))(diff)
    app.command("set", **output.example("ccn-mcp plate set my-plate.md"))(set_)
    examples = output.example(
        "ccn-mcp plate import SOUL.md IDENTITY.md", "ccn-mcp plate import card.png --user Ada"
    )
    app.command("import", **examples)(import_)
    return app


# ---- show ----------------------------------------------------------------------------------------------


def show(
    raw: Annotated[bool, typer.Option("--raw", help="Print the file itself, byte for byte.")] = False,
    versions: Annotated[bool, typer.Option("--versions", help="List every Plate that was in force.")] = False,
    original: Annotated[
        str | None,
        typer.Option("--original", metavar="OUT", help="Write out what the Plate was imported from."),
    ] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Show the Plate in force."""
    if original is not None:
        from ccn_mcp.cli.plate_import import write_original

        write_original(output.load_settings(db), original, as_json=as_json)
        return

    async def read(node: Node) -> tuple[PlateInForce, list[PlateInForce]]:
        return await node.plate(), await node.plate_versions() if versions else []

    current, all_of_them = output.on_node(output.load_settings(db), read)
    if as_json:
        listed = {"versions": [facts_of(item, text=False) for item in all_of_them]} if versions else {}
        output.emit({**facts_of(current, text=True), **listed})
    elif versions:
        _show_versions(all_of_them)
    elif raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(current.plate.source)
    else:
        _show_plate(current)


def facts_of(item: PlateInForce, *, text: bool) -> dict[str, Any]:
    from ccn_mcp.domain.character import RELATIONAL, TRAITS
    from ccn_mcp.domain.plate import estimate_tokens, is_starter
    from ccn_mcp.node.context import iso

    plate = item.plate
    return {
        "name": plate.name,
        "version": plate.version,
        "digest": plate.digest,
        "starter": is_starter(plate),
        "entry": item.seq,
        "set_at": iso(item.set_us) if item.set_us is not None else None,
        "tokens": estimate_tokens(plate.body),
        "baseline": dict(zip(TRAITS, plate.baseline, strict=True)) if plate.baseline else None,
        "relational": dict(zip(RELATIONAL, plate.relational, strict=True)) if plate.relational else None,
        "facts": {question: len(facts) for question, facts in plate.facts.items()},
        "boundaries": list(plate.boundaries),
        "unread": sorted(plate.unmapped),
        **({"source": plate.source.decode("utf-8-sig")} if text else {}),
    }


def _show_versions(items: list[PlateInForce]) -> None:
    from ccn_mcp.domain.plate import is_starter
    from ccn_mcp.node.context import iso

    if not items:
        output.tell(
            "No Plate has been in force yet: sessions will start from the one that comes with the program."
        )
    for item in items:
        when = output.minute(iso(item.set_us)) if item.set_us is not None else ""
        starter = " (the starter)" if is_starter(item.plate) else ""
        output.say(f"{item.plate.name} {item.plate.version}{starter}", "bold")
        output.say(f"  entry {item.seq}, {when}")
        output.say(f"  {item.plate.digest}")


def _show_plate(item: PlateInForce) -> None:
    show_summary(item.plate, item)
    output.say()
    output.say(item.plate.body)


def show_summary(plate: Plate, item: PlateInForce | None = None) -> None:
    from ccn_mcp.domain.character import RELATIONAL, TRAITS
    from ccn_mcp.domain.plate import estimate_tokens, is_starter
    from ccn_mcp.node.context import iso

    output.say(f"Plate       {plate.name} {plate.version}", "bold")
    output.say(f"SHA-256     {plate.digest}")
    if is_starter(plate):
        output.tell("This is the starter that comes with the program: nobody has chosen a Plate yet.")
    if item is not None and item.seq is not None and item.set_us is not None:
        output.say(f"In force    since {output.minute(iso(item.set_us))}, entry {item.seq}")
    output.say(
        f"Length      about {estimate_tokens(plate.body):,} tokens, read by every session at its start"
    )
    if plate.baseline is not None:
        output.tell(f"Baseline    {_numbers(TRAITS, plate.baseline)}")
    else:
        output.say("Baseline    none of its own; the program's default is used")
    if plate.relational is not None:
        output.tell(f"Relational  {_numbers(RELATIONAL, plate.relational)}")
    if plate.facts:
        output.tell("Facts       " + ", ".join(f"{name} {len(facts)}" for name, facts in plate.facts.items()))
    for boundary in plate.boundaries:
        output.tell(f"Boundary    {boundary}")
    if plate.unmapped:
        output.tell(f"Not read    {', '.join(sorted(plate.unmapped))} (kept in the file, used for nothing)")


def _numbers(names: tuple[str, ...], values: tuple[float, ...]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in zip(names, values, strict=True))


# ---- diff and set --------------------------------------------------------------------------------------


def diff(file: FileArgument, db: Db = None, as_json: AsJson = False) -> None:
    """Show what setting this file would change."""
    from ccn_mcp.domain.plate import diff as difference

    plate = read_plate(file)
    current = output.on_node(output.load_settings(db), in_force)
    same = current.plate.digest == plate.digest
    text = "" if same else difference(current.plate, plate)
    if as_json:
        old, new = current.plate.digest, plate.digest
        output.emit({"same": same, "in_force": old, "file": new, "diff": text})
    elif same:
        output.say("No difference: this is the Plate in force.")
    else:
        output.say(text.rstrip("\n"))


def set_(file: FileArgument, db: Db = None, as_json: AsJson = False) -> None:
    """Put a Plate in force.

    Shows what changes and asks you to type the new Plate's name. Needs a terminal; refused inside Claude Code.
    """
    chosen = output.load_settings(db)
    only_the_person(chosen, f"ccn-mcp plate set {file}", as_json=as_json)
    plate = read_plate(file)
    current = output.on_node(chosen, in_force)
    if current.plate.digest == plate.digest and current.seq is not None:
        if as_json:
            output.emit({"changed": False, **facts_of(current, text=False)})
        else:
            output.say("This Plate is in force already; nothing was changed.")
        return
    with output.beside(as_json):
        _show_difference(current.plate, plate)
        confirm(plate)
    done = output.on_node(chosen, lambda node: node.set_plate(plate))
    if as_json:
        output.emit({"changed": True, **facts_of(done, text=False)})
        return
    output.say(f"{plate.name} {plate.version} is in force (entry {done.seq}).", "green")
    output.tell("Sessions read it the next time they load the Plate, and are told that it has changed.")


def only_the_person(chosen: Settings, command: str, *, as_json: bool = False) -> None:
    """Stop what is not a person at a terminal: a bump against models, no wall against the account's owner.

    Raises:
        Refused.
    """
    if chosen.inside_claude_code:
        raise Refused(
            "setting the Plate is the person's own act, and this runs inside Claude Code. Open a terminal of "
            f"your own and run there: {command}"
        )
    # With --json, stdout is one document's and the question goes to stderr.
    if not (sys.stdin.isatty() and (sys.stderr if as_json else sys.stdout).isatty()):
        raise Refused(
            "setting the Plate needs a person at a terminal: run it without pipes or redirections, so that it "
            "can show you what changes and ask for the new Plate's name"
        )


def _show_difference(old: Plate, new: Plate) -> None:
    from ccn_mcp.domain.plate import diff as difference

    for line in difference(old, new).rstrip("\n").split("\n"):
        output.say(line, {"+": "green", "-": "red"}.get(line[:1], ""))
    output.say()
    show_summary(new)
    output.say()


def confirm(plate: Plate) -> None:
    """Ask for the name.

    Raises:
        Refused: something else was typed.
    """
    output.tell("Every session reads this at its start and follows it. Nothing has been changed yet.")
    sys.stdout.write(f"To put it in force, type its name ({plate.name}): ")
    sys.stdout.flush()
    if " ".join(sys.stdin.readline().split()) != plate.name:
        raise Refused("that is not its name; nothing was changed")


async def in_force(node: Node) -> PlateInForce:
    return await node.plate()


def read_plate(file: str) -> Plate:
    """The Plate in this file.

    Raises:
        BadPlate: there is none: a folder, nothing, something too large or not text.
    """
    from ccn_mcp.domain.plate import parse_plate

    data = read_file(file)
    try:
        return parse_plate(data)
    except BadPlate as exc:
        raise BadPlate(f"{Path(file).expanduser()}: {exc}") from exc


def read_file(file: str) -> bytes:
    """What is in this file.

    Raises:
        BadPlate: it is no file that could be a Plate.
    """
    path = Path(file).expanduser()
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            raise BadPlate(f"{path} is a folder; name the Plate's file")
        if not stat.S_ISREG(about.st_mode):
            raise BadPlate(f"{path} is no regular file; save the Plate to a file first")
        if about.st_size > READ_BYTES_MAX:
            raise BadPlate(
                f"{path} has {about.st_size:,} bytes and is no Plate; a Plate is some pages of text"
            )
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise BadPlate(f"there is no file {path}; check the name and the folder") from exc
    except (OSError, ValueError) as exc:
        raise BadPlate(
            f"cannot read {path}: {getattr(exc, 'strerror', None) or exc}; check the name"
        ) from exc
