"""`export --bundle`, `verify-bundle` and `proof` as a person uses them."""

from __future__ import annotations

import json
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp.domain.consistency_text import check_consistency, parse_consistency
from ccn_mcp.domain.errors import VerificationFailed
from ccn_mcp.store.sqlite.backup import backup
from ccn_mcp.store.sqlite.bundle import write_bundle
from tests.bundles import keys_of
from tests.cli.conftest import TEXTS, Run, Seeded, on_store, process

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes are for POSIX")


def document(ran: Any) -> dict[str, Any]:
    assert ran.status == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


@pytest.fixture
def bundle(store: Seeded, cli: Run, tmp_path: Path) -> Path:
    """A bundle of the seeded store."""
    assert cli("export", "--bundle", str(tmp_path / "b"), "--db", str(store.db)).status == 0
    return tmp_path / "b"


# ---- export --bundle -----------------------------------------------------------------------------------------


def test_a_bundle_is_written_whole_and_says_how_to_check_it(store: Seeded, cli: Run, tmp_path: Path) -> None:
    found = document(cli("export", "--bundle", str(tmp_path / "b"), "--db", str(store.db), "--json"))
    assert (found["entries"], found["signed_to"], found["erased"]) == (len(TEXTS) + 2, len(TEXTS) + 2, 0)
    assert found["head"].startswith(store.head)
    readme = (tmp_path / "b" / "README.txt").read_text("utf-8")
    assert len(readme.splitlines()) <= 22
    for words in ("verify_bundle.py", "verify_bundle.mjs", store.head, "word for word"):
        assert words in readme
    ran = cli("export", "--bundle", str(tmp_path / "c"), "--db", str(store.db))
    for words in (str(tmp_path / "c"), f"Signed   to {len(TEXTS) + 2}", "whole record", "verify_bundle.py"):
        assert words in " ".join(ran.out.split()) or words in ran.out, words


