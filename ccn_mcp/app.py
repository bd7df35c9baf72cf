"""The composition root: the only place where the world (clock, randomness, store) is put together."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from ccn_mcp import settings as settings_module
from ccn_mcp.domain.limits import PLATE_BYTES_MAX
from ccn_mcp.node.context import Caller, Context
from ccn_mcp.node.node import Node
from ccn_mcp.settings import Settings
from ccn_mcp.store.keeper import FileKeeper
from ccn_mcp.store.secret import SecretFile
from ccn_mcp.store.sqlite.store import SqliteStore

ID_BYTES: Final = 15
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"


SET_BACK_US_MAX: Final = 24 * 3600 * 1_000_000
"""Set back by more than this, a clock was wrong before, and is believed now."""


class SystemClock:
    """Wall time of this machine that does not run backwards within a process.

    Leases and the age of reports are differences of two of these (shared/character.md, section 4), so when the wall
    clock is set back, time goes on at the monotonic clock's pace. It is followed forwards: the monotonic clock stands
    still while a machine sleeps.
    """

    def __init__(self) -> None:
        self._last_us = 0
        self._tick_us = 0

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        now, tick = time.time_ns() // 1_000, time.monotonic_ns() // 1_000
        if 0 < self._last_us - now <= SET_BACK_US_MAX:
            now = self._last_us + tick - self._tick_us
        self._last_us, self._tick_us = now, tick
        return now


class SystemEntropy:
    """Names from the operating system's random source."""

    def name(self, prefix: str) -> str:
        """`prefix`, an underscore and 120 random bits in base 32: 24 lower-case letters and digits."""
        number = int.from_bytes(secrets.token_bytes(ID_BYTES), "big")
        return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(0, ID_BYTES * 8, 5))


def new_session_id() -> str:
    """A session's id as Claude Code takes it: a random UUID (RFC 9562, version 4)."""
    import uuid  # only to begin a session

    return str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))


def secret_of(settings: Settings) -> SecretFile:
    """The secret of the tombstones, in the config folder."""
    return SecretFile(lambda: settings_module.config_folder(settings))


def keeper_of(settings: Settings) -> FileKeeper:
    """The keys and heads that are kept outside of the store, in the config folder.

    Heads are filed under the path as it was named, not where links lead from there: a link that somebody puts in the
    store's place must not look like another store, of which nothing is remembered.
    """
    return FileKeeper(
        lambda: settings_module.config_folder(settings),
        settings.db.absolute(),
        elsewhere=settings.heads,
        command=settings.heads_command,
    )


def _chosen_plate(settings: Settings) -> Callable[[], bytes] | None:
    path = settings.plate
    if path is None:
        return None

    def read() -> bytes:
        if not path.is_file():  # a pipe or a device would be waited for
            raise FileNotFoundError("it is not there, or no regular file")
        with path.open("rb") as file:
            return file.read(PLATE_BYTES_MAX + 1)

    return read


@asynccontextmanager
async def node_of(settings: Settings, caller: Caller) -> AsyncIterator[Node]:
    """A node on the store that `settings` name; nothing is opened or written before the first call."""
    async with SqliteStore(settings.db, secret=secret_of(settings), keeper=keeper_of(settings)) as store:
        yield Node(
            Context(store, SystemClock(), SystemEntropy(), settings, chosen_plate=_chosen_plate(settings)),
            caller,
        )


@asynccontextmanager
async def open_node(
    db: str | Path | None = None,
    *,
    config_dir: str | Path | None = None,
    settings: Settings | None = None,
    client: str = "python",
) -> AsyncIterator[Node]:
    """A node for Python programs: `async with ccn_mcp.open_node("my.db") as node:`.

    `db` is a path; without it CCN_DB or the user data folder is used. The file appears with the first
    write and is closed, complete, when the block ends. `config_dir` is where its keys are kept, apart from the store
    (default: CCN_CONFIG_DIR, else the platform's user config folder).

    Raises:
        BadInput: a setting has a value that it cannot have.
    """
    chosen = settings if settings is not None else settings_module.load(db, config_dir=config_dir)
    async with node_of(chosen, Caller(source="python", client=client)) as node:
        yield node
