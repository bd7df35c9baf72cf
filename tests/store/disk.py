"""What a disk may hold after a power cut: the calls that a traced program made, replayed onto a model of a disk.

`record` runs a program under strace and returns what it did to the files below a folder, in order. `Disk` takes
these steps one by one and says at any of them what a power cut could leave: only what was synced is certain.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import pytest

SECTOR: Final = 512
TRACED: Final = (
    "write,writev,pwrite64,pwritev,pwritev2,truncate,ftruncate,fallocate,fsync,fdatasync,sync_file_range,"
    "openat,creat,rename,renameat,renameat2,unlink,unlinkat,link,linkat,mkdir,mkdirat"
)
TRACE_S_MAX: Final = 120.0

Files = dict[PurePosixPath, bytes]
"""An image: what is in each file, by its path below the traced folder."""


class Step(NamedTuple):
    """One call that succeeded. `data` of a link or rename is its new path; `told` is a line on stdout."""

    call: str
    path: PurePosixPath
    at: int = 0
    data: bytes = b""
    told: dict[str, Any] | None = None


# ---- recording -----------------------------------------------------------------------------------------


def strace() -> str:
    """Where strace is; a test that needs it fails without."""
    found = shutil.which("strace")
    if found is None:
        pytest.fail("strace is needed to record system calls and was not found; `apt-get install strace`")
    return found


def record(command: list[str], cwd: Path, folder: Path) -> list[Step]:
    """Run the command and everything that it starts; what it did below `folder` and told on stdout, in order."""
    trace = folder.with_name(folder.name + ".trace")
    options = [
        "-f",
        "--seccomp-bpf",
        "-y",
        "-xx",
        "-s",
        "10000000",
        "-o",
        str(trace),
        "-e",
        f"trace={TRACED}",
    ]
    done = subprocess.run(
        [strace(), *options, *command], cwd=cwd, capture_output=True, timeout=TRACE_S_MAX, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    root = PurePosixPath(folder)
    with trace.open(encoding="ascii") as lines:
        steps = [step for line in _joined(lines) if (step := _step(line, root)) is not None]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [step.told for step in steps if step.told is not None] == told, "the trace misses what was told"
    return steps


_LINE: Final = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(.*)", re.DOTALL)
_RESUMED: Final = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)", re.DOTALL)
_TEXT: Final = re.compile(r'["<]((?:\\x[0-9a-f]{2})*)[">]')
_DATA_CALLS: Final = {"write", "pwrite64", "ftruncate", "fsync", "fdatasync"}


def _joined(lines: Iterator[str]) -> Iterator[str]:
    """Calls in the order in which they ended; strace cuts a line in two where threads overlap.

    A sync is said to cover what was written before its end. Of writes to the same file meanwhile that would be too
    much, but the turnstile allows none.
    """
    begun: dict[str, str] = {}
    for line in lines:
        if line.endswith("<unfinished ...>\n"):
            begun[line.split(" ", 1)[0]] = line.removesuffix("<unfinished ...>\n")
        elif (resumed := _RESUMED.fullmatch(line)) is not None:
            yield begun.pop(resumed[1]) + resumed[2]
        else:
            yield line


def _step(line: str, root: PurePosixPath) -> Step | None:
    found = _LINE.fullmatch(line)
    if found is None or found[4] == "-1":
        return None  # a signal, an exit, or a call that did nothing
    _, call, arguments, result, rest = found.groups()
    texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments)]
    if call == "write" and arguments.startswith("1<"):
        return Step("told", root, told=json.loads(texts[1]))
    if call == "openat":
        if "O_CREAT" not in arguments:
            return None
        assert "O_TRUNC" not in arguments or not _below(texts[1], root), arguments
        texts = [bytes.fromhex(_TEXT.findall(rest)[0].replace("\\x", ""))]
    elif call in ("linkat", "renameat", "renameat2", "mkdirat", "unlinkat"):
        call, texts = call.rstrip("2").removesuffix("at"), texts[1::2]  # every second one is the folder
    path = _below(texts[0], root)
    if path is None:
        return None
    assert call in _DATA_CALLS | {"openat", "link", "rename", "mkdir", "unlink"}, (
        f"not modelled: {line[:200]}"
    )
    assert "(deleted)" not in arguments, f"a file that nobody can find any more was written: {line[:200]}"
    if call == "pwrite64":
        return Step(call, path, int(arguments.rsplit(", ", 1)[1]), texts[1][: int(result)])
    if call == "ftruncate":
        return Step(call, path, int(arguments.rsplit(", ", 1)[1]))
    if call in ("link", "rename"):
        target = _below(texts[1], root)
        assert target is not None, line[:200]
        return Step(call, path, data=str(target).encode())
    return Step(call, path, data=texts[1][: int(result)] if call == "write" else b"")


def _below(name: bytes, root: PurePosixPath) -> PurePosixPath | None:
    path = PurePosixPath(name.decode())
    return path.relative_to(root) if path.is_relative_to(root) else None


# ---- the disk ------------------------------------------------------------------------------------------


class Change(NamedTuple):
    """A write at `at`, or a cut to `at` bytes where `data` is None."""

    at: int
    data: bytes | None


@dataclass
class Node:
    """A file (`synced`, `changes`) or a folder (`entries`, `renamed`): what is certain, and what came since."""

    synced: bytes = b""
    changes: list[Change] = field(default_factory=list)
    entries: dict[str, Node] | None = None
    renamed: list[tuple[str, Node | None]] = field(default_factory=list)

    def content(self, changes: list[Change]) -> bytes:
        """The file after these of its changes."""
        data = bytearray(self.synced)
        for at, written in changes:
            end = at if written is None else max(len(data), at + len(written))
            data[len(data) : end] = bytes(max(0, end - len(data)))
            if written is None:
                del data[at:]
            else:
                data[at : at + len(written)] = written
        return bytes(data)

    def names(self, count: int) -> dict[str, Node]:
        """The folder after the first so many of its changes."""
        found = dict(self.entries or {})
        for name, node in self.renamed[:count]:
            if node is None:
                found.pop(name, None)
            else:
                found[name] = node
        return found

    def all_names(self) -> dict[str, Node]:
        """The folder as programs see it."""
        return self.names(len(self.renamed))


Keep = Callable[[list[Change]], list[Change]]
"""Which changes since its last sync reached the disk, of one file."""


class Disk:
    """The files below one folder, which is there from the start."""

    def __init__(self) -> None:
        self.root = Node(entries={})

    def take(self, step: Step) -> None:
        """Do what the step did."""
        call, path = step.call, step.path
        if call == "told":
            return
        if call in ("openat", "mkdir"):
            if path.name not in self._node(path.parent).all_names():
                self._enter(path, Node(entries={} if call == "mkdir" else None))
        elif call == "unlink":
            self._enter(path, None)
        elif call in ("link", "rename"):
            self._enter(PurePosixPath(step.data.decode()), self._node(path))
            if call == "rename":
                self._enter(path, None)
        elif call in ("fsync", "fdatasync"):
            self._sync(self._node(path))
        elif call == "write":  # our own small files are written from start to end
            node = self._node(path)
            node.changes.append(Change(len(node.content(node.changes)), step.data))
        else:
            self._node(path).changes.append(Change(step.at, None if call == "ftruncate" else step.data))

    def image(self, keep: Keep, names: Callable[[int], int]) -> Files:
        """What is left; `names` says how many of so many changes to a folder reached the disk."""
        return dict(_files(self.root, PurePosixPath(), keep, names))

    def _node(self, path: PurePosixPath) -> Node:
        node = self.root
        for part in path.parts:
            node = node.all_names()[part]
        return node

    def _enter(self, path: PurePosixPath, node: Node | None) -> None:
        self._node(path.parent).renamed.append((path.name, node))

    def _sync(self, node: Node) -> None:
        if node.entries is None:
            node.synced, node.changes = node.content(node.changes), []
        else:
            node.entries, node.renamed = node.all_names(), []


def _files(
    folder: Node, path: PurePosixPath, keep: Keep, names: Callable[[int], int]
) -> Iterator[tuple[PurePosixPath, bytes]]:
    for name, node in folder.names(names(len(folder.renamed))).items():
        if node.entries is None:
            yield path / name, node.content(keep(node.changes))
        else:
            yield from _files(node, path / name, keep, names)


# ---- what a power cut leaves ---------------------------------------------------------------------------


def images(disk: Disk, rng: random.Random) -> dict[str, Files]:
    """One image of each model; in all but the last the folders are as the program left them."""

    def some(changes: list[Change]) -> list[Change]:
        return [change for change in changes if rng.random() < 0.5]

    def torn(changes: list[Change]) -> list[Change]:
        return [
            part
            for change in changes
            for part in _sectors(change)
            if rng.random() < 0.5  # each sector by itself
        ]

    def all_of(count: int) -> int:
        return count

    return {
        "dropped": disk.image(lambda _: [], all_of),
        "kept": disk.image(lambda changes: changes, all_of),
        "subset": disk.image(some, all_of),
        "torn": disk.image(torn, all_of),
        # What changed in a folder reaches the disk in order, but perhaps not before the folder is synced.
        "names": disk.image(rng.choice([some, torn]), lambda count: rng.choice([0, rng.randint(0, count)])),
    }


def _sectors(change: Change) -> Iterator[Change]:
    if change.data is None:
        yield change
        return
    start, end = change.at, change.at + len(change.data)
    while start < end:
        until = min(end, (start // SECTOR + 1) * SECTOR)
        yield Change(start, change.data[start - change.at : until - change.at])
        start = until
