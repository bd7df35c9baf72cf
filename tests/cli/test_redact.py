"""`ccn-mcp redact`: the person types the seq at a terminal, and nothing else erases."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import TEXTS, Run, Seeded, on_store
from tests.cli.test_plate import at_a_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pty is for POSIX")


def erased(db: Path) -> int:
    checked = on_store(db, lambda node: node.verify_chain())
    assert checked["ok"]
    return int(checked["erased"])


def holders(db: Path, word: str) -> list[str]:
    return [path.name for path in db.parent.iterdir() if word.encode() in path.read_bytes()]


def test_the_typed_seq_erases(store: Seeded, cli: Run) -> None:
    seq = store.seqs[0]
    status, screen = at_a_terminal(
        "redact", str(seq), "--db", str(store.db), "--reason", "private", typed=f"{seq}\n"
    )
    assert status == 0, screen
    assert TEXTS[0] in screen
    assert f"Entry {seq} is erased" in screen
    assert (erased(store.db), holders(store.db, "seventeen")) == (1, [])
    assert "(erased)" in cli("history", store.conversation, "--db", str(store.db)).out
    status, screen = at_a_terminal("redact", str(seq), "--db", str(store.db), typed="")
    assert (status, "erased before" in " ".join(screen.split())) == (0, True)
    assert erased(store.db) == 1


def test_the_number_in_a_conversation_and_one_json_document(store: Seeded, tmp_path: Path) -> None:
    seq = store.seqs[2]
    words = ("redact", "3", "--conversation", store.conversation, "--db", str(store.db), "--json")
    status, screen = at_a_terminal(*words, typed=f"{seq}\n")
    assert status == 0, screen
    assert "\x1b[31m" not in screen, "recorded text does not reach the terminal as it is"
    found = json.loads(screen[screen.index("{") :])
    assert (found["seq"], found["erased"], found["pending"]) == (seq, True, False)
    assert found["conversation_id"] == store.conversation


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
    for wrong in ("x", "-1", ""):
        assert cli("redact", wrong, "--db", str(store.db)).status == 2
    assert erased(store.db) == 0


def test_what_is_not_there(store: Seeded, db: Path, tmp_path: Path) -> None:
    for words, expected in (
        (("redact", "999"), 3),
        (("redact", "0"), 2),
        (("redact", "9", "--conversation", store.conversation), 3),
        (("redact", "1", "--conversation", "c_none"), 3),
    ):
        status, screen = at_a_terminal(*words, "--db", str(db), typed="")
        assert status == expected, screen
    nowhere = tmp_path / "nowhere" / "ccn.db"
    status, screen = at_a_terminal("redact", "1", "--db", str(nowhere), typed="")
    assert (status, "no store" in screen) == (3, True)
    assert not nowhere.parent.exists()
