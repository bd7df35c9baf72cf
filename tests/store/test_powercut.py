"""Goal G5: whatever a power cut leaves of the files, what was acknowledged is there, once, and the chain is whole.

Real processes write under strace; their calls are replayed onto a model of a disk (disk.py), and after each call
every model says what a cut at that moment could leave. Each image is opened by the program as it is, checked, and
every message is sent again. The same check has to fail where the program or the disk does not keep its promise.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import pytest

from tests.store.disk import Disk, Files, Step, images, record
from tests.store.model import seeded
from tests.store.powercut import NOTHING, Promised, check
from tests.store.worker import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="strace is Linux"),
]

IMAGES_MIN: Final = 2_000
SOME: Final = 25
"""Every so many steps where a few images are enough."""

AT_ONCE: Final = 100
"""Images in memory."""

PROCESSES: Final = 2
SYNCS: Final = ("fsync", "fdatasync")
VOLATILE: Final = ("-shm", ".lock", ".queue")
"""Rebuilt by whoever opens the store first; what a cut leaves of them means nothing."""


class Case(NamedTuple):
    """What a power cut after a step could leave, and what had been acknowledged by then."""

    step: int
    model: str
    image: Files
    promised: Promised


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Step], Path]:
    """What the writers did, and the folder as they left it."""
    return trace(tmp_path_factory.mktemp("powercut") / "recorded", "FULL")


def trace(folder: Path, synchronous: str) -> tuple[list[Step], Path]:
    folder.mkdir()
    command = [sys.executable, "-m", "tests.store.powercut", str(folder), synchronous]
    return record(command, ROOT, folder), folder


def cases(steps: list[Step], every: int) -> Iterator[Case]:
    """The images of every so many steps, each only once for the same promises."""
    disk, promised, rng, seen = Disk(), NOTHING, seeded(5), set[bytes]()
    for at, step in enumerate(steps):
        disk.take(step)
        if step.told is not None:
            promised = promised.and_then(step.told)
        if at % every:
            continue
        for model, files in images(disk, rng).items():
            image = {path: data for path, data in files.items() if not path.name.endswith(VOLATILE)}
            digest = digest_of(image, promised)
            if digest not in seen:
                seen.add(digest)
                if model == "torn" and PurePosixPath("data/ccn/ccn.db") in image:
                    image[PurePosixPath("data/ccn/ccn.db-shm")] = rng.randbytes(32_768)
                yield Case(at, model, image, promised)


def digest_of(image: Files, promised: Promised) -> bytes:
    found = hashlib.sha256(
        repr((len(promised.seqs), sorted(promised.asked), sorted(promised.clean))).encode()
    )
    for path in sorted(image):
        found.update(f"{path} {len(image[path])} ".encode())
        found.update(image[path])
    return found.digest()


def problems(steps: list[Step], every: int, folder: Path) -> tuple[Counter[str], dict[str, list[str]]]:
    """How many images of each model were checked, and what was wrong with which."""
    counts, wrong = Counter[str](), dict[str, list[str]]()
    left = cases(steps, every)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        while some := list(islice(left, AT_ONCE)):
            folders = [folder / f"{case.step}-{case.model}" for case in some]
            arguments = zip(*((case.image, case.promised) for case in some), strict=True)
            for case, found in zip(some, pool.map(check, folders, *arguments, chunksize=5), strict=True):
                counts[case.model] += 1
                if found:
                    wrong[f"step {case.step}, {case.model}"] = found
    return counts, wrong


def test_no_power_cut_loses_what_was_acknowledged(
    recorded: tuple[list[Step], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts, wrong = problems(recorded[0], 1, tmp_path)
    with capsys.disabled():
        print(
            f"\nG5: {len(recorded[0])} calls, {counts.total()} different images {dict(counts)}: {len(wrong)} bad"
        )
    assert wrong == {}
    assert counts.total() >= IMAGES_MIN


def test_the_model_of_the_disk_ends_as_the_disk_did(recorded: tuple[list[Step], Path]) -> None:
    steps, folder = recorded
    disk = Disk()
    for step in steps:
        disk.take(step)
    found = disk.image(lambda changes: changes, lambda count: count)
    there = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    assert sorted(map(str, found)) == sorted(map(str, there))
    assert {
        str(path): found[PurePosixPath(path)] == real.read_bytes() for path, real in there.items()
    } == dict.fromkeys(map(str, there), True)


# ---- where the check has to fail -----------------------------------------------------------------------


def losses(steps: list[Step], folder: Path) -> tuple[Counter[str], int]:
    """The images checked, and how many of them lost something acknowledged."""
    counts, wrong = problems(steps, SOME, folder)
    return counts, sum(any(text.startswith("lost") for text in texts) for texts in wrong.values())


def test_without_a_sync_per_commit_acknowledged_messages_are_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`synchronous=NORMAL`, as an application would have it that does not mind."""
    steps, folder = trace(tmp_path / "recorded", "NORMAL")
    counts, lost = losses(steps, tmp_path)
    shutil.rmtree(folder)
    with capsys.disabled():
        print(f"\nG5 under NORMAL: {counts.total()} images, {lost} lost an acknowledged message")
    assert lost > 0


def test_a_disk_that_does_not_sync_loses_them(
    recorded: tuple[list[Step], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [step for step in recorded[0] if step.call not in SYNCS]
    counts, lost = losses(steps, tmp_path)
    with capsys.disabled():
        print(f"\nG5 on a disk that lies: {counts.total()} images, {lost} lost an acknowledged message")
    assert lost > 0


def test_without_a_sync_of_the_folders_the_store_itself_is_lost(
    recorded: tuple[list[Step], Path], tmp_path: Path
) -> None:
    made = {step.path for step in recorded[0] if step.call == "mkdir"} | {PurePosixPath()}
    for folder in made:
        steps = [step for step in recorded[0] if not (step.call in SYNCS and step.path == folder)]
        assert len(steps) < len(recorded[0]), f"{folder} is never synced"
    steps = [step for step in recorded[0] if not (step.call in SYNCS and step.path in made)]
    _, wrong = problems(steps, SOME, tmp_path)
    assert any("lost: the store" in texts for texts in wrong.values())
