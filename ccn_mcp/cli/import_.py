"""`ccn-mcp import`: bring in what was said elsewhere: Claude Code's transcripts, exports of accounts, plain JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import BadInput, NotFound

if TYPE_CHECKING:
    from ccn_mcp.domain.imported import Chat, Item, Options, Said
    from ccn_mcp.node.imports import Importer
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.results import Imported

SUFFIXES: Final = (".jsonl",)
EXPORTED: Final = "conversations*.json"
REASONS_SHOWN_MAX: Final = 40
WHERE_CHARS_MAX: Final = 120

Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE|FOLDER]...",
        help="Transcripts, conversations.json or the export's zip, JSON, JSONL; or a folder of them; or a project's "
        "folder, for its Claude Code transcripts.",
    ),
]
ClaudeCode = Annotated[
    bool, typer.Option("--claude-code", help="All transcripts that Claude Code keeps on this machine.")
]
Form = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="claude-code, claude-export, openai, jsonl or ccn-export. Default: what each file shows.",
    ),
]
Scope = Annotated[
    str | None,
    typer.Option(
        "--scope",
        metavar="NAME",
        help="Scope of new conversations; `.` is the folder that you are in. Default: a transcript's project, "
        "the scope in our own export, else `default`.",
    ),
]
Tools = Annotated[bool, typer.Option("--tools", help="Also a line for each use of a tool (role tool).")]
Thinking = Annotated[bool, typer.Option("--thinking", help="Also what the model thought, marked as such.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count what would come in; change nothing.")]


def import_(
    paths: Paths = None,
    claude_code: ClaudeCode = False,
    form: Form = None,
    scope: Scope = None,
    tools: Tools = False,
    thinking: Thinking = False,
    dry_run: DryRun = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Import conversations from elsewhere into the record, each message once.

    Entries are marked as imported and keep their original ids and times. Running it again adds only what is new, so
    an import that was interrupted goes on. Secrets of known formats are masked.
    """
    from ccn_mcp import settings
    from ccn_mcp.cli.scopes import named
    from ccn_mcp.domain.imported import Options
    from ccn_mcp.interop.formats import FORMATS

    if form is not None and form not in FORMATS:
        raise BadInput(f"--format is {form[:40]!r}; use one of: {', '.join(FORMATS)}")
    wanted = list(paths or ())
    if not (wanted or claude_code):
        raise BadInput(
            "name files or folders to import, or --claude-code for every transcript that Claude Code keeps here"
        )
    files = files_of(wanted)
    if claude_code:
        kept = settings.transcripts_folder()
        files = list(dict.fromkeys([*files, *_transcripts(kept)]))
        _check_number(len(files))
        if not (files or as_json):
            output.tell(f"Claude Code has kept no transcripts here ({kept}); nothing to import.")
            return
    chosen = output.load_settings(db)

    async def work(node: Node) -> Imported:
        importer = importer_on(node, scope=named(scope) if scope is not None else None, dry_run=dry_run)
        with output.bar("Importing", shown=True) as progress:
            await _feed(importer, files, Options(tools, thinking), form, progress)
        return await importer.finish()

    done = output.on_node(chosen, work)
    if as_json:
        output.emit({"files": len(files), **done})
    else:
        _report(done, len(files))


def importer_on(node: Node, *, scope: str | None = None, dry_run: bool = False) -> Importer:
    """An importer that leaves out what the person does not want recorded: excluded folders, private sessions."""
    from ccn_mcp import settings
    from ccn_mcp.node.imports import Importer

    chosen = node.ctx.settings
    return Importer(
        node.ctx,
        node.caller,
        scope=scope,
        scope_of=settings.scope_of,
        may_record=lambda folder: settings.is_excluded(Path(folder), chosen) is None,
        withheld=_private_in(settings.config_folder(chosen)),
        name_of=_of_hook,
        dry_run=dry_run,
    )


def _private_in(config: Path) -> Callable[[Chat, Said], bool]:
    """Whether a message of Claude Code's was said in private, as the hooks have noted it."""
    from ccn_mcp.interop import privacy, transcripts

    marks_of = lru_cache(64)(partial(privacy.marks, config))

    def was_private(chat: Chat, said: Said) -> bool:
        if chat.format != transcripts.FORMAT:
            return False
        marks = marks_of(chat.session)
        return bool(marks) if said.said_us is None else privacy.was_private(marks, said.said_us)

    return was_private


def _of_hook(chat: Chat, said: Said, piece: str, part: int) -> str | None:
    """The key of a hook that has recorded this, or will: whoever comes second adds nothing."""
    from ccn_mcp.interop.recording import key_of

    return key_of(chat.session, said.prompt, said.role, piece, said.nth, part) if said.prompt else None


