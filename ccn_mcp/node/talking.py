"""A conversation that this program carries to a model itself: continuity in, every message and every cost recorded.

What a model is sent, most stable first: the Plate and the state (system); what is kept of earlier sessions and of the
turns that no longer fit (quoted, in the person's first turn); the turns themselves, unchanged; the facts of now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ccn_mcp.domain.cost import usage_of
from ccn_mcp.domain.errors import ConversationErased, NotFound
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import CONTEXT_TOKENS_DEFAULT, CONTEXT_TURNS_MAX
from ccn_mcp.domain.masking import mask
from ccn_mcp.domain.models import Body, Draft, Group, MessageQuery, RecordQuery
from ccn_mcp.domain.prompt import Recorder
from ccn_mcp.domain.spending import Call, call_of
from ccn_mcp.domain.talk import Asked, Reply, Turn, recorded, text_block, tokens_of, turn_of
from ccn_mcp.node.calling import call
from ccn_mcp.node.context import Caller, Context, must_record
from ccn_mcp.node.continuity import load
from ccn_mcp.node.conversations import check_content
from ccn_mcp.node.summaries import Summary, newest_summary, record_summary, summary_request
from ccn_mcp.node.usage import check_ceiling, record_usage, usage_draft, worst_of
from ccn_mcp.ports import LanguageModel

KEPT_OF_BUDGET: Final = 0.5
"""How much of the budget stays in use when turns have to go: the front of the conversation, and with it the prompt
cache, then stays as it is for many turns."""

RATIO_MIN: Final = 0.25
RATIO_MAX: Final = 4.0
"""Between which a model's own count of tokens may correct the estimate."""

Say = Callable[[str], None]


def nobody(_: str) -> None:
    """Nobody listens."""


class Said(NamedTuple):
    """A turn and where it is in the log."""

    seq: int
    turn: Turn


class Exchange(NamedTuple):
    """What came of one thing said; `seq` is the reply's entry, None if nothing came."""

    reply: Reply
    asked_seq: int
    seq: int | None
    usage: Call
    head: str


