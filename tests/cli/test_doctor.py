"""What the doctor finds."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp.cli import doctor_checks
from ccn_mcp.cli.doctor_checks import has_wal_reset_race
from ccn_mcp.interop import trouble
from ccn_mcp.settings import config_folder, load
from tests.cli.conftest import RUN_S_MAX, Run, Seeded, environment


def checks(cli: Run, db: Path, status: int) -> dict[str, Any]:
    ran = cli("doctor", "--db", str(db), "--json")
    found = json.loads(ran.out)
    assert (ran.status, found["ok"]) == (status, status == 0), found
    return {item["check"]: item for item in found["checks"]}


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((4, 0, 0), False),
    ],
)
def test_which_sqlite_has_the_race(version: tuple[int, int, int], affected: bool) -> None:
    assert has_wal_reset_race(version) is affected


def test_a_healthy_store(cli: Run, store: Seeded) -> None:
    found = checks(cli, store.db, 0)
    for name in ("store", "folder", "format", "self-test", "forgery", "MCP", "full-text search"):
        assert found[name]["status"] == "ok", found[name]
    assert "--db" in found["store path"]["found"]


def test_no_store_yet_is_fine_and_none_is_made(cli: Run, db: Path) -> None:
    found = checks(cli, db, 0)
    assert "does not exist yet" in found["store"]["found"]
    assert not db.parent.exists()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount namespace")
def test_a_home_on_a_read_only_disk_fails_where_the_store_would_be(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    script = 'mount -t tmpfs -o ro tmpfs "$1" && "$2" -m ccn_mcp doctor --json'
    ran = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(home), sys.executable],
        capture_output=True,
        text=True,
        env=environment(HOME=str(home)),
        timeout=RUN_S_MAX,
        check=False,
    )
    if "mount" in ran.stderr or "unshare" in ran.stderr:
        pytest.skip("no right to mount a file system here")
    found = {item["check"]: item for item in json.loads(ran.stdout)["checks"]}
    assert ran.returncode == 1
    for name in ("folder", "config folder"):
        assert found[name]["status"] == "fail"
        assert f"cannot be made ({home}: Read-only file system)" in found[name]["found"]
        assert "CCN_DB" in found[name]["do"]


def test_what_a_folder_can_hold_is_tried_and_nothing_is_left(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    found = checks(cli, tmp_path / "file" / "deeper" / "ccn.db", 1)
    assert f"({tmp_path / 'file'}: Not a directory)" in found["folder"]["found"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    chosen = load(tmp_path / "ccn.db", config_dir=tmp_path / "config")
    by_name = {finding.check: finding for finding in doctor_checks.files(chosen)}
    assert by_name["config folder"].status == "ok"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_credentials_are_named_and_never_shown(cli: Run, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(db.parent))
    found = checks(cli, db, 0)
    assert found["API credential"]["status"] == found["claude"]["status"] == "ok"
    assert "no variable sets one" in found["API credential"]["found"]
    assert "not on the PATH" in found["claude"]["found"]
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-a-secret")
    ran = cli("doctor", "--db", str(db))
    assert "API credential: ANTHROPIC_API_KEY\n" in ran.out
    assert "sk-a-secret" not in ran.out + ran.err


def test_where_settings_come_from(cli: Run, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCN_CHARACTER", "off")
    monkeypatch.setenv("CLAUDE_CODE_SESSION_ID", "private-session")
    ran = cli("doctor", "--db", str(db))
    assert "character: off (CCN_CHARACTER)" in ran.out
    assert "private-session" not in ran.out


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_permissions_that_others_can_use(cli: Run, store: Seeded) -> None:
    store.db.chmod(0o644)
    store.db.parent.chmod(0o755)
    found = checks(cli, store.db, 0)
    assert found["store"]["status"] == found["folder"]["status"] == "warn"
    assert found["store"]["do"] == f"chmod 600 '{store.db}'"
    assert found["folder"]["do"] == f"chmod 700 '{store.db.parent}'"


def test_another_applications_file(cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE photo (id)")
    found = checks(cli, path, 1)
    assert "store_foreign" in found["store format"]["found"]


def test_a_newer_format(cli: Run, store: Seeded) -> None:
    with closing(sqlite3.connect(store.db)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    found = checks(cli, store.db, 1)
    assert "store_newer" in found["store format"]["found"]
    assert "Update ccn-mcp" in found["store format"]["found"]


def test_a_file_that_is_no_database(cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    assert "store_corrupt" in checks(cli, path, 1)["store format"]["found"]


def test_what_a_hook_could_not_do_is_told(cli: Run, store: Seeded) -> None:
    folder = config_folder(load())
    assert checks(cli, store.db, 0)["hooks"]["status"] == "ok"
    for words in ("the first", "the last"):
        trouble.note(folder, "stop", words)
    found = checks(cli, store.db, 0)["hooks"]
    assert (found["status"], found["found"].endswith("stop: the last"), "2 times" in found["found"]) == (
        "warn",
        True,
        True,
    )
    assert str(folder / trouble.FILE) in found["do"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux tells")
def test_other_processes_are_named(cli: Run, store: Seeded) -> None:
    code = "import sys; kept = open(sys.argv[1], 'rb'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        assert f"{holder.pid} (" in checks(cli, store.db, 0)["other processes"]["found"]
        holder.communicate()
