"""What is kept of what a judge found: an entry of kind 11, and a vector where it can count.

A judgement keeps where its quotes are (entry, first character, length) and never their words, so whoever erases a
message has erased what was quoted of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypedDict

from ccn_mcp.domain.character import TRAITS, Vector, to_blob
from ccn_mcp.domain.errors import Refused, StoreMoved, UnknownInstance
from ccn_mcp.domain.instances import Instance, may_report
from ccn_mcp.domain.judging import Measured, Outcome, Run, prompt_digest
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Body, Draft, Group, Record, RecordQuery
from ccn_mcp.node.consensus import JUDGE, RATINGS, WHY, judge
from ccn_mcp.node.context import Caller, Context, iso
from ccn_mcp.node.conversations import recorded_under
from ccn_mcp.node.examining import Examined, seat_if_any
from ccn_mcp.node.rubric import rubric

FORMAT: Final = "ccn.judge/1"
JUDGED: Final = "judged"
FAILED: Final = "judge_failed"
SENT: Final = "judge_sent"

SCAN_MAX: Final = 1_000
"""Newest validation entries that are looked at for judgements."""

NO_VOTE: Final[Mapping[str, str]] = {
    "not_wanted": "it was asked to stay out of the consensus",
    "unmeasured": "not all sixteen traits could be measured, and a report has all of them",
    "no_instance": "nobody knows which instance wrote these replies",
    "not_reporting": "the instance has ended, has failed, or is flagged until it has loaded the Plate again",
    "lease_expired": "the instance has not been heard of within its lease",
    "stale": "the newest of these replies is too old to count as fresh",
}
"""Why a judgement is recorded without a vector, by its code."""


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for: a judgement by `runs` runs of `model`, with a vector in the consensus if it can `vote`."""

    id: str
    conversation_id: str
    instance_id: str | None
    model: str
    runs: int
    vote: bool


@dataclass(frozen=True, slots=True)
class Tried:
    """One run: the entry of its cost, how it ended, who served it; and what counts of it, or why nothing does."""

    usage: int
    ended: str
    served: str
    run: Run | None
    reason: str
    problem: str


class JudgedTrait(TypedDict):
    """A trait on the unit scale, over `runs` runs that measured it; None where those were too few."""

    median: float | None
    lowest: float | None
    highest: float | None
    runs: int


class Judged(TypedDict):
    """A recorded judgement. `vote_seq` is its vector's entry, with the verdict in `action`; else `no_vote` says why."""

    judgement: str
    seq: int
    at: str
    conversation_id: str
    instance_id: str | None
    model: str
    runs: int
    usable: int
    replies: int
    traits: dict[str, JudgedTrait]
    unmeasured: list[str]
    unproved: int
    vote_seq: int | None
    no_vote: str | None
    action: str | None
    why: str | None
    baseline_source: str | None
    head: str


# ---- what is kept --------------------------------------------------------------------------------------


async def keep(
    ctx: Context,
    caller: Caller,
    order: Order,
    found: Examined,
    outcome: Outcome | None,
    tried: Sequence[Tried],
    backend: str,
) -> Judged:
    """Record a judgement, or that there is none (`outcome` None), and have the consensus take its vector, if it counts.

    Asked again for the same order, it says what was recorded then.
    """
    key = f"ccn:judge:{order.id}"
    earlier = await recorded_under(ctx, caller, key)
    if earlier is not None:
        return await told(ctx, earlier)
    now = ctx.now_us()
    no_vote = await _no_vote(ctx, order, found, outcome, now)
    body = _body(caller, order, found, outcome, tried, backend)
    seat = await seat_if_any(ctx, found.instance_id)
    examined_model = str(seat.snapshot.get("model") or "") if seat is not None else ""
    # It was never the instance itself: each run had a context of its own. Whether it was the same model is said.
    same = any(one.served == examined_model for one in tried) if examined_model else None
    body |= {"context": "fresh", "same_model": same}
    drafts = [Draft(Kind.VALIDATION, now, {**body, "no_vote": no_vote, "key": key})]
    if no_vote is None and outcome is not None and outcome.vector is not None:
        seen = str((await ctx.store.info()).head)
        usable = sum(one.run is not None for one in tried)
        drafts.append(_vector(caller, order, found, outcome.vector, usable, seen, now))
    done = await ctx.store.append(Group(tuple(drafts)))
    record = Record(done.receipts[0].seq, now, Kind.VALIDATION, done.receipts[0].body)
    return await told(ctx, record)


