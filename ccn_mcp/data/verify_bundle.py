"""Check a bundle that `ccn-mcp export --bundle` wrote. One file, Python 3.9 or newer, nothing to install.

    python3 -I verify_bundle.py FOLDER [--key VKEY] [--head SIZE:ROOT]

It reads the folder, writes nothing and needs no network. Exit status 0: everything fits; 1: something does not,
and the message names the file and the entry or line. `check` near the end is the whole of it, in order.
Formats: docs/formats.md of ccn-mcp; RFC 6962 (the tree); C2SP tlog-tiles, signed-note and tlog-checkpoint.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any, BinaryIO

WIDTH = 256  # hashes in a full tile, and entries in a full file of entries
ENTRY = struct.Struct(">12s16sQqH32s32s")  # tag, store id, position, time, kind, previous leaf, commitment
STEP = 2 + ENTRY.size  # in its file, an entry comes after its length in 16 bits
GENESIS, KEY, REDACTION, ANCHOR, ERASABLE = 0, 5, 6, 7, (1, 2, 3, 8, 9, 10, 11, 12)
FILE_MAX = 1 << 24  # bytes of a file that is read whole
NOT_CHECKED = ("README.txt", "verify_bundle.mjs", "verify_bundle.py")
HINT = "Without --key, a key is what the log says of itself. Not checked: README, scripts, stamps, truth."
Found = dict[str, Any]
Progress = Callable[[int, int], object]  # is told how many entries of how many are done
BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?"


class Fault(Exception):
    """What does not fit, and where."""


def need(good: object, fault: str) -> None:
    """Go on only if this holds."""
    if not good:
        raise Fault(fault)


# ---- 1. Files ----------------------------------------------------------------------------------------------


def tile_name(index: int, width: int) -> str:
    """`x001/x234/067` for tile 1234067, with `.p/WIDTH` after it where the tile is not full."""
    name = f"{index % 1000:03d}"
    while index >= 1000:
        index //= 1000
        name = f"x{index % 1000:03d}/{name}"
    return name if width == WIDTH else f"{name}.p/{width}"


def tiles(count: int) -> Iterator[tuple[int, int]]:
    """Number and width of every tile that `count` hashes or entries take."""
    return ((at // WIDTH, min(WIDTH, count - at)) for at in range(0, count, WIDTH))


def list_files(folder: Path) -> set[str]:
    """The names of all files in the folder; a link or a device is refused."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    for path in sorted(paths):
        need(
            path.is_file() and not path.is_symlink(),
            f"{path.relative_to(folder).as_posix()}: no regular file",
        )
    return {path.relative_to(folder).as_posix() for path in paths}


def check_names(found: set[str], size: int) -> None:
    """Every file that a log of this size has is there, and no other."""
    wanted = {"head", "keys", *(f"payload/{tile_name(*tile)}" for tile in tiles(size))}
    wanted |= {f"tile/entries/{tile_name(*tile)}" for tile in tiles(size)}
    level, count = 0, size
    while count:
        wanted |= {f"tile/{level}/{tile_name(*tile)}" for tile in tiles(count)}
        level, count = level + 1, count // WIDTH
    for name in sorted(wanted - found):
        raise Fault(f"{name}: missing")
    places = {name.split(".p/")[0]: name for name in wanted}
    for name in sorted(found - wanted - {*NOT_CHECKED}):
        place = name.split(".p/")[0]
        need(place not in places, f"{name}: a second one beside {places.get(place)}")
        known = re.fullmatch(
            r"checkpoint|checkpoints/[1-9][0-9]{0,14}|anchors/[1-9][0-9]{0,14}\.(note|tsr)", name
        )
        need(known, f"{name}: does not belong to a bundle of {size} entries")


def read(folder: Path, name: str, most: int = FILE_MAX) -> bytes:
    """All bytes of a file that has at most so many."""
    need((folder / name).is_file(), f"{name}: missing")
    with (folder / name).open("rb") as file:
        data = file.read(most + 1)
    need(len(data) <= most, f"{name}: longer than {most} bytes")
    return data


