"""A baseline from reports to pin, through the real node and store; and everything computed again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from ccn_mcp.domain.character import TRAITS, Vector, to_blob
from ccn_mcp.domain.commissioning import AUTHORED_SIGMA, commission
from ccn_mcp.domain.errors import BadInput, BadVector, Conflict, NotFound, Refused, StoreMoved
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Draft, Record, RecordQuery
from ccn_mcp.node import commissioning
from ccn_mcp.node.baselines import Baseline, baseline_of
from ccn_mcp.node.consensus import last_judgement
from ccn_mcp.node.context import Context
from ccn_mcp.node.node import Node
from ccn_mcp.node.plates import PlateInForce
from ccn_mcp.node.replaying import explain_verdict, replay_all
from ccn_mcp.node.results import Validation
from tests.node.world import FakeClock, head_of, node_on, plate_of, spread
from tests.store.attacks import the_file

pytestmark = pytest.mark.anyio
GROUP = "m||1"
SCORES = dict.fromkeys(TRAITS, 3.0)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "ccn.db"


def scores(count: int, *, seed: int = 1, noise: float = 0.2, **wide: float) -> list[dict[str, float]]:
    """Rubric scores around 3, uniform by `noise` to either side; those named around 2.5, by that much."""
    rng = random.Random(seed)  # noqa: S311  # chooses test cases
    return [
        {
            name: round((2.5 if name in wide else 3) + rng.uniform(-1, 1) * wide.get(name, noise), 2)
            for name in TRAITS
        }
        for _ in range(count)
    ]


def as_vectors(given: Sequence[dict[str, float]]) -> list[Vector]:
    return [tuple(row[name] / 5 for name in TRAITS) for row in given]


async def report(node: Node, given: object, *, model: str = "m") -> Validation:
    """A new instance, a fresh Plate, one run, one report."""
    mine = (await node.load_plate(model=model))["instance_id"]
    run = (await node.validate_character(instance_id=mine, kind="commission"))["run_id"]
    return await node.validate_character(instance_id=mine, run_id=run, scores=given)


async def collect(node: Node, given: Sequence[dict[str, float]], *, model: str = "m") -> Validation:
    for row in given:
        last = await report(node, row, model=model)
    return last


# ---- collecting ----------------------------------------------------------------------------------------


async def test_a_run_brings_the_rubric_and_each_report_counts_until_there_are_enough(db: Path) -> None:
    async with node_on(db) as node:
        mine = (await node.load_plate(model="m"))["instance_id"]
        run = await node.validate_character(instance_id=mine, kind="commission")
        assert run["state"] == "open"
        assert run["rubric"] is not None
        assert all(f"{name}\n  0 " in run["rubric"] for name in TRAITS)
        for at, row in enumerate(scores(8), 1):
            done = await report(node, row)
            assert done["state"] == "recorded"
            assert done["commissioning"] == {"reports": at, "needed": 8, "ready": at == 8, "disagree": []}
        assert "ccn-mcp commission pin" in done["note"]
        assert (await node.verify_chain())["ok"]


async def test_one_delivery_of_the_plate_gives_one_report(db: Path) -> None:
    async with node_on(db) as node:
        mine = (await node.load_plate(model="m"))["instance_id"]
        runs = [await node.validate_character(instance_id=mine, kind="commission") for _ in range(2)]
        await node.validate_character(instance_id=mine, run_id=runs[0]["run_id"], scores=SCORES)
        before = await head_of(node)
        for run in runs:
            with pytest.raises((Refused, Conflict)):
                await node.validate_character(instance_id=mine, run_id=run["run_id"], scores=SCORES)
        with pytest.raises(Refused, match="load_plate"):
            await node.validate_character(instance_id=mine, kind="commission")
        assert await head_of(node) == before
        await node.load_plate(instance_id=mine)
        with pytest.raises(Conflict, match="changed"):
            await node.validate_character(instance_id=mine, run_id=runs[1]["run_id"], scores=SCORES)
        assert (await node.validate_character(instance_id=mine, kind="commission"))["state"] == "open"


async def test_what_is_no_report_is_refused_and_leaves_no_trace(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock) as node:
        nameless = (await node.load_plate())["instance_id"]
        with pytest.raises(Refused, match="model"):
            await node.validate_character(instance_id=nameless, kind="commission")
        mine = (await node.load_plate(model="m"))["instance_id"]
        run = (await node.validate_character(instance_id=mine, kind="commission"))["run_id"]
        other = (await node.load_plate(model="m"))["instance_id"]
        before = await head_of(node)
        for wrong in ({**SCORES, "warmth": 5.1}, [3.0] * 15, "3", {**SCORES, "warmth": True}):
            with pytest.raises(BadVector):
                await node.validate_character(instance_id=mine, run_id=run, scores=wrong)
        for arguments in (
            {"kind": "baseline"},
            {"kind": "commission", "run_id": run},
            {"scores": SCORES},
            {"kind": "recall", "run_id": run, "scores": SCORES},
            {"kind": "commission", "run_id": run, "answers": ["x"] * 6},
        ):
            with pytest.raises(BadInput):
                await node.validate_character(instance_id=mine, **arguments)
        for stranger, its_run in ((other, run), (mine, "v_none")):
            with pytest.raises(NotFound):
                await node.validate_character(instance_id=stranger, run_id=its_run, scores=SCORES)
        clock.pass_s(13 * 3600)
        with pytest.raises(NotFound, match="expired"):
            await node.validate_character(instance_id=mine, run_id=run, scores=SCORES)
        assert await head_of(node) == before


async def test_a_flagged_instance_sets_no_measure(db: Path) -> None:
    async with node_on(db) as node:
        await node.set_plate(plate_of())
        mine = (await node.load_plate(model="m"))["instance_id"]
        await node.report_character_vector([0.9] * 16, instance_id=mine)
        await node.load_plate(instance_id=mine)
        with pytest.raises(Refused, match="flag"):
            await node.validate_character(instance_id=mine, kind="commission")


# ---- pinning -------------------------------------------------------------------------------------------


async def test_seven_are_too_few_and_reports_that_disagree_are_refused_by_trait(db: Path) -> None:
    async with node_on(db) as node:
        await collect(node, scores(7))
        before = await head_of(node)
        with pytest.raises(Refused, match="7 reports"):
            await commissioning.pin(node.ctx, node.caller)
        await collect(node, scores(8, warmth=2.5, patience=2.5), model="wide")
        said = (await commissioning.overview(node.ctx))[1]
        assert set(said["disagree"]) == {"warmth", "patience"}
        before = await head_of(node)
        with pytest.raises(Refused, match=r"warmth \(0\.\d\d\)") as caught:
            await commissioning.pin(node.ctx, node.caller, "wide||1")
        assert "patience" in str(caught.value)
        assert "formality" not in str(caught.value)
        with pytest.raises(BadInput, match="--group"):
            await commissioning.pin(node.ctx, node.caller)
        with pytest.raises(BadInput):
            await commissioning.pin(node.ctx, node.caller, "nobody||1")
        assert await head_of(node) == before


async def test_a_pinned_baseline_replaces_the_authored_one_for_its_group_only(db: Path) -> None:
    async with node_on(db) as node:
        await node.set_plate(plate_of())
        mine = (await node.load_plate(model="m"))["instance_id"]
        theirs = (await node.load_plate(model="other"))["instance_id"]
        early = await node.report_character_vector(spread(0.52), instance_id=mine)
        assert (early["baseline_source"], early["ratings"]) == ("authored", 1)
        given = scores(9, noise=0.6)
        await collect(node, given)
        with pytest.raises(Conflict, match="not 8"):
            await commissioning.pin(node.ctx, node.caller, expected=8)
        pinned = await commissioning.pin(node.ctx, node.caller, expected=9)
        measured = commission(as_vectors(given))
        assert (pinned["baseline_source"], pinned["reports"]) == ("commissioned", 0)
        assert pinned["sigma"] == round(measured.sigma, 4)
        later = await node.report_character_vector([measured.baseline] * measured.repeats, instance_id=mine)
        assert later["baseline_source"] == "commissioned"
        assert later["ratings"] == measured.repeats == 2
        assert later["from_baseline"] == {"rms": 0.0, "max": 0.0}
        assert later["smoothed"] == {"rms": 0.0, "max": 0.0}, "what was smoothed belonged to another baseline"
        assert later["flags"] == ["echo"]
        judged = await last_judgement(node.ctx, GROUP)
        assert judged is not None
        assert (judged.recorded.baseline, judged.recorded.sigma) == (measured.baseline, measured.sigma)
        other = await node.report_character_vector(spread(0.52), instance_id=theirs)
        assert other["baseline_source"] == "authored"
        elsewhere = await last_judgement(node.ctx, "other||1")
        assert elsewhere is not None
        assert elsewhere.recorded.sigma == AUTHORED_SIGMA
        status = await node.consensus_status(instance_id=mine)
        assert status["baseline_source"] == "commissioned"
        assert (await node.verify_chain(deep=True))["ok"]


async def test_where_the_noise_is_high_a_report_is_an_average_that_the_server_makes(db: Path) -> None:
    async with node_on(db) as node:
        await node.set_plate(plate_of())
        mine = (await node.load_plate(model="m"))["instance_id"]
        early = (await node.load_plate(model="m"))["instance_id"]
        await node.report_character_vector([0.6] * 16, instance_id=early)
        await collect(node, scores(9, noise=0.6))
        await commissioning.pin(node.ctx, node.caller)
        before = await head_of(node)
        for one in ([0.6] * 16, dict.fromkeys(TRAITS, 0.6), [[0.6] * 16]):
            with pytest.raises(BadVector, match="list of 2 ratings") as caught:
                await node.report_character_vector(one, instance_id=mine)
            assert caught.value.reason == "too_few_ratings"
        with pytest.raises(BadVector) as caught:
            await node.report_character_vector([[0.6] * 16, [0.6] * 15], instance_id=mine)
        assert caught.value.reason == "wrong_length"
        with pytest.raises(BadVector) as caught:
            await node.report_character_vector([[0.6] * 16] * 17, instance_id=mine)
        assert caught.value.reason == "too_many_ratings"
        assert await head_of(node) == before, "a refused report leaves no trace"
        two = [[3.1] * 16, dict.fromkeys(TRAITS, 2.8)]
        judged = await node.report_character_vector(
            two, instance_id=mine, scale="rubric", idempotency_key="k"
        )
        again = await node.report_character_vector(two, instance_id=mine, scale="rubric", idempotency_key="k")
        assert (again["already_recorded"], again["seq"]) == (True, judged["seq"])
        assert judged["consensus"]["warmth"] == 0.59
        assert judged["participants"] == 1, "a single rating from before does not vote"
        rows = {row["instance_id"]: row for row in (await node.consensus_status())["instances"]}
        assert (rows[early]["votes"], rows[early]["why_not"]) == (False, "few_ratings")
        assert (rows[mine]["votes"], rows[mine]["action"]) == (True, judged["action"])
        (metric,) = await found(node, Kind.METRIC)
        assert metric.body is not None
        assert (metric.body["metric"], metric.body["vec"]) == ("ratings", {"dtype": "f8le", "shape": [2, 16]})
        assert (await replay_all(node.ctx))["ok"]
        assert (await node.verify_chain(deep=True))["ok"]
    flip(db, metric.seq)
    async with node_on(db) as node:
        faults = (await replay_all(node.ctx))["faults"]
    assert ["not the average of its ratings" in fault["detail"] for fault in faults] == [True]


async def test_a_report_that_the_person_outran_by_pinning_does_not_count_as_a_rating_alone(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node_on(db) as node:
        await collect(node, scores(9, noise=0.6))
        mine = (await node.load_plate(model="m"))["instance_id"]

        async def overtaken(ctx: Context, group: str, plate: PlateInForce) -> Baseline:
            base = await baseline_of(ctx, group, plate)
            if base.source != "commissioned":
                await commissioning.pin(node.ctx, node.caller)
            return base

        monkeypatch.setattr("ccn_mcp.node.consensus.baseline_of", overtaken)
        with pytest.raises(StoreMoved, match="more ratings"):
            await node.report_character_vector([0.6] * 16, instance_id=mine)
        judged = await node.report_character_vector([[0.6] * 16, [0.61] * 16], instance_id=mine)
        assert judged["participants"] == 1
        assert (await replay_all(node.ctx))["ok"]


async def test_another_plate_and_a_cancelled_baseline_fall_back_to_the_plates_own(db: Path) -> None:
    async with node_on(db) as node:
        await node.set_plate(plate_of())
        await collect(node, scores(8))
        first = await commissioning.pin(node.ctx, node.caller)
        await collect(node, scores(2, seed=2))
        kept = await commissioning.cancel(node.ctx, node.caller)
        assert (kept["baseline_source"], kept["baseline_entry"]) == ("commissioned", first["baseline_entry"])
        assert kept["reports"] == 0
        await node.set_plate(plate_of(version="2"))
        (moved,) = await commissioning.overview(node.ctx)
        assert (moved["baseline_source"], moved["pinned_for_another_plate"]) == ("authored", True)
        await node.set_plate(plate_of())
        (back,) = await commissioning.overview(node.ctx)
        assert back["baseline_source"] == "commissioned"
        gone = await commissioning.cancel(node.ctx, node.caller, GROUP, baseline_too=True)
        assert (gone["baseline_source"], gone["baseline_entry"]) == ("authored", None)
        mine = (await node.load_plate(model="m"))["instance_id"]
        judged = await node.report_character_vector(spread(0.51), instance_id=mine)
        assert judged["baseline_source"] == "authored"


async def test_a_report_that_is_judged_while_the_person_pins_is_judged_by_the_pinned_baseline(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node_on(db) as node:
        await collect(node, scores(8))
        mine = (await node.load_plate(model="m"))["instance_id"]
        looked = 0

        async def overtaken(ctx: Context, group: str, plate: PlateInForce) -> Baseline:
            nonlocal looked
            looked += 1
            base = await baseline_of(ctx, group, plate)
            if looked == 1:
                await commissioning.pin(node.ctx, node.caller)
            return base

        monkeypatch.setattr("ccn_mcp.node.consensus.baseline_of", overtaken)
        judged = await node.report_character_vector([0.6] * 16, instance_id=mine)
        assert (judged["baseline_source"], looked) == ("commissioned", 2)
        assert len(await found(node, Kind.CONSENSUS)) == 1


# ---- computing again -----------------------------------------------------------------------------------


async def history(node: Node) -> list[int]:
    """Two reports against the authored baseline, a pin, two against the pinned one; the evaluations' positions."""
    await node.set_plate(plate_of())
    mine = (await node.load_plate(model="m"))["instance_id"]
    for value in (0.52, 0.53):
        await node.report_character_vector(spread(value), instance_id=mine)
    await collect(node, scores(8))
    await commissioning.pin(node.ctx, node.caller)
    for value in (0.6, 0.61):
        await node.report_character_vector([value] * 16, instance_id=mine)
    return [record.seq for record in await found(node, Kind.CONSENSUS)]


