"""Claude Code's transcripts: what was said, prompt by prompt. They are read, never trusted, and never written.

A transcript is JSON, a line per content block. Lines of a type that is not known here are passed over. Hooks read its
end here; an import (`transcripts.py`) reads all of it by the same rules, so that both know a message by the same name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

from ccn_mcp.domain.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any, Final

TAIL_BYTES: Final = 262_144
TAIL_BYTES_MAX: Final = 16 * 1_048_576
"""How far back from its end a transcript is read, first and at the most."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COMMAND: Final = re.compile(r"<command-name>(/?[^<]*)</command-name>")
_ARGUMENTS: Final = re.compile(r"<command-args>(.*?)</command-args>", re.DOTALL)
_NOT_SAID: Final = (
    "<local-command-",
    "<bash-stdout>",
    "<bash-stderr>",
    "<task-notification>",
    "<system-reminder>",
    "[Request interrupted by user",
)
_MARKED: Final = (
    ("isSidechain", "said to or by a subagent"),
    ("isMeta", "written by Claude Code (meta)"),
    ("isCompactSummary", "a compaction's summary"),
    ("isVisibleInTranscriptOnly", "shown in the transcript only"),
    ("isApiErrorMessage", "an API error"),
)
TOOL_RESULT: Final = "tool result"


# ---- one line ------------------------------------------------------------------------------------------


def why_not(line: dict[str, Any]) -> str | None:
    """Why a line of a transcript says nothing of either side, in few words; None if it may."""
    kind, message = line.get("type"), line.get("message")
    if kind not in ("user", "assistant"):
        return f"not a message: {_word(kind)}"
    for field, reason in _MARKED:
        if line.get(field) is True:
            return reason
    if kind == "user" and "toolUseResult" in line:
        return TOOL_RESULT
    if not isinstance(message, dict):
        return "a line without a message"
    if kind == "user":
        return None if typed(message.get("content")) is not None else _FOR_PERSON
    return (
        "written by Claude Code in the assistant's place" if message.get("model") == "<synthetic>" else None
    )


_FOR_PERSON: Final = "written by Claude Code in the person's place"


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text[:40]) or "none"


def typed(content: Any) -> Any:
    """What the person typed: a command as they wrote it; None where nobody typed it."""
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        only = content[0]
        if only.get("type") == "text" and isinstance(only.get("text"), str):
            content = only["text"]
    if not isinstance(content, str):
        return content if content is not None else []
    start = content.lstrip()[:40]
    if start.startswith(_NOT_SAID):
        return None
    if start.startswith(("<command-name>", "<command-message>")) and (found := _COMMAND.search(content)):
        arguments = _ARGUMENTS.search(content)
        return f"{found[1].strip()} {arguments[1].strip() if arguments else ''}".strip()
    return content


def prompt_of(line: dict[str, Any]) -> str:
    """The id of the prompt that a line of the person names; lines of old versions name none."""
    prompt = line.get("promptId")
    return prompt if isinstance(prompt, str) and line.get("type") == "user" else ""


def copy_of(line: dict[str, Any]) -> str | None:
    """The session that an answer was given in, where that was another one: a fork begins with a copy of it.

    What the person said there cannot be told by its own line: it names the fork and the fork's first prompt.
    """
    given_in = line.get("requestSessionId")
    copied = isinstance(given_in, str) and given_in and given_in != line.get("sessionId")
    return given_in if copied else None


class Place:
    """Which prompt is being answered, and how many equal texts of it there were; fed in the transcript's order."""

    def __init__(self) -> None:
        self.prompt = ""
        self._seen: Counter[tuple[str, str]] = Counter()

    def take(self, role: str, text: str, prompt: str = "") -> int:
        """The number of this text among its equals, from 1. A `prompt` begins another one than the present."""
        if prompt and prompt != self.prompt:
            self.prompt = prompt
            self._seen.clear()
        same = role, text.strip()
        self._seen[same] += 1
        return self._seen[same]


# ---- prompt by prompt ----------------------------------------------------------------------------------


class Said(Value):
    """A text of one side. `nth` counts equal texts of one prompt, from 1; `at_us` is 0 where no time is given.

    Texts are equal that differ in blanks at their ends only: Stop names an answer without those.
    """

    role: str
    text: str
    at_us: int
    nth: int = 1


