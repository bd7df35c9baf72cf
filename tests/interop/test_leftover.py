"""Transcripts that the record does not know: counted, offered once, brought in where they are new."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ccn_mcp.cli import doctor_checks
from ccn_mcp.interop import leftover, privacy
from ccn_mcp.interop.session_start import UNSEEN_MAX
from ccn_mcp.settings import Settings
from tests.interop.hooks import Claude

DAY_S = 86_400


@pytest.fixture
def claude(tmp_path: Path) -> Claude:
    return Claude(tmp_path)


def old(
    root: Path, session: str, *, days: float = 10, folder: str = "/home/ann/boat", said: bool = True
) -> Path:
    """A transcript that was there before; one in which nothing was said has other lines."""
    kept = root / ".claude" / "projects" / "-home-ann-boat"
    kept.mkdir(parents=True, exist_ok=True)
    path = kept / f"{session}.jsonl"
    line = {"type": "user" if said else "mode", "cwd": folder, "message": {"role": "user", "content": "x"}}
    path.write_text(json.dumps(line) + "\n")
    at = path.stat().st_mtime - days * DAY_S
    os.utime(path, (at, at))
    return path


def told(claude: Claude, source: str = "startup", **environment: str) -> str:
    out = claude.hook("session-start", "1", source=source, environment=environment)
    return str(json.loads(out).get("systemMessage", ""))


def test_what_was_there_before_is_offered_once_with_its_number_and_date(claude: Claude) -> None:
    for number in range(3):
        path = old(claude.root, f"s{number}", days=10 + number)
    old(claude.root, "empty", said=False)
    privacy.put(claude.config, "hidden", privacy.ON)
    old(claude.root, "hidden", days=20)
    old(claude.root, "excluded", folder="/home/ann/secret")
    offer = told(claude, CCN_EXCLUDE="/home/ann/secret")
    assert "3 sessions of Claude Code on this machine are not in the record" in offer
    assert f"oldest from {leftover.day(path.stat().st_mtime)}" in offer
    assert "deletes them after 30 days" in offer
    assert "ccn-mcp import --claude-code" in offer
    assert told(claude) == "", "once"
    assert claude.troubles() == []


def test_nothing_is_offered_where_nothing_is_there(claude: Claude) -> None:
    claude.asks("p1", "hello")
    assert told(claude) == ""


def test_how_many_are_looked_at_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        old(tmp_path, f"s{number}", said=number % 2 == 0, days=number)
    projects = tmp_path / ".claude" / "projects"
    found = leftover.transcripts(projects, 4)
    assert [path.stem for _, path in found] == ["s0", "s1", "s2", "s3"], "the newest"
    opened: list[Path] = []
    real = leftover._to_import

    def counting(path: Path, *rest: object) -> bool:
        opened.append(path)
        return real(path, *rest)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(leftover, "_to_import", counting)
    left = leftover.unknown(found, tmp_path / "none.db", tmp_path / "config", peeked_most=2)
    assert len(opened) == 2
    assert left.number == 3, "one of the two says nothing; the others are counted as they are"


def test_what_claude_code_is_told_about_its_own_clean_up_is_believed(tmp_path: Path) -> None:
    projects = tmp_path / "projects"
    assert leftover.days_kept(projects) == leftover.KEPT_DAYS
    for text, days in (
        ('{"cleanupPeriodDays": 90}', 90),
        ('{"cleanupPeriodDays": "x"}', 30),
        ("[", 30),
        ("[]", 30),
    ):
        (tmp_path / "settings.json").write_text(text)
        assert leftover.days_kept(projects) == days


def test_a_session_that_no_hook_saw_comes_in_unless_it_was_private(claude: Claude) -> None:
    claude.start()
    idle = [
        Claude(claude.root, session=f"idle {number}", ahead_s=-100_000) for number in range(2 * UNSEEN_MAX)
    ]
    for other in idle:
        other.asks("p1", "before the plugin", hooked=False)
    for session, private in (("unseen", False), ("hidden", True)):
        other = Claude(claude.root, session=session)
        if private:
            privacy.put(claude.config, session, privacy.ON)
        other.asks("p1", f"{session} words", hooked=False)
        other.answers("an answer")
    claude.start("resume")
    claude.start("resume")
    assert not any(other.recorded() for other in idle)
    assert Claude(claude.root, session="unseen").recorded() == [
        ("user", "unseen words"),
        ("assistant", "an answer"),
    ]
    assert Claude(claude.root, session="hidden").recorded() == []


def test_doctor_says_what_would_be_lost_next(claude: Claude, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(claude.root))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    chosen = Settings(db=claude.db, config_dir=claude.config)
    assert [finding.found for finding in doctor_checks.transcripts(chosen)] == ["Claude Code keeps none here"]
    old(claude.root, claude.session, days=1)
    path = old(claude.root, "lost next", days=12)
    claude.asks("p1", "known by this")
    (finding,) = doctor_checks.transcripts(chosen)
    assert finding.status == "warn"
    assert finding.found.startswith(
        "1 session of Claude Code is not in the record; the oldest was last written"
    )
    last = path.stat().st_mtime
    assert leftover.day(last) in finding.found
    assert f"about {leftover.day(last + 30 * DAY_S)} (after 30 days)" in finding.found
    assert "ccn-mcp import --claude-code" in finding.do
    path.unlink()
    (finding,) = doctor_checks.transcripts(chosen)
    assert (finding.status, finding.found) == ("ok", "Claude Code's only session is in the record")
