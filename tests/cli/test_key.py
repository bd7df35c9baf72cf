"""`ccn-mcp key`: what is shown, and that only the person changes what is trusted; doctor and status beside it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp import settings
from ccn_mcp.cli import doctor_keys
from ccn_mcp.store.keys import KeyRing
from tests.cli.conftest import Run, Seeded, on_store
from tests.cli.test_plate import at_a_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pty is for POSIX")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "config"
    monkeypatch.setenv("CCN_CONFIG_DIR", str(folder))
    return folder


@pytest.fixture
def signed(config: Path, store: Seeded) -> Seeded:
    """A store whose heads are signed; the config folder has to be known first."""
    return store


def document(cli: Run, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli(*arguments, "--json").out)
    return found


def shown(cli: Run, db: Path) -> dict[str, Any]:
    return document(cli, "key", "show", "--db", str(db))


def findings(db: Path) -> dict[str, Any]:
    """What this part of the doctor finds; the whole of it takes seconds."""
    found = doctor_keys.signing(settings.load(db))
    return {item.check: {"status": item.status, "found": item.found, "do": item.do} for item in found}


def key_file(config: Path, end: str) -> Path:
    (path,) = (config / "keys").glob(f"*.{end}")
    return path


def more(db: Path) -> None:
    on_store(db, lambda node: node.record_message("user", "more"))


def test_show_says_who_signs_and_how_far(cli: Run, signed: Seeded, config: Path) -> None:
    facts = shown(cli, signed.db)
    (key,) = facts["keys"]
    assert (key["from"], key["event"], key["current"], key["pinned"]) == (0, "first", True, True)
    assert (facts["private"], facts["trouble"], facts["pinned"]) == ("here", None, key["key"])
    assert facts["signed_to"] == facts["entries"]
    secret = key_file(config, "key").read_text().strip().split("+", 4)[4]
    for ran in (
        cli("key", "show", "--db", str(signed.db)),
        cli("key", "show", "--db", str(signed.db), "--json"),
    ):
        assert ran.status == 0
        assert key["key"] in ran.out
        assert secret not in ran.out
    assert cli("key", "show", "--db", str(signed.db.with_name("none.db"))).status == 3
    assert cli("key").status == 0


def test_rotate_takes_the_typed_word_and_the_record_verifies_on(
    cli: Run, signed: Seeded, config: Path
) -> None:
    before = shown(cli, signed.db)
    status, screen = at_a_terminal("key", "rotate", "--db", str(signed.db), typed="yes\n")
    assert (status, "nothing was changed" in screen) == (4, True), screen
    assert shown(cli, signed.db) == before
    status, screen = at_a_terminal("key", "rotate", "--db", str(signed.db), typed="rotate\n", NO_COLOR="1")
    assert status == 0, screen
    assert "The key is changed" in screen
    assert "does not sign yet" not in screen
    after = shown(cli, signed.db)
    assert [key["current"] for key in after["keys"]] == [False, True]
    assert [key["pinned"] for key in after["keys"]] == [True, False]
    assert after["signed_to"] == after["entries"] == before["entries"] + 1
    assert not list((config / "keys").glob("*.old")) + list((config / "keys").glob("*.next"))
    more(signed.db)
    found = document(cli, "verify", "--db", str(signed.db))
    assert (found["level"], found["signed_to"]) == (2, found["entries"])
    assert found["entries"] > after["entries"]


def test_lost_says_what_it_means_and_another_account_pins_the_new_key(
    cli: Run, signed: Seeded, config: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(config, other)
    key_file(other, "key").unlink()  # it trusts the first key and does not sign
    status, screen = at_a_terminal("key", "rotate", "--lost", "--db", str(signed.db), typed="lost\n")
    assert (status, "not lost" in screen) == (4 + 1, True), screen
    key_file(config, "key").unlink()
    status, screen = at_a_terminal(
        "key", "rotate", "--lost", "--db", str(signed.db), typed="lost\n", COLUMNS="200"
    )
    assert status == 0, screen
    assert "no longer covered" in " ".join(screen.split())
    assert "Whoever can write the store could do the same" in " ".join(screen.split())
    found = document(cli, "verify", "--db", str(signed.db))
    assert (found["level"], found["signed_to"]) == (2, found["entries"])
    new = shown(cli, signed.db)["keys"][-1]
    assert (new["event"], new["pinned"]) == ("lost", True)
    # The other account is told, and goes on once its person has pinned the new key.
    env = {"CCN_CONFIG_DIR": str(other)}
    status, screen = at_a_terminal("verify", "--db", str(signed.db), typed="", **env)
    assert (status, "was lost" in " ".join(screen.split())) == (6, True), screen
    identifier = new["key"].split("+")[1]
    status, screen = at_a_terminal("key", "pin", new["key"], "--db", str(signed.db), typed="y\n", **env)
    assert status == 4, screen
    status, screen = at_a_terminal(
        "key", "pin", new["key"], "--db", str(signed.db), typed=f"{identifier}\n", **env
    )
    assert (status, "Pinned now" in screen) == (0, True), screen
    status, screen = at_a_terminal("verify", "--db", str(signed.db), typed="", **env)
    assert (status, "Level 2" in screen) == (0, True), screen


def test_a_key_of_something_else_is_not_pinned(cli: Run, signed: Seeded) -> None:
    before = shown(cli, signed.db)
    key = before["keys"][0]["key"]
    for wrong in ("nonsense", key[:-4], key.replace("ccn-log/", "ccn-lag/")):
        status, screen = at_a_terminal("key", "pin", wrong, "--db", str(signed.db), typed="y\n")
        assert status == 2, screen
    status, screen = at_a_terminal("key", "pin", key, "--db", str(signed.db), typed="")
    assert (status, "pinned already" in screen) == (0, True)
    assert shown(cli, signed.db) == before


@pytest.mark.parametrize("words", [("rotate",), ("rotate", "--lost"), ("pin", "KEY")])
def test_only_a_person_at_a_terminal(
    cli: Run, signed: Seeded, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    before = shown(cli, signed.db)
    ran = cli("key", *words, "--db", str(signed.db))
    assert (ran.status, "terminal" in ran.err) == (4, True)
    status, screen = at_a_terminal("key", *words, "--db", str(signed.db), typed="no\n", CLAUDECODE="1")
    assert (status, "inside Claude Code" in screen) == (4, True)
    assert shown(cli, signed.db) == before


# ---- doctor and status -----------------------------------------------------------------------------------


def test_doctor_and_status_say_that_all_is_well(cli: Run, signed: Seeded) -> None:
    found = findings(signed.db)
    for name in ("signing key", "pinned key", "signed", "remembered head", "witnesses"):
        assert found[name]["status"] == "ok", found[name]
    assert found["signing key"]["found"].startswith("here: ccn-log/")
    said = document(cli, "status", "--db", str(signed.db))
    assert said["signing"]["signed_to"] == said["entries"]
    assert said["signing"]["remembered_head_matches"] is True
    assert (
        f"Signed to      {said['entries']} of {said['entries']}" in cli("status", "--db", str(signed.db)).out
    )


def test_a_doctors_visit_leaves_no_keys_behind(cli: Run, signed: Seeded, tmp_path: Path) -> None:
    def kept() -> set[Path]:
        # Also where nothing names a config folder: the platform's, in the home folder.
        return {path for path in tmp_path.rglob("*") if path.suffix in (".key", ".pin")}

    before = kept()
    assert before
    assert "signing key" in cli("doctor", "--db", str(signed.db)).out
    assert kept() == before


def test_a_key_that_is_elsewhere_or_cannot_be_used_is_told(cli: Run, signed: Seeded, config: Path) -> None:
    path = key_file(config, "key")
    text = path.read_text()
    path.chmod(0o644)
    found = findings(signed.db)
    assert found["signing key"]["status"] == "fail"
    assert found["signing key"]["found"].startswith("exposed: ")
    assert shown(cli, signed.db)["private"] == "exposed"
    path.write_text("nonsense")
    path.chmod(0o600)
    assert findings(signed.db)["signing key"]["found"].startswith("damaged: ")
    assert "the key cannot be used" in cli("status", "--db", str(signed.db)).out
    path.unlink()
    found = findings(signed.db)
    assert found["signing key"]["status"] == "warn"
    assert "--lost" in found["signing key"]["do"]
    assert "the key is not here" in cli("status", "--db", str(signed.db)).out
    path.write_text(text)
    path.chmod(0o600)
    assert findings(signed.db)["signing key"]["status"] == "ok"


def test_a_pin_of_another_key_is_told(cli: Run, signed: Seeded, config: Path) -> None:
    store_id = bytes.fromhex(shown(cli, signed.db)["store_id"])
    stranger = KeyRing(lambda: config / "stranger").signer(store_id)
    assert stranger is not None
    key_file(config, "pin").write_text(f"{stranger.key}\n")
    found = findings(signed.db)
    assert found["pinned key"]["status"] == "fail"
    assert "key show" in found["pinned key"]["do"]
    assert document(cli, "verify", "--db", str(signed.db))["fault"]["code"] == "signature"
    assert "which the record does not name" in cli("key", "show", "--db", str(signed.db)).out


def test_a_store_that_was_set_back_is_told(cli: Run, signed: Seeded, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(signed.db, copy)
    more(signed.db)
    shutil.copy(copy, signed.db)
    found = findings(signed.db)
    assert found["remembered head"]["status"] == "fail"
    said = document(cli, "status", "--db", str(signed.db))
    assert said["signing"]["remembered_head_matches"] is False
    assert "run ccn-mcp verify" in " ".join(cli("status", "--db", str(signed.db)).out.split())
