"""What an import puts into the record, and what it does not: twice, erased, private, excluded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp.domain.copies import Selection
from ccn_mcp.domain.errors import Excluded
from ccn_mcp.domain.imported import Chat, Options
from ccn_mcp.domain.limits import CONTENT_BYTES_MAX, IMPORT_BATCH_MAX
from ccn_mcp.domain.masking import MARK
from ccn_mcp.node import imports
from ccn_mcp.node.context import Caller, Context
from ccn_mcp.node.exports import export_lines
from ccn_mcp.node.node import Node
from ccn_mcp.node.redaction import erase, plan
from ccn_mcp.settings import Settings
from tests.interop.importing import SESSION, imported, jsonl, line, messages, parsed, spoken, with_secret
from tests.interop.test_import_formats import TREE
from tests.node.world import FakeClock, FakeEntropy, head_of, node_on

pytestmark = pytest.mark.anyio

TALK = jsonl(
    line("user", "Which paint?", 0),
    line("assistant", [{"type": "text", "text": "Let me look."}], 1),
    line("assistant", [{"type": "text", "text": "The blue one."}], 2),
    line("user", "Yes", 3),
    line("user", "Yes", 4),
)
SAID = [
    ("user", "Which paint?"),
    ("assistant", "Let me look."),
    ("assistant", "The blue one."),
    ("user", "Yes"),
    ("user", "Yes"),
]


async def test_entries_say_that_they_were_imported_and_keep_ids_and_times(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db") as node:
        done = await imported(node, TALK)
        assert (done["imported"], done["conversations"], done["already_there"]) == (5, 1, 0)
        assert await spoken(node) == SAID
        first = (await messages(node))[0]
        assert first.time_us == FakeClock().at_us, "an entry's time is when it was recorded"
        assert first.body is not None
        assert first.body["source"] == "import"
        assert first.body["original"] == {"format": "claude-code", "id": "u-000000"}
        assert first.body["said_at"] == 1_740_909_600_250_000
        listed = await node.get_history(scope="*")
        (conversation,) = listed["conversations"]
        assert conversation["scope"] == "/home/ann/boat"
        page = await node.get_history(conversation_id=conversation["conversation_id"])
        assert page["messages"][0]["at"] == "2025-03-02T10:00:00Z", "shown is when it was said"
        loaded = await node.load_plate(conversation_id=conversation["conversation_id"])
        assert "2025-03-02 10:00 UTC" in loaded["text"]
        hits = await node.get_history(query="paint", scope="*")
        assert hits["hits"][0]["at"] == "2025-03-02T10:00:00Z"
        assert (await node.verify_chain(deep=True))["ok"]


async def test_a_second_import_adds_nothing(tmp_path: Path) -> None:
    files = (
        TALK,
        json.dumps(TREE),
        jsonl({"role": "user", "content": "a"}, {"role": "user", "content": "a"}),
    )
    async with node_on(tmp_path / "ccn.db") as node:
        first = await imported(node, *files)
        before = await head_of(node)
        second = await imported(node, *files)
        assert (second["imported"], second["already_there"]) == (0, first["imported"])
        assert await head_of(node) == before
    async with node_on(tmp_path / "ccn.db", seed="another process") as node:
        assert (await imported(node, *files))["imported"] == 0


async def test_what_is_new_in_a_file_comes_in(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db") as node:
        await imported(node, TALK)
        done = await imported(node, TALK + jsonl(line("assistant", "Done.", 9)))
        assert (done["imported"], done["already_there"]) == (1, 5)
        assert (await spoken(node))[-1] == ("assistant", "Done.")
        assert len((await node.get_history(scope="*"))["conversations"]) == 1


async def test_a_session_that_a_hook_or_tool_recorded_is_not_recorded_twice(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db") as node:
        hook = node.as_caller(Caller(source="hook"))
        tool = node.as_caller(Caller(source="tool"))
        opened = await hook.record_message("user", "Which paint?", session_id=SESSION)
        await tool.record_message("assistant", "The blue one.\n", session_id=SESSION)
        await hook.record_message("user", "Yes", session_id=SESSION)
        for _ in range(2):
            await imported(node, TALK)
            page = await node.get_history(conversation_id=opened["conversation_id"], order="oldest")
            assert [item["text"] for item in page["messages"]] == [
                "Which paint?",
                "The blue one.\n",
                "Yes",
                "Let me look.",
                "Yes",  # said twice, recorded once: the other comes in
            ]


async def test_what_a_hook_recorded_once_stands_for_one_message_wherever_it_was_said(tmp_path: Path) -> None:
    data = jsonl(
        line("user", "Yes", 1), line("user", "x", 2, sessionId="other"), line("user", "Yes", 3, cwd="/moved")
    )
    async with node_on(tmp_path / "ccn.db") as node:
        hook = node.as_caller(Caller(source="hook"))
        await hook.record_message("user", "Yes", session_id=SESSION)
        done = await imported(node, data)
        assert (done["imported"], done["already_there"]) == (2, 1)


async def test_the_same_words_under_another_id_are_another_message(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db") as node:
        await imported(node, jsonl(line("user", "Yes", 3)))
        done = await imported(node, jsonl(line("user", "Yes", 4)))
        assert (done["imported"], done["already_there"]) == (1, 0)


# ---- erased things stay erased -------------------------------------------------------------------------


async def erasing_node(folder: Path) -> tuple[Any, Node]:
    store = with_secret(folder)(folder / "ccn.db")
    ctx = Context(store, FakeClock(), FakeEntropy(), Settings(db=folder / "ccn.db"))
    return store, Node(ctx, Caller())


async def test_an_erased_message_does_not_come_back(tmp_path: Path) -> None:
    store, node = await erasing_node(tmp_path)
    async with store:
        await node.as_caller(Caller(source="hook")).record_message("user", "Which paint?", session_id=SESSION)
        await imported(node, TALK)
        for record in await messages(node):
            assert record.body is not None
            if record.body["text"] in ("Which paint?", "The blue one."):
                await node.redact_message(record.seq)
        before = await head_of(node)
        dry = await imported(node, TALK, dry_run=True)
        done = await imported(node, TALK)
        assert done["imported"] == 0
        assert done["skipped"][imports.ERASED] == 2
        assert dry["skipped"][imports.ERASED] == 1, (
            "by its key; the hook's is known by its text, when it is written"
        )
        assert await head_of(node) == before


async def test_an_erased_conversation_takes_what_is_new_elsewhere(tmp_path: Path) -> None:
    store, node = await erasing_node(tmp_path)
    async with store:
        await imported(node, TALK)
        (old,) = (await node.get_history(scope="*"))["conversations"]
        chosen = Selection((), old["conversation_id"], None, None, None, None)
        await erase(node.ctx, node.caller, await plan(node.ctx, chosen))
        assert await spoken(node) == []
        assert (await imported(node, TALK))["imported"] == 0
        assert await spoken(node) == []
        done = await imported(node, TALK + jsonl(line("user", "Something new", 9)))
        assert done["imported"] == 1
        assert await spoken(node) == [("user", "Something new")]
        (new,) = (await node.get_history(scope="*"))["conversations"]
        assert new["conversation_id"] != old["conversation_id"]


# ---- what is kept out, replaced, split, masked ---------------------------------------------------------


async def test_excluded_folders_and_private_moments_stay_out(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db") as node:
        done = await imported(node, TALK, may_record=lambda folder: folder != "/home/ann/boat")
        assert done["imported"] == 0
        assert done["skipped"] == {imports.EXCLUDED: 5}
        done = await imported(
            node, TALK, withheld=lambda chat, said: chat.session == SESSION and said.text == "Yes"
        )
        assert done["imported"] == 3
        assert done["skipped"] == {imports.PRIVATE: 2}
    async with node_on(
        tmp_path / "ccn.db", excluded=tmp_path
    ) as node:  # in a conversation that is there already
        with pytest.raises(Excluded):
            await imported(node, TALK + jsonl(line("user", "more", 9)))


async def test_secrets_are_masked_and_unstorable_characters_replaced_and_counted(tmp_path: Path) -> None:
    secret = "sk-ant-" + "a1B" * 10
    data = jsonl(
        {"role": "user", "content": f"my key is {secret}"}, {"role": "user", "content": "a\x00b\ud800c"}
    )
    async with node_on(tmp_path / "ccn.db") as node:
        done = await imported(node, data)
        assert (done["imported"], done["masked_secrets"], done["replaced_characters"]) == (2, 1, 2)
        stored = [text for _, text in await spoken(node)]
        assert secret not in "".join(stored)
        assert stored == [f"my key is {MARK.format(kind='anthropic', n=1)}", "a\ufffdb\ufffdc"]
        bodies = [record.body for record in await messages(node)]
        assert bodies[0] is not None
        assert bodies[1] is not None
        assert (bodies[0]["masked"], bodies[1]["replaced"]) == ({"anthropic": 1}, 2)
        assert (await imported(node, data))["imported"] == 0


async def test_bytes_that_are_no_utf8_are_replaced_not_lost(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db") as node:
        done = await imported(node, b'{"role":"user","content":"caf\xe9"}\n')
        assert done["replaced_characters"] == 1
        assert await spoken(node) == [("user", "caf\ufffd")]


async def test_an_over_long_message_comes_in_parts_and_only_once(tmp_path: Path) -> None:
    text = "漢 wave " * (CONTENT_BYTES_MAX // 8)
    async with node_on(tmp_path / "ccn.db") as node:
        done = await imported(node, jsonl(line("user", text, 1)))
        assert done["split_messages"] == 1
        stored = [part for _, part in await spoken(node)]
        assert len(stored) > 1
        assert "".join(stored) == text
        parts = [record.body["part"] for record in await messages(node) if record.body is not None]
        assert parts == [f"{number}/{len(stored)}" for number in range(1, len(stored) + 1)]
        assert (await imported(node, jsonl(line("user", text, 1))))["imported"] == 0


async def test_the_same_id_with_another_text_is_told(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db") as node:
        await imported(node, jsonl(line("user", "first", 1)))
        done = await imported(node, jsonl(line("user", "second", 1)))
        assert done["skipped"] == {imports.CHANGED: 1}
        assert await spoken(node) == [("user", "first")]


async def test_other_branches_lie_in_a_conversation_of_their_own_flagged(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db") as node:
        await imported(node, json.dumps(TREE))
        found = (await node.get_history(scope="default"))["conversations"]
        assert {item["title"]: item["messages"] for item in found} == {
            "Harbours": 3,
            "Harbours (other branches)": 1,
        }
        originals = [record.body["original"] for record in await messages(node) if record.body is not None]
        flagged = [item for item in originals if isinstance(item, dict) and item.get("alternate")]
        assert [item["id"] for item in flagged] == ["m-2"]


async def test_scopes(tmp_path: Path) -> None:
    async with node_on(tmp_path / "ccn.db", scope="/where/i/am") as node:
        await imported(node, TALK, scope="mine")
        await imported(node, json.dumps(TREE))
        scopes = {item["scope"] for item in (await node.get_history(scope="*"))["conversations"]}
        assert scopes == {"mine", "default"}


# ---- dry, interrupted, side by side --------------------------------------------------------------------


async def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ccn.db"
    async with node_on(path) as node:
        done = await imported(node, TALK, json.dumps(TREE), dry_run=True)
        assert (done["imported"], done["conversations"], done["dry_run"]) == (9, 3, True)
        assert not path.exists()
        await imported(node, TALK)
        before = await head_of(node)
        done = await imported(node, TALK, json.dumps(TREE), dry_run=True)
        assert (done["imported"], done["already_there"]) == (4, 5)
        assert await head_of(node) == before


async def test_an_interrupted_import_goes_on_where_it_stopped(tmp_path: Path) -> None:
    count = 3 * IMPORT_BATCH_MAX + 7
    data = jsonl(*(line("user", f"message {number}", number) for number in range(count)))
    async with node_on(tmp_path / "ccn.db") as node:
        importer = imports.Importer(node.ctx, node.caller)

        def stopping() -> None:
            if importer.tally.imported >= 2 * IMPORT_BATCH_MAX:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await importer.feed(parsed(data), stopping)
        assert len(await messages(node)) == 2 * IMPORT_BATCH_MAX
        done = await imported(node, data)
        assert (done["already_there"], done["imported"]) == (
            2 * IMPORT_BATCH_MAX,
            count - 2 * IMPORT_BATCH_MAX,
        )
        assert [text for _, text in await spoken(node)] == [f"message {number}" for number in range(count)]


async def test_two_imports_at_once_record_each_message_once(tmp_path: Path) -> None:
    data = jsonl(*(line("user", f"message {number}", number) for number in range(500)))
    async with (
        node_on(tmp_path / "ccn.db", seed="a") as one,
        node_on(tmp_path / "ccn.db", seed="b") as other,
    ):
        done = await asyncio.gather(imported(one, data), imported(other, data))
        assert sum(item["imported"] for item in done) == 500
        assert len(await messages(one)) == 500
        assert len((await one.get_history(scope="*"))["conversations"]) == 1


async def test_other_writers_get_their_turn_between_batches(tmp_path: Path) -> None:
    data = jsonl(*(line("user", f"message {number}", number) for number in range(20 * IMPORT_BATCH_MAX)))
    async with (
        node_on(tmp_path / "ccn.db", seed="a") as one,
        node_on(tmp_path / "ccn.db", seed="b") as other,
    ):
        await other.record_message("user", "before", session_id="mine")
        running = asyncio.create_task(imported(one, data))
        during = 0
        while not running.done():
            await other.record_message("user", "meanwhile", session_id="mine")
            during += not running.done()
        await running
        assert during >= 5


# ---- our own export ------------------------------------------------------------------------------------


async def exported(node: Node) -> str:
    return "".join([text + "\n" async for text in export_lines(node.ctx)])


async def test_an_export_comes_back_as_a_record_about_the_old_store(tmp_path: Path) -> None:
    async with node_on(tmp_path / "old.db", clock=FakeClock(1_700_000_000_000_000), scope="/boat") as old:
        one = await old.open_conversation(title="Paint")
        await old.record_message("user", "Which?\n\x07é", conversation_id=one, name="Ann")
        await old.record_message("assistant", "Blue.", conversation_id=one)
        await imported(old, json.dumps(TREE))
        info = await old.ctx.store.info()
        assert info.store_id is not None
        store, head = info.store_id.hex(), str(info.head)
        text = await exported(old)
        said = await spoken(old)
        there = {record.seq: record for record in await messages(old)}

    async with node_on(tmp_path / "new.db") as new:
        done = await imported(new, text)
        assert (done["imported"], done["skipped"]) == (len(said), {})
        assert sorted(await spoken(new)) == sorted(said)
        check = await new.verify_chain(deep=True)
        assert check["ok"]
        for record in await messages(new):
            assert record.body is not None
            about = record.body["original"]
            assert isinstance(about, dict)
            seq = about["seq"]
            assert isinstance(seq, int)
            assert (about["store"], about["head"], about["format"]) == (store, head, "ccn.export/1")
            before = there[seq].body
            assert before is not None
            assert (before["text"], before["role"]) == (record.body["text"], record.body["role"])
            assert record.body["said_at"] == before.get("said_at", there[seq].time_us)
        titles = {
            item["title"]: item["scope"] for item in (await new.get_history(scope="*"))["conversations"]
        }
        assert titles == {"Paint": "/boat", "Harbours": "default", "Harbours (other branches)": "default"}
        assert (await imported(new, text))["imported"] == 0
    async with node_on(tmp_path / "old.db") as old:
        assert (await old.verify_chain(known_head=head))["known_head_matches"], (
            "the head in the copy is the old one's"
        )


async def test_an_erased_message_of_an_export_is_told_as_a_gap(tmp_path: Path) -> None:
    async with node_on(tmp_path / "old.db") as old:
        done = await old.record_message("user", "secret", session_id="s")
        await old.record_message("user", "open", session_id="s")
        await old.redact_message(done["seq"])
        text = await exported(old)
    async with node_on(tmp_path / "new.db") as new:
        result = await imported(new, text)
        assert result["skipped"] == {"erased in the store it comes from": 1}
        assert await spoken(new) == [("user", "open")]


async def test_an_export_without_its_first_line_is_not_taken(tmp_path: Path) -> None:
    async with node_on(tmp_path / "old.db") as old:
        await old.record_message("user", "hello", session_id="s")
        head, *rest = (await exported(old)).splitlines()
    async with node_on(tmp_path / "new.db") as new:
        importer = imports.Importer(new.ctx, new.caller)
        await importer.feed(parsed("\n".join(rest), form="ccn-export"))
        assert importer.tally.imported == 0
        for wrong in ({"store_id": "x"}, {"head": "1:0"}, {"store_id": None}):
            lines = "\n".join([json.dumps({**json.loads(head), **wrong}), *rest])
            await importer.feed(parsed(lines))
        assert importer.tally.imported == 0


async def test_reasons_are_bounded(tmp_path: Path) -> None:
    data = jsonl(*({**line("user", "x", n), "type": f"odd-{n}"} for n in range(300)))
    async with node_on(tmp_path / "ccn.db") as node:
        done = await imported(node, data)
        assert len(done["skipped"]) <= imports.REASONS_MAX + 1
        assert sum(done["skipped"].values()) == 300
        assert done["skipped"][imports.OTHER] == 300 - imports.REASONS_MAX


def test_options_are_off_unless_asked_for() -> None:
    assert Options() == Options(tools=False, thinking=False)
    assert Chat("f", "s", "o").scope is None
