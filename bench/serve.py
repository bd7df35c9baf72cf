"""The table of what `ccn-mcp serve` costs, measured against servers that do nothing or only INSERT.

Run: `python bench/serve.py [--quick] [--era 2026-07-28|legacy] [--folder DIR]`. `--floors` measures the
floor servers against themselves instead: every ratio should then be about 1, which shows how far the
harness itself can be trusted on this machine. Exit status: 0 every goal met, 1 a goal missed,
2 a server failed or a part is unfinished.

Stores lie in a fresh folder below `--folder` (default: the system's temporary folder). A RAM disk there
would hide what a durable write costs; the last line of the output says what file system it was.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.fill import fill
from bench.harness import (
    ERAS,
    BenchError,
    Block,
    Burst,
    Command,
    Era,
    Json,
    Row,
    Session,
    catalogue,
    cold_start,
    connected,
    in_flight,
    interleave,
    limit_row,
    machine,
    markdown,
    milliseconds,
    percentile,
    ratio_row,
    sequential,
)

FLOORS = Path(__file__).parent / "floors"

COLD_START_MOST = 1.25
RECORD_MOST = 1.3
RECORD_GROWTH_MOST = 1.1
IN_FLIGHT_LEAST = 0.65
HISTORY_GROWTH_MOST = 1.2
IDLE_MEMORY_MOST = 1.2
SHOWN_BYTES_MAX = 7_500
ALWAYS_BYTES_MAX = 4_000
WHOLE_BYTES_MAX = 16_000

TEXT = "We compared the two ledgers line by line; every entry agrees, and the head is the one you noted. " * 2
PAGE = 50


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    start_rounds: int
    rounds: int
    calls: int
    warm_up: int
    width: int
    burst_calls: int
    small: int
    middle: int
    large: int


FULL = Plan(
    start_rounds=9,
    rounds=15,
    calls=40,
    warm_up=30,
    width=32,
    burst_calls=320,
    small=1_000,
    middle=10_000,
    large=100_000,
)
QUICK = Plan(
    start_rounds=3,
    rounds=5,
    calls=20,
    warm_up=10,
    width=32,
    burst_calls=160,
    small=500,
    middle=1_000,
    large=5_000,
)


@dataclass(frozen=True)
class Store:
    """A store of a known size."""

    messages: int
    db_path: Path
    conversation_id: str


class Bench:
    """Everything that is measured, each group one method that returns its rows."""

    def __init__(self, plan: Plan, era: Era, folder: Path) -> None:
        self.plan = plan
        self.era: Era = era
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self._names = count()
        self._numbers = count()

    # ---- commands ----

    def nothing(self) -> Command:
        return Command((sys.executable, str(FLOORS / "nothing_server.py")), self.home)

    def insert(self) -> Command:
        return Command((sys.executable, str(FLOORS / "insert_server.py"), str(self.new_path())), self.home)

    def ours(self, db_path: Path) -> Command:
        return Command((sys.executable, "-m", "ccn_mcp", "serve", "--db", str(db_path)), self.home)

    def new_path(self) -> Path:
        return self.folder / f"store-{next(self._names)}.db"

    def store(self, messages: int) -> Store:
        path = self.new_path()
        return Store(messages, path, fill(path, messages))

    # ---- groups ----

    def starts(self, ours: Command, era: Era, label: str) -> list[Row]:
        """Cold start and idle memory against the server that does nothing."""
        nothing = self.nothing()
        got = interleave(
            {"nothing": lambda: cold_start(nothing, era), "ours": lambda: cold_start(ours, era)},
            self.plan.start_rounds,
        )
        wall = {name: [start.wall_s for start in starts] for name, starts in got.items()}
        cpu = {name: statistics.median(start.cpu_s for start in starts) for name, starts in got.items()}
        memory = {name: [float(start.rss_bytes) for start in starts] for name, starts in got.items()}
        times = versus(statistics.median(wall["ours"]), statistics.median(wall["nothing"]))
        start_row = ratio_row(
            f"cold start to tools/list, {label}",
            wall["ours"],
            wall["nothing"],
            at_most=COLD_START_MOST,
            detail=f"{times}; CPU {versus(cpu['ours'], cpu['nothing'])}",
        )
        megabytes = [statistics.median(memory[name]) / 1e6 for name in ("ours", "nothing")]
        memory_row = ratio_row(
            f"idle memory, {label}",
            memory["ours"],
            memory["nothing"],
            at_most=IDLE_MEMORY_MOST,
            detail=f"RSS {megabytes[0]:.1f} MB against {megabytes[1]:.1f} MB",
        )
        return [start_row, memory_row]

    def record(self, ours: Command, record: tuple[str, Json], label: str = "record_message") -> list[Row]:
        """One durable message against one durable INSERT."""
        blocks = self.compare(
            {"insert": (self.insert(), ("insert", {"role": "user", "content": TEXT})), "ours": (ours, record)}
        )
        return [
            ratio_row(
                f"{label} p50 against one INSERT",
                p50s(blocks["ours"]),
                p50s(blocks["insert"]),
                at_most=RECORD_MOST,
                detail=calls_detail(blocks["ours"], blocks["insert"]),
            )
        ]

    def growth(
        self, what: str, most: float, large: tuple[Store, str, Json], small: tuple[Store, str, Json]
    ) -> Row:
        """The same call on a long store against the same call on a short one."""
        blocks = self.compare(
            {
                "small": (self.ours(small[0].db_path), small[1:]),
                "large": (self.ours(large[0].db_path), large[1:]),
            }
        )
        return ratio_row(
            f"{what} p50 at {large[0].messages:,} messages against {small[0].messages:,}",
            p50s(blocks["large"]),
            p50s(blocks["small"]),
            at_most=most,
            detail=calls_detail(blocks["large"], blocks["small"]),
        )

    def bursts(self, ours: Command, record: tuple[str, Json], label: str = "record_message") -> Row:
        """Writes in flight against as many calls in flight that do nothing."""
        plan = self.plan
        with ExitStack() as stack:
            cases: dict[str, Callable[[int], Burst]] = {}
            for name, command, call in (
                ("nothing", self.nothing(), ("noop", {"content": TEXT})),
                ("ours", ours, record),
            ):
                session = stack.enter_context(connected(command, self.era))
                cases[name] = partial(self.burst, session, *call)
                cases[name](plan.warm_up)
            got = interleave(
                {name: partial(burst, plan.burst_calls) for name, burst in cases.items()}, plan.rounds
            )
        rates = {name: [burst.per_s for burst in bursts] for name, bursts in got.items()}
        pace = {name: statistics.median(per_s) for name, per_s in rates.items()}
        cpu = {name: statistics.median(burst.cpu_s for burst in bursts) for name, bursts in got.items()}
        return ratio_row(
            f"{plan.width} x {label} in flight, rate",
            rates["ours"],
            rates["nothing"],
            at_least=IN_FLIGHT_LEAST,
            detail=f"{pace['ours']:.0f}/s against {pace['nothing']:.0f}/s; "
            f"CPU {versus(cpu['ours'], cpu['nothing'])} a call",
        )

    def sizes(self, ours: Command) -> list[Row]:
        """Bytes of the catalogue; the larger of the two eras counts."""
        found = []
        for era in ERAS:
            with connected(ours, era) as session:
                found.append(catalogue(session))
        tools = f"{found[0].tools} tools"
        return [
            limit_row(
                "catalogue: names, descriptions, input schemas",
                max(c.shown_bytes for c in found),
                SHOWN_BYTES_MAX,
                "bytes",
                tools,
            ),
            limit_row(
                "catalogue: always loaded",
                max(c.always_loaded_bytes for c in found),
                ALWAYS_BYTES_MAX,
                "bytes",
            ),
            limit_row(
                "catalogue: whole tools/list", max(c.whole_bytes for c in found), WHOLE_BYTES_MAX, "bytes"
            ),
        ]

    # ---- the common shape of a comparison of calls ----

    def compare(self, cases: dict[str, tuple[Command, tuple[str, Json]]]) -> dict[str, list[Block]]:
        """Blocks of sequential calls, the servers in turn, each on its own open connection."""
        with ExitStack() as stack:
            ready: dict[str, Callable[[int], Block]] = {}
            for name, (command, (tool, arguments)) in cases.items():
                session = stack.enter_context(connected(command, self.era))
                ready[name] = partial(self.block, session, tool, arguments)
                ready[name](self.plan.warm_up)
            return interleave(
                {name: partial(block, self.plan.calls) for name, block in ready.items()}, self.plan.rounds
            )

    def block(self, session: Session, tool: str, arguments: Json, calls: int) -> Block:
        """`calls` calls one after the other, no two with the same content."""
        prepared = iter(self.distinct(arguments, calls))
        return sequential(session, lambda: appended(session.call(tool, next(prepared))), calls)

    def burst(self, session: Session, tool: str, arguments: Json, calls: int) -> Burst:
        """`calls` calls with the plan's number of them in flight."""
        return in_flight(session, tool, self.distinct(arguments, calls), self.plan.width)

    def distinct(self, arguments: Json, calls: int) -> list[Json]:
        """The arguments `calls` times; contents are numbered, so that none is taken for a repetition."""
        if "content" not in arguments:
            return [arguments] * calls
        return [
            {**arguments, "content": f"{arguments['content']} {next(self._numbers)}"} for _ in range(calls)
        ]


