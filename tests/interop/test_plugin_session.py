"""More of a session's life in real Claude Code with the plugin: compaction, private mode, commands, what was before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from ccn_mcp.app import open_node
from ccn_mcp.domain.plate import parse_plate
from ccn_mcp.node.plates import set_plate
from tests.claude.stub import Answer, Reply, Request, Stub, Text, ToolUse, text_of
from tests.clients.npm import LINUX_ONLY
from tests.interop.real_claude import BASH, GIVEN, Home, Talk, all_of, in_turn, reach

pytestmark = [pytest.mark.slow, LINUX_ONLY]
RECORD = "mcp__plugin_ccn_ccn__record_message"
HIDDEN = "A hidden word."
OPEN = "And open again."


def test_an_answer_of_many_blocks_is_there_byte_for_byte_and_an_import_adds_nothing(home: Home) -> None:
    first = Reply(Text("Block A.\n"), Text("Block B."), BASH)
    with Stub(in_turn(first, Reply(Text("C one."), Text("C one."), Text("  C three\n\n")))) as stub:
        session = home.says(stub, "Say it in pieces.\n\n")
    said = [
        ("user", "Say it in pieces.\n\n"),
        ("assistant", "Block A.\n"),
        ("assistant", "Block B."),
        ("assistant", "C one."),
        ("assistant", "C one."),
        ("assistant", "  C three\n\n"),
    ]
    assert home.record.recorded(session) == said, "Stop names the last block without its blanks"
    told = json.loads(home.ccn("import", "--claude-code", "--json"))
    assert (told["imported"], told["already_there"]) == (0, len(said))
    with Stub(in_turn(Reply(Text("\n  Yes.\n")))) as stub:
        home.says(stub, "Still there?", "--resume", session)
    assert home.record.recorded(session) == [*said, ("user", "Still there?"), ("assistant", "\n  Yes.\n")]
    assert json.loads(home.ccn("import", "--claude-code", "--json"))["imported"] == 0
    assert home.troubles == []


def test_what_was_imported_is_not_recorded_again_by_a_later_hook(home: Home) -> None:
    with Stub(in_turn(Reply(Text("First."), BASH), Reply(Text(" Second. ")))) as stub:
        session = home.says(stub, "Without hooks.", "--setting-sources", "")
    assert home.record.recorded(session) == [], "no plugin, no hooks"
    assert json.loads(home.ccn("import", "--claude-code", "--json"))["imported"] == 3
    said = [("user", "Without hooks."), ("assistant", "First."), ("assistant", " Second. ")]
    with Stub(in_turn(Reply(Text("Third.")))) as stub:
        home.says(stub, "With hooks.", "--resume", session)
    assert home.record.recorded(session) == [*said, ("user", "With hooks."), ("assistant", "Third.")]


@pytest.mark.parametrize("character", ["quiet", "off"])
def test_a_compaction_is_recorded_and_the_instance_is_asked_to_report(home: Home, character: str) -> None:
    told = {"CCN_CHARACTER": character}
    with Stub(lambda _: Reply(Text("The marker is seventeen herons."))) as stub:
        session = home.says(stub, "Say the marker.", ok=True, **told)
        home.says(stub, "/compact", "--resume", session, ok=True, **told)
        home.says(stub, "And now?", "--resume", session, ok=True, **told)
    last = all_of(stub.turns[-1])
    assert last.count("=== begin Plate ") == 1
    assert ("Compaction: a summary has taken the place" in last) == (character == "quiet")
    events = [body["event"] for body in home.record.bodies(9, session)]
    assert events.count("compacted") == 1
    assert events[events.index("compacted") + 1] == "loaded", "of the instance that gets the Plate again"
    said = [text for _, text in home.record.recorded(session)]
    assert said == [
        "Say the marker.",
        "The marker is seventeen herons.",
        "/compact",
        "And now?",
        "The marker is seventeen herons.",
    ], "the summary is Claude Code's own"
    assert json.loads(home.ccn("import", "--claude-code", "--json"))["imported"] == 0
    assert home.troubles == []


def test_private_mode_binds_the_server_too(home: Home) -> None:
    refused: list[str] = []

    def model(request: Request) -> Answer:
        results, context = request.tool_results, all_of(request)
        name, asked = ("toolu_o", OPEN) if OPEN in context else ("toolu_r", HIDDEN)
        if asked not in context or (asked == HIDDEN and "session is recorded again" in context):
            return Reply(Text("So be it."))
        if "toolu_s" not in results:
            return Reply(ToolUse("toolu_s", "ToolSearch", {"query": f"select:{RECORD}"}))
        if name not in results:
            return Reply(ToolUse(name, RECORD, {"role": "user", "content": asked}))
        refused.append(text_of(results[name]))
        return Reply(Text("As you say."))

    with Stub(model) as stub:
        session = home.says(stub, "/ccn:private")
        home.says(stub, HIDDEN, "--resume", session)
        assert home.record.recorded(session) == [("user", "/ccn:private")]
        home.says(stub, "/ccn:record", "--resume", session)
        home.says(stub, OPEN, "--resume", session)
    assert refused[0].startswith(
        "private: the person has switched recording off for this session, so nothing"
    )
    assert "already_recorded" in refused[1]
    recorded = home.record.recorded(session)
    assert recorded[-2:] == [("user", OPEN), ("assistant", "As you say.")]
    assert not any("hidden" in text for _, text in recorded)
    assert json.loads(home.ccn("import", "--claude-code", "--json"))["imported"] == 0
    assert not any("hidden" in text for _, text in home.record.recorded(session)), "nor by an import"


COMMANDS: Mapping[str, str] = {
    "/ccn:status": "Entries ",
    "/ccn:search herons": "get_history tool of the ccn server",
    "/ccn:verify": "Level ",
    "/ccn:private": "nothing of this session is recorded",
    "/ccn:record": "this session is recorded again",
}


def test_the_slash_commands_reach_the_model_with_what_the_program_says(home: Home) -> None:
    with Stub(lambda _: Reply(Text("Told."))) as stub:
        home.says(stub, "Seventeen herons.")
        for command, words in COMMANDS.items():
            before = len(stub.turns)
            session = home.says(stub, command)
            assert words in all_of(stub.turns[before]), command
            private = command == "/ccn:private"
            answer = [] if private else [("assistant", "Told.")]
            assert home.record.recorded(session) == [("user", command), *answer]
    assert home.troubles == []


def test_what_was_there_before_is_offered_once_and_what_is_new_comes_in(home: Home) -> None:
    bare = ("--setting-sources", "")
    with Stub(lambda _: Reply(Text("Noted."))) as stub:
        before = home.says(stub, "Before the plugin.", *bare)
        lines = home.run("-p", "With it.", *GIVEN, ok=True, **reach(stub)).splitlines()
        offers = [line for line in lines if "ccn-mcp import --claude-code" in line]
        assert "1 session of Claude Code on this machine is not in the record" in offers[0]
        assert "ccn-mcp import" not in all_of(stub.turns[-1]), "it is said to the person"
        unseen = home.says(stub, "Hooks were off.", *bare)
        assert "2 sessions of Claude Code are not in the record" in home.ccn("doctor", ok=False)
        again = home.run("-p", "Once more.", *GIVEN, ok=True, **reach(stub))
        assert "ccn-mcp import" not in again, "once"
    assert home.record.recorded(unseen) == [("user", "Hooks were off."), ("assistant", "Noted.")]
    assert home.record.recorded(before) == [], "that is for the person to decide"
    assert json.loads(home.ccn("import", "--claude-code", "--json"))["imported"] == 2
    assert home.record.recorded(before) == [("user", "Before the plugin."), ("assistant", "Noted.")]
    assert "sessions are in the record" in home.ccn("doctor", ok=False)


def test_the_status_line_counts_this_session(home: Home) -> None:
    with Stub(lambda _: Reply(Text("Noted."))) as stub:
        session = home.says(stub, "One.")
        home.says(stub, "Two.", "--resume", session)
    given = json.dumps({"session_id": session, "cwd": str(home.work)})
    assert home.ccn("hook", "statusline", stdin=given) == "recorded 4, chain ok\n"


def test_a_fork_records_its_own_words_and_not_again_those_that_it_was_copied_from(home: Home) -> None:
    with Stub(in_turn(Reply(Text("Noted.")), Reply(Text("Noted."), BASH), Reply(Text("On.")))) as stub:
        first = home.says(stub, "Original words.")
        fork = home.says(stub, "Forked words.", "--resume", first, "--fork-session")
    assert home.record.recorded(first) == [("user", "Original words."), ("assistant", "Noted.")]
    said = [("user", "Forked words."), ("assistant", "Noted."), ("assistant", "On.")]
    assert home.record.recorded(fork) == said
    told = json.loads(home.ccn("import", "--claude-code", "--json"))
    assert told["imported"] == 0
    assert sum(number for reason, number in told["skipped"].items() if reason.startswith("copied from")) == 2
    assert home.record.recorded(fork) == said


def test_a_cleared_session_begins_anew_with_the_plate(home: Home) -> None:
    with Stub(lambda _: Reply(Text("Noted."))) as stub:
        talk = Talk(home, stub)
        talk.says("Before.")
        first = talk.turn_is_over()
        talk.says("/clear")
        talk.turn_is_over()
        talk.says("After.")
        second = talk.turn_is_over()
        talk.ends()
    assert first != second
    assert home.record.recorded(first) == [("user", "Before."), ("assistant", "Noted.")]
    assert home.record.recorded(second) == [("user", "After."), ("assistant", "Noted.")]
    assert all_of(stub.turns[-1]).count("=== begin Plate ") == 1
    assert home.record.bodies(9, first)[-1]["state"] == "terminated"


def test_a_second_window_sees_what_the_first_one_says_while_both_are_open(home: Home) -> None:
    with Stub(lambda _: Reply(Text("Seventeen herons."))) as stub:
        first = Talk(home, stub)
        first.says("How many?")
        one = first.turn_is_over()
        second = Talk(home, stub)
        second.says("What did the other one say?")
        two = second.turn_is_over()
        assert "Seventeen herons." in all_of(stub.turns[-1])
        first.says("Thanks.")
        first.turn_is_over()
        first.ends()
        second.ends()
    assert [text for _, text in home.record.recorded(one)][::2] == ["How many?", "Thanks."]
    assert [text for _, text in home.record.recorded(two)][::2] == ["What did the other one say?"]
    assert home.troubles == []


def test_a_plate_that_is_too_long_for_one_hook_arrives_whole(home: Home) -> None:
    rules = [f"Rule {number}: be exact about the number {number * 7}." for number in range(360)]
    plate = parse_plate(("---\nname: Long\nversion: '3'\n---\n# Long\n\n" + "\n".join(rules) + "\n").encode())
    config = home.root / ".config" / "ccn-mcp"

    async def put() -> None:
        async with open_node(home.record.db, config_dir=config) as node:
            await set_plate(node.ctx, node.caller, plate)

    anyio.run(put)
    with Stub(lambda _: Reply(Text("Read."))) as stub:
        home.says(stub, "Hello.")
    context = all_of(stub.turns[0])
    assert all(rule in context for rule in rules)


def test_tools_are_recorded_as_names_where_the_person_wants_that(home: Home, tmp_path: Path) -> None:
    hook = {"type": "command", "command": "ccn-mcp", "args": ["hook", "post-tool-use"]}
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"hooks": {"PostToolUse": [{"hooks": [hook]}]}}))
    wanted = {"CCN_RECORD_TOOLS": "names"}
    with Stub(in_turn(Reply(Text("Before."), BASH), Reply(Text("After.")))) as stub:
        session = home.says(stub, "Use it.", "--settings", str(settings), ok=True, **wanted)
    recorded = home.record.recorded(session)
    assert sorted(recorded) == sorted(
        [("user", "Use it."), ("assistant", "Before."), ("tool", "Bash"), ("assistant", "After.")]
    )


def test_an_excluded_folder_is_left_alone(home: Home) -> None:
    home.ccn("exclude", str(home.work))
    with Stub(lambda _: Reply(Text("Fine."))) as stub:
        session = home.says(stub, "Nothing of this.")
    assert "=== begin Plate " not in all_of(stub.turns[0])
    assert not home.record.db.exists() or home.record.recorded(session) == []


def test_a_damaged_store_is_doctors_affair_and_not_in_the_persons_way(home: Home) -> None:
    home.record.db.parent.mkdir(parents=True)
    home.record.db.write_bytes(b"not a database, but long enough to be looked at " * 40)
    with Stub(lambda _: Reply(Text("All the same."))) as stub:
        lines = home.run("-p", "Hello.", *GIVEN, ok=True, **reach(stub)).splitlines()
    results = [item for line in lines if (item := json.loads(line)).get("type") == "result"]
    assert [item["result"] for item in results] == ["All the same."]
    failed = [item for line in lines if (item := json.loads(line)).get("subtype") == "hook_response"]
    assert all((item["exit_code"], item["stderr"]) == (0, "") for item in failed)
    assert "a hook could not do its work" in home.ccn("doctor", ok=False)
