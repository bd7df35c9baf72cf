"""A writer in a process of its own, how to start it, and what must be true of a store whatever writers did.

Run: `python -m tests.store.worker write PLAN` with a JSON object. It prints `{"ready": true}`, waits for a line
on stdin (the barrier), then does what the plan says. Every line on stdout is one JSON object, written at once.
The other modes are `try`, `fill` and `batches`; see the functions of these names.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypedDict

import ccn_mcp
from ccn_mcp.domain.errors import CcnError
from ccn_mcp.domain.models import Group, Message, MessageQuery, SearchQuery
from ccn_mcp.node.node import Node
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.model import opening, said

ROOT: Final = Path(__file__).parents[2]
WAIT_S_MAX: Final = 60.0
"""For a whole worker on a busy machine; a worker that hangs fails its test."""

COMMAND: Final = (sys.executable, "-m", "tests.store.worker")
COUNT_MAX: Final = 1_000_000
"""An upper end for writers that are killed or stopped by their time."""

Json = dict[str, Any]


class Plan(TypedDict):
    """What to do. `count` None means without end, `seconds` None means `count` decides."""

    db: str
    name: str
    count: int | None
    seconds: float | None
    flights: int


def key_of(name: str, number: int) -> str:
    """The idempotency key of a worker's message."""
    return f"{name}-{number}"


def text_of(name: str, number: int) -> str:
    """The text of a worker's message; its last word is found by a search and belongs to it alone."""
    return f"message {number} of {name} word{name}x{number}"


def tell(**fields: object) -> None:
    """One line on stdout, in one write, so that a kill leaves it whole or not there."""
    os.write(1, json.dumps(fields).encode() + b"\n")


async def write(plan: Plan) -> None:
    """Write as planned; each acknowledgement is told before the next message is tried."""
    tell(ready=True)
    sys.stdin.readline()
    async with ccn_mcp.open_node(plan["db"]) as node:
        conversation = await node.open_conversation(session_id=plan["name"])
        numbers = _numbers(plan)
        waits = [0.0]
        async with asyncio.TaskGroup() as group:
            for _ in range(plan["flights"]):
                group.create_task(_write(node, conversation, plan["name"], numbers, waits))
    tell(done=True, longest_wait_s=max(waits), waits=len(waits) - 1)


def _numbers(plan: Plan) -> Iterator[int]:
    until = time.monotonic() + plan["seconds"] if plan["seconds"] is not None else None
    for number in range(plan["count"] if plan["count"] is not None else COUNT_MAX):
        if until is not None and time.monotonic() >= until:
            return
        yield number


async def _write(
    node: Node, conversation: str, name: str, numbers: Iterator[int], waits: list[float]
) -> None:
    for number in numbers:
        began = time.monotonic()
        done: Any = await node.record_message(
            "user",
            text_of(name, number),
            conversation_id=conversation,
            idempotency_key=key_of(name, number),
        )
        waits.append(time.monotonic() - began)
        tell(number=number, seq=done["seq"], conversation=conversation, again=done["already_recorded"])


async def try_everything(db: Path, uid: int | None) -> None:
    """Read, append and verify on a store of its own each, as another user if `uid` is given; tell the outcomes."""
    # The other user may not be able to read our libraries, so what is imported late is imported now.
    import concurrent.futures.thread  # noqa: F401  # imported before the barrier

    import aiosqlite  # noqa: F401  # imported before the barrier

    "".encode("utf-16-be")
    if uid is not None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    actions: dict[str, Callable[[SqliteStore], Awaitable[object]]] = {
        "read": lambda store: store.info(),
        "append": lambda store: store.append(Group((opening(f"c{os.getpid()}"),))),
        "verify": lambda store: store.verify(),
    }
    for name, action in actions.items():
        try:
            async with SqliteStore(db, wait_s=0.2) as store:
                await action(store)
        except CcnError as error:
            tell(action=name, code=error.code, message=str(error))
        else:
            tell(action=name, code=None, message="")


async def fill(db: Path, size: int, ballast: str, limit: int) -> None:
    """Append messages of `size` characters until the disk is full, fail some more, make room, go on, read back.

    Room is made by removing the file `ballast`, or by lifting the limit on the size of files.
    """
    import resource  # POSIX only

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    async with SqliteStore(db) as store:
        acknowledged, failures = list[int](), 0
        for number in range(100_000):
            try:
                if not acknowledged and not failures:
                    await store.append(Group((opening("c1"),)))
                done = await store.append(Group((said(f"{number} " + "x" * size, key=f"k{number}"),)))
            except CcnError as error:
                tell(code=error.code, message=str(error))
                failures += 1
                if failures == 5:
                    break
            else:
                acknowledged.append(done.receipts[0].seq)
        if ballast:
            await asyncio.to_thread(Path(ballast).unlink)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        if not acknowledged:
            await store.append(Group((opening("c1"),)))
        done = await store.append(Group((said("there is room again"),)))
        acknowledged.append(done.receipts[0].seq)
    async with SqliteStore(db) as store:
        checked = await store.verify()
        there = [message.seq for message in await messages_of(store, "c1")]
    tell(level=checked.level, fault=str(checked.fault), acknowledged=acknowledged, there=there)


