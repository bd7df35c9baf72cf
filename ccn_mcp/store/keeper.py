"""What is kept outside of the store: the key that signs its heads, and the heads that it had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ccn_mcp.domain.anchors import Stamp
from ccn_mcp.domain.checkpoint import Checkpoint, encode, origin_of, parse_key
from ccn_mcp.domain.errors import CcnError, KeyUnusable
from ccn_mcp.domain.ledger import Head
from ccn_mcp.domain.models import Body, Claim
from ccn_mcp.domain.rotation import LOST, rotation_body
from ccn_mcp.store.heads import Command, HeadsFile, tag_of
from ccn_mcp.store.keys import KeyRing, Signer

HEADS_FOLDER: Final = "heads"
TROUBLE: Final = "trouble"
"""The file that says why heads could not be kept elsewhere, for `doctor`; it goes with the next that could."""

UNTOLD: Final = "the last head could not be kept, and there was no space left to write why"
REMEMBERED: Final = "this machine remembers"
ELSEWHERE: Final = "is kept elsewhere (CCN_HEADS)"


class FileKeeper:
    """See `ports.Keeper`: keys and heads in the config folder, heads in a second place where one is named.

    `place` is the store's path as it was named: a copy at another place goes its own way without contradicting it.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        place: Path,
        *,
        elsewhere: Path | None = None,
        command: Sequence[str] = (),
    ) -> None:
        self.ring = KeyRing(folder)
        self._folder = folder
        self._place = place
        self._elsewhere = HeadsFile(elsewhere) if elsewhere is not None else None
        self._command = Command(command) if command else None

    def key(self, store_id: bytes, /, *, create: bool) -> str | None:
        """See `Keeper.key`."""
        signer = self._signer(store_id, create=create)
        return None if signer is None else str(signer.key)

    def pinned(self, store_id: bytes, /) -> str | None:
        """See `Keeper.pinned`."""
        with suppress(CcnError, OSError):
            key = self.ring.pin(store_id)
            return None if key is None else str(key)
        return None

    def sign(self, store_id: bytes, head: Head, /) -> bytes | None:
        """See `Keeper.sign`."""
        signer = self._signer(store_id, create=False)
        if signer is None:
            return None
        return signer.sign(encode(Checkpoint(origin_of(store_id), head.size, head.root))).encode()

    def remember(self, store_id: bytes, head: Head, note: bytes, /) -> None:
        """See `Keeper.remember`."""
        tag = tag_of(store_id, self._place)
        own, told = self._heads(tag), []
        for file in (own, self._elsewhere):
            try:
                if file is not None:
                    file.append(tag, head, note)
            except OSError as failed:
                told.append(str(failed))
        try:
            if self._command is not None:
                self._command.give(note)
        except OSError as failed:
            told.append(str(failed))
        trouble = own.path.with_name(f"{TROUBLE}-{tag}")
        with suppress(OSError):
            if told:
                trouble.write_text("; ".join(told) + "\n", "utf-8")
            else:
                trouble.unlink(missing_ok=True)

    def next_key(self, store_id: bytes, seq: int, /, *, lost: bool) -> Body:
        """See `Keeper.next_key`."""
        rotation = self.ring.rotate(store_id)
        if lost:
            return {"event": LOST, "key": str(rotation.prepare())}
        signer = self.ring.signer(store_id, create=False)
        if signer is None:
            raise KeyUnusable("missing", f"the key of the store {store_id.hex()} is not here")
        return rotation_body(store_id, seq, rotation.prepare(), signer.sign_bytes)

    def settle(self, store_id: bytes, announced: str, /, *, lost: bool = False) -> None:
        """See `Keeper.settle`."""
        with suppress(CcnError, OSError):  # what is left of it is finished by the next signature
            rotation = self.ring.rotate(store_id)
            if not rotation.unfinished:
                return
            key = parse_key(announced)
            if lost and rotation.holds(key):
                self.ring.trust(store_id, key)
            rotation.commit(key)

    def stamp(self, note: bytes, token: bytes, /) -> Stamp:
        """See `Keeper.stamp`."""
        from ccn_mcp.store import timestamps  # few records hold any

        return timestamps.checked(self._folder(), note, token)

    def heads(self, store_id: bytes, /) -> Sequence[Claim]:
        """See `Keeper.heads`."""
        tag = tag_of(store_id, self._place)
        return self._heads(tag).read(tag, REMEMBERED)

    def heads_elsewhere(self, store_id: bytes, /) -> Sequence[Claim]:
        """See `Keeper.heads_elsewhere`."""
        if self._elsewhere is None:
            return ()
        return self._elsewhere.read(tag_of(store_id, self._place), ELSEWHERE)

    def trouble(self, store_id: bytes) -> str | None:
        """Why the last head could not be kept everywhere, or the second place cannot be read; None if all is well."""
        tag = tag_of(store_id, self._place)
        with suppress(OSError):
            told = self._heads(tag).path.with_name(f"{TROUBLE}-{tag}").read_text("utf-8").strip()
            return told or UNTOLD  # a full disk takes the file's name, but no words
        return None if self._elsewhere is None else self._elsewhere.trouble()

    def _signer(self, store_id: bytes, *, create: bool) -> Signer | None:
        with suppress(CcnError, OSError):  # `doctor` asks the ring itself and shows what is wrong
            return self.ring.signer(store_id, create=create)
        return None

    def _heads(self, tag: str) -> HeadsFile:
        return HeadsFile(self._folder() / HEADS_FOLDER / tag, own=True)
