"""The secret of the tombstones: one file in the user's config folder, never beside the store."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ccn_mcp.domain.errors import StoreUnavailable
from ccn_mcp.store.folders import make_folders, sync_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SECRET_FILE: Final = "erasure-key"  # noqa: S105  # the name of the file

SECRET_BYTES: Final = 32
Secret = Callable[[bool], bytes | None]
"""The secret; where there is none yet, it is made if True is given, else None comes back."""


def no_secret(create: bool) -> None:
    """Leave no tombstones: for stores that are opened without a config folder."""


class SecretFile:
    """`Secret` in a file (0600), made by the first erasure. Asked for the folder no earlier than it is needed."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._known: bytes | None = None

    def __call__(self, create: bool) -> bytes | None:
        """See `Secret`.

        Raises:
            StoreUnavailable: it could not be made or read, and `create` asks for it.
        """
        if self._known is None:
            path = self._folder() / SECRET_FILE
            try:
                if create:
                    _make(path)
                found = path.read_bytes()
            except OSError as exc:
                if not create:
                    return None
                raise StoreUnavailable(
                    f"the key of erasures cannot be kept in {path.parent} ({exc.strerror}), so nothing was erased; "
                    "check that disk, or name a folder of yours with CCN_CONFIG_DIR, and try again"
                ) from exc
            if len(found) == SECRET_BYTES:
                self._known = found
            elif create:
                raise StoreUnavailable(
                    f"{path} does not hold a key of erasures, so nothing was erased; move it away and try again"
                )
        return self._known


def _make(path: Path) -> None:
    """Whole or not at all; of two first erasures at once, one makes the secret of both."""
    if path.exists():
        return
    import tempfile  # needed once in a store's life

    make_folders(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent)  # 0600
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
        # Before the erasure is: else a power cut could leave tombstones that nobody recognises any more.
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
