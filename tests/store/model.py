"""Drafts for the contract suite, and a plain list model of what a page and a search must answer."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Body, Draft, Group, Guard, Message, MessagePage, MessageQuery, SearchQuery

T0 = 1_767_225_600_000_000
"""The first microsecond of 2026; test times count from here."""


def seeded(seed: int) -> random.Random:
    """Random numbers that come out the same in every run."""
    return random.Random(seed)  # noqa: S311  # cases, not secrets


# ---- drafts ----------------------------------------------------------------------------------------------


def _body(**fields: str | int | None) -> Body:
    return {name: value for name, value in fields.items() if value is not None}


def opening(
    conversation: str = "c1",
    *,
    at: int = 0,
    scope: str | None = None,
    title: str | None = None,
    session: str | None = None,
    key: str | None = None,
    principal: str | None = "me",
) -> Draft:
    """The entry that opens a conversation."""
    body = _body(
        conversation=conversation, scope=scope, title=title, session=session, key=key, principal=principal
    )
    return Draft(Kind.CONVERSATION, T0 + at, body)


def said(
    text: str,
    conversation: str | None = "c1",
    *,
    at: int = 0,
    role: str = "user",
    name: str | None = None,
    source: str = "tool",
    key: str | None = None,
    principal: str | None = "me",
) -> Draft:
    """A message."""
    body = _body(
        conversation=conversation,
        text=text,
        role=role,
        name=name,
        source=source,
        key=key,
        principal=principal,
    )
    return Draft(Kind.MESSAGE, T0 + at, body)


def snapshot(
    instance: str = "i1", *, at: int = 0, conversation: str | None = None, state: str = "active"
) -> Draft:
    """An instance's newest state."""
    return Draft(Kind.INSTANCE, T0 + at, _body(instance=instance, conversation=conversation, state=state))


def report(
    instance: str = "i1", *values: float, at: int = 0, key: str | None = None, principal: str | None = "me"
) -> Draft:
    """A vector report; the numbers are in the blob."""
    body = _body(instance=instance, key=key, principal=principal)
    body["vec"] = {"dtype": "f8le", "shape": [len(values)]}
    return Draft(Kind.VECTOR, T0 + at, body, struct.pack(f"<{len(values)}d", *values))


def decision(group: str = "g1", *, at: int = 0, kind: Kind = Kind.CONSENSUS) -> Draft:
    """An entry that no query column depends on but its subject."""
    return Draft(kind, T0 + at, {"group": group, "principal": "me"})


def redaction(target: int, *, at: int = 0, reason: str | None = None) -> Draft:
    """The erasure of an entry, as a node asks for it."""
    return Draft(Kind.REDACTION, T0 + at, _body(target=str(target), reason=reason))


# ---- pages -----------------------------------------------------------------------------------------------


def page_of(every: Sequence[Message], query: MessageQuery) -> MessagePage:
    """What `page` must answer when `every` is the conversation, oldest first."""
    matches = [
        message
        for message in every
        if query.role in (None, message.role)
        and not (query.since_us is not None and message.time_us < query.since_us)
        and not (query.until_us is not None and message.time_us >= query.until_us)
    ]
    first, last = 0, len(matches)
    while query.after is not None and first < len(matches) and matches[first].seq <= query.after:
        first += 1
    while query.before is not None and last > first and matches[last - 1].seq >= query.before:
        last -= 1
    if query.newest:
        first = max(first, last - query.limit)
    else:
        last = min(last, first + query.limit)
    return MessagePage(tuple(matches[first:last]), len(matches), first, len(matches) - last)


def random_message_query(rng: random.Random, every: Sequence[Message]) -> MessageQuery:
    """Bounds before, between, at and beyond the messages; most combinations of filters."""
    low, high = every[0].seq - 2, every[-1].seq + 2
    after = rng.choice([None, rng.randint(low, high)])
    before = rng.choice([None, rng.randint(low if after is None else after + 1, high + 1)])
    times = [message.time_us + shift for message in every for shift in (-1, 0, 1)]
    since, until = sorted(rng.choices(times, k=2))
    return MessageQuery(
        every[0].conversation_id,
        limit=rng.choice([1, 2, 3, 7, len(every) - 1, len(every), len(every) + 1, 200]),
        newest=rng.random() < 0.5,
        before=before,
        after=after,
        role=rng.choice([None, None, "user", "assistant", "tool"]),
        since_us=rng.choice([None, since]),
        until_us=rng.choice([None, until]),
    )


# ---- words -----------------------------------------------------------------------------------------------