async def found(node: Node, kind: Kind) -> list[Record]:
    query = RecordQuery(kinds=(kind,), oldest_first=True, limit=100)
    return list(await node.ctx.store.records(query))


async def test_every_evaluation_and_the_baseline_come_out_the_same(db: Path) -> None:
    async with node_on(db) as node:
        await history(node)
        done = await replay_all(node.ctx)
        assert (done["ok"], done["evaluations"], done["matching"], done["baselines"]) == (True, 4, 4, 1)
        assert done["groups"] == [GROUP]
        assert (await replay_all(node.ctx, GROUP))["matching"] == 4
        with pytest.raises(BadInput):
            await replay_all(node.ctx, "nobody||1")


async def test_an_erased_report_is_named_and_the_evaluations_after_it_go_on(db: Path) -> None:
    async with node_on(db) as node:
        evaluations = await history(node)
        first = (await node.ctx.store.records(RecordQuery(kinds=(Kind.VECTOR,), oldest_first=True)))[0].seq
        now = node.ctx.now_us()
        body = {"by": "local", "source": "cli", "target": str(first)}
        await node.ctx.store.erase([Draft(Kind.REDACTION, now, {**body})])
        done = await replay_all(node.ctx)
        assert (done["ok"], done["matching"], done["erased"]) == (True, 3, evaluations[:1])
        (told,) = await explain_verdict(node.ctx, str(evaluations[0]))
        assert told["exact"] is False


