"""The keys that sign a store's heads: files in the person's config folder, never beside the store.

    keys/<store id>.key    the private key that is due, C2SP text PRIVATE+KEY+name+id+base64   (0600)
    keys/<store id>.next   during a rotation: the key that comes next
    keys/<store id>.old    for a moment: the key that goes, until it is overwritten
    keys/<store id>.pin    the first public key that this machine knew of the store; written once

Every file appears whole or not at all, and of two processes that start at once one makes the key of both.
Secrets are in no message and in no `repr`.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ccn_mcp.domain.checkpoint import (
    ED25519,
    Signature,
    VerifierKey,
    ed25519_key,
    encode64,
    origin_of,
    parse_key,
    split_key,
)
from ccn_mcp.domain.errors import BadNote, KeyUnusable
from ccn_mcp.domain.limits import KEY_TEXT_BYTES_MAX
from ccn_mcp.store import ed25519
from ccn_mcp.store.folders import make_folders, sync_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FOLDER: Final = "keys"
PRIVATE: Final = "PRIVATE+KEY+"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key in use. Its `repr` shows the public one only."""

    key: VerifierKey
    _private: Ed25519PrivateKey = field(repr=False, compare=False)

    def sign(self, text: str) -> str:
        """The signed note of `text`, which ends with a line feed (`checkpoint.encode` gives such a text)."""
        signature = Signature(self.key.name, self.key.key_id, self.sign_bytes(text.encode()))
        return f"{text}\n{signature}"

    def sign_bytes(self, message: bytes) -> bytes:
        """The 64 bytes of the signature of a message: for a key entry, see `domain.rotation`."""
        return self._private.sign(message)

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not copied out of its process")


class KeyRing:
    """The keys of every store that this account writes. Asks for the folder no earlier than it is needed.

    Files are read each time, so that a rotation by another process is seen at once.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder

    def signer(self, store_id: bytes, *, create: bool = True) -> Signer | None:
        """The key that is due, made on first use and pinned.

        None where there is none and `create` asks for none, or where the store's key is pinned and the private one
        is not here: another machine signs.

        Raises:
            KeyUnusable: the file is there and cannot be used, or none can be made.
        """
        path = self._path(store_id, "key")
        found = _load(path, store_id)
        if found is None:
            if not create or self.pin(store_id) is not None:
                return None
            _put(path, _new_text(store_id))
            found = _loaded(path, store_id)
        self.remember(store_id, found.key)
        return found

    def pin(self, store_id: bytes) -> VerifierKey | None:
        """The first public key that this machine knew of the store; None where it knows none yet.

        Raises:
            KeyUnusable: the file is there and does not hold one.
        """
        path = self._path(store_id, "pin")
        text = _read(path, secret=False)
        if text is None:
            return None
        try:
            key = parse_key(text.removesuffix("\n"))
        except BadNote as wrong:
            raise _damaged(path, str(wrong)) from None
        if key.algorithm != ED25519 or not ed25519.proper_point(key.public):
            raise _damaged(path, "it is no Ed25519 key that may be trusted")
        _check_owner(path, key.name, store_id)
        return key

    def remember(self, store_id: bytes, key: VerifierKey) -> VerifierKey:
        """Pin this key, unless one is pinned already; which one is, now.

        Raises:
            KeyUnusable: as `pin`, or it cannot be written, or the key is none of this store.
        """
        path = self._path(store_id, "pin")
        pinned = self.pin(store_id)
        if pinned is None:
            _check_pin(path, key, store_id)
            _put(path, f"{key}\n")
            pinned = self.pin(store_id)
        if pinned is None:
            raise KeyUnusable("missing", f"{path} went away as it was written; try again")
        return pinned

    def trust(self, store_id: bytes, key: VerifierKey) -> None:
        """Pin this key in place of the one that is pinned: the person's decision, or the next key after a lost one.

        Raises:
            KeyUnusable: it cannot be written, or the key is none of this store.
        """
        path = self._path(store_id, "pin")
        _check_pin(path, key, store_id)
        _put(path, f"{key}\n", replace=True)

    def rotate(self, store_id: bytes) -> Rotation:
        """The change of this store's key, begun or to be begun."""
        return Rotation(
            store_id, self._path(store_id, "key"), self._path(store_id, "next"), self._path(store_id, "old")
        )

    def _path(self, store_id: bytes, end: str) -> Path:
        return self._folder() / FOLDER / f"{store_id.hex()}.{end}"