# ---- 2. Heads, signed or not: C2SP signed-note and tlog-checkpoint -----------------------------------------

HEAD_LINES = [("ccn-log/[0-9a-f]{32}", "the log's name"), ("[1-9][0-9]{0,14}", "the number of entries")]
HEAD_LINES += [("[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=", "the root, 32 bytes in base64")]
SIGNED_LINES = [("", "an empty line"), (f"\xe2\x80\x94 [^ +]+ {BASE64}", "a signature")]  # a dash in UTF-8


class Head:
    """A head that was read and is not believed yet: `text` is what is signed."""

    def __init__(self, folder: Path, file: str, *, signed: bool) -> None:
        lines = read(folder, file).decode("latin-1").split("\n")
        need(lines.pop() == "", f"{file}: line {len(lines) + 1}: ends without a line feed")
        rules = HEAD_LINES + (SIGNED_LINES + SIGNED_LINES[1:] * (len(lines) - 5) if signed else [])
        for number, (pattern, what) in enumerate(rules, 1):
            good = number <= len(lines) and re.fullmatch(pattern, lines[number - 1])
            need(good, f"{file}: line {number}: should be {what}")
        need(len(lines) == len(rules), f"{file}: line {len(rules) + 1}: should be the end")
        self.file, self.origin, self.size, self.root = file, lines[0], int(lines[1]), b64decode(lines[2])
        self.text = "".join(line + "\n" for line in lines[:3]).encode()
        self.signatures = [line.split(" ")[1:] for line in lines[4:]]


# ---- 3. Entries, their content and their tiles -------------------------------------------------------------


def tree_hash(hashes: list[bytes]) -> bytes:
    """The root over hashes of equally large subtrees, of which the last may be smaller (RFC 6962)."""
    while len(hashes) > 1:
        pairs = [sha256(b"\1" + hashes[i] + hashes[i + 1]).digest() for i in range(0, len(hashes) - 1, 2)]
        hashes = pairs + hashes[2 * len(pairs) :]
    return hashes[0]


def check_tile(folder: Path, level: int, index: int, hashes: list[bytes]) -> None:
    """Compare the file of a tile with the hashes that the entries give."""
    name = f"tile/{level}/{tile_name(index, len(hashes))}"
    data = read(folder, name, 32 * len(hashes))
    for at, expected in enumerate(hashes):
        if data[32 * at : 32 * at + 32] != expected:
            first = (index * WIDTH + at) * WIDTH**level
            raise Fault(f"{name}: hash {at}, from entry {first} on, is not that of the entries")


