"""What a session of Claude Code begins with: the Plate, the state, recent history, and its ids.

Claude Code shows at most 10,000 characters of one hook's output, so three hooks share the work (hooks.json): part 1
opens the instance and says everything, as long as it fits; where the Plate is too long for that, parts 2 and 3 are
the Plate. They run at once, and each makes its own part from what is recorded.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ccn_mcp import settings
from ccn_mcp.app import node_of
from ccn_mcp.domain.entries import SESSION
from ccn_mcp.domain.errors import CcnError
from ccn_mcp.domain.limits import BYTES_PER_TOKEN
from ccn_mcp.domain.plate import render_plate
from ccn_mcp.interop import leftover, privacy, trouble
from ccn_mcp.interop.claude_code import prompts
from ccn_mcp.interop.hook import SLACK_US, Call, reconcile
from ccn_mcp.interop.recording import HOOK_WAIT_S_MAX, PRINCIPAL, SOURCE, SessionLog
from ccn_mcp.interop.session_end import seats_of
from ccn_mcp.node.context import Caller
from ccn_mcp.node.instances import MODEL_CHARS_MAX
from ccn_mcp.node.plates import current_plate
from ccn_mcp.store.sqlite import connect

if TYPE_CHECKING:
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.results import Loaded

OUTPUT_CHARS_MAX: Final = 9_500
"""Of one hook; Claude Code puts more than 10,000 into a file."""

PLATE_CHARS_MAX: Final = 6_000
"""Of a Plate that shares part 1 with the rest."""

REST_CHARS: Final = 3_000
"""What the labels and the session's facts take at the most."""

SIBLINGS_MAX: Final = 5
"""Other transcripts of the same project that are looked through for turns that no hook has seen."""

UNSEEN_MAX: Final = 5
"""Transcripts of sessions that no hook has seen, brought in at one start, the oldest first."""

UNSEEN_LOOKED_AT_MAX: Final = 50
"""Of these; in some nothing was said since the plugin was first used."""

CLIENT: Final = "claude-code"
RESUMED: Final = (
    "ccn_mcp: this session goes on, and its Plate is above already. It has new ids:\n"
    "instance_id: {instance_id}\nconversation_id: {conversation_id}\nhead: {head}\nreceipt: {receipt}"
)
PLATE_APART: Final = "(The person's Plate is long and comes apart from this, as `Plate, part 1` and so on.)"
PLATE_PART: Final = "ccn_mcp: Plate, part {part}\n\n"
MORE: Final = "\n(ccn_mcp: cut here, there is no more room; load_plate returns all of it.)"


def begin(call: Call, transcript: Path | None) -> tuple[str, str]:
    """The text of this part, and what the person is told; each empty where there is nothing to say.

    Raises:
        CcnError: as of `load_plate`; nothing was delivered.
    """
    again = _has_plate(call)
    if call.part != "1":
        return ("" if again else asyncio.run(_plate_part(call))), ""
    used_us, offer = 0, ""
    try:
        used_us, first = leftover.first_use(call.config)
        catch_up(call, transcript, used_us)
        offer = _offer(call) if first else ""
    except (CcnError, OSError) as error:
        trouble.note(call.config, "session-start", error)
    return asyncio.run(_facts(call, again=again)), offer


def _has_plate(call: Call) -> bool:
    """Whether the context has the Plate already: a session that is resumed, or that `spawn` began.

    Of what is recorded, not all was there before this start: part 1 may have opened the instance already. One that was
    compacted may have lost the Plate.
    """
    source = call.given.get("source")
    if source not in ("resume", "startup") or not seats_of(call):
        return False
    path = connect.real_path(call.chosen.db)
    with connect.our_words(path), closing(connect.connect(path, HOOK_WAIT_S_MAX)) as reader:
        opened = reader.execute(_OPENED_BY, (PRINCIPAL, f"{SESSION}{call.session}")).fetchone()
        if opened is None or source == "startup":
            return opened is not None and bool(opened[1] != SOURCE)
        # A hook has recorded in it, so it began with hooks.
        return reader.execute(_HOOKED, (opened[0], SOURCE)).fetchone() is not None


_OPENED_BY: Final = (
    "SELECT r.conversation, json_extract(CAST(e.body AS TEXT), '$.source') FROM record r JOIN entry e USING (seq) "
    "WHERE r.principal = ? AND r.key = ?"
)
_HOOKED: Final = (
    "SELECT 1 FROM record r JOIN entry e USING (seq) WHERE r.kind = 1 AND r.conversation = ? "
    "AND json_extract(CAST(e.body AS TEXT), '$.source') = ? LIMIT 1"
)


def _offer(call: Call) -> str:
    """On first use: that there are transcripts from before, and how to bring them in."""
    projects = settings.transcripts_folder()
    found = leftover.transcripts(projects, leftover.FILES_MAX)
    left = leftover.unknown(
        found,
        call.chosen.db,
        call.config,
        besides=call.session,
        wanted=lambda folder: settings.is_excluded(Path(folder), call.chosen) is None,
    )
    return leftover.offer(left, leftover.days_kept(projects))


