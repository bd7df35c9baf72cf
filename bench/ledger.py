"""What the log costs: committing in batches (G7), verifying a million records (G9), proofs; each beside a floor.

Run: `python bench/ledger.py [--quick] [--messages N] [--keep DIR] [--folder DIR]`. Filling a store of a million
takes minutes; `--keep` names the folder of filled stores that `bench/scale.py` uses too. Searching (G14) is measured
there. Ratios compare CPU time where that is what counts, because it says more on a shared machine; each row says so.

Exit status: 0 every goal met, 1 a goal missed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from random import Random
from shutil import which
from tempfile import TemporaryDirectory
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import Row, interleave, machine, markdown, milliseconds, paired_ratio, ratio_row, spread
from bench.scale import store_of
from bench.serve import TEXT, Store
from bench.verify import cpu_of, read_only, without_root
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Body, Draft, Group
from ccn_mcp.domain.proof import consistency_proof, inclusion_proof
from ccn_mcp.store.sqlite import nodes, reads
from ccn_mcp.store.sqlite.audit import verify_file
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.store import SqliteStore

WAITERS = 100
BATCHING_LEAST = 20.0
CHAIN_MOST, ROOT_MOST = 3.0, 4.0
MEMORY_MB_MAX = 100.0
FEW_BATCHES, MORE_BATCHES = 10, 30
NEW_RECORDS = 100
HASHES_A_LEVEL = 2 * 256
FLOOR_C = Path(__file__).parent / "floors" / "verify.c"
PROCESS_S_MAX = 600.0

APPEND = "from bench.ledger import append_batches; import sys; append_batches(sys.argv[1], int(sys.argv[2]))"
# Not `ru_maxrss`: it begins with what the parent held.
VERIFY = (
    "import sys; from pathlib import Path; from ccn_mcp.store.sqlite.audit import verify_file; "
    "assert verify_file(Path(sys.argv[1])).fault is None; "
    "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
)
IDLE = VERIFY.replace("assert verify_file(Path(sys.argv[1])).fault is None; ", "")


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    small: int
    large: int
    batch_rounds: int
    one_by_one: int
    verify_rounds: int
    proofs: int


FULL = Plan(10_000, 1_000_000, batch_rounds=25, one_by_one=40, verify_rounds=5, proofs=400)
QUICK = Plan(1_000, 20_000, batch_rounds=5, one_by_one=20, verify_rounds=3, proofs=100)

_numbers = count()


def message() -> Group:
    """One message like no other."""
    body: Body = {
        "conversation": "c_bench",
        "principal": "local",
        "role": "user",
        "source": "tool",
        "text": f"{TEXT} {next(_numbers)}",
    }
    return Group((Draft(Kind.MESSAGE, 1_767_225_600_000_000, body),))


def opening() -> Group:
    """The conversation that they belong to."""
    body: Body = {"conversation": "c_bench", "principal": "local", "scope": "default", "source": "tool"}
    return Group((Draft(Kind.CONVERSATION, 1_767_225_600_000_000, body),))


# ---- group commit ---------------------------------------------------------------------------------------


def append_batches(path: str, batches: int) -> None:
    """For a process of its own: that many batches of 100 messages, and no checkpoint, which syncs by itself."""
    log = SqliteLog(Path(path), wal_pages_max=1_000_000)
    log.append_batch([opening()])
    for _ in range(batches):
        log.append_batch([message() for _ in range(WAITERS)])
    log.close()


def syncs(folder: Path, batches: int) -> int:
    """How many fdatasync and fsync a process needs for that many batches, the file's making and closing included."""
    trace = folder / f"trace-{batches}"
    python = (sys.executable, "-c", APPEND, str(folder / f"synced-{batches}.db"), str(batches))
    subprocess.run(
        ("strace", "-f", "-e", "trace=fdatasync,fsync", "-o", trace, *python),
        check=True,
        cwd=FLOOR_C.parents[2],
        timeout=PROCESS_S_MAX,
        stdin=subprocess.DEVNULL,
    )
    return sum("sync(" in line for line in trace.read_text().splitlines())


def sync_row(folder: Path) -> Row:
    """One durable write per batch, as the kernel counts it."""
    what, goal = f"syncs per batch of {WAITERS} messages, without checkpoints", "1"
    if which("strace") is None:
        return Row(what, goal, "-", None, "not measured: strace is not installed")
    few, more = syncs(folder, FEW_BATCHES), syncs(folder, MORE_BATCHES)
    each = (more - few) / (MORE_BATCHES - FEW_BATCHES)
    detail = f"strace: {few} for {FEW_BATCHES} batches, {more} for {MORE_BATCHES}, with making and closing the file"
    return Row(what, goal, f"{each:g}", each == 1, detail)


