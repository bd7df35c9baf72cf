"""`validate_character`: hand out the six questions, take the answers once, keep both in the log.

What it shows is called `plate_recall`: that the delivered text arrived, and nothing about character.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ccn_mcp.domain import recall
from ccn_mcp.domain.errors import (
    BadInput,
    Conflict,
    IdempotencyConflict,
    NotFound,
    Refused,
    TooLarge,
    UnknownInstance,
    VerificationFailed,
)
from ccn_mcp.domain.instances import State
from ccn_mcp.domain.jcs import check_text
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Body, Draft, Group, Record, RecordQuery, Seat
from ccn_mcp.domain.plate import Plate, parse_plate
from ccn_mcp.node.context import Caller, Context, iso, must_record, short_text
from ccn_mcp.node.conversations import recorded_under
from ccn_mcp.node.instances import lease_drafts
from ccn_mcp.node.recollection import recorded_at, recorded_before, unfounded
from ccn_mcp.node.reporting import reporting_seat
from ccn_mcp.node.results import PlateRecall, RecallQuestion, Validation

FORMAT: Final = "ccn.recall/1"
OPEN: Final = "open"
KINDS: Final = ("recall", "commission", "peer")
_OPENED: Final = "ccn:recall:"
_ANSWERED: Final = "ccn:recalled:"

HOW: Final = (
    "Answer each question in one or two full sentences from what load_plate gave you, within its limit, then call "
    "validate_character with instance_id, this run_id and answers, in this order. One try per run."
)
NO_FACTS: Final = (
    "not_validated: the delivered Plate has recall facts for fewer than five of the six questions, so answers show "
    "nothing. This is usual, and no fault of the instance; nothing is to be done."
)
SHOWS: Final = {
    recall.State.VALIDATED: (
        "The answers fit the delivered Plate: its text arrived. It is an open-book exam and says nothing about "
        "character."
    ),
    recall.State.FAILED: (
        "The answers do not fit the delivered Plate. Between tasks, call load_plate again and start another run; "
        "an outcome of missing can also be an answer whose words differ from the Plate's."
    ),
    recall.State.NOT_VALIDATED: NO_FACTS,
}


async def validate_character(
    ctx: Context,
    caller: Caller,
    *,
    instance_id: str | None = None,
    run_id: str | None = None,
    answers: object = None,
    kind: str | None = None,
    scores: object = None,
) -> Validation:
    """Hand out a run, or take its six answers, or its 16 scores. A run is used once and expires with the lease.

    `kind` is recall (the default), commission (`ccn_mcp.node.commissioning`) or peer (`ccn_mcp.node.peers`).

    Raises:
        BadInput, TooLarge, BadText: arguments that cannot be used; the run stays open.
        UnknownInstance. NotFound: no such run of this instance, or it has expired.
        Conflict: the run was used. Refused: no Plate was delivered yet, or measurement is off.
    """
    must_record(ctx)
    if ctx.settings.character == "off":
        raise Refused("the person has switched validation off (CCN_CHARACTER=off); carry on without it")
    run = short_text(run_id, "run_id")
    if kind not in (None, "", *KINDS) or (kind == KINDS[0] and scores is not None):
        raise BadInput(
            f"kind is one of: {', '.join(KINDS)}; answers go with the first, scores with the others"
        )
    peer = kind == KINDS[2]
    commission = kind == KINDS[1] or (scores is not None and not peer)
    if (commission or peer) and answers is not None:
        raise BadInput(f"a run of the kind {KINDS[2] if peer else KINDS[1]} takes scores, and no answers")
    if peer and run is None and scores is not None:
        raise BadInput("scores belong to a run_id; call with kind=peer alone to get one")
    if not peer and (run is None) != ((scores if commission else answers) is None):
        raise BadInput(
            "run_id and answers (or scores) belong together; call with neither to get a run_id, then with both"
        )
    said = _answers(answers) if answers is not None else ()
    seat = await reporting_seat(ctx, caller, short_text(instance_id, "instance_id"))
    if seat.snapshot.get("state") == State.TERMINATED:
        raise UnknownInstance(
            f"the instance {seat.instance_id!r} has ended; call load_plate to open another one"
        )
    if peer:
        from ccn_mcp.node.peers import take_part

        return await take_part(ctx, caller, seat, run, scores)
    if commission:
        from ccn_mcp.node.commissioning import open_run, take_scores

        return (
            await open_run(ctx, caller, seat)
            if run is None
            else await take_scores(ctx, caller, seat, run, scores)
        )
    if run is None:
        return await _open(ctx, caller, seat)
    return await _answer(ctx, caller, seat, run, said)


def _answers(given: object) -> tuple[str, ...]:
    count = len(recall.ASKED)
    if not isinstance(given, list | tuple) or len(given) != count:
        raise BadInput(f"answers must be a list of {count} texts, in the order of the questions")
    for at, text in enumerate(given, 1):
        if not isinstance(text, str):
            raise BadInput(f"answer {at} is not a text; send {count} texts")
        if len(text) > recall.ANSWER_CHARS_MAX:
            raise TooLarge(
                f"answer {at} has {len(text):,} characters; at most {recall.ANSWER_CHARS_MAX:,} are taken, and its "
                "question allows fewer"
            )
        check_text(text, f"answer {at}")
    return tuple(given)


# ---- handing out ---------------------------------------------------------------------------------------


async def _open(ctx: Context, caller: Caller, seat: Seat) -> Validation:
    plate_seq = seat.snapshot.get("plate_seq")
    if not isinstance(plate_seq, int):
        raise Refused("no Plate was delivered to this instance yet; call load_plate first")
    plate = await _plate_at(ctx, plate_seq)
    recorded = await recorded_before(ctx, seat)
    if not recall.can_be_validated(plate.facts, list(recorded.values())):
        head = str((await ctx.store.info()).head)
        return _result(seat, None, recall.State.NOT_VALIDATED.value, NO_FACTS, head)
    now = ctx.now_us()
    run = ctx.entropy.name("v")
    body: Body = {
        "event": "opened",
        "format": FORMAT,
        "history": [*recorded],
        "instance": seat.instance_id,
        "key": f"{_OPENED}{run}",
        "plate_seq": plate_seq,
        "principal": caller.principal,
        "run": run,
        "source": caller.source,
    }
    head = await _append(ctx, seat, body, now)
    until = iso(now + ctx.settings.lease_us)
    asked = _questions(list(recorded.values()))
    return _result(seat, run, OPEN, f"{HOW} The run expires at {until}.", head, questions=asked)


def _questions(history: Sequence[str]) -> list[RecallQuestion]:
    return [
        {"name": question.name, "question": question.text, "characters_max": question.chars_max}
        for question in recall.questions(history)
    ]


async def _plate_at(ctx: Context, seq: int) -> Plate:
    found = await ctx.store.records(RecordQuery(kinds=(Kind.PLATE,), seqs=(seq,)))
    if found and found[0].body is None:
        raise Refused(
            "the Plate that was delivered to this instance was erased since; call load_plate again, then start a run"
        )
    if not found:
        raise VerificationFailed(f"the Plate at entry {seq} cannot be read; run ccn-mcp verify")
    return parse_plate(found[0].blob)


# ---- taking answers ------------------------------------------------------------------------------------


async def _answer(ctx: Context, caller: Caller, seat: Seat, run: str, answers: Sequence[str]) -> Validation:
    opened = await opened_run(ctx, caller, seat, run)
    key = f"{_ANSWERED}{run}"
    if await recorded_under(ctx, caller, key) is not None:
        raise _used(run)
    scored = await scored_against(ctx, opened, answers)
    found = shown(scored)
    body: Body = {
        "answers": [*answers],
        "contradictions": scored.contradictions,
        "event": "answered",
        "format": FORMAT,
        "instance": seat.instance_id,
        "key": key,
        "opened_seq": opened.seq,
        "outcomes": {**found["outcomes"]},
        "passed": scored.passed,
        "plate_seq": (opened.body or {})["plate_seq"],
        "principal": caller.principal,
        "run": run,
        "score_e4": round(scored.score * 10_000),
        "source": caller.source,
        "state": scored.state.value,
    }
    try:
        head = await _append(ctx, seat, body, ctx.now_us())
    except IdempotencyConflict as error:
        raise _used(run) from error
    return _result(seat, run, scored.state.value, SHOWS[scored.state], head, found=found)


async def scored_against(ctx: Context, opened: Record, answers: Sequence[str]) -> recall.Scored:
    """What six answers are worth against the Plate and the history of a run; records nothing.

    Raises:
        VerificationFailed, Refused: the Plate of the run cannot be read any more.
    """
    plate_seq = (opened.body or {}).get("plate_seq")
    if not isinstance(plate_seq, int):
        raise VerificationFailed(f"the run at entry {opened.seq} cannot be read; run ccn-mcp verify")
    plate = await _plate_at(ctx, plate_seq)
    return recall.score(
        plate.facts,
        answers,
        history=await recorded_at(ctx, opened),
        unfounded=await unfounded(ctx, plate, answers, opened.seq),
    )


def shown(scored: recall.Scored) -> PlateRecall:
    """A score as results have it."""
    return {
        "passed": scored.passed,
        "of": len(recall.ASKED),
        "contradictions": scored.contradictions,
        "score": scored.score,
        "outcomes": {
            question.name: outcome.value
            for question, outcome in zip(recall.ASKED, scored.outcomes, strict=True)
        },
    }


async def opened_run(ctx: Context, caller: Caller, seat: Seat, run: str) -> Record:
    """The entry that opened the instance's run.

    Raises:
        NotFound: there is none, or it has expired.
    """
    opened = await recorded_under(ctx, caller, f"{_OPENED}{run}")
    if opened is None or opened.body is None or opened.body.get("instance") != seat.instance_id:
        raise NotFound(
            f"this instance has no run {run!r}; call validate_character without run_id to get the questions"
        )
    if ctx.now_us() - opened.time_us > ctx.settings.lease_us:
        raise NotFound(f"the run {run!r} has expired; call validate_character without run_id for another one")
    return opened


def _used(run: str) -> Conflict:
    return Conflict(
        f"the run {run!r} was used, and its answers are recorded; call validate_character without run_id for "
        "another one"
    )


async def _append(ctx: Context, seat: Seat, body: Body, now: int) -> str:
    """Append one entry under its key and renew the lease; returns the log's head.

    Raises:
        Conflict: the key was used.
    """
    drafts = (Draft(Kind.VALIDATION, now, body), *(await lease_drafts(ctx, seat.instance_id, now)))
    done = await ctx.store.append(Group(drafts, touch={seat.instance_id: now}))
    if done.receipts[0].replayed:
        raise _used(str(body["run"]))
    ctx.seen_us[seat.instance_id] = now
    return str(done.head)


def _result(
    seat: Seat,
    run: str | None,
    state: str,
    note: str,
    head: str,
    *,
    questions: list[RecallQuestion] | None = None,
    found: PlateRecall | None = None,
) -> Validation:
    return {
        "instance_id": seat.instance_id,
        "run_id": run,
        "state": state,
        "questions": questions or [],
        "plate_recall": found,
        "rubric": None,
        "commissioning": None,
        "record": None,
        "peers": None,
        "note": note,
        "head": head,
    }