async def _facts(call: Call, *, again: bool) -> str:
    async with node_of(call.chosen, Caller(PRINCIPAL, SOURCE, CLIENT, call.session)) as node:
        plate = render_plate((await current_plate(node.ctx)).plate)
        shown = plate if len(plate) <= PLATE_CHARS_MAX else PLATE_APART
        note = await _compaction(call, node)
        room = 0 if again else (OUTPUT_CHARS_MAX - REST_CHARS - len(shown) - len(note)) // BYTES_PER_TOKEN
        loaded: Loaded = await node.load_plate(history_tokens=room, model=_model(call))
    if again:
        return RESUMED.format(**loaded)
    return cut(loaded["text"].replace(plate, shown, 1), note)


def _model(call: Call) -> str | None:
    """The model that a terminal's session starts with; print mode names none. What answers is read at Stop."""
    model = call.given.get("model")
    named = isinstance(model, str) and len(model) <= MODEL_CHARS_MAX and model.isprintable()
    return model if named and call.given.get("source") != "compact" else None


async def _compaction(call: Call, node: Node) -> str:
    """What an instance is told whose context was compacted just now; the compaction is recorded."""
    if call.given.get("source") != "compact":
        return ""
    from ccn_mcp.node.compaction import compacted  # only then

    try:
        told = await compacted(node.ctx, node.caller, call.session)
    except CcnError as error:
        trouble.note(call.config, "session-start", error)
        return ""
    return f"\n{told}\n" if told else ""


async def _plate_part(call: Call) -> str:
    async with node_of(call.chosen, Caller(PRINCIPAL, SOURCE, CLIENT, call.session)) as node:
        plate = render_plate((await current_plate(node.ctx)).plate)
    size = OUTPUT_CHARS_MAX - len(PLATE_PART) - len(MORE)
    number = int(call.part) - 1
    pieces = split(plate, size)
    if len(plate) <= PLATE_CHARS_MAX or number > len(pieces):
        return ""
    more = MORE if call.part == PARTS[-1] and len(pieces) > number else ""
    return PLATE_PART.format(part=number) + pieces[number - 1] + more


def split(text: str, size: int) -> list[str]:
    """The text in pieces of at most `size` characters, which end with a line where that is possible."""
    pieces = []
    while len(text) > size:
        end = text.rfind("\n", 0, size) + 1 or size
        pieces.append(text[:end])
        text = text[end:]
    return [*pieces, text]


PARTS: Final = ("1", "2", "3")


def cut(text: str, note: str = "") -> str:
    """The text as far as one hook's output goes, and all of the note."""
    room = OUTPUT_CHARS_MAX - len(note)
    return (text if len(text) <= room else text[: room - len(MORE)] + MORE) + note


def catch_up(call: Call, transcript: Path | None, used_us: int) -> None:
    """Record what was said and not recorded: an error of the API, an interrupt and a crash call no hook.

    Of this session (it may be resumed), of the project's newest others, and of those that no hook has seen at all
    since the plugin was first used (`used_us`). What fails is left for the next time.
    """
    folder = Path(str(call.given.get("transcript_path") or "")).parent
    own = [transcript] if transcript is not None else []
    timed = (
        sorted(((_changed(path), path) for path in folder.glob("*.jsonl")), reverse=True)
        if folder.name
        else []
    )
    others = [(at, path) for at, path in timed[: leftover.FILES_MAX] if path not in own]
    newer = [(at, path) for at, path in others if at * 1_000_000 >= used_us]
    new = leftover.unknown(newer, call.chosen.db, call.config, besides=call.session).paths[
        -UNSEEN_LOOKED_AT_MAX:
    ]
    newest = [path for _, path in others[:SIBLINGS_MAX]]
    brought = 0
    for path in dict.fromkeys((*own, *newest, *reversed(new))):
        if path in new and brought >= UNSEEN_MAX:
            continue
        session = call.session if path in own else path.stem
        try:
            with SessionLog(call.chosen, call.config, session) as log:
                since_us = used_us if path in new else None
                brought += bool(_make_up(call.replaced(session=session), log, path, since_us)) and path in new
        except (CcnError, OSError) as error:
            trouble.note(call.config, "session-start", error)


def _make_up(call: Call, log: SessionLog, path: Path, since_us: int | None) -> int:
    """Record what one transcript says and the record does not; `since_us` of a session that it does not know."""
    if log.find() is not None:
        found = prompts(path, log.began_us - SLACK_US)
    else:
        found = prompts(path, since_us) if since_us is not None else []
    if not found:
        return 0
    return reconcile(call.replaced(marks=privacy.marks(call.config, call.session)), log, found)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
