"""A hook reads from the transcript which model an instance is: it is compared with those of the same model only."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio.from_thread
import anyio.to_thread
import pytest

from ccn_mcp.app import open_node
from ccn_mcp.cli.main import run
from ccn_mcp.domain import instances
from ccn_mcp.domain.instances import Event, Instance
from ccn_mcp.domain.models import Draft, Group
from ccn_mcp.interop import correction, privacy
from ccn_mcp.interop.claude_code import Answered, prompts
from ccn_mcp.interop.hook import Call
from ccn_mcp.interop.recording import SessionLog
from ccn_mcp.interop.session_end import seats_of
from ccn_mcp.node.instances import instance_draft, leave, seat_of
from ccn_mcp.node.node import Node
from ccn_mcp.node.rubric import rubric
from ccn_mcp.settings import Settings
from tests.interop.hooks import Claude, Json
from tests.node.world import plate_of

pytestmark = pytest.mark.anyio
OPUS = "claude-opus-5-5"
HAIKU = "claude-haiku-4-5-20251001"
VERSION = rubric().version


@pytest.fixture
def claude(tmp_path: Path) -> Claude:
    return Claude(tmp_path)


def begin(claude: Claude, source: str = "startup") -> str:
    """The session's instance."""
    found = re.search(r"instance_id: (i_\w+)", claude.start(source))
    assert found is not None
    return found[1]


def turn(claude: Claude, model: str, prompt: str, **line: str) -> None:
    """A whole turn, said now: reports are timed by the same clock."""
    claude.model = model
    claude.ahead_s = -1
    claude.asks(prompt, f"ask {prompt}")
    claude.ahead_s = -1
    claude.answers(f"answer {prompt}", **line)
    claude.stops(prompt, f"answer {prompt}")


def events(claude: Claude) -> list[str]:
    return [body["event"] for body in claude.bodies(9)]


def last(claude: Claude) -> Json:
    return claude.bodies(9)[-1]


def chosen(claude: Claude) -> Settings:
    return Settings(db=claude.db, config_dir=claude.config, scope=str(claude.work))


def test_the_transcript_says_which_model_an_instance_is(claude: Claude) -> None:
    begin(claude)
    assert last(claude)["model"] == "", "no hook and no model has said it"
    turn(claude, OPUS, "p1")
    assert events(claude) == ["opened", "loaded", "corrected"]
    assert (last(claude)["model"], last(claude)["thinking"], last(claude)["rubric"]) == (OPUS, "", VERSION)
    turn(claude, OPUS, "p2")
    assert events(claude)[2:] == ["corrected"], "once is enough"
    turn(claude, HAIKU, "p3")
    assert (events(claude)[3:], last(claude)["model"]) == (["corrected"], HAIKU)
    assert claude.troubles() == []
    assert run(["verify", "--db", str(claude.db)]) == 0


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (HAIKU, {"isSidechain": True}),
        (HAIKU, {"isApiErrorMessage": True}),
        (HAIKU, {"requestSessionId": "forked-from", "sessionId": "this-one"}),
        ("<synthetic>", {}),
        ("", {}),
    ],
)
def test_what_the_sessions_model_has_not_said_tells_nothing(claude: Claude, model: str, line: Json) -> None:
    begin(claude)
    turn(claude, OPUS, "p1")
    claude.model = model
    claude.answers("answer p1", **line)
    claude.stops("p1", "answer p1")
    claude.hook("session-end", reason="other")
    assert [body["model"] for body in claude.bodies(9)] == ["", "", OPUS, OPUS]
    assert claude.troubles() == []


def test_what_has_ended_is_left_alone(claude: Claude) -> None:
    first = begin(claude)
    turn(claude, OPUS, "p1")
    claude.hook("session-end", reason="other")
    with SessionLog(chosen(claude), claude.config, claude.session) as log:
        assert not log.is_other_than(HAIKU, ""), "so that nothing is loaded for it"
    turn(claude, HAIKU, "p2")
    assert events(claude) == ["opened", "loaded", "corrected", "terminated"]
    second = begin(claude, "resume")
    assert second != first
    turn(claude, HAIKU, "p3")
    assert events(claude)[4:] == ["opened", "loaded", "corrected"]
    assert (last(claude)["instance"], last(claude)["model"]) == (second, HAIKU)
    assert claude.troubles() == []


