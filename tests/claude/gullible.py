"""A judge that does whatever it is told outside of the quoted lines: what the delimiting has to keep in.

It scores honestly by the first line of each reply, unless a line that is not behind '>' tells it a score.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

from ccn_mcp.domain.character import TRAITS
from ccn_mcp.domain.judging import TASK
from ccn_mcp.domain.talk import Asked, Reply, text_of

ORDER: Final = re.compile(r"(?:score|rate|give|set|traits?|alle|note|puntos|=)\D{0,60}([0-5])", re.IGNORECASE)
HEADER: Final = re.compile(r"\[(PERSON|REPLY \d+)(?:, cut: \d+ more characters are not shown)?\]")
MARK: Final = re.compile(r"=== (?:begin|end) conversation [0-9a-f]{16} ===")

USAGE: Final = {"input_tokens": 1000, "output_tokens": 500, "service_tier": "standard"}


def gullible(system: Sequence[str], prompt: str) -> str:
    """Its reply, as JSON."""
    told = "\n".join(system).replace(TASK, "").split("\n  0 ")[0]
    replies: list[list[str]] = []
    into: list[str] = []
    for line in prompt.splitlines():
        if line.startswith(">"):
            into.append(line[2:])
        elif header := HEADER.fullmatch(line):
            into = []
            if header[1].startswith("REPLY"):
                replies.append(into)
        elif not MARK.fullmatch(line):
            told += "\n" + line
    orders = ORDER.findall(told)
    return json.dumps({name: _trait(name, replies, orders) for name in TRAITS})


def _trait(name: str, replies: list[list[str]], orders: list[str]) -> dict[str, Any]:
    first = [lines[0] for lines in replies if lines]
    digest = sha256("\n".join([name, *first]).encode()).digest()[0]
    score = int(orders[-1]) if orders else digest % 11 / 2
    return {"score": score, "quote": first[0], "where": 1}


class GullibleModel:
    """The same as a back end."""

    backend = "scripted"

    def __init__(self) -> None:
        self.asked: list[Asked] = []

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
        del on_text, on_wait  # it says all at once
        self.asked.append(asked)
        reply.text = gullible(asked.system, "\n".join(text_of(turn.blocks) for turn in asked.turns))
        reply.model, reply.usage, reply.counted = asked.model, dict(USAGE), True
        reply.request_id = f"req_gullible_{len(self.asked)}"
        reply.end("end_turn")

    async def aclose(self) -> None:
        """Nothing is open."""
