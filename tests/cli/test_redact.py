"""`ccn-mcp redact`: the person types the seq at a terminal, and nothing else erases."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ccn_mcp.node.node import Node
from tests.cli.conftest import TEXTS, Run, Seeded, on_store
from tests.cli.test_plate import at_a_terminal
from tests.node.world import plate_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pty is for POSIX")


def erased(db: Path) -> int:
    checked = on_store(db, lambda node: node.ctx.store.verify())
    assert checked.fault is None
    return int(checked.erased)


def holders(db: Path, word: str) -> list[str]:
    return [path.name for path in db.parent.iterdir() if word.encode() in path.read_bytes()]


def test_the_typed_seq_erases(store: Seeded, cli: Run) -> None:
    seq = store.seqs[0]
    status, screen = at_a_terminal(
        "redact", str(seq), "--db", str(store.db), "--reason", "private", typed=f"{seq}\n"
    )
    assert status == 0, screen
    assert TEXTS[0] in screen
    assert "Erased: 1 message." in screen
    assert (erased(store.db), holders(store.db, "seventeen")) == (1, [])
    assert "(erased)" in cli("history", store.conversation, "--db", str(store.db)).out
    assert "Erased       1 entry, of every kind" in cli("verify", "--db", str(store.db)).out
    status, screen = at_a_terminal("redact", str(seq), "--db", str(store.db), typed="")
    assert (status, "erased before" in " ".join(screen.split())) == (0, True)
    assert erased(store.db) == 1


def test_several_at_once_and_one_json_document(store: Seeded) -> None:
    words = ("redact", *map(str, store.seqs[1:3]), "--conversation", store.conversation)
    status, screen = at_a_terminal(*words, "--db", str(store.db), "--json", typed="2\n")
    assert status == 0, screen
    assert "\x1b[31m" not in screen, "recorded text does not reach the terminal as it is"
    assert f"first: entry {store.seqs[1]}" in screen
    found = json.loads(screen[screen.index("{") :])
    assert (found["erased"], found["already_erased"], found["pending"]) == ({"messages": 2}, 0, False)
    assert erased(store.db) == 2


def test_a_whole_conversation_and_its_export(store: Seeded, cli: Run) -> None:
    words = ("--conversation", store.conversation, "--db", str(store.db))
    shown = cli("redact", *words, "--dry-run")
    assert (shown.status, "4 messages in 1 conversation" in shown.out) == (0, True), shown
    assert "1 conversation's title" in shown.out
    assert TEXTS[0] in shown.out
    assert "Nothing was changed" in shown.out
    found = json.loads(cli("redact", *words, "--dry-run", "--json").out)
    assert (found["dry_run"], found["total"], found["conversations"]) == (True, 5, [store.conversation])
    assert erased(store.db) == 0
    status, screen = at_a_terminal("redact", *words, "--reason", "over", typed="5\n")
    assert status == 0, screen
    assert erased(store.db) == 5
    assert [holders(store.db, word) for word in ("herons", "Birds", "goodbye")] == [[], [], []]
    assert store.conversation not in cli("history", "--db", str(store.db)).out
    gone = cli("history", store.conversation, "--db", str(store.db))
    assert (gone.status, "was erased" in gone.err) == (3, True)
    lines = [json.loads(line) for line in cli("export", "--db", str(store.db)).out.splitlines()[1:]]
    assert [(line["seq"], line["erased"], line["reason"]) for line in lines] == [
        (seq, True, "over") for seq in store.seqs
    ]


def test_by_time_and_by_person(store: Seeded, cli: Run) -> None:
    def total(*words: str) -> int:
        ran = cli("redact", *words, "--dry-run", "--json", "--db", str(store.db))
        assert ran.status == 0, ran.err
        return int(json.loads(ran.out)["total"])

    assert total("--until", "2001-01-01") == total("--person", "Nobody") == 0
    assert total("--since", "2001-01-01") == 5
    assert total("--person", "Eve `x`\n# Forged name") == 1
    assert total("--person", "local") == 5
    assert total("--person", "local", "--until", "2001-01-01T00:00:00Z") == 0
    assert cli("redact", "--since", "soon", "--dry-run", "--db", str(store.db)).status == 2
    assert cli("redact", "--dry-run", "--db", str(store.db)).status == 2


def test_many_show_a_bar_and_take_the_number(db: Path, cli: Run) -> None:
    async def fill(node: Node) -> str:
        here = await node.open_conversation()
        for number in range(230):
            await node.record_message("user", f"quokka {number}", conversation_id=here)
        return here

    here = on_store(db, fill)
    status, screen = at_a_terminal("redact", "--conversation", here, "--db", str(db), typed="231\n")
    assert status == 0, screen
    assert "Erasing" in screen
    assert "230 messages" in screen.split("Erased: ")[-1]
    assert "1 conversation's title, session id and folder" in screen.split("Erased: ")[-1]
    assert (erased(db), holders(db, "quokka")) == (231, [])


def test_an_old_plate(db: Path, cli: Run) -> None:
    async def fill(node: Node) -> list[int | None]:
        return [(await node.set_plate(plate_of(version=str(n), body=f"wombat{n}"))).seq for n in (1, 2)]

    old, new = on_store(db, fill)
    status, screen = at_a_terminal("redact", "--plate", str(old), "--db", str(db), typed="1\n")
    assert status == 0, screen
    assert (holders(db, "wombat1"), holders(db, "wombat2") != []) == ([], True)
    assert at_a_terminal("redact", "--plate", str(new), "--db", str(db), typed="1\n")[0] == 4
    assert "wombat2" in cli("plate", "show", "--db", str(db)).out


@pytest.mark.parametrize("typed", ["yes\n", "\n", "0\n", "\x04"])
def test_anything_else_erases_nothing(store: Seeded, typed: str) -> None:
    status, screen = at_a_terminal("redact", str(store.seqs[0]), "--db", str(store.db), typed=typed)
    assert status == 4
    assert "nothing was changed" in screen
    assert erased(store.db) == 0


def test_refused_inside_claude_code_even_at_a_terminal(store: Seeded) -> None:
    seq = store.seqs[0]
    status, screen = at_a_terminal(
        "redact", str(seq), "--db", str(store.db), typed=f"{seq}\n", CLAUDECODE="1"
    )
    assert status == 4
    assert "terminal of your own" in " ".join(screen.split())
    assert erased(store.db) == 0


def test_refused_without_a_terminal_and_there_is_no_way_round(store: Seeded, cli: Run) -> None:
    seq = str(store.seqs[0])
    ran = cli("redact", seq, "--db", str(store.db))
    assert ran.status == 4
    assert "terminal" in ran.err
    for option in ("--yes", "-y", "--force"):
        assert cli("redact", seq, option, "--db", str(store.db)).status == 2
    assert cli("redact", "--conversation", store.conversation, "--db", str(store.db)).status == 4
    for wrong in ("x", "-1", ""):
        assert cli("redact", wrong, "--db", str(store.db)).status == 2
    assert erased(store.db) == 0


def test_what_is_not_there(store: Seeded, db: Path, tmp_path: Path) -> None:
    for words, expected in (
        (("redact", "999"), 3),
        (("redact", "0"), 2),
        (("redact", "--conversation", "c_none"), 3),
        (("redact", "--plate", "1"), 3),
    ):
        status, screen = at_a_terminal(*words, "--db", str(db), typed="")
        assert status == expected, screen
    nowhere = tmp_path / "nowhere" / "ccn.db"
    status, screen = at_a_terminal("redact", "1", "--db", str(nowhere), typed="")
    assert (status, "no store" in screen) == (3, True)
    assert not nowhere.parent.exists()