@dataclass(frozen=True)
class Spent:
    """Seconds per message: on the clock, and of CPU."""

    wall_s: float
    cpu_s: float


def batching_rows(plan: Plan, folder: Path) -> list[Row]:
    """A message of a hundred that wait together, against one that is awaited before the next."""
    with asyncio.Runner() as runner:
        store = SqliteStore(folder / "batching.db")
        runner.run(store.append(opening()))

        def spent(groups: int, width: int) -> Spent:
            made = [message() for _ in range(groups)]

            async def work() -> None:
                for at in range(0, groups, width):
                    await asyncio.gather(*(store.append(group) for group in made[at : at + width]))

            gc.collect()
            gc.disable()
            wall, cpu = time.perf_counter(), time.process_time()
            runner.run(work())
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            gc.enable()
            return Spent(wall / groups, cpu / groups)

        bare = _Bare(folder / "bare.db")
        with closing(bare.connection):
            cases: dict[str, Callable[[], Spent]] = {
                "one": lambda: spent(plan.one_by_one, 1),
                "many": lambda: spent(5 * WAITERS, WAITERS),
                "bare": lambda: bare.spent(5 * WAITERS, WAITERS),
            }
            interleave(cases, 2)
            got = interleave(cases, plan.batch_rounds)
        runner.run(store.__aexit__(None, None, None))
    wall = {name: [each.wall_s for each in spents] for name, spents in got.items()}
    cpu = {name: statistics.median(each.cpu_s for each in spents) for name, spents in got.items()}
    rates = {name: [1 / each for each in seconds] for name, seconds in wall.items()}
    micro = {name: f"{statistics.median(seconds) * 1e6:.0f} µs" for name, seconds in wall.items()}
    return [
        ratio_row(
            f"{WAITERS} waiters, rate against one message at a time",
            rates["many"],
            rates["one"],
            at_least=BATCHING_LEAST,
            detail=f"{micro['many']} against {micro['one']} a message; CPU {cpu['many'] * 1e6:.0f} against "
            f"{cpu['one'] * 1e6:.0f} µs",
        ),
        known_row(
            f"{WAITERS} waiters, time of a message against bare INSERTs of its rows",
            wall["many"],
            wall["bare"],
            f"{micro['many']} against {micro['bare']}; CPU {cpu['many'] * 1e6:.0f} against {cpu['bare'] * 1e6:.0f} µs; "
            "the same tables and indexes, one transaction per 100, nothing checked or hashed",
        ),
    ]