@dataclass(frozen=True, slots=True)
class Rotation:
    """A change of keys in steps, none of which loses anything if the process ends after it.

    `prepare` writes the next key beside the one in use. The caller appends the entry that announces it, signed
    by the one in use (`domain.rotation.rotation_body`). `commit` puts the next key in its place. Ended before
    the append: `prepare` finds the same key again. Ended before `commit`: the log's last key entry names the
    key, and `commit` of that one goes on where it stopped; do so before signing whenever `unfinished`. One
    process at a time: hold the log's turnstile.
    """

    store_id: bytes
    path: Path
    next_path: Path
    old_path: Path

    @property
    def unfinished(self) -> bool:
        """Whether a next key, or one to be destroyed, lies there."""
        return self.next_path.exists() or self.old_path.exists()

    def prepare(self) -> VerifierKey:
        """The next public key, made unless a rotation was begun already.

        Raises:
            KeyUnusable: it cannot be made, or lies there and cannot be used.
        """
        _put(self.next_path, _new_text(self.store_id))
        return _loaded(self.next_path, self.store_id).key

    def holds(self, announced: VerifierKey) -> bool:
        """Whether the private half of this key lies here as the next one.

        Raises:
            KeyUnusable: a next key lies there and cannot be used.
        """
        following = _load(self.next_path, self.store_id)
        return following is not None and following.key == announced

    def commit(self, announced: VerifierKey) -> Signer:
        """The key that the log announced, in use from now on; the one before it is overwritten and removed.

        Raises:
            KeyUnusable: as `KeyRing.signer`, or the private key of `announced` is not here.
        """
        current = _load(self.path, self.store_id)
        if current is None or current.key != announced:
            following = _load(self.next_path, self.store_id)
            if following is None or following.key != announced:
                raise KeyUnusable(
                    "missing",
                    f"the log announces the key {announced.key_id.hex()}, whose private part is not in "
                    f"{self.path.parent}: it was announced from another machine, or the file was lost",
                )
            current = following
            with _told(self.path, "be replaced"):
                self.old_path.unlink(missing_ok=True)
                if self.path.exists():
                    # From here the old key has two names, so replacing one does not free its blocks unwritten.
                    os.link(self.path, self.old_path)
                os.replace(self.next_path, self.path)  # noqa: PTH105  # read as the one step that counts
                sync_folder(self.path.parent)
        with _told(self.old_path, "be destroyed"):
            _destroy(self.old_path, keep=self.path)
        return current


# ---- files -----------------------------------------------------------------------------------------------


@contextmanager
def _told(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise KeyUnusable(
            "unreadable",
            f"{path} cannot {done} ({exc.strerror}); see whose it is, or name a folder of yours with CCN_CONFIG_DIR",
        ) from exc


def _damaged(path: Path, why: str) -> KeyUnusable:
    return KeyUnusable(
        "damaged", f"{path} does not hold a key ({why}); put it back from a backup or move it away"
    )


def _check_owner(path: Path, name: str, store_id: bytes) -> None:
    if name != origin_of(store_id):
        raise KeyUnusable(
            "foreign", f"{path} holds a key of {name}, not of {origin_of(store_id)}; move it away"
        )


def _check_pin(path: Path, key: VerifierKey, store_id: bytes) -> None:
    if key.algorithm != ED25519 or not ed25519.proper_point(key.public):
        raise KeyUnusable(
            "damaged", "the key to pin is no Ed25519 key that may be trusted; nothing was pinned"
        )
    _check_owner(path, key.name, store_id)


def _new_text(store_id: bytes) -> str:
    seed = ed25519.new_seed()
    key = ed25519_key(origin_of(store_id), ed25519.public_of(ed25519.private_key(seed)))
    return f"{PRIVATE}{key.name}+{key.key_id.hex()}+{encode64(bytes([ED25519]) + seed)}\n"


def _loaded(path: Path, store_id: bytes) -> Signer:
    found = _load(path, store_id)
    if found is None:
        raise KeyUnusable("missing", f"{path} went away as it was written; try again")
    return found


def _load(path: Path, store_id: bytes) -> Signer | None:
    """The private key in a file; None where there is no file."""
    text = _read(path, secret=True)
    if text is None:
        return None
    try:
        return _parse(path, text, store_id)
    except KeyUnusable:
        # A rotation may have overwritten the file that was open here; the name then leads to the new one.
        if (again := _read(path, secret=True)) is None or again == text:
            raise
        return _parse(path, again, store_id)


def _parse(path: Path, text: str, store_id: bytes) -> Signer:
    encoded = text.removesuffix("\n").removeprefix(PRIVATE)
    try:
        name, key_id, data = split_key(encoded)
    except BadNote as wrong:
        raise _damaged(path, str(wrong)) from None
    if not text.startswith(PRIVATE) or data[0] != ED25519 or len(data) != 1 + ed25519.KEY_BYTES:
        raise _damaged(path, "it is no Ed25519 private key")
    private = ed25519.private_key(data[1:])
    key = ed25519_key(name, ed25519.public_of(private))
    if key.key_id != key_id:
        raise _damaged(path, "its id is not that of the key")
    _check_owner(path, name, store_id)
    return Signer(key, private)


def _read(path: Path, *, secret: bool) -> str | None:
    with _told(path, "be read"):
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(KEY_TEXT_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
    if os.name == "posix" and mode & (_OTHERS if secret else _OTHERS_WRITE):
        raise KeyUnusable(
            "exposed",
            f"{path} is open to other accounts (mode {stat.S_IMODE(mode):o}): if one of them may have used it, change "
            "the key; then close it with chmod 600",
        )
    if len(data) > KEY_TEXT_BYTES_MAX or not data.isascii():
        raise _damaged(path, "it is no text of this size")
    return data.decode("ascii")


def _put(path: Path, text: str, *, replace: bool = False) -> None:
    """Write the file whole, unless there is one; of two writers at once, one makes the file of both."""
    if path.exists() and not replace:
        return
    with _told(path, "be written"):
        make_folders(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent)  # 0600
        draft = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
            if replace:
                draft.replace(path)
            else:
                with suppress(FileExistsError):
                    os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)


def _destroy(old: Path, *, keep: Path) -> None:
    """Overwrite and remove `old`; where it is another name of `keep`, only the name goes."""
    if not old.exists():
        return
    if not (keep.exists() and keep.samefile(old)):
        with old.open("r+b") as file:
            file.write(bytes(os.fstat(file.fileno()).st_size))
            file.flush()
            os.fsync(file.fileno())
    old.unlink(missing_ok=True)
    sync_folder(old.parent)
