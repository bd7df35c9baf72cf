"""Claude's own memory and our record do not collide: what real Claude Code puts into its requests, memory on and off.

No real model was asked: this shows what a model is given to read, not what it makes of it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp.domain.prompt import CONTEXT_HEADER, SERVER_INSTRUCTIONS
from ccn_mcp.server.catalogue import CATALOGUE
from tests.claude.stub import Reply, Request, Stub, Text
from tests.clients.npm import CLAUDE_CODE, LINUX_ONLY, fetched
from tests.interop.real_claude import Home, all_of, reach

MEMORY_OFF: Final = {"CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1"}
ALWAYS_LOADED: Final = {"load_plate", "get_history"}
BUILT_IN: Final = "persistent file-based memory"
FORBIDS: Final = re.compile(
    r"(?:\bnever\b|\bnot\b|n't\b|\bonly\b|\binstead of\b|\bavoid\b)[^.\n]{0,80}\b(?:mcp|tool|server)[^.\n]{0,60}\bmemor"
    r"|memor(?:y|ies)[^.\n]{0,60}\b(?:disabled|unavailable|turned off|switched off|is off)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Memory is disabled in this session.", True),
        ("Do not use tools of other servers for memory.", True),
        ("You have a persistent file-based memory. Write to it with the Write tool.", False),
    ],
)
def test_what_would_be_in_our_way_is_recognised(text: str, found: bool) -> None:
    assert bool(FORBIDS.search(text)) is found


def test_our_texts_never_call_the_record_a_memory() -> None:
    texts = [SERVER_INSTRUCTIONS, CONTEXT_HEADER, *(entry.description for entry in CATALOGUE.values())]
    for text in texts:
        for found in re.finditer(r"\bmemor\w+", text, re.IGNORECASE):
            near = text[max(0, found.start() - 45) : found.end()]
            assert "client's own memory" in near or "note that memory" in near, near
    assert "these tools work all the same" in " ".join(SERVER_INSTRUCTIONS.split())
    assert "on or off" in CATALOGUE["load_plate"].description
    assert "on or off" in CONTEXT_HEADER


@pytest.fixture
def bare_home(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Home:
    """An account without the plugin."""
    made = Home(fetched(tmp_path_factory, CLAUDE_CODE) / "claude", tmp_path / "bare")
    made.root.mkdir()
    return made


def one_turn(home: Home, *more: str, **environment: str) -> Request:
    with Stub(lambda _: Reply(Text("Hello."))) as stub:
        home.run("-p", "Hello there.", *more, ok=True, **reach(stub), **environment)
    return stub.turns[0]


def its_own(request: Request) -> str:
    """The request without what our hook and our server have put in."""
    text = "\n".join(strings(request.body))
    for ours in (
        SERVER_INSTRUCTIONS.strip(),
        CONTEXT_HEADER,
        *(entry.description for entry in CATALOGUE.values()),
    ):
        text = text.replace(ours, "")
    return text


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in strings(item)]


@pytest.mark.slow
@LINUX_ONLY
@pytest.mark.parametrize("memory", [{}, MEMORY_OFF], ids=["on", "off"])
def test_with_the_plugin_the_plate_arrives_and_says_that_it_is_apart(
    home: Home, memory: dict[str, str]
) -> None:
    request = one_turn(home, **memory)
    assert CONTEXT_HEADER in "\n".join(strings(request.body))
    assert "=== begin Plate " in all_of(request)
    assert (BUILT_IN in all_of(request)) is (memory == {})
    assert not FORBIDS.search(its_own(request))


@pytest.mark.slow
@LINUX_ONLY
@pytest.mark.parametrize("memory", [{}, MEMORY_OFF], ids=["on", "off"])
def test_without_the_plugin_instructions_and_two_tools_arrive_at_once(
    bare_home: Home, memory: dict[str, str]
) -> None:
    servers = bare_home.root / "servers.json"
    command = str(Path(sys.executable).with_name("ccn-mcp"))
    servers.write_text(json.dumps({"mcpServers": {"ccn": {"command": command, "args": ["serve"]}}}))
    request = one_turn(bare_home, "--strict-mcp-config", "--mcp-config", str(servers), **memory)
    text = "\n".join(strings(request.body))
    assert SERVER_INSTRUCTIONS.strip() in text, "whole, from the first turn on"
    loaded = {
        tool["name"].removeprefix("mcp__ccn__"): tool["description"]
        for tool in request.body["tools"]
        if tool["name"].startswith("mcp__ccn__") and tool.get("input_schema")
    }
    assert loaded == {name: CATALOGUE[name].description for name in ALWAYS_LOADED}
    assert (BUILT_IN in text) is (memory == {})
    assert not FORBIDS.search(its_own(request))
