"""`backup`, `restore` and `maintain` as the person runs them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp.store.sqlite.beside import PREFIX
from tests.cli.conftest import RUN_S_MAX, TEXTS, Run, Seeded, environment, on_store, process
from tests.cli.test_plate import at_a_terminal
from tests.clients.harness import ROOT

posix = pytest.mark.skipif(sys.platform == "win32", reason="pty and signals are for POSIX")


@pytest.fixture
def copy(store: Seeded, cli: Run, tmp_path: Path) -> Path:
    """A backup of the seeded store."""
    made = tmp_path / "kept" / "b.db"
    made.parent.mkdir()
    assert cli("backup", str(made), "--db", str(store.db)).status == 0
    return made


def texts_of(cli: Run, db: Path, conversation: str) -> list[str]:
    ran = cli("history", conversation, "--db", str(db), "--json")
    assert ran.status == 0, ran.err
    return [message["text"] for message in json.loads(ran.out)["messages"]]


def document(ran: Any) -> dict[str, Any]:
    assert ran.status == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- backup --------------------------------------------------------------------------------------------


def test_a_backup_says_what_it_is_and_how_to_restore_it(store: Seeded, cli: Run, tmp_path: Path) -> None:
    made = tmp_path / "b.db"
    ran = cli("backup", str(made), "--db", str(store.db))
    assert ran.status == 0
    for part in (str(made), store.head, "whole record", f"ccn-mcp restore {made}", "Size", "Entries"):
        assert part in " ".join(ran.out.split()), part
    assert cli("verify", "--db", str(made), "--known-head", store.head).status == 0


def test_in_a_folder_it_gets_a_name_with_the_time(store: Seeded, cli: Run, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    found = document(cli("backup", str(tmp_path / "kept"), "--db", str(store.db), "--json"))
    (name,) = left_in(tmp_path / "kept")
    assert found["file"] == str(tmp_path / "kept" / name)
    assert name.startswith("ccn-2")
    assert len(name) == len("ccn-YYYYMMDD-HHMMSS.db")
    assert (found["head"], found["messages"], found["erased"]) == (store.head, len(TEXTS), 0)
    assert found["bytes"] == (tmp_path / "kept" / name).stat().st_size


@pytest.mark.parametrize("target", ["nightly", "in.folder/"])
def test_a_folder_is_made_and_each_night_has_its_own_file(
    store: Seeded, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    for night in (1, 2):
        monkeypatch.setattr("time.strftime", lambda *_, night=night: f"ccn-2026010{night}-030000.db")
        assert cli("backup", f"{tmp_path}/{target}", "--db", str(store.db)).status == 0
    folder = tmp_path / target
    assert left_in(folder) == ["ccn-20260101-030000.db", "ccn-20260102-030000.db"]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_is_made_for_a_backup_only(store: Seeded, cli: Run, tmp_path: Path) -> None:
    for db, target in ((tmp_path / "none.db", "nightly"), (store.db, "typo/nightly/")):
        assert cli("backup", f"{tmp_path}/{target}", "--db", str(db)).status in (2, 3)
        assert not (tmp_path / target).exists()
    (tmp_path / "plain").write_text("mine")
    assert cli("backup", f"{tmp_path}/plain/", "--db", str(store.db)).status == 2
    assert cli("backup", f"{tmp_path}/plain", "--db", str(store.db)).status == 4
    assert (tmp_path / "plain").read_text() == "mine"


def test_what_is_there_is_replaced_with_force_only(store: Seeded, cli: Run, copy: Path) -> None:
    copy.write_text("mine")
    ran = cli("backup", str(copy), "--db", str(store.db))
    assert (ran.status, "--force" in ran.err, copy.read_text()) == (4, True, "mine")
    assert cli("backup", str(copy), "--db", str(store.db), "--force").status == 0
    assert cli("verify", "--db", str(copy)).status == 0


def test_places_that_cannot_be(store: Seeded, cli: Run, tmp_path: Path) -> None:
    for suffix in ("", "-wal", ".lock"):
        own = store.db.with_name(store.db.name + suffix)
        ran = cli("backup", str(own), "--db", str(store.db), "--force")
        assert (ran.status, "store itself" in ran.err) == (2, True)
    (tmp_path / "link").symlink_to(store.db)
    assert cli("backup", str(tmp_path / "link"), "--db", str(store.db), "--force").status == 2
    ran = cli("backup", str(tmp_path / "typo" / "b.db"), "--db", str(store.db))
    assert (ran.status, "no folder" in ran.err, (tmp_path / "typo").exists()) == (2, True, False)
    assert cli("backup", "--db", str(store.db)).status == 2
    ran = cli("backup", str(tmp_path / "b.db"), "--db", str(tmp_path / "none.db"))
    assert (ran.status, "no store" in ran.err) == (3, True)
    assert not (tmp_path / "b.db").exists()


SLOWLY: Final = """
import sys
from ccn_mcp.cli import backup, main
from contextlib import contextmanager
@contextmanager
def told():
    def tell(what, done, total):
        if what == sys.argv[1]:
            print("working", flush=True)
            sys.stdin.read()
    yield tell
