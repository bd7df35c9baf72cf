"""Signed heads: C2SP signed notes and tlog-checkpoints, read strictly. Pure: who verifies is passed in.

    ccn-log/<store id in hex>
    <size, decimal>
    <root, base64>

    — <key name> <base64(key id || signature)>

A key signs the text up to and including the line feed before the empty line. What nobody's key has signed must
not be believed, so `open_note` and `open_checkpoint` return only what a known key signed. Sources:
c2sp.org/signed-note, c2sp.org/tlog-checkpoint.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ccn_mcp.domain.errors import BadNote, BadSignature, NotSigned
from ccn_mcp.domain.ledger import SEQ_MAX, Head
from ccn_mcp.domain.limits import KEY_TEXT_BYTES_MAX, NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX
from ccn_mcp.domain.merkle import HASH_BYTES

ED25519: Final = 1
"""The algorithm byte of Ed25519. Signatures of other algorithms are kept and not looked at."""

ED25519_KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4
DASH: Final = "\N{EM DASH} "

Verify = Callable[[bytes, bytes, bytes], bool]
"""`verify(public, message, signature)`: whether the Ed25519 signature is one; `store.ed25519.verify` is strict."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name it signs under; as text `name+key id in hex+base64(algorithm || key)`."""

    name: str
    key_id: bytes
    algorithm: int
    public: bytes

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{encode64(bytes([self.algorithm]) + self.public)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: whose, and the signature bytes after the key id."""

    name: str
    key_id: bytes
    data: bytes

    def __str__(self) -> str:
        return f"{DASH}{self.name} {encode64(self.key_id + self.data)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note that was read and not yet believed: its text with the last line feed, and its signatures."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(map(str, self.signatures))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's head as it is signed: which log, how many entries, their Merkle root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def head(self) -> Head:
        """The same head as results quote it."""
        return Head(self.size, self.root)


# ---- writing ---------------------------------------------------------------------------------------------


def origin_of(store_id: bytes) -> str:
    """The name of a log: the first line of its checkpoints and the name of its keys."""
    return f"ccn-log/{store_id.hex()}"


def ed25519_key(name: str, public: bytes) -> VerifierKey:
    """The verifier key of 32 public bytes; its id is SHA-256(name || LF || 01 || key)[:4]."""
    return VerifierKey(name, _key_id(name, ED25519, public), ED25519, public)


def encode(checkpoint: Checkpoint) -> str:
    """The text that is signed.

    Raises:
        BadNote: a checkpoint that could not be read back.
    """
    lines = (checkpoint.origin, str(checkpoint.size), encode64(checkpoint.root), *checkpoint.extensions)
    text = "".join(line + "\n" for line in lines)
    if parse_checkpoint(text) != checkpoint:
        raise BadNote("a line of the checkpoint has a line feed in it")
    return text


def encode64(data: bytes) -> str:
    """Standard base64 with padding (RFC 4648 section 4)."""
    return b64encode(data).decode("ascii")


# ---- reading ---------------------------------------------------------------------------------------------


def parse_note(data: bytes | str) -> Note:
    """Split a signed note; signatures by unknown keys and algorithms are kept.

    Raises:
        BadNote: for anything that C2SP signed-note does not allow, with the line.
    """
    whole = plain(data)
    if not whole.endswith("\n"):
        raise BadNote("the note ends without a line feed", whole.count("\n") + 1)
    text, gap, signed = whole.rpartition("\n\n")
    if not gap:
        raise BadNote("the note has no empty line between its text and its signatures", whole.count("\n"))
    text += "\n"
    first = text.count("\n") + 2
    lines = signed.split("\n")[:-1]
    if not text.strip("\n"):
        raise BadNote("the note has no text before its signatures", 1)
    if not lines:
        raise BadNote("the note has no signature line", first)
    if len(lines) > NOTE_SIGNATURES_MAX:
        raise BadNote(f"more than {NOTE_SIGNATURES_MAX} signatures", first + NOTE_SIGNATURES_MAX)
    return Note(text, tuple(_signature(line, number) for number, line in enumerate(lines, first)))


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a note as a checkpoint.

    Raises:
        BadNote: for anything that C2SP tlog-checkpoint does not allow, with the line.
    """
    lines = plain(text).split("\n")
    if lines.pop() != "":
        raise BadNote("the text ends without a line feed", len(lines) + 1)
    if len(lines) < 3:
        raise BadNote("a checkpoint has three lines: origin, size, root", len(lines) + 1)
    for number, line in enumerate(lines, 1):
        if not line:
            raise BadNote("an empty line inside a checkpoint", number)
    root = decode64(lines[2], 3)
    if len(root) != HASH_BYTES:
        raise BadNote(f"the root has {len(root)} bytes, not {HASH_BYTES}", 3)
    return Checkpoint(lines[0], parse_decimal(lines[1], 2), root, tuple(lines[3:]))


def parse_key(text: str) -> VerifierKey:
    """Read `name+key id+base64`; a key of an unknown algorithm is read too, its id unchecked.

    Raises:
        BadNote: not of this form, or the id is not that of this Ed25519 key.
    """
    if len(text) > KEY_TEXT_BYTES_MAX:
        raise BadNote(f"a key has at most {KEY_TEXT_BYTES_MAX} characters")
    name, key_id, data = split_key(text)
    key = VerifierKey(name, key_id, data[0], data[1:])
    if key.algorithm == ED25519:
        if len(key.public) != ED25519_KEY_BYTES:
            raise BadNote(f"an Ed25519 key has {ED25519_KEY_BYTES} bytes, this one has {len(key.public)}")
        if key.key_id != _key_id(name, ED25519, key.public):
            raise BadNote(
                f"the id {key.key_id.hex()} is not that of this key: the name, id or key was changed"
            )
    return key


def split_key(text: str) -> tuple[str, bytes, bytes]:
    """Name, key id and data (algorithm byte first) of a key in text, public or private.

    Raises:
        BadNote: not of this form. The message never quotes the text.
    """
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise BadNote("a key looks like name+12345678+base64; copy it whole")
    name, digits, encoded = parts
    _check_name(name, None)
    if len(digits) != 2 * KEY_ID_BYTES or not set(digits) <= set("0123456789abcdef"):
        raise BadNote(f"the id of a key is {2 * KEY_ID_BYTES} hex digits in lower case")
    data = decode64(encoded, None)
    if not data:
        raise BadNote("the key has no algorithm byte")
    return name, bytes.fromhex(digits), data


def parse_decimal(text: str, line: int) -> int:
    """A size or an index: ASCII digits, no leading zero, below 2**63.

    Raises:
        BadNote: for anything else.
    """
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and text != "0"):
        raise BadNote("a number is written in decimal digits, without a sign or leading zeros", line)
    if len(text) > len(str(SEQ_MAX)) or int(text) > SEQ_MAX:
        raise BadNote(f"the number is above {SEQ_MAX}", line)
    return int(text)


