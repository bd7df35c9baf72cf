"""`ccn-mcp backup` and `ccn-mcp restore`: a checked copy of the store in one file, and a store made from it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.export import SIDE_FILES
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import BadInput, Conflict, Refused, StoreBusy

if TYPE_CHECKING:
    from ccn_mcp.settings import Settings
    from ccn_mcp.store.sqlite.backup import BackedUp, Progress
    from ccn_mcp.store.sqlite.restore import Restored, Restoring

WORD: Final = "restore"
PRIVACY: Final = (
    "It holds the whole record: every message, Plate and report. Keep it where only you can read it. What is erased "
    "from the store later stays in this file: delete it then."
)


def backup(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FOLDER",
            help="Where to write. In a folder it gets a name with the time; a name that is not there and has no "
            "ending, or ends with a slash, is a folder to be made.",
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Copy the store to one file, and check the copy.

    Clients may go on writing meanwhile. The copy holds the whole record; only you can read it.
    """
    from ccn_mcp.store.sqlite.backup import backup as write

    chosen = output.load_settings(db)
    path = _named(target)
    _check_target(path, force, chosen.db)
    with _folder(path.parent), _told() as progress:
        done = write(chosen.db, path, replace=force, progress=progress)
    if as_json:
        output.emit(_backup_document(done))
        return
    found = done.checked
    output.say(f"{done.path}", "bold")
    output.say(f"Size     {output.size(done.size)}, checked: {output.amount(found.messages, 'message')}")
    output.say(f"Entries  {found.entries:,}")
    output.say(f"Head     {found.head}")
    output.tell(PRIVACY)
    output.say(f"To restore it:  ccn-mcp restore {done.path}")


def _named(target: str) -> Path:
    path = Path(target).expanduser().absolute()
    as_folder = target.endswith(tuple(filter(None, (os.sep, os.altsep))))
    if as_folder and path.exists() and not path.is_dir():
        raise BadInput(f"{path} is no folder; choose another place")
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder {path.parent}; make it first, or choose another place")
    if path.is_dir() or as_folder or not (path.suffix or path.exists() or path.is_symlink()):
        return path / time.strftime("ccn-%Y%m%d-%H%M%S.db", time.gmtime())
    return path


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make the folder, for the owner alone, if there is none; it goes again if nothing comes into it."""
    made = not folder.exists()
    if made:
        folder.mkdir(0o700)
    try:
        yield
    except BaseException:
        if made:
            with suppress(OSError):
                folder.rmdir()  # an empty one only
        raise


def _check_target(path: Path, force: bool, store: Path) -> None:
    real = store.resolve()
    if path.resolve() in {real.with_name(real.name + suffix) for suffix in SIDE_FILES}:
        raise BadInput(f"{path} belongs to the store itself; choose another place")
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} is no regular file; choose another place")
    if path.is_symlink() or (path.exists() and not force):
        raise Conflict(
            f"{path} exists; nothing was written. Choose another place, or replace it with --force"
        )


def _backup_document(done: BackedUp) -> dict[str, object]:
    found = done.checked
    return {
        "file": str(done.path),
        "bytes": done.size,
        "store_id": done.store_id.hex(),
        "entries": found.entries,
        "messages": found.messages,
        "erased": found.erased,
        "head": str(found.head),
    }


def restore(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file that `ccn-mcp backup` wrote.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="PATH", help="Where the store goes. Default: CCN_DB, else the user data folder."
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Move a store that is there aside without asking. Not in Claude Code."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a store from a backup, with every entry as it was.

    The new store has an identity of its own and names the old one and its head, so that it cannot pass for it. A store
    that is there already is moved aside, never deleted.
    """
    from ccn_mcp.store.sqlite import connect
    from ccn_mcp.store.sqlite.restore import restoring

    chosen = output.load_settings(to)
    backup_file = Path(file).expanduser().absolute()
    if backup_file.is_file() and not connect.is_empty(chosen.db):
        _may_replace(chosen, yes)
    with _told() as progress, restoring(backup_file, chosen.db, progress) as ready:
        aside = None
        if ready.present is not None:
            _may_replace(chosen, yes)
            aside = _aside(ready.target)
            progress("", 0, 0)
            if not yes:
                _confirm(ready, aside)
        done = _build(ready, chosen, aside)
    if as_json:
        output.emit(_restore_document(done))
    else:
        _report(done)