def batches(db: Path, count: int, size: int) -> None:
    """Batches of `size` groups, straight into the log; a line on stdout after each."""
    log = SqliteLog(db, wal_pages_max=1_000_000)
    log.append_batch([Group((opening("c1"),))])
    tell(batch=0)
    for number in range(1, count + 1):
        log.append_batch([Group((said(f"{number} {at}"),)) for at in range(size)])
        tell(batch=number)
    log.close()


# ---- for the tests -------------------------------------------------------------------------------------


def plan(
    db: Path, name: str, *, count: int | None = None, seconds: float | None = None, flights: int = 1
) -> Plan:
    """What a worker is to do."""
    return {"db": str(db), "name": name, "count": count, "seconds": seconds, "flights": flights}


class Worker:
    """A running worker that stands at the barrier; `root` is where its program and this module are found."""

    def __init__(self, what: Plan, root: Path = ROOT) -> None:
        self.plan = what
        self.process = subprocess.Popen(
            [*COMMAND, "write", json.dumps(what)],
            cwd=root,
            bufsize=0,  # else what `next_line` read ahead would be missing from what `rest` and `kill` return
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.next_line() == {"ready": True}, self._complaint()

    def go(self) -> None:
        """Lift the barrier."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def next_line(self) -> Json | None:
        """The next line it tells, None at its end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def rest(self) -> list[Json]:
        """Every further line; it must end well and say nothing on stderr."""
        out, complaint = self.process.communicate(timeout=WAIT_S_MAX)
        assert (self.process.returncode, complaint.decode()) == (0, "")
        return [json.loads(line) for line in out.splitlines()]

    def kill(self) -> list[Json]:
        """SIGKILL; returns what it had still told."""
        self.process.kill()
        out, complaint = self.process.communicate(timeout=WAIT_S_MAX)
        assert complaint == b""
        return [json.loads(line) for line in out.splitlines()]

    def _complaint(self) -> str:
        _, complaint = self.process.communicate(timeout=WAIT_S_MAX)
        return complaint.decode()


@contextmanager
def workers(*plans: Plan) -> Iterator[list[Worker]]:
    """Workers behind the barrier, all of them imported and ready; none outlives the block."""
    started: list[Worker] = []
    try:
        for what in plans:
            started.append(Worker(what))  # noqa: PERF401  # each is kept as soon as it runs
        yield started
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.communicate()


def finish(running: list[Worker]) -> list[list[Json]]:
    """Lift every barrier at once and wait for all; each one's lines."""
    for worker in running:
        worker.go()
    # All pipes at once: a worker whose pipe is full would stand still, and the shares would be the reader's.
    with ThreadPoolExecutor(len(running)) as readers:
        return list(readers.map(Worker.rest, running))


async def messages_of(store: SqliteStore, conversation: str) -> list[Message]:
    """A conversation whole."""
    return list((await store.page(MessageQuery(conversation, limit=1_000_000))).messages)


async def check(db: Path, told: dict[str, list[Json]], *, whole: bool) -> None:
    """The chain is whole and every message that was acknowledged is in it exactly once, where it was said to be.

    `whole` means that nothing else may be there: no writer was stopped between commit and acknowledgement.
    """
    async with asyncio.timeout(WAIT_S_MAX), SqliteStore(db) as store:
        checked = await store.verify()
        assert checked.fault is None, checked.fault
        assert checked.level == 1
        assert checked.clock_regressions <= checked.entries
        for name, lines in told.items():
            acknowledged = [line for line in lines if "seq" in line]
            if not acknowledged:
                continue
            (conversation,) = {line["conversation"] for line in acknowledged}
            there = await messages_of(store, conversation)
            assert [message.n for message in there] == list(range(1, len(there) + 1))
            texts = {message.seq: message.text for message in there}
            assert len(set(texts.values())) == len(texts), "a message is there twice"
            for line in acknowledged:
                assert texts[line["seq"]] == text_of(name, line["number"])
            if whole:
                assert len(texts) == len({line["seq"] for line in acknowledged})
            await _check_search(store, name, acknowledged)
        if whole:
            assert checked.messages == sum("seq" in line for lines in told.values() for line in lines)


async def _check_search(store: SqliteStore, name: str, acknowledged: list[Json]) -> None:
    every = await store.search(SearchQuery(f"of {name}", limit=100_000))
    assert {line["seq"] for line in acknowledged} <= {hit.message.seq for hit in every.hits}
    for line in (acknowledged[0], acknowledged[-1]):
        found = await store.search(SearchQuery(f"word{name}x{line['number']}", limit=10))
        assert [hit.message.seq for hit in found.hits] == [line["seq"]]


def main(mode: str, *arguments: str) -> None:
    """Run in one of the modes."""
    match mode:
        case "write":
            asyncio.run(write(json.loads(arguments[0])))
        case "try":
            asyncio.run(try_everything(Path(arguments[0]), int(arguments[1]) if arguments[1:] else None))
        case "fill":
            asyncio.run(fill(Path(arguments[0]), int(arguments[1]), arguments[2], int(arguments[3])))
        case "batches":
            batches(Path(arguments[0]), int(arguments[1]), int(arguments[2]))
        case _:
            raise SystemExit(mode)


if __name__ == "__main__":
    main(*sys.argv[1:])