def decode64(text: str, line: int | None) -> bytes:
    """The bytes of canonical base64: what `encode64` would write, and nothing else.

    Raises:
        BadNote: for anything else.
    """
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or encode64(data) != text:
        raise BadNote("not base64 as RFC 4648 writes it (section 4, with padding, unused bits zero)", line)
    return data


def plain(data: bytes | str, bytes_max: int = NOTE_BYTES_MAX) -> str:
    """The text, where it is UTF-8 without control characters but line feeds, and not too long.

    Raises:
        BadNote: where it is not.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        size = len(text.encode("utf-8"))
    except UnicodeError:
        raise BadNote("the note is not UTF-8") from None
    if size > bytes_max:
        raise BadNote(f"the note has more than {bytes_max} bytes")
    for number, line in enumerate(text.split("\n"), 1):
        if any(character < " " for character in line):
            raise BadNote("a control character other than the line feed", number)
    return text


def _signature(line: str, number: int) -> Signature:
    if not line.startswith(DASH):
        raise BadNote("a signature line begins with an em dash and a space", number)
    name, gap, encoded = line.removeprefix(DASH).partition(" ")
    if not gap:
        raise BadNote("a signature line is an em dash, a name and base64, with one space between", number)
    _check_name(name, number)
    data = decode64(encoded, number)
    if len(data) <= KEY_ID_BYTES:
        raise BadNote("a signature is a key id of 4 bytes and at least one byte more", number)
    return Signature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


def _check_name(name: str, line: int | None) -> None:
    if not name or "+" in name or any(character.isspace() or character < " " for character in name):
        raise BadNote("a key's name is not empty and has no space and no plus sign in it", line)


def _key_id(name: str, algorithm: int, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + bytes([algorithm]) + public).digest()[:KEY_ID_BYTES]


# ---- believing -------------------------------------------------------------------------------------------


def signers_of(note: Note, keys: Iterable[VerifierKey], verify: Verify) -> tuple[VerifierKey, ...]:
    """Which of the known keys signed the note, each once, in the note's order; none is an answer too.

    Signatures by unknown keys and by keys of unknown algorithms are passed over.

    Raises:
        BadSignature: a signature that names a known key is not that key's.
    """
    known = {(key.name, key.key_id): key for key in keys if key.algorithm == ED25519}
    found: dict[VerifierKey, None] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if not verify(key.public, note.text.encode(), signature.data):
            raise BadSignature(
                f"the signature of {key.name}+{key.key_id.hex()} does not fit the note: one of them was changed"
            )
        found[key] = None
    return tuple(found)


def open_note(data: bytes | str, keys: Iterable[VerifierKey], verify: Verify) -> Note:
    """The note, signed by at least one of the keys.

    Raises:
        BadNote: it is not a note. BadSignature: as `signers_of`. NotSigned: none of the keys signed it.
    """
    note = parse_note(data)
    if not signers_of(note, keys, verify):
        raise NotSigned("none of the known keys signed this note; it says nothing that can be relied on")
    return note


def open_checkpoint(
    data: bytes | str, origin: str, keys: Iterable[VerifierKey], verify: Verify
) -> Checkpoint:
    """The checkpoint of the log `origin`, signed by at least one of the keys.

    Raises:
        BadNote: it is no checkpoint, or one of another log. BadSignature, NotSigned: as `open_note`.
    """
    checkpoint = parse_checkpoint(open_note(data, keys, verify).text)
    check_origin(checkpoint, origin)
    return checkpoint


def check_origin(checkpoint: Checkpoint, origin: str) -> None:
    """Return if the checkpoint is one of this log.

    Raises:
        BadNote: it is of another.
    """
    if checkpoint.origin != origin:
        raise BadNote(f"this is a checkpoint of {checkpoint.origin}, not of {origin}", 1)
