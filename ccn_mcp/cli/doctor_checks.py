"""What `doctor` looks at and leaves as it is: files, permissions, libraries, settings, other processes."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from ccn_mcp import __version__, settings
from ccn_mcp.cli.output import amount, size
from ccn_mcp.domain.errors import CcnError
from ccn_mcp.node.status import ERASURES_PENDING
from ccn_mcp.settings import Settings

SIDE_FILES: Final = ("", "-wal", "-shm", ".lock", ".queue")
LIBRARIES: Final = ("mcp", "anthropic", "aiosqlite", "numpy", "pydantic")
FREE_BYTES_MIN: Final = 200_000_000
WAL_BYTES_MAX: Final = 64_000_000
PROCESSES_SHOWN: Final = 10
TRIED: Final = ".ccn-doctor-"
CHOOSE: Final = (
    "give this account write access to it, or choose other folders with CCN_DB (or --db) and CCN_CONFIG_DIR"
)
ONLY_SESSION: Final = "Claude Code's only session is"

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was checked, what was found, what to do about it."""

    check: str
    status: Status
    found: str
    do: str = ""


Check = Callable[[Settings], Iterator[Finding]]


def carefully(check: Check, chosen: Settings) -> list[Finding]:
    """What a check finds; a check that breaks is itself a finding, and the others go on."""
    findings: list[Finding] = []
    try:
        findings.extend(check(chosen))
    except CcnError as error:
        findings.append(Finding(_name(check), "fail", f"{error.code}: {error}"))
    except Exception as error:  # noqa: BLE001  # whatever is broken here is what the person wants to know
        findings.append(
            Finding(_name(check), "fail", f"{type(error).__name__}: {error}", "please report this")
        )
    return findings


def _name(check: Check) -> str:
    return getattr(check, "__name__", "check").strip("_").replace("_", " ")


# ---- the program ---------------------------------------------------------------------------------------


def program(_: Settings) -> Iterator[Finding]:
    """Versions, read without importing anything."""
    python = platform.python_version()
    yield Finding(
        "ccn-mcp", "ok", f"{__version__}, Python {python}, {platform.system()} {platform.machine()}"
    )
    for name in LIBRARIES:
        try:
            yield Finding(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(
                name, "fail", "not installed", "install ccn-mcp again: uv sync, or pip install ccn-mcp"
            )


def sqlite(_: Settings) -> Iterator[Finding]:
    """SQLite's version and full-text search."""
    version = sqlite3.sqlite_version
    if has_wal_reset_race(sqlite3.sqlite_version_info):
        yield Finding(
            "SQLite",
            "warn",
            f"{version}: it has the WAL-reset race (3.7.0 to 3.51.2)",
            "ccn-mcp lets only one process at a time write or checkpoint (the turnstile), which avoids it. A Python "
            "with SQLite 3.51.3, 3.50.7 or 3.44.6 is still advised, and other programs should not write to the file",
        )
    else:
        yield Finding("SQLite", "ok", version)
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text)")
        except sqlite3.Error as error:
            yield Finding(
                "full-text search", "fail", str(error), "use a Python whose SQLite was built with FTS5"
            )
        else:
            yield Finding("full-text search", "ok", "FTS5 is there")


def has_wal_reset_race(version: Sequence[int]) -> bool:
    """3.7.0 to 3.51.2, except the lines that were mended: 3.44.6 and later, 3.50.7 and later."""
    now = tuple(version[:3])
    mended = (3, 44, 6) <= now < (3, 45, 0) or (3, 50, 7) <= now < (3, 51, 0)
    return (3, 7, 0) <= now < (3, 51, 3) and not mended


# ---- settings ------------------------------------------------------------------------------------------


def settings_in_force(chosen: Settings) -> Iterator[Finding]:
    """What is set and by what; ids of sessions are not shown."""
    env = os.environ  # noqa: TID251  # which variables are set, never what a secret is
    given = {name for name in settings.VARIABLES if env.get(name)}
    by_default = settings.load(environ={})
    in_env = env.get("CCN_DB")
    if in_env and chosen.db == settings.load(in_env, {}).db:
        db_from = "CCN_DB"
    else:
        db_from = "the user data folder" if chosen.db == by_default.db else "--db"
    yield Finding("store path", "ok", f"{chosen.db} (from {db_from})")
    scope_from: str | None = next(
        (name for name in ("CCN_SCOPE", "CLAUDE_PROJECT_DIR") if name in given), None
    )
    if scope_from is None:
        scope_from = "default" if chosen.scope == by_default.scope else "the folder, inside Claude Code"
    yield Finding("scope", "ok", f"{chosen.scope} ({scope_from})")
    yield Finding("character", "ok", f"{chosen.character} ({_origin('CCN_CHARACTER', given)})")
    yield Finding("lease", "ok", f"{chosen.lease_us // 1_000_000:,} s ({_origin('CCN_LEASE_S', given)})")
    yield Finding(
        "report freshness", "ok", f"{chosen.fresh_us // 1_000_000:,} s ({_origin('CCN_FRESH_S', given)})"
    )
    if chosen.inside_claude_code:
        yield Finding(
            "Claude Code",
            "ok",
            "this runs inside it (CLAUDECODE); acts that are the person's alone are refused",
        )


