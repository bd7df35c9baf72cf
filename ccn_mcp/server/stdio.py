"""Serving on stdin and stdout: what the SDK leaves open there.

In mcp 2.3 a line that its parser refuses is never answered, so the client waits for its own time-out. Half an
emoji (a lone surrogate, which JavaScript clients do send) and deep nesting are such lines; they are turned into
something that is answered. And SIGTERM would end the process before what waits is written.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio

from ccn_mcp.domain.limits import JSON_DEPTH_MAX

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mcp.server.mcpserver import MCPServer

_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ID: Final = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.){0,200}"|-?[0-9]{1,18})')


def answerable(line: bytes) -> bytes:
    """A JSON-RPC line that the SDK's parser takes, as close to `line` as can be.

    A lone surrogate becomes U+0000, which no store takes either: the tool refuses it by its position. A
    request nested too deeply keeps its id and loses the rest, so that it is answered with an error.
    """
    if _SURROGATE_ESCAPE.search(line):
        try:
            text = json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":"))
        except (ValueError, RecursionError):
            return line
        line = _LONE_SURROGATE.sub(r"\\u0000", text).encode() + b"\n"
    if line.count(b"[") + line.count(b"{") <= JSON_DEPTH_MAX or _depth(line) <= JSON_DEPTH_MAX:
        return line
    found = _ID.search(line)
    return b'{"jsonrpc":"2.0","id":' + found[1] + b',"method":"nested_too_deeply"}\n' if found else line


def _depth(line: bytes) -> int:
    deepest = depth = 0
    for token in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', line):
        if token[0] in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in b"]}":
            depth -= 1
    return deepest


class _Lines(io.RawIOBase):
    """stdin, line by line through `answerable`; descriptor 0 is left empty for children and handlers."""

    def __init__(self) -> None:
        super().__init__()
        self._source = os.fdopen(os.dup(0), "rb")
        self._rest = b""
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if not self._rest:
            self._rest = answerable(self._source.readline())
        view = memoryview(buffer)
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@asynccontextmanager
async def _until_signalled(stopped: list[signal.Signals]) -> AsyncIterator[None]:
    """Cancel the block at SIGINT or SIGTERM, as clients end a server; a second signal changes nothing."""
    # Outside of the group, so that a SIGTERM right after the SIGINT cannot cut the drain short.
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                async for found in signals:
                    stopped.append(found)
                    group.cancel_scope.cancel()
                    return

            group.start_soon(watch)
            yield
            group.cancel_scope.cancel()


def run(server: MCPServer[Any], stopped: list[signal.Signals]) -> int:
    """Serve until the client closes stdin or sends a signal; returns the exit status.

    `stopped` receives the signal; the server's lifespan ends the process itself then, because a thread of
    the SDK stays blocked in a read of stdin that nothing can interrupt.
    """
    sys.stdin = io.TextIOWrapper(io.BufferedReader(_Lines()))

    async def serve() -> None:
        async with _until_signalled(stopped):
            await server.run_stdio_async()

    try:
        anyio.run(serve)
    except* (BrokenPipeError, KeyboardInterrupt):
        pass  # the client is gone, and everything acknowledged is on disk
    return 0
