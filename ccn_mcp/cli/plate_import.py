"""`ccn-mcp plate import`: a Plate from other formats, and the original back out of the record."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ccn_mcp.cli import output, plate
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import BadInput, BadPlate, Conflict, NotFound

if TYPE_CHECKING:
    from ccn_mcp.domain.plate import Plate
    from ccn_mcp.domain.plate_imports import Imported
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.plates import Original, PlateInForce
    from ccn_mcp.settings import Settings

LISTED_MAX: Final = 40
LINE_CHARS_MAX: Final = 300

Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE...", help="A card, SOUL.md with IDENTITY.md, memory blocks, a JSON plate."),
]
User = Annotated[
    str | None,
    typer.Option("--user", metavar="NAME", help="Who a card's {{user}} is. Default: the person."),
]
Save = Annotated[
    str | None,
    typer.Option(
        "--save", metavar="OUT.md", help="Only write the converted Plate to this file; set nothing."
    ),
]


def import_(
    files: Files, user: User = None, save: Save = None, db: Db = None, as_json: AsJson = False
) -> None:
    """Put a Plate from another format in force.

    Shows what an instance would read and what could not be taken over, then asks for the Plate's name as
    `plate set` does. The original is kept in the record.
    """
    chosen = output.load_settings(db)
    if save is None:
        plate.only_the_person(chosen, shlex.join(["ccn-mcp", "plate", "import", *files]), as_json=as_json)
    read = [(Path(file).name, plate.read_file(file)) for file in files]
    imported = _convert(read, files, user)
    new = imported.plate
    with output.beside(as_json):
        _show(imported)
        if save is not None:
            write_new(Path(save).expanduser(), imported.plate_source)
            output.say(f"Written to {save}; nothing was set. Look it over, then run:")
            output.say(f"  {shlex.join(['ccn-mcp', 'plate', 'set', save])}")
        else:
            _confirm(new, output.on_node(chosen, plate.in_force))
    seq = _put(chosen, imported, read) if save is None else None
    if as_json:
        output.emit(
            {
                "set": seq is not None,
                "entry": seq,
                "file": str(Path(save).expanduser().absolute()) if save is not None else None,
                "format": imported.format.value,
                "mapped": list(imported.mapped),
                "unmapped": list(imported.unmapped),
                "notes": list(imported.notes),
                "name": new.name,
                "version": new.version,
                "digest": new.digest,
            }
        )
    elif save is None:
        output.say(f"{new.name} {new.version} is in force (entry {seq}).", "green")
        output.tell("Sessions read it the next time they load the Plate, and are told that it has changed.")


def _confirm(new: Plate, current: PlateInForce) -> None:
    plate.show_summary(new)
    output.say()
    if current.plate.digest == new.digest and current.seq is not None:
        output.tell("A Plate of just these words is in force already; only the original would be added.")
    plate.confirm(new)


def _put(chosen: Settings, imported: Imported, read: list[tuple[str, bytes]]) -> int | None:
    async def put(node: Node) -> int | None:
        from ccn_mcp.node.plates import Original, set_plate

        original = Original(imported.format.value, tuple(read))
        return (await set_plate(node.ctx, node.caller, imported.plate, original)).seq

    return output.on_node(chosen, put)


def _convert(read: list[tuple[str, bytes]], files: list[str], user: str | None) -> Imported:
    from ccn_mcp.domain.plate_imports import USER, convert_files

    try:
        return convert_files(read, user=USER if user is None else user)
    except BadPlate as exc:
        raise BadPlate(f"{', '.join(files)}: {exc}") from exc


def _show(imported: Imported) -> None:
    """What will be applied, what was taken over, what was not: before anybody is asked."""
    from ccn_mcp.domain.plate import render_plate

    output.say("What an instance would read:", "bold")
    for line in render_plate(imported.plate).split("\n"):
        output.say(f"  {line}")
    output.say()
    output.say(f"Format      {imported.format.value}", "bold")
    for title, lines in (
        ("Taken over:", imported.mapped),
        ("Not taken over:", imported.unmapped),
        ("Notes:", imported.notes),
    ):
        if lines:
            output.say(title, "bold")
            for line in lines[:LISTED_MAX]:
                output.tell(f"- {output.one_line(line, LINE_CHARS_MAX)}", indent="  ")
            if len(lines) > LISTED_MAX:
                output.say(f"  … and {len(lines) - LISTED_MAX:,} more")
    output.say()


# ---- the original --------------------------------------------------------------------------------------


def write_original(chosen: Settings, out: str, *, as_json: bool) -> None:
    """Write what the Plate in force was imported from: a file, or a folder for several.

    Raises:
        NotFound: it was not imported. Conflict: there is something at `out`.
    """

    async def read(node: Node) -> Original | None:
        from ccn_mcp.node.plates import original_of

        return await original_of(node.ctx, await node.plate())

    original = output.on_node(chosen, read)
    if original is None or not original.files:
        raise NotFound("the Plate in force was not imported; ccn-mcp plate show --raw prints its own file")
    path = Path(out).expanduser()
    if len(original.files) == 1:
        written = [path]
    else:
        names = [_plain_name(name, number) for number, (name, _) in enumerate(original.files, 1)]
        if len(set(names)) < len(names):
            names = [f"{number}-{name}" for number, name in enumerate(names, 1)]
        written = [path / name for name in names]
        _make_folder(path)
    for target, (_, content) in zip(written, original.files, strict=True):
        write_new(target, content)
    if as_json:
        output.emit({"format": original.format, "files": [str(target) for target in written]})
        return
    for target, (_, content) in zip(written, original.files, strict=True):
        output.say(f"{target} ({output.size(len(content))}, {original.format})")


def _plain_name(name: str, number: int) -> str:
    """A name from the record that leads nowhere else: it was somebody's input once."""
    plain = re.sub(r"[^\w.-]", "_", re.split(r"[/\\]", name)[-1], flags=re.ASCII).lstrip(".")[:100]
    return plain or f"original-{number}"


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError as exc:
        raise Conflict(f"{path} exists; name a new folder, there are several files") from exc
    except (OSError, ValueError) as exc:
        raise BadInput(f"cannot make the folder {path}: {getattr(exc, 'strerror', None) or exc}") from exc


def write_new(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read; one that exists stays as it is.

    Raises:
        Conflict: it exists. BadInput: it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(data)
    except FileExistsError as exc:
        raise Conflict(f"{path} exists; name another file, nothing was written") from exc
    except (OSError, ValueError) as exc:
        raise BadInput(f"cannot write {path}: {getattr(exc, 'strerror', None) or exc}") from exc
