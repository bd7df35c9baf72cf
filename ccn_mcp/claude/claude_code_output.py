"""What `claude -p --output-format stream-json` prints, heard line by line into a `Reply`.

The lines are those of 2.1.330: `stream_event` (the API's events), `assistant` (a finished block, or an error in words),
`system` with subtype `api_retry`, `result`. Others are left out, so that new ones do no harm.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, TypeAlias

from ccn_mcp.claude.lines import BY_STATUS, CLAUDE_CODE_LINES, LINES, finish, reason, shown, span
from ccn_mcp.domain.talk import Asked, Reply, text_block, text_of

Json: TypeAlias = Mapping[str, Any]

SYNTHETIC: Final = "<synthetic>"
"""The model of an `assistant` line that Claude Code wrote itself: an error in words."""

USD_PLACES: Final = 10
"""Claude Code adds prices up in binary; what is behind these places is its rounding."""

USD_MAX: Final = 1_000_000
"""What one run can cost; more is a mistake, of its or of ours."""

GUESSED: Final = "unknown"
"""The costBasis of a model that Claude Code has no price of: it charges another's, which is none of this one's."""

KINDS: Final[Mapping[str, str]] = {
    "authentication_failed": "authentication_error",
    "oauth_org_not_allowed": "permission_error",
    "model_not_found": "not_found_error",
    "invalid_request": "invalid_request_error",
    "rate_limit": "rate_limit_error",
    "overloaded": "overloaded_error",
    "billing_error": "billing_error",
    "server_error": "api_error",
    "max_output_tokens": "max_tokens",
}
"""What Claude Code calls an error, and what we do."""


@dataclass
class Heard:
    """A reply while it is being heard."""

    asked: Asked
    reply: Reply
    on_text: Callable[[str], None]
    on_wait: Callable[[str], None]
    limit: asyncio.Timeout
    _unfinished: str = field(default="", init=False)
    """Of the block that is coming."""

    _error: str = field(default="", init=False)
    _result: Json | None = field(default=None, init=False)
    _broken: str = field(default="", init=False)

    def line(self, line: bytes) -> bool:
        """Hear a line; False where nothing after it matters, because the reply has ended."""
        try:
            said = json.loads(line)
        except ValueError:
            self._broken = self._broken or shown(line[:400].decode("utf-8", "replace"))
            return True
        if not isinstance(said, dict) or said.get("parent_tool_use_id"):
            return True
        match said.get("type"):
            case "stream_event":
                return self._event(_dict(said.get("event")))
            case "assistant":
                self._assistant(said, _dict(said.get("message")))
            case "system" if said.get("subtype") == "api_retry":
                return self._retry(said)
            case "result":
                self._result = said
        return True

    def keep(self) -> None:
        """What was said aloud is the reply's one block: Claude Code's other blocks belong to its own session."""
        self.reply.blocks = [text_block(self.reply.text)] if self.reply.text else []

    # ---- while it comes --------------------------------------------------------------------------------

    def _event(self, event: Json) -> bool:
        match event.get("type"):
            case "message_start":
                message = _dict(event.get("message"))
                self.reply.model = str(message.get("model") or self.reply.model)
                self._count(_dict(message.get("usage")))
            case "content_block_delta":
                delta = _dict(event.get("delta"))
                if delta.get("type") == "text_delta":
                    self._piece(str(delta.get("text") or ""))
            case "message_delta":
                self._count(_dict(event.get("usage")))
                if _dict(event.get("delta")).get("stop_reason") == "max_tokens":
                    # Left alone, it would ask the model to go on, three times over.
                    self.reply.counted = True
                    self.reply.end("max_tokens")
                    return False
        return True

    def _count(self, usage: Json) -> None:
        if usage:
            self.reply.usage = {**(self.reply.usage or {}), **usage}

    def _piece(self, text: str) -> None:
        self._unfinished += text
        if self.asked.schema is None and text:
            self.reply.text += text
            self.on_text(text)

    def _assistant(self, said: Json, message: Json) -> None:
        self.reply.request_id = str(said.get("request_id") or self.reply.request_id)
        if message.get("model") == SYNTHETIC:
            self._error = str(said.get("error") or "unknown")
            return
        content = message.get("content")
        blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
        if not self._unfinished:  # a reply that was not streamed
            self._piece(text_of(blocks))
        self._unfinished = ""

    def _retry(self, said: Json) -> bool:
        """It asks again by itself; False where that is not waited for."""
        kind = KINDS.get(str(said.get("error")), "connection")
        pause_s = _number(said.get("retry_delay_ms")) / 1000
        left_s = (self.limit.when() or 0.0) - asyncio.get_running_loop().time()
        if self._unfinished and self.asked.schema is None:  # said once more, it would be there twice
            self.reply.end("connection", LINES["connection"])
        elif kind in ("authentication_error", "billing_error", "permission_error"):
            self.reply.end(kind, CLAUDE_CODE_LINES.get(kind) or LINES[kind])
        elif pause_s > left_s:
            self.reply.end(kind, LINES["pause"].format(pause=span(pause_s), reason=reason(kind)))
        else:
            self.on_wait(f"{reason(kind)}; trying again in {span(pause_s)} ({said.get('attempt')})")
            return True
        return False

    # ---- at its end ------------------------------------------------------------------------------------

    def finish(self, status: int, complaint: str) -> None:
        """The program has ended with this status, having complained of this."""
        result = self._result
        if result is None:
            self._without_result(status, complaint)
            return
        usage = _dict(result.get("usage"))
        if any(usage.get(name) for name in ("input_tokens", "output_tokens", "cache_read_input_tokens")):
            self.reply.usage = usage
            self.reply.counted = True
        if self.reply.usage is not None:
            self.reply.spent_usd = price_of(result)
        if result.get("is_error") or result.get("subtype") != "success":
            self._failed_result(result)
        elif self.asked.schema is not None:
            self._structured(result.get("structured_output"))
        else:
            finish(self.reply, str(result.get("stop_reason") or "truncated"), self.asked)

    def failed(self, status: object, said: str) -> None:
        """The program itself failed."""
        self.reply.end("program_failed", CLAUDE_CODE_LINES["program_failed"].format(status=status, said=said))

    def _without_result(self, status: int, complaint: str) -> None:
        if self._broken:
            self.reply.end("unreadable", LINES["unreadable"].format(said=self._broken))
        elif status != 0:
            lines = complaint.strip().splitlines()
            self.failed(f"ended with status {status}", shown(lines[-1]) if lines else "without a word")
        else:
            self.reply.end("truncated")

    def _structured(self, value: object) -> None:
        if value is None:
            self.reply.end("malformed", LINES["malformed"])
            return
        text = json.dumps(value, ensure_ascii=False)
        self.reply.text = text
        self.on_text(text)
        self.reply.end("end_turn")

    def _failed_result(self, result: Json) -> None:
        if result.get("stop_reason") == "refusal":
            self.reply.end("refusal")
            return
        said = shown(result.get("result") or result.get("subtype") or "")
        status = result.get("api_error_status")
        kind = KINDS.get(self._error, "api_error")
        if kind == "api_error" and isinstance(status, int):
            kind = BY_STATUS.get(status, kind)
        if kind == "authentication_error" and status is None:
            kind = "no_credential"
        elif result.get("terminal_reason") == "prompt_too_long" or said.startswith("Prompt is too long"):
            kind = "request_too_large"
        elif status is None and kind == "api_error":
            kind = "connection" if "onnect" in said else kind
        line = CLAUDE_CODE_LINES.get(kind) or LINES.get(kind, LINES["invalid_request_error"])
        self.reply.end(kind, line.format(model=repr(self.asked.model), said=said))


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def price_of(result: Mapping[str, Any]) -> Decimal | None:
    """What a result says that it cost; None where it says nothing, no amount, or only guesses."""
    given = result.get("total_cost_usd")
    if any(_dict(used).get("costBasis") == GUESSED for used in _dict(result.get("modelUsage")).values()):
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < USD_MAX:
        return None  # NaN is not in that range either
    return round(Decimal(str(given)), USD_PLACES).normalize()
