"""A model by the Messages API, through `anthropic` 2.x.

The SDK retries before the first byte; what fails after it, it hands on in three different ways (a network error of
its HTTP library, an error with status 200, or nothing at all), which all end here as `Reply.ended`.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import anthropic
import httpx2

from ccn_mcp.claude.lines import BY_STATUS, LINES, finish, reason, shown, span
from ccn_mcp.domain.talk import (
    DEADLINE_S_DEFAULT,
    THOUGHT,
    Asked,
    Block,
    Reply,
    replayed,
    text_block,
    text_of,
)

if TYPE_CHECKING:
    from anthropic import AsyncAPIResponse
    from anthropic.lib.streaming import AsyncMessageStream, AsyncMessageStreamManager
    from anthropic.types import Message

RETRIES_MAX: Final = 4
HOUR: Final = {"type": "ephemeral", "ttl": "1h"}
FIVE_MINUTES: Final = {"type": "ephemeral"}
SYSTEM_MARKS_MAX: Final = 3
"""The service takes four marks of the cache in a request; one is for the turns."""

NOTES_REFUSED_BY: Final = (
    "claude-3",
    "claude-opus-4-0",
    "claude-opus-4-1",
    "claude-opus-4-2025",
    "claude-opus-4-5",
    "claude-opus-4-6",
    "claude-opus-4-7",
    "claude-sonnet-4",
    "claude-haiku-4",
)
"""Models that take no system message after a turn; they get what changes at the end of the person's turn."""

_NO_CREDENTIAL: Final = "Could not resolve authentication method"
"""How the SDK's `TypeError` begins where it has nothing to sign a request with."""


class _WaitTooLong(anthropic.AnthropicError):
    """The service asks for a pause beyond the deadline; the SDK would keep it."""

    def __init__(self, kind: str, pause_s: float) -> None:
        super().__init__(LINES["pause"].format(pause=span(pause_s), reason=reason(kind)))
        self.kind = kind


class _Unsent(anthropic.AnthropicError):
    """The SDK could not put the request together."""


class _Unreadable(anthropic.AnthropicError):
    """The SDK could not make sense of what came."""