async def test_one_changed_bit_in_an_evaluation_or_a_baseline_is_found(db: Path) -> None:
    async with node_on(db) as node:
        evaluations = await history(node)
        pin = (await node.ctx.store.records(RecordQuery(kinds=(Kind.VALIDATION,), subject=GROUP)))[0].seq
    for seq in (evaluations[1], pin):
        flip(db, seq)
        async with node_on(db) as node:
            done = await replay_all(node.ctx)
        assert not done["ok"]
        assert done["faults"][0]["seq"] == seq
        flip(db, seq)
    async with node_on(db) as node:
        assert (await replay_all(node.ctx))["ok"]


def flip(db: Path, seq: int) -> None:
    """The lowest bit of the first float of an entry's blob."""
    with the_file(db) as connection:
        blob = bytearray(connection.execute("SELECT blob FROM entry WHERE seq = ?", (seq,)).fetchone()[0])
        blob[0] ^= 1
        connection.execute("UPDATE entry SET blob = ? WHERE seq = ?", (bytes(blob), seq))


async def test_a_baseline_that_nobody_pinned_is_found(db: Path) -> None:
    async with node_on(db) as node:
        await history(node)
        pin = (await node.ctx.store.records(RecordQuery(kinds=(Kind.VALIDATION,), subject=GROUP)))[0].seq
    with the_file(db) as connection:
        wrong = to_blob((0.4,) * 48)
        connection.execute("UPDATE entry SET blob = ? WHERE seq = ?", (wrong, pin))
    async with node_on(db) as node:
        faults = (await replay_all(node.ctx))["faults"]
    assert faults[0]["seq"] == pin
    assert sum("not pinned" in fault["detail"] for fault in faults) == 2