WORDS = {
    "harbour": ("harbour", "Harbour", "HARBOUR"),
    "harm": ("harm",),
    "har": ("har", "hár"),
    "cafe": ("cafe", "café", "cafe\u0301", "CAFÉ", "CAFE\u0301"),
    "viet": ("viet", "Việt", "Vie\u0323\u0302t"),
    "and": ("AND", "and"),
    "near": ("NEAR", "near"),
    "день": ("день", "День"),
    "42": ("42",),
    "北京": ("北京",),
}
"""Words as the index must fold them, and ways to write them."""

GAPS = (" ", "  ", ", ", ". ", "-", ":", "(", ") ", '"', "' ", "\n", "_", " ^", "+", "/", " 🙂 ")
"""What may stand between two words; none of it means anything in a query."""


def random_text(rng: random.Random, words: Sequence[str]) -> str:
    """`words` written somehow."""
    return "".join(rng.choice(WORDS[word]) + rng.choice(GAPS) for word in words)


@dataclass(frozen=True, slots=True)
class Known:
    """A message that was stored, and the words that it was made of."""

    seq: int
    conversation: str
    scope: str
    role: str
    words: frozenset[str]


def random_search(rng: random.Random) -> tuple[SearchQuery, list[tuple[str, bool]]]:
    """A query and its words, each with whether it is a prefix."""
    wanted = []
    text = rng.choice(["", *GAPS])
    for word in rng.sample(list(WORDS), rng.choice([1, 1, 2, 3])):
        prefix = rng.random() < 0.4
        start = word[: rng.randint(1, len(word))] if prefix and word.isascii() else word
        wanted.append((start, prefix))
        written = start if start != word else rng.choice(WORDS[word])
        text += written + ("* " if prefix else rng.choice(GAPS))
    query = SearchQuery(
        text,
        limit=rng.choice([1, 2, 5, 500]),
        conversation_id=rng.choice([None, None, "c1", "c2", "nowhere"]),
        scope=rng.choice([None, None, "default", "work", "nowhere"]),
        role=rng.choice([None, None, "user", "assistant"]),
        ranked=rng.random() < 0.3,
        before=rng.choice([None, None, 0, 7, 25, 1_000]),
    )
    return query, wanted


def found_in(every: Sequence[Known], query: SearchQuery, wanted: Sequence[tuple[str, bool]]) -> list[int]:
    """The positions of every match, newest first."""
    return [
        known.seq
        for known in reversed(every)
        if query.conversation_id in (None, known.conversation)
        and query.scope in (None, known.scope)
        and query.role in (None, known.role)
        and (query.before is None or known.seq < query.before)
        and all(
            any(word.startswith(want) if prefix else word == want for word in known.words)
            for want, prefix in wanted
        )
    ]


# ---- whole histories -------------------------------------------------------------------------------------


def random_draft(rng: random.Random, instances: Sequence[str], *, key: str | None) -> Draft:
    """Any entry, often one that a store must refuse."""
    at, conversation = rng.randint(0, 10_000), f"c{rng.randint(1, 5)}"
    choice = rng.random()
    if choice < 0.15:
        session = rng.choice([None, "s1", "s2"])
        return opening(conversation, at=at, scope=rng.choice([None, "work"]), session=session, key=key)
    if choice < 0.6:
        text = random_text(rng, rng.choices(list(WORDS), k=rng.randint(1, 5)))
        text = text if key is None else rng.choice(["same", "other"])
        return said(text, conversation, at=at, role=rng.choice(["user", "assistant"]), key=key)
    if choice < 0.75:
        named = rng.choice([None, conversation])
        return snapshot(f"i{rng.randint(1, 4)}", at=at, conversation=named, state=rng.choice("abc"))
    if choice < 0.9 and instances:
        return report(rng.choice(instances), float(rng.randint(0, 1)), at=at, key=key)
    return decision(f"g{rng.randint(1, 2)}", at=at)


def random_group(rng: random.Random, instances: Sequence[str], size: int) -> Group:
    """A group for a log of `size` entries whose instances are `instances`."""
    drafts = [
        random_draft(rng, instances, key=f"k{rng.randint(1, 12)}" if first and rng.random() < 0.3 else None)
        for first in (True, False, False)
        if first or rng.random() < 0.3
    ]
    guard = None
    if rng.random() < 0.2:
        kinds = rng.sample([Kind.CONVERSATION, Kind.INSTANCE, Kind.VECTOR, Kind.CONSENSUS], 2)
        guard = Guard(tuple(kinds), max(0, size - rng.randint(0, 6)))
    touch = {}
    if rng.random() < 0.2:
        touch = {rng.choice([*instances, "i9"]): T0 + rng.randint(0, 20_000)}
    return Group(tuple(drafts) if not touch or rng.random() < 0.5 else (), guard, touch)
