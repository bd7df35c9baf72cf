"""What goes with what is erased: every entry that holds a copy of it, or was derived from it. Pure.

A message's text is in its own entry, in the search index, and nowhere else: reports and metrics are numbers, titles
are given by the client. So a single message goes alone, and a selection (a conversation, a time, a person) takes
everything that was recorded under the same filters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Body, Record

FOLLOWING: Final = (Kind.CONVERSATION, Kind.VALIDATION, Kind.USAGE, Kind.METRIC, Kind.VECTOR, Kind.INSTANCE)
"""Kinds that can hold copies, in the order in which they are erased: conversations first, which closes them to other
writers; instances last, because they tell where an answer was given, should the erasure be interrupted."""

NAMES: Final = {
    Kind.MESSAGE: "messages",
    Kind.CONVERSATION: "conversations",
    Kind.VALIDATION: "answers",
    Kind.USAGE: "usage",
    Kind.METRIC: "metrics",
    Kind.VECTOR: "reports",
    Kind.INSTANCE: "instances",
    Kind.PLATE: "plates",
}
"""What each kind is called where a count of it is shown."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a person asked to erase; every field that is given narrows it. Times are microseconds UTC.

    `seqs` are single messages. `person` is an entry's principal, or a message's name, exactly. `plate` is the
    position of a Plate, and stands alone.
    """

    seqs: tuple[int, ...] = ()
    conversation_id: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    person: str | None = None
    plate: int | None = None

    @property
    def takes_all(self) -> bool:
        """Whether it takes more than the messages themselves."""
        return not self.seqs and self.plate is None

    @property
    def whole_conversation(self) -> str | None:
        """The conversation that goes whole, whatever is left in it."""
        narrowed = (self.since_us, self.until_us, self.person) != (None, None, None)
        return self.conversation_id if self.takes_all and not narrowed else None

    @property
    def whole_person(self) -> str | None:
        """The person of whom everything goes."""
        narrowed = (self.conversation_id, self.since_us, self.until_us) != (None, None, None)
        return self.person if self.takes_all and not narrowed else None


def goes_too(record: Record, selection: Selection, whole: frozenset[str], where: dict[str, str]) -> bool:
    """Whether an entry that is no message goes with the selection; asked of all of them, oldest first.

    `whole` are the conversations of which nothing is left to read. `where` is this function's memory: the
    conversation of each instance so far.
    """
    body = record.body
    if body is None:
        return False
    place = _place(record.kind, body, where)
    if record.kind == Kind.VALIDATION and selection.plate is not None:
        return body.get("plate_seq") == selection.plate  # its answers quote the Plate
    if not selection.takes_all:
        return False
    if record.kind == Kind.USAGE:
        # Ids and numbers: what was spent stays counted, unless all of a person goes.
        return selection.whole_person is not None and body.get("principal") == selection.whole_person
    if place in whole:
        return True
    if record.kind == Kind.CONVERSATION:
        return False
    if record.kind == Kind.INSTANCE:
        return selection.whole_person is not None and body.get("principal") == selection.whole_person
    return (
        selection.conversation_id in (None, place)
        and selection.person in (None, body.get("principal"))
        and (selection.since_us is None or record.time_us >= selection.since_us)
        and (selection.until_us is None or record.time_us < selection.until_us)
    )


def _place(kind: Kind, body: Body, where: dict[str, str]) -> str | None:
    """The conversation that an entry belongs to: named by it, else that of its instance at the time."""
    named, instance = body.get("conversation"), body.get("instance")
    if kind == Kind.INSTANCE and isinstance(instance, str) and isinstance(named, str):
        where[instance] = named
    if isinstance(named, str):
        return named
    return where.get(instance) if isinstance(instance, str) else None
