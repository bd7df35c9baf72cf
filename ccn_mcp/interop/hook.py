"""`ccn-mcp hook EVENT`: Claude Code calls it at every prompt, so it starts fast, fails open and says nothing.

It reads the hook's JSON on standard input and always exits with 0. What went wrong is kept for `ccn-mcp doctor`
(`trouble.py`). Modules that only some events need are imported by those.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from ccn_mcp import settings
from ccn_mcp.domain.errors import BadInput, CcnError
from ccn_mcp.domain.limits import ID_CHARS_MAX
from ccn_mcp.domain.values import Value
from ccn_mcp.interop import privacy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final, TypeAlias

    from ccn_mcp.interop.claude_code import Prompt
    from ccn_mcp.interop.recording import SessionLog
    from ccn_mcp.settings import Settings

    Json: TypeAlias = Mapping[str, Any]

STDIN_BYTES_MAX: Final = 64 * 1_048_576
HOOK_S_MAX: Final = 8.0
"""A hook that takes longer is ended by itself, before Claude Code ends it (hooks.json)."""

USAGE: Final = """\
usage: ccn-mcp hook EVENT           (Claude Code calls it; the event's JSON comes on standard input)
       ccn-mcp hook private on|off  (stop and resume recording this Claude Code session)

Events: session-start [PART], user-prompt-submit, stop, stop-failure, session-end, post-tool-use, statusline
"""


class Call(Value):
    """One call of a hook: what Claude Code says, and what the person has set."""

    event: str
    given: Json
    session: str
    chosen: Settings
    config: Path
    marks: list[privacy.Mark]
    part: str = "1"

    @property
    def prompt(self) -> str:
        """The id of the prompt that is being answered."""
        return str(self.given.get("prompt_id") or "")

    @property
    def hidden(self) -> bool:
        """Whether nothing may be recorded now."""
        return privacy.is_on(self.marks)


def main(arguments: list[str]) -> int:
    """Do what a hook has to do; 0 whatever happens, because Claude Code takes 2 for a veto."""
    event = arguments[0] if arguments else ""
    if event == "private":
        from ccn_mcp.interop.private_mode import switch

        return switch(arguments[1:])
    if event not in EVENTS:
        sys.stderr.write(USAGE)
        if event not in ("", "-h", "--help"):
            _keep("hook", "an event that this version does not know; update the plugin and ccn-mcp together")
        return 0
    _end_in_time(event)
    try:
        said = EVENTS[event](_call(event, arguments[1:]))
        if said:
            sys.stdout.write(said)
            sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - a hook fails open, whatever it was
        _keep(event, error)
    return 0


def _call(event: str, rest: list[str]) -> Call:
    data = sys.stdin.buffer.read(STDIN_BYTES_MAX)
    given = json.loads(data) if data.strip() else {}
    if not isinstance(given, dict):
        raise BadInput("the hook's input is no JSON object")
    session_id, folder = (given.get(name) for name in ("session_id", "cwd"))
    chosen = settings.for_session(
        session_id if isinstance(session_id, str) else None, folder if isinstance(folder, str) else None
    )
    session = (chosen.session_id or "").strip()[:ID_CHARS_MAX]
    config = settings.config_folder(chosen)
    hidden = chosen.private or chosen.excluded is not None
    marks = privacy.settle(config, session, hidden=hidden) if session else []
    return Call(event, given, session, chosen, config, marks, *rest[:1])


def _end_in_time(event: str) -> None:
    import signal

    if not hasattr(signal, "setitimer"):  # Windows: Claude Code's own limit has to do
        return

    def late(_number: int, _frame: object) -> None:
        _keep(event, f"ended after {HOOK_S_MAX:g} s; what was not recorded is read from the transcript later")
        os._exit(0)

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, HOOK_S_MAX)


def _keep(event: str, error: BaseException | str) -> None:
    from contextlib import suppress

    from ccn_mcp.interop import trouble

    with suppress(Exception):
        trouble.note(settings.named_config_folder(), event, error)


# ---- the events ----------------------------------------------------------------------------------------


def _user_prompt_submit(call: Call) -> None:
    """What the person has said."""
    text = call.given.get("prompt")
    if call.hidden or not call.session or not isinstance(text, str) or not text.strip():
        return
    from ccn_mcp.interop.recording import SessionLog, Spoken

    with SessionLog(call.chosen, call.config, call.session) as log:
        log.record(Spoken("user", text, call.prompt))


def _stop(call: Call) -> None:
    """What was answered: the last text, and from the transcript those before it, which no hook is given."""
    if call.hidden or not call.session:
        return
    from ccn_mcp.interop.claude_code import Prompt, Said, with_last
    from ccn_mcp.interop.recording import SessionLog

    last = call.given.get("last_assistant_message")
    transcript = _transcript(call)
    with SessionLog(call.chosen, call.config, call.session) as log:
        log.conversation()
        found = _settled(call, transcript, log.began_us - SLACK_US) if transcript is not None else []
        if isinstance(last, str) and last.strip():
            if not found or (call.prompt and found[-1].id != call.prompt):
                found.append(Prompt(call.prompt, (Said("user", "", 0),), open=True))
            found[-1] = with_last(found[-1], last)
        reconcile(call, log, found)
        _correct(call, log, found)


def _correct(call: Call, log: SessionLog, found: list[Prompt]) -> None:
    """The session's instance is of the model that has answered last, whatever it was said to be."""
    by = next((prompt.by for prompt in reversed(found) if prompt.by and not _was_private(call, prompt)), None)
    try:
        if by is not None and log.is_other_than(by.model, by.thinking):
            from ccn_mcp.interop.correction import correct

            correct(call, log, by)
    except (CcnError, OSError) as error:  # the session's end is to be recorded all the same
        _keep(call.event, error)


def _settled(call: Call, transcript: Path, since_us: int) -> list[Prompt]:
    """The prompts of a transcript once it has the last answer, which is written a moment after Stop is called.

    There it is byte for byte; Stop leaves out the blanks at its ends.
    """
    from ccn_mcp.interop.claude_code import prompts, says

    last = str(call.given.get("last_assistant_message") or "")
    until = time.monotonic() + TRANSCRIPT_WAIT_S_MAX
    while True:
        size = transcript.stat().st_size
        found = prompts(transcript, since_us)
        there = bool(found) and found[-1].id == (call.prompt or found[-1].id) and says(found[-1], last)
        if there or not last.strip():
            return found
        while transcript.stat().st_size == size:
            if time.monotonic() > until:
                return found
            time.sleep(TRANSCRIPT_POLL_S)


TRANSCRIPT_WAIT_S_MAX: Final = 0.3
TRANSCRIPT_POLL_S: Final = 0.02
SLACK_US: Final = 5_000_000
"""A prompt gets its time before its hook has opened the conversation; no prompt of a person comes so soon before."""


def reconcile(call: Call, log: SessionLog, found: list[Prompt]) -> int:
    """Record what is missing of these prompts, except what was said in private; how many entries are new."""
    from ccn_mcp.interop.recording import Spoken

    new = 0
    for prompt in found:
        if _was_private(call, prompt):
            continue
        said = [
            Spoken(item.role, item.text, prompt.id, item.at_us, item.nth)
            for item in prompt.said
            if item.text.strip() and not (item.at_us and privacy.was_private(call.marks, item.at_us))
        ]
        new += sum(log.record(spoken) for spoken in log.missing(prompt.id, said))
    return new


def _was_private(call: Call, prompt: Prompt) -> bool:
    return bool(prompt.said[0].at_us) and privacy.was_private(call.marks, prompt.said[0].at_us)


def _transcript(call: Call) -> Path | None:
    path = call.given.get("transcript_path")
    return Path(path) if isinstance(path, str) and Path(path).is_file() else None


def _post_tool_use(call: Call) -> None:
    """That a tool was used, if the person wants it: its name, or also what went in and came out, cut short."""
    if call.hidden or not call.session or call.chosen.record_tools == "off":
        return
    from ccn_mcp.interop.recording import SessionLog, Spoken

    name = str(call.given.get("tool_name") or "")
    text = name
    if call.chosen.record_tools == "full":
        pair = (call.given.get("tool_input"), call.given.get("tool_response"))
        text = "\n".join([name, *(json.dumps(item, ensure_ascii=False)[:TOOL_CHARS_MAX] for item in pair)])
    use = str(call.given.get("tool_use_id") or "")
    with SessionLog(call.chosen, call.config, call.session) as log:
        log.record(Spoken("tool", text, f"{call.prompt}/{use}"))


TOOL_CHARS_MAX: Final = 2_000
"""Of a tool's input and of its output."""


def _session_start(call: Call) -> str:
    """What the session begins with; see `session_start.py`."""
    if call.hidden or not call.session:
        return ""
    from ccn_mcp.interop.session_start import begin

    text, to_person = begin(call, _transcript(call))
    told: dict[str, object] = {"systemMessage": to_person} if to_person else {}
    if text:
        told["hookSpecificOutput"] = {"hookEventName": "SessionStart", "additionalContext": text}
    return json.dumps(told) if told else ""


def _session_end(call: Call) -> None:
    """The session's instance is no longer connected; and the last words, if Stop did not come."""
    if call.hidden or not call.session:
        return
    from ccn_mcp.interop.session_end import end

    _stop(call)
    end(call)


def _statusline(call: Call) -> str:
    """One line for Claude Code's status line."""
    from ccn_mcp.interop.statusline import line

    return line(call) + "\n"


EVENTS: Final[Mapping[str, Callable[[Call], str | None]]] = {
    "session-start": _session_start,
    "user-prompt-submit": _user_prompt_submit,
    "stop": _stop,
    "stop-failure": _stop,
    "session-end": _session_end,
    "post-tool-use": _post_tool_use,
    "statusline": _statusline,
}
