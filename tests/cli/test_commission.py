"""`commission` and `consensus`: what a person sees, and the guard on pinning."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp.node.node import Node
from tests.cli.conftest import Run, on_store
from tests.cli.test_plate import at_a_terminal
from tests.node.test_commissioning_node import collect, flip, history, scores

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pty is for POSIX")


@pytest.fixture
def eight(db: Path) -> Path:
    """A store with enough reports for a baseline."""
    on_store(db, lambda node: collect(node, scores(8)))
    return db


def groups(cli: Run, db: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cli("commission", "status", "--db", str(db), "--json").out)[
        "groups"
    ]
    return found


def test_alone_it_says_how_reports_are_collected(cli: Run, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCN_DB", str(db))
    ran = cli("commission")
    assert ran.status == 0
    assert "kind=commission" in ran.out
    assert not db.exists(), "looking creates nothing"


def test_status_shows_the_reports_and_where_the_baseline_is_from(cli: Run, eight: Path) -> None:
    ran = cli("commission", "status", "--db", str(eight))
    assert "8 of 8, from 8 instances" in ran.out
    assert "neither measured nor chosen" in ran.out
    assert "ccn-mcp commission pin" in ran.out
    (found,) = groups(cli, eight)
    assert (found["baseline_source"], found["ready"], found["disagree"]) == ("default", True, [])


def test_the_person_pins_and_takes_back(cli: Run, eight: Path) -> None:
    status, screen = at_a_terminal("commission", "pin", "--db", str(eight), typed="pin\n")
    assert status == 0, screen
    assert "Pinned" in screen
    assert groups(cli, eight)[0]["baseline_source"] == "commissioned"
    status, screen = at_a_terminal("commission", "cancel", "--baseline", "--db", str(eight), typed="cancel\n")
    assert status == 0, screen
    assert groups(cli, eight)[0]["baseline_source"] == "default"


def test_nobody_else_does(cli: Run, eight: Path) -> None:
    for command, word in (("pin", "pin"), ("cancel", "cancel")):
        ran = cli("commission", command, "--db", str(eight))
        assert ran.status == 4
        assert "a person at a terminal" in ran.err
        status, screen = at_a_terminal(
            "commission", command, "--db", str(eight), typed=f"{word}\n", CLAUDECODE="1"
        )
        assert status == 4
        assert "inside Claude Code" in screen
        status, screen = at_a_terminal("commission", command, "--db", str(eight), typed="yes\n")
        assert status == 4
        assert "nothing was changed" in screen
    assert groups(cli, eight)[0]["baseline_source"] == "default"


def test_reports_that_disagree_are_refused_before_anything_is_asked(db: Path) -> None:
    on_store(db, lambda node: collect(node, scores(8, warmth=2.5)))
    status, screen = at_a_terminal("commission", "pin", "--db", str(db), typed="pin\n")
    assert status == 4
    assert "warmth" in screen
    assert "type pin" not in screen


# ---- consensus -----------------------------------------------------------------------------------------


def test_replay_is_six_where_an_evaluation_was_changed(cli: Run, db: Path) -> None:
    evaluations = on_store(db, history)
    ran = cli("consensus", "replay", "--db", str(db))
    assert ran.status == 0
    assert "4, the same bit for bit: 4" in ran.out
    flip(db, evaluations[2])
    ran = cli("consensus", "replay", "--db", str(db))
    assert ran.status == 6
    assert f"Entry {evaluations[2]}" in ran.out
    document = json.loads(cli("consensus", "replay", "--group", "m||1", "--db", str(db), "--json").out)
    assert (document["ok"], document["faults"][0]["seq"]) == (False, evaluations[2])


def test_explain_says_each_rule_with_value_and_limit(cli: Run, db: Path) -> None:
    async def off(node: Node) -> str:
        mine = (await node.load_plate(model="m"))["instance_id"]
        await node.report_character_vector([0.5] * 16, instance_id=mine)
        return mine

    mine = on_store(db, off)
    for what in ((), (mine,)):
        ran = cli("consensus", "explain", *what, "--db", str(db))
        assert ran.status == 0
        assert f"{mine}: reinit" in ran.out
        assert "BEYOND" in ran.out
        assert "of 0.100" in ran.out
        assert "does not apply: fewer than three" in ran.out
        assert "neither measured nor chosen" in ran.out.replace("\n    ", " ").replace("\n  ", " ")
        assert "no vote" in ran.out
        assert "self_report, new, weight 1/1" in ran.out
    document = json.loads(cli("consensus", "explain", mine, "--db", str(db), "--json").out)
    assert document["verdicts"][0]["action"] == "reinit"


def test_without_a_store_or_a_verdict_it_says_so(cli: Run, db: Path) -> None:
    assert cli("consensus", "replay", "--db", str(db)).status == 3
    assert cli("consensus", "explain", "--db", str(db)).status == 3
    on_store(db, lambda node: node.load_plate())
    ran = cli("consensus", "explain", "--db", str(db))
    assert ran.status == 3
    assert "nothing was evaluated" in ran.err
    assert cli("consensus", "replay", "--db", str(db)).status == 0