def _build(ready: Restoring, chosen: Settings, aside: Path | None) -> Restored:
    from ccn_mcp.app import keeper_of, secret_of

    keeper = keeper_of(chosen)
    ready.build(
        time.time_ns() // 1_000, secret_of(chosen), lambda store_id: keeper.key(store_id, create=True)
    )
    try:
        return ready.put_in_place(aside)
    except StoreBusy as busy:
        from ccn_mcp.cli.doctor_checks import processes

        raise StoreBusy(f"{busy}. {' '.join(found.found for found in processes(chosen))}") from busy


def _aside(target: Path) -> Path:
    return target.with_name(f"{target.name}.before-restore-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")


def _may_replace(chosen: Settings, yes: bool) -> None:
    """Whether a store that is there may be moved aside at all: the person's act alone.

    Raises:
        Refused.
    """
    there = f"there is a store at {chosen.db} already"
    if chosen.inside_claude_code:
        raise Refused(
            f"{there}, and putting another one in its place is the person's own act; this runs inside Claude Code. "
            "Open a terminal of your own, or restore to another place with --to"
        )
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(
            f"{there}, and moving it aside needs a person at a terminal. Run this without pipes, restore to another "
            "place with --to, or say --yes"
        )


def _confirm(ready: Restoring, aside: Path) -> None:
    """Show what goes and what comes, and ask for the word.

    Raises:
        Refused: something else was typed.
    """
    present, found = ready.present, ready.checked
    if present is None:
        return
    holds = (
        f"{present.head.size:,} entries, head {present.head}"
        if present.head
        else "something that cannot be read"
    )
    lines = [
        f"There is a store at {present.path} already: {holds}, {output.size(present.size)}.",
        f"The backup holds {found.entries:,} entries, head {found.head}. What was recorded after it is not in it.",
        f"The store that is there will be kept as {aside.name}, and the restored one takes its place.",
    ]
    if present.erased_since:
        lines.append(
            f"{output.amount(len(present.erased_since), 'erasure')} since the backup will be done again."
        )
    lines += ["Nothing has been changed yet.", ""]
    sys.stderr.write(output.shown("\n".join(lines)))
    sys.stderr.write(f"To go on, type the word {WORD}: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != WORD:
        raise Refused("that is not the word; nothing was changed")


def _restore_document(done: Restored) -> dict[str, object]:
    found, past = done.checked, done.past
    return {
        "db": str(done.path),
        "store_id": done.store_id.hex(),
        "head": str(found.head),
        "entries": found.entries,
        "messages": found.messages,
        "erased": found.erased,
        "erased_again": done.erased_again,
        "restored_from": {
            "store_id": past.store_id.hex(),
            "head": str(past.head),
            "entries": past.head.size,
        },
        "moved_to": str(done.moved) if done.moved is not None else None,
    }


def _report(done: Restored) -> None:
    found = done.checked
    output.say(f"Restored to {done.path}", "bold green")
    output.say(f"Messages     {found.messages:,}")
    output.say(f"Erased       {found.erased:,} entries, of every kind")
    if done.erased_again:
        output.say(f"Erased again {done.erased_again:,}, which the backup still held")
    output.say(f"Came from    {done.past.store_id.hex()}, head {done.past.head}")
    output.say(f"Now          {done.store_id.hex()}")
    output.say(f"Head         {found.head}")
    if done.moved is not None:
        output.say(f"Before       kept as {done.moved}")
    output.tell(
        "Keep the new head. Heads of the old store do not match this one, by design: `ccn-mcp verify --known-head` "
        "tells where they belong. Restart the clients that were open."
    )


@contextmanager
def _told() -> Iterator[Progress]:
    """A progress bar where stderr is a terminal; it goes away when the work is done, or is asked to (no name)."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(what: str, done: int, total: int) -> None:
            if not what:
                bar.stop()
            else:
                bar.update(task, description=what, completed=done, total=total)

        yield tell