class Log:
    """What the entries add up to: `roots` at the sizes that somebody signed or holds, and what is checked last."""

    def __init__(self, folder: Path, head: Head, sizes: set[int]) -> None:
        self.folder, self.size, self.sizes = folder, head.size, sizes
        self.store_id, self.leaf = bytes.fromhex(head.origin[-32:]), bytes(32)
        self.full: list[bytes] = []  # the roots over 256 entries each
        self.row: list[bytes] = []  # the leaves after those
        self.roots: dict[int, bytes] = {}
        self.erased: list[tuple[int, int]] = []  # position, kind
        self.special: list[tuple[int, int, dict[str, Any]]] = []  # position, kind, body
        self.stamps: dict[str, bytes] = {}

    def read_all(self, told: Progress) -> None:
        """Every entry in order, each tile of leaves as it is filled, and then the tiles above."""
        for index, width in tiles(self.size):
            name, first, self.row = tile_name(index, width), index * WIDTH, []
            data = read(self.folder, f"tile/entries/{name}", STEP * width)
            left = (self.folder / "payload" / name).stat().st_size
            with (self.folder / "payload" / name).open("rb") as payload:
                for at in range(width):
                    left = self.entry(first + at, data[STEP * at : STEP * at + STEP], payload, left, name)
                need(not left, f"payload/{name}: {left} bytes after entry {first + width - 1}")
            check_tile(self.folder, 0, index, self.row)
            self.full += [tree_hash(self.row)] if width == WIDTH else []
            told(first + width, self.size)
        level, hashes = 1, self.full
        while hashes:
            for index, width in tiles(len(hashes)):
                check_tile(self.folder, level, index, hashes[index * WIDTH : index * WIDTH + width])
            ends = range(WIDTH, len(hashes) + 1, WIDTH)
            level, hashes = level + 1, [tree_hash(hashes[end - WIDTH : end]) for end in ends]

    def entry(self, seq: int, data: bytes, file: BinaryIO, left: int, name: str) -> int:  # noqa: C901  # one by one
        """Check one entry and its content and add it to the tree; how many bytes of the content file are left."""
        if len(data) < STEP or data[:2] != b"\0\x6e":
            raise Fault(f"tile/entries/{name}: entry {seq}: not 110 bytes after their length")
        tag, store_id, number, _, kind, previous, commitment = ENTRY.unpack_from(data, 2)
        if tag != b"ccn.entry/1\n" or store_id != self.store_id:
            raise Fault(f"tile/entries/{name}: entry {seq}: not an entry of this log")
        if number != seq or previous != self.leaf:
            raise Fault(f"tile/entries/{name}: entry {seq}: does not follow the entry before it")
        self.leaf = sha256(b"\0" + data[2:]).digest()
        self.row.append(self.leaf)
        if seq + 1 in self.sizes:
            self.roots[seq + 1] = tree_hash([*self.full, tree_hash(self.row)])
        mark = file.read(1)  # then salt, body and blob as they were hashed; or nothing, where it was erased
        if mark == b"\0":
            self.erased.append((seq, kind))
            return left - 1
        if mark != b"\1":
            raise Fault(f"payload/{name}: entry {seq}: begins with neither 0 nor 1")
        parts, left = [file.read(16)], left - 17
        for _ in ("body", "blob"):
            prefix = file.read(8)
            left -= 8 + int.from_bytes(prefix, "big")
            if left < 0:
                raise Fault(f"payload/{name}: entry {seq}: the file ends inside of it")
            parts += [prefix, file.read(int.from_bytes(prefix, "big"))]
        if sha256(b"ccn.commit/1\n" + b"".join(parts)).digest() != commitment:
            raise Fault(f"payload/{name}: entry {seq}: the content is not what was recorded")
        if kind in (GENESIS, KEY, REDACTION, ANCHOR):
            try:
                body = json.loads(parts[2].decode())
            except (ValueError, RecursionError):
                body = None
            need(isinstance(body, dict), f"payload/{name}: entry {seq}: the body is no JSON object")
            self.special.append((seq, kind, body))
            if kind == ANCHOR:
                note = str(body.get("note")).encode()
                self.stamps |= {f"anchors/{seq}.note": note, f"anchors/{seq}.tsr": parts[4]}
        return left

    def check_content(self, files: set[str]) -> None:
        """One genesis at the start, an erasure for all that is missing, no time stamp without an entry."""
        genesis = [seq for seq, kind, _ in self.special if kind == GENESIS]
        need(genesis == [0], "entry 0: the log does not begin with its one genesis entry")
        told = {str(body.get("target")): seq for seq, kind, body in self.special if kind == REDACTION}
        for seq, kind in self.erased:
            good = kind in ERASABLE and told.get(str(seq), 0) > seq
            need(good, f"payload: entry {seq}: its content is gone and no later entry erased it")
        for name in sorted(self.stamps.keys() | {name for name in files if name.startswith("anchors/")}):
            need(self.stamps.get(name) == read(self.folder, name), f"{name}: no entry holds this")


# ---- 4. Ed25519, RFC 8032 section 5.1: strictly, so no second encodings and no points of small order -------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
SMALL_ORDER = (0, 1, P - 1, Y8, P - Y8)  # the y of all eight such points
Point = tuple[int, int, int, int]  # x, y, z, t: the point (x / z, y / z), and t = x * y / z


