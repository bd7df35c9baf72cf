"""Settings: the only module that reads the environment. Every variable is listed in `VARIABLES`."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path

from ccn_mcp import exclusion
from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.limits import FRESH_S_DEFAULT, ID_CHARS_MAX, LEASE_S_DEFAULT
from ccn_mcp.domain.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final, Literal

    Character = Literal["off", "quiet", "on"]
    RecordTools = Literal["off", "names", "full"]

MODEL_DEFAULT: Final = "claude-sonnet-5-5"

VARIABLES: Final[Mapping[str, str]] = {
    "CCN_DB": "Path of the store file (default: ccn.db in the platform's user data folder).",
    "CCN_DATA_DIR": "Folder of the store file ccn.db, where CCN_DB names none (Claude Desktop's bundle sets it).",
    "CCN_PLATE": "A Plate's file that the person chose: taken over once, where none is set; not in Claude Code.",
    "CCN_CONFIG_DIR": "Folder of keys, remembered heads, HTTP token (default: the platform's user config folder).",
    "CCN_SCOPE": "Scope of new conversations (default: the project folder in Claude Code, else `default`).",
    "CCN_EXCLUDE": "Folders that are not recorded, in addition to those of `ccn-mcp exclude`; separated as in PATH.",
    "CCN_HEADS": "A second file that signed heads are appended to, best on another disk or machine.",
    "CCN_HEADS_COMMAND": "A command that gets each signed head on its standard input (at most every few seconds).",
    "CCN_CHARACTER": "off (record only), quiet (default: directives only between tasks) or on (at once).",
    "CCN_PRIVATE": "1: nothing that is said in this Claude Code session is recorded by its hooks.",
    "CCN_RECORD_TOOLS": "What hooks record of a tool that Claude Code has used: off (default), names or full.",
    "CCN_LEASE_S": f"Seconds after its last call that an instance counts as connected ({LEASE_S_DEFAULT}).",
    "CCN_FRESH_S": f"Seconds that a vector report counts in the consensus ({FRESH_S_DEFAULT}).",
    "CCN_MODEL": f"The model that chat, judge and validate ask (default: {MODEL_DEFAULT}).",
    "CCN_BACKEND": "Who carries them: api (default; your own key) or claude-code (your Claude Code's login).",
    "CCN_PRICES": "A file of prices that goes before the packaged ones (default: prices.json in the config folder).",
    "CCN_COST_DAY_USD": "US dollars that calls to a model may cost in a day (UTC), at the most (default: none).",
    "CCN_COST_CONVERSATION_USD": "US dollars that one conversation may cost, at the most (default: none).",
    "CLAUDE_CODE_SESSION_ID": "Set by Claude Code: finds the conversation and instance of its session.",
    "CLAUDE_PROJECT_DIR": "Set by Claude Code: the project folder, used as the scope.",
    "CLAUDE_CONFIG_DIR": "Where Claude Code keeps its transcripts, for `ccn-mcp import` (default: ~/.claude).",
    "CLAUDECODE": "Set by Claude Code in its shell: acts that only the person may do are refused there.",
}
DURATION_S_MAX: Final = 366 * 24 * 3600
DEFAULT_SCOPE: Final = "default"
DOLLARS_MAX: Final = 1_000_000
ON_LINUX: Final[bool] = sys.platform.startswith("linux")
DIGEST_CHARS: Final = 16
"""Of a folder whose name is too long for a scope: tells it from others that end alike."""


class Settings(Value):
    """Everything that can be set. Durations are microseconds here, seconds in the environment."""

    db: Path
    scope: str = DEFAULT_SCOPE
    session_id: str | None = None
    character: Character = "quiet"
    lease_us: int = LEASE_S_DEFAULT * 1_000_000
    fresh_us: int = FRESH_S_DEFAULT * 1_000_000
    inside_claude_code: bool = False
    hooks: bool = False
    """Whether Claude Code's hooks may be recording the same session: what the model records is compared with theirs."""

    config_dir: Path | None = None
    """None: the platform's; see `config_folder`."""

    heads: Path | None = None
    heads_command: tuple[str, ...] = ()
    excluded: Path | None = None
    """The excluded folder that this process works in: it may record nothing. None: it may."""

    record_tools: RecordTools = "off"
    private: bool = False
    plate: Path | None = None
    """The Plate that the person chose in a client's settings, for a store in which nobody has set one."""
    prices: Path | None = None
    """A person's own prices; None: `prices.json` in the config folder, if it is there."""

    model: str = MODEL_DEFAULT
    backend: str = "api"
    cost_day_pico: int | None = None
    cost_conversation_pico: int | None = None
    """Ceilings in pico-dollars (10^-12); None: there is none."""