@posix
def test_only_its_owner_can_read_it(bundle: Path) -> None:
    for path in [bundle, *bundle.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_what_is_there_is_never_replaced(store: Seeded, cli: Run, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    ran = cli("export", "--bundle", str(tmp_path / "b"), "--db", str(store.db))
    assert (ran.status, "exists" in ran.err, list((tmp_path / "b").iterdir())) == (4, True, [])
    assert cli("export", "--bundle", str(tmp_path / "no" / "b"), "--db", str(store.db)).status == 2
    assert (
        cli("export", store.conversation, "--bundle", str(tmp_path / "d"), "--db", str(store.db)).status == 2
    )
    assert cli("export", "--bundle", str(tmp_path / "d"), "--db", str(tmp_path / "none.db")).status == 3
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_damaged_record_makes_no_bundle(store: Seeded, cli: Run, tmp_path: Path) -> None:
    with closing(sqlite3.connect(store.db, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(
            "UPDATE entry SET body = CAST(replace(body, 'seventeen', 'sixteen') AS BLOB) WHERE seq = 2"
        )
    ran = cli("export", "--bundle", str(tmp_path / "b"), "--db", str(store.db))
    assert (ran.status, "payload/000.p/6: entry 2" in ran.err, (tmp_path / "b").exists()) == (6, True, False)
    with closing(sqlite3.connect(store.db, isolation_level=None)) as connection:
        connection.execute("UPDATE entry SET time = time + 1 WHERE seq = 1")
    ran = cli("export", "--bundle", str(tmp_path / "b"), "--db", str(store.db))
    assert (ran.status, "entry 1 does not match" in ran.err, (tmp_path / "b").exists()) == (6, True, False)


@pytest.mark.parametrize("cut", [True, False])
def test_a_log_that_counts_other_entries_than_it_holds_makes_no_bundle(
    store: Seeded, tmp_path: Path, cut: bool
) -> None:
    with closing(sqlite3.connect(store.db, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        last = "DELETE FROM entry WHERE seq = (SELECT max(seq) FROM entry)"
        connection.execute(last if cut else "UPDATE log SET size = size - 1")
    (tmp_path / "b").mkdir()
    with pytest.raises(VerificationFailed, match="entries and does not hold just these"):
        write_bundle(store.db, tmp_path / "b", lambda *_: None)
    assert not (tmp_path / "b" / "head").exists()


def test_a_store_without_signed_heads_makes_one_too(store: Seeded, cli: Run, tmp_path: Path) -> None:
    with closing(sqlite3.connect(store.db, isolation_level=None)) as connection:
        connection.execute("DELETE FROM checkpoint")
    assert (
        document(cli("export", "--bundle", str(tmp_path / "b"), "--db", str(store.db), "--json"))["signed_to"]
        == 0
    )
    assert document(cli("verify-bundle", str(tmp_path / "b"), "--json"))["level"] == 1
    ran = cli("verify-bundle", str(tmp_path / "b"), "--key", keys_of(tmp_path / "b")[0])
    assert (ran.status, "no head in this bundle is signed with it" in ran.out) == (6, True)


# ---- verify-bundle -------------------------------------------------------------------------------------------


def test_the_bundle_is_checked_with_and_without_key_and_head(bundle: Path, store: Seeded, cli: Run) -> None:
    key = keys_of(bundle)[0]
    found = document(cli("verify-bundle", str(bundle), "--json"))
    assert (found["ok"], found["level"], found["entries"], found["fault"]) == (True, 1, len(TEXTS) + 2, None)
    assert document(cli("verify-bundle", str(bundle), "--key", key, "--json"))["level"] == 2
    assert document(cli("verify-bundle", str(bundle), "--known-head", store.head, "--json"))["level"] == 3
    assert cli("verify-bundle", str(bundle), "--key", key).out.startswith("ok: level 2")
    assert cli("verify-bundle", str(bundle), "--key", "nonsense").status == 2
    assert cli("verify-bundle", str(bundle), "--known-head", "nonsense").status == 2
    assert cli("verify-bundle", str(bundle / "nowhere")).status == 3


def test_a_fault_is_shown_with_its_place(bundle: Path, cli: Run) -> None:
    path = bundle / "payload" / "000.p" / "6"
    path.write_bytes(path.read_bytes().replace(b"seventeen", b"fortyfour"))
    ran = cli("verify-bundle", str(bundle))
    assert (ran.status, "payload/000.p/6: entry 2: the content is not what was recorded" in ran.out) == (
        6,
        True,
    )
    ran = cli("verify-bundle", str(bundle), "--json")
    assert (ran.status, json.loads(ran.out)["ok"]) == (6, False)


def test_it_needs_no_store(bundle: Path, tmp_path: Path) -> None:
    done = process("verify-bundle", str(bundle), env={"HOME": str(tmp_path / "nobody")}, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "nobody").exists()


# ---- proof ---------------------------------------------------------------------------------------------------


def test_an_entry_is_proved_and_checked(store: Seeded, cli: Run, tmp_path: Path) -> None:
    made = cli("proof", "3", "--db", str(store.db))
    assert made.status == 0
    assert made.out.startswith("c2sp.org/tlog-proof@v1\nextra ")
    file = tmp_path / "p.txt"
    file.write_text(made.out, "utf-8")
    found = document(cli("proof", "--check", str(file), "--db", str(store.db), "--json"))
    assert (found["entry"], found["kind"], found["head"]) == (3, 1, store.head)
    key = found["key"]
    assert (
        document(cli("proof", "--check", str(file), "--key", key, "--db", str(tmp_path / "no.db"), "--json"))[
            "entry"
        ]
        == 3
    )
    other = key.replace(key.split("+")[1], "00000000")
    assert cli("proof", "--check", str(file), "--key", other, "--db", str(store.db)).status == 2
    lines = made.out.split("\n")
    for number in (1, 3):
        changed = [*lines]
        changed[number] = changed[number][:-5] + ("AAAA=" if changed[number][-5:] != "AAAA=" else "AAAE=")
        file.write_text("\n".join(changed), "utf-8")
        assert cli("proof", "--check", str(file), "--db", str(store.db)).status in (2, 6), number


def test_a_held_head_is_proved_to_be_in_the_newest(store: Seeded, cli: Run, tmp_path: Path) -> None:
    held = store.head

    async def more(node: Any) -> None:
        await node.record_message("user", "later", conversation_id=store.conversation)

    on_store(store.db, more)
    made = cli("proof", "--from", held, "--db", str(store.db))
    text = parse_consistency(made.out)
    check_consistency(text)
    assert str(text.old) == held
    file = tmp_path / "p.txt"
    file.write_text(made.out, "utf-8")
    found = document(cli("proof", "--check", str(file), "--from", held, "--db", str(store.db), "--json"))
    assert found["contains"] == held
    wrong = held.split(":")[0] + ":" + "0" * 32
    assert cli("proof", "--check", str(file), "--from", wrong, "--db", str(store.db)).status == 6
    assert cli("proof", "--from", wrong, "--db", str(store.db)).status == 6
    ran = cli("proof", "--from", "0:" + "0" * 32, "--db", str(store.db))
    assert (ran.status, "size 0" in ran.err) == (2, True)
    file.write_text(made.out.replace(f"old {len(TEXTS) + 2} ", "old 0 "), "utf-8")
    ran = cli("proof", "--check", str(file), "--db", str(store.db))
    assert (ran.status, "no proof goes from size 0" in ran.err) == (6, True)


def test_what_no_signed_head_covers_is_not_proved(store: Seeded, cli: Run, tmp_path: Path) -> None:
    with closing(sqlite3.connect(store.db, isolation_level=None)) as connection:
        connection.execute("DELETE FROM checkpoint")
    ran = cli("proof", "3", "--db", str(store.db))
    assert (ran.status, "no signed head covers entry 3 yet" in ran.err) == (6, True)
    assert cli("proof", "--from", store.head, "--db", str(store.db)).status == 6
    assert cli("proof", "99", "--db", str(store.db)).status == 3
    assert cli("proof", "--db", str(store.db)).status == 2
    assert cli("proof", "3", "--from", store.head, "--db", str(store.db)).status == 2
    assert cli("proof", "3", "--db", str(tmp_path / "none.db")).status == 3


def test_a_bundle_of_a_backup_is_the_same(bundle: Path, store: Seeded, cli: Run, tmp_path: Path) -> None:
    backup(store.db, tmp_path / "copy.db")
    assert cli("export", "--bundle", str(tmp_path / "c"), "--db", str(tmp_path / "copy.db")).status == 0
    names = {path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file()}
    assert names == {
        path.relative_to(tmp_path / "c") for path in (tmp_path / "c").rglob("*") if path.is_file()
    }
    for name in names:
        assert (bundle / name).read_bytes() == (tmp_path / "c" / name).read_bytes(), name
