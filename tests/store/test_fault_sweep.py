"""Goal G6: EIO, ENOSPC and SIGKILL at every call by which the store writes, cuts, syncs or names a file.

The calls of one history are counted first; then the history runs once per call and fault, with strace putting the
fault there. Whoever gets an error tries again with the same idempotency keys: in the same process, or in the next one
after a kill. The store has to be whole, nothing acknowledged lost, nothing there twice.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from ccn_mcp.store.sqlite import connect
from ccn_mcp.store.sqlite.audit import verify_file
from tests.store.disk import strace
from tests.store.faulty import ERASED, MESSAGES, STORE, message, word_of
from tests.store.test_faults import NEXT_STEP
from tests.store.worker import ROOT, Json

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="strace is Linux"),
]

CALLS: Final = ("write", "pwrite64", "ftruncate", "fsync", "fdatasync", "mkdir", "link", "unlink")
CALLS_MIN: Final = 100
"""A history that makes fewer is not the one that was meant."""

LASTING_EVERY: Final = 5
AT_ONCE: Final = 2
SWEEP_S_MAX: Final = 240.0


class Swept(NamedTuple):
    """How many faults were made, how often each error was told, how many writers died."""

    faults: int
    errors: Counter[str]
    killed: int


def run(folder: Path, call: str, most: int, numbers: Iterable[int], *options: str) -> dict[int, int]:
    """A writer per number, under strace if there are options; how each ended."""
    # With a filter strace is faster but injects no signals.
    fast = [] if any("signal" in option for option in options) else ["--seccomp-bpf"]
    prefix = [strace(), "-f", *fast, "-o", f"{folder}.trace", *options] if options else []
    done = subprocess.run(
        [*prefix, sys.executable, "-B", "-m", "tests.store.faulty", str(folder), call, str(most)]
        + [str(number) for number in numbers],
        cwd=ROOT,
        capture_output=True,
        timeout=SWEEP_S_MAX,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, ""), folder
    return {line["number"]: line["status"] for line in map(json.loads, done.stdout.splitlines())}


def lines_of(folder: Path, number: int) -> list[Json]:
    return [json.loads(line) for line in (folder / f"{number}.lines").read_text().splitlines()]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How often a writer that meets no fault makes each call."""
    folder = tmp_path_factory.mktemp("sweep") / "whole"
    folder.mkdir()
    assert run(folder, "write", 1, [1], "-e", f"trace={','.join(CALLS)}") == {1: 0}
    check(folder, 1)
    trace = Path(f"{folder}.trace").read_text()
    found = Counter(re.findall(r"^\d+ +(\w+)\(.* = ", trace, re.MULTILINE))
    assert found.total() >= CALLS_MIN
    assert all(found[call] for call in CALLS), found
    return dict(found)


def check(folder: Path, number: int) -> list[Json]:
    """The store is whole and holds each message once, but the erased one nowhere; what was told is true."""
    told, store = lines_of(folder, number), folder / str(number)
    assert told[-1] == {"done": True}, (folder, number, told)
    checked = verify_file(store / STORE)
    assert (checked.level, checked.fault) == (1, None), (store, checked.fault)
    connection = connect.connect_to_read(store / STORE, 1.0)
    assert connection is not None
    with closing(connection):
        texts = dict(connection.execute("SELECT seq, text FROM record WHERE kind = 1 ORDER BY seq"))
    expected = [None if at == ERASED else message(at).body["text"] for at in range(MESSAGES)]
    assert list(texts.values()) == expected, (store, texts)
    assert (checked.messages, checked.erased) == (MESSAGES, 1)
    for line in told:
        if "seq" in line:
            assert list(texts).index(line["seq"]) == line["number"], (store, told)
        if "code" in line:
            assert line["code"].startswith("store_"), line
            assert NEXT_STEP.search(line["message"]), f"no next step: {line}"
    word = word_of(ERASED).encode()
    assert [path.name for path in store.rglob("*") if path.is_file() and word in path.read_bytes()] == []
    return told


def sweep(folder: Path, call: str, count: int, fault: str, *, lasting: bool = False) -> Swept:
    """The fault at each of the calls, or from every so many of them on."""
    folder.mkdir()
    numbers = range(1, count + 1, LASTING_EVERY if lasting else 1)
    inject = f"inject={call}:{fault}:when={count}{'+' if lasting else ''}"
    ends = run(folder, call, count, numbers, "-e", f"trace={call}", "-e", inject)
    assert list(ends) == list(numbers)
    killed = sum(status == signal.SIGKILL for status in ends.values())
    assert all(status in (0, signal.SIGKILL) for status in ends.values()), [
        lines_of(folder, number)[-1] for number, status in ends.items() if status not in (0, signal.SIGKILL)
    ]
    assert killed == (len(numbers) if "KILL" in fault else 0)
    # The disk is well again, and a new process goes on.
    unfinished = [number for number in numbers if lines_of(folder, number)[-1:] != [{"done": True}]]
    assert not unfinished or killed or lasting, [lines_of(folder, number) for number in unfinished]
    if unfinished:
        assert set(run(folder, call, 0, unfinished).values()) == {0}
    every = [line for number in numbers for line in check(folder, number)]
    shutil.rmtree(folder)
    return Swept(len(numbers), Counter(str(line["code"]) for line in every if "code" in line), killed)


def sweep_all(tmp_path: Path, calls: dict[str, int], fault: str, *, lasting: bool = False) -> Swept:
    """Every kind of call."""

    def one(call: str) -> Swept:
        return sweep(tmp_path / call, call, calls[call], fault, lasting=lasting)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        every = list(pool.map(one, sorted(calls, key=lambda call: -calls[call])))
    faults, errors, killed = zip(*every, strict=True)
    return Swept(sum(faults), sum(errors, Counter()), sum(killed))


@pytest.mark.parametrize("fault", ["error=EIO", "error=ENOSPC", "signal=KILL"])
def test_a_fault_at_each_call(
    tmp_path: Path, calls: dict[str, int], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = sweep_all(tmp_path, calls, fault)
    with capsys.disabled():
        print(f"\nG6, {fault} at each of {calls}: {swept}")
    assert swept.faults >= CALLS_MIN
    assert swept.errors or swept.killed


@pytest.mark.parametrize("fault", ["error=EIO", "error=ENOSPC"])
def test_a_fault_that_lasts_until_the_process_ends(
    tmp_path: Path, calls: dict[str, int], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = sweep_all(tmp_path, calls, fault, lasting=True)
    with capsys.disabled():
        print(f"\nG6, {fault} from each {LASTING_EVERY}th call on: {swept}")
    assert swept.errors
