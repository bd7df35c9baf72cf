"""Measuring MCP servers over stdio: spawn, handshake, calls, memory, and fair comparison.

The client is a few lines of JSON over pipes, so that no SDK's import or validation time is measured with
the server's. Two servers are always measured in turn (A B A B ...) and compared pair by pair; what counts
is the median of the pairwise ratios, so that a slow minute of the machine hits both sides alike.
"""

from __future__ import annotations

import gc
import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import psutil  # type: ignore[import-untyped]  # psutil ships no types

Era = Literal["2026-07-28", "legacy"]
ERAS: tuple[Era, ...] = ("2026-07-28", "legacy")
MODERN_VERSION = "2026-07-28"
LEGACY_VERSION = "2025-11-25"
CLIENT = {"name": "ccn-bench", "version": "1"}
ANSWER_S_MAX = 120.0
EXIT_S_MAX = 10.0
READ_BYTES = 1 << 16

Json = dict[str, Any]
T = TypeVar("T")


class BenchError(Exception):
    """A server that did not do what it was asked; a benchmark never hides that."""


# ---- one server process ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """How to start one server."""

    argv: tuple[str, ...]
    home: Path

    def environment(self) -> dict[str, str]:
        """Built from nothing, so that no setting of the person's reaches a server under measurement."""
        path = os.pathsep.join((str(Path(sys.executable).parent), os.defpath))
        return {"PATH": path, "HOME": str(self.home), "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Usage:
    """What a process holds and has used, its children included."""

    rss_bytes: int
    cpu_s: float


class Session:
    """One server process and one connection to it, in one protocol era."""

    def __init__(self, command: Command, era: Era = "2026-07-28") -> None:
        self.command = command
        self.era = era
        self._next_id = 0
        self._buffer = b""
        self._lines: list[bytes] = []
        self._early: dict[int, Json] = {}
        self._stderr = TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self.spawned_at = time.perf_counter()
        self.process = subprocess.Popen(
            command.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=command.environment(),
            cwd=command.home,
            bufsize=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is not None:
            self.process.kill()
        self.close()

    def handshake(self) -> None:
        """What a client of this era says first."""
        if self.era == "legacy":
            hello = {"protocolVersion": LEGACY_VERSION, "capabilities": {}, "clientInfo": CLIENT}
            self.request("initialize", hello)
            self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})
        else:
            self.request("server/discover", {})

    def send(self, method: str, params: Json) -> int:
        """Write one request without waiting; returns its id."""
        self._next_id += 1
        if self.era != "legacy":
            meta = {
                "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
                "io.modelcontextprotocol/clientInfo": CLIENT,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            params = {**params, "_meta": meta}
        self._write({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        return self._next_id

    def receive(self, wanted: int | None = None) -> Json:
        """The result of request `wanted`, or of whichever answers first."""
        if wanted is not None and wanted in self._early:
            return self._early.pop(wanted)
        deadline = time.perf_counter() + ANSWER_S_MAX
        while True:
            message: Json = json.loads(self._line(deadline))
            if "id" not in message or "method" in message:
                continue
            if "error" in message:
                raise self._failure(f"protocol error: {message['error']}")
            result: Json = message["result"]
            if wanted is None or message["id"] == wanted:
                return result
            self._early[message["id"]] = result

    def request(self, method: str, params: Json) -> Json:
        """One request and its result."""
        return self.receive(self.send(method, params))

    def call(self, tool: str, arguments: Json) -> Json:
        """One tool call and its result; an error result raises."""
        return self._checked(self.request("tools/call", {"name": tool, "arguments": arguments}))

    def call_many(self, tool: str, arguments: Sequence[Json], in_flight: int) -> None:
        """Every call, with up to `in_flight` of them unanswered at any time."""
        waiting = iter(arguments)
        open_calls = 0
        exhausted = False
        while open_calls or not exhausted:
            while not exhausted and open_calls < in_flight:
                following = next(waiting, None)
                if following is None:
                    exhausted = True
                    break
                self.send("tools/call", {"name": tool, "arguments": following})
                open_calls += 1
            if open_calls:
                self._checked(self.receive())
                open_calls -= 1

    def list_tools(self) -> Json:
        """The whole `tools/list` result (all pages in one)."""
        result = self.request("tools/list", {})
        cursor = result.get("nextCursor")
        while cursor:
            page = self.request("tools/list", {"cursor": cursor})
            result["tools"] += page["tools"]
            cursor = page.get("nextCursor")
        return result

    def usage(self) -> Usage:
        """Resident memory and user + system time of the process tree."""
        root = psutil.Process(self.process.pid)
        rss, cpu = 0, 0.0
        for process in (root, *root.children(recursive=True)):
            times = process.cpu_times()
            rss += process.memory_info().rss
            cpu += times.user + times.system
        return Usage(rss, cpu)

    def close(self) -> int:
        """Close stdin and wait; a server that does not end by itself is killed and reported as such."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            return self.process.wait(EXIT_S_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(EXIT_S_MAX)
            raise self._failure(f"still running {EXIT_S_MAX:.0f} s after its stdin was closed") from None
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
            self._stderr.close()

    def _write(self, message: Json) -> None:
        pipe = self.process.stdin
        assert pipe is not None
        data = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        try:
            while data:
                data = data[pipe.write(data) or 0 :]
        except BrokenPipeError:
            raise self._failure("ended before it was asked") from None

    def _line(self, deadline: float) -> bytes:
        pipe = self.process.stdout
        assert pipe is not None
        while not self._lines:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.perf_counter()))
            chunk = os.read(pipe.fileno(), READ_BYTES) if ready else b""
            if not chunk:
                raise self._failure(
                    "closed its stdout" if ready else f"no answer within {ANSWER_S_MAX:.0f} s"
                )
            *lines, self._buffer = (self._buffer + chunk).split(b"\n")
            self._lines = lines[::-1]
        return self._lines.pop()

    def _checked(self, result: Json) -> Json:
        if result.get("isError"):
            raise self._failure(f"tool error: {result.get('content')}")
        return result

    def _failure(self, what: str) -> BenchError:
        said = ""
        if not self._stderr.closed:
            self._stderr.seek(0)
            said = self._stderr.read().decode(errors="replace")[-2_000:].strip()
        return BenchError(f"{' '.join(self.command.argv)}: {what}" + (f"\n{said}" if said else ""))


@contextmanager
def connected(command: Command, era: Era = "2026-07-28") -> Iterator[Session]:
    """A session after its handshake."""
    with Session(command, era) as session:
        session.handshake()
        yield session


# ---- one measurement ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """One cold start: spawn to the first `tools/list` answer, and what the idle server then holds."""

    wall_s: float
    cpu_s: float
    rss_bytes: int


def cold_start(command: Command, era: Era) -> Start:
    """Spawn one server, ask for its tools, measure, end it."""
    with Session(command, era) as session:
        session.handshake()
        session.request("tools/list", {})
        wall = time.perf_counter() - session.spawned_at
        usage = session.usage()
    return Start(wall, usage.cpu_s, usage.rss_bytes)


@dataclass(frozen=True)
class Block:
    """Some calls in a row: the wall time of each, and the server's CPU time for all of them."""

    seconds: tuple[float, ...]
    cpu_s: float

    @property
    def p50_s(self) -> float:
        return statistics.median(self.seconds)


def sequential(session: Session, one: Callable[[], object], calls: int) -> Block:
    """`calls` calls, each after the answer to the one before."""
    before = session.usage().cpu_s
    seconds = []
    with _no_collection():
        for _ in range(calls):
            start = time.perf_counter()
            one()
            seconds.append(time.perf_counter() - start)
    return Block(tuple(seconds), session.usage().cpu_s - before)


@dataclass(frozen=True)
class Burst:
    """Calls answered per second with several in flight, and the server's CPU time per call."""

    per_s: float
    cpu_s: float


def in_flight(session: Session, tool: str, arguments: Sequence[Json], width: int) -> Burst:
    """All the calls, `width` of them in flight."""
    before = session.usage().cpu_s
    with _no_collection():
        start = time.perf_counter()
        session.call_many(tool, arguments, width)
        wall = time.perf_counter() - start
    return Burst(len(arguments) / wall, (session.usage().cpu_s - before) / len(arguments))


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# ---- comparison -----------------------------------------------------------------------------------------


def interleave(cases: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Every case once per round, in the order given: A B C A B C ..."""
    measured: dict[str, list[T]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, measure in cases.items():
            measured[name].append(measure())
    return measured


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios pair by pair."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def spread(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """The middle half of the pairwise ratios: how far the median can be trusted."""
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    if len(ratios) < 2:
        return ratios[0], ratios[0]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, high


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that `percent` per cent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


# ---- the catalogue --------------------------------------------------------------------------------------


def compact(value: object) -> int:
    """Bytes of the value as compact UTF-8 JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


@dataclass(frozen=True)
class Catalogue:
    """What the tools cost in every context."""

    tools: int
    shown_bytes: int
    always_loaded_bytes: int
    whole_bytes: int


def catalogue(session: Session) -> Catalogue:
    """Bytes of `tools/list`: as the Messages API carries each tool, those loaded at once, and the whole."""
    result = session.list_tools()
    shown = {
        tool["name"]: compact(
            {
                "name": tool["name"],
                "description": tool.get("description", ""),
                "input_schema": tool["inputSchema"],
            }
        )
        for tool in result["tools"]
    }
    always = [
        t["name"] for t in result["tools"] if (t.get("_meta") or {}).get("anthropic/alwaysLoad") is True
    ]
    return Catalogue(len(shown), sum(shown.values()), sum(shown[name] for name in always), compact(result))


# ---- the table ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of the table; `passed` is None where there is no goal, only a number worth knowing."""

    what: str
    goal: str
    measured: str
    passed: bool | None
    detail: str = ""


def ratio_row(
    what: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    detail: str = "",
) -> Row:
    """A row whose goal is a bound on the paired ratio."""
    ratio = paired_ratio(ours, theirs)
    low, high = spread(ours, theirs)
    if at_most is not None:
        goal, passed = f"<= {at_most:g}x", ratio <= at_most
    elif at_least is not None:
        goal, passed = f">= {at_least:g}x", ratio >= at_least
    else:
        raise ValueError("a ratio row needs at_most or at_least")
    return Row(what, goal, f"{ratio:.2f}x ({low:.2f}-{high:.2f})", passed, detail)


def limit_row(what: str, value: int, at_most: int, unit: str, detail: str = "") -> Row:
    """A row whose goal is an absolute maximum."""
    return Row(what, f"<= {at_most:,} {unit}", f"{value:,} {unit}", value <= at_most, detail)


VERDICT = {True: "pass", False: "**miss**", None: "-"}


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown; the measured column gives the median and the middle half of the pairs."""
    cells = [("what", "goal", "measured", "verdict", "detail")]
    cells += [(row.what, row.goal, row.measured, VERDICT[row.passed], row.detail) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def milliseconds(seconds: float) -> str:
    """`12.3 ms`, or `1.84 s` from a second on."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.2f} ms"


def machine(folder: Path) -> str:
    """One line on where this ran; durable writes on a RAM disk would flatter everyone."""
    mounts = [p for p in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(p.mountpoint)]
    kind = max(mounts, key=lambda p: len(p.mountpoint)).fstype if mounts else "unknown"
    memory = psutil.virtual_memory().total / 2**30
    load = " ".join(f"{value:.1f}" for value in psutil.getloadavg())
    python = ".".join(str(part) for part in sys.version_info[:3])
    return f"Python {python}, {psutil.cpu_count()} CPUs, {memory:.0f} GiB, stores on {kind}, load {load}"
