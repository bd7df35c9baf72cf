"""Scopes and excluded folders on the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ccn_mcp.node.node import Node
from tests.cli.conftest import Run, Seeded, on_store

PROJECT = "/home/ann/harbour"


@pytest.fixture
def project(store: Seeded) -> str:
    """A conversation of a project in the same store; its id."""

    async def fill(node: Node) -> str:
        ctx = replace(node.ctx, settings=replace(node.ctx.settings, scope=PROJECT))
        return (await Node(ctx, node.caller).record_message("user", "twelve herons"))["conversation_id"]

    found: str = on_store(store.db, fill)
    return found


def listed(cli: Run, store: Seeded, *more: str) -> list[str]:
    ran = cli("history", "--db", str(store.db), "--json", *more)
    assert ran.status == 0, ran.err
    return [item["conversation_id"] for item in json.loads(ran.out)["conversations"]]


def test_scopes_are_listed_with_what_is_in_them(cli: Run, store: Seeded, project: str) -> None:
    ran = cli("scopes", "--db", str(store.db))
    assert ran.out.index(PROJECT) < ran.out.index("default"), "the last one used first"
    assert "1 conversation, 4 messages" in ran.out
    found = json.loads(cli("scopes", "--db", str(store.db), "--limit", "1", "--json").out)
    assert [item["scope"] for item in found["scopes"]] == [PROJECT]
    assert (found["total"], found["left_out"]) == (2, 1)
    assert "raise --limit" in cli("scopes", "--db", str(store.db), "--limit", "1").out
    assert cli("scopes", "--db", str(store.db), "--limit", "0").status == 2


def test_a_person_sees_every_scope_a_session_its_own_until_it_is_widened(
    cli: Run, store: Seeded, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listed(cli, store) == [project, store.conversation]
    assert listed(cli, store, "--scope", PROJECT) == [project]
    assert listed(cli, store, "--scope", "default") == [store.conversation]
    monkeypatch.setenv("CLAUDECODE", "1")
    monkeypatch.setenv("CLAUDE_PROJECT_DIR", PROJECT)
    assert listed(cli, store) == [project]
    hits = json.loads(cli("history", "--search", "herons", "--db", str(store.db), "--json").out)["hits"]
    assert [hit["conversation_id"] for hit in hits] == [project]
    assert listed(cli, store, "--all-scopes") == [project, store.conversation]


def test_the_scope_of_the_folder_that_one_is_in(
    cli: Run, store: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path.resolve())

    async def fill(node: Node) -> str:
        ctx = replace(node.ctx, settings=replace(node.ctx.settings, scope=folder))
        return (await Node(ctx, node.caller).record_message("user", "here"))["conversation_id"]

    here = on_store(store.db, fill)
    monkeypatch.chdir(tmp_path)
    assert listed(cli, store, "--scope", ".") == [here]


def test_a_scope_that_is_not_there_is_told_from_an_empty_one(cli: Run, store: Seeded, project: str) -> None:
    ran = cli("history", "--scope", "/home/ann/harbor", "--db", str(store.db))
    assert (ran.status, ran.out) == (3, "")
    assert f"Did you mean {PROJECT!r}?" in ran.err
    ran = cli("history", "--scope", PROJECT, "--all-scopes", "--db", str(store.db))
    assert ran.status == 2
    assert "leave one of them out" in ran.err


# ---- excluded folders ----------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CCN_CONFIG_DIR", str(tmp_path / "config"))
    folder = tmp_path / "my secret"
    (folder / "deep").mkdir(parents=True)
    return folder


def folders(cli: Run) -> list[str]:
    found: list[str] = json.loads(cli("exclude", "--list", "--json").out)["folders"]
    return found


def test_a_folder_goes_on_the_list_once_and_off_it(cli: Run, secret: Path) -> None:
    assert "No folder is excluded" in cli("exclude", "--list").out
    ran = cli("exclude", str(secret))
    assert ran.status == 0
    assert "until you restart it" in " ".join(ran.out.split())
    assert folders(cli) == [str(secret)]
    assert json.loads(cli("exclude", str(secret / "deep"), "--json").out)["changed"] is False
    assert folders(cli) == [str(secret)]
    assert str(secret) in cli("exclude", "--list").out
    assert cli("exclude", "--remove", str(secret / "deep")).status == 3
    assert cli("exclude", "--remove", str(secret)).status == 0
    assert folders(cli) == []
    ran = cli("exclude", "--remove", str(secret))
    assert ran.status == 3
    assert "exclude --list" in ran.err


def test_this_folder_and_what_must_not_be(
    cli: Run, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(secret)
    assert json.loads(cli("exclude", "--json").out) == {
        "folder": str(secret),
        "changed": True,
        "excluded": True,
        "file": str(tmp_path / "config" / "excluded"),
    }
    assert cli("exclude", str(tmp_path / "no such")).status == 3
    assert cli("exclude", "--list", "--remove").status == 2
    monkeypatch.setenv("CLAUDECODE", "1")
    ran = cli("exclude", "--remove", str(secret))
    assert ran.status == 4
    assert "the person's own act" in ran.err
    assert folders(cli) == [str(secret)]


def test_what_the_variable_excludes_is_shown_and_said(
    cli: Run, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCN_EXCLUDE", str(secret))
    assert f"{secret}  (CCN_EXCLUDE)" in cli("exclude", "--list").out
    ran = cli("exclude", "--remove", str(secret))
    assert ran.status == 3
    assert f"{secret} excludes it" in ran.err


def test_a_program_in_an_excluded_folder_records_nothing(
    cli: Run, secret: Path, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ccn_mcp.domain.errors import Excluded

    cli("exclude", str(secret))
    monkeypatch.chdir(secret / "deep")
    with pytest.raises(Excluded):
        on_store(db, lambda node: node.record_message("user", "private"))
    with pytest.raises(Excluded):
        on_store(db, lambda node: node.open_conversation(title="private"))
    assert not db.exists()