# ---- files ---------------------------------------------------------------------------------------------


def files_of(wanted: list[str]) -> list[Path]:
    """The files that were named, and those in folders, oldest first in each.

    Raises:
        NotFound: nothing is there. BadInput: there are too many.
    """
    found: dict[Path, None] = {}
    for name in wanted:
        if "\0" in name:
            raise NotFound("a path has U+0000 in it; check the path")
        path = Path(name).expanduser().absolute()
        if path.is_dir() or _kept_for(path).is_dir():
            inside = _in_folder(path)
            if not inside:
                raise NotFound(
                    f"there is nothing to import in {path}: no transcripts (*.jsonl), no conversations.json, and "
                    "Claude Code keeps none for it"
                )
            found.update(dict.fromkeys(inside))
        elif path.is_file():
            found[path] = None
        else:
            raise NotFound(f"there is no file or folder {name}; check the path")
        _check_number(len(found))
    return list(found)


def _check_number(files: int) -> None:
    from ccn_mcp.domain.limits import IMPORT_FILES_MAX

    if files > IMPORT_FILES_MAX:
        raise BadInput(f"more than {IMPORT_FILES_MAX:,} files; import a folder that holds fewer at a time")


def _in_folder(folder: Path) -> list[Path]:
    exported = sorted(path for path in folder.glob(EXPORTED) if path.is_file())
    if exported:
        return exported
    # What Claude Code keeps for a project's folder goes before whatever lies in that folder itself.
    kept = _kept_for(folder)
    return _transcripts(kept if kept.is_dir() else folder)


def _kept_for(folder: Path) -> Path:
    """Where Claude Code keeps the transcripts of this project, which may itself be gone."""
    from ccn_mcp import settings
    from ccn_mcp.interop.transcripts import encoded

    return settings.transcripts_folder() / encoded(str(folder))


def _transcripts(folder: Path) -> list[Path]:
    timed: list[tuple[float, Path]] = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            if path.suffix in SUFFIXES and path.is_file():
                timed.append((path.stat().st_mtime, path))
        _check_number(len(timed))
    return [path for _, path in sorted(timed)]


async def _feed(
    importer: Importer,
    files: list[Path],
    options: Options,
    form: str | None,
    progress: Callable[[int, int], None],
) -> None:
    total = max(1, sum(path.stat().st_size for path in files))
    before = 0
    for path in files:
        try:
            source = path.open("rb")
        except OSError as exc:
            raise BadInput(f"cannot read {path}: {exc.strerror}; check its permissions") from exc
        with source:
            found = _items(source, path.name, options, form, alone=len(files) == 1)
            await importer.feed(found, partial(_tell, progress, source, before, total))
            before += source.seek(0, os.SEEK_END)


def _tell(progress: Callable[[int, int], None], source: BinaryIO, before: int, total: int) -> None:
    progress(before + source.tell(), total)


def _items(source: BinaryIO, name: str, options: Options, form: str | None, *, alone: bool) -> Iterator[Item]:
    """What a file holds; one of many that cannot be imported is counted, and the others go on.

    Raises:
        BadInput: the only file cannot be imported.
    """
    from ccn_mcp.domain.imported import Skipped
    from ccn_mcp.interop.formats import items

    try:
        yield from items(source, name, options, form)
    except BadInput as error:
        if alone:
            raise
        yield Skipped(f"a file that cannot be imported ({error.code})", f"{name}: {error}")


# ---- what came of it -----------------------------------------------------------------------------------


def _report(done: Imported, files: int) -> None:
    dry = done["dry_run"]
    output.say(
        f"{'Would import' if dry else 'Imported'} {output.amount(done['imported'], 'message')} in "
        f"{output.amount(done['conversations'], 'conversation')} from {output.amount(files, 'file')}.",
        "green",
    )
    if done["already_there"]:
        output.say(f"Already there: {output.amount(done['already_there'], 'message')}")
    for count, what in (
        (done["masked_secrets"], "secrets masked"),
        (done["replaced_characters"], "characters replaced that cannot be stored (U+FFFD)"),
        (done["split_messages"], "messages split, being longer than one may be"),
    ):
        if count:
            output.say(f"{count:,} {what}")
    if done["skipped"]:
        output.say("Left out:", "bold")
    for reason, count in list(done["skipped"].items())[:REASONS_SHOWN_MAX]:
        where = done["first_skipped"].get(reason)
        first = f" (first: {output.one_line(where, WHERE_CHARS_MAX)})" if where else ""
        output.tell(f"{count:,} {output.one_line(reason)}{first}", indent="  ")
    if len(done["skipped"]) > REASONS_SHOWN_MAX:
        output.say("  … and other reasons: --json shows them all")
    output.say("Nothing was changed." if dry else f"Head  {done['head']}")
