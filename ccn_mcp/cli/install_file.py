"""One entry in a client's JSON file: everything else keeps its bytes, and it changes at once or not at all."""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ccn_mcp.cli import json_text
from ccn_mcp.cli.json_text import Json
from ccn_mcp.domain.errors import BadInput, Conflict, Refused

SERVERS: Final = "mcpServers"
BYTES_MAX: Final = 16 * 1024 * 1024
BACKUPS_MAX: Final = 1_000
OURS: Final = ("ccn-mcp", "ccn_mcp")
KEYS: Final = {"type", "command", "args"}
"""Of an entry, as we write it."""

BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Change:
    """A file as it is and as it is to be. `old` None means that there is none yet, `new` None that it goes."""

    path: Path
    old: bytes | None
    new: bytes | None
    surplus: Path | None = None
    """A backup that says nothing any more once `new` is written."""

    only_ours: bool = False
    """Whether `old` is, byte for byte, a file that we made: no copy of it is worth keeping."""

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return (self.new or b"") != (self.old or b"")

    def diff(self) -> str:
        """The difference, for people."""
        if not self.changes:
            return ""
        return "\n".join(
            difflib.unified_diff(
                _decoded(self.old or b"", self.path).splitlines(),
                _decoded(self.new or b"", self.path).splitlines(),
                f"{self.path.name} now" if self.old is not None else "no file yet",
                f"{self.path.name} then" if self.new is not None else "no file then",
                lineterm="",
            )
        )


# ---- what is to change ---------------------------------------------------------------------------------


def inserted(file: Path, name: str, entry: Json, servers: str = SERVERS, *, comments: bool = False) -> Change:
    """The file with our entry in it; what a person added to an earlier one (such as env) stays.

    `servers` is the key under which this client keeps them; `comments`: whether it reads JSON with comments.

    Raises:
        BadInput: not a JSON object. Conflict: another program has the name.
    """
    path, old = _read(file)
    text = _decoded(old or b"", path)
    document = _parsed(text, path, comments=comments)
    kept = document.get(servers, {})
    if not isinstance(kept, dict):
        raise BadInput(f"{servers} in {path} is not an object; nothing was changed. Mend it by hand first")
    before = kept.get(name)
    if before is not None and not is_ours(before):
        raise Conflict(
            f"{path} has a server named {name!r} that is not this program; nothing was changed. Rename that one first"
        )
    wanted = dict(entry)
    if before is not None and "--db" not in wanted["args"]:
        # Whoever chose a store there is not to lose it by installing again.
        wanted["args"] = [*wanted["args"], *_store_of(before)]
    if before is not None and before == {**before, **wanted}:
        return Change(path, old, old or b"")
    if before is None:
        new = json_text.put(text, (servers, name), wanted)
    else:
        new = text
        for key, value in wanted.items():
            if before.get(key) != value:
                new = json_text.put(new, (servers, name, key), value)
    document[servers] = {**kept, name: {**(before or {}), **wanted}}
    _must_say(new, document, path, comments=comments)
    return Change(path, old, new.encode(), only_ours=_is_only_ours(old, (servers, name), before))


def removed(file: Path, name: str, servers: str = SERVERS, *, comments: bool = False) -> Change:
    """The file without our entry; byte for byte as it was before us where nothing else has changed since.

    A file that holds what we made and nothing else goes altogether.

    Raises:
        BadInput: not a JSON object. Conflict: the entry is another program's.
    """
    path, old = _read(file)
    text = _decoded(old or b"", path)
    document = _parsed(text, path, comments=comments)
    kept = document.get(servers)
    if not isinstance(kept, dict) or name not in kept:
        return Change(path, old, old or b"")
    if not is_ours(kept[name]):
        raise Conflict(f"the server named {name!r} in {path} is not this program; nothing was changed")
    for backup in reversed(_backups(path)):
        with suppress(BadInput, Conflict, OSError):
            before = inserted(backup, name, kept[name], servers, comments=comments)
            # One that has our entry itself is not how it was before us.
            if before.new == old and not removed(backup, name, servers, comments=comments).changes:
                return Change(path, old, backup.read_bytes(), surplus=backup)
    if _is_only_ours(old, (servers, name), kept[name]):
        return Change(path, old, None, only_ours=True)
    new = json_text.drop(text, (servers, name))
    del kept[name]
    _must_say(new, document, path, comments=comments)
    return Change(path, old, new.encode())


def _must_say(text: str, document: Json, path: Path, *, comments: bool) -> None:
    """Go on only with a text that says what it should: the edit was made in the text itself.

    Raises:
        Refused.
    """
    try:
        says = json_text.parsed(json_text.without_comments(text) if comments else text)
    except ValueError:
        says = None
    if says != document:
        raise Refused(
            f"{path} is written in a way that this program does not change; nothing was changed. Edit it by hand"
        )


def _is_only_ours(old: bytes | None, place: tuple[str, str], entry: Json | None) -> bool:
    """Whether a file is what we make where there is none, and nobody has added to our entry."""
    if old is None or entry is None or not {*entry} <= KEYS:
        return False
    return old == json_text.put("", place, entry).encode()


