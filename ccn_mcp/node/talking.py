"""A conversation that this program carries to a model itself: continuity in, every message and every cost recorded.

What a model is sent, most stable first: the Plate and the state (system); what is kept of earlier sessions and of the
turns that no longer fit (quoted, in the person's first turn); the turns themselves, unchanged; the facts of now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from ccn_mcp.domain.cost import usage_of
from ccn_mcp.domain.errors import CcnError, ConversationErased, NotFound, StoreMoved
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import CONTEXT_TOKENS_DEFAULT, PAGE_MESSAGES_MAX
from ccn_mcp.domain.masking import mask
from ccn_mcp.domain.models import Body, Draft, Group, MessageQuery, RecordQuery
from ccn_mcp.domain.prompt import LEFT_OUT, Recorder
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

PAGES_MAX: Final = 100
"""Of messages, read for one request; the budget ends most conversations long before."""

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
    """One conversation with one model. One exchange at a time.

    The log is the conversation: its turns are read anew before each request, so what was erased is not sent, and what
    somebody else recorded in it meanwhile is.
    """

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
    _kept_from: int = 0
    """Turns from this entry on belong to the next summary, or to the request."""

    _sent_from: int = 0
    """Turns from this entry on are sent; after `_kept_from` only where no summary could be made of those between."""

    _older: int = 0
    """Messages before `_kept_from` that no summary covers."""

    _as_typed: dict[int, Turn] = field(default_factory=dict)
    """What the person said in this session, with the secrets that the record has not."""

    _ratio: float = 1.0
    _keeping: asyncio.Future[Exchange] | None = None

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
        after = self._summary.to if self._summary else None
        page = await self.ctx.store.page(MessageQuery(self.conversation_id, PAGE_MESSAGES_MAX, after=after))
        self._kept_from = page.messages[0].seq if page.messages else 0
        self._sent_from, self._older = self._kept_from, page.older
        return len(await self._turns(self._sent_from))

    async def use(self, model: str) -> None:
        """Go on with another model; the instance is described anew."""
        before, self.model = self.model, model
        try:
            await self.open()
        except CcnError:
            self.model = before
            raise
        self._ratio = 1.0

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
        if masked.counts:
            self._as_typed[seq] = Turn("user", (text_block(text),))
        return await self._ask(await self._made_room(on_wait), None, on_text, on_wait)

    async def again(self, *, on_text: Say = nobody, on_wait: Say = nobody) -> Exchange:
        """Ask once more for an answer to what was said last; an earlier answer stays in the record.

        Raises:
            NotFound: nothing was said yet. CostCeiling: nothing was sent.
        """
        must_record(self.ctx)
        said = await self._made_room(on_wait)
        spoken = [at for at, one in enumerate(said) if one.turn.role == "user"]
        if not spoken:
            raise NotFound("nothing was said yet in this conversation, so there is nothing to ask again")
        said, answers = said[: spoken[-1] + 1], said[spoken[-1] + 1 :]
        return await self._ask(said, answers[-1].seq if answers else None, on_text, on_wait)

    async def settle(self) -> None:
        """Wait for what is still being recorded, before the store is closed."""
        if self._keeping is not None:
            await asyncio.wait([self._keeping])

    # ---- one exchange ------------------------------------------------------------------------------------

    async def _ask(self, said: list[Said], instead_of: int | None, on_text: Say, on_wait: Say) -> Exchange:
        opening = [self._records, self._summary.shown() if self._summary else "", self._left_out()]
        turns = [one.turn for one in said]
        if any(opening):
            turns.insert(0, Turn("user", tuple(text_block(part) for part in opening if part)))
        asked = Asked(self.model, tuple(turns), self._system, self._note)
        await check_ceiling(self.ctx, asked, self.conversation_id)
        reply = Reply()
        try:
            await self.port.answer(asked, reply, on_text=on_text, on_wait=on_wait)
        finally:
            # Whatever ended the call, what came of it is recorded; a second Ctrl-C does not stop that.
            self._keeping = asyncio.ensure_future(self._keep(asked, reply, said[-1].seq, instead_of))
            await asyncio.shield(self._keeping)
        self._calibrate(asked, reply)
        return self._keeping.result()

    def _left_out(self) -> str:
        """That there is more of this conversation than the request has, if no summary says what."""
        if not self._older and self._sent_from == self._kept_from:
            return ""
        return LEFT_OUT.format(count=f"{self._older:,}" if self._older else "Some")

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
        return Exchange(reply, asked_seq, done.receipts[0].seq, call_of(usage.body), str(done.head))

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

    def _calibrate(self, asked: Asked, reply: Reply) -> None:
        """What this model counts against what was estimated, kept within reason."""
        counted = usage_of(reply.usage) if reply.counted else None
        if counted is not None:
            self._ratio = min(RATIO_MAX, max(RATIO_MIN, counted.prompt / worst_of(asked).prompt))

    # ---- what is sent ------------------------------------------------------------------------------------

    async def _made_room(self, on_wait: Say) -> list[Said]:
        """The turns to send. Where they are over the budget, the oldest go, whole exchanges, and a summary stays."""
        said = await self._turns(self._sent_from)
        sizes = [tokens_of(one.turn.blocks) * self._ratio for one in said]
        if sum(sizes) <= self.budget:
            return said
        going = 0
        # What was said last always stays, however long it is.
        while going < len(said) - 1 and (
            sum(sizes[going:]) > self.budget * KEPT_OF_BUDGET or said[going].turn.role != "user"
        ):
            going += 1
        if going:
            summary = await self._summarised(said[going].seq, on_wait)
            self._sent_from = said[going].seq
            if summary is not None:
                self._summary, self._kept_from = summary, self._sent_from
        return said[going:]

    async def _summarised(self, until: int, on_wait: Say) -> Summary | None:
        """A summary of the one before and of all turns since, up to entry `until`; None if there is none."""
        size = (await self.ctx.store.info()).head.size
        gone = [one for one in await self._turns(self._kept_from) if one.seq < until]
        asked = summary_request(self.model, self._summary, [one.turn for one in gone])
        on_wait(f"{len(gone)} earlier turns no longer fit and are being summarised; they stay in the record")
        reply, _ = await call(
            self.ctx,
            self.caller,
            self.port,
            asked,
            purpose="summary",
            conversation=self.conversation_id,
            instance=self.instance_id,
        )
        problem = reply.problem
        if reply.whole and reply.text.strip():
            since = self._summary.since if self._summary else gone[0].seq
            try:
                return await record_summary(
                    self.ctx,
                    self.conversation_id,
                    reply.text,
                    since=since,
                    to=gone[-1].seq,
                    model=reply.model,
                    size=size,
                )
            except StoreMoved:
                problem = "something was erased meanwhile"
        on_wait(f"no summary was made, so the model goes on without those turns: {problem}")
        return None

    async def _turns(self, since: int) -> list[Said]:
        """The turns of the record from this entry on, without the answers that others took the place of."""
        found: list[Said] = []
        replaced: set[object] = set()
        query = MessageQuery(self.conversation_id, PAGE_MESSAGES_MAX, newest=False, after=since - 1)
        for _ in range(PAGES_MAX):
            page = await self.ctx.store.page(query)
            seqs = tuple(message.seq for message in page.messages)
            if not seqs:
                break
            records = await self.ctx.store.records(RecordQuery(seqs=seqs, limit=len(seqs), oldest_first=True))
            for record in records:
                if record.body and (turn := turn_of(record.body)) is not None:
                    replaced.add(record.body.get("instead_of"))
                    found.append(Said(record.seq, self._as_typed.get(record.seq, turn)))
            if not page.newer:
                break
            query = replace(query, after=seqs[-1])
        return [one for one in found if one.seq not in replaced]
