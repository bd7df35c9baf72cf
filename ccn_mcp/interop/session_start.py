"""What a session of Claude Code begins with: the Plate, the state, recent history, and its ids.

Claude Code shows at most 10,000 characters of one hook's output, so three hooks share the work (hooks.json): part 1
opens the instance and says everything, as long as it fits; where the Plate is too long for that, parts 2 and 3 are
the Plate. They run at once, and each makes its own part from what is recorded.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ccn_mcp.app import node_of
from ccn_mcp.domain.errors import CcnError
from ccn_mcp.domain.plate import render_plate
from ccn_mcp.interop import privacy, trouble
from ccn_mcp.interop.claude_code import prompts
from ccn_mcp.interop.hook import SLACK_US, Call, reconcile
from ccn_mcp.interop.recording import PRINCIPAL, SOURCE, SessionLog
from ccn_mcp.interop.session_end import seats_of
from ccn_mcp.node.context import Caller
from ccn_mcp.node.plates import current_plate

if TYPE_CHECKING:
    from ccn_mcp.node.results import Loaded

OUTPUT_CHARS_MAX: Final = 9_500
"""Of one hook; Claude Code puts more than 10,000 into a file."""

PLATE_CHARS_MAX: Final = 6_000
"""Of a Plate that shares part 1 with the rest."""

REST_CHARS: Final = 3_000
"""What the labels and the session's facts take at the most."""

BYTES_A_TOKEN: Final = 3
SIBLINGS_MAX: Final = 5
"""Other transcripts of the same project that are looked through for turns that no hook has seen."""

CLIENT: Final = "claude-code"
RESUMED: Final = (
    "ccn_mcp: this session goes on, and its Plate is above already. It has new ids:\n"
    "instance_id: {instance_id}\nconversation_id: {conversation_id}\nhead: {head}\nreceipt: {receipt}"
)
PLATE_APART: Final = "(The person's Plate is long and comes apart from this, as `Plate, part 1` and so on.)"
PLATE_PART: Final = "ccn_mcp: Plate, part {part}\n\n"
MORE: Final = "\n(ccn_mcp: cut here, there is no more room; load_plate returns all of it.)"


def context_for(call: Call, transcript: Path | None) -> str:
    """The text of this part; empty where it has nothing to say.

    Raises:
        CcnError: as of `load_plate`; nothing was delivered.
    """
    # The context of a session that is resumed has the Plate already; one that was compacted may have lost it.
    again = call.given.get("source") == "resume" and bool(seats_of(call))
    if call.part == "1":
        catch_up(call, transcript)
        return asyncio.run(_facts(call, again=again))
    return "" if again else asyncio.run(_plate_part(call))


async def _facts(call: Call, *, again: bool) -> str:
    async with node_of(call.chosen, Caller(PRINCIPAL, SOURCE, CLIENT, call.session)) as node:
        plate = render_plate((await current_plate(node.ctx)).plate)
        shown = plate if len(plate) <= PLATE_CHARS_MAX else PLATE_APART
        room = 0 if again else (OUTPUT_CHARS_MAX - REST_CHARS - len(shown)) // BYTES_A_TOKEN
        loaded: Loaded = await node.load_plate(history_tokens=room)
    if again:
        return RESUMED.format(**loaded)
    return cut(loaded["text"].replace(plate, shown, 1))


async def _plate_part(call: Call) -> str:
    async with node_of(call.chosen, Caller(PRINCIPAL, SOURCE, CLIENT, call.session)) as node:
        plate = render_plate((await current_plate(node.ctx)).plate)
    size = OUTPUT_CHARS_MAX - len(PLATE_PART) - len(MORE)
    number = int(call.part) - 1
    part = plate[(number - 1) * size : number * size]
    if len(plate) <= PLATE_CHARS_MAX or not part:
        return ""
    more = MORE if call.part == PARTS[-1] and len(plate) > number * size else ""
    return PLATE_PART.format(part=number) + part + more


PARTS: Final = ("1", "2", "3")


def cut(text: str) -> str:
    """The text as far as one hook's output goes."""
    return text if len(text) <= OUTPUT_CHARS_MAX else text[: OUTPUT_CHARS_MAX - len(MORE)] + MORE


def catch_up(call: Call, transcript: Path | None) -> None:
    """Record what was said and not recorded: an error of the API, an interrupt and a crash call no hook.

    Of this session (it may be resumed) and of the project's newest others. What fails is left for the next time.
    """
    folder = Path(str(call.given.get("transcript_path") or "")).parent
    others = sorted(folder.glob("*.jsonl"), key=_changed, reverse=True) if folder.name else []
    own = [transcript] if transcript is not None else []
    for path in (*own, *islice((other for other in others if other not in own), SIBLINGS_MAX)):
        session = call.session if path in own else path.stem
        try:
            with SessionLog(call.chosen, call.config, session) as log:
                if log.find() is not None:
                    marks = privacy.marks(call.config, session)
                    reconcile(
                        call._replace(session=session, marks=marks),
                        log,
                        prompts(path, log.began_us - SLACK_US),
                    )
        except (CcnError, OSError) as error:
            trouble.note(call.config, "session-start", error)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
