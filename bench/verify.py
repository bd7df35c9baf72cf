"""`python bench/verify.py [--messages N]`: the CPU of verifying against only reading the same rows, one run.

The floor reads every row that verification reads, with the same statement, and does nothing with it.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.fill import fill
from ccn_mcp.domain.merkle import Frontier
from ccn_mcp.store.sqlite import reads
from ccn_mcp.store.sqlite.audit import verify_file

GOALS = (
    ("chain, content, query columns and Merkle root", 4.0),
    ("chain, content and query columns", 3.0),
)


def cpu_of(work: Callable[[], object]) -> float:
    """Seconds of CPU that `work` takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


def read_only(path: Path) -> int:
    """Read every row and keep none."""
    connection = sqlite3.connect(path)
    try:
        return sum(1 for _ in connection.execute(reads.VERIFY_ROWS))
    finally:
        connection.close()


def _count_only(tree: Frontier, _leaf: bytes) -> None:
    tree.size += 1


def without_root(path: Path) -> None:
    """Verify with a tree that hashes nothing; it finds the frontier wrong at its end, which is ignored."""
    with patch.object(Frontier, "append", _count_only):
        verify_file(path)


def main() -> int:
    """Fill a store, then measure the two in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ccn.db"
        filling = cpu_of(lambda: fill(path, options.messages))
        triples = [
            (
                cpu_of(lambda: verify_file(path)),
                cpu_of(lambda: without_root(path)),
                cpu_of(lambda: read_only(path)),
            )
            for _ in range(options.rounds)
        ]
    print("| what | goal | measured | verdict | detail |")
    print("|---|---|---|---|---|")
    met = True
    for column, (what, goal) in enumerate(GOALS):
        ratio = statistics.median(triple[column] / triple[2] for triple in triples)
        check, read = (statistics.median(triple[index] for triple in triples) for index in (column, 2))
        met = met and ratio <= goal
        print(
            f"| verify: {what}, {options.messages:,} messages | <= {goal}x the CPU of reading | {ratio:.2f}x | "
            f"{'pass' if ratio <= goal else '**miss**'} | {check / options.messages * 1e6:.2f} µs against "
            f"{read / options.messages * 1e6:.2f} µs a record |"
        )
    print(f"\nFilling the store took {filling / options.messages * 1e6:.0f} µs of CPU a record.")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