class ApiModel:
    """The API; the credential is whatever the SDK finds (a key, a token, the profile of `ant auth login`)."""

    backend = "api"

    def __init__(
        self, client: anthropic.AsyncAnthropic | None = None, *, deadline_s: float = DEADLINE_S_DEFAULT
    ) -> None:
        self._client = client
        self._deadline_s = deadline_s
        self._warned: set[str] = set()

    def missing(self) -> str:
        """See `ports.LanguageModel`."""
        try:
            client = self._client = self._client or anthropic.AsyncAnthropic()
        except (anthropic.AnthropicError, TypeError, ValueError, httpx2.InvalidURL):
            return ""  # `answer` says what it is
        own = any(name.lower() == "authorization" for name in client.default_headers)
        found = client.api_key or client.auth_token or client.credentials or own
        return "" if found else LINES["no_credential"]

    async def answer(
        self,
        asked: Asked,
        reply: Reply,
        *,
        on_text: Callable[[str], None] = lambda _: None,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        """See `ports.LanguageModel`."""
        reply.model = asked.model
        try:
            async with asyncio.timeout(self._deadline_s) as limit:
                await self._stream(asked, reply, on_text, _Waits(limit, on_wait))
        except TimeoutError:
            if not limit.expired():  # a caller's own
                raise
            reply.end("deadline", LINES["deadline"].format(seconds=f"{self._deadline_s:g}"))
        except asyncio.CancelledError:
            reply.end("cancelled")
            raise
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:
            reply.request_id = getattr(error, "request_id", None) or reply.request_id
            reply.end(*problem(error, asked.model, self._secrets()))

    async def _stream(
        self, asked: Asked, reply: Reply, on_text: Callable[[str], None], waits: _Waits
    ) -> None:
        done: set[int] = set()
        async with _opened(lambda: self._request(asked, waits)) as stream:  # retries happen here
            reply.request_id = stream.request_id or ""
            try:
                async with aclosing(_events(stream)) as events:
                    async for event in events:
                        if event.type == "content_block_stop":
                            done.add(event.index)
                        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
                            reply.text += event.delta.text
                            on_text(event.delta.text)
            except (anthropic.AnthropicError, httpx2.HTTPError):
                if not _stop_reason(stream):  # else everything had come
                    raise
            finally:
                _keep(reply, stream, done)
            finish(reply, _stop_reason(stream) or "truncated", asked)

    def _request(self, asked: Asked, waits: _Waits) -> AsyncMessageStreamManager[Any]:
        """Nothing is sent before it is entered."""
        if self._client is None:
            self._client = anthropic.AsyncAnthropic()
        trying = self._client.copy(middleware=[waits.attempt], max_retries=RETRIES_MAX)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            manager = trying.messages.stream(**request_of(asked))
        for warning in told:
            line = " ".join(str(warning.message).split())
            if line not in self._warned:
                self._warned.add(line)
                waits.say(line)
        return manager

    def _secrets(self) -> list[str]:
        client = self._client
        found = (client.api_key, client.auth_token) if client is not None else ()
        return [secret for secret in found if secret]

    async def aclose(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.close()


@asynccontextmanager
async def _opened(
    request: Callable[[], AsyncMessageStreamManager[Any]],
) -> AsyncIterator[AsyncMessageStream[Any]]:
    """The stream of a reply, once its first byte is here; closed whatever happens.

    Raises:
        AnthropicError: there is none.
    """
    try:
        manager = request()
        stream = await manager.__aenter__()
    except anthropic.AnthropicError:
        raise
    except (TypeError, ValueError, httpx2.InvalidURL) as error:  # what the SDK's preparations met
        raise _Unsent(_NO_CREDENTIAL if _NO_CREDENTIAL in str(error) else type(error).__name__) from None
    try:
        yield stream
    finally:
        await stream.close()


async def _events(stream: AsyncMessageStream[Any]) -> AsyncGenerator[Any, None]:
    """The events of a stream; whatever the SDK's reading of a broken one raises is one kind of error."""
    try:
        async for event in stream:
            yield event
    except (anthropic.AnthropicError, httpx2.HTTPError):
        raise
    except Exception as error:
        raise _Unreadable(type(error).__name__) from error


def _snapshot(stream: AsyncMessageStream[Any]) -> Message | None:
    try:
        return stream.current_message_snapshot
    except AssertionError:  # the SDK's, before message_start
        return None


def _stop_reason(stream: AsyncMessageStream[Any]) -> str | None:
    return getattr(_snapshot(stream), "stop_reason", None)


def _keep(reply: Reply, stream: AsyncMessageStream[Any], done: set[int]) -> None:
    """What came, as it came: every block, who served it, what it cost.

    Of a block that was not finished only its text is kept: half a thought or half a tool's input can be sent to
    nobody.
    """
    message = _snapshot(stream)
    if message is None:
        return
    ended = message.stop_reason is not None
    blocks = [block.to_dict(mode="json") for block in message.content or ()]
    reply.blocks = [
        block
        for index, block in enumerate(blocks)
        if ended or index in done or (block.get("type") == "text" and block.get("text"))
    ]
    reply.text = text_of(reply.blocks)
    reply.model = message.model or reply.model
    usage = getattr(message, "usage", None)  # a broken stream may be without
    if usage is not None:
        reply.usage = usage.to_dict(mode="json")
        reply.counted = ended


# ---- the request ---------------------------------------------------------------------------------------


def request_of(asked: Asked) -> dict[str, Any]:
    """The parameters of the request; the same for the same `asked`, so that the prompt cache is met."""
    given: dict[str, Any] = {
        "model": asked.model,
        "max_tokens": asked.max_tokens,
        "messages": _messages(asked),
    }
    system: list[dict[str, Any]] = [dict(text_block(part)) for part in asked.system if part]
    for part in system[-SYSTEM_MARKS_MAX:]:
        part["cache_control"] = HOUR
    if system:
        given["system"] = system
    output: dict[str, Any] = {}
    if asked.effort is not None:
        output["effort"] = asked.effort
    if asked.schema is not None:
        schema = anthropic.transform_schema(dict(asked.schema))
        output["format"] = {"type": "json_schema", "schema": schema}
    if output:
        given["output_config"] = output
    return given


def _messages(asked: Asked) -> list[dict[str, Any]]:
    """The turns, the last one marked for the cache, and what changes with every turn behind the mark."""
    turns = [
        (turn.role, [dict(block) for block in turn.blocks]) for turn in replayed(asked.turns, asked.model)
    ]
    apart = not asked.model.startswith(NOTES_REFUSED_BY)
    if turns:
        blocks = turns[-1][1]
        if blocks[-1].get("type") not in THOUGHT:
            blocks[-1]["cache_control"] = FIVE_MINUTES
        if asked.note and not apart:
            blocks.append(dict(text_block(asked.note)))
    messages: list[dict[str, Any]] = [{"role": role, "content": blocks} for role, blocks in turns]
    if asked.note and apart:
        messages.append({"role": "system", "content": asked.note})
    return messages


# ---- what goes wrong -----------------------------------------------------------------------------------


class _Waits:
    """Says that the SDK tries again, and ends the call where that would be after the deadline."""

    def __init__(self, limit: asyncio.Timeout, say: Callable[[str], None]) -> None:
        self._limit = limit
        self.say = say

    async def attempt(self, request: Any, call_next: Any) -> AsyncAPIResponse[Any]:
        """One attempt inside the SDK's retries (its middleware)."""
        left = request.retries_taken < RETRIES_MAX
        try:
            response: AsyncAPIResponse[Any] = await call_next(request)
        except anthropic.APIConnectionError:
            if left:
                self.say(f"the API could not be reached; trying again ({request.retries_taken + 1})")
            raise
        if response.status_code < 400:
            return response
        wait_s = retry_after_s(response.headers)
        kind = BY_STATUS.get(response.status_code, "api_error")
        left_s = (self._limit.when() or 0.0) - asyncio.get_running_loop().time()
        if wait_s > left_s:
            await response.close()
            raise _WaitTooLong(kind, wait_s)
        if left and response.status_code >= 429:
            after = f" in {span(wait_s)}" if wait_s else ""
            self.say(f"{reason(kind)}; trying again{after} ({request.retries_taken + 1})")
        return response


def retry_after_s(headers: Any) -> float:
    """The pause that a response asks for, in seconds; 0 without one (RFC 9110, section 10.2.3)."""
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            pause = float(headers[name]) / per_second
        except (KeyError, ValueError):
            continue
        return max(0.0, pause) if pause < float("inf") else 0.0
    try:
        # A date is compared with the service's own clock.
        until = parsedate_to_datetime(headers["retry-after"])
        return max(0.0, (until - parsedate_to_datetime(headers["date"])).total_seconds())
    except (KeyError, ValueError, TypeError):
        return 0.0


def problem(error: Exception, model: str, secrets: Iterable[str] = ()) -> tuple[str, str]:
    """The kind of a failure and a line for the person: what it was, and what to do next."""
    match error:
        case _WaitTooLong():
            return error.kind, str(error)
        case anthropic.APIStatusError():
            return _of_status(error, model, secrets)
        case anthropic.APITimeoutError():
            kind, said = "timeout_error", ""
        case anthropic.APIConnectionError() if isinstance(error.__cause__, httpx2.ConnectError):
            kind, said = "unreachable", ""
        case anthropic.APIConnectionError() | httpx2.HTTPError():
            kind, said = "connection", ""
        case _Unsent() if str(error) == _NO_CREDENTIAL:
            kind, said = "no_credential", ""
        case _Unsent():
            kind, said = "unsent", str(error)
        case anthropic.CredentialsError():
            kind, said = "unsent", shown(error, secrets)
        case _:
            kind, said = "unreadable", shown(error, secrets)
    return kind, LINES[kind].format(said=said)


def _of_status(error: anthropic.APIStatusError, model: str, secrets: Iterable[str]) -> tuple[str, str]:
    # An error inside a stream comes with status 200 and says what it is by its type alone.
    kind = str(error.type or BY_STATUS.get(error.status_code, "api_error"))
    if error.status_code == 404 and error.type is None:
        kind = "no_service"
    said = shown(error.api_message or f"status {error.status_code}", secrets)
    return kind, LINES.get(kind, LINES["invalid_request_error"]).format(model=repr(model), said=said)


def blocks_of(message: Any) -> list[Block]:
    """The blocks of a message that came whole (a batch's), as `answer` keeps them."""
    return [block.to_dict(mode="json") for block in message.content]