def load(
    db: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    config_dir: str | Path | None = None,
) -> Settings:
    """Settings from the environment; `db` goes before `CCN_DB`, `config_dir` before `CCN_CONFIG_DIR`.

    Raises:
        BadInput: a variable has a value that it cannot have.
    """
    env = os.environ if environ is None else environ
    character = env.get("CCN_CHARACTER") or "quiet"
    if character not in ("off", "quiet", "on"):
        raise BadInput(f"CCN_CHARACTER is {character!r}; use off, quiet or on")
    record_tools = env.get("CCN_RECORD_TOOLS") or "off"
    if record_tools not in ("off", "names", "full"):
        raise BadInput(f"CCN_RECORD_TOOLS is {record_tools!r}; use off, names or full")
    session = env.get("CLAUDE_CODE_SESSION_ID") or None
    inside = bool(session or env.get("CLAUDECODE"))
    named = config_dir or env.get("CCN_CONFIG_DIR")
    folder = Path(named).expanduser().absolute() if named else None
    return Settings(
        db=_path(db if db is not None else _chosen(env, "CCN_DB"), _chosen(env, "CCN_DATA_DIR")),
        scope=_storable(_scope(env, session)),
        session_id=_storable(session)[:ID_CHARS_MAX] if session else None,
        character=character,  # type: ignore[arg-type]  # one of the three, checked above
        lease_us=_seconds(env, "CCN_LEASE_S", LEASE_S_DEFAULT) * 1_000_000,
        fresh_us=_seconds(env, "CCN_FRESH_S", FRESH_S_DEFAULT) * 1_000_000,
        inside_claude_code=bool(env.get("CLAUDECODE")),
        hooks=inside,
        config_dir=folder,
        heads=Path(kept).expanduser().absolute() if (kept := env.get("CCN_HEADS")) else None,
        heads_command=_words(env, "CCN_HEADS_COMMAND"),
        excluded=_excluded(env, folder),
        record_tools=record_tools,  # type: ignore[arg-type]  # one of the three, checked above
        private=(env.get("CCN_PRIVATE") or "0") != "0",
        plate=_plate(env, inside),
        prices=Path(prices).expanduser().absolute() if (prices := env.get("CCN_PRICES")) else None,
        model=(env.get("CCN_MODEL") or MODEL_DEFAULT)[:ID_CHARS_MAX],
        backend=env.get("CCN_BACKEND") or "api",
        cost_day_pico=_dollars(env, "CCN_COST_DAY_USD"),
        cost_conversation_pico=_dollars(env, "CCN_COST_CONVERSATION_USD"),
    )


def for_session(session: str | None, folder: str | None, db: str | None = None) -> Settings:
    """Settings of a hook: Claude Code names its session, and a folder where it does not set CLAUDE_PROJECT_DIR.

    Raises:
        BadInput: a variable has a value that it cannot have.
    """
    env = dict(os.environ)
    if folder and not env.get("CLAUDE_PROJECT_DIR"):
        env["CLAUDE_PROJECT_DIR"] = folder
    if session:
        env["CLAUDE_CODE_SESSION_ID"] = session
    return load(db, env)


def data_folder() -> Path:
    """The platform's user data folder for this program."""
    if ON_LINUX:
        return _linux_folder(os.environ, "XDG_DATA_HOME", "~/.local/share")
    import platformdirs  # only where no path was given

    return Path(platformdirs.user_data_dir("ccn-mcp", appauthor=False))


def config_folder(chosen: Settings) -> Path:
    """Where secrets of this program and the list of excluded folders are kept, apart from the store."""
    return _config_folder(chosen.config_dir)


def named_config_folder(environ: Mapping[str, str] | None = None) -> Path:
    """`config_folder` where settings could not be read: a hook keeps there what went wrong."""
    named = (os.environ if environ is None else environ).get("CCN_CONFIG_DIR")
    return _config_folder(Path(named).expanduser().absolute() if named else None)


