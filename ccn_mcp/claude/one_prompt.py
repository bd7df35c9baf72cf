"""A conversation as one prompt, for a program that takes no turns. Pure.

Earlier turns stand between markers that nothing inside can contain, so what somebody once wrote cannot pretend to be
the end of the transcript or another turn.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from ccn_mcp.domain.talk import Asked, Turn, replayed, text_of

MARK_CHARS: Final = 12
SPEAKERS: Final = {"user": "person", "assistant": "you"}


def prompt_of(asked: Asked) -> str:
    """The turns as one text, what was said last at its end; the note behind it.

    A single turn stays as it is, unless it would be read as a command of the program (`/help`).
    """
    turns = replayed(asked.turns, asked.model)
    said = [_said(turn) for turn in turns]
    alone = len(said) == 1 and not said[0].lstrip().startswith("/")
    if alone and not asked.note:
        return said[0]
    mark = _mark([*said, asked.note])
    parts: list[str] = []
    if len(said) > 1:
        earlier = [
            f"[{mark} {SPEAKERS.get(turn.role, turn.role)}]\n{text}"
            for turn, text in zip(turns[:-1], said[:-1], strict=True)
        ]
        parts.append(
            f"What was said so far in this conversation. Each turn begins with a line [{mark} ...] that says who "
            "spoke: the person, or you.\n\n" + "\n\n".join(earlier)
        )
    if said:
        parts.append(
            said[-1] if alone else f"[{mark} now] The person says, and you answer this alone:\n{said[-1]}"
        )
    if asked.note:
        parts.append(f"[{mark} note] This is from the program, not from the person:\n{asked.note}")
    return "\n\n".join(parts)


def _said(turn: Turn) -> str:
    """The words of a turn; that there was something else is said."""
    left_out = {
        str(block.get("type")) for block in turn.blocks if block.get("type") not in ("text", "thinking")
    }
    left_out.discard("redacted_thinking")
    return text_of(turn.blocks) + "".join(f"\n(not shown here: {kind})" for kind in sorted(left_out))


def _mark(texts: list[str]) -> str:
    """A word that is in none of these texts, the same for the same texts."""
    whole = "\x00".join(texts)
    mark = ""
    while not mark or mark in whole:
        mark = sha256((mark + whole).encode("utf-8", "surrogatepass")).hexdigest()[:MARK_CHARS]
    return mark
