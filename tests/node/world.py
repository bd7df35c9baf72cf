"""A world that a test holds in its hand: a clock that it sets, names that it can predict, a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from ccn_mcp.domain.character import Vector
from ccn_mcp.domain.plate import Plate, parse_plate
from ccn_mcp.node.context import Caller, Context
from ccn_mcp.node.node import Node
from ccn_mcp.settings import Settings
from ccn_mcp.store.sqlite.store import SqliteStore

START_US: Final = 1_795_000_000_000_000
SECOND: Final = 1_000_000
BASE: Final[Vector] = (0.5,) * 16


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self, at_us: int = START_US) -> None:
        self.at_us = at_us

    def now_us(self) -> int:
        return self.at_us

    def pass_s(self, seconds: float) -> None:
        self.at_us += round(seconds * SECOND)


class FakeEntropy:
    """The same names in the same order; `seed` keeps two processes on one store apart."""

    def __init__(self, seed: str = "") -> None:
        self.seed = seed
        self.count = 0

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}_{sha256(f'{self.seed}/{self.count}'.encode()).hexdigest()[:24]}"


@asynccontextmanager
async def node_on(
    path: Path,
    *,
    clock: FakeClock | None = None,
    seed: str = "",
    caller: Caller | None = None,
    **settings: Any,
) -> AsyncIterator[Node]:
    """A node on the store file at `path`, as one process has it; `settings` are those of `Settings`."""
    async with SqliteStore(path) as store:
        world = Context(store, clock or FakeClock(), FakeEntropy(seed), Settings(db=path, **settings))
        yield Node(world, caller or Caller())


def scoped(node: Node, scope: str) -> Node:
    """The same store seen from another scope."""
    ctx = node.ctx
    return Node(replace(ctx, settings=replace(ctx.settings, scope=scope), seen_us={}), node.caller)


async def head_of(node: Node) -> str:
    """Compared before and after, it shows that nothing was stored."""
    return str((await node.ctx.store.info()).head)


def plate_of(baseline: Vector | None = BASE, *, version: str = "1", body: str = "Work with care.") -> Plate:
    """A Plate that a person might have set; `None` leaves the baseline out."""
    numbers = f"baseline: [{', '.join(map(repr, baseline))}]\n" if baseline is not None else ""
    return parse_plate(f'---\nname: Test\nversion: "{version}"\n{numbers}---\n# Test\n\n{body}\n'.encode())


def spread(*values: float) -> list[float]:
    """A vector that is `values` first and the baseline's .5 after them."""
    return [*values, *BASE[len(values) :]]
