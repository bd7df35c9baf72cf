"""Real Claude Code at a terminal: the status line, and Esc in the middle of a turn."""

from __future__ import annotations

import pytest

from tests.claude.stub import Reply, Stub, Text
from tests.clients.npm import LINUX_ONLY
from tests.interop.real_claude import BASH, Home, Stalls, in_turn
from tests.interop.terminal_session import Terminal

pytestmark = [pytest.mark.slow, LINUX_ONLY]


def test_the_status_line_counts_and_what_esc_cut_off_is_made_up_for(home: Home) -> None:
    stalls = Stalls()
    answers = in_turn(
        Reply(Text("Seventeen. ")), Reply(Text("Let me look."), BASH), stalls, Reply(Text("Hello."))
    )
    with Stub(answers) as stub, Terminal(home, stub) as terminal:
        terminal.waits_until(lambda: "recorded 0, chain ok" in terminal.told)
        terminal.is_still()
        terminal.types("How many herons?")
        terminal.waits_until(lambda: "recorded 2, chain ok" in terminal.told)
        terminal.is_still()
        terminal.types("Look it up.")
        terminal.waits_until(stalls.began.is_set)
        terminal.presses_escape()
        (transcript,) = home.root.glob(".claude/projects/*/*.jsonl")
        terminal.waits_until(lambda: "Request interrupted by user" in transcript.read_text())
        stalls.over.set()
        said = [("user", "How many herons?"), ("assistant", "Seventeen. "), ("user", "Look it up.")]
        assert home.record.recorded(transcript.stem) == said, "Esc calls no hook"
    with Stub(answers) as stub:
        home.says(stub, "Hello?")
    assert home.record.recorded(transcript.stem) == [*said, ("assistant", "Let me look.")]
    assert home.troubles == []
