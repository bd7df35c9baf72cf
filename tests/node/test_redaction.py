"""Erasing a conversation, a time, a person, a Plate: nothing of it is in any file, and nothing brings it back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp import data, open_node
from ccn_mcp.domain.copies import Selection
from ccn_mcp.domain.erasure import SESSION
from ccn_mcp.domain.errors import (
    BadInput,
    ConversationErased,
    NotFound,
    Refused,
    StoreUnavailable,
    UnknownConversation,
    UnknownInstance,
)
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import ERASURES_PER_BATCH_MAX
from ccn_mcp.domain.models import ConversationQuery, Draft, Erased, Group, RecordQuery
from ccn_mcp.domain.plate import parse_plate
from ccn_mcp.node.context import Caller
from ccn_mcp.node.exports import export_lines
from ccn_mcp.node.node import Node
from ccn_mcp.node.plates import Original, set_plate
from ccn_mcp.node.redaction import Plan, erase, plan
from ccn_mcp.node.results import RedactedMany
from ccn_mcp.settings import Settings
from tests.clients.harness import ROOT
from tests.domain.test_recall import true_run
from tests.node.world import FakeClock, plate_of
from tests.store.test_erasure import reading

pytestmark = pytest.mark.anyio
SECOND: Final = 1_000_000
EXAMPLE: Final = parse_plate(data.read("example_plate.md"))
TRAITS: Final = [*(EXAMPLE.baseline or ())]


def token(name: str) -> str:
    """A word that is nowhere else."""
    return f"zq{name}vk7"


WORDS: Final = ("text", "title", "session", "answer", "client", "speaker", "key")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    settings = Settings(
        db=tmp_path / "data" / "ccn.db", config_dir=tmp_path / "config", scope=f"/home/{token('scope')}"
    )
    async with open_node(settings=settings) as made:
        made.ctx.clock = FakeClock()
        yield made


def clock_of(node: Node) -> FakeClock:
    clock = node.ctx.clock
    assert isinstance(clock, FakeClock)
    return clock


def files_with(node: Node, *words: str) -> list[tuple[str, str]]:
    """Which files of the store's folder hold which of the words."""
    files = list(node.ctx.settings.db.parent.iterdir())
    return [(path.name, word) for path in files for word in words if word.encode() in path.read_bytes()]


async def redact(node: Node, selection: Selection, reason: str | None = None) -> RedactedMany:
    return await erase(node.ctx, node.caller, await plan(node.ctx, selection), reason=reason)


async def lived(node: Node) -> dict[str, str]:
    """One of everything that can hold words: each has its own. Returns conversation and instance."""
    await node.set_plate(EXAMPLE)
    client = node.for_client(token("client"), token("session"))
    loaded = await client.load_plate(title=token("title"), model="m")
    ids = {"conversation_id": loaded["conversation_id"], "instance_id": loaded["instance_id"]}
    await client.record_message(
        "user", f"the {token('text')} word", **ids, name=token("speaker"), idempotency_key=token("key")
    )
    await client.report_character_vector(
        TRAITS, instance_id=ids["instance_id"], relational=[0.5] * 7, receipt=loaded["receipt"]
    )
    run = await client.validate_character(instance_id=ids["instance_id"])
    answers = [*true_run(0)[:5], token("answer")]
    await client.validate_character(instance_id=ids["instance_id"], run_id=run["run_id"], answers=answers)
    return ids


async def checked(node: Node) -> int:
    """The record verifies; how many entries it says are erased."""
    found = await node.ctx.store.verify()
    assert found.fault is None
    return found.erased


async def exported(node: Node, **wanted: Any) -> list[dict[str, Any]]:
    return [json.loads(line) async for line in export_lines(node.ctx, **wanted)][1:]


# ---- a conversation ------------------------------------------------------------------------------------


