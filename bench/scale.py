"""What a store of 1,000,000 messages costs against one of 10,000, through the real code, in one run.

Run: `python bench/scale.py [--quick] [--keep DIR] [--folder DIR]`. Filling the large store takes minutes; `--keep`
names a folder in which filled stores are left for the next run, which measures copies of them.

Every operation is measured on both stores in turn and compared pair by pair. The detail gives the median at the large
and at the small size, each with the smallest and the largest of its rounds. Rows without a goal are there to be
known. Exit status: 0 every goal met, 1 a goal missed, 2 a process failed.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.fill import LONG_SESSION, START_US, fill
from bench.harness import (
    BenchError,
    Command,
    Row,
    Session,
    interleave,
    machine,
    markdown,
    milliseconds,
    paired_ratio,
    percentile,
    ratio_row,
    spread,
)
from bench.serve import PAGE, TEXT, Store
from ccn_mcp.app import open_node
from ccn_mcp.domain.models import SearchQuery
from ccn_mcp.node.node import Node
from ccn_mcp.settings import Settings
from ccn_mcp.store.sqlite.connect import FORMAT_VERSION

GROWTH_MOST = 1.2
RANKED_MS_MAX = 50.0
COMMONEST = "the"
"""It stands in every message of `fill`."""

HITS = 20
FLOOR = "SELECT rowid FROM message_fts WHERE message_fts MATCH ? ORDER BY rowid DESC LIMIT ?"
"""The least that a search can be: the newest positions, and nothing of the messages."""

STATUS_S_MAX = 120.0


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    small: int
    large: int
    start_rounds: int
    rounds: int
    calls: int


FULL = Plan(small=10_000, large=1_000_000, start_rounds=9, rounds=400, calls=1)
QUICK = Plan(small=1_000, large=20_000, start_rounds=3, rounds=50, calls=1)


class Pair(NamedTuple):
    """Seconds of each round, at both sizes."""

    large: list[float]
    small: list[float]


# ---- stores ---------------------------------------------------------------------------------------------


def store_of(messages: int, folder: Path, keep: Path | None) -> Store:
    """A store of that size below `folder`, filled now or copied from `keep`."""
    path = folder / f"store-{messages}.db"
    filled = path if keep is None else keep / f"scale-{messages}-format{FORMAT_VERSION}.db"
    if not filled.exists():
        filled.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        # Under another name until it is whole: what was interrupted must not be taken for a filled store.
        partly = filled.with_name(f"{filled.name}.partly")
        partly.unlink(missing_ok=True)
        fill(partly, messages)
        partly.rename(filled)
        for lock in filled.parent.glob(f"{partly.name}.*"):
            lock.unlink()
        took = time.perf_counter() - started
        print(
            f"filled {messages:,} messages in {took:.0f} s, {took / messages * 1e6:.0f} µs each",
            file=sys.stderr,
        )
    if filled != path:
        copyfile(filled, path)
    with closing(sqlite3.connect(path)) as connection:
        (conversation,) = connection.execute(
            "SELECT conversation FROM record WHERE principal = 'local' AND key = ?",
            (f"ccn:session:{LONG_SESSION}",),
        ).fetchone()
    return Store(messages, path, conversation)


# ---- whole processes ------------------------------------------------------------------------------------


def first_calls(command: Command, store: Store) -> tuple[float, float, float]:
    """Seconds from the spawn to the first `tools/list`, the first durable message and the first page."""
    with Session(command) as session:
        session.handshake()
        session.request("tools/list", {})
        listed = time.perf_counter()
        message = {"conversation_id": store.conversation_id, "role": "user", "content": TEXT}
        session.call("record_message", message)
        recorded = time.perf_counter()
        session.call("get_history", {"conversation_id": store.conversation_id, "limit": PAGE})
        read = time.perf_counter()
    return listed - session.spawned_at, recorded - session.spawned_at, read - session.spawned_at


def status(command: Command) -> float:
    """Seconds of one `ccn-mcp status`."""
    started = time.perf_counter()
    done = subprocess.run(
        command.argv, env=command.environment(), cwd=command.home, capture_output=True, timeout=STATUS_S_MAX
    )
    took = time.perf_counter() - started
    if done.returncode:
        raise BenchError(f"{' '.join(command.argv)}: {done.stderr.decode(errors='replace')}")
    return took


def measure_processes(plan: Plan, stores: dict[str, Store], home: Path) -> list[Row]:
    """Start-up with the first write and the first read, and `ccn-mcp status`."""

    def command(verb: str, store: Store) -> Command:
        return Command((sys.executable, "-m", "ccn_mcp", verb, "--db", str(store.db_path)), home)

    starts = interleave(
        {name: partial(first_calls, command("serve", store), store) for name, store in stores.items()},
        plan.start_rounds,
    )
    rows = [
        growth_row(
            what, plan, Pair(*([round_[at] for round_ in starts[name]] for name in ("large", "small")))
        )
        for at, what in enumerate(
            ("start to tools/list", "start to the first recorded message", "start to the first page read")
        )
    ]
    statuses = interleave(
        {name: partial(status, command("status", store)) for name, store in stores.items()}, plan.start_rounds
    )
    return [
        *rows,
        growth_row("ccn-mcp status, the process", plan, Pair(statuses["large"], statuses["small"])),
    ]


# ---- calls in this process ------------------------------------------------------------------------------


Operation = Callable[[Node, Store], Awaitable[object]]


class Call(NamedTuple):
    """One operation on a node; `goal` says whether its growth is bounded."""

    what: str
    make: Operation
    goal: bool = False


_numbers = count()


def _record(node: Node, store: Store) -> Awaitable[object]:
    text = f"{TEXT} {next(_numbers)}"
    return node.record_message("user", text, conversation_id=store.conversation_id)


def _page(node: Node, store: Store, **filters: object) -> Awaitable[object]:
    return node.get_history(conversation_id=store.conversation_id, limit=PAGE, **filters)  # type: ignore[arg-type]  # of `get_history`, by name


def _ranked(node: Node, _store: Store) -> Awaitable[object]:
    return node.ctx.store.search(SearchQuery(COMMONEST, HITS, ranked=True))


def _middle(store: Store) -> str:
    """The time at which half of the store had been written."""
    return datetime.fromtimestamp(START_US // 1_000_000 + store.messages // 2, UTC).isoformat()


CALLS = (
    Call(f"get_history, last {PAGE}", _page, goal=True),
    Call(
        "search the commonest word, newest first",
        lambda node, _: node.get_history(query=COMMONEST),
        goal=True,
    ),
    Call("list of conversations", lambda node, _: node.get_history(), goal=True),
    Call("status, the call", lambda node, _: node.status(), goal=True),
    Call("get_history before the middle", lambda node, store: _page(node, store, before=store.messages // 2)),
    Call(
        "get_history after the middle",
        lambda node, store: _page(node, store, after=store.messages // 2, order="oldest"),
    ),
    Call("get_history by role", lambda node, store: _page(node, store, role="user")),
    Call("get_history since the middle", lambda node, store: _page(node, store, since=_middle(store))),
    Call("get_history until the middle", lambda node, store: _page(node, store, until=_middle(store))),
)


@contextmanager
def opened(stores: dict[str, Store], home: Path) -> Iterator[tuple[asyncio.Runner, dict[str, Node]]]:
    """A node on each store, and the loop that they live in."""

    async def open_all() -> dict[str, Node]:
        return {
            name: await stack.enter_async_context(
                open_node(settings=Settings(db=store.db_path, config_dir=home / "config"))
            )
            for name, store in stores.items()
        }

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            yield runner, runner.run(open_all())
        finally:
            runner.run(stack.aclose())


def block(
    runner: asyncio.Runner,
    call: Operation,
    node: Node,
    store: Store,
    calls: int,
) -> list[float]:
    """Seconds of each of `calls` calls, one after the other."""

    async def measure() -> list[float]:
        seconds = []
        for _ in range(calls):
            started = time.perf_counter()
            await call(node, store)
            seconds.append(time.perf_counter() - started)
        return seconds

    return runner.run(measure())


def measure_calls(plan: Plan, stores: dict[str, Store], home: Path) -> list[Row]:
    """Every call on both stores in turn."""
    rows: list[Row] = []
    with opened(stores, home) as (runner, nodes):

        def both(call: Operation, calls: int, rounds: int) -> dict[str, list[list[float]]]:
            cases = {
                name: partial(block, runner, call, nodes[name], store, calls)
                for name, store in stores.items()
            }
            interleave(cases, 1)  # warms up
            return interleave(cases, rounds)

        written = both(_record, plan.calls, plan.rounds)
        rows.append(growth_row("record_message p50", plan, medians(written), GROWTH_MOST))
        rows.append(growth_row("record_message p99", plan, tails(written), None))
        for call in CALLS:
            if call.goal:
                rows.append(growth_row(call.what, plan, medians(both(call.make, plan.calls, plan.rounds))))
            else:
                fewer = both(call.make, 1, max(3, plan.rounds // 50))
                rows.append(growth_row(call.what, plan, medians(fewer), None))
        rows.append(ranked_row(plan, runner, nodes, stores))
    return rows


def ranked_row(plan: Plan, runner: asyncio.Runner, nodes: dict[str, Node], stores: dict[str, Store]) -> Row:
    """The commonest word, ranked, in absolute time at the large size, beside the barest search there is."""
    with closing(sqlite3.connect(stores["large"].db_path)) as connection:

        def floor() -> float:
            started = time.perf_counter()
            connection.execute(FLOOR, (COMMONEST, HITS)).fetchall()
            return time.perf_counter() - started

        def ours(name: str) -> float:
            return block(runner, _ranked, nodes[name], stores[name], 1)[0]

        cases: dict[str, Callable[[], float]] = {name: partial(ours, name) for name in stores}
        got = interleave({**cases, "floor": floor}, plan.rounds)
    took = statistics.median(got["large"]) * 1_000
    return Row(
        f"search the commonest word, ranked, {plan.large:,} messages",
        f"<= {RANKED_MS_MAX:g} ms",
        f"{took:.2f} ms",
        took <= RANKED_MS_MAX,
        f"{ranged(got['large'])}; {paired_ratio(got['large'], got['small']):.2f}x of {ranged(got['small'])} at "
        f"{plan.small:,}; the floor, MATCH alone: {ranged(got['floor'])}",
    )


# ---- rows -----------------------------------------------------------------------------------------------


def medians(got: dict[str, list[list[float]]]) -> Pair:
    """The median call of each round."""
    return Pair(*([statistics.median(block) for block in got[name]] for name in ("large", "small")))


def tails(got: dict[str, list[list[float]]]) -> Pair:
    """The slowest hundredth of all rounds together; one value."""
    return Pair(*([percentile([s for block in got[name] for s in block], 99)] for name in ("large", "small")))


def growth_row(what: str, plan: Plan, pair: Pair, at_most: float | None = GROWTH_MOST) -> Row:
    """The cost at the large size as a multiple of that at the small one."""
    what = f"{what}, {plan.large:,} messages against {plan.small:,}"
    detail = f"{ranged(pair.large)} against {ranged(pair.small)}"
    if at_most is not None:
        return ratio_row(what, pair.large, pair.small, at_most=at_most, detail=detail)
    low, high = spread(pair.large, pair.small)
    return Row(what, "-", f"{paired_ratio(pair.large, pair.small):.2f}x ({low:.2f}-{high:.2f})", None, detail)


def ranged(seconds: Sequence[float]) -> str:
    """The median, and the smallest and largest where there are several."""
    middle = milliseconds(statistics.median(seconds))
    return (
        f"{middle} [{milliseconds(min(seconds))}-{milliseconds(max(seconds))}]"
        if len(seconds) > 1
        else middle
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill both stores, measure, print the table."""
    parser = argparse.ArgumentParser(description="What a store of a million messages costs.")
    parser.add_argument("--quick", action="store_true", help="small stores, few rounds: a look, no evidence")
    parser.add_argument("--keep", type=Path, help="folder of filled stores, which later runs copy")
    parser.add_argument(
        "--folder", type=Path, help="where the stores are written (default: temporary folder)"
    )
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else FULL
    with TemporaryDirectory(prefix="ccn-scale-", dir=options.folder) as name:
        folder = Path(name)
        home = folder / "home"
        home.mkdir()
        stores = {
            "large": store_of(plan.large, folder, options.keep),
            "small": store_of(plan.small, folder, options.keep),
        }
        try:
            rows = [*measure_processes(plan, stores, home), *measure_calls(plan, stores, home)]
        except BenchError as failure:
            print(failure, file=sys.stderr)
            return 2
        where = machine(folder)
    print(markdown(rows))
    print(f"\n{where}" + ("; --quick: no evidence" if options.quick else ""))
    return 1 if any(row.passed is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