def is_ours(entry: object) -> bool:
    """Whether an entry starts this program."""
    if not isinstance(entry, dict):
        return False
    arguments = entry.get("args")
    words = [entry.get("command"), *(arguments if isinstance(arguments, list) else [])]
    names = [re.split(r"[\\/]", word)[-1].removesuffix(".exe") for word in words if isinstance(word, str)]
    return any(name in OURS for name in names)


def _store_of(entry: Json) -> list[str]:
    arguments = entry.get("args")
    if isinstance(arguments, list) and "--db" in arguments[:-1]:
        at = arguments.index("--db")
        return [str(word) for word in arguments[at : at + 2]]
    return []


# ---- reading -------------------------------------------------------------------------------------------


def _read(file: Path) -> tuple[Path, bytes | None]:
    """Where the file really is (a link stays a link), and what is in it."""
    try:
        path = file.resolve()
        about = path.stat()
    except FileNotFoundError:
        return path, None
    except RuntimeError as exc:  # how Python 3.11 reports links in a circle
        raise BadInput(f"{file} is a link to itself; nothing was changed") from exc
    if not stat.S_ISREG(about.st_mode):
        raise BadInput(f"{path} is no regular file; nothing was changed")
    if about.st_size > BYTES_MAX:
        raise BadInput(f"{path} has {about.st_size:,} bytes and is no configuration; nothing was changed")
    return path, path.read_bytes()


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.removeprefix(BOM).decode()
    except UnicodeDecodeError as exc:
        raise BadInput(
            f"{path} is not UTF-8 (byte {exc.start}); nothing was changed. Save it as UTF-8, then do this again"
        ) from exc


def _parsed(text: str, path: Path, *, comments: bool) -> Json:
    """The document; nothing and an empty file are an empty one.

    Raises:
        BadInput: not JSON, with the position.
    """
    try:
        return json_text.parsed(json_text.without_comments(text) if comments else text)
    except json.JSONDecodeError as exc:
        line, column = text.count("\n", 0, exc.pos) + 1, exc.pos - text.rfind("\n", 0, exc.pos)
        hint = "" if comments else _comment(text, exc.pos)
        raise BadInput(
            f"{path} is not JSON: line {line}, column {column}: {exc.msg}{hint}. "
            "Nothing was changed; mend it by hand first"
        ) from exc
    except (ValueError, RecursionError) as exc:
        raise BadInput(
            f"{path} is not plain JSON: {exc}; nothing was changed. Mend it by hand first"
        ) from exc


def _comment(text: str, position: int) -> str:
    rest = text[position:].lstrip()
    return " (JSON has no comments)" if rest.startswith(("//", "/*", "#")) else ""


# ---- writing -------------------------------------------------------------------------------------------


def write(change: Change) -> Path | None:
    """Put the change in place and return the backup, if there was anything to keep.

    Raises:
        Refused: the file is read-only. Conflict: it changed meanwhile.
    """
    path, mode = change.path, 0o600
    if change.old is not None:
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & stat.S_IWUSR or not os.access(path, os.W_OK):
            raise Refused(f"{path} is read-only; nothing was changed. Make it writable, then do this again")
    said = (change.old or b"").removeprefix(BOM).strip()
    keeps = bool(said) and change.surplus is None and not change.only_ours
    backup = _back_up(path, change.old) if keeps and change.old is not None else None
    if change.new is None:
        _must_be_as_read(change)
        path.unlink()
    else:
        _replace(change, change.new, mode)
    if change.surplus is not None:
        change.surplus.unlink(missing_ok=True)
    return backup


def _must_be_as_read(change: Change) -> None:
    if (change.path.read_bytes() if change.path.exists() else None) != change.old:
        raise Conflict(f"{change.path} was changed by another program at this moment; do this again")


def _replace(change: Change, new: bytes, mode: int) -> None:
    path = change.path
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as exc:
        raise Refused(f"cannot write in {path.parent}: {exc.strerror}; nothing was changed") from exc
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(new)
            target.flush()
            os.fsync(target.fileno())
        part.chmod(mode)
        _must_be_as_read(change)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _backups(path: Path) -> list[Path]:
    """Our backups of the file, oldest first."""
    return [backup for backup in map(_backup(path), range(BACKUPS_MAX)) if backup.is_file()]


def _backup(path: Path) -> Any:
    def numbered(number: int) -> Path:
        return path.with_name(f"{path.name}.before-ccn" + (f"-{number + 1}" if number else ""))

    return numbered


def _back_up(path: Path, data: bytes) -> Path:
    """A copy that only the owner reads (a configuration may hold keys); an earlier one is never replaced."""
    for number in range(BACKUPS_MAX):
        backup: Path = _backup(path)(number)
        if backup.is_file() and backup.read_bytes() == data:
            return backup
        try:
            handle = os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        except OSError as exc:
            raise Refused(
                f"cannot write a backup beside {path}: {exc.strerror}; nothing was changed"
            ) from exc
        with os.fdopen(handle, "wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        return backup
    raise Refused(f"there are {BACKUPS_MAX:,} backups beside {path}; remove some, then do this again")
