"""Settings: the only module that reads the environment. Every variable is listed in `VARIABLES`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.limits import FRESH_S_DEFAULT, ID_CHARS_MAX, LEASE_S_DEFAULT

Character = Literal["off", "quiet", "on"]

VARIABLES: Final[Mapping[str, str]] = {
    "CCN_DB": "Path of the store file (default: ccn.db in the platform's user data folder).",
    "CCN_CONFIG_DIR": "Folder of the HTTP token and the erasure key (default: the platform's user config folder).",
    "CCN_SCOPE": "Scope of new conversations (default: the project folder in Claude Code, else `default`).",
    "CCN_CHARACTER": "off (record only), quiet (default: directives only between tasks) or on.",
    "CCN_LEASE_S": f"Seconds after its last call that an instance counts as connected ({LEASE_S_DEFAULT}).",
    "CCN_FRESH_S": f"Seconds that a vector report counts in the consensus ({FRESH_S_DEFAULT}).",
    "CLAUDE_CODE_SESSION_ID": "Set by Claude Code: finds the conversation and instance of its session.",
    "CLAUDE_PROJECT_DIR": "Set by Claude Code: the project folder, used as the scope.",
    "CLAUDECODE": "Set by Claude Code in its shell: acts that only the person may do are refused there.",
}
DURATION_S_MAX: Final = 366 * 24 * 3600
DEFAULT_SCOPE: Final = "default"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Durations are microseconds here, seconds in the environment."""

    db: Path
    scope: str = DEFAULT_SCOPE
    session_id: str | None = None
    character: Character = "quiet"
    lease_us: int = LEASE_S_DEFAULT * 1_000_000
    fresh_us: int = FRESH_S_DEFAULT * 1_000_000
    inside_claude_code: bool = False
    config_dir: Path | None = None
    """None: the platform's; see `config_folder`."""


def load(db: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment; `db` goes before `CCN_DB`.

    Raises:
        BadInput: a variable has a value that it cannot have.
    """
    env = os.environ if environ is None else environ
    character = env.get("CCN_CHARACTER") or "quiet"
    if character not in ("off", "quiet", "on"):
        raise BadInput(f"CCN_CHARACTER is {character!r}; use off, quiet or on")
    session = env.get("CLAUDE_CODE_SESSION_ID") or None
    return Settings(
        db=_path(db if db is not None else env.get("CCN_DB") or None),
        scope=_storable(_scope(env, session)),
        session_id=_storable(session)[:ID_CHARS_MAX] if session else None,
        character=character,  # type: ignore[arg-type]  # one of the three, checked above
        lease_us=_seconds(env, "CCN_LEASE_S", LEASE_S_DEFAULT) * 1_000_000,
        fresh_us=_seconds(env, "CCN_FRESH_S", FRESH_S_DEFAULT) * 1_000_000,
        inside_claude_code=bool(env.get("CLAUDECODE")),
        config_dir=Path(named).expanduser().absolute() if (named := env.get("CCN_CONFIG_DIR")) else None,
    )


def data_folder() -> Path:
    """The platform's user data folder for this program."""
    import platformdirs  # only where no path was given

    return Path(platformdirs.user_data_dir("ccn-mcp", appauthor=False))


def config_folder(chosen: Settings) -> Path:
    """Where secrets of this program are kept, apart from the store."""
    if chosen.config_dir is not None:
        return chosen.config_dir
    import platformdirs  # only where no folder was given

    return Path(platformdirs.user_config_dir("ccn-mcp", appauthor=False))


def _path(given: str | Path | None) -> Path:
    if given is None:
        return data_folder() / "ccn.db"
    if str(given).startswith(("postgres://", "postgresql://")):
        raise BadInput("this version keeps its store in an SQLite file; give --db or CCN_DB a path")
    if "\x00" in str(given):
        raise BadInput("the path of the store has U+0000 in it; give another one")
    return Path(given).expanduser().absolute()


def _scope(env: Mapping[str, str], session: str | None) -> str:
    if named := env.get("CCN_SCOPE"):
        return named[:ID_CHARS_MAX]
    if project := env.get("CLAUDE_PROJECT_DIR"):
        return project[-ID_CHARS_MAX:]
    if session or env.get("CLAUDECODE"):
        # Claude Code starts its servers in the project folder.
        return str(Path.cwd())[-ID_CHARS_MAX:]
    return DEFAULT_SCOPE


def _storable(text: str) -> str:
    # A folder's name need not be UTF-8; what Python makes of it then cannot be recorded.
    return os.fsencode(text).decode("utf-8", "replace")


def _seconds(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12 and 0 < int(text) <= DURATION_S_MAX):
        raise BadInput(f"{name} is {text!r}; give whole seconds from 1 to {DURATION_S_MAX}")
    return int(text)
