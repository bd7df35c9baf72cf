"""A session's messages into the log, from a process that lives for one hook. Standard library only, no event loop.

The conversation is the one that the server finds for the same session (`node/conversations.py`): the same keys, the
same principal. A message's key says which prompt of which session it belongs to and what it says, so reading the same
transcript again records nothing twice.
"""

from __future__ import annotations

import os
import time
from contextlib import closing, suppress
from hashlib import sha256

from ccn_mcp.domain.entries import (
    AFTER,
    SESSION,
    SESSION_CONVERSATIONS_MAX,
    Appended,
    Body,
    Draft,
    Group,
    Guard,
    Receipt,
)
from ccn_mcp.domain.errors import CcnError, Conflict, ConversationErased, IdempotencyConflict
from ccn_mcp.domain.jcs import loads_trusted, replace_unstorable
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import CONTENT_BYTES_MAX, VOTERS_MAX
from ccn_mcp.domain.masking import mask
from ccn_mcp.domain.values import Value
from ccn_mcp.store.secret import SecretFile
from ccn_mcp.store.sqlite import connect
from ccn_mcp.store.sqlite.append import Appender

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Final, Self

    from ccn_mcp.settings import Settings

PRINCIPAL: Final = "local"
SOURCE: Final = "hook"
OTHER_SOURCES: Final = ("tool", "import")
"""Who else may have recorded the same words, under keys of their own."""

HOOK_WAIT_S_MAX: Final = 3.0
"""How long a hook waits for other writers; what it could not write, the next one reads from the transcript."""

RECENT_MESSAGES_MAX: Final = 200
"""How far back a message that the model has recorded itself is looked for."""

PART_CHARS: Final = CONTENT_BYTES_MAX // 4
KEY_DIGITS: Final = 40
ID_CHARS: Final = 24
ID_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
"""120 random bits, as in the names that the server makes (`app.SystemEntropy`)."""


class Spoken(Value):
    """A message to record. `at_us` is when it was said, 0 for now; `nth` counts equal ones of one prompt."""

    role: str
    text: str
    prompt: str
    at_us: int = 0
    nth: int = 1


