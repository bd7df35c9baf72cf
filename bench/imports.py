"""How fast an import is, against appending the same messages through the log alone: `python -m bench.imports`.

Each round imports a transcript into a new store, appends as many messages straight to a `SqliteLog` (what `bench.fill`
does), and imports the transcript once more into the store that has it. Ratios are of messages per second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.fill import BATCH, Message, append_all, messages_of
from bench.harness import Row, interleave, machine, markdown, paired_ratio, spread
from ccn_mcp.app import node_of
from ccn_mcp.domain.imported import Options
from ccn_mcp.interop.formats import items
from ccn_mcp.node.context import Caller
from ccn_mcp.node.imports import Importer
from ccn_mcp.settings import Settings

MESSAGES: Final = 20_000
ROUNDS: Final = 3


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
    """Messages per second."""

    async def work() -> int:
        async with node_of(Settings(db=db, config_dir=db.parent), Caller(source="cli")) as node:
            importer = Importer(node.ctx, node.caller)
            with transcript.open("rb") as file:
                await importer.feed(items(file, transcript.name, Options()))
            done = await importer.finish()
            return done["already_there"] if again else done["imported"]

    start = time.perf_counter()
    done = asyncio.run(work())
    taken = time.perf_counter() - start
    if done != count:
        raise AssertionError(f"{done} of {count} messages")
    return count / taken


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
