"""What the verbs answer: plain dictionaries with a type, the same for the tools, `--json` and Python."""

from __future__ import annotations

from typing import TypedDict


class Recorded(TypedDict):
    """One appended message. `n` is its position in the conversation; `head` is SIZE:ROOT of the log."""

    conversation_id: str
    seq: int
    n: int
    head: str
    already_recorded: bool
    notice: str | None


class HistoryMessage(TypedDict):
    """A stored message. `text` is None once erased; `cut` counts the characters that follow what is shown."""

    seq: int
    n: int
    at: str
    role: str
    name: str | None
    text: str | None
    cut: int


class HistoryHit(TypedDict):
    """A search hit: an excerpt, and where the message is."""

    seq: int
    conversation_id: str
    n: int
    at: str
    role: str
    excerpt: str


class HistoryConversation(TypedDict):
    """A conversation in the list."""

    conversation_id: str
    title: str | None
    scope: str
    messages: int
    last_at: str


class History(TypedDict):
    """A page. `left_out` says what is missing and how to get it; None means that nothing is."""

    conversation_id: str | None
    total: int
    messages: list[HistoryMessage]
    hits: list[HistoryHit]
    conversations: list[HistoryConversation]
    left_out: str | None


class FaultFound(TypedDict):
    """The first thing that does not fit. `seq` is the entry's position, `at` when it was recorded."""

    code: str
    seq: int | None
    at: str | None
    detail: str


class ChainCheck(TypedDict):
    """A verification. `level` is 0 (chain) or 1 (content complete), None where the chain is broken."""

    ok: bool
    level: int | None
    meaning: str
    entries: int
    messages: int
    erased: int
    clock_regressions: int
    head: str
    known_head_matches: bool | None
    fault: FaultFound | None


class Redacted(TypedDict):
    """An erasure. `pending`: the bytes are still in the write-ahead log, because something reads an older state."""

    seq: int
    conversation_id: str
    erased: bool
    pending: bool
    head: str
    note: str


class Drift(TypedDict):
    """RMS and largest distance, 0 to 1."""

    rms: float
    max: float


class Judged(TypedDict):
    """A report and what follows from it. `directive` is what to do next, None if nothing is to be done."""

    instance_id: str
    seq: int
    already_recorded: bool
    action: str
    why: str
    directive: str | None
    state: str
    group: str
    participants: int
    peer_verdicts: bool
    from_baseline: Drift
    from_consensus: Drift
    consistency: float
    smoothed: Drift
    baseline_source: str
    flags: list[str]
    consensus: dict[str, float]
    head: str


class InstanceStatus(TypedDict):
    """One instance as others may see it: no free text of its own."""

    instance_id: str
    you: bool
    client: str
    model: str
    state: str
    votes: bool
    why_not: str | None
    last_seen: str
    reported: str | None
    from_baseline: float | None


class Decision(TypedDict):
    """One past evaluation, per reporting instance."""

    seq: int
    at: str
    group: str
    instance_id: str
    action: str
    why: str


class Consensus(TypedDict):
    """Who is connected and where they stand. `consensus` is empty until the caller has reported."""

    instances: list[InstanceStatus]
    connected: int
    group: str
    voting: int
    group_alarm: bool
    baseline_source: str
    consensus: dict[str, float]
    decisions: list[Decision]
    note: str
    head: str


class RecallQuestion(TypedDict):
    """One of the six questions; a longer answer fails it."""

    name: str
    question: str
    characters_max: int


class PlateRecall(TypedDict):
    """How six answers fit the facts of the delivered Plate. `outcomes` by question; `score` is weighted, 0 to 1."""

    passed: int
    of: int
    contradictions: int
    score: float
    outcomes: dict[str, str]


class Validation(TypedDict):
    """A run. `state` is open, validated, failed or not_validated; `plate_recall` comes with the answers."""

    instance_id: str
    run_id: str | None
    state: str
    questions: list[RecallQuestion]
    plate_recall: PlateRecall | None
    note: str
    head: str


class Loaded(TypedDict):
    """The delivered context. `text` is what the instance reads."""

    text: str
    instance_id: str
    conversation_id: str
    receipt: str
    head: str
    tokens: int
    turns: int
    plate: str
    directive: str | None


class Status(TypedDict):
    """The store at a glance."""

    db: str
    exists: bool
    store_id: str | None
    entries: int
    head: str
    bytes: int
    conversations: list[HistoryConversation]
    plate: str
    plate_is_starter: bool
    instances: list[InstanceStatus]