async def test_a_whole_conversation_leaves_no_word_of_any_kind(node: Node) -> None:
    ids = await lived(node)
    other = await node.open_conversation(title="another")
    await node.record_message("user", "it stays", conversation_id=other)
    words = [token(name) for name in WORDS]
    assert {word for _, word in files_with(node, *words)} == set(words)
    planned = await plan(node.ctx, Selection(conversation_id=ids["conversation_id"]))
    # opened, loaded: two snapshots; a run and its answers.
    assert planned.counts() == {
        "messages": 1,
        "conversations": 1,
        "answers": 2,
        "metrics": 1,
        "reports": 1,
        "instances": 2,
    }
    done = await erase(node.ctx, node.caller, planned, reason="asked")
    assert (done["erased"], done["pending"]) == (planned.counts(), False)
    assert files_with(node, *words) == []
    assert await checked(node) == planned.total
    assert (await node.get_history(query="stays"))["total"] == 1
    assert [item["conversation_id"] for item in (await node.get_history())["conversations"]] == [other]


async def test_with_a_reader_open_it_is_pending_and_then_clean(node: Node) -> None:
    ids = await lived(node)
    words = [token(name) for name in WORDS]
    with reading(node.ctx.settings.db):
        done = await redact(node, Selection(conversation_id=ids["conversation_id"]))
        assert done["pending"]
        assert files_with(node, *words)
        assert await checked(node)
    again = await redact(node, Selection(conversation_id=ids["conversation_id"]))
    assert (again["erased"], again["pending"]) == ({}, False)
    assert files_with(node, *words) == []


async def test_the_folder_goes_with_the_last_conversation_of_it(node: Node) -> None:
    """The scope is a path in every conversation and instance of a project: with them it goes."""
    ids = await lived(node)
    await redact(node, Selection(conversation_id=ids["conversation_id"]))
    assert files_with(node, token("scope")) == []


async def test_an_erased_conversation_is_refused_in_plain_words(node: Node) -> None:
    ids = await lived(node)
    await redact(node, Selection(conversation_id=ids["conversation_id"]))
    for call in (
        lambda: node.get_history(conversation_id=ids["conversation_id"]),
        lambda: node.load_plate(conversation_id=ids["conversation_id"]),
        lambda: node.record_message("user", "more", conversation_id=ids["conversation_id"]),
    ):
        with pytest.raises(ConversationErased, match="was erased"):
            await call()
    with pytest.raises(UnknownInstance):
        await node.report_character_vector(TRAITS, instance_id=ids["instance_id"])
    fresh = await node.for_client("c", token("session")).load_plate()
    assert fresh["conversation_id"] != ids["conversation_id"]
    assert fresh["instance_id"] != ids["instance_id"]
    assert (await node.consensus_status())["connected"] == 1
    assert (await node.status())["conversations"][0]["conversation_id"] == fresh["conversation_id"]


async def test_what_an_instance_does_elsewhere_stays(node: Node) -> None:
    ids = await lived(node)
    there = await node.open_conversation()
    mine = node.for_client("c", None)
    await mine.load_plate(instance_id=ids["instance_id"], conversation_id=there)
    await mine.record_message("user", "elsewhere", conversation_id=there)
    await mine.report_character_vector(TRAITS, instance_id=ids["instance_id"])
    await redact(node, Selection(conversation_id=ids["conversation_id"]))
    assert (await node.ctx.store.seats(instance_id=ids["instance_id"]))[0].report_seq is not None
    assert files_with(node, token("answer")) == []
    assert (await mine.report_character_vector(TRAITS, instance_id=ids["instance_id"]))["action"] == "ok"
    await checked(node)


