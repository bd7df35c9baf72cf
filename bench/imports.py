"""How fast an import is, against appending the same messages through the log alone: `python -m bench.imports`.

Each round imports a transcript into a new store, appends as many messages straight to a `SqliteLog` (what `bench.fill`
does), and imports the transcript once more into the store that has it, which has to leave its head as it was. Ratios
are of messages per second. Memory is the most that a process held that imports it, against one that imports
1,000 messages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.fill import BATCH, Message, append_all, messages_of
from bench.harness import Row, interleave, machine, markdown, paired_ratio, ratio_row, spread
from ccn_mcp.app import node_of
from ccn_mcp.domain.imported import Options
from ccn_mcp.interop.formats import items
from ccn_mcp.node.context import Caller
from ccn_mcp.node.imports import Importer
from ccn_mcp.settings import Settings

MESSAGES: Final = 20_000
ROUNDS: Final = 3
FEW: Final = 1_000
MEMORY_MAX: Final = 1.2
RUN_S_MAX: Final = 600
ROOT: Final = Path(__file__).resolve().parent.parent

# Not `ru_maxrss`: it begins with what the parent held.
PEAK: Final = (
    "import sys; from pathlib import Path; from bench.imports import import_once; "
    "import_once(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])); "
    "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
)


def write_transcript(path: Path, count: int) -> None:
    """The messages of `bench.fill` as Claude Code would have written them."""
    with path.open("w", encoding="utf-8") as file:
        for number, message in enumerate(messages_of(count)):
            line = {
                "parentUuid": f"{number - 1:036d}" if number else None,
                "isSidechain": False,
                "userType": "external",
                "cwd": "/home/ann/boat",
                "sessionId": message.session_id,
                "version": "2.1.0",
                "type": message.role,
                "message": {"role": message.role, "content": [{"type": "text", "text": message.content}]},
                "uuid": f"{number:036d}",
                "timestamp": "2026-03-02T10:00:00.250Z",
            }
            file.write(json.dumps(line) + "\n")


def import_once(db: Path, transcript: Path, count: int, *, again: bool = False) -> float:
    """Messages per second; `again`: nothing may be added."""

    async def work() -> int:
        async with node_of(Settings(db=db, config_dir=db.parent), Caller(source="cli")) as node:
            before = str((await node.ctx.store.info()).head)
            importer = Importer(node.ctx, node.caller)
            with transcript.open("rb") as file:
                await importer.feed(items(file, transcript.name, Options()))
            done = await importer.finish()
            if again and done["head"] != before:
                raise AssertionError("the second import added something")
            return done["already_there"] if again else done["imported"]

    start = time.perf_counter()
    done = asyncio.run(work())
    taken = time.perf_counter() - start
    if done != count:
        raise AssertionError(f"{done} of {count} messages")
    return count / taken


def peak(db: Path, transcript: Path, count: int) -> float:
    """The most memory, in bytes, of a process that imports a transcript into a new store."""
    db.parent.mkdir()
    command = [sys.executable, "-c", PEAK, str(db), str(transcript), str(count)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=RUN_S_MAX)
    return float(done.stdout) * 1024


def append_once(db: Path, count: int) -> float:
    """Messages per second."""

    def batches() -> Iterator[list[Message]]:
        left = messages_of(count)
        while batch := list(islice(left, BATCH)):
            yield batch

    start = time.perf_counter()
    append_all(db, batches())
    return count / (time.perf_counter() - start)


def measure(folder: Path, count: int, rounds: int) -> str:
    """The table."""
    transcript = folder / "transcript.jsonl"
    write_transcript(transcript, count)
    stores = iter(range(1_000_000))
    newest = folder

    def first() -> float:
        nonlocal newest
        newest = folder / f"import-{next(stores)}" / "ccn.db"
        newest.parent.mkdir()
        return import_once(newest, transcript, count)

    def raw() -> float:
        db = folder / f"raw-{next(stores)}" / "ccn.db"
        db.parent.mkdir()
        return append_once(db, count)

    def second() -> float:
        return import_once(newest, transcript, count, again=True)

    done = interleave({"import": first, "raw": raw, "again": second}, rounds)
    few = folder / "few.jsonl"
    write_transcript(few, FEW)
    held = interleave(
        {
            "many": lambda: peak(folder / f"held-{next(stores)}" / "ccn.db", transcript, count),
            "few": lambda: peak(folder / f"held-{next(stores)}" / "ccn.db", few, FEW),
        },
        rounds,
    )
    rows = []
    for name, what in (("import", "import of a transcript"), ("again", "the same transcript again")):
        low, high = spread(done[name], done["raw"])
        rate = sorted(done[name])[len(done[name]) // 2]
        rows.append(
            Row(
                what,
                "-",
                f"{paired_ratio(done[name], done['raw']):.2f}x ({low:.2f}-{high:.2f}) of raw appends",
                None,
                f"{rate:,.0f} messages/s",
            )
        )
    rate = sorted(done["raw"])[len(done["raw"]) // 2]
    rows.append(Row(f"raw appends, {BATCH} a batch", "-", "1", None, f"{rate:,.0f} messages/s"))
    rows.append(
        ratio_row(
            f"memory of the import against one of {FEW:,} messages",
            held["many"],
            held["few"],
            at_most=MEMORY_MAX,
            detail=f"{max(held['many']) / 1e6:.0f} MB against {max(held['few']) / 1e6:.0f} MB",
        )
    )
    return f"{machine(folder)}; {count:,} messages, {rounds} rounds\n\n{markdown(rows)}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="ccn-bench-") as folder:
        print(measure(Path(folder), chosen.messages, chosen.rounds))


if __name__ == "__main__":
    main()