def point(data: bytes) -> Point | None:
    """The point that these 32 bytes are the one proper encoding of."""
    y, sign = int.from_bytes(data, "little") % 2**255, data[-1] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    if y >= P or y in SMALL_ORDER or x * x % P != square:
        return None
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


def add(p: Point, q: Point) -> Point:
    """The sum of two points."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    return (b - a) * (d - c) % P, (d + c) * (b + a) % P, (d - c) * (d + c) % P, (b - a) * (b + a) % P


def times(number: int, p: Point) -> Point:
    """So many times the point."""
    total: Point = (0, 1, 1, 0)
    while number:
        total = add(total, p) if number & 1 else total
        number, p = number >> 1, add(p, p)
    return total


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is that of the message under the key."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, r, s = point(public), point(signature[:32]), int.from_bytes(signature[32:], "little")
    base = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    if key is None or r is None or base is None or s >= ORDER:
        return False
    digest = int.from_bytes(sha512(signature[:32] + public + message).digest(), "little") % ORDER
    one, two = times(s, base), add(r, times(digest, key))
    return not any((one[i] * two[2] - two[i] * one[2]) % P for i in (0, 1))


# ---- 5. Keys: who had to sign at which size ----------------------------------------------------------------

Chain = list[tuple[int, str, bytes]]  # the entry that announces the key, the key as text, its 32 bytes


def public_of(key: str, log: str) -> bytes:
    """The 32 bytes of an Ed25519 key in text, `name+id+base64`; none if it is no key of this log."""
    match = re.fullmatch(r"(ccn-log/[0-9a-f]{32})\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})", key)
    data = b64decode(match[3]) if match else b""
    right = match and match[1] == log and sha256(f"{log}\n".encode() + data).hexdigest()[:8] == match[2]
    return data[1:] if right and data[0] == 1 else b""


def key_chain(log: Log, origin: str, wanted: str | None) -> Chain:
    """The keys from the wanted one (or the first, or the newest after a loss) on, each signed by the one before."""
    past = log.special[0][2].get("restored_from")  # then the older entries speak of that log's keys
    own = int(past.get("entries", 0)) if isinstance(past, dict) else 0
    named = [(seq, body, body.get("key")) for seq, kind, body in log.special if kind == KEY and seq >= own]
    first = log.special[0][2].get("signed_by")
    named = [(0, {}, first), *named] if first is not None else named
    listed = "".join(f"{seq} {key}\n" for seq, _, key in named).split("\n")
    lines = read(log.folder, "keys").decode("latin-1").split("\n")
    for at in range(max(len(listed), len(lines))):
        need(listed[at : at + 1] == lines[at : at + 1], f"keys: line {at + 1}: not what the entries say")
    if wanted is None and named:
        wanted = [key for _, body, key in named if key == named[0][2] or body.get("event") == "lost"][-1]
    chain: Chain = []
    for seq, body, key in named:
        if key != wanted if not chain else len(chain) == 1 and key == wanted and body.get("event") == "first":
            continue
        public, signature = public_of(str(key), origin), str(body.get("signature"))
        need(public, f"entry {seq}: names no key of this log")
        if chain:
            message = b"ccn.key/1\n" + log.store_id + seq.to_bytes(8, "big") + str(key).encode()
            good = re.fullmatch(BASE64, signature) and verify(chain[-1][2], message, b64decode(signature))
            good = good and key not in [text for _, text, _ in chain]
            need(good, f"entry {seq}: the key that was due has not signed this change of key")
        chain.append((seq, str(key), public))
    return chain


def check_signatures(head: Head, chain: Chain) -> None:
    """The key that was due at the size of this head has signed it."""
    due = max([place for place, (seq, _, _) in enumerate(chain) if seq < head.size], default=-1)
    signers = []
    for line, (name, encoded) in enumerate(head.signatures, 5):
        data = b64decode(encoded)
        for place, (_, key, public) in enumerate(chain):
            if key.startswith(f"{name}+{data[:4].hex()}+"):
                good = verify(public, head.text, data[4:])
                need(good, f"{head.file}: line {line}: the signature does not fit")
                signers.append(place)
    late = [chain[place + 1][0] for place in signers if place < due and due not in signers]
    need(not late, f"{head.file}: signed by a key that entry {min(late, default=0)} had replaced")
    need(due in signers, f"{head.file}: not signed by the key that was due")


# ---- 6. All of it ------------------------------------------------------------------------------------------


def check(folder: Path, key: str | None, known: str | None, told: Progress = lambda *_: None) -> Found:
    """Check the whole bundle, or raise the first Fault; `key` is one that you trust, `known` a head that you kept."""
    need(re.fullmatch("[1-9][0-9]{0,14}:[0-9a-f]{32,64}", known or "1:" + "0" * 32), "--head: not SIZE:ROOT")
    known_size, known_root = (known or "0:").split(":")
    head, files = Head(folder, "head", signed=False), list_files(folder)
    check_names(files, head.size)
    notes = [Head(folder, name, signed=True) for name in sorted(files) if name.startswith("checkpoint")]
    log = Log(folder, head, {head.size, int(known_size), *(note.size for note in notes)})
    log.read_all(told)
    need(log.roots[log.size] == head.root, f"head: line 3: the root here is {log.roots[log.size].hex()}")
    for note in notes:
        need(note.origin == head.origin, f"{note.file}: line 1: the head of another log")
        need(note.size in log.roots, f"{note.file}: line 2: the bundle ends at {log.size}")
        need(note.file in ("checkpoint", f"checkpoints/{note.size}"), f"{note.file}: line 2: not its name")
        need(note.root == log.roots[note.size], f"{note.file}: line 3: the entries have another root")
    log.check_content(files)
    chain = key_chain(log, head.origin, key)
    need(chain or key is None, "--key: the log names no such key")
    # What came before the first of these keys was signed with one that was lost.
    notes = [note for note in notes if not chain or note.size > chain[0][0]]
    for note in notes:
        check_signatures(note, chain)
    sizes = {note.size for note in notes}
    for at in [seq for seq, _, _ in chain[1:] if seq < max(sizes, default=0) and seq not in sizes]:
        raise Fault(f"checkpoints/{at}: missing: the head that the key before entry {at} signed last")
    need(notes or key is None, "--key: no head in this bundle is signed with it")
    here = log.roots.get(int(known_size), b"").hex()
    need(known is None or (here and here.startswith(known_root)), "--head: not a head of this log")
    level, last = 3 if known else 2 if key else 1, chain[-1][1] if chain else ""
    found: Found = {"level": level, "log": head.origin, "entries": log.size, "key": last}
    found |= {"signed_to": max(sizes, default=0), "erased": len(log.erased)}
    return {**found, "head": f"{log.size}:{head.root.hex()}"}


def report(found: Found) -> str:
    """What was found, for people."""
    text = "".join(f"{name:7}{found[name]}\n" for name in ("log", "head", "key"))
    signed = f"signed to {found['signed_to']} of {found['entries']}, {found['erased']} erased"
    levels = ("", "complete", "signed by the key that you gave", "contains the head that you kept")
    return f"ok: level {found['level']}, {levels[found['level']]}; {signed}\n{text}{HINT}\n"


def main(arguments: list[str]) -> int:
    """Read the command line; the exit status."""
    options = dict(zip(arguments[1::2], arguments[2::2]))  # noqa: B905  # Python 3.9 has no `strict`
    if len(arguments) % 2 == 0 or arguments[0][:1] == "-" or options.keys() - {"--key", "--head"}:
        sys.stderr.write("usage: verify_bundle.py FOLDER [--key VKEY] [--head SIZE:ROOT]\n")
        return 2
    try:
        found = check(Path(arguments[0]), options.get("--key"), options.get("--head"))
    except Fault as fault:
        sys.stdout.write(f"NOT AS IT WAS WRITTEN\n{fault}\n")
        return 1
    sys.stdout.write(report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