class Answered(Value):
    """Which model answered, and in which thinking mode: that of its request, empty where nothing tells.

    `since_us`: what came before is another model's or mode's; 0 where no other one was read.
    """

    model: str
    thinking: str = ""
    since_us: int = 0


class Prompt(Value):
    """A message of the person and what was answered. `open`: a tool was used after the last answer.

    `by`: who answered last; None where nobody did.
    """

    id: str
    said: tuple[Said, ...]
    open: bool
    by: Answered | None = None


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


def says(prompt: Prompt, text: str) -> bool:
    """Whether this is the prompt's last answer."""
    answers = [said.text for said in prompt.said if said.role == "assistant"]
    return not prompt.open and bool(answers) and answers[-1].strip() == text.strip()


def with_last(prompt: Prompt, text: str) -> Prompt:
    """The prompt with the answer that Stop names, which a transcript often does not have yet."""
    answers = [said.text.strip() for said in prompt.said if said.role == "assistant"]
    if not prompt.open and text.strip() in answers:
        return prompt
    return prompt.replaced(said=(*prompt.said, Said("assistant", text, 0, answers.count(text.strip()) + 1)))


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
    place, answering = Place(), _Answering()
    said: list[Said] = []
    is_open, by = True, None
    for data_of_line in data.split(b"\n"):
        line = _line(data_of_line)
        if line is None or (why := why_not(line)) not in (None, TOOL_RESULT):
            answering.request(line or {})
            continue
        role, prompt = str(line["type"]), prompt_of(line)
        if copy_of(line) is not None:  # and so is everything before it
            place, said, by = Place(), [], None
            continue
        by = answering.take(line) or by
        if why is not None:
            is_open = True
            continue
        text = _text(line["message"].get("content"), role)
        if role == "user" and (not prompt or not text.strip()):
            continue  # what a program put in
        if not place.prompt and not prompt:
            continue
        if prompt and prompt != place.prompt:
            if place.prompt:
                yield Prompt(place.prompt, tuple(said), is_open, by)
            said, by = [], None
        is_open = role == "user" or not text.strip()
        if text.strip():
            said.append(Said(role, text, _time(line.get("timestamp")), place.take(role, text, prompt)))
    if place.prompt:
        yield Prompt(place.prompt, tuple(said), is_open, by)


class _Answering:
    """Who answers; fed with lines in the transcript's order.

    That an answer has no thought in it says nothing of the mode: a model may think only where it has to. So the mode
    is that of the request, which newer transcripts have and each answer names.
    """

    def __init__(self) -> None:
        self._last: Answered | None = None
        self._asked_us = 0
        self._modes: dict[str, str] = {}

    def request(self, line: dict[str, Any]) -> None:
        params, request = line.get("params"), line.get("id")
        if line.get("type") != "api-request" or not isinstance(params, dict) or not isinstance(request, str):
            return
        thinking = params.get("thinking")
        mode = thinking.get("type") if isinstance(thinking, dict) else None
        if isinstance(mode, str):
            self._modes[request] = mode

    def take(self, line: dict[str, Any]) -> Answered | None:
        """Who says this line, if a model does."""
        if line["type"] == "user":
            self._asked_us = _time(line.get("timestamp")) or self._asked_us
            return None
        model, request, last = line["message"].get("model"), line.get("requestRef"), self._last
        if not isinstance(model, str) or not model.strip():
            return None
        mode = self._modes.get(request, "") if isinstance(request, str) else ""
        if last is not None and last.model == model and mode in ("", last.thinking or mode):
            self._last = Answered(model, mode or last.thinking, last.since_us)
        else:
            self._last = Answered(model, mode, self._asked_us if last is not None else 0)
        return self._last


def _line(data: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(data) if data.strip() else None
    except ValueError:  # the last line may be half written
        return None
    return line if isinstance(line, dict) else None


def _text(content: Any, role: str) -> str:
    """As `blocks.said_in` has it."""
    content = typed(content) if role == "user" else content
    blocks = [content] if isinstance(content, str) else content if isinstance(content, list) else []
    texts = [
        block if isinstance(block, str) else block.get("text")
        for block in blocks
        if isinstance(block, str) or (isinstance(block, dict) and block.get("type") in TEXT)
    ]
    found = [text for text in texts if isinstance(text, str)]
    return found[0] if len(found) == 1 else "\n\n".join(text for text in found if text.strip())


TEXT: Final = ("text", "input_text", "output_text")


def _time(text: Any) -> int:
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
    except (TypeError, ValueError):
        return 0