def platform_folders(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables by which a platform moves the settings of applications; see `cli/install_clients.py`."""
    env = os.environ if environ is None else environ
    return {name: env[name] for name in ("XDG_CONFIG_HOME", "APPDATA") if name in env}


def api_credentials(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Which of the variables are set that the anthropic SDK takes a credential from: their names, never a value."""
    env = os.environ if environ is None else environ
    return tuple(name for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN") if env.get(name))


def transcripts_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where Claude Code keeps the transcripts of every project."""
    env = os.environ if environ is None else environ
    return Path(env.get("CLAUDE_CONFIG_DIR") or "~/.claude").expanduser().absolute() / "projects"


def for_many(chosen: Settings, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a process that serves other programs' sessions, wherever those work (`serve --http`).

    The folder and session of the shell that started it are none of theirs; a scope that was named is. Any of those
    sessions may have hooks.
    """
    env = os.environ if environ is None else environ
    scope = _storable((env.get("CCN_SCOPE") or DEFAULT_SCOPE)[:ID_CHARS_MAX])
    return chosen.replaced(scope=scope, session_id=None, excluded=None, hooks=True)


# ---- excluded folders ----------------------------------------------------------------------------------


def excluded_file(chosen: Settings) -> Path:
    """Where `ccn-mcp exclude` keeps its list."""
    return config_folder(chosen) / exclusion.FILE


def excluded_by_variable(environ: Mapping[str, str] | None = None) -> list[Path]:
    """The folders in CCN_EXCLUDE.

    Raises:
        BadInput: one is not a full path, or there are too many.
    """
    env = os.environ if environ is None else environ
    return exclusion.parsed(env.get(exclusion.VARIABLE, "").split(os.pathsep), exclusion.VARIABLE)


def is_excluded(folder: Path, chosen: Settings, environ: Mapping[str, str] | None = None) -> Path | None:
    """The excluded folder that `folder` is or lies in, None if it may be recorded.

    Raises:
        BadInput: the list cannot be read.
    """
    listed = [*exclusion.read(excluded_file(chosen)), *excluded_by_variable(environ)]
    return exclusion.covering(folder, listed) if listed else None


def _excluded(env: Mapping[str, str], config_dir: Path | None) -> Path | None:
    listed = [*exclusion.read(_config_folder(config_dir) / exclusion.FILE), *excluded_by_variable(env)]
    if not listed:
        return None
    project = env.get("CLAUDE_PROJECT_DIR")
    places = [Path(project)] if project else []
    with suppress(OSError):  # the folder that it was started in is gone
        places.append(Path.cwd())
    return next((found for place in places if (found := exclusion.covering(place, listed)) is not None), None)


# ---- one value each ------------------------------------------------------------------------------------


def _config_folder(config_dir: Path | None) -> Path:
    if config_dir is not None:
        return config_dir
    if ON_LINUX:
        return _linux_folder(os.environ, "XDG_CONFIG_HOME", "~/.config")
    import platformdirs  # only where no folder was given

    return Path(platformdirs.user_config_dir("ccn-mcp", appauthor=False))


def _linux_folder(env: Mapping[str, str], variable: str, usual: str) -> Path:
    """As platformdirs has it, without its import: hooks ask at every prompt."""
    named = env.get(variable, "")
    return Path(named if named.startswith("/") else Path(usual).expanduser()) / "ccn-mcp"


def _chosen(env: Mapping[str, str], name: str) -> str | None:
    """A place that a person may have left open: a client then hands over nothing, or its own placeholder."""
    value = env.get(name, "")
    return None if not value or value.startswith("${") else value


def _plate(env: Mapping[str, str], inside: bool) -> Path | None:
    # Claude Code has a shell: a file that is named there need not be the person's choice.
    chosen = None if inside else _chosen(env, "CCN_PLATE")
    return Path(chosen).expanduser().absolute() if chosen else None


def _path(given: str | Path | None, folder: str | None = None) -> Path:
    if given is None:
        given = (Path(folder) if folder else data_folder()) / "ccn.db"
    if str(given).startswith(("postgres://", "postgresql://")):
        raise BadInput("this version keeps its store in an SQLite file; give --db or CCN_DB a path")
    if "\x00" in str(given):
        raise BadInput("the path of the store has U+0000 in it; give another one")
    return Path(given).expanduser().absolute()


def _scope(env: Mapping[str, str], session: str | None) -> str:
    if named := env.get("CCN_SCOPE"):
        return named[:ID_CHARS_MAX]
    if project := env.get("CLAUDE_PROJECT_DIR"):
        return scope_of(project)
    if session or env.get("CLAUDECODE"):
        # Claude Code starts its servers in the project folder.
        return scope_of(str(Path.cwd()))
    return DEFAULT_SCOPE


def scope_of(folder: str) -> str:
    """A project folder's scope: its path; of a long one its end and a digest, so that no two share one."""
    if len(folder) <= ID_CHARS_MAX:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:DIGEST_CHARS]
    return f"{digest}:{folder[-(ID_CHARS_MAX - DIGEST_CHARS - 1) :]}"


def _storable(text: str) -> str:
    # A folder's name need not be UTF-8; what Python makes of it then cannot be recorded.
    return os.fsencode(text).decode("utf-8", "replace")


def _words(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    if not (text := env.get(name)):
        return ()
    import shlex

    try:
        return tuple(shlex.split(text))
    except ValueError as exc:
        raise BadInput(f"{name} cannot be read as a command ({exc}); check its quotes") from exc


def _dollars(env: Mapping[str, str], name: str) -> int | None:
    """Pico-dollars of a decimal number; by hand, because hooks would pay for importing `decimal`."""
    text = env.get(name)
    if not text:
        return None
    whole, point, part = text.partition(".")
    digits = whole + part
    if (
        not (digits.isascii() and digits.isdigit() and whole and len(whole) <= 7 and len(part) <= 6)
        or bool(point) != bool(part)
        or int(whole) > DOLLARS_MAX
    ):
        raise BadInput(f"{name} is {text[:40]!r}; give US dollars up to {DOLLARS_MAX:,}, such as 2.50")
    return int(whole + part.ljust(12, "0"))


def _seconds(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12 and 0 < int(text) <= DURATION_S_MAX):
        raise BadInput(f"{name} is {text!r}; give whole seconds from 1 to {DURATION_S_MAX}")
    return int(text)
