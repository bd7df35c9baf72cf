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
    """A verification. `level` is 0 to 4 (`domain/assurance.py`), None where the chain is broken.

    The `_to` count the entries that signatures, heads held elsewhere and outside witnesses cover.
    """

    ok: bool
    level: int | None
    meaning: str
    entries: int
    messages: int
    erased: int
    clock_regressions: int
    head: str
    known_head_matches: bool | None
    signed_to: int
    matched_to: int
    witnessed_to: int
    checked_from: int
    remarks: list[str]
    fault: FaultFound | None


class Redacted(TypedDict):
    """An erasure. `pending`: the bytes are still in the write-ahead log, because something reads an older state."""

    seq: int
    conversation_id: str
    erased: bool
    pending: bool
    head: str
    note: str


class Anchored(TypedDict):
    """A signed head (`size`, `root`) that an outside authority has witnessed `at` its time; the entry is `seq`."""

    seq: int
    size: int
    root: str
    authority: str
    at: str
    verified: bool
    head: str


class RedactedMany(TypedDict):
    """An erasure of many entries: how many went, by what they are called. `pending` as in `Redacted`."""

    erased: dict[str, int]
    already_erased: int
    pending: bool
    head: str
    note: str


class Imported(TypedDict):
    """An import. `skipped` counts what was left out by its reason; `first_skipped` says where each was met first.

    `already_there` came in an earlier import, or was recorded by a hook or a tool. `masked_secrets` and
    `replaced_characters` are about the texts that were read, whether they were new or not.
    """

    imported: int
    already_there: int
    conversations: int
    skipped: dict[str, int]
    first_skipped: dict[str, str]
    split_messages: int
    masked_secrets: int
    replaced_characters: int
    dry_run: bool
    head: str


class Drift(TypedDict):
    """RMS and largest distance, 0 to 1."""

    rms: float
    max: float


class Judged(TypedDict):
    """A report and what follows from it. `directive` is what to do next, None if nothing is to be done.

    `ratings`: how many ratings to average into one report, because the baseline's own reports were that noisy.
    """

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
    ratings: int
    flags: list[str]
    consensus: dict[str, float]
    head: str


class InstanceStatus(TypedDict):
    """One instance as others may see it: no free text of its own. `action` is of its group's last evaluation."""

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
    from_consensus: float | None
    baseline_source: str | None
    action: str | None


class Decision(TypedDict):
    """One past evaluation, per reporting instance."""

    seq: int
    at: str
    group: str
    instance_id: str
    action: str
    why: str
    flags: list[str]


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


class CommissionRound(TypedDict):
    """Reports towards a baseline, how many it needs, and the traits on which they `disagree` too much."""

    reports: int
    needed: int
    ready: bool
    disagree: list[str]


class PeerRatings(TypedDict):
    """How a peer task stands. The numbers are empty until there is a result that the instance may see."""

    handed_to: int
    rated: int
    needed: int
    median: dict[str, float]
    lowest: dict[str, float]
    highest: dict[str, float]


class Validation(TypedDict):
    """A run. `state` is open, validated, failed, not_validated, or recorded (commissioning, peer).

    `plate_recall` comes with the answers; `rubric` and `commissioning` with a run of the kind commission; `record`,
    quoted, with a peer task, and `peers` with one's own.
    """

    instance_id: str
    run_id: str | None
    state: str
    questions: list[RecallQuestion]
    plate_recall: PlateRecall | None
    rubric: str | None
    commissioning: CommissionRound | None
    record: str | None
    peers: PeerRatings | None
    note: str
    head: str


class CommissionGroup(TypedDict):
    """A group's baseline in use and its reports towards another one.

    `copies`: reports that repeat another one exactly. `deviation`: pooled, once there are enough reports.
    """

    group: str
    plate: str
    baseline_source: str
    baseline_entry: int | None
    baseline: dict[str, float]
    sigma: float
    repeats: int
    pinned_for_another_plate: bool
    reports: int
    instances: int
    copies: int
    needed: int
    deviation: float | None
    deviations: dict[str, float]
    disagree: list[str]
    ready: bool


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
    """The store at a glance. `erasures_pending`: erased messages whose bytes the store's files may still hold."""

    db: str
    exists: bool
    store_id: str | None
    entries: int
    head: str
    bytes: int
    conversation_count: int
    conversations: list[HistoryConversation]
    erasures_pending: int
    plate: str
    plate_is_starter: bool
    instances: list[InstanceStatus]
