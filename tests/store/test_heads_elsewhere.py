"""CCN_HEADS and CCN_HEADS_COMMAND as programs use them: real processes, and what happens where they fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp import settings
from ccn_mcp.cli import doctor_keys
from ccn_mcp.domain.checkpoint import parse_checkpoint, parse_note
from ccn_mcp.domain.models import Group
from ccn_mcp.store.heads import Command
from ccn_mcp.store.keeper import FileKeeper
from ccn_mcp.store.sqlite.connect import real_path
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.cli.conftest import environment, process
from tests.store.model import opening, said

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="its commands are POSIX programs"),
]

WAIT_S_MAX: Final = 20.0
PAUSE_S: Final = 0.01
KEEP: Final = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"


@pytest.fixture(autouse=True)
def _scrubbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):  # noqa: TID251  # to take the person's settings out of it
        if name.startswith(("CCN_", "CLAUDE")):
            monkeypatch.delenv(name)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ccn.db"


def env_of(tmp_path: Path, **more: str) -> dict[str, str]:
    return environment(CCN_CONFIG_DIR=str(tmp_path / "config"), **more)


def record(db: Path, text: str, env: dict[str, str]) -> None:
    """A program that records one message and ends."""
    program = (
        "import asyncio, sys, ccn_mcp\n"
        "async def main():\n"
        "    async with ccn_mcp.open_node(sys.argv[1]) as node:\n"
        "        await node.record_message('user', sys.argv[2])\n"
        "asyncio.run(main())\n"
    )
    words = [sys.executable, "-c", program, str(db), text]
    subprocess.run(words, env=env, timeout=WAIT_S_MAX, check=True, capture_output=True)


def document(db: Path, command: str, env: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(process(command, "--db", str(db), "--json", env=env).stdout)
    return found


def doctor(db: Path, env: dict[str, str]) -> dict[str, Any]:
    """What this part of the doctor finds; the whole of it takes seconds."""
    found = doctor_keys.signing(settings.load(db, env))
    return {item.check: {"status": item.status, "found": item.found} for item in found}


def appears(path: Path) -> bytes:
    """What a program that runs beside us writes, once it has."""
    until = time.monotonic() + WAIT_S_MAX
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(PAUSE_S)  # polls a condition with a deadline
    return path.read_bytes()


def test_a_second_file_is_level_3_and_knows_a_record_that_was_set_back(db: Path, tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    env = env_of(tmp_path, CCN_HEADS=str(tmp_path / "usb" / "heads"))
    record(db, "one", env)
    first = document(db, "verify", env)
    assert (first["level"], first["matched_to"]) == (3, first["entries"])
    copy = shutil.copytree(tmp_path / "data", tmp_path / "copy")
    record(db, "two", env)
    second = document(db, "verify", env)
    assert (second["level"], second["matched_to"]) == (3, second["entries"])
    # The store and this account's own memory are put back together; the second place is not within reach.
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(copy, tmp_path / "data")
    shutil.rmtree(tmp_path / "config" / "heads")
    found = document(db, "verify", env)
    assert (found["ok"], found["level"], found["fault"]["code"]) == (False, 0, "known_head")
    assert first["head"] in found["fault"]["detail"]
    assert second["head"] in found["fault"]["detail"]
    assert "CCN_HEADS" in found["fault"]["detail"]
    assert doctor(db, env)["remembered head"]["status"] == "fail"
    without = {name: value for name, value in env.items() if name != "CCN_HEADS"}
    assert document(db, "verify", without)["level"] == 2, "nothing here tells it from the real one"


def test_a_place_that_is_gone_keeps_nothing_from_being_recorded(db: Path, tmp_path: Path) -> None:
    (tmp_path / "usb").write_text("not a folder")
    env = env_of(tmp_path, CCN_HEADS=str(tmp_path / "usb" / "heads"))
    record(db, "one", env)
    found = document(db, "verify", env)
    assert (found["level"], found["messages"]) == (2, 1)
    told = doctor(db, env)["heads elsewhere"]
    assert (told["status"], str(tmp_path / "usb") in told["found"]) == ("warn", True)
    assert document(db, "status", env)["signing"]["heads_trouble"] == told["found"]
    (tmp_path / "usb").unlink()
    record(db, "two", env)
    assert "heads elsewhere" in doctor(db, env), "a disk that is not there is no new folder"
    (tmp_path / "usb").mkdir()
    record(db, "three", env)
    assert "heads elsewhere" not in doctor(db, env)
    assert document(db, "verify", env)["level"] == 3


def test_trouble_without_words_is_told_where_it_is(db: Path, tmp_path: Path) -> None:
    """A full disk took the name of the file that says why, and none of its words."""
    env = env_of(tmp_path)
    record(db, "one", env)
    (kept,) = (tmp_path / "config" / "heads").iterdir()
    kept.with_name(f"trouble-{kept.name}").write_text("")
    found = doctor(db, env)
    assert "heads elsewhere" not in found, "nobody named a second place"
    assert (found["heads kept here"]["status"], "no space left" in found["heads kept here"]["found"]) == (
        "warn",
        True,
    )


def test_a_command_gets_the_signed_note(db: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (tmp_path / "keep.py").write_text(KEEP)
    env = env_of(tmp_path, CCN_HEADS_COMMAND=f"{sys.executable} {tmp_path / 'keep.py'} {kept}")
    record(db, "one", env)
    note = parse_note(appears(kept))
    checkpoint = parse_checkpoint(note.text)
    found = document(db, "verify", env)
    assert str(checkpoint.head) == found["head"]
    assert len(note.signatures) == 1
    assert doctor(db, env)["CCN_HEADS_COMMAND"]["status"] == "ok"


async def keep_signing(db: Path, tmp_path: Path, words: tuple[str, ...], times: int) -> FileKeeper:
    """One process that signs several heads, each given to the command."""
    keeper = FileKeeper(lambda: tmp_path / "config", real_path(db), command=words)
    async with SqliteStore(db, keeper=keeper) as store:
        await store.append(Group((opening("c1"),)))
        for number in range(times):
            await store.append(Group((said(f"{number}"),)))
            store._log.sign()
    return keeper


async def test_a_command_that_hangs_holds_nobody_up_and_runs_once(db: Path, tmp_path: Path) -> None:
    started = tmp_path / "started"
    words = ("/bin/sh", "-c", f"echo $$ >> {started}; exec sleep 600")
    began = time.monotonic()
    keeper = await keep_signing(db, tmp_path, words, 20)
    assert time.monotonic() - began < WAIT_S_MAX, "it waits for nothing"
    try:
        pids = appears(started).split()
        assert len(pids) == 1, "the next one is not started while one runs"
    finally:
        command = keeper._command
        assert command is not None
        assert command._running is not None
        command._running.kill()
        command._running.wait()
    async with SqliteStore(db, keeper=keeper) as store:
        assert (await store.verify()).level == 2


async def test_a_command_that_fails_is_told_by_the_doctor(db: Path, tmp_path: Path) -> None:
    keeper = FileKeeper(lambda: tmp_path / "config", real_path(db), command=("/bin/sh", "-c", "exit 3"))
    async with SqliteStore(db, keeper=keeper) as store:
        await store.append(Group((opening("c1"), said("one"))))
        store._log.sign()
        command = keeper._command
        assert isinstance(command, Command)
        assert command._running is not None
        command._running.wait(WAIT_S_MAX)
        done = await store.append(Group((said("two"),)))
        assert done.head.size == 4
    env = env_of(tmp_path, CCN_HEADS_COMMAND="no-such-program-here --now")
    found = doctor(db, env)
    assert "status 3" in found["heads elsewhere"]["found"]
    assert found["CCN_HEADS_COMMAND"]["status"] == "warn"
    record(db, "three", env)
    assert "no-such-program-here" in doctor(db, env)["heads elsewhere"]["found"]
    assert document(db, "verify", env)["level"] == 2
