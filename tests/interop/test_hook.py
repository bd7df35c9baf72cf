"""The hooks, called as Claude Code calls them, each in a process of its own."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from ccn_mcp.app import open_node
from ccn_mcp.cli.main import run
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.masking import MARK
from ccn_mcp.domain.models import Draft
from ccn_mcp.domain.plate import parse_plate, render_plate
from ccn_mcp.node.plates import set_plate
from ccn_mcp.settings import Settings
from ccn_mcp.store.lock import Turnstile
from ccn_mcp.store.sqlite.connect import connect
from tests.interop.hooks import Claude
from tests.interop.importing import imported

pytestmark = pytest.mark.anyio


@pytest.fixture
def claude(tmp_path: Path) -> Claude:
    return Claude(tmp_path)


def verified(claude: Claude) -> bool:
    return run(["verify", "--db", str(claude.db)]) == 0


def test_both_sides_are_recorded_with_text_before_a_tool_and_a_blocked_stop(claude: Claude) -> None:
    claude.start()
    claude.asks("p1", "Hello “there” $HOME\r\nünï 🎉\n")
    claude.answers("Before the tool.")
    claude.uses_tool("p1")
    claude.stops("p1", "After the tool.")
    claude.answers("After the tool.")
    claude.line("user", "Stop hook feedback:\nsay more", promptId="p1", isMeta=True)
    claude.stops("p1", "More, since blocked.", active=True)
    claude.answers("More, since blocked.")
    claude.asks("p2", "Thanks.")
    claude.stops("p2", "Done.")
    claude.answers("Done.")
    wanted = [
        ("user", "Hello “there” $HOME\r\nünï 🎉\n"),
        ("assistant", "Before the tool."),
        ("assistant", "After the tool."),
        ("assistant", "More, since blocked."),
        ("user", "Thanks."),
        ("assistant", "Done."),
    ]
    assert claude.recorded() == wanted
    claude.stops("p2", "Done.")
    claude.hook("session-end", reason="other")
    claude.start("resume")
    assert claude.recorded() == wanted, "reading it all again adds nothing"
    assert claude.troubles() == []
    assert verified(claude)
    assert {body["source"] for body in claude.bodies()} == {"hook"}


def test_equal_texts_are_each_recorded(claude: Claude) -> None:
    claude.start()
    for prompt in ("p1", "p2"):
        claude.asks(prompt, "go on")
        claude.answers("Done.")
        claude.uses_tool(prompt)
        claude.stops(prompt, "Done.")
        claude.answers("Done.")
    assert claude.recorded() == [("user", "go on"), ("assistant", "Done."), ("assistant", "Done.")] * 2


def test_a_transcript_that_is_ahead_of_the_hook_says_nothing_twice(claude: Claude) -> None:
    claude.asks("p1", "tell me")
    claude.answers("Too short.")
    claude.line("user", "Stop hook feedback:\nsay more", promptId="p1", isMeta=True)
    claude.stops("p1", "Too short.")
    claude.stops("p1", "Now more.", active=True)
    claude.answers("Now more.")
    claude.hook("session-end")
    assert claude.recorded() == [("user", "tell me"), ("assistant", "Too short."), ("assistant", "Now more.")]


def test_a_command_is_recorded_as_it_was_typed_and_once(claude: Claude) -> None:
    claude.hook("user-prompt-submit", prompt_id="p1", prompt="/ccn:status please")
    claude.line(
        "user", "<command-name>/ccn:status</command-name>\n<command-args>please</command-args>", promptId="p1"
    )
    claude.stops("p1", "All is well.")
    assert claude.recorded() == [("user", "/ccn:status please"), ("assistant", "All is well.")]


def test_turns_that_no_hook_saw_come_in_at_the_next_start(claude: Claude, tmp_path: Path) -> None:
    claude.start()
    claude.asks("p1", "first")
    claude.answers("interrupted here")  # no Stop
    claude.asks("p2", "second", hooked=False)  # the hook was killed
    claude.line("assistant", [{"type": "text", "text": "API Error: 529"}], isApiErrorMessage=True)
    claude.line("user", "<local-command-stdout>x</local-command-stdout>", promptId="p3")
    claude.line("user", "[Request interrupted by user]", promptId="p4")
    claude.line("user", "<command-name>/x</command-name>\n<command-args>y</command-args>", promptId="p5")
    claude.line("assistant", [{"type": "text", "text": "of a helper"}], isSidechain=True)
    with claude.transcript.open("a") as out:
        out.write('{"type": "user", "half')
    other = Claude(tmp_path, session="another")
    other.start()
    wanted = [("user", "first"), ("assistant", "interrupted here"), ("user", "second"), ("user", "/x y")]
    assert claude.recorded() == wanted
    assert [bool(body.get("at")) for body in claude.bodies()] == [False, True, True, True]
    claude.start("resume")
    assert claude.recorded() == wanted
    unknown = Claude(tmp_path, session="before-the-plugin")
    unknown.ahead_s = -100_000
    unknown.asks("p9", "never hooked", hooked=False)
    other.start("compact")
    assert unknown.recorded() == [], "what was said before the plugin was there is for the import"
    unknown.ahead_s = 0
    unknown.asks("p10", "hooks were off", hooked=False)
    unknown.answers("and it was answered")
    other.start("compact")
    other.start("compact")
    assert unknown.recorded() == [("user", "hooks were off"), ("assistant", "and it was answered")]


async def test_the_model_records_too_and_nothing_is_there_twice(claude: Claude) -> None:
    chosen = Settings(db=claude.db, config_dir=claude.config, scope=str(claude.work), hooks=True)
    async with open_node(settings=chosen) as python:
        node = python.for_client("claude-code", claude.session)
        tool = type(node)(node.ctx, type(node.caller)("local", "tool", "claude-code", claude.session))
        claude.asks("p1", "a question")
        told = await tool.record_message("user", "a question")
        assert told["already_recorded"]
        assert (told["seq"], told["n"]) == (2, 1)
        first = await tool.record_message("assistant", "an answer")
        assert not first["already_recorded"]
        claude.stops("p1", "an answer")
        claude.answers("an answer")
        claude.stops("p1", "an answer")
        assert claude.recorded() == [("user", "a question"), ("assistant", "an answer")]
        claude.asks("p2", "the same again")
        claude.stops("p2", "an answer")
        assert (await tool.record_message("assistant", "an answer"))["already_recorded"]
        assert claude.recorded()[2:] == [("user", "the same again"), ("assistant", "an answer")]
        assert (await tool.record_message("assistant", "something else"))["n"] == 5


async def test_what_was_imported_first_is_not_recorded_again(claude: Claude) -> None:
    claude.start()
    claude.asks("p1", "asked with a hook")
    fields = {"sessionId": claude.session, "cwd": str(claude.work)}
    claude.answers("answered, no Stop", uuid="u-1", **fields)
    claude.asks("p2", "asked without", hooked=False, uuid="u-2", parentUuid="u-1", **fields)
    claude.answers("answered without", uuid="u-3", parentUuid="u-2", **fields)
    chosen = Settings(db=claude.db, config_dir=claude.config, scope=str(claude.work))
    async with open_node(settings=chosen) as node:
        assert (await imported(node, claude.transcript.read_text()))["imported"] >= 3
    before = claude.recorded()
    assert set(before) == {
        ("user", "asked with a hook"),
        ("assistant", "answered, no Stop"),
        ("user", "asked without"),
        ("assistant", "answered without"),
    }
    claude.start("resume")
    claude.stops("p2", "answered without")
    assert claude.recorded() == before
    assert not claude.troubles()


def test_the_plate_comes_at_the_start_after_a_compaction_and_not_again_on_resume(claude: Claude) -> None:
    first = claude.start()
    assert "Starter Plate" in first
    assert "a hook of the client records this session" in first
    claude.asks("p1", "remember the herons")
    claude.stops("p1", "seventeen herons")
    claude.answers("seventeen herons")
    resumed = claude.start("resume")
    assert "Starter Plate" not in resumed
    assert "instance_id: i_" in resumed
    compacted = claude.start("compact")
    assert "Starter Plate" in compacted
    assert "seventeen herons" in compacted
    second = Claude(claude.root, session="second-window")
    assert "seventeen herons" in second.start(), "a second window of the folder sees what the first one said"
    elsewhere = Claude(claude.root, session="elsewhere")
    said = elsewhere.hook(
        "session-start", "1", source="startup", environment={"CLAUDE_PROJECT_DIR": "/other"}
    )
    assert "herons" not in said, "another project's record stays there"


async def test_a_long_plate_is_split_and_every_part_fits(claude: Claude) -> None:
    lines = [f"Rule {number}: be exact about the number {number * 7}." for number in range(360)]
    plate = parse_plate(("---\nname: Long\nversion: '3'\n---\n# Long\n\n" + "\n".join(lines) + "\n").encode())
    async with open_node(claude.db, config_dir=claude.config) as node:
        await set_plate(node.ctx, node.caller, plate)
    # They run at once; here the others come after the first one, which has opened the instance.
    parts = [claude.start(part=part) for part in ("1", "2", "3")]
    assert all(0 < len(part) <= 9_900 for part in parts)
    assert "instance_id: i_" in parts[0]
    assert "Rule 5:" not in parts[0]
    pieces = [part.split("\n\n", 1)[1] for part in parts[1:]]
    assert "".join(pieces).count("Rule ") == 360
    assert pieces[0].endswith(".\n"), "between two lines"
    assert "".join(pieces).rstrip() == render_plate(plate).rstrip()
    claude.asks("p1", "a question")
    assert [claude.start("resume", part) for part in ("2", "3")] == ["", ""]


def test_the_end_of_a_session_ends_its_instance(claude: Claude) -> None:
    claude.start()
    claude.hook("session-end", reason="other")
    assert [body["event"] for body in claude.bodies(9)] == ["opened", "loaded", "terminated"]
    claude.start("resume")
    assert [body["state"] for body in claude.bodies(9)[-2:]] == ["spawning", "active"]


def test_secrets_and_characters_that_cannot_be_stored_are_marked(claude: Claude) -> None:
    secret = "ghp" + "_" + "Ab3dEf6hIj9kLm2nOp5q" * 2
    claude.asks("p1", f"use {secret}\x00")
    stop = {"session_id": claude.session, "cwd": str(claude.work), "prompt_id": "p1"}
    answer = json.dumps(stop)[:-1] + ', "last_assistant_message": "half \\ud83d and ' + secret + '"}'
    claude.run("stop", stdin=answer.encode())
    mark = MARK.format(kind="github", n=1)
    assert claude.recorded() == [("user", f"use {mark}\ufffd"), ("assistant", f"half \ufffd and {mark}")]
    assert all((body["masked"], body["replaced"]) == ({"github": 1}, 1) for body in claude.bodies())
    assert secret.encode() not in claude.db.read_bytes()


@pytest.mark.parametrize(
    ("wanted", "text"), [("off", None), ("names", "Bash"), ("full", 'Bash\n{"command": "ls"}\n"out"')]
)
def test_tools_are_recorded_as_the_person_wants(claude: Claude, wanted: str, text: str | None) -> None:
    claude.hook(
        "post-tool-use",
        environment={"CCN_RECORD_TOOLS": wanted},
        prompt_id="p1",
        tool_name="Bash",
        tool_input={"command": "ls"},
        tool_response="out",
        tool_use_id="toolu_1",
    )
    assert claude.recorded() == ([("tool", text)] if text is not None else [])


def test_what_was_said_in_private_never_comes_in(claude: Claude) -> None:
    claude.start()
    claude.asks("p1", "open")
    claude.stops("p1", "open answer")
    claude.answers("open answer")
    session = {"CLAUDE_CODE_SESSION_ID": claude.session}
    assert "nothing of this session is recorded" in claude.run("private", "on", stdin=b"", **session)
    claude.ahead_s = 0
    claude.asks("p2", "hidden")
    claude.stops("p2", "hidden answer")
    claude.answers("hidden answer")
    assert claude.hook("statusline") == "not recorded (private)\n"
    # Everything of that prompt is over before recording goes on.
    marks = next((claude.config / "private").iterdir())
    marks.write_text(marks.read_text() + f"off {int(marks.read_text().split()[1]) + 60_000_000}\n")
    claude.ahead_s = 120
    claude.asks("p3", "open again")
    claude.stops("p3", "yes")
    assert claude.start("resume")
    assert [text for _, text in claude.recorded()] == ["open", "open answer", "open again", "yes"]


@pytest.mark.parametrize("variable", ["CCN_PRIVATE", "CCN_EXCLUDE"])
def test_an_excluded_folder_and_a_private_shell_record_and_inject_nothing(
    claude: Claude, variable: str
) -> None:
    off = {variable: "1" if variable == "CCN_PRIVATE" else str(claude.work)}
    assert claude.hook("session-start", "1", source="startup", environment=off) == ""
    claude.hook("user-prompt-submit", prompt_id="p1", prompt="x", environment=off)
    claude.hook("stop", prompt_id="p1", last_assistant_message="y", environment=off)
    claude.hook("session-end", environment=off)
    assert not claude.db.exists()


@pytest.mark.parametrize(
    "stdin", [b"", b"{", b"[]", b'{"session_id": 5}', b'{"session_id": "s", "prompt": 7}', b"\xff"]
)
@pytest.mark.parametrize("event", ["user-prompt-submit", "stop", "session-end", "post-tool-use"])
def test_a_hook_never_fails_whatever_it_is_given(claude: Claude, event: str, stdin: bytes) -> None:
    claude.run(event, stdin=stdin)
    assert not claude.db.exists() or claude.recorded("s") == []


def test_an_event_of_a_newer_plugin_is_no_veto(claude: Claude) -> None:
    claude.run("of-the-future", stdin=b"{}", complains="usage: ccn-mcp hook")
    assert ["update the plugin" in line for line in claude.troubles()] == [True]


def test_a_store_that_is_locked_is_told_to_doctor_and_made_up_for(claude: Claude) -> None:
    claude.start()
    with Turnstile(claude.db):
        claude.asks("p1", "meanwhile")
    assert claude.recorded() == []
    (told,) = claude.troubles()
    assert "user-prompt-submit: store_busy" in told
    claude.stops("p1", "an answer")
    assert claude.recorded() == [("user", "meanwhile"), ("assistant", "an answer")]


def test_the_troubles_kept_are_bounded_and_quote_no_message(claude: Claude) -> None:
    claude.db.write_bytes(b"not a database, but long enough to be looked at " * 40)
    for number in range(3):
        claude.asks("p1", f"precious words {number}")
    found = claude.troubles()
    assert len(found) == 3
    assert "precious" not in "".join(found)
    assert all("store_" in line for line in found)


def test_the_status_line_says_what_is_recorded_and_whether_it_holds(claude: Claude) -> None:
    assert claude.hook("statusline") == "recorded 0\n"
    claude.asks("p1", "one")
    claude.stops("p1", "two")
    assert claude.hook("statusline") == "recorded 2, chain ok\n"
    with closing(connect(claude.db)) as store:
        store.execute("DROP TRIGGER entry_unchanged")
        store.execute(
            "UPDATE entry SET body = CAST(replace(CAST(body AS TEXT), 'two', 'too') AS BLOB) WHERE seq = 3"
        )
    assert claude.hook("statusline") == "recorded 2, chain BROKEN, run: ccn-mcp verify\n"


def test_the_status_line_sees_a_time_that_was_changed(claude: Claude) -> None:
    claude.asks("p1", "one")
    with closing(connect(claude.db)) as store:
        store.execute("DROP TRIGGER entry_unchanged")
        store.execute("UPDATE entry SET time = time + 1 WHERE seq = 1")
    assert claude.hook("statusline").startswith("recorded 1, chain BROKEN")


def test_a_message_longer_than_one_may_be_comes_in_parts(claude: Claude) -> None:
    claude.asks("p1", "ä" * 1_000_000)
    found = claude.bodies()
    assert "".join(body["text"] for body in found) == "ä" * 1_000_000
    assert [body["part"] for body in found] == [f"{number}/4" for number in range(1, 5)]


async def test_an_erased_message_does_not_come_back(claude: Claude) -> None:
    claude.start()
    claude.asks("p1", "to be forgotten")
    claude.stops("p1", "an answer")
    claude.answers("an answer")
    async with open_node(claude.db, config_dir=claude.config) as node:
        (hit,) = (await node.get_history(query="forgotten", scope=str(claude.work)))["hits"]
        redaction = Draft(Kind.REDACTION, node.ctx.now_us(), {"target": str(hit["seq"])})
        await node.ctx.store.erase((redaction,))
    claude.hook("user-prompt-submit", prompt_id="p1", prompt="to be forgotten")
    claude.stops("p1", "an answer")
    claude.start("resume")
    assert b"to be forgotten" not in claude.db.read_bytes()
    assert claude.troubles() == []


async def test_an_erased_conversation_stays_closed_and_the_session_goes_on_in_another(claude: Claude) -> None:
    claude.asks("p1", "before")
    async with open_node(claude.db, config_dir=claude.config) as node:
        drafts = [Draft(Kind.REDACTION, node.ctx.now_us(), {"target": str(seq)}) for seq in (1, 2)]
        await node.ctx.store.erase(drafts)
    claude.asks("p2", "after")
    claude.stops("p2", "yes")
    assert claude.recorded() == [("user", "after"), ("assistant", "yes")]
    assert claude.troubles() == []
