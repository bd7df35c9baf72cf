"""What the person reads when a reply is not whole: one line for each kind, the same for every back end.

docs/models.md has them in a table, which tests/claude/test_lines.py compares with these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from ccn_mcp.domain.masking import mask
from ccn_mcp.domain.talk import CUT_SHORT, Asked, Reply

SHOWN_CHARS_MAX: Final = 200
"""Of what a service or a program said itself, inside a line of ours."""

HIDDEN: Final = "\u2039hidden\u203a"

LINES: Final[Mapping[str, str]] = {
    "no_credential": "there is no credential for the API: set ANTHROPIC_API_KEY, or log in with `ant auth login`, or "
    "use the login of your Claude Code with --backend claude-code",
    "authentication_error": "the API did not accept the credential: check ANTHROPIC_API_KEY, or log in again",
    "permission_error": "this credential may not use this model: choose another one with --model",
    "billing_error": "the API wants its bill settled first: see the account's billing page",
    "not_found_error": "the API knows no model {model}, or it has been retired: choose another one with --model",
    "no_service": "there is no Messages API at this address: check ANTHROPIC_BASE_URL",
    "rate_limit_error": "the API's rate limit is reached: wait a little, then ask again",
    "overloaded_error": "the API is overloaded: wait a little, then ask again",
    "request_too_large": "the request is too large for the API: make it shorter, for example with a smaller "
    "--history-tokens",
    "timeout_error": "the API took too long: ask again",
    "api_error": "the API failed on its side: ask again",
    "invalid_request_error": "the API refused this request ({said}): change it before you ask again",
    "pause": "the API asks for a pause of {pause} ({reason}): ask again after that, or choose another model with "
    "--model",
    "unreachable": "the API could not be reached, and nothing was sent: check the network, then ask again",
    "connection": "the connection to the API failed; what came is kept: check the network, then ask again",
    "deadline": "no whole reply within {seconds} s; what came is kept: ask again",
    "unreadable": "the answer could not be read ({said}); what came is kept: ask again",
    "unsent": "the request could not be made ({said}): check what is sent and the credential",
    "malformed": "the reply is not the JSON that was asked for: ask again",
    "unknown_ending": "the reply ended with {said}, which is not known here; what came is kept: ask again",
}

CLAUDE_CODE_LINES: Final[Mapping[str, str]] = {
    "no_program": "Claude Code was not found: install it, or put `claude` on the PATH, or use the API with "
    "--backend api",
    "program_failed": "Claude Code {status} ({said}): run `claude -p hello` to see whether it works "
    "at all, or update it with `claude update`",
    "no_credential": "Claude Code is not logged in: start `claude`, type /login, then ask again",
    "authentication_error": "Claude Code's login was not accepted: start `claude`, type /login, then ask again",
    "output_too_large": "Claude Code printed more than is read ({said}); what came is kept: ask for less",
}
"""Where it is another line, or another kind, for the person's own Claude Code."""

BY_STATUS: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""The kind of an HTTP status, where the service does not name it."""


def shown(said: object, secrets: Iterable[str] = ()) -> str:
    """What a service or a program said, as part of a line: short, and without anything that looks like a secret."""
    text = str(said)
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return " ".join(mask(text).text.split())[:SHOWN_CHARS_MAX]


def reason(kind: str) -> str:
    """The first half of a line: what it is, without what to do next."""
    return re.split("[:;]", LINES.get(kind, kind))[0]


def span(seconds: float) -> str:
    """A pause as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def finish(reply: Reply, stop_reason: str, asked: Asked) -> None:
    """End a reply that came to its own end: whole, cut short, or not what was asked for."""
    reply.end(stop_reason)
    if reply.whole:
        if asked.schema is not None and not _is_json(reply.text):
            reply.end("malformed", LINES["malformed"])
    elif stop_reason not in CUT_SHORT:
        reply.end(stop_reason, LINES["unknown_ending"].format(said=shown(repr(stop_reason))))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