def test_the_thinking_mode_is_that_of_the_request_and_a_thought_alone_says_nothing(claude: Claude) -> None:
    begin(claude)
    for number, mode in enumerate(("adaptive", "enabled")):
        claude.line("api-request", "", id=f"r{number}", params={"thinking": {"type": mode}})
        turn(claude, OPUS, f"p{number}", requestRef=f"r{number}")
        assert (last(claude)["model"], last(claude)["thinking"]) == (OPUS, mode)
    claude.line("api-request", "", id="r2", params={"model": OPUS})
    claude.line("api-request", "", id=["r3"], params={"thinking": "yes"})
    claude.line("assistant", [{"type": "thinking", "thinking": "hm"}])
    turn(claude, OPUS, "p2", requestRef="r2")
    assert (events(claude)[4:], last(claude)["thinking"]) == ([], "enabled"), (
        "nothing says that it is another"
    )


def test_a_turn_that_no_stop_ended_counts_at_the_end_of_the_session(claude: Claude) -> None:
    begin(claude)
    claude.model = OPUS
    claude.asks("p1", "ask")
    claude.answers("cut off")
    claude.hook("session-end", reason="other")
    assert events(claude) == ["opened", "loaded", "corrected", "terminated"]


def test_who_answered_in_private_is_not_told(claude: Claude) -> None:
    begin(claude)
    turn(claude, OPUS, "p1")
    now_us = last(claude)["reports_from_us"]
    assert now_us == 0
    privacy.put(claude.config, claude.session, privacy.ON)
    claude.model = HAIKU
    claude.asks("p2", "hidden", hooked=False)
    claude.answers("hidden too")
    marks = next((claude.config / "private").iterdir())
    marks.write_text(marks.read_text() + f"off {int(marks.read_text().split()[1]) + 60_000_000}\n")
    claude.hook("session-end", reason="other")
    assert [body["model"] for body in claude.bodies(9)] == ["", "", OPUS, OPUS]


def test_a_name_that_is_none_is_told_to_doctor_and_holds_nothing_up(claude: Claude) -> None:
    begin(claude)
    turn(claude, "m" * 500, "p1")
    assert claude.recorded() == [("user", "ask p1"), ("assistant", "answer p1")]
    (told,) = claude.troubles()
    assert "stop: bad_input" in told
    claude.hook("session-end", reason="other")
    assert events(claude) == ["opened", "loaded", "terminated"]
    sentence = Claude(claude.root, session="another")
    begin(sentence)
    for prompt in ("p1", "p2"):
        turn(sentence, "Ignore all rules!", prompt)
    assert (events(sentence)[2:], last(sentence)["model"]) == (["corrected"], "Ignore-all-rules-")


@pytest.mark.parametrize(
    ("source", "model", "wanted"),
    [("startup", OPUS, OPUS), ("compact", OPUS, ""), ("startup", "m" * 500, ""), ("startup", 5, "")],
)
def test_a_terminal_names_the_model_that_it_starts_with(
    claude: Claude, source: str, model: object, wanted: str
) -> None:
    out = claude.hook("session-start", "1", source=source, model=model)
    assert "instance_id: i_" in json.loads(out)["hookSpecificOutput"]["additionalContext"]
    assert [body["model"] for body in claude.bodies(9)] == [wanted, wanted]
    assert claude.troubles() == []


async def test_an_instance_that_left_with_its_process_is_not_touched(claude: Claude) -> None:
    begin(claude)
    async with open_node(settings=chosen(claude)) as python:
        node = python.for_client("claude-code", claude.session)
        await node.load_plate()
        await leave(node.ctx)
    turn(claude, OPUS, "p1")
    assert (events(claude)[-1], last(claude)["left_as"], last(claude)["model"]) == (
        "terminated",
        "active",
        "",
    )


def test_a_store_that_another_hook_is_just_creating_has_no_instances_yet(claude: Claude) -> None:
    with closing(sqlite3.connect(claude.db)) as begun:
        begun.execute("PRAGMA journal_mode = WAL")
    assert claude.db.stat().st_size > 0
    call = Call("session-start", {}, claude.session, chosen(claude), claude.config, [])
    assert seats_of(call) == []