backup._told = told
sys.exit(main.run(sys.argv[2:]))
"""


@posix
@pytest.mark.parametrize("phase", ["Copying", "Restoring"])
def test_ctrl_c_leaves_nothing_and_says_130(store: Seeded, copy: Path, tmp_path: Path, phase: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    words = {
        "Copying": ["backup", str(place / "x.db"), "--db", str(store.db)],
        "Restoring": ["restore", str(copy), "--to", str(place / "x.db")],
    }[phase]
    with subprocess.Popen(
        [sys.executable, "-c", SLOWLY, phase, *words],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"working\n"
        assert left_in(place)[0].startswith(PREFIX)
        os.kill(running.pid, signal.SIGINT)
        _, err = running.communicate(timeout=RUN_S_MAX)
    assert running.returncode == 130, err
    assert b"Traceback" not in err
    assert left_in(place) == []


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount namespace")
def test_a_full_disk_is_said_and_leaves_nothing(store: Seeded, copy: Path, tmp_path: Path) -> None:
    small, big = tmp_path / "small", tmp_path / "big.db"
    small.mkdir()
    on_store(big, lambda node: node.record_message("user", "heron " * 20_000))
    script = 'mount -t tmpfs -o size=65536 tmpfs "$1" && "$2" -m ccn_mcp "${@:3}"; a=$?; ls -A "$1"; exit $a'
    for words in (
        ("backup", str(small / "x.db"), "--db", str(store.db)),
        ("restore", str(copy), "--to", str(small / "x.db")),
        ("export", "--output", str(small / "x.jsonl"), "--db", str(big)),
    ):
        ran = subprocess.run(
            ["unshare", "-m", "bash", "-c", script, "sh", str(small), sys.executable, *words],
            capture_output=True,
            text=True,
            env=environment(),
            cwd=ROOT,
            timeout=RUN_S_MAX,
            check=False,
        )
        if "mount" in ran.stderr or "unshare" in ran.stderr:
            pytest.skip("no right to mount a file system here")
        assert (ran.returncode, ran.stdout) == (5, ""), ran.stderr
        assert "full" in ran.stderr
        assert "ree some space" in ran.stderr


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount namespace")
def test_a_store_on_a_full_disk_says_full_and_no_jargon(store: Seeded, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    script = (
        'mount -t tmpfs -o size=1000000 tmpfs "$1" && cp "$3" "$1/ccn.db" && '
        '{ cat /dev/zero > "$1/ballast" 2>/dev/null; "$2" -m ccn_mcp export --db "$1/ccn.db"; }'
    )
    ran = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(small), sys.executable, str(store.db)],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        timeout=RUN_S_MAX,
        check=False,
    )
    if "mount" in ran.stderr or "unshare" in ran.stderr:
        pytest.skip("no right to mount a file system here")
    assert (ran.returncode, ran.stdout) == (5, ""), ran.stderr
    assert f"the disk that holds {small / 'ccn.db'} is full; nothing was written" in ran.stderr


# ---- restore -------------------------------------------------------------------------------------------


def test_restoring_to_another_place_gives_the_same_history(
    store: Seeded, cli: Run, copy: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new" / "folder" / "ccn.db"
    ran = cli("restore", str(copy), "--to", str(new))
    assert ran.status == 0, ran.err
    assert store.head in ran.out
    assert texts_of(cli, new, store.conversation) == TEXTS
    assert cli("verify", "--db", str(new)).status == 0
    ran = cli("verify", "--db", str(new), "--known-head", store.head)
    assert ran.status == 6
    assert "restored from" in ran.out
    assert (new.parent.stat().st_mode & 0o777, new.parent.parent.stat().st_mode & 0o777) == (0o700, 0o700)


def test_json_of_a_restore(store: Seeded, cli: Run, copy: Path, tmp_path: Path) -> None:
    found = document(cli("restore", str(copy), "--to", str(tmp_path / "new.db"), "--json"))
    assert found["restored_from"]["head"] == store.head
    assert found["store_id"] != found["restored_from"]["store_id"]
    assert (found["messages"], found["erased"], found["moved_to"]) == (len(TEXTS), 0, None)
    checked = document(
        cli("verify", "--db", str(tmp_path / "new.db"), "--known-head", found["head"], "--json")
    )
    assert checked["known_head_matches"] is True


def test_a_head_from_before_a_restore_is_no_intruder(
    store: Seeded, cli: Run, copy: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.db"
    cli("restore", str(copy), "--to", str(new))
    ran = cli("verify", "--db", str(new), "--known-head", store.head)
    said = " ".join(ran.out.split())
    # Whoever can write to the file can restore it too, so a script must not pass over it.
    assert ran.status == 6
    assert said.startswith("Restored: your head is of the store before, and every entry up to it is here")
    for word in ("AS IT WAS WRITTEN", "fault", "is NOT in", "who or what could write"):
        assert word not in said
    assert "If nobody here did" in said
    told = json.loads(cli("verify", "--db", str(new), "--known-head", store.head, "--json").out)
    assert (told["ok"], told["known_head_matches"], told["fault"]["code"]) == (False, False, "restored_head")
    assert told["meaning"].startswith("level 0, restored:")
    newer = f"99:{'ab' * 16}"
    unknown = cli("verify", "--db", str(new), "--known-head", newer)
    assert (unknown.status, "Restored" in unknown.out) == (6, False)
    assert unknown.out.startswith("NOT AS IT WAS WRITTEN")
    with closing(sqlite3.connect(new)) as forged, forged:
        forged.execute("DROP TRIGGER entry_unchanged")
        forged.execute("UPDATE entry SET body = CAST('{}' AS BLOB) WHERE seq = ?", (store.seqs[0],))
    changed = cli("verify", "--db", str(new), "--known-head", store.head)
    assert (changed.status, changed.out.split("\n")[0]) == (6, "NOT AS IT WAS WRITTEN")


def test_a_store_that_is_there_needs_the_person(store: Seeded, cli: Run, copy: Path) -> None:
    before = store.db.read_bytes()
    ran = cli("restore", str(copy), "--to", str(store.db))
    assert ran.status == 4
    for way in ("--to", "--yes", "terminal"):
        assert way in ran.err
    ran = cli("restore", str(copy.with_name("typo.db")), "--to", str(store.db))
    assert (ran.status, "no backup" in ran.err) == (3, True)
    ran = cli("restore", str(store.db), "--to", str(store.db), "--yes")
    assert (ran.status, "the store itself" in ran.err) == (2, True)
    assert store.db.read_bytes() == before


def test_yes_moves_it_aside_but_never_inside_claude_code(
    store: Seeded, cli: Run, copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_store(store.db, lambda node: node.record_message("user", "newer", conversation_id=store.conversation))
    with monkeypatch.context() as inside:
        inside.setenv("CLAUDECODE", "1")
        ran = cli("restore", str(copy), "--to", str(store.db), "--yes")
        assert (ran.status, "terminal of your own" in ran.err) == (4, True)
        assert cli("restore", str(copy), "--to", str(tmp_path / "elsewhere.db")).status == 0
    assert texts_of(cli, store.db, store.conversation) == [*TEXTS, "newer"]
    found = document(cli("restore", str(copy), "--to", str(store.db), "--yes", "--json"))
    assert texts_of(cli, store.db, store.conversation) == TEXTS
    moved = Path(found["moved_to"])
    assert moved.name.startswith("ccn.db.before-restore-2")
    assert texts_of(cli, moved, store.conversation) == [*TEXTS, "newer"]


@posix
@pytest.mark.parametrize(("typed", "status"), [("restore\n", 0), ("yes\n", 4), ("\n", 4), ("\x04", 4)])
def test_the_typed_word_decides(store: Seeded, copy: Path, typed: str, status: int) -> None:
    before = store.db.read_bytes()
    ended, screen = at_a_terminal("restore", str(copy), "--to", str(store.db), typed=typed)
    assert ended == status, screen
    words = " ".join(screen.split())
    assert "There is a store at" in words
    assert "before-restore-" in words
    assert store.head in words
    moved = [path for path in store.db.parent.iterdir() if ".before-restore-" in path.name]
    assert bool(moved) == (status == 0)
    assert (store.db.read_bytes() == before) == (status != 0)


HOLD: Final = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1])
other.execute("SELECT 1 FROM entry").fetchone()
print("open", flush=True)
sys.stdin.read()
"""