def appended(result: Json) -> None:
    """A write that the server took for a repetition would measure the wrong thing."""
    if (result.get("structuredContent") or {}).get("already_recorded"):
        raise BenchError("a new message was answered with already_recorded")


def versus(ours: float, theirs: float) -> str:
    return f"{milliseconds(ours)} against {milliseconds(theirs)}"


def p50s(blocks: Sequence[Block]) -> list[float]:
    return [block.p50_s for block in blocks]


def calls_detail(ours: Sequence[Block], theirs: Sequence[Block]) -> str:
    """p50, p99 and the server's CPU time per call, ours against theirs."""
    parts = []
    for label, pick in (("p50", 50), ("p99", 99)):
        pair = [percentile([s for block in blocks for s in block.seconds], pick) for blocks in (ours, theirs)]
        parts.append(f"{label} {versus(*pair)}")
    cpu = [sum(b.cpu_s for b in blocks) / sum(len(b.seconds) for b in blocks) for blocks in (ours, theirs)]
    return "; ".join((*parts, f"CPU {versus(*cpu)} a call"))


def record_in(store: Store) -> tuple[str, Json]:
    return "record_message", {"conversation_id": store.conversation_id, "role": "user", "content": TEXT}


def page_of(store: Store) -> tuple[str, Json]:
    return "get_history", {"conversation_id": store.conversation_id, "order": "newest", "limit": PAGE}


