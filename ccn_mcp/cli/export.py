"""`ccn-mcp export`: write the record, or one conversation, as JSON lines or Markdown."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TextIO

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.bundle import Bundle, export_bundle
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import BadInput, Conflict

if TYPE_CHECKING:
    from ccn_mcp.node.node import Node
    from ccn_mcp.ports import Progress

SIDE_FILES: Final = ("", "-wal", "-shm", ".lock", ".queue")

Id = Annotated[str | None, typer.Argument(metavar="[CONVERSATION_ID]", help="Only this conversation.")]
Form = Annotated[str, typer.Option("--format", metavar="jsonl|markdown", help="What to write.")]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file, which only you can read."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]


def export(
    conversation_id: Id = None,
    form: Form = "jsonl",
    file: Output = None,
    force: Force = False,
    bundle: Bundle = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Write conversations as JSON lines or Markdown, or everything as a bundle that anybody can check.

    All of them, or the one that is named, as the record stands at this moment. The format is ccn.export/1.
    """
    if bundle is not None:
        if conversation_id is not None or file is not None or force:
            raise BadInput("a bundle is the whole record in a new folder; use --bundle without the others")
        export_bundle(bundle, output.load_settings(db), as_json)
        return
    if as_json and file is None:
        raise BadInput(
            "without --output the export itself is printed; add --output FILE, or leave --json out"
        )
    chosen = output.load_settings(db)

    async def lines(node: Node, progress: Progress) -> AsyncIterator[str]:
        from ccn_mcp.node.exports import export_lines

        await output.must_exist(node)
        async for line in export_lines(
            node.ctx, conversation_id=conversation_id, form=form, progress=progress
        ):
            yield line

    async def write(node: Node) -> int:
        with output.bar("Exporting", shown=file is not None) as progress:
            return await save(lines(node, progress))

    async def save(source: AsyncIterator[str]) -> int:
        # The first line shows that the request is a good one, before any file is touched.
        first = await anext(source)
        with _target(file, force, chosen.db) as target:
            target.write(first + "\n")
            count = 0
            async for line in source:
                target.write(line + "\n")
                count += 1
        return count

    count = output.on_node(chosen, write)
    if file is None:
        return
    what = {"messages": count} if form == "jsonl" else {"lines": count + 1}
    if as_json:
        output.emit({"file": str(Path(file).absolute()), "format": form, **what})
    else:
        name, number = next(iter(what.items()))
        output.say(f"{number:,} {name} written to {file}")


@contextmanager
def _target(file: str | None, force: bool, store: Path) -> Iterator[TextIO]:
    """Where the lines go: stdout, or a file that appears whole or not at all."""
    if file is None:
        yield sys.stdout
        return
    path = Path(file).expanduser().absolute()
    _check_target(path, force, store)
    from ccn_mcp.store.sqlite import beside

    # In the same folder, so that putting it in place is one step; mkstemp makes it 0600.
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    except OSError as exc:
        raise BadInput(f"cannot write in {path.parent}: {exc.strerror}; choose another --output") from exc
    part = Path(name)
    try:
        # The words outside: what is still in the buffer is written when the file is closed.
        with beside.disk_words(path), os.fdopen(handle, "w", encoding="utf-8", newline="\n") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        if force:
            part.replace(path)
        else:
            _put_in_place(part, path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _check_target(path: Path, force: bool, store: Path) -> None:
    if any(_same(path, store.with_name(store.name + suffix)) for suffix in SIDE_FILES):
        raise BadInput(f"{path} belongs to the store itself; choose another --output")
    if path.is_dir():
        raise BadInput(f"{path} is a folder; name a file in it, such as {path / 'record.jsonl'}")
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} is no regular file; leave --output out and redirect stdout instead")
    if os.path.lexists(path) and not force:
        raise _exists(path)


def _same(path: Path, other: Path) -> bool:
    with suppress(OSError):
        return path == other or path.samefile(other)
    return False


def _put_in_place(part: Path, path: Path) -> None:
    try:
        os.link(part, path)  # unlike a rename, fails if somebody made the file meanwhile
    except FileExistsError as exc:
        raise _exists(path) from exc
    except OSError:  # a file system without hard links
        part.rename(path)


def _exists(path: Path) -> Conflict:
    return Conflict(
        f"{path} exists; nothing was written. Choose another --output, or replace it with --force"
    )