@dataclass(slots=True)
class Talk:
    """One conversation with one model. One exchange at a time."""

    ctx: Context
    caller: Caller
    port: LanguageModel
    model: str
    budget: int = CONTEXT_TOKENS_DEFAULT
    """Tokens of the conversation's own turns that a request may hold, about."""

    conversation_id: str = ""
    instance_id: str = ""
    _system: tuple[str, ...] = ()
    _records: str = ""
    _note: str = ""
    _summary: Summary | None = None
    _said: list[Said] = field(default_factory=list)
    _ratio: float = 1.0

    async def open(self, conversation_id: str | None = None, *, title: str | None = None) -> int:
        """Begin a conversation, or go on with one; how many of its turns are there to go on from.

        Raises:
            UnknownConversation, BadInput. Excluded: there may be no record of this folder.
        """
        loaded = await load(
            self.ctx,
            self.caller,
            instance_id=self.instance_id or None,
            conversation_id=conversation_id or self.conversation_id or None,
            model=self.model,
            title=title,
            history_tokens=min(self.budget, CONTEXT_TOKENS_DEFAULT),
            recorder=Recorder.PROGRAM,
        )
        self.conversation_id, self.instance_id = loaded.ids.conversation_id, loaded.ids.instance_id
        parts = loaded.context.parts
        self._system = tuple(filter(None, (parts.plate, parts.state)))
        self._records = parts.records if loaded.context.turns_included else ""
        self._note = parts.session
        self._summary = await newest_summary(self.ctx, self.conversation_id)
        self._said = await _turns(self.ctx, self.conversation_id, self._summary)
        return len(self._said)

    async def use(self, model: str) -> None:
        """Go on with another model; the instance is described anew."""
        self.model, self._ratio = model, 1.0
        await self.open()

    async def say(self, text: str, *, on_text: Say = nobody, on_wait: Say = nobody) -> Exchange:
        """Record what the person says, ask the model, record what comes. Cancelled, what came is recorded too.

        Raises:
            EmptyContent, TooLarge, BadText, Excluded: nothing was recorded. CostCeiling: nothing was sent.
            StoreError.
        """
        must_record(self.ctx)
        masked = mask(check_content(text))
        body: Body = {"role": "user", "text": masked.text}
        if masked.counts:
            body["masked"] = dict(masked.counts)
        done = await self.ctx.store.append(Group((self._message(body),), touch=self._touch()))
        seq = done.receipts[0].seq
        # The model is sent what was said; the record and every later session have it without its secrets.
        self._said.append(Said(seq, Turn("user", (text_block(text),))))
        return await self._ask(seq, None, on_text, on_wait)

    async def again(self, *, on_text: Say = nobody, on_wait: Say = nobody) -> Exchange:
        """Ask once more for an answer to what was said last; an earlier answer stays in the record.

        Raises:
            NotFound: nothing was said yet. CostCeiling: nothing was sent.
        """
        must_record(self.ctx)
        spoken = [at for at, said in enumerate(self._said) if said.turn.role == "user"]
        if not spoken:
            raise NotFound("nothing was said yet in this conversation, so there is nothing to ask again")
        earlier = self._said[spoken[-1] + 1 :]
        del self._said[spoken[-1] + 1 :]
        return await self._ask(self._said[-1].seq, earlier[-1].seq if earlier else None, on_text, on_wait)

    # ---- one exchange ------------------------------------------------------------------------------------

    async def _ask(self, asked_seq: int, instead_of: int | None, on_text: Say, on_wait: Say) -> Exchange:
        await self._make_room(on_wait)
        opening = [part for part in (self._records, self._summary.shown() if self._summary else "") if part]
        turns = [said.turn for said in self._said]
        if opening:
            turns.insert(0, Turn("user", tuple(map(text_block, opening))))
        asked = Asked(self.model, tuple(turns), self._system, self._note)
        await check_ceiling(self.ctx, asked, self.conversation_id)
        reply = Reply()
        try:
            await self.port.answer(asked, reply, on_text=on_text, on_wait=on_wait)
        finally:
            # Whatever ended the call, what came of it is recorded; a second Ctrl-C does not stop that.
            kept = asyncio.ensure_future(self._keep(asked, reply, asked_seq, instead_of))
            await asyncio.shield(kept)
        self._calibrate(asked, reply)
        return kept.result()

    async def _keep(self, asked: Asked, reply: Reply, asked_seq: int, instead_of: int | None) -> Exchange:
        """The reply's message, if anything came, and what the call cost, in one unit."""
        body: Body = {**recorded(reply), "answers": asked_seq}
        if instead_of is not None:
            body["instead_of"] = instead_of
        message, usage = self._message(body), self._usage(asked, reply)
        if not reply.text.strip():
            spent = await record_usage(self.ctx, usage)
            return Exchange(reply, asked_seq, None, spent.call, str(spent.head))
        try:
            done = await self.ctx.store.append(Group((message, usage), touch=self._touch()))
        except ConversationErased:
            await record_usage(self.ctx, usage)
            raise
        seq = done.receipts[0].seq
        turn = Turn("assistant", tuple(reply.blocks), reply.model) if reply.whole else turn_of(body)
        if turn is not None:
            self._said.append(Said(seq, turn))
        return Exchange(reply, asked_seq, seq, call_of(usage.body), str(done.head))

    def _usage(self, asked: Asked, reply: Reply) -> Draft:
        return usage_draft(
            self.ctx,
            self.caller,
            asked,
            reply,
            backend=self.port.backend,
            purpose="chat",
            conversation=self.conversation_id,
            instance=self.instance_id,
        )

    def _message(self, body: Body) -> Draft:
        about: Body = {
            "conversation": self.conversation_id,
            "principal": self.caller.principal,
            "source": self.caller.source,
            "instance": self.instance_id,
        }
        return Draft(Kind.MESSAGE, self.ctx.now_us(), {**body, **about})

    def _touch(self) -> dict[str, int]:
        return {self.instance_id: self.ctx.now_us()}

    # ---- room --------------------------------------------------------------------------------------------

    async def _make_room(self, on_wait: Say) -> None:
        """Where the turns are over the budget, the oldest go, whole exchanges at a time, and a summary stays."""
        sizes = [tokens_of(said.turn.blocks) * self._ratio for said in self._said]
        if sum(sizes) <= self.budget:
            return
        going = 0
        # What was said last always stays, however long it is.
        while going < len(self._said) - 1 and (
            sum(sizes[going:]) > self.budget * KEPT_OF_BUDGET or self._said[going].turn.role != "user"
        ):
            going += 1
        gone, self._said = self._said[:going], self._said[going:]
        if gone:
            self._summary = await self._summarised(gone, on_wait) or self._summary

    async def _summarised(self, gone: list[Said], on_wait: Say) -> Summary | None:
        asked = summary_request(self.model, self._summary, [said.turn for said in gone])
        on_wait(f"{len(gone)} earlier turns no longer fit and are being summarised; they stay in the record")
        reply = await call(
            self.ctx,
            self.caller,
            self.port,
            asked,
            purpose="summary",
            conversation=self.conversation_id,
            instance=self.instance_id,
        )
        if not reply.whole or not reply.text.strip():
            on_wait(f"no summary was made, so the model goes on without those turns: {reply.problem}")
            return None
        since = self._summary.since if self._summary else gone[0].seq
        return await record_summary(
            self.ctx,
            self.conversation_id,
            reply.text,
            since=since,
            to=gone[-1].seq,
            model=reply.model,
        )

    def _calibrate(self, asked: Asked, reply: Reply) -> None:
        """What this model counts against what was estimated, kept within reason."""
        counted = usage_of(reply.usage) if reply.counted else None
        if counted is not None:
            self._ratio = min(RATIO_MAX, max(RATIO_MIN, counted.prompt / worst_of(asked).prompt))


async def _turns(ctx: Context, conversation: str, summary: Summary | None) -> list[Said]:
    """The newest turns of the record that no summary covers, without the answers that others took the place of."""
    query = MessageQuery(conversation, CONTEXT_TURNS_MAX, after=summary.to if summary else None)
    page = await ctx.store.page(query)
    seqs = tuple(message.seq for message in page.messages)
    if not seqs:
        return []
    records = await ctx.store.records(RecordQuery(seqs=seqs, limit=len(seqs), oldest_first=True))
    replaced = {record.body.get("instead_of") for record in records if record.body}
    return [
        Said(record.seq, turn)
        for record in records
        if record.body and record.seq not in replaced and (turn := turn_of(record.body)) is not None
    ]