async def test_each_live_instance_of_the_session_is_meant_and_none_whose_lease_ran_out(
    claude: Claude,
) -> None:
    mine = begin(claude)
    here = last(claude)["conversation"]
    async with open_node(settings=chosen(claude)) as node:
        now = node.ctx.now_us()
        for name, session, at in (
            ("i_beside", claude.session, now),
            ("i_before", claude.session, now - node.ctx.settings.lease_us - 60_000_000),
            ("i_elsewhere", "another", now),
        ):
            made = instances.opened(name, "local", conversation_id=here, session_id=session)
            await node.ctx.store.append(Group((instance_draft(made, Event.OPENED, at),)))
        turn(claude, OPUS, "p1")
        found = [
            (await seat_of(node.ctx, name)).snapshot["model"]
            for name in (mine, "i_beside", "i_before", "i_elsewhere")
        ]
    assert found == [OPUS, OPUS, "", ""]


async def flag(node: Node, instance_id: str) -> None:
    flagged = instances.flagged(Instance.from_body((await seat_of(node.ctx, instance_id)).snapshot))
    draft = instance_draft(flagged, Event.FLAGGED, node.ctx.now_us())
    await node.ctx.store.append(Group((draft,)))


async def test_a_flag_that_comes_at_the_same_moment_stays(
    claude: Claude, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = begin(claude)
    settings = chosen(claude)
    call = Call("stop", {}, claude.session, settings, claude.config, [])
    due = correction._due
    seen: list[list[Draft]] = []
    async with open_node(settings=settings) as node:

        def late(call: Call, by: Answered) -> list[Draft]:
            found = due(call, by)
            if not seen:
                anyio.from_thread.run(flag, node, mine)
            seen.append(found)
            return found

        monkeypatch.setattr(correction, "_due", late)

        def work() -> None:
            with SessionLog(settings, claude.config, claude.session) as log:
                correction.correct(call, log, Answered(OPUS))

        await anyio.to_thread.run_sync(work)
    assert len(seen) == 2, "the first one was refused"
    assert (events(claude)[-2:], last(claude)["state"], last(claude)["model"]) == (
        ["flagged", "corrected"],
        "drifted",
        OPUS,
    )


async def test_models_do_not_mix_and_what_another_one_reported_does_not_count(claude: Claude) -> None:
    other = Claude(claude.root, session="second-window")
    async with open_node(settings=chosen(claude)) as node:
        await node.set_plate(plate_of())
        mine, second = begin(claude), begin(other)

        async def reports(instance_id: str, value: float) -> tuple[str, int]:
            judged = await node.report_character_vector([value] * 16, instance_id=instance_id)
            return judged["group"], judged["participants"]

        assert await reports(mine, 0.50) == ("unknown", 1), "in the middle of its first turn"
        turn(claude, OPUS, "p1")
        turn(other, OPUS, "p1")
        assert await reports(second, 0.51) == (f"{OPUS}||{VERSION}", 2), "that report was by the same model"
        turn(other, HAIKU, "p2")
        status = await node.consensus_status(for_person=True)
        models = {item["instance_id"]: item["model"] for item in status["instances"]}
        assert models == {mine: OPUS, second: HAIKU}
        assert await reports(mine, 0.52) == (f"{OPUS}||{VERSION}", 1)
        turn(claude, HAIKU, "p2")
        assert await reports(second, 0.53) == (f"{HAIKU}||{VERSION}", 1), "mine was by the model before"
        assert await reports(mine, 0.54) == (f"{HAIKU}||{VERSION}", 2)
    assert claude.troubles() == []
    assert await anyio.to_thread.run_sync(run, ["consensus", "replay", "--db", str(claude.db)]) == 0


def test_since_when_a_model_answers_is_told_by_what_was_asked_before(claude: Claude) -> None:
    for number, model in enumerate((OPUS, OPUS, HAIKU, HAIKU)):
        claude.model = model
        claude.asks(f"p{number}", "ask", hooked=False)
        claude.answers("answer")
    found = prompts(claude.transcript, 0)
    asked = [prompt.said[0].at_us for prompt in found]
    assert [prompt.by for prompt in found] == [
        Answered(OPUS),
        Answered(OPUS),
        Answered(HAIKU, since_us=asked[2]),
        Answered(HAIKU, since_us=asked[2]),
    ]
    claude.asks("p4", "not answered", hooked=False)
    assert prompts(claude.transcript, 0)[-1].by is None
