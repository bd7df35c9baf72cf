"""Importing: what was said elsewhere becomes part of the record, once, marked as imported.

An entry's time is when it was recorded here; when it was said, and its ids, are in the body. Everything is known
again by its original ids, so an import that was interrupted goes on where it stopped when it is run again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from ccn_mcp.domain.errors import ConversationErased, IdempotencyConflict
from ccn_mcp.domain.imported import Chat, Item, Said, Skipped, digest, key_of, parts_of
from ccn_mcp.domain.jcs import replace_unstorable
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import (
    ID_CHARS_MAX,
    IMPORT_BATCH_BYTES_MAX,
    IMPORT_BATCH_MAX,
    PAGE_MESSAGES_MAX,
    TITLE_CHARS_MAX,
)
from ccn_mcp.domain.masking import mask
from ccn_mcp.domain.models import Appended, Body, Draft, Group, MessageQuery, RecordQuery
from ccn_mcp.node.context import Caller, Context, must_record
from ccn_mcp.node.conversations import find_conversation, open_conversation
from ccn_mcp.node.results import Imported

CHATS_KEPT_MAX: Final = 64
"""Conversations whose state is in memory, where a file mixes them."""

REASONS_MAX: Final = 100
SOURCE: Final = "import"

EXCLUDED: Final = "from a folder that you have excluded"
PRIVATE: Final = "said in private"
CHANGED: Final = "imported before under the same id with another text, or on another branch"
COPIED: Final = "copied from a session that is in the record (a fork begins with what was said before it)"
ERASED: Final = "erased from this record"
OTHER: Final = "other reasons"


@dataclass(slots=True)
class Target:
    """Where the messages of one conversation go. `there` counts what other sources have recorded in it."""

    chat: Chat
    scope: str
    conversation: str | None = None
    open: bool = False
    there: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Part:
    """One message that is about to be appended; `shared`: under a key by which others record it too."""

    target: Target
    body: Body
    shared: bool = False


@dataclass(slots=True)
class Tally:
    """What has become of everything so far."""

    imported: int = 0
    already: int = 0
    replaced: int = 0
    split: int = 0
    masked: int = 0
    conversations: set[str] = field(default_factory=set)
    skipped: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def skip(self, reason: str, where: str = "") -> None:
        """Count what is left out, by its reason; `first` keeps where each was met first."""
        if reason not in self.skipped and len(self.skipped) >= REASONS_MAX:
            reason = OTHER
        self.skipped[reason] += 1
        self.first.setdefault(reason, where)


class Importer:
    """One import, fed with any number of files. `finish` gives the result; without it nothing that waits is written.

    `scope` is where new conversations go; without it `scope_of` names that of a folder. `may_record` says of a folder
    whether the person lets it be recorded, `withheld` of a message whether it was said in private; `name_of` is the key
    under which somebody else may have recorded a piece of a message, which is then this one's too. With `dry_run`
    nothing is written.
    """

    def __init__(
        self,
        ctx: Context,
        caller: Caller,
        *,
        scope: str | None = None,
        scope_of: Callable[[str], str] = lambda folder: folder,
        may_record: Callable[[str], bool] = lambda _folder: True,
        withheld: Callable[[Chat, Said], bool] = lambda _chat, _said: False,
        name_of: Callable[[Chat, Said, str, int], str | None] = lambda _chat, _said, _piece, _part: None,
        dry_run: bool = False,
    ) -> None:
        must_record(ctx)
        self._ctx = ctx
        self._caller = replace(caller, source=SOURCE, session_id=None)
        self._scope = scope
        self._scope_of = scope_of
        self._may_record = may_record
        self._withheld = withheld
        self._name_of = name_of
        self._dry_run = dry_run
        self._targets: OrderedDict[tuple[str, str], Target | None] = OrderedDict()
        self._sessions: set[str] = set()
        self._waiting: list[Part] = []
        self._bytes = 0
        self.tally = Tally()

    async def feed(self, items: Iterable[Item], progress: Callable[[], None] = lambda: None) -> None:
        """Import what a parser found, in batches; `progress` is called after each.

        Raises:
            StoreError: what came before it is recorded; run the import again to go on.
        """
        target: Target | None = None
        for item in items:
            if isinstance(item, Chat):
                target = await self._target(item)
            elif isinstance(item, Skipped):
                self.tally.skip(item.reason, item.where)
            elif target is None:
                self.tally.skip(EXCLUDED)
            elif item.copy_of is not None and await self._knows(target.chat.format, item.copy_of):
                self.tally.skip(COPIED)
            else:
                self._take(target, item)
            if len(self._waiting) >= IMPORT_BATCH_MAX or self._bytes >= IMPORT_BATCH_BYTES_MAX:
                await self._flush()
                progress()
        await self._flush()
        progress()

    async def finish(self) -> Imported:
        """What was done."""
        tally = self.tally
        return {
            "imported": tally.imported,
            "already_there": tally.already,
            "skipped": dict(tally.skipped.most_common()),
            "first_skipped": {reason: where for reason, where in tally.first.items() if where},
            "conversations": len(tally.conversations),
            "replaced_characters": tally.replaced,
            "split_messages": tally.split,
            "masked_secrets": tally.masked,
            "dry_run": self._dry_run,
            "head": str((await self._ctx.store.info()).head),
        }

    # ---- one conversation ----

    async def _knows(self, form: str, session: str) -> bool:
        """Whether a session is in the record, or about to be."""
        if session not in self._sessions:
            found, _ = await find_conversation(self._ctx, self._caller, session)
            if found is None and (form, session) not in self._targets:
                return False
            if len(self._sessions) >= CHATS_KEPT_MAX:
                self._sessions.clear()
            self._sessions.add(session)
        return True

    async def _target(self, chat: Chat) -> Target | None:
        """The conversation's target; None if the person wants nothing from the folder that it began in."""
        known = (chat.format, chat.session)
        if known in self._targets:
            self._targets.move_to_end(known)
            return self._targets[known]
        found: Target | None = None
        if chat.folder is None or self._may_record(chat.folder):
            found = await self._found(chat)
        self._targets[known] = found
        if len(self._targets) > CHATS_KEPT_MAX:
            self._targets.popitem(last=False)
        return found

    async def _found(self, chat: Chat) -> Target:
        scope = self._scope or (self._scope_of(chat.folder) if chat.folder else chat.scope) or "default"
        target = Target(chat, replace_unstorable(scope)[0][:ID_CHARS_MAX])
        target.conversation, target.open = await find_conversation(self._ctx, self._caller, chat.session)
        if target.conversation is None or not target.open:
            return target
        after = -1
        while True:
            query = MessageQuery(target.conversation, PAGE_MESSAGES_MAX, newest=False, after=after)
            page = await self._ctx.store.page(query)
            target.there.update(
                _fingerprint(message.role, message.text)
                for message in page.messages
                if message.text is not None and message.source != SOURCE
            )
            if len(page.messages) < PAGE_MESSAGES_MAX:
                return target
            after = page.messages[-1].seq

    async def _open_all(self, targets: Iterable[Target]) -> None:
        """Open the conversations of these targets, together, so that it costs few commits."""
        await asyncio.gather(*map(self._open, {id(target): target for target in targets}.values()))

    async def _open(self, target: Target) -> None:
        title = mask(replace_unstorable(target.chat.title)[0]).text if target.chat.title else None
        target.conversation = await open_conversation(
            self._ctx,
            self._caller,
            session=target.chat.session,
            title=" ".join(title.split())[:TITLE_CHARS_MAX] if title else None,
            scope=target.scope,
        )
        target.open = True

    # ---- one message ----

    def _take(self, target: Target, said: Said) -> None:
        if self._withheld(target.chat, said):
            self.tally.skip(PRIVATE)
            return
        text, replaced = replace_unstorable(said.text)
        masked = mask(text)
        pieces = parts_of(masked.text)
        self.tally.replaced += replaced
        self.tally.masked += sum(masked.counts.values())
        self.tally.split += len(pieces) > 1
        for part, piece in enumerate(pieces, 1):
            known = _fingerprint(said.role, piece)
            # Once for each time that it was said; what was said elsewhere is no part of it.
            if target.there[known] > 0 and said.copy_of is None:
                target.there[known] -= 1
                self.tally.already += 1
                continue
            shared = self._name_of(target.chat, said, piece, part)
            body: Body = {
                "principal": self._caller.principal,
                "role": said.role,
                "source": SOURCE,
                "text": piece,
                "key": shared or key_of(target.chat, said, part),
                "original": {"format": target.chat.format, "id": said.id, **said.about},
            }
            if said.said_us is not None:
                body["said_at"] = said.said_us
            if said.name is not None:
                body["name"] = said.name
            if masked.counts:
                body["masked"] = dict(masked.counts)
            if replaced:
                body["replaced"] = replaced
            if len(pieces) > 1:
                body["part"] = f"{part}/{len(pieces)}"
            self._waiting.append(Part(target, body, shared is not None))
            self._bytes += len(piece)

    # ---- writing ----

    async def _flush(self) -> None:
        """Hand what waits to the store as one batch, so that it costs one commit."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        if self._dry_run:
            for part in waiting:
                await self._would(part)
            return
        await self._open_all(part.target for part in waiting if part.target.conversation is None)
        refused = await self._append(waiting)
        # What was erased stays closed; what is new in its session goes into another one, as for a message that
        # somebody records.
        await self._open_all(part.target for part in refused)
        if refused and await self._append(refused):
            raise ConversationErased("a conversation was erased while it was imported; run the import again")

    async def _append(self, parts: list[Part]) -> list[Part]:
        """Append each; the ones whose conversation was erased are given back."""
        now = self._ctx.now_us()
        done = await asyncio.gather(
            *(
                self._ctx.store.append(
                    Group(
                        (Draft(Kind.MESSAGE, now, {**part.body, "conversation": part.target.conversation}),)
                    )
                )
                for part in parts
            ),
            return_exceptions=True,
        )
        refused = []
        for part, outcome in zip(parts, done, strict=True):
            if isinstance(outcome, Appended):
                receipt = outcome.receipts[0]
                self._count(part, known=receipt.replayed, erased=receipt.replayed and not receipt.body)
            elif isinstance(outcome, IdempotencyConflict):
                if part.shared:  # the key is made of the text, so it is the same
                    self._count(part, known=True, erased=False)
                else:
                    self.tally.skip(CHANGED)
            elif isinstance(outcome, ConversationErased):
                self._ctx.sessions.clear()
                refused.append(part)
            else:
                raise outcome
        return refused

    async def _would(self, part: Part) -> None:
        """Count what an import would do; a text that was erased under another key is not recognised here."""
        query = RecordQuery(principal=self._caller.principal, key=str(part.body["key"]))
        found = await self._ctx.store.records(query)
        erased = bool(found) and found[0].kind == Kind.REDACTION
        self._count(part, known=bool(found), erased=erased)

    def _count(self, part: Part, *, known: bool, erased: bool) -> None:
        self.tally.conversations.add(part.target.chat.session)
        if erased:
            self.tally.skip(ERASED)
        elif known:
            self.tally.already += 1
        else:
            self.tally.imported += 1


def _fingerprint(role: str, text: str) -> str:
    return digest(role, text.strip())
