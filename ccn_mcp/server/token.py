"""The token of `serve --http`: one file in the user's config folder, and nowhere else."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from ccn_mcp import settings as settings_module
from ccn_mcp.domain.errors import BadInput, CcnError, NotFound, Refused
from ccn_mcp.settings import Settings

TOKEN_FILE: Final = "http-token"  # noqa: S105  # the name of the file
TOKEN_BYTES: Final = 32

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{32,200}")


class TokenFile:
    """The token in the config folder. A new one counts at once, for servers that run, too."""

    def __init__(self, chosen: Settings) -> None:
        self.path = settings_module.config_folder(chosen) / TOKEN_FILE
        self._token = b""
        self._seen: tuple[int, int, int] | None = None

    def read(self) -> str:
        """The token.

        Raises:
            NotFound: none was made yet. Refused: others can read it. BadInput: the file holds no token.
        """
        try:
            mode = self.path.stat().st_mode
            text = self.path.read_text("ascii", errors="replace").strip()
        except FileNotFoundError as exc:
            raise NotFound(
                "there is no token yet; `ccn-mcp serve --http` makes it when it first starts, "
                "`ccn-mcp token new` makes it now"
            ) from exc
        except OSError as exc:
            raise BadInput(f"{self.path} cannot be read ({exc.strerror}); check its permissions") from exc
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise Refused(f"others on this machine can use {self.path}; replace it with: ccn-mcp token new")
        if not _TOKEN.fullmatch(text):
            raise BadInput(f"{self.path} holds no token; replace it with: ccn-mcp token new")
        return text

    def ensure(self) -> None:
        """Make a token where there is none, and check the one that is there.

        Raises:
            Refused, BadInput.
        """
        try:
            self.read()
        except NotFound:
            self._write(replacing=False)
            self.read()

    def new(self) -> str:
        """Replace the token; the old one opens nothing any more.

        Raises:
            BadInput: the folder cannot be written.
        """
        self._write(replacing=True)
        return self.read()

    def opens(self, given: bytes) -> bool:
        """Whether `given` is the token, in a time that does not depend on how much of it is right."""
        try:
            now = self.path.stat()
            seen = (now.st_ino, now.st_mtime_ns, now.st_ctime_ns)
            if seen != self._seen:
                self._token, self._seen = self.read().encode(), seen
        except (OSError, CcnError):
            self._seen = None
            return False
        return hmac.compare_digest(given, self._token)

    def _write(self, *, replacing: bool) -> None:
        """Whole or not at all; of two first starts at once, one makes the token of both."""
        try:
            folder = self.path.parent
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder)  # 0600
            draft = Path(name)
            try:
                with os.fdopen(handle, "w", encoding="ascii") as file:
                    file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                if replacing:
                    draft.replace(self.path)
                else:
                    with suppress(FileExistsError):
                        os.link(draft, self.path)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as exc:
            raise BadInput(
                f"the token cannot be kept in {self.path.parent} ({exc.strerror}); name a folder of yours "
                "with CCN_CONFIG_DIR"
            ) from exc
