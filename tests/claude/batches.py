"""Message Batches on the stub: created, asked about until they have ended, read as lines in another order.

with BatchStub(script, at_work=1) as stub:   # each new batch is at work for one question first
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from tests.claude.stub import Answer, Exchange, Failure, Json, Reply, Request, Stub

PATH: Final = "/v1/messages/batches"
AT: Final = "2026-11-22T12:00:00Z"


@dataclass(frozen=True)
class NotDone:
    """A request of a batch that was not answered: `expired` or `canceled`."""

    kind: str = "expired"

    def send(self, exchange: Exchange) -> None:
        """Only batches know it."""
        raise AssertionError(
            f"request {exchange.number} asked for one message, which is not answered like this"
        )


class BatchStub(Stub):
    """The stub, with batches. Each request of a batch is asked of the script as if it had come alone."""

    def __init__(
        self,
        script: Iterable[Answer] | Callable[[Request], Answer],
        *,
        at_work: int = 0,
        tier: str | None = "batch",
    ) -> None:
        super().__init__(script)
        self.at_work = at_work
        self.tier = tier
        self.batches: dict[str, list[Json]] = {}
        self._left: dict[str, int] = {}

    def serve(self, handler: Any, request: Request) -> None:
        """Answer one request; those about batches here."""
        if not request.path.startswith(PATH):
            super().serve(handler, request)
            return
        with self._turn:
            self.journal.append(request)
            exchange = Exchange(handler, request, len(self.journal))
            name, _, what = request.path.removeprefix(PATH).strip("/").partition("/")
            if what == "results" and name in self.batches:
                _send_lines(handler, self.batches[name])
            else:
                self._answer(exchange, request, name)

    def _answer(self, exchange: Exchange, request: Request, name: str) -> None:
        if request.method == "POST" and not name:
            name = f"msgbatch_stub_{len(self.batches) + 1}"
            self.batches[name] = [self._line(request, item) for item in request.body["requests"]]
            self._left[name] = self.at_work
            exchange.json(200, self._batch(name))
        elif name not in self.batches:
            exchange.json(404, {"type": "error", "error": {"type": "not_found_error", "message": "no batch"}})
        else:
            shown = self._batch(name)
            self._left[name] = max(0, self._left[name] - 1)
            exchange.json(200, shown)

    def _line(self, request: Request, item: Json) -> Json:
        alone = Request(request.at, "POST", "/v1/messages", request.headers, item["params"])
        return {"custom_id": item["custom_id"], "result": self._result(self._scripted(alone), alone)}

    def _result(self, answer: Answer, alone: Request) -> Json:
        match answer:
            case Reply():
                message = answer.message(Exchange(None, alone, len(self.journal)))  # type: ignore[arg-type]  # sends nothing
                message["usage"] = {**message["usage"], "service_tier": self.tier}
                return {"type": "succeeded", "message": message}
            case Failure():
                error = {"type": answer.kind, "message": answer.message}
                return {
                    "type": "errored",
                    "error": {"type": "error", "error": error, "request_id": "req_stub"},
                }
            case NotDone():
                return {"type": answer.kind}
        raise AssertionError(f"a batch cannot have {answer!r}")

    def _batch(self, name: str) -> Json:
        ended = not self._left[name]
        kinds = [line["result"]["type"] for line in self.batches[name]]
        counts = {kind: kinds.count(kind) * ended for kind in ("succeeded", "errored", "canceled", "expired")}
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {**counts, "processing": 0 if ended else len(kinds)},
            "created_at": AT,
            "expires_at": "2026-11-23T12:00:00Z",
            "ended_at": AT if ended else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{self.url}{PATH}/{name}/results" if ended else None,
        }


def _send_lines(handler: Any, values: list[Json]) -> None:
    """JSON, a line each; the last one first, since the service promises no order."""
    sent = b"".join(json.dumps(value).encode() + b"\n" for value in reversed(values))
    handler.send_response(200)
    handler.send_header("content-type", "application/x-jsonl")
    handler.send_header("content-length", str(len(sent)))
    handler.end_headers()
    handler.wfile.write(sent)
