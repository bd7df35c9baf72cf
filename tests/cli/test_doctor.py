"""What the doctor finds."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp.cli.doctor_checks import has_wal_reset_race
from ccn_mcp.interop import trouble
from ccn_mcp.settings import config_folder, load
from tests.cli.conftest import Run, Seeded


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
    import subprocess

    code = "import sys; kept = open(sys.argv[1], 'rb'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        assert f"{holder.pid} (" in checks(cli, store.db, 0)["other processes"]["found"]
        holder.communicate()
