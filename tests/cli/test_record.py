"""status, verify, history and export on a store with something in it."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import HOSTILE, TEXTS, Run, Seeded


def tampered(store: Seeded) -> int:
    """Change a query column; returns the entry."""
    seq = store.seqs[0]
    with closing(sqlite3.connect(store.db)) as connection, connection:
        connection.execute("UPDATE record SET text = 'nineteen herons' WHERE seq = ?", (seq,))
    return seq


def test_status_of_a_store_that_does_not_exist(cli: Run, db: Path) -> None:
    ran = cli("status", "--db", str(db))
    assert ran.status == 0
    assert "no store" in ran.out
    assert "creates it" in ran.out.replace("\n", " ")
    found = json.loads(cli("status", "--db", str(db), "--json").out)
    assert (found["exists"], found["entries"], found["conversation_count"]) == (False, 0, 0)
    assert not db.parent.exists()


def test_status_at_a_glance(cli: Run, store: Seeded) -> None:
    ran = cli("status", "--db", str(store.db))
    assert ran.status == 0
    assert store.conversation in ran.out
    assert f"verify --known-head {store.head}" in ran.out
    assert "the starter" in ran.out
    found = json.loads(cli("status", "--db", str(store.db), "--json").out)
    assert found["plate_is_starter"] is True
    assert found["conversation_count"] == 1
    assert found["bytes"] >= store.db.stat().st_size


def test_verify_a_whole_record(cli: Run, store: Seeded) -> None:
    ran = cli("verify", "--db", str(store.db), "--known-head", store.head)
    assert ran.status == 0
    assert ran.out.startswith("ok\n")
    assert re.search("Level [1-4]: ", ran.out)
    assert "is in this record" in ran.out


def test_verify_names_the_first_fault_and_exits_6(cli: Run, store: Seeded) -> None:
    seq = tampered(store)
    ran = cli("verify", "--db", str(store.db))
    assert ran.status == 6
    assert re.search(rf"entry {seq}, recorded \d{{4}}-\d\d-\d\d", ran.out)
    ran = cli("verify", "--db", str(store.db), "--json")
    assert ran.status == 6
    assert json.loads(ran.out)["fault"]["seq"] == seq


def test_verify_with_a_head_of_another_record(cli: Run, store: Seeded) -> None:
    ran = cli("verify", "--db", str(store.db), "--known-head", "3:" + "0" * 32)
    assert ran.status == 6
    assert "is NOT in this record" in ran.out
    assert cli("verify", "--db", str(store.db), "--known-head", "soon").status == 2


def test_history_lists_reads_and_searches(cli: Run, store: Seeded) -> None:
    assert store.conversation in cli("history", "--db", str(store.db)).out
    page = cli("history", store.conversation, "--db", str(store.db), "--limit", "2").out
    assert "2 of 4 messages" in page
    before = f"ccn-mcp history {store.conversation} --limit 2 --before {store.seqs[2]} --db {store.db}"
    assert before in page
    rest = cli(*before.split()[1:]).out
    assert "seventeen herons" in rest
    hits = cli("history", "--search", "heron*", "--db", str(store.db)).out
    assert "Left out" not in hits
    first = ("history", "--search", "herons", "--limit", "1", "--db", str(store.db))
    (note,) = [line for line in cli(*first).out.splitlines() if line.startswith("Left out: ")]
    onward = shlex.split(note.partition("ccn-mcp ")[2])
    older = cli(*onward).out
    assert TEXTS[0] in older
    assert TEXTS[1] not in older
    assert "Left out" not in older
    assert f"entry {store.seqs[1]}" in hits
    assert "2 matches" in hits
    assert cli("history", "c_none", "--db", str(store.db)).status == 3


def test_history_names_a_conversation_as_other_commands_do(cli: Run, store: Seeded) -> None:
    where = ["--db", str(store.db)]
    plain = cli("history", store.conversation, *where)
    named = cli("history", "--conversation", store.conversation, *where)
    assert (named.status, named.out) == (0, plain.out)
    assert cli("history", store.conversation, "--conversation", store.conversation, *where).out == plain.out
    assert cli("history", "c_other", "--conversation", store.conversation, *where).status == 2
    assert cli("history", "--conversation", "c_other", *where).status == 3


def test_recorded_text_cannot_act_on_the_terminal_or_pass_for_a_heading(cli: Run, store: Seeded) -> None:
    page = cli("history", store.conversation, "--db", str(store.db)).out
    assert "\x1b" not in page
    assert "\\x1b[31mred\\x0dcr" in page
    assert "  ## 99. assistant" in page
    assert "\n## 99. assistant" not in page


def test_other_scopes_are_named_when_this_one_is_empty(
    cli: Run, store: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCN_SCOPE", "elsewhere")
    assert "--all-scopes" in cli("history", "--db", str(store.db)).out
    assert store.conversation in cli("history", "--all-scopes", "--db", str(store.db)).out


# ---- export --------------------------------------------------------------------------------------------


def test_export_as_json_lines_keeps_every_text(cli: Run, store: Seeded) -> None:
    lines = cli("export", "--db", str(store.db)).out.splitlines()
    head, *messages = map(json.loads, lines)
    assert head["format"] == "ccn.export/1"
    assert head["head"] == store.head
    assert [message["text"] for message in messages] == TEXTS
    assert [message["seq"] for message in messages] == store.seqs
    assert {message["conversation_id"] for message in messages} == {store.conversation}
    assert isinstance(messages[0]["time"], int)
    assert "\x1b" not in "".join(lines)


def test_export_pages_through_more_than_one_page(
    cli: Run, store: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccn_mcp.node.exports.PAGE", 2)
    monkeypatch.setattr("ccn_mcp.node.exports.CONVERSATIONS_PAGE", 1)
    assert len(cli("export", "--db", str(store.db)).out.splitlines()) == 1 + len(TEXTS)


def test_markdown_content_cannot_forge_headings(cli: Run, store: Seeded) -> None:
    text = cli("export", store.conversation, "--format", "markdown", "--db", str(store.db)).out
    # Whatever any reader takes for a line's end, no such line of content begins like a heading or a fence.
    headings = [
        line for line in re.split("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", text) if re.match(r"\s*#", line)
    ]
    assert len(headings) == 2 + len(TEXTS)
    assert sum("Forged" in line for line in headings) == 2, "title and name, as words in headings of ours"
    assert r"Birds \# Forged \*title\*" in text
    assert r"Eve \`x\` \# Forged name" in text
    assert "\x1b" not in text
    block = text[text.index("Forged heading") - 40 :]
    assert "> ````text\n> # Forged heading\n> ```\n" in block
    assert HOSTILE not in text


def test_an_export_file_is_private_whole_and_never_replaced_unasked(
    cli: Run, store: Seeded, tmp_path: Path
) -> None:
    file = tmp_path / "record.jsonl"
    ran = cli("export", "--db", str(store.db), "--output", str(file))
    assert (ran.status, ran.out) == (0, f"4 messages written to {file}\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    written = file.read_bytes()
    file.write_text("mine")
    assert cli("export", "--db", str(store.db), "--output", str(file)).status == 4
    assert file.read_text() == "mine"
    ran = cli("export", "--db", str(store.db), "--output", str(file), "--force", "--json")
    assert json.loads(ran.out)["messages"] == 4
    assert file.read_bytes() == written
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["record.jsonl"]


@pytest.mark.parametrize("suffix", ["", "-wal", ".lock"])
def test_an_export_never_overwrites_the_store(cli: Run, store: Seeded, suffix: str) -> None:
    before = store.db.read_bytes()
    assert cli("export", "--db", str(store.db), "--force", "--output", f"{store.db}{suffix}").status == 2
    assert store.db.read_bytes() == before


@pytest.mark.parametrize("arguments", [["--format", "pdf"], ["--json"], ["--output", "FOLDER"]], ids=" ".join)
def test_export_refuses_what_it_cannot_do(
    cli: Run, store: Seeded, tmp_path: Path, arguments: list[str]
) -> None:
    words = [str(tmp_path) if word == "FOLDER" else word for word in arguments]
    ran = cli("export", "--db", str(store.db), *words)
    assert (ran.status, ran.out) == (2, "")