# ---- one verdict in words ------------------------------------------------------------------------------


async def test_the_numbers_of_a_verdict_and_what_follows(db: Path) -> None:
    async with node_on(db) as node:
        await node.set_plate(plate_of())
        mine = (await node.load_plate(model="m"))["instance_id"]
        judged = await node.report_character_vector(spread(0.71), instance_id=mine)
        (told,) = await explain_verdict(node.ctx)
        assert (told["instance_id"], told["action"], told["exact"]) == (mine, "recheck", True)
        assert (told["baseline_source"], told["base_run"]) == ("authored", 1)
        assert told["measured_by"] == "self_report"
        assert "measured by nobody" in told["baseline_said"]
        rules = {rule["rule"]: rule for rule in told["rules"]}
        assert (rules["BASE"]["max"], rules["BASE"]["max_limit"]) == (0.21, 0.2085)
        assert (rules["BASE"]["rms"], rules["BASE"]["rms_limit"]) == (0.0525, 0.1)
        assert rules["BASE"]["exceeded"] is True
        assert rules["EWMA"]["exceeded"] is False
        assert rules["EWMA"]["max"] == 0.042
        assert rules["PEER"]["exceeded"] is None
        assert rules["ORIGINAL"]["decides"] is False
        assert told["widest"][0] == {"trait": "directness", "report": 0.71, "baseline": 0.5}
        for what in (str(judged["seq"]), str(told["seq"]), mine):
            assert await explain_verdict(node.ctx, what) == [told]
        for wrong in ("0", "99", "i_nobody"):
            with pytest.raises(NotFound):
                await explain_verdict(node.ctx, wrong)