def measure_ours(bench: Bench) -> list[Row]:
    """The whole table of our server."""
    plan = bench.plan
    print("filling stores", file=sys.stderr)
    small, middle, large = (bench.store(messages) for messages in (plan.small, plan.middle, plan.large))
    fresh = bench.ours(bench.new_path())
    rows: list[Row] = []
    for era in ERAS:
        print(f"cold starts, {era}", file=sys.stderr)
        rows += bench.starts(fresh, era, f"no store yet, {era}")
    rows += bench.starts(bench.ours(large.db_path), bench.era, f"{plan.large:,} messages, {bench.era}")
    print("history", file=sys.stderr)
    history = bench.growth(
        f"get_history, last {PAGE},",
        HISTORY_GROWTH_MOST,
        (large, *page_of(large)),
        (middle, *page_of(middle)),
    )
    print("record_message", file=sys.stderr)
    rows += bench.record(
        bench.ours(bench.new_path()),
        ("record_message", {"session_id": "bench", "role": "user", "content": TEXT}),
    )
    rows.append(
        bench.growth(
            "record_message", RECORD_GROWTH_MOST, (large, *record_in(large)), (small, *record_in(small))
        )
    )
    rows.append(bench.bursts(bench.ours(middle.db_path), record_in(middle)))
    rows.append(history)
    rows += bench.sizes(fresh)
    return rows


def measure_floors(bench: Bench) -> list[Row]:
    """The floors against themselves: what the harness reports for two equal servers."""
    rows: list[Row] = []
    for era in ERAS:
        rows += bench.starts(bench.nothing(), era, f"nothing, {era}")
    rows += bench.record(bench.insert(), ("insert", {"role": "user", "content": TEXT}), "insert")
    rows.append(bench.bursts(bench.nothing(), ("noop", {"content": TEXT}), "noop"))
    rows.append(bench.bursts(bench.insert(), ("insert", {"role": "user", "content": TEXT}), "insert"))
    rows += bench.sizes(bench.nothing())
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What `ccn-mcp serve` costs, against servers that do less.")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds, smaller stores: a look, no evidence"
    )
    parser.add_argument("--floors", action="store_true", help="measure the floor servers against themselves")
    parser.add_argument("--era", choices=ERAS, default=ERAS[0], help="protocol era of the calls")
    parser.add_argument(
        "--folder", type=Path, help="where the stores are written (default: temporary folder)"
    )
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else FULL
    with TemporaryDirectory(prefix="ccn-bench-", dir=options.folder) as folder:
        bench = Bench(plan, options.era, Path(folder))
        try:
            rows = measure_floors(bench) if options.floors else measure_ours(bench)
        except BenchError as failure:
            print(failure, file=sys.stderr)
            return 2
        where = machine(Path(folder))
    print(markdown(rows))
    print(f"\n{where}; calls in era {options.era}" + ("; --quick: no evidence" if options.quick else ""))
    return 1 if any(row.passed is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