# ---- nothing brings it back ----------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["hook", "import"])
async def test_a_transcript_that_is_read_again_brings_nothing_back(node: Node, source: str) -> None:
    reader = node.as_caller(Caller(source=source))

    async def read(count: int, prefix: str) -> list[bool]:
        done = [
            await reader.record_message(
                "user", f"{token('text')} {number}", session_id="s1", idempotency_key=f"{prefix}{number}"
            )
            for number in range(count)
        ]
        return [item["already_recorded"] for item in done]

    assert await read(3, "a") == [False] * 3
    first = await node.ctx.store.conversations(ConversationQuery())
    await redact(node, Selection(conversation_id=first[0].id))
    head = (await node.status())["head"]
    # By the same reader, and by another one that has keys of its own; after a restart, too.
    assert await read(3, "a") == await read(3, "b") == [True] * 3
    assert ((await node.status())["head"], files_with(node, token("text"))) == (head, [])
    # What is new opens another conversation, where the old messages are still known.
    assert await read(4, "c") == [True, True, True, False]
    (second,) = await node.ctx.store.conversations(ConversationQuery())
    assert (second.id != first[0].id, second.messages, second.session_id) == (True, 1, "s1")
    assert await read(4, "d") == [True, True, True, False]
    await redact(node, Selection(conversation_id=second.id))
    assert await read(4, "e") == [True] * 4
    assert files_with(node, token("text")) == []
    assert await read(5, "f") == [True] * 4 + [False]
    await checked(node)


async def test_a_title_does_not_come_back_with_its_session(node: Node) -> None:
    reader = node.as_caller(Caller(source="import"))
    here = await reader.open_conversation(session_id="s1", title=token("title"))
    await reader.record_message("user", token("text"), session_id="s1", idempotency_key="k")
    await redact(node, Selection(conversation_id=here))
    again = await node.ctx.store.append(
        Group(
            (
                Draft(
                    Kind.CONVERSATION,
                    0,
                    {
                        "conversation": "c9",
                        "principal": "local",
                        "key": f"{SESSION}s1",
                        "session": "s1",
                        "title": token("title"),
                    },
                ),
            )
        )
    )
    assert (again.receipts[0].replayed, again.receipts[0].body) == (True, {"conversation": here})
    assert files_with(node, token("title")) == []


async def test_a_running_session_goes_on_in_another_conversation(node: Node) -> None:
    """Another process erased the conversation that this one has in mind."""
    mine = node.for_client("c", "s1")
    first = await mine.record_message("user", token("text"))
    async with open_node(settings=node.ctx.settings) as person:
        await redact(person, Selection(conversation_id=first["conversation_id"]))
    second = await mine.record_message("user", "said anew")
    assert second["conversation_id"] != first["conversation_id"]
    assert (await mine.record_message("user", "and more"))["conversation_id"] == second["conversation_id"]


# ---- a time, a person ----------------------------------------------------------------------------------


async def test_a_time_takes_what_lies_in_it_and_whole_conversations_only(node: Node) -> None:
    start = clock_of(node).at_us
    here, there = (
        await node.open_conversation(title=token("here")),
        await node.open_conversation(title="keeps"),
    )
    seqs = []
    for number in range(6):
        clock_of(node).pass_s(60)
        place = here if number in (2, 3) else there
        done = await node.record_message("user", f"{token(f'n{number}')}", conversation_id=place)
        seqs.append(done["seq"])
    span = Selection(since_us=start + 2 * 60 * SECOND, until_us=start + 5 * 60 * SECOND)
    planned = await plan(node.ctx, span)
    assert planned.counts() == {"messages": 3, "conversations": 1}
    assert planned.first is not None
    assert planned.last is not None
    assert (planned.first.seq, planned.last.seq, len(planned.conversations)) == (seqs[1], seqs[3], 2)
    narrower = await plan(node.ctx, replace(span, conversation_id=there))
    assert narrower.counts() == {"messages": 1}
    await erase(node.ctx, node.caller, planned)
    gone = [token(f"n{number}") for number in (1, 2, 3)] + [token("here")]
    assert files_with(node, *gone) == []
    assert files_with(node, token("n0"), token("n4"), token("n5"), "keeps")
    assert await checked(node) == 4