class SessionLog:
    """The conversation of one client session; nothing is opened or written before the first call."""

    def __init__(self, chosen: Settings, config: Path, session: str) -> None:
        self._chosen = chosen
        self._session = session
        self._log = Appender(chosen.db, secret=SecretFile(lambda: config), wait_s=HOOK_WAIT_S_MAX)
        self._conversation: str | None = None
        self.began_us = 0
        """When the conversation was opened: what was said before it is none of this record's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()

    def conversation(self) -> str:
        """The session's conversation, opened if there is none; in place of an erased one another.

        Raises:
            Conflict: too many of them were erased. StoreError: nothing was written.
        """
        key = f"{SESSION}{self._session}"
        erased: str | None = None
        for _ in range(SESSION_CONVERSATIONS_MAX if self._conversation is None else 0):
            body: Body = {
                "conversation": _name("c"),
                "principal": PRINCIPAL,
                "scope": self._chosen.scope,
                "source": SOURCE,
                "session": self._session,
                "key": key,
            }
            try:
                receipt = self._append(Draft(Kind.CONVERSATION, _now_us(), body))
            except IdempotencyConflict:  # `spawn` gave the session a conversation that was there before
                if self.find() is not None:
                    break
                key = f"{AFTER}{self._session}"  # and that one was erased
                continue
            found = str(receipt.body.get("conversation"))
            if not receipt.replayed or "session" in receipt.body:
                self._conversation, self.began_us = found, receipt.time_us
                break
            erased, key = found, f"{AFTER}{found}"  # a tombstone knows the id and nothing else
        if self._conversation is None:
            raise Conflict(
                f"{SESSION_CONVERSATIONS_MAX} conversations of this session were erased, {erased} last"
            )
        return self._conversation

    def find(self) -> str | None:
        """The session's conversation if there is one; opens and writes nothing.

        Raises:
            StoreError: it could not be read.
        """
        path = connect.real_path(self._chosen.db)
        if connect.is_empty(path):
            return None
        with connect.our_words(path), closing(connect.connect(path, HOOK_WAIT_S_MAX)) as reader:
            row = reader.execute(_OF_SESSION, (PRINCIPAL, f"{SESSION}{self._session}")).fetchone()
        if row is not None:
            self._conversation, self.began_us = row
        return self._conversation

    def record(self, spoken: Spoken) -> int:
        """Record one message, in parts if it is longer than one may be; how many entries are new.

        Raises:
            CcnError: it is not recorded, or not all of it.
        """
        text, replaced = replace_unstorable(spoken.text)
        masked = mask(text)
        parts = _parts(masked.text)
        new = 0
        for number, part in enumerate(parts, 1):
            body: Body = {
                "principal": PRINCIPAL,
                "role": spoken.role,
                "source": SOURCE,
                "text": part,
                "prompt": replace_unstorable(spoken.prompt)[0],
                "key": key_of(self._session, spoken.prompt, spoken.role, part, spoken.nth, number),
            }
            if masked.counts:
                body["masked"] = dict(masked.counts)
            if replaced:
                body["replaced"] = replaced
            if spoken.at_us:
                body["at"] = spoken.at_us
            if len(parts) > 1:
                body["part"] = f"{number}/{len(parts)}"
            new += not self._message(body).replayed
        return new

    def _message(self, body: Body) -> Receipt:
        try:
            return self._append(Draft(Kind.MESSAGE, _now_us(), {**body, "conversation": self.conversation()}))
        except ConversationErased:
            # Erased between the two; what is said anew goes into another one.
            self._conversation = None
            return self._append(Draft(Kind.MESSAGE, _now_us(), {**body, "conversation": self.conversation()}))
        except IdempotencyConflict:
            # Recorded already, in another conversation of the session: one that was erased since.
            return Receipt(-1, 0, {}, replayed=True)

    def append(self, *drafts: Draft, guard: Guard | None = None) -> None:
        """Append other entries, all or none.

        Raises:
            CcnError: they were not written. StoreMoved: what `guard` excludes has come meanwhile.
        """
        self._append(*drafts, guard=guard)

    def _append(self, *drafts: Draft, guard: Guard | None = None) -> Receipt:
        done = self._log.append_batch([Group(drafts, guard)])[0]
        if isinstance(done, Appended):
            return done.receipts[0]
        raise done if isinstance(done, CcnError) else AssertionError("every group is wanted")

    # ---- what is there already ----

    def missing(self, prompt: str, said: Sequence[Spoken]) -> Iterator[Spoken]:
        """Those of a prompt's messages that neither a hook, the model itself nor an import has recorded, in order.

        What was recorded by `record_message` or imported counts once, between this prompt's message and the next one.

        Raises:
            StoreError: it could not be read.
        """
        conversation = self.conversation()
        path = connect.real_path(self._chosen.db)
        with connect.our_words(path), closing(connect.connect(path, HOOK_WAIT_S_MAX)) as reader:
            asked = reader.execute(_OF_PROMPT, (conversation, RECENT_MESSAGES_MAX)).fetchall()
        rows = [(seq, role, text, _body(body)) for seq, role, text, body in reversed(asked)]
        mine = {str(body.get("key")) for _, _, _, body in rows if body.get("source") == SOURCE}
        begun = [seq for seq, role, _, body in rows if role == "user" and body.get("prompt") == prompt]
        later = [
            seq
            for seq, role, _, body in rows
            if begun and seq > begun[0] and role == "user" and body.get("prompt") not in (prompt, None)
        ]
        first, end = (begun[0] if begun else 0), (later[0] if later else 1 << 62)
        told = [
            (role, (text or "").strip())
            for seq, role, text, body in rows
            if body.get("source") in OTHER_SOURCES and first < seq < end
        ]
        for spoken in said:
            if spoken.role == "user" and begun:
                continue  # a command is written otherwise in the transcript than it was typed
            text = mask(replace_unstorable(spoken.text)[0]).text
            if key_of(self._session, prompt, spoken.role, text, spoken.nth) in mine:
                continue
            if (spoken.role, text.strip()) in told:
                told.remove((spoken.role, text.strip()))
                continue
            yield spoken

    def is_other_than(self, model: str, thinking: str) -> bool:
        """Whether an instance of the session is in its record under another model or mode; empty is no mode.

        A cheap look, since it is taken at every answer: what is to be done then is in `correction.py`.

        Raises:
            StoreError: it could not be read.
        """
        path = connect.real_path(self._chosen.db)
        with connect.our_words(path), closing(connect.connect(path, HOOK_WAIT_S_MAX)) as reader:
            rows = reader.execute(_INSTANCES, (VOTERS_MAX, self._session, PRINCIPAL)).fetchall()
        return any(known != model or (thinking and mode != thinking) for known, mode in rows)


_INSTANCES: Final = (
    "SELECT json_extract(body, '$.model'), json_extract(body, '$.thinking') FROM (SELECT CAST(e.body AS TEXT) body "
    "FROM (SELECT seq FROM instance ORDER BY seen DESC LIMIT ?) JOIN entry e USING (seq)) WHERE "
    "json_extract(body, '$.session') = ? AND json_extract(body, '$.principal') = ? "
    "AND json_extract(body, '$.state') NOT IN ('terminated', 'failed')"
)
_OF_SESSION: Final = (
    "SELECT r.conversation, e.time FROM record r JOIN entry e USING (seq) WHERE r.principal = ? AND r.key = ?"
)
_OF_PROMPT: Final = (
    "SELECT r.seq, r.role, r.text, e.body FROM record r JOIN entry e USING (seq) WHERE r.kind = 1 "
    "AND r.conversation = ? ORDER BY r.seq DESC LIMIT ?"
)


def key_of(session: str, prompt: str, role: str, text: str, nth: int = 1, part: int = 1) -> str:
    """The idempotency key of a message that a hook records; an import finds it by the same one.

    Blanks at the ends do not count: Stop names an answer without those that the transcript has.
    """
    parts = (session, prompt, role, text.strip(), f"{nth}/{part}")
    return f"ccn:hook:{_digest(parts)}"


def _digest(parts: Iterable[str]) -> str:
    counted = sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        counted.update(len(data).to_bytes(8, "big") + data)
    return counted.hexdigest()[:KEY_DIGITS]


def _parts(text: str) -> list[str]:
    if len(text) <= PART_CHARS or len(text.encode("utf-8")) <= CONTENT_BYTES_MAX:
        return [text]
    return [text[at : at + PART_CHARS] for at in range(0, len(text), PART_CHARS)]


def _body(data: bytes | None) -> Body:
    with suppress(ValueError):
        value = loads_trusted(data) if data is not None else None
        if isinstance(value, dict):
            return value
    return {}


def _now_us() -> int:
    return time.time_ns() // 1_000


def _name(prefix: str) -> str:
    return f"{prefix}_{''.join([ID_LETTERS[byte % 32] for byte in os.urandom(ID_CHARS)])}"
