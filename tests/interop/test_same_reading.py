"""Hooks and imports read transcripts by one set of rules, and know each message by one key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccn_mcp.app import open_node
from ccn_mcp.cli.import_ import importer_on
from ccn_mcp.domain.imported import Item, Options, Said
from ccn_mcp.interop.claude_code import _grouped
from ccn_mcp.interop.transcripts import items
from ccn_mcp.settings import Settings
from tests.interop.hooks import Claude

PROMPTS = ("p1", "p2")
TEXTS = st.sampled_from(
    [
        "yes",
        " yes\n",
        "no",
        " ",
        "",
        "[Request interrupted by user]",
        "<local-command-stdout>x</local-command-stdout>",
        "<command-name>/x</command-name>\n<command-args> y </command-args>",
        "<b>said</b>",
    ]
)
BLOCKS = st.lists(
    st.one_of(
        TEXTS.map(lambda text: {"type": "text", "text": text}),
        st.just({"type": "image", "source": {}}),
        st.just({"type": "thinking", "thinking": "hm"}),
        st.just({"type": "tool_use", "id": "t", "name": "Bash", "input": {}}),
    ),
    max_size=3,
)
CONTENT = st.one_of(TEXTS, BLOCKS)
MARKS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {},
        {},
        {"isMeta": True},
        {"isSidechain": True},
        {"isCompactSummary": True},
        {"isApiErrorMessage": True},
        {"toolUseResult": {}},
    ]
)


@st.composite
def lines(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A transcript of two prompts, as Claude Code would write it and with oddities."""
    made: list[dict[str, Any]] = []
    for prompt in PROMPTS:
        begin = {"type": "user", "promptId": prompt, "message": {"role": "user", "content": f"ask {prompt}"}}
        made.append(begin)
        for _ in range(draw(st.integers(0, 5))):
            role = draw(st.sampled_from(["user", "assistant", "system"]))
            line = {"type": role, "message": {"role": role, "content": draw(CONTENT)}, **draw(MARKS)}
            if role == "user":
                line["promptId"] = prompt
            made.append(line)
    return [{**line, "uuid": f"u{n}", "sessionId": "s"} for n, line in enumerate(made)]


@given(lines())
@settings(max_examples=300, deadline=None)
def test_both_find_the_same_messages_under_the_same_names(made: list[dict[str, Any]]) -> None:
    data = "".join(json.dumps(line) + "\n" for line in made).encode()
    of_hook = [
        (prompt.id, said.role, said.text, said.nth) for prompt in _grouped(data) for said in prompt.said
    ]
    found = [item for item in items(BytesIO(data), "s.jsonl", Options()) if isinstance(item, Said)]
    assert [(said.prompt, said.role, said.text, said.nth) for said in found] == of_hook


@pytest.mark.anyio
async def test_a_hook_that_records_in_the_middle_of_an_import_is_first_or_second_and_never_both(
    tmp_path: Path,
) -> None:
    claude = Claude(tmp_path)
    claude.asks("p0", "before", uuid="u0", sessionId=claude.session)
    claude.asks("p1", "now", hooked=False, uuid="u1", sessionId=claude.session)
    claude.answers("an answer ", uuid="u2", sessionId=claude.session)
    chosen = Settings(db=claude.db, config_dir=claude.config, scope=str(claude.work))

    def interrupted() -> Iterator[Item]:
        with claude.transcript.open("rb") as source:
            for item in items(source, claude.transcript.name, Options()):
                yield item
                if isinstance(item, Said) and item.text == "now":
                    # The importer has looked already at what is recorded in this conversation.
                    claude.hook("user-prompt-submit", prompt_id="p1", prompt="now")
                    claude.stops("p1", "an answer")

    async with open_node(settings=chosen) as node:
        importer = importer_on(node)
        await importer.feed(interrupted())
        done = await importer.finish()
    assert (done["imported"], done["already_there"], done["skipped"]) == (0, 3, {})
    wanted = [("user", "before"), ("user", "now"), ("assistant", "an answer ")]
    assert claude.recorded() == wanted
    claude.start("resume")
    claude.hook("session-end")
    assert claude.recorded() == wanted
    assert claude.troubles() == []


@pytest.mark.anyio
@pytest.mark.parametrize("known", [True, False])
async def test_a_forks_copy_comes_in_only_where_its_origin_is_not_in_the_record(
    tmp_path: Path, known: bool
) -> None:
    first, fork = Claude(tmp_path, session="first"), Claude(tmp_path, session="fork")
    if known:
        first.asks("p0", "long ago")
        first.stops("p0", "answered")
    # As Claude Code writes it: the copied line of the person names the fork and its first prompt.
    fork.asks("p1", "long ago", hooked=False, uuid="u1", sessionId="fork")
    fork.answers("answered", uuid="u2", sessionId="fork", requestSessionId="first")
    fork.asks("p1", "now", uuid="u3", sessionId="fork")
    fork.answers("answered", uuid="u4", sessionId="fork")
    fork.uses_tool("p1")
    fork.stops("p1", "done")
    own = [("user", "now"), ("assistant", "answered"), ("assistant", "done")]
    assert fork.recorded() == own
    chosen = Settings(db=fork.db, config_dir=fork.config, scope=str(fork.work))
    async with open_node(settings=chosen) as node:
        importer = importer_on(node)
        with fork.transcript.open("rb") as source:
            await importer.feed(items(source, fork.transcript.name, Options()))
        done = await importer.finish()
    assert done["imported"] == (0 if known else 2)
    assert sorted(fork.recorded()) == sorted(
        own if known else [("user", "long ago"), ("assistant", "answered"), *own]
    )
