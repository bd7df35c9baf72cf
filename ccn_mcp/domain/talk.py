"""What is said to a model and what comes back, whoever carries it. Pure values and what follows from them.

Blocks are those of the Messages API, as JSON objects: they are kept and sent again unchanged, whatever is in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ccn_mcp.domain.jcs import replace_unstorable
from ccn_mcp.domain.limits import BYTES_PER_TOKEN, CONTENT_BYTES_MAX
from ccn_mcp.domain.masking import mask

if TYPE_CHECKING:
    from decimal import Decimal

Block: TypeAlias = Mapping[str, Any]

MAX_TOKENS_DEFAULT: Final = 16_000
"""Of one reply; below what the service refuses without streaming."""

DEADLINE_S_DEFAULT: Final = 600.0
"""Of one call with all its retries: nobody waits an hour because a server says so."""

PROBLEM_CHARS_MAX: Final = 400

WELL: Final = frozenset({"end_turn", "stop_sequence", "tool_use", "pause_turn"})
"""How a reply ends that is whole."""

CUT_SHORT: Final[Mapping[str, str]] = {
    "max_tokens": "the reply reached its limit of tokens and stops in the middle; ask it to go on",
    "model_context_window_exceeded": "the conversation is longer than the model can read; begin a new one",
    "refusal": "the model declined to answer this: ask in another way, or choose another model",
    "truncated": "the reply broke off without its end; what came is kept: ask again",
    "cancelled": "stopped; what came is kept",
}
"""How a reply ends that is not whole though no error was told, and what the person reads then."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation. `model` is who wrote it, where that is known."""

    role: str
    blocks: tuple[Block, ...]
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to a model.

    `system` are the parts that stay the same from turn to turn, most stable first; `note` is what changes with each,
    so it comes last, after the turns. `schema` is a JSON Schema that the whole reply has to follow.
    """

    model: str
    turns: tuple[Turn, ...]
    system: tuple[str, ...] = ()
    note: str = ""
    max_tokens: int = MAX_TOKENS_DEFAULT
    schema: Mapping[str, Any] | None = None
    effort: str | None = None


@dataclass(slots=True)
class Reply:
    """What has come of a reply so far. A back end fills it in place, so whatever ends the call, what came is here.

    `ended` is the service's stop reason, or one of ours: open (nothing has ended yet), truncated, cancelled, deadline,
    connection, or the kind of the error. `problem` is one line for the person: what it was and what to do next.
    `usage` is the service's count of tokens as JSON, final only if `counted`. `spent_usd` is the price, where the
    back end itself says it.
    """

    text: str = ""
    blocks: list[Block] = field(default_factory=list)
    ended: str = "open"
    problem: str = ""
    model: str = ""
    request_id: str = ""
    usage: Mapping[str, Any] | None = None
    counted: bool = False
    spent_usd: Decimal | None = None

    @property
    def whole(self) -> bool:
        """Whether the model said all that it wanted to."""
        return self.ended in WELL

    def end(self, ended: str, problem: str = "") -> None:
        """How it ended; a line for the person where it is not whole."""
        self.ended = ended
        self.problem = " ".join((problem or CUT_SHORT.get(ended, "")).split())[:PROBLEM_CHARS_MAX]


def text_block(text: str) -> Block:
    """A block of text."""
    return {"type": "text", "text": text}


def text_of(blocks: Iterable[Block]) -> str:
    """What the blocks say aloud: their text, in order."""
    return "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")


def plain(blocks: Sequence[Block]) -> bool:
    """Whether text alone says everything that these blocks do."""
    return len(blocks) == 1 and set(blocks[0]) == {"type", "text"} and blocks[0]["type"] == "text"


THOUGHT: Final = frozenset({"thinking", "redacted_thinking"})


def replayed(turns: Sequence[Turn], model: str) -> tuple[Turn, ...]:
    """The turns as they are sent to `model`: in alternating roles, the first one the person's.

    Another model's thinking is left out: it is signed for the one that thought it. Turns of one role that follow
    each other become one. Nothing else is changed.
    """
    joined: list[Turn] = []
    for turn in turns:
        blocks = turn.blocks
        if turn.model is not None and turn.model != model:
            blocks = tuple(block for block in blocks if block.get("type") not in THOUGHT)
        if not blocks:
            continue
        if joined and joined[-1].role == turn.role:
            joined[-1] = Turn(turn.role, (*joined[-1].blocks, *blocks), turn.model)
        else:
            joined.append(Turn(turn.role, blocks, turn.model))
    return tuple(joined[1:] if joined and joined[0].role != "user" else joined)


# ---- what is kept of a turn ----------------------------------------------------------------------------

INTERRUPTED: Final = "(this reply was interrupted here)"


def recorded(reply: Reply) -> dict[str, Any]:
    """What the record keeps of a reply, beside whose it is: masked text, its blocks where they say more, how it ended.

    Blocks are kept as the text of their JSON, so that they come back byte for byte. Where a secret was masked they
    are left out: they would hold it.
    """
    # As everything that a program records: what cannot be stored is replaced, not refused.
    text, replaced = replace_unstorable(reply.text)
    masked = mask(text)
    body: dict[str, Any] = {"role": "assistant", "text": masked.text, "model": reply.model}
    if masked.counts:
        body["masked"] = dict(masked.counts)
    if replaced:
        body["replaced"] = replaced
    if reply.request_id:
        body["request"] = reply.request_id
    if not reply.whole:
        body["ended"] = reply.ended
    elif not (plain(reply.blocks) or replaced or masked.counts):
        blocks = json.dumps(reply.blocks, ensure_ascii=True, separators=(",", ":"))
        if len(blocks) + len(text.encode()) <= CONTENT_BYTES_MAX and not mask(blocks).counts:
            body["blocks"] = blocks
    return body


def turn_of(body: Mapping[str, Any]) -> Turn | None:
    """The turn that a message of the record is sent as; None for one that is no turn, or has been erased."""
    role, text = body.get("role"), body.get("text")
    if role not in ("user", "assistant") or not isinstance(text, str) or not text.strip():
        return None
    model = body.get("model")
    kept = body.get("blocks")
    blocks: tuple[Block, ...] = tuple(json.loads(kept)) if isinstance(kept, str) else (text_block(text),)
    if body.get("ended") not in (None, *WELL, "max_tokens"):
        blocks = (*blocks, text_block(INTERRUPTED))
    return Turn(str(role), blocks, model if isinstance(model, str) else None)


def tokens_of(blocks: Iterable[Block]) -> int:
    """About how many tokens these blocks are, rather too many than too few."""
    size = sum(len(json.dumps(block, ensure_ascii=False).encode("utf-8", "replace")) for block in blocks)
    return -(-size // BYTES_PER_TOKEN)