def _origin(name: str, given: set[str]) -> str:
    return name if name in given else "default"


# ---- files ---------------------------------------------------------------------------------------------


def files(chosen: Settings) -> Iterator[Finding]:
    """That the folder and files exist and that only this account can read them."""
    db = chosen.db
    folder = db.parent
    if folder.is_dir():
        yield from _private(folder, 0o700, "folder")
    else:
        yield _missing(folder, "folder")
    if db.is_dir():
        yield Finding("store", "fail", f"{db} is a folder", f"name a file in it: --db {db / 'ccn.db'}")
    elif not db.exists():
        yield Finding("store", "ok", f"{db} does not exist yet; the first message or load_plate creates it")
    else:
        for suffix in SIDE_FILES:
            path = db.with_name(db.name + suffix)
            if path.exists():
                yield from _private(path, 0o600, suffix or "store")
    yield from _space(folder)
    yield _config(settings.config_folder(chosen))


def _config(folder: Path) -> Finding:
    if not folder.is_dir():
        return _missing(folder, "config folder")
    if (refused := _refused(folder)) is not None:
        return Finding("config folder", "fail", f"nothing can be made in {folder}: {refused}", CHOOSE)
    return Finding("config folder", "ok", str(folder))


def _missing(folder: Path, what: str) -> Finding:
    """A folder that the first write is to make: whether it could."""
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if (refused := _refused(nearest)) is not None:
        return Finding(what, "fail", f"{folder} cannot be made ({nearest}: {refused})", CHOOSE)
    return Finding(what, "ok", f"{folder} does not exist yet; the first write makes it")


def _refused(folder: Path) -> str | None:
    """Why nothing can be made in this folder, by trying: on a read-only disk, permissions tell root nothing."""
    try:
        Path(tempfile.mkdtemp(prefix=TRIED, dir=folder)).rmdir()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _private(path: Path, most: int, what: str) -> Iterator[Finding]:
    about = path.stat()
    mode = stat.S_IMODE(about.st_mode)
    if sys.platform == "win32":
        yield Finding(what, "ok", f"{path} (permissions are the account's own on Windows)")
    elif about.st_uid != os.getuid():
        yield Finding(
            what, "warn", f"{path} belongs to another account", "keep the store in a folder of your own"
        )
    elif mode & ~most:
        yield Finding(
            what, "warn", f"{path} has permissions {mode:04o}: others can use it", f"chmod {most:o} '{path}'"
        )
    elif path.is_dir() and (refused := _refused(path)) is not None:
        yield Finding(what, "fail", f"nothing can be made in {path}: {refused}", CHOOSE)
    elif not os.access(path, os.R_OK | os.W_OK):
        yield Finding(what, "fail", f"{path} cannot be read and written", f"chmod u+rwX '{path}'")
    else:
        yield Finding(what, "ok", f"{path} ({mode:04o}{'' if path.is_dir() else f', {size(about.st_size)}'})")


def _space(folder: Path) -> Iterator[Finding]:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES_MIN:
        yield Finding("disk", "warn", f"{size(free)} free", "free some space: a full disk stops recording")
    else:
        yield Finding("disk", "ok", f"{size(free)} free")


def store_format(chosen: Settings) -> Iterator[Finding]:
    """That the file is ours, of a format that this program knows, and holds nothing that was to be erased."""
    from ccn_mcp.store.sqlite import connect, erasure

    db = chosen.db
    if db.is_dir() or not db.exists() or db.stat().st_size == 0:
        return
    with connect.our_words(db), closing(sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True)) as connection:
        version = connect.read_format(connection, db)
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        left = erasure.pending(connection) if version else 0
    yield Finding("format", "ok", f"application id {connect.APPLICATION_ID:#x}, format {version}")
    if version and mode != "wal":
        yield Finding(
            "journal mode",
            "warn",
            f"{mode} instead of wal",
            "another program changed it; restart every server",
        )
    wal = db.with_name(db.name + "-wal")
    length = wal.stat().st_size if wal.exists() else 0
    if length > WAL_BYTES_MAX:
        yield Finding(
            "write-ahead log",
            "warn",
            f"{size(length)}",
            "a reader has been open very long; restart every server",
        )
    else:
        yield Finding("write-ahead log", "ok", size(length))
    if version:
        yield _erasures(left)


