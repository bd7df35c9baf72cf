"""`ccn-mcp plate import`: the person sees it first, the guard is that of `plate set`, the original stays."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp.domain.errors import VerificationFailed
from ccn_mcp.domain.plate import parse_plate
from ccn_mcp.domain.plate_imports import convert
from ccn_mcp.node.plates import Original, original_of, set_plate
from tests.cli.conftest import Run, on_store
from tests.cli.test_plate import at_a_terminal, name_in_force
from tests.domain.test_plate_imports import IDENTITY, SOUL, card, packed, png

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pty is for POSIX")

NOTES = "only for people"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A character card as an image."""
    path = tmp_path / "ava card.png"
    path.write_bytes(png((b"ccv3", packed(card(3, creator_notes=NOTES)))))
    return path


def test_it_shows_what_is_applied_and_keeps_the_original(
    db: Path, file: Path, cli: Run, tmp_path: Path
) -> None:
    words = ("plate", "import", str(file), "--user", "Noor", "--db", str(db))
    status, screen = at_a_terminal(*words, typed="Ava\n", NO_COLOR="1")
    assert status == 0, screen
    before_the_question = screen[: screen.index("type its name")]
    for shown in (
        "Ava keeps bees with Noor.",
        "card/3",
        "data.description",
        "data.creator_notes",
        "=== begin",
    ):
        assert shown in before_the_question
    assert NOTES not in screen
    assert name_in_force(db) == "Ava"
    out = tmp_path / "back.png"
    ran = cli("plate", "show", "--original", str(out), "--db", str(db))
    assert (ran.status, out.read_bytes()) == (0, file.read_bytes())
    assert out.stat().st_mode & 0o077 == 0
    assert cli("plate", "show", "--original", str(out), "--db", str(db)).status == 4
    assert cli("verify", "--db", str(db)).status == 0
    assert cli("plate", "show", "--raw", "--db", str(db)).out.startswith("---\nname:")


@pytest.mark.parametrize("typed", ["yes\n", "\n", "ava\n", "\x04"])
def test_anything_else_sets_nothing(db: Path, file: Path, typed: str) -> None:
    status, screen = at_a_terminal("plate", "import", str(file), "--db", str(db), typed=typed)
    assert (status, "nothing was changed" in screen, db.exists()) == (4, True, False)


def test_refused_inside_claude_code_and_without_a_terminal(db: Path, file: Path, cli: Run) -> None:
    status, screen = at_a_terminal(
        "plate", "import", str(file), "--db", str(db), typed="Ava\n", CLAUDECODE="1"
    )
    assert status == 4
    assert "ccn-mcp plate import" in " ".join(screen.split())
    ran = cli("plate", "import", str(file), "--db", str(db))
    assert (ran.status, "terminal" in ran.err) == (4, True)
    for option in ("--yes", "-y", "--force"):
        assert cli("plate", "import", str(file), option, "--db", str(db)).status == 2
    assert not db.exists()


def test_save_writes_the_converted_file_and_sets_nothing(db: Path, cli: Run, tmp_path: Path) -> None:
    (tmp_path / "SOUL.md").write_bytes(SOUL)
    (tmp_path / "IDENTITY.md").write_bytes(IDENTITY)
    out = tmp_path / "out.md"
    words = ("plate", "import", str(tmp_path / "SOUL.md"), str(tmp_path / "IDENTITY.md"), "--save", str(out))
    ran = cli(*words, "--db", str(db))
    assert (ran.status, db.exists()) == (0, False)
    assert parse_plate(out.read_bytes()).name == "Marl"
    kept = out.read_bytes()
    assert cli(*words, "--db", str(db)).status == 4
    assert out.read_bytes() == kept
    assert cli(*words[:-1], str(tmp_path / "no" / "folder.md"), "--db", str(db)).status == 2


def test_several_originals_come_back_as_a_folder_and_lead_nowhere_else(
    db: Path, cli: Run, tmp_path: Path
) -> None:
    made = convert("SOUL.md", SOUL)
    original = Original("several", (("../../SOUL.md", SOUL), ("C:\\x\\.IDENTITY.md", IDENTITY), ("..", b"")))
    on_store(db, lambda node: set_plate(node.ctx, node.caller, made.plate, original))
    out = tmp_path / "originals"
    found = json.loads(cli("plate", "show", "--original", str(out), "--json", "--db", str(db)).out)
    assert found["format"] == "several"
    assert sorted(path.name for path in out.iterdir()) == ["IDENTITY.md", "SOUL.md", "original-3"]
    assert (out / "SOUL.md").read_bytes() == SOUL
    assert cli("plate", "show", "--original", str(out), "--db", str(db)).status == 4


def test_files_that_cannot_be_imported(db: Path, cli: Run, tmp_path: Path) -> None:
    (tmp_path / "hostile.json").write_bytes(b'{"spec":1,"spec":"\x1b[2J"}')
    (tmp_path / "photo.png").write_bytes(png())
    (tmp_path / "large.md").write_bytes(b"x" * 10_000_000)
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", ".", "hostile.json", "photo.png", "large.md", "pipe"):
        ran = cli("plate", "import", str(tmp_path / name), "--save", str(tmp_path / "o"), "--db", str(db))
        assert (ran.status, ran.out, "\x1b" in ran.err) == (2, "", False), name
    assert not (tmp_path / "o").exists()


def test_a_plate_without_an_original(db: Path, cli: Run, tmp_path: Path) -> None:
    ran = cli("plate", "show", "--original", str(tmp_path / "o"), "--db", str(db))
    assert (ran.status, "not imported" in ran.err) == (3, True)
    plate = convert("SOUL.md", SOUL).plate
    on_store(db, lambda node: node.set_plate(plate))
    assert cli("plate", "show", "--original", str(tmp_path / "o"), "--db", str(db)).status == 3


def test_an_entry_is_added_for_another_original_only(db: Path) -> None:
    plate = convert("SOUL.md", SOUL).plate
    one, two = Original("soul", (("SOUL.md", SOUL),)), Original("soul", (("SOUL.md", SOUL + b" "),))

    async def fill(node: Any) -> list[Any]:
        set_ = [await set_plate(node.ctx, node.caller, plate, item) for item in (None, one, one, None, two)]
        versions = await node.plate_versions()
        assert [item.seq for item in versions] == sorted({item.seq or 0 for item in set_}, reverse=True)
        assert {item.plate.source for item in versions} == {plate.source}
        assert [await original_of(node.ctx, item) for item in versions] == [two, one, None]
        return [item.seq for item in set_]

    first, second, third, fourth, fifth = on_store(db, fill)
    assert first < second == third == fourth < fifth


def test_an_original_that_was_changed_in_the_file_is_not_given_out(
    db: Path, cli: Run, tmp_path: Path
) -> None:
    made = convert("SOUL.md", SOUL)
    on_store(
        db, lambda node: set_plate(node.ctx, node.caller, made.plate, Original("soul", (("SOUL.md", SOUL),)))
    )
    with closing(sqlite3.connect(db)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute(
            "UPDATE entry SET blob = CAST(substr(blob, 1, length(blob) - 1) || '!' AS BLOB) WHERE kind = 8"
        )
        connection.commit()
    assert cli("plate", "show", "--original", str(tmp_path / "o"), "--db", str(db)).status == 6
    assert not (tmp_path / "o").exists()
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("UPDATE entry SET blob = CAST(blob || '!' AS BLOB) WHERE kind = 8")
        connection.commit()
    with pytest.raises(VerificationFailed):
        on_store(db, lambda node: node.plate())
