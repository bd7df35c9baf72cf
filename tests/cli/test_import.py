"""`ccn-mcp import`: which files it takes, what it says, and what it needs for a hundred thousand messages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ccn_mcp.interop import privacy
from ccn_mcp.interop.transcripts import encoded
from tests.cli.conftest import Run, environment, on_store, process
from tests.cli.test_plate import at_a_terminal
from tests.interop.importing import SESSION, jsonl, line
from tests.interop.test_import_formats import TRANSCRIPT, TREE

MANY = 100_000
MANY_S_MAX = 600.0
PEAK_KIB_MAX = 120_000
"""The start alone takes some 40 MB; the files that are imported have 70 to 90."""


@pytest.fixture
def transcripts(tmp_path: Path) -> Path:
    """Claude Code's folder with two sessions of one project and one of another."""
    folder = tmp_path / "home" / ".claude" / "projects"
    boat, other = folder / encoded("/home/ann/boat"), folder / encoded("/home/ann/shed")
    for place in (boat, other):
        place.mkdir(parents=True)
    (boat / f"{SESSION}.jsonl").write_text(TRANSCRIPT)
    (boat / "two.jsonl").write_text(jsonl(line("user", "in two", 1, sessionId="two")))
    (other / "three.jsonl").write_text(
        jsonl(line("user", "in three", 1, sessionId="three", cwd="/home/ann/shed"))
    )
    (other / "notes.md").write_text("none of ours")
    return folder


def counted(ran_out: str) -> tuple[int, int, int]:
    done = json.loads(ran_out)
    return done["files"], done["imported"], done["already_there"]


def test_everything_that_claude_code_keeps_comes_in_at_once(cli: Run, db: Path, transcripts: Path) -> None:
    dry = cli("import", "--claude-code", "--dry-run", "--db", str(db), "--json")
    assert counted(dry.out) == (3, 7, 0)
    assert not db.exists()
    assert counted(cli("import", "--claude-code", "--db", str(db), "--json").out) == (3, 7, 0)
    assert counted(cli("import", str(transcripts), "--db", str(db), "--json").out) == (3, 0, 7)
    listed = json.loads(cli("scopes", "--db", str(db), "--json").out)
    assert {item["scope"] for item in listed["scopes"]} == {"/home/ann/boat", "/home/ann/shed"}


def test_a_project_or_a_session_alone(cli: Run, db: Path, transcripts: Path) -> None:
    assert counted(cli("import", "/home/ann/shed", "--db", str(db), "--json").out) == (1, 1, 0)
    one = transcripts / encoded("/home/ann/boat") / "two.jsonl"
    assert counted(cli("import", str(one), "--db", str(db), "--json").out) == (1, 1, 0)
    assert counted(cli("import", str(one.parent), "--db", str(db), "--json").out) == (2, 5, 1)


def test_the_folder_that_claude_config_dir_names(
    cli: Run, db: Path, transcripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "elsewhere"))
    ran = cli("import", "--claude-code", "--db", str(db))
    assert (ran.status, str(tmp_path / "elsewhere") in ran.out) == (0, True)
    assert "kept no transcripts here" in ran.out
    transcripts.parent.rename(tmp_path / "elsewhere")
    assert cli("import", "--claude-code", "--db", str(db)).status == 0


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["import", "dry"])
def test_where_claude_code_has_kept_nothing_there_is_nothing_to_import(
    cli: Run, db: Path, tmp_path: Path, there: bool, more: list[str]
) -> None:
    if there:
        (tmp_path / "home" / ".claude" / "projects").mkdir(parents=True)
    ran = cli("import", "--claude-code", *more, "--db", str(db))
    assert (ran.status, ran.err) == (0, "")
    said = " ".join(ran.out.split())
    assert said.startswith("Claude Code has kept no transcripts here")
    assert said.endswith("nothing to import.")
    assert counted(cli("import", "--claude-code", *more, "--db", str(db), "--json").out) == (0, 0, 0)
    assert not db.exists()