def _body(
    caller: Caller,
    order: Order,
    found: Examined,
    outcome: Outcome | None,
    tried: Sequence[Tried],
    backend: str,
) -> Body:
    body = about(caller, order, found, backend)
    body |= {
        "event": FAILED if outcome is None else JUDGED,
        "served": [*sorted({one.served for one in tried if one.served})],
        "tried": [
            {
                "usage": one.usage,
                "ended": one.ended,
                "reason": one.reason,
                "unproved": [*one.run.unproved] if one.run is not None else [],
            }
            for one in tried
        ],
    }
    if outcome is not None:
        body["traits"] = {name: _trait(outcome.traits[name]) for name in TRAITS}
        body["unmeasured"] = list(outcome.unmeasured)
    return body


def about(caller: Caller, order: Order, found: Examined, backend: str) -> Body:
    """What every entry of an order says: who is judged by whom, by which rubric and prompt, on which messages."""
    body: Body = {
        "asked": order.model,
        "backend": backend,
        "conversation": order.conversation_id,
        "format": FORMAT,
        "judgement": order.id,
        "measured_by": JUDGE,
        "messages": [said.seq for said in found.messages],
        "principal": caller.principal,
        "prompt_sha256": prompt_digest(rubric().text),
        "rubric_sha256": rubric().digest,
        "rubric_version": rubric().version,
        "replies": found.replies,
        "runs": order.runs,
        "source": caller.source,
        "wanted": order.vote,
    }
    if order.instance_id is not None:
        body["instance"] = order.instance_id
    return body


def _trait(measured: Measured) -> Body:
    return {
        "runs": measured.runs,
        "median_e2": measured.median_e2,
        "lowest_e2": measured.lowest_e2,
        "highest_e2": measured.highest_e2,
        "quotes": [list(place) for place in measured.quotes],
    }


def _vector(
    caller: Caller, order: Order, found: Examined, vector: Vector, runs: int, seen: str, now: int
) -> Draft:
    """The report by the judge: of the instance, and marked as nobody but this function marks one."""
    body: Body = {
        "conversation": order.conversation_id,
        "instance": found.instance_id,
        "judgement": order.id,
        "measured_by": JUDGE,
        "principal": caller.principal,
        RATINGS: runs,
        "seen": seen,
        "source": caller.source,
        "vec": {"dtype": "f8le", "shape": [len(TRAITS)]},
    }
    return Draft(Kind.VECTOR, now, body, to_blob(vector))


async def _no_vote(
    ctx: Context, order: Order, found: Examined, outcome: Outcome | None, now: int
) -> str | None:
    """Why there is no vector in the consensus (a key of `NO_VOTE`); None if there is one."""
    if not order.vote:
        return "not_wanted"
    if outcome is None or outcome.vector is None:
        return "unmeasured"
    seat = await seat_if_any(ctx, found.instance_id)
    if seat is None:
        return "no_instance"
    try:
        may_report(Instance.from_body(seat.snapshot))
    except (UnknownInstance, Refused):
        return "not_reporting"
    if now - seat.seen_us > ctx.settings.lease_us:
        return "lease_expired"
    return "stale" if now - found.newest_us > ctx.settings.fresh_us else None


# ---- reading -------------------------------------------------------------------------------------------


async def judgements(ctx: Context, conversation_id: str | None = None) -> list[Record]:
    """Every entry of a judge that can be read, of a conversation or of all, newest first."""
    found = await ctx.store.records(RecordQuery(kinds=(Kind.VALIDATION,), limit=SCAN_MAX))
    return [
        record
        for record in found
        if record.body is not None
        and record.body.get("format") == FORMAT
        and conversation_id in (None, record.body.get("conversation"))
    ]


