"""Erasing through the verbs: what a page, a search, an export and a retry show afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ccn_mcp import open_node
from ccn_mcp.domain.errors import BadInput, BadText, NotFound, UnknownConversation
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import RecordQuery
from ccn_mcp.node.erasure import find_message
from ccn_mcp.node.exports import export_lines
from ccn_mcp.node.node import Node
from ccn_mcp.settings import Settings
from tests.node.world import head_of

pytestmark = pytest.mark.anyio
TOKEN = "zqxj7wvk"  # noqa: S105  # a word that is nowhere else


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    settings = Settings(db=tmp_path / "data" / "ccn.db", config_dir=tmp_path / "config")
    async with open_node(settings=settings) as made:
        yield made


async def said(node: Node, text: str, conversation: str | None = None, key: str | None = None) -> int:
    done = await node.record_message("user", text, conversation_id=conversation, idempotency_key=key)
    return done["seq"]


def files_with(node: Node, word: str) -> list[str]:
    folder = node.ctx.settings.db.parent
    return [path.name for path in folder.iterdir() if word.encode() in path.read_bytes()]


async def test_it_is_gone_from_every_view_and_its_place_stays(node: Node) -> None:
    here = await node.open_conversation()
    await said(node, "before", here)
    seq = await said(node, f"the {TOKEN} word", here, "k")
    await said(node, "after", here)
    done = await node.redact_message(seq, reason=" a password ")
    assert (done["seq"], done["conversation_id"], done["erased"], done["pending"]) == (seq, here, True, False)
    assert done["head"] == await head_of(node)
    assert "Backups" in done["note"]
    page = await node.get_history(conversation_id=here)
    assert [(item["n"], item["text"]) for item in page["messages"]] == [
        (1, "before"),
        (2, None),
        (3, "after"),
    ]
    assert (await node.get_history(query=TOKEN))["hits"] == []
    assert TOKEN not in (await node.load_plate(conversation_id=here))["text"]
    checked = await node.verify_chain(known_head=done["head"])
    assert (checked["ok"], checked["known_head_matches"], checked["erased"]) == (True, True, 1)
    assert files_with(node, TOKEN) == []
    (entry,) = await node.ctx.store.records(RecordQuery(kinds=(Kind.REDACTION,)))
    assert entry.body is not None
    assert (entry.body["reason"], entry.body["by"], entry.body["source"]) == ("a password", "local", "python")


@pytest.mark.parametrize("form", ["jsonl", "markdown"])
async def test_an_export_shows_the_gap(node: Node, form: str) -> None:
    here = await node.open_conversation()
    seq = await said(node, TOKEN, here)
    await said(node, "after", here)
    await node.redact_message(seq)
    text = "\n".join([line async for line in export_lines(node.ctx, form=form)])
    assert TOKEN not in text
    assert ('"text":null' if form == "jsonl" else "*erased*") in text
    assert "after" in text


async def test_a_retry_finds_its_own_place_and_opens_nothing(node: Node) -> None:
    first = await node.record_message("user", TOKEN, idempotency_key="k")
    await node.redact_message(first["seq"])
    head = await head_of(node)
    again = await node.record_message("user", TOKEN, idempotency_key="k")
    assert (again["already_recorded"], again["seq"], again["n"]) == (True, first["seq"], 1)
    assert again["conversation_id"] == first["conversation_id"]
    assert await head_of(node) == head
    assert files_with(node, TOKEN) == []


async def test_a_message_is_named_by_its_number_too(node: Node) -> None:
    here, there = await node.open_conversation(), await node.open_conversation()
    seqs = []
    for number in range(12):
        seqs.append(await said(node, f"here {number}", here))
        if number % 3 == 0:
            await said(node, f"there {number}", there)
    for n, seq in enumerate(seqs, 1):
        assert (await find_message(node.ctx, at=(here, n))).seq == seq
    done = await node.redact_message(conversation_id=here, n=5)
    assert done["seq"] == seqs[4]
    # An erased one still has its number.
    assert (await find_message(node.ctx, at=(here, 5))).text is None
    assert (await find_message(node.ctx, at=(here, 6))).text == "here 5"


async def test_erasing_again_says_so_and_changes_nothing(node: Node) -> None:
    seq = await said(node, "x")
    first = await node.redact_message(seq)
    again = await node.redact_message(seq, reason="again")
    assert (again["erased"], again["head"]) == (True, first["head"])
    assert "erased before" in again["note"]
    assert again["conversation_id"] == first["conversation_id"]


async def test_what_is_named_wrongly_is_refused(node: Node) -> None:
    with pytest.raises(NotFound):
        await node.redact_message(1)
    assert not node.ctx.settings.db.exists()
    here = await node.open_conversation()
    seq = await said(node, "x", here)
    for wrong in (
        {},
        {"seq": seq, "conversation_id": here},
        {"n": 1},
        {"conversation_id": here},
        {"seq": -1},
    ):
        with pytest.raises(BadInput):
            await node.redact_message(**wrong)
    with pytest.raises(BadInput):
        await node.redact_message(1)  # the conversation's own entry
    with pytest.raises(BadInput):
        await node.redact_message(seq, reason="r" * 201)
    with pytest.raises(BadText):
        await node.redact_message(seq, reason="\x00")
    for n in (0, 2):
        with pytest.raises(NotFound):
            await node.redact_message(conversation_id=here, n=n)
    with pytest.raises(UnknownConversation):
        await node.redact_message(conversation_id="c_none", n=1)
    assert (await node.verify_chain())["erased"] == 0
