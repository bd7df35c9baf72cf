"""`ccn-mcp exclude`: folders whose sessions are not recorded."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ccn_mcp import exclusion
from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson
from ccn_mcp.domain.errors import BadInput, NotFound, Refused

if TYPE_CHECKING:
    from ccn_mcp.settings import Settings

Folder = Annotated[
    str | None,
    typer.Argument(metavar="[FOLDER]", help="The folder, with everything in it. Default: this one."),
]
List = Annotated[bool, typer.Option("--list", help="Show the excluded folders and change nothing.")]
Remove = Annotated[bool, typer.Option("--remove", help="Take FOLDER off the list: record there again.")]


def exclude(
    folder: Folder = None, show: List = False, remove: Remove = False, as_json: AsJson = False
) -> None:
    """Exclude a folder from recording.

    Sessions that start in it get your Plate, and leave nothing in the record. What was recorded there before stays.
    """
    from ccn_mcp import settings

    if show and (remove or folder is not None):
        raise BadInput("--list goes alone; it shows every excluded folder")
    chosen = output.load_settings(None)
    file = settings.excluded_file(chosen)
    listed = exclusion.read(file)
    if show:
        _show(listed, settings.excluded_by_variable(), file, as_json=as_json)
        return
    wanted = Path(folder).expanduser().absolute() if folder is not None else Path.cwd()
    if remove:
        done, said = _remove(wanted, listed, chosen, file)
    else:
        done, said = _add(wanted, listed, chosen, file)
    if as_json:
        output.emit({"folder": str(wanted), "changed": done, "file": str(file), "excluded": not remove})
        return
    for line in said:
        output.tell(line)


def _add(wanted: Path, listed: list[Path], chosen: Settings, file: Path) -> tuple[bool, list[str]]:
    from ccn_mcp import settings

    if not wanted.is_dir():
        raise NotFound(f"there is no folder {wanted}; check the name, or go there and leave FOLDER out")
    real = wanted.resolve()
    if (covering := settings.is_excluded(real, chosen)) is not None:
        return False, [f"{wanted} is excluded already, by {covering}."]
    exclusion.write(file, [*listed, real])
    later = (
        "A session that runs there now goes on recording until you restart it. What was recorded before stays; "
        f"ccn-mcp history --scope {shlex.quote(settings.scope_of(str(real)))} shows it."
    )
    return True, [f"{real} is excluded: sessions that start in it are not recorded.", later]


def _remove(wanted: Path, listed: list[Path], chosen: Settings, file: Path) -> tuple[bool, list[str]]:
    from ccn_mcp import settings

    if chosen.inside_claude_code:
        raise Refused(
            "having a folder recorded again is the person's own act, and this runs inside Claude Code. Open a terminal "
            f"of your own and run there: ccn-mcp exclude --remove {wanted}"
        )
    same = [one for one in listed if exclusion.covering(wanted, [one]) and exclusion.covering(one, [wanted])]
    kept = [one for one in listed if one not in same]
    if not same:
        by = settings.is_excluded(wanted, chosen)
        why = f"{by} excludes it" if by is not None else "it is recorded like every other"
        raise NotFound(f"{wanted} is not on the list ({why}); ccn-mcp exclude --list shows what is")
    exclusion.write(file, kept)
    if (by := settings.is_excluded(wanted, chosen)) is not None:
        return True, [f"{wanted} is off the list, but still excluded by {by} (ccn-mcp exclude --list)."]
    return True, [f"{wanted} is recorded again, by sessions that start from now on."]


def _show(listed: list[Path], by_variable: list[Path], file: Path, *, as_json: bool) -> None:
    if as_json:
        found: dict[str, Any] = {
            "folders": [str(one) for one in listed],
            "by_variable": [str(one) for one in by_variable],
            "file": str(file),
        }
        output.emit(found)
        return
    for one in listed:
        output.say(f"  {one}", "cyan")
    for one in by_variable:
        output.say(f"  {one}  ({exclusion.VARIABLE})", "cyan")
    if not (listed or by_variable):
        output.tell("No folder is excluded. To exclude one: ccn-mcp exclude FOLDER")