class _Bare:
    """The rows of a message and nothing else, into a store's own tables: the floor of a batch."""

    def __init__(self, path: Path) -> None:
        log = SqliteLog(path)
        log.append_batch([opening()])
        log.close()
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA synchronous = FULL")
        self.seq = 2

    def spent(self, rows: int, width: int) -> Spent:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(rows // width):
            self.insert(width)
        return Spent((time.perf_counter() - wall) / rows, (time.process_time() - cpu) / rows)

    def insert(self, width: int) -> None:
        run, seqs = self.connection.executemany, range(self.seq, self.seq + width)
        self.seq += width
        self.connection.execute("BEGIN IMMEDIATE")
        hashed, salt, body = bytes(32), bytes(16), TEXT.encode() + bytes(90)
        run(
            "INSERT INTO entry VALUES (?, 0, 1, ?, ?, ?, ?, x'')",
            [(seq, hashed, hashed, salt, body) for seq in seqs],
        )
        run(
            "INSERT INTO record (seq, kind, n, conversation, role, principal, text) "
            "VALUES (?, 1, ?, 'c_bench', 'user', 'local', ?)",
            [(seq, seq, f"{TEXT} {seq}") for seq in seqs],
        )
        run("INSERT INTO message_fts (rowid, text) VALUES (?, ?)", [(seq, f"{TEXT} {seq}") for seq in seqs])
        self.connection.execute("UPDATE conversation SET messages = ?1, last_seq = ?1", (self.seq,))
        self.connection.execute("COMMIT")


# ---- verification ---------------------------------------------------------------------------------------


def verification_rows(plan: Plan, store: Store, folder: Path) -> list[Row]:
    """The CPU of verifying against that of reading the same rows, and against the same hashes without us."""
    path = store.db_path
    floor, what_floor = hash_floor(path, folder)
    got = interleave(
        {
            "root": lambda: cpu_of(lambda: verify_file(path)),
            "chain": lambda: cpu_of(lambda: without_root(path)),
            "read": lambda: cpu_of(lambda: read_only(path)),
            "floor": floor,
        },
        plan.verify_rounds,
    )
    each = {name: statistics.median(seconds) / store.messages * 1e6 for name, seconds in got.items()}

    def against_reading(what: str, name: str, most: float) -> Row:
        return ratio_row(
            f"verify: {what}, {store.messages:,} messages, CPU against reading the rows",
            got[name],
            got["read"],
            at_most=most,
            detail=f"{each[name]:.2f} against {each['read']:.2f} µs a record",
        )

    return [
        against_reading("chain, content, query columns", "chain", CHAIN_MOST),
        against_reading("chain, content, query columns, Merkle root", "root", ROOT_MOST),
        known_row(
            f"verify, {store.messages:,} messages, CPU against {what_floor}",
            got["root"],
            got["floor"],
            f"{each['root']:.2f} against {each['floor']:.2f} µs a record",
        ),
        memory_row(store),
    ]


def hash_floor(path: Path, folder: Path) -> tuple[Callable[[], float], str]:
    """CPU seconds of the least work that comes to the same root; in C where this machine can compile it."""
    program = folder / "verify-in-c"
    expected = str(verify_file(path).head)
    if (compiler := which("cc")) is not None:
        flags = ("-O2", "-w", "-o", str(program), str(FLOOR_C), "-lsqlite3", "-lcrypto")
        if subprocess.run((compiler, *flags), capture_output=True, timeout=PROCESS_S_MAX).returncode == 0:
            return partial(_cpu_in_c, program, path, expected), "C: SQLite, libcrypto, the same root"
    return partial(
        cpu_of, partial(_hash_only, path)
    ), "hashlib over the same bytes (no C compiler or libraries)"


def _cpu_in_c(program: Path, path: Path, expected: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run((program, path), capture_output=True, text=True, timeout=PROCESS_S_MAX)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not done.stdout.startswith(expected):
        raise SystemExit(f"the floor says {done.stdout!r}, the store {expected}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _hash_only(path: Path) -> None:
    entry, node = bytes(111), bytes(65)
    with closing(sqlite3.connect(path)) as connection:
        for salt, body, blob in connection.execute("SELECT salt, body, blob FROM entry ORDER BY seq"):
            sha256(b"".join((bytes(29), salt or b"", body or b"", blob or b""))).digest()
            sha256(entry).digest()
            sha256(node).digest()


def memory_row(store: Store) -> Row:
    """The most memory that a process which verifies ever held."""
    what = f"verify: memory at its peak, {store.messages:,} messages"
    if not sys.platform.startswith("linux"):
        return Row(what, f"<= {MEMORY_MB_MAX:g} MB", "-", None, "not measured: read from /proc")
    peak, idle = (
        int(
            subprocess.run(
                (sys.executable, "-c", code, str(store.db_path)),
                check=True,
                capture_output=True,
                cwd=FLOOR_C.parents[2],
                timeout=PROCESS_S_MAX,
            ).stdout
        )
        * 1024
        / 1e6
        for code in (VERIFY, IDLE)
    )
    return Row(
        what,
        f"<= {MEMORY_MB_MAX:g} MB",
        f"{peak:.0f} MB",
        peak <= MEMORY_MB_MAX,
        f"a process of its own; {idle:.0f} MB with nothing but the modules",
    )


# ---- what is newer, and proofs --------------------------------------------------------------------------


def newer_rows(stores: dict[str, Store]) -> list[Row]:
    """A check of what came after a known head: counted, and timed at both sizes."""
    heads = {name: str(verify_file(store.db_path).head) for name, store in stores.items()}
    for store in stores.values():
        append_new(store, NEW_RECORDS)
    rows = []
    for name, store in stores.items():
        found, rows_read, hashes = counted(store.db_path, heads[name])
        levels = 1 + max(level for level in range(8) if found >> (8 * level))
        most = HASHES_A_LEVEL * levels
        rows.append(
            Row(
                f"verify what is newer, {store.messages:,} messages and {NEW_RECORDS} new: stored hashes read",
                f"<= {most:,}",
                f"{hashes:,}",
                hashes <= most and rows_read == NEW_RECORDS,
                f"{rows_read} records read",
            )
        )
    got = interleave(
        {
            name: partial(_timed, partial(verify_file, store.db_path, heads[name], newer=True))
            for name, store in stores.items()
        },
        50,
    )
    detail = " against ".join(milliseconds(statistics.median(got[name])) for name in ("large", "small"))
    what = f"verify what is newer, {stores['large'].messages:,} messages against {stores['small'].messages:,}"
    return [*rows, known_row(what, got["large"], got["small"], detail)]


def append_new(store: Store, records: int) -> None:
    """That many messages at the end, in the long conversation."""
    log = SqliteLog(store.db_path)
    bodies: Iterator[Body] = (
        {
            "conversation": store.conversation_id,
            "principal": "local",
            "role": "user",
            "source": "tool",
            "text": f"{TEXT} {at}",
        }
        for at in range(records)
    )
    log.append_batch([Group((Draft(Kind.MESSAGE, 1_800_000_000_000_000, body),)) for body in bodies])
    log.close()


def counted(path: Path, known_head: str) -> tuple[int, int, int]:
    """The log's size, and how many records and stored hashes a check of what is newer reads."""
    hashes: list[int] = []

    def read(connection: sqlite3.Connection, level: int, first: int, wanted: int) -> Sequence[bytes]:
        found = _read(connection, level, first, wanted)
        hashes.append(len(found))
        return found

    _read = nodes.read
    with patch.object(nodes, "read", read):
        checked = verify_file(path, known_head, newer=True)
    if checked.fault is not None:
        raise SystemExit(f"{path}: {checked.fault.detail}")
    with closing(sqlite3.connect(path)) as connection:
        (fresh,) = connection.execute(
            f"SELECT count(*) FROM ({reads.VERIFY_NEW_NODES})", (checked.since,)
        ).fetchone()
    return checked.entries, checked.entries - checked.since, sum(hashes) + fresh


def proof_rows(plan: Plan, stores: dict[str, Store]) -> list[Row]:
    """Making proofs for entries and sizes all over the log, at both sizes in turn."""
    connections = {name: sqlite3.connect(store.db_path) for name, store in stores.items()}
    sizes = {
        name: int(connection.execute("SELECT size FROM log").fetchone()[0])
        for name, connection in connections.items()
    }
    rng = Random(9)  # noqa: S311  # which entries are asked for; no secret

    def inclusion(name: str) -> float:
        index = rng.randrange(sizes[name])
        return _timed(partial(inclusion_proof, index, sizes[name], partial(nodes.read, connections[name])))

    def consistency(name: str) -> float:
        old = rng.randrange(1, sizes[name])
        return _timed(partial(consistency_proof, old, sizes[name], partial(nodes.read, connections[name])))

    rows = []
    for what, make in (("inclusion", inclusion), ("consistency", consistency)):
        got = interleave({name: partial(make, name) for name in ("large", "small")}, plan.proofs)
        detail = " against ".join(milliseconds(statistics.median(got[name])) for name in ("large", "small"))
        sizes_told = f"{stores['large'].messages:,} messages against {stores['small'].messages:,}"
        rows.append(known_row(f"{what} proof p50, {sizes_told}", got["large"], got["small"], detail))
    for connection in connections.values():
        connection.close()
    return rows


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def known_row(what: str, ours: Sequence[float], theirs: Sequence[float], detail: str) -> Row:
    """A ratio without a goal, there to be known."""
    low, high = spread(ours, theirs)
    return Row(what, "-", f"{paired_ratio(ours, theirs):.2f}x ({low:.2f}-{high:.2f})", None, detail)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill both stores, measure, print the table."""
    parser = argparse.ArgumentParser(description="What committing, verifying and proving cost.")
    parser.add_argument("--quick", action="store_true", help="small stores, few rounds: a look, no evidence")
    parser.add_argument("--messages", type=int, help="size of the large store")
    parser.add_argument("--keep", type=Path, help="folder of filled stores, which later runs copy")
    parser.add_argument(
        "--folder", type=Path, help="where the stores are written (default: temporary folder)"
    )
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else FULL
    with TemporaryDirectory(prefix="ccn-ledger-", dir=options.folder) as name:
        folder = Path(name)
        rows = [sync_row(folder), *batching_rows(plan, folder)]
        stores = {
            "large": store_of(options.messages or plan.large, folder, options.keep),
            "small": store_of(plan.small, folder, options.keep),
        }
        rows += verification_rows(plan, stores["large"], folder)
        rows += newer_rows(stores)
        rows += proof_rows(plan, stores)
        where = machine(folder)
    print(markdown(rows))
    print(f"\n{where}" + ("; --quick: no evidence" if options.quick else ""))
    return 1 if any(row.passed is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
