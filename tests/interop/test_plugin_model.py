"""Which model a session of real Claude Code has: read from its transcript, when it is answered and when it changes."""

from __future__ import annotations

import json

import pytest

from tests.claude.stub import Reply, Stub, Text
from tests.clients.npm import LINUX_ONLY
from tests.interop.real_claude import Home, Talk

pytestmark = [pytest.mark.slow, LINUX_ONLY]
OPUS = "claude-opus-5-5"
HAIKU = "claude-haiku-4-5-20251001"


def models(home: Home) -> list[str]:
    """Of the instances that are connected, as a person is shown them."""
    return sorted(item["model"] for item in json.loads(home.ccn("status", "--json"))["instances"])


def groups(home: Home, session: str) -> list[tuple[str, str]]:
    """Model and thinking mode of each instance of the session, as it was last."""
    last = {body["instance"]: body for body in home.record.bodies(9, session)}
    return [(body["model"], body["thinking"]) for body in last.values()]


def test_an_instance_is_in_the_group_of_the_model_that_answers(home: Home) -> None:
    with Stub(lambda _: Reply(Text("Yes."))) as stub:
        first = Talk(home, stub, "--model", OPUS)
        first.says("Which one are you?")
        one = first.turn_is_over()
        second = Talk(home, stub, "--model", HAIKU)
        second.says("And you?")
        second.turn_is_over()
        assert models(home) == [HAIKU, OPUS]
        assert groups(home, one) == [(OPUS, "adaptive")]
        second.ends()
        first.changes_model(HAIKU)
        first.says("And now?")
        first.turn_is_over()
        assert models(home) == [HAIKU]
        first.ends()
        home.says(stub, "Resumed.", "--resume", one, "--model", OPUS)
    assert groups(home, one) == [(HAIKU, "enabled"), (OPUS, "adaptive")]
    events = [body["event"] for body in home.record.bodies(9, one)]
    assert events == [
        *("opened", "loaded", "corrected", "corrected", "terminated"),
        *("opened", "loaded", "corrected", "terminated"),
    ]
    assert [request.body["model"] for request in stub.turns if "stream" in request.body] == [
        OPUS,
        HAIKU,
        HAIKU,
        OPUS,
    ]
    assert home.troubles == []
    assert home.ccn("verify")
