"""Message Batches through `anthropic` 2.x: many requests, half the price, an answer within a day.

What the service says of a batch is asked once per call; nothing here waits for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import anthropic
import httpx2

from ccn_mcp.claude.api import blocks_of, problem, request_of
from ccn_mcp.claude.lines import LINES, finish, reason
from ccn_mcp.domain.errors import JudgeFailed
from ccn_mcp.domain.talk import DEADLINE_S_DEFAULT, Asked, Reply, text_of

if TYPE_CHECKING:
    from anthropic.types.messages import MessageBatchIndividualResponse

RESULTS_MAX: Final = 1_000
"""Results of one batch that are read; a judgement has far fewer."""


class ApiBatches:
    """Batches of the API; the credential is whatever the SDK finds. See `ports.Batches`."""

    backend = "api"

    def __init__(
        self, client: anthropic.AsyncAnthropic | None = None, *, deadline_s: float = DEADLINE_S_DEFAULT
    ) -> None:
        self._client = client
        self._deadline_s = deadline_s

    async def submit(self, requests: Mapping[str, Asked]) -> str:
        """See `ports.Batches`."""
        sent = [{"custom_id": name, "params": request_of(asked)} for name, asked in requests.items()]
        model = next(iter(requests.values())).model
        async with self._asking(model) as client:
            batch = await client.messages.batches.create(requests=sent)  # type: ignore[arg-type]  # plain JSON
        return batch.id

    async def results(self, batch: str, asked: Asked) -> Mapping[str, Reply] | None:
        """See `ports.Batches`."""
        async with self._asking(asked.model) as client:
            try:
                found = await client.messages.batches.retrieve(batch)
            except anthropic.NotFoundError:
                return {}
            if found.processing_status != "ended":
                return None
            if not found.results_url or found.archived_at is not None:
                return {}
            lines = await client.messages.batches.results(batch)
            replies: dict[str, Reply] = {}
            async for line in lines:
                replies[line.custom_id] = _reply(line, asked)
                if len(replies) == RESULTS_MAX:
                    break
            return replies

    @asynccontextmanager
    async def _asking(self, model: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
        """The client, within the deadline, and its failures in our words."""
        if self._client is None:
            self._client = anthropic.AsyncAnthropic()
        client = self._client
        if not (client.api_key or client.auth_token or client.credentials):
            raise JudgeFailed(LINES["no_credential"])
        try:
            async with asyncio.timeout(self._deadline_s):
                yield client
        except TimeoutError:
            raise JudgeFailed(f"the API did not answer within {self._deadline_s:g} s; try again") from None
        except (anthropic.AnthropicError, httpx2.HTTPError, json.JSONDecodeError) as error:
            secrets = [secret for secret in (client.api_key, client.auth_token) if secret]
            said = problem(error, model, secrets)[1]
            raise JudgeFailed(f"the API could not be asked about the batch: {said}") from error

    async def aclose(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.close()


def _reply(line: MessageBatchIndividualResponse, asked: Asked) -> Reply:
    """What came of one request of a batch. What did not succeed is not billed (the service's documentation)."""
    reply = Reply(model=asked.model)
    result = line.result
    if result.type == "succeeded":
        message = result.message
        reply.blocks = blocks_of(message)
        reply.text = text_of(reply.blocks)
        reply.model = message.model or asked.model
        reply.usage = message.usage.to_dict(mode="json")
        reply.counted = True
        reply.request_id = message.id
        finish(reply, message.stop_reason or "truncated", asked)
        return reply
    reply.spent_usd, reply.counted = Decimal(0), True
    if result.type == "errored":
        kind = str(result.error.error.type)
        reply.end(kind, f"the API refused this request of the batch: {reason(kind)}")
    else:
        reply.end(result.type, f"the service has {result.type} this request of the batch; send it again")
    return reply
