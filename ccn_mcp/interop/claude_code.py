"""Claude Code's transcripts: what was said, prompt by prompt. They are read, never trusted, and never written.

A transcript is JSON, a line per content block. Lines of a type that is not known here are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

TAIL_BYTES: Final = 262_144
TAIL_BYTES_MAX: Final = 16 * 1_048_576
"""How far back from its end a transcript is read, first and at the most."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Said(NamedTuple):
    """A text of one side. `nth` counts equal texts of one prompt, from 1; `at_us` is 0 where no time is given."""

    role: str
    text: str
    at_us: int
    nth: int = 1


class Prompt(NamedTuple):
    """A message of the person and what was answered. `open`: a tool was used after the last answer."""

    id: str
    said: tuple[Said, ...]
    open: bool


def prompts(transcript: Path, since_us: int, *, last_only: bool = False) -> list[Prompt]:
    """The prompts at the end of a transcript that began at `since_us` or later, oldest first, each of them whole.

    Raises:
        OSError: it cannot be read.
    """
    size = TAIL_BYTES
    while True:
        data, whole = _tail(transcript, size)
        found = list(_grouped(data))
        # What comes before the first prompt of a tail belongs to one whose beginning is not in it.
        enough = bool(found) and (last_only or found[0].said[0].at_us < since_us)
        if whole or enough or size >= TAIL_BYTES_MAX:
            kept = [prompt for prompt in found if prompt.said[0].at_us >= since_us]
            return kept[-1:] if last_only else kept
        size *= 8


def with_last(prompt: Prompt, text: str) -> Prompt:
    """The prompt with the answer that Stop names, which a transcript often does not have yet."""
    answers = [said.text for said in prompt.said if said.role == "assistant"]
    # One message may have several blocks of text, which are separate lines there.
    if not prompt.open and any(
        text in (joint.join(answers[at:]) for joint in ("", "\n", "\n\n")) for at in range(len(answers))
    ):
        return prompt
    return prompt._replace(said=(*prompt.said, Said("assistant", text, 0, answers.count(text) + 1)))


def _tail(transcript: Path, size: int) -> tuple[bytes, bool]:
    """The last whole lines within `size` bytes, and whether that is all of it."""
    with transcript.open("rb") as source:
        end = source.seek(0, 2)
        start = max(0, end - size)
        source.seek(start)
        data = source.read(end - start)
    return (data if not start else data.partition(b"\n")[2]), not start


def _grouped(data: bytes) -> Iterator[Prompt]:
    """The prompts in these lines; answers before the first one are left out."""
    current: tuple[str, list[Said]] | None = None
    is_open = True
    for line in data.split(b"\n"):
        entry = _entry(line)
        if entry is None:
            continue
        prompt, said, by_person = entry
        if by_person and (current is None or current[0] != prompt):
            if current is not None:
                yield Prompt(current[0], tuple(current[1]), is_open)
            current = prompt, []
        if current is None:
            continue
        is_open = said is None or by_person
        if said is not None:
            same = sum(one.role == said.role and one.text == said.text for one in current[1])
            current[1].append(said._replace(nth=same + 1))
    if current is not None:
        yield Prompt(current[0], tuple(current[1]), is_open)


def _entry(line: bytes) -> tuple[str, Said | None, bool] | None:
    """The prompt's id, what was said, and whether by the person; None for a line that says nothing to anybody."""
    try:
        item = json.loads(line) if line.strip() else None
    except ValueError:  # the last line may be half written
        return None
    if not isinstance(item, dict) or item.get("type") not in ("user", "assistant") or item.get("isSidechain"):
        return None
    message = item.get("message")
    if not isinstance(message, dict):
        return None
    role, text, at_us = str(item["type"]), _text(message.get("content")), _time(item.get("timestamp"))
    if role == "assistant":
        if item.get("isApiErrorMessage") or message.get("model") == "<synthetic>":
            return None
        return "", Said(role, text, at_us) if text.strip() else None, False
    prompt = item.get("promptId")
    if "toolUseResult" in item:
        return "", None, False
    # What a program put in, such as a blocked Stop's reason: Claude Code may have written it before Stop is done.
    aside = item.get("isMeta") or item.get("isCompactSummary") or not isinstance(prompt, str)
    if text.lstrip().startswith(("<", "[Request interrupted")):
        from ccn_mcp.interop.transcripts import typed  # most messages begin otherwise

        text = _text(typed(text))
    return None if aside or not text.strip() else (str(prompt), Said(role, text, at_us), True)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    texts = [block.get("text") for block in blocks if isinstance(block, dict) and block.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))


def _time(text: Any) -> int:
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
    except (TypeError, ValueError):
        return 0