def test_an_export_as_zip_folder_or_file(cli: Run, db: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "conversations.json").write_text(json.dumps(TREE))
    (folder / "users.json").write_text("[]")
    packed = tmp_path / "export.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.write(folder / "conversations.json", "data/conversations.json")
    assert counted(cli("import", str(packed), "--db", str(db), "--json").out) == (1, 4, 0)
    assert counted(cli("import", str(folder), "--db", str(db), "--json").out) == (1, 0, 4)
    said = cli("import", str(folder / "conversations.json"), "--db", str(db)).out
    assert "Imported 0 messages" in said
    assert "Already there: 4 messages" in said


def test_the_report_counts_what_was_left_out_and_why(cli: Run, db: Path, transcripts: Path) -> None:
    ran = cli("import", "/home/ann/boat", "--db", str(db))
    assert ran.status == 0
    assert "Imported 6 messages in 2 conversations from 2 files." in ran.out
    assert "1 tool result (first:" in ran.out
    assert "1 unknown block: hologram" in ran.out
    assert re.search(r"Head +\d+:[0-9a-f]{32}", ran.out)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "--claude-code"),
        (["nothing-here"], 3, "check the path"),
        (["{tmp}"], 3, "nothing to import"),
        (["{tmp}/bad.txt"], 2, "formats that can be imported"),
        (["{tmp}/bad.txt", "--format", "odd"], 2, "use one of: claude-code"),
        (["a\0b"], 3, "check the path"),
    ],
    ids=["none", "missing", "empty", "unknown", "format", "nul"],
)
def test_mistakes_are_said_in_words(
    cli: Run, db: Path, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    if any("bad" in one for one in arguments):
        (folder / "bad.txt").write_text("hello")
    ran = cli("import", "--db", str(db), *(one.replace("{tmp}", str(folder)) for one in arguments))
    assert (ran.status, ran.out) == (status, "")
    assert words in ran.err
    assert not db.exists()


def test_one_bad_file_of_many_does_not_stop_the_others(cli: Run, db: Path, transcripts: Path) -> None:
    (transcripts / encoded("/home/ann/shed") / "bad.jsonl").write_text("hello")
    ran = cli("import", "/home/ann/shed", "--db", str(db), "--json")
    assert counted(ran.out) == (2, 1, 0)
    assert json.loads(ran.out)["skipped"] == {"a file that cannot be imported (bad_input)": 1}


def test_what_the_person_keeps_out_stays_out(
    cli: Run, db: Path, transcripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    monkeypatch.setenv("CCN_CONFIG_DIR", str(config))
    monkeypatch.setenv("CCN_EXCLUDE", "/home/ann/shed")
    privacy.put(config, "two", privacy.ON)  # from now on, and what was said has a time before that
    privacy.put(config, "four", privacy.ON)
    later = line("user", "in private", 1, sessionId="four", timestamp="2200-01-01T00:00:00Z")
    (transcripts / encoded("/home/ann/boat") / "four.jsonl").write_text(jsonl(later))
    done = json.loads(cli("import", "--claude-code", "--db", str(db), "--json").out)
    assert done["imported"] == 6
    assert done["skipped"]["from a folder that you have excluded"] == 1
    assert done["skipped"]["said in private"] == 1


def test_a_hostile_folder_name_is_only_a_name(
    cli: Run, db: Path, transcripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCN_EXCLUDE", "/home/ann/shed")
    odd = ["\ud800" * 300, "a\0b", "/" + "x" * 5_000, "../..", "/home/ann/boat/../shed"]
    file = transcripts / "odd.jsonl"
    file.write_text(
        jsonl(*(line("user", "x", n, sessionId=f"odd-{n}", cwd=one) for n, one in enumerate(odd)))
    )
    done = json.loads(cli("import", str(file), "--db", str(db), "--json").out)
    assert done["imported"] == len(odd) - 1
    assert done["skipped"] == {"from a folder that you have excluded": 1}
    assert cli("verify", "--deep", "--db", str(db)).status == 0


def test_scope_and_tools(cli: Run, db: Path, transcripts: Path) -> None:
    assert (
        cli("import", "/home/ann/boat", "--scope", "mine", "--tools", "--thinking", "--db", str(db)).status
        == 0
    )
    found = json.loads(cli("history", "--scope", "mine", "--db", str(db), "--json").out)
    assert len(found["conversations"]) == 2
    assert "Bash: ls -l" in cli("history", "--search", "Bash", "--role", "tool", "--db", str(db)).out


def test_a_round_trip_through_a_file(cli: Run, db: Path, transcripts: Path, tmp_path: Path) -> None:
    cli("import", "--claude-code", "--db", str(db))
    file, new = tmp_path / "record.jsonl", tmp_path / "new.db"
    assert cli("export", "--db", str(db), "--output", str(file)).status == 0
    assert counted(cli("import", str(file), "--db", str(new), "--json").out) == (1, 7, 0)
    assert cli("verify", "--deep", "--db", str(new)).status == 0
    assert cli("import", str(file), "--db", str(new)).out.startswith("Imported 0 messages")


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_the_bar_is_drawn_on_a_terminal_only(db: Path, transcripts: Path) -> None:
    status, screen = at_a_terminal("import", "--claude-code", "--db", str(db), "--json", typed="")
    assert status == 0
    assert "Importing" in screen
    ran = process("import", "--claude-code", "--db", str(db), "--json")
    assert (ran.returncode, ran.stderr) == (0, "")


# ---- a hundred thousand --------------------------------------------------------------------------------

PEAK = """
import re, sys
from ccn_mcp.cli.main import run
status = run(sys.argv[1:])
print(re.search(r"VmHWM:\\s+([0-9]+) kB", open("/proc/self/status").read())[1])
sys.exit(status)
"""


def measured(db: Path, file: Path) -> tuple[dict[str, int], int]:
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, "import", str(file), "--db", str(db), "--json"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=MANY_S_MAX,
        check=True,
    )
    document, _, peak = ran.stdout.strip().rpartition("\n")
    return json.loads(document), int(peak)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's count of memory")
@pytest.mark.parametrize("shape", ["transcript", "array", "export"])
def test_a_hundred_thousand_messages_in_bounded_memory(db: Path, tmp_path: Path, shape: str) -> None:
    file = tmp_path / "many.json"
    text = "a word of what was said, again and again, " * 16
    with file.open("w", encoding="utf-8") as target:
        if shape == "transcript":
            for number in range(MANY):
                target.write(jsonl(line("user", f"{number} {text}", number, uuid=f"u-{number}")))
        elif shape == "array":
            for number in range(MANY):
                one = {"role": "user", "content": f"{number} {text}"}
                target.write(f"{',' if number else '['}{json.dumps(one)}")
            target.write("]")
        else:
            for number in range(MANY // 100):
                said = [
                    {
                        "uuid": f"{number}-{n}",
                        "sender": "human",
                        "content": [{"type": "text", "text": f"{n} {text}"}],
                    }
                    for n in range(100)
                ]
                chat = {"uuid": f"c-{number}", "name": "", "chat_messages": said}
                target.write(f"{',' if number else '['}{json.dumps(chat)}")
            target.write("]")
    assert file.stat().st_size > 60_000_000
    done, peak = measured(db, file)
    assert done["imported"] == MANY
    assert peak < PEAK_KIB_MAX, f"{peak:,} KiB for a file of {file.stat().st_size:,} bytes"
    info = on_store(db, lambda node: node.ctx.store.info())
    assert info.head.size > MANY
    done, peak = measured(db, file)
    assert (done["imported"], done["already_there"]) == (0, MANY)
    assert peak < PEAK_KIB_MAX
