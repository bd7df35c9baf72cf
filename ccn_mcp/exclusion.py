"""Folders that the person has excluded from recording: one file of theirs in the config folder, one folder a line.

`settings.load` asks it at the start of a process; `ccn-mcp exclude` changes it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.limits import EXCLUDED_FOLDERS_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

FILE: Final = "excluded"
VARIABLE: Final = "CCN_EXCLUDE"


def read(file: Path) -> list[Path]:
    """The folders in this file; none if there is no file. Empty lines and lines that begin with # are passed over.

    Raises:
        BadInput: it cannot be read or has something else in it. Going on would record what must not be.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise BadInput(
            f"{file} cannot be read ({exc.strerror}), so it is not known which folders may be recorded; repair its "
            "permissions, or move it away to record everywhere"
        ) from exc
    lines = [os.fsdecode(line).strip() for line in data.split(b"\n")]
    return parsed([line for line in lines if not line.startswith("#")], str(file))


def parsed(lines: Iterable[str], where: str) -> list[Path]:
    """Folders as a person writes them: in full, or from `~`.

    Raises:
        BadInput: one is not a full path, or there are too many.
    """
    found = []
    for line in filter(None, (line.strip() for line in lines)):
        folder = _expanded(line)
        if folder is None or not folder.is_absolute():
            raise BadInput(
                f"{where} names {line[:200]!r}, which is no full path; write it from the root, or from ~"
            )
        found.append(folder)
    if len(found) > EXCLUDED_FOLDERS_MAX:
        raise BadInput(
            f"{where} names {len(found):,} folders; at most {EXCLUDED_FOLDERS_MAX:,} are kept, name a parent"
        )
    return found


def _expanded(line: str) -> Path | None:
    try:
        return Path(line).expanduser()
    except RuntimeError:  # ~somebody who is not there
        return None


def write(file: Path, folders: Sequence[Path]) -> None:
    """Put these folders into the file (0600), whole or not at all.

    Raises:
        BadInput: it cannot be written, or has too many folders, or one with a line end in its name.
    """
    if len(folders) > EXCLUDED_FOLDERS_MAX:
        raise BadInput(
            f"at most {EXCLUDED_FOLDERS_MAX:,} folders can be excluded; exclude a folder that holds several"
        )
    for folder in folders:
        if any(mark in str(folder) for mark in "\r\n") or str(folder) != str(folder).strip():
            raise BadInput(
                "the folder's name has a line end or a space at its end; exclude the folder that it is in"
            )
    import tempfile  # not needed to read, and every hook reads

    try:
        file.parent.parent.mkdir(parents=True, exist_ok=True)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent)  # 0600
        draft = Path(name)
        try:
            with os.fdopen(handle, "wb") as target:
                target.write(b"".join(os.fsencode(folder) + b"\n" for folder in folders))
                target.flush()
                os.fsync(target.fileno())
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as exc:
        raise BadInput(
            f"the list of excluded folders cannot be kept in {file.parent} ({exc.strerror}); name a folder of yours "
            "with CCN_CONFIG_DIR"
        ) from exc


def covering(folder: Path, excluded: Iterable[Path]) -> Path | None:
    """The first of `excluded` that is `folder` or holds it, None if none does; links are followed."""
    place = _real(folder)
    around = [place, *place.parents]
    names = {_compared(one) for one in around}
    for one in excluded:
        real = _real(one)
        if _compared(real) in names or any(_same(real, other) for other in around):
            return one
    return None


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike `Path.resolve`, it raises for no loop of links


def _compared(path: Path) -> str:
    text = os.path.normcase(path)
    if sys.platform == "darwin":
        import unicodedata  # needed there only

        # Mac file systems take letters in either case and either way of writing accents, unless told otherwise.
        return unicodedata.normalize("NFC", text).casefold()
    return text


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False
