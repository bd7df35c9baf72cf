"""A model whose answers are a list: for tests of whatever talks to one, without any network or process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from ccn_mcp.claude.lines import LINES, finish
from ccn_mcp.domain.talk import CUT_SHORT, WELL, Asked, Block, Reply, text_block, text_of

USAGE: Final = {"input_tokens": 10, "output_tokens": 5}
DEADLINE_S: Final = 60.0


@dataclass
class Says:
    """One scripted answer: the pieces in which its text comes, and how it ends.

    `blocks` are those of the whole reply, where they are more than the text. After `hold_after` pieces the answer
    waits for `let_go`; `held` is set then.
    """

    pieces: tuple[str, ...] = ()
    ended: str = "end_turn"
    blocks: tuple[Block, ...] | None = None
    usage: dict[str, Any] | None = field(default_factory=lambda: dict(USAGE))
    problem: str = ""
    waits: tuple[str, ...] = ()
    hold_after: int | None = None
    held: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)


class ScriptedModel:
    """Gives its answers in order. `asked` is everything that it was asked; an Exception in the list is raised."""

    backend = "scripted"

    def __init__(self, *answers: str | Says | Exception, deadline_s: float = DEADLINE_S) -> None:
        self.asked: list[Asked] = []
        self.closed = False
        self._left = list(answers)
        self._deadline_s = deadline_s

    def add(self, *answers: str | Says | Exception) -> None:
        """Further answers, after those that are left."""
        self._left += answers

    def missing(self) -> str:
        """Nothing ever is."""
        return ""

    async def answer(
        self,
        asked: Asked,
        reply: Reply,
        *,
        on_text: Callable[[str], None] = lambda _: None,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        """See `ports.LanguageModel`."""
        self.asked.append(asked)
        if not self._left:
            raise AssertionError(f"the script has no answer to question {len(self.asked)}")
        says = self._left.pop(0)
        if isinstance(says, Exception):
            raise says
        if isinstance(says, str):
            says = Says((says,))
        reply.model = asked.model
        reply.request_id = f"req_scripted_{len(self.asked)}"
        try:
            async with asyncio.timeout(self._deadline_s):
                for line in says.waits:
                    on_wait(line)
                await self._say(says, reply, on_text)
        except TimeoutError:
            reply.end("deadline", LINES["deadline"].format(seconds=f"{self._deadline_s:g}"))
        except asyncio.CancelledError:
            reply.end("cancelled")
            raise
        else:
            self._finish(says, reply, asked)

    async def _say(self, says: Says, reply: Reply, on_text: Callable[[str], None]) -> None:
        reply.usage = says.usage
        for piece in _with_holds(says):
            if piece is None:
                says.held.set()
                await says.let_go.wait()
                continue
            reply.text += piece
            reply.blocks = [text_block(reply.text)]
            on_text(piece)
            await asyncio.sleep(0)  # as any real one, it lets others run between two pieces

    def _finish(self, says: Says, reply: Reply, asked: Asked) -> None:
        if says.blocks is not None:
            reply.blocks = list(says.blocks)
            reply.text = text_of(reply.blocks)
        if says.ended in WELL or says.ended in CUT_SHORT:
            reply.counted = says.usage is not None and says.ended != "truncated"
            finish(reply, says.ended, asked)
        else:
            line = LINES.get(says.ended, "").format_map(_Filled(model=repr(asked.model)))
            reply.end(says.ended, says.problem or line)

    async def aclose(self) -> None:
        """It says so."""
        self.closed = True


def _with_holds(says: Says) -> Iterable[str | None]:
    for at, piece in enumerate(says.pieces):
        if at == says.hold_after:
            yield None
        yield piece
    if says.hold_after is not None and says.hold_after >= len(says.pieces):
        yield None


class _Filled(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return f"({key})"