@posix
def test_a_store_that_somebody_has_open_is_left_alone_and_it_is_said_who(
    store: Seeded, cli: Run, copy: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"open\n"
        ran = cli("restore", str(copy), "--to", str(store.db), "--yes")
        assert ran.status == 5
        assert "in use" in ran.err
        if Path("/proc/self/fd").is_dir():
            assert str(other.pid) in ran.err
        assert [name for name in left_in(store.db.parent) if "restore" in name or PREFIX in name] == []
        other.stdin.close()
    assert cli("restore", str(copy), "--to", str(store.db), "--yes").status == 0


def test_a_backup_that_was_changed_is_refused_with_where_to_look(
    cli: Run, copy: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(copy)) as other:
        other.execute("UPDATE record SET text = 'forged' WHERE text = ?", (TEXTS[0],))
        other.commit()
    ran = cli("restore", str(copy), "--to", str(tmp_path / "new.db"))
    assert ran.status == 6
    assert f"verify --db {copy}" in ran.err
    assert not (tmp_path / "new.db").exists()
    assert cli("restore", str(copy), "--even-broken", "--to", str(tmp_path / "new.db")).status == 2


# ---- maintain ------------------------------------------------------------------------------------------


def test_maintain_says_what_it_did(store: Seeded, cli: Run) -> None:
    ran = cli("maintain", "--db", str(store.db))
    assert ran.status == 0
    assert "freed" in ran.out
    assert "one piece" in ran.out
    found = document(cli("maintain", "--vacuum", "--db", str(store.db), "--json"))
    assert (found["exists"], found["vacuumed"], found["wal_emptied"]) == (True, True, True)
    assert found["bytes_after"] == store.db.stat().st_size
    assert cli("verify", "--db", str(store.db), "--known-head", store.head).status == 0


def test_maintain_without_a_store_says_so_and_makes_none(cli: Run, db: Path) -> None:
    ran = cli("maintain", "--db", str(db))
    assert (ran.status, "no store" in ran.out) == (0, True)
    assert document(cli("maintain", "--db", str(db), "--json"))["exists"] is False
    assert not db.parent.exists()


def test_maintain_says_what_a_reader_keeps_from_being_done(store: Seeded, cli: Run) -> None:
    with closing(sqlite3.connect(store.db, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entry").fetchone()
        on_store(store.db, lambda node: node.redact_message(store.seqs[0]))
        ran = cli("maintain", "--db", str(store.db))
        assert ran.status == 0
        assert "still to be cleaned" in " ".join(ran.out.split())
        assert "not emptied" in ran.out
    ran = cli("maintain", "--db", str(store.db))
    assert "1 finished" in ran.out


@pytest.mark.slow
def test_as_a_process_of_its_own(store: Seeded, tmp_path: Path) -> None:
    for words in (
        ("maintain", "--db", str(store.db)),
        ("backup", str(tmp_path / "b.db"), "--db", str(store.db)),
        ("restore", str(tmp_path / "b.db"), "--to", str(tmp_path / "r.db")),
    ):
        ran = process(*words)
        assert (ran.returncode, ran.stderr) == (0, "")