async def follows(ctx: Context, report: Record) -> bool:
    """Whether a judge's vector is what its judgement says; True where the judgement was erased."""
    body = report.body or {}
    query = RecordQuery(principal=str(body.get("principal")), key=f"ccn:judge:{body.get('judgement')}")
    found = await ctx.store.records(query)
    if not found or found[0].kind != Kind.VALIDATION or found[0].body is None:
        return bool(found)
    traits = found[0].body.get("traits")
    medians = [_shown(traits, name)["median"] for name in TRAITS] if isinstance(traits, dict) else []
    vector = [median for median in medians if median is not None]
    return len(vector) == len(TRAITS) and to_blob(tuple(vector)) == report.blob


async def last_attempt(ctx: Context, conversation_id: str) -> Record | None:
    """The newest entry of a judge about this conversation: a judgement, a failed one, a batch that was sent."""
    found = await judgements(ctx, conversation_id)
    return found[0] if found else None


async def told(ctx: Context, record: Record) -> Judged:
    """A recorded judgement in words and numbers, with the verdict on its vector."""
    body = record.body or {}
    tried = body.get("tried")
    runs = [one for one in tried if isinstance(one, dict)] if isinstance(tried, list) else []
    traits = body.get("traits")
    instance = body.get("instance")
    unmeasured = body.get("unmeasured")
    vote_seq, action, why, source = await _verdict(ctx, record)
    no_vote = body.get("no_vote")
    replies = body.get("replies")
    return {
        "judgement": str(body.get("judgement")),
        "seq": record.seq,
        "at": iso(record.time_us),
        "conversation_id": str(body.get("conversation")),
        "instance_id": instance if isinstance(instance, str) else None,
        "model": str(body.get("asked")),
        "runs": len(runs),
        "usable": sum(not one.get("reason") for one in runs),
        "replies": replies if isinstance(replies, int) else 0,
        "traits": {name: _shown(traits, name) for name in TRAITS} if isinstance(traits, dict) else {},
        "unmeasured": [str(name) for name in unmeasured] if isinstance(unmeasured, list) else [],
        "unproved": sum(len(voided) for one in runs if isinstance(voided := one.get("unproved"), list)),
        "vote_seq": vote_seq,
        "no_vote": NO_VOTE.get(str(no_vote)) if no_vote is not None else None,
        "action": action,
        "why": why,
        "baseline_source": source,
        "head": str((await ctx.store.info()).head),
    }


def _shown(traits: Mapping[str, object], name: str) -> JudgedTrait:
    found = traits.get(name)
    item = found if isinstance(found, dict) else {}
    median, lowest, highest = (_unit(item.get(f"{what}_e2")) for what in ("median", "lowest", "highest"))
    return {"median": median, "lowest": lowest, "highest": highest, "runs": int(item.get("runs") or 0)}


def _unit(e2: object) -> float | None:
    return e2 / 500 if isinstance(e2, int) else None


class _Verdict(NamedTuple):
    seq: int | None = None
    action: str | None = None
    why: str | None = None
    baseline_source: str | None = None


async def _verdict(ctx: Context, record: Record) -> _Verdict:
    """The vector's entry, which follows its judgement's, and what the consensus says of it."""
    body = record.body or {}
    instance = str(body.get("instance"))
    query = RecordQuery(kinds=(Kind.VECTOR,), seqs=(record.seq + 1,))
    found = next(iter(await ctx.store.records(query)), None)
    if found is None or found.body is None or found.body.get("judgement") != body.get("judgement"):
        return _Verdict()
    try:
        recorded = (await judge(ctx, instance, found.seq)).recorded
    except (StoreMoved, UnknownInstance):
        # Others kept coming first, or it ended: the next report in its group brings the verdict.
        return _Verdict(found.seq)
    verdict = recorded.verdicts.get(instance)
    if verdict is None:
        return _Verdict(found.seq)
    action, why = str(verdict["action"]), WHY[str(verdict["reason"])]
    return _Verdict(found.seq, action, why, recorded.baseline_source)