async def test_a_person_is_an_account_or_a_name(node: Node) -> None:
    await node.set_plate(EXAMPLE)
    ann = node.as_caller(Caller(principal=token("ann")))
    hers = (await ann.load_plate(title=token("title")))["conversation_id"]
    await ann.record_message("user", token("hers"), conversation_id=hers)
    here = await node.open_conversation(title="kept")
    await node.record_message("user", token("named"), conversation_id=here, name=token("ann"))
    await node.record_message("user", "by me", conversation_id=here)
    await node.record_message("user", f"to {token('ann')[:-1]}", conversation_id=here, name=token("ann")[:-1])
    planned = await plan(node.ctx, Selection(person=token("ann")))
    assert planned.counts() == {"messages": 2, "conversations": 1, "instances": 2}
    await erase(node.ctx, node.caller, planned)
    assert files_with(node, token("ann"), token("hers"), token("named"), token("title")) == []
    assert [item["text"] for item in (await node.get_history(conversation_id=here))["messages"]] == [
        None,
        "by me",
        f"to {token('ann')[:-1]}",
    ]
    await checked(node)


class Watched:
    """A store that counts what each call erases, and lets another writer in between."""

    def __init__(self, node: Node, *, fails_after: int | None = None) -> None:
        self.sizes: list[int] = []
        self.longest_page = 0
        self.others = 0
        store = node.ctx.store
        self._erase, self._lines, self._node = store.erase, store.lines, node
        self._fails_after = fails_after
        store.erase = self.erase  # type: ignore[method-assign]  # watched, not replaced
        store.lines = self.lines  # type: ignore[method-assign]  # watched, not replaced

    async def erase(self, redactions: Any, *, finish: bool = True) -> Erased:
        if self._fails_after is not None and len(self.sizes) >= self._fails_after:
            raise StoreUnavailable("the power went")
        done = await self._erase(redactions, finish=finish)
        self.sizes.append(len(redactions))
        # Another writer's turn comes between any two batches.
        await self._node.record_message("user", "another's", conversation_id=None)
        self.others += 1
        return done

    async def lines(self, query: Any) -> Any:
        found = await self._lines(query)
        self.longest_page = max(self.longest_page, len(found))
        return found


async def said_by_bob(node: Node, count: int) -> str:
    here = await node.open_conversation()
    drafts = tuple(
        Draft(
            Kind.MESSAGE,
            number,
            {
                "conversation": here,
                "principal": "bob",
                "role": "user",
                "source": "import",
                "text": f"{token('bob')}{number}",
            },
        )
        for number in range(count)
    )
    for at in range(0, count, 500):
        await node.ctx.store.append(Group(drafts[at : at + 500]))
    return here


async def test_many_go_in_batches_and_an_interrupted_erasure_goes_on(node: Node) -> None:
    count = 5 * ERASURES_PER_BATCH_MAX + 7
    here = await said_by_bob(node, count)
    broken = Watched(node, fails_after=3)
    with pytest.raises(StoreUnavailable):
        await redact(node, Selection(person="bob"))
    # The conversation first, which closes it; then two batches. What was erased is erased.
    assert broken.sizes == [1, ERASURES_PER_BATCH_MAX, ERASURES_PER_BATCH_MAX]
    assert await checked(node) == 1 + 2 * ERASURES_PER_BATCH_MAX
    async with open_node(settings=node.ctx.settings) as again:
        watched = Watched(again)
        done = await redact(again, Selection(person="bob"))
    assert done["erased"] == {"messages": count - 2 * ERASURES_PER_BATCH_MAX}
    assert watched.sizes == [*[ERASURES_PER_BATCH_MAX] * 3, 7, 0]
    assert watched.others == 5
    assert files_with(node, token("bob")) == []
    assert await checked(node) == 1 + count
    with pytest.raises(ConversationErased):
        await node.record_message("user", "x", conversation_id=here)


DIES: Final = """
import asyncio, os, signal, sys
from pathlib import Path
from ccn_mcp import open_node
from ccn_mcp.domain.copies import Selection
from ccn_mcp.node.redaction import erase, plan
from ccn_mcp.settings import Settings
from ccn_mcp.store.sqlite import connect

class Dying(connect.Connection):
    left = int(sys.argv[3])
    def execute(self, sql, *rest):
        if sql.startswith("UPDATE entry"):
            if Dying.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            Dying.left -= 1
        return super().execute(sql, *rest)

connect.Connection = Dying

async def work():
    async with open_node(settings=Settings(db=Path(sys.argv[1]), config_dir=Path(sys.argv[2]))) as node:
        await erase(node.ctx, node.caller, await plan(node.ctx, Selection(person="bob")))

asyncio.run(work())
"""