def _erasures(left: int) -> Finding:
    if not left:
        return Finding("erasures", "ok", "none is pending")
    said = f"{amount(left, 'erased message')} may still be in the store's files"
    return Finding("erasures", "warn", said, f"{ERASURES_PENDING}.")


def models(_: Settings) -> Iterator[Finding]:
    """What could carry chat, judge and validate; whether it is accepted, only a call shows."""
    names = settings.api_credentials()
    none = "no variable sets one; a login with `ant auth login` is not looked for here"
    yield Finding("API credential", "ok", ", ".join(names) or none)
    program = shutil.which("claude")
    yield Finding("claude", "ok", program or "not on the PATH (only --backend claude-code needs it)")


def hooks(chosen: Settings) -> Iterator[Finding]:
    """What Claude Code's hooks could not do; they themselves never complain."""
    from ccn_mcp.interop import trouble

    told = trouble.read(settings.config_folder(chosen))
    if not told:
        yield Finding("hooks", "ok", "none of Claude Code's hooks has told of trouble")
        return
    file = settings.config_folder(chosen) / trouble.FILE
    said = f"{amount(len(told), 'time')} a hook could not do its work, last: {told[-1]}"
    yield Finding("hooks", "warn", said, f"all of them are in {file}; delete it once they are mended")


def transcripts(chosen: Settings) -> Iterator[Finding]:
    """What Claude Code would delete next without its being in the record."""
    from ccn_mcp.interop import leftover

    projects = settings.transcripts_folder()
    found = leftover.transcripts(projects, leftover.DOCTOR_FILES_MAX)
    if not found:
        yield Finding("transcripts", "ok", "Claude Code keeps none here")
        return
    left = leftover.unknown(
        found,
        chosen.db,
        settings.config_folder(chosen),
        wanted=lambda folder: settings.is_excluded(Path(folder), chosen) is None,
        peeked_most=leftover.DOCTOR_FILES_MAX,
    )
    if not left.number:
        all_of = f"all of Claude Code's {len(found):,} sessions are" if len(found) > 1 else ONLY_SESSION
        yield Finding("transcripts", "ok", f"{all_of} in the record")
        return
    days = leftover.days_kept(projects)
    lost = left.oldest + days * 86_400
    said = (
        f"{amount(left.number, 'session')} of Claude Code {'is' if left.number == 1 else 'are'} not in the record; "
        f"the oldest was last written on "
        f"{leftover.day(left.oldest)}, and Claude Code deletes it about {leftover.day(lost)} (after {days} days)"
    )
    yield Finding("transcripts", "warn", said, "bring them in: ccn-mcp import --claude-code")


# ---- other processes -----------------------------------------------------------------------------------


def processes(chosen: Settings) -> Iterator[Finding]:
    """Who else has the store open."""
    if not Path("/proc/self/fd").is_dir():
        yield Finding(
            "other processes", "ok", "not known here: only Linux tells which processes have a file open"
        )
        return
    if not chosen.db.is_file():
        return
    found = list(_holders(chosen.db))
    names = ", ".join(found[:PROCESSES_SHOWN]) + (" …" if len(found) > PROCESSES_SHOWN else "")
    said = f"{amount(len(found), 'process')} {'has' if len(found) == 1 else 'have'} the store open: {names}"
    yield Finding("other processes", "ok", said.replace("processs", "processes") if found else "none")


def _holders(db: Path) -> Iterator[str]:
    ours = {(about.st_dev, about.st_ino) for about in (db.stat(),)}
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        if int(process.name) == os.getpid():
            continue
        with suppress(OSError):  # another account's, or gone meanwhile
            for handle in (process / "fd").iterdir():
                about = handle.stat()
                if (about.st_dev, about.st_ino) in ours:
                    yield f"{process.name} ({_command(process)})"
                    break


def _command(process: Path) -> str:
    words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    return " ".join(filter(None, words))[:60] or "unknown"


CHECKS: Final[tuple[Check, ...]] = (
    program,
    sqlite,
    settings_in_force,
    files,
    store_format,
    models,
    hooks,
    transcripts,
    processes,
)