def dies(words: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Erase in a process that is killed before one of its updates."""
    command = [sys.executable, "-c", DIES, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
async def test_killed_in_the_middle_of_many_it_goes_on_from_there(node: Node) -> None:
    count = 3 * ERASURES_PER_BATCH_MAX
    await said_by_bob(node, count)
    settings = node.ctx.settings
    dies_at = 1 + ERASURES_PER_BATCH_MAX + ERASURES_PER_BATCH_MAX // 2
    words = [str(settings.db), str(settings.config_dir), str(dies_at)]
    done = dies(words)
    assert done.returncode == -signal.SIGKILL, done.stderr
    # The conversation and one whole batch; the one that was open is not there at all.
    assert await checked(node) == 1 + ERASURES_PER_BATCH_MAX
    assert (await node.ctx.store.info()).erasures_pending > 0
    finished = await redact(node, Selection(person="bob"))
    assert finished["erased"] == {"messages": count - ERASURES_PER_BATCH_MAX}
    assert ((await node.ctx.store.info()).erasures_pending, files_with(node, token("bob"))) == (0, [])
    assert await checked(node) == 1 + count


@pytest.mark.slow
async def test_twenty_thousand_go_by_pages(node: Node) -> None:
    count = 20_000
    await said_by_bob(node, count)
    watched = Watched(node)
    done = await redact(node, Selection(person="bob"))
    assert done["erased"]["messages"] == count
    assert max(watched.sizes) <= ERASURES_PER_BATCH_MAX
    assert watched.others >= count / ERASURES_PER_BATCH_MAX
    assert watched.longest_page <= 500
    assert files_with(node, token("bob")) == []
    assert await checked(node) == count + 1


# ---- a Plate -------------------------------------------------------------------------------------------


async def test_an_old_plate_goes_with_its_original_and_the_answers_that_quote_it(node: Node) -> None:
    text = data.read("example_plate.md") + f"\n\n{token('plate')}\n".encode()
    original = Original("soul", ((f"{token('file')}.md", f"raw {token('original')}".encode()),))
    old = await set_plate(node.ctx, node.caller, parse_plate(text), original)
    assert old.seq is not None
    with pytest.raises(Refused, match="in force"):
        await plan(node.ctx, Selection(plate=old.seq))
    mine = await node.load_plate()
    run = await node.validate_character(instance_id=mine["instance_id"])
    await node.validate_character(
        instance_id=mine["instance_id"], run_id=run["run_id"], answers=[*true_run(0)[:5], token("answer")]
    )
    await node.set_plate(plate_of())
    words = [token(name) for name in ("plate", "file", "original", "answer")]
    assert {word for _, word in files_with(node, *words)} == set(words)
    done = await redact(node, Selection(plate=old.seq))
    assert done["erased"] == {"plates": 1, "answers": 2}
    assert files_with(node, *words) == []
    assert old.plate.digest not in str(await node.ctx.store.records(RecordQuery(seqs=(old.seq,))))
    assert [item.plate.name for item in await node.plate_versions()] == ["Test"]
    with pytest.raises(Refused, match="load_plate again"):
        await node.validate_character(instance_id=mine["instance_id"])
    await node.load_plate(instance_id=mine["instance_id"])
    assert await checked(node) == 3
    assert (await redact(node, Selection(plate=old.seq)))["already_erased"] == 1


# ---- reports -------------------------------------------------------------------------------------------


async def test_an_erased_report_does_not_vote_and_its_evaluation_says_so(node: Node) -> None:
    from ccn_mcp.domain.character import from_blob
    from ccn_mcp.domain.consensus_record import Mismatch, replay
    from ccn_mcp.domain.consensus_types import GroupState

    await node.set_plate(plate_of())
    gone = await node.load_plate()
    stays = [(await node.load_plate()) for _ in range(2)]
    await node.report_character_vector([0.9] * 16, instance_id=gone["instance_id"])
    for item in stays:
        await node.report_character_vector([0.5] * 16, instance_id=item["instance_id"])
    await redact(node, Selection(conversation_id=gone["conversation_id"]))
    judged = await node.report_character_vector([0.5] * 16, instance_id=stays[1]["instance_id"])
    assert (judged["participants"], set(judged["consensus"].values())) == (2, {0.5})
    await checked(node)
    (evaluation,) = await node.ctx.store.records(RecordQuery(kinds=(Kind.CONSENSUS,), oldest_first=True))
    reports = await node.ctx.store.records(RecordQuery(kinds=(Kind.VECTOR,), limit=9))
    vectors = {item.seq: from_blob(item.blob, 16) for item in reports if item.body is not None}
    assert len(vectors) == 3
    again = replay(GroupState(), evaluation.body or {}, evaluation.blob, vectors)
    assert isinstance(again, Mismatch)
    assert "cannot be replayed" in again.message
    assert "erased" in again.message


# ---- an export, and what is refused --------------------------------------------------------------------


async def test_an_export_shows_the_gaps_with_their_reason(node: Node) -> None:
    here = await node.open_conversation(title=token("title"))
    first = await node.record_message("user", token("text"), conversation_id=here)
    second = await node.record_message("assistant", "stays", conversation_id=here)
    await redact(node, Selection(seqs=(first["seq"],)), "a *password*")
    gap, kept = await exported(node)
    assert (gap["seq"], gap["role"], gap["text"], gap["erased"]) == (first["seq"], "user", None, True)
    assert (gap["redaction"], gap["reason"]) == (second["seq"] + 1, "a *password*")
    assert "erased" not in kept
    await redact(node, Selection(conversation_id=here))
    for wanted in ({}, {"conversation_id": here}):
        gaps = await exported(node, **wanted)
        assert [(item["seq"], item["erased"], item["n"]) for item in gaps] == [
            (first["seq"], True, 1),
            (second["seq"], True, 2),
        ]
    text = "\n".join([line async for line in export_lines(node.ctx, form="markdown")])
    assert "## Erased conversation" in text
    assert f"*erased* by entry {gap['redaction']}: a \\*password\\*" in text
    assert token("title") not in text


async def test_single_messages_go_alone_and_are_combined_with_the_rest(node: Node) -> None:
    ids = await lived(node)
    other = await node.record_message("user", "elsewhere")
    (mine,) = await exported(node, conversation_id=ids["conversation_id"])
    seqs = (mine["seq"], other["seq"])
    assert (await plan(node.ctx, Selection(seqs, ids["conversation_id"]))).counts() == {"messages": 1}
    assert (await plan(node.ctx, Selection(seqs, person="nobody"))).counts() == {}
    done = await redact(node, Selection(seqs))
    assert done["erased"] == {"messages": 2}
    # The title, the session and the reports are the conversation's: they go with it.
    assert files_with(node, token("text")) == []
    assert files_with(node, token("title"), token("session"), token("answer"))


async def test_what_is_selected_wrongly_changes_nothing(node: Node) -> None:
    here = await node.open_conversation()
    seq = (await node.record_message("user", "x", conversation_id=here))["seq"]
    head = (await node.status())["head"]
    for wrong, expected in (
        (Selection(), BadInput),
        (Selection(plate=1, person="x"), BadInput),
        (Selection(plate=seq), NotFound),
        (Selection(seqs=(seq, 99)), NotFound),
        (Selection(seqs=(1,)), BadInput),
        (Selection(seqs=tuple(range(501))), BadInput),
        (Selection(conversation_id="c_none"), UnknownConversation),
        (Selection(since_us=2, until_us=2), BadInput),
    ):
        with pytest.raises(expected):
            await plan(node.ctx, wrong)
    assert (await plan(node.ctx, Selection(person="nobody"))).total == 0
    with pytest.raises(BadInput):
        await erase(node.ctx, node.caller, Plan(Selection(seqs=(seq,)), 99, 1), reason="r" * 201)
    assert (await node.status())["head"] == head
