"""Recording, and reading back: by id, by session, by instance; pages, searches, lists; what was left out."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from ccn_mcp.domain.errors import (
    BadInput,
    BadText,
    CcnError,
    EmptyContent,
    IdempotencyConflict,
    TooLarge,
    UnknownConversation,
    UnknownInstance,
    UnknownRole,
)
from ccn_mcp.domain.ledger import Head
from ccn_mcp.domain.limits import CONTENT_BYTES_MAX, RESULT_CHARS_MAX
from ccn_mcp.domain.merkle import EMPTY_ROOT
from ccn_mcp.node.context import Caller
from ccn_mcp.node.node import Node
from ccn_mcp.node.results import History
from tests.node.world import SECOND, START_US, FakeClock, head_of, node_on, scoped

pytestmark = pytest.mark.anyio
WAIT_S: Final = 30
CALL: Final = re.compile(r"get_history\(([^()]*)\)")
STEPS_MAX: Final = 500
NOTHING: Final = str(Head(0, EMPTY_ROOT))


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "ccn.db"


def texts(page: History) -> list[str | None]:
    return [message["text"] for message in page["messages"]]


def calls_in(left_out: str | None) -> list[dict[str, Any]]:
    """The calls that an answer names, as arguments; taken literally, as a model would."""
    return [
        {
            name.strip(): json.loads(value)
            for name, value in (part.split("=", 1) for part in inner.split(", "))
        }
        for inner in CALL.findall(left_out or "")
    ]


# ---- where a message goes ------------------------------------------------------------------------------


async def test_a_conversation_is_found_by_its_id_its_session_and_its_instance(db: Path) -> None:
    async with node_on(db) as node:
        first = await node.record_message("user", "one", session_id="s1")
        by_id = await node.record_message("user", "two", conversation_id=first["conversation_id"])
        by_session = await node.record_message("assistant", "three", session_id=" s1 ")
        loaded = await node.load_plate(session_id="s1")
        by_instance = await node.record_message("user", "four", instance_id=loaded["instance_id"])
        of_client = await node.for_client("client", "s1").record_message("user", "five")
        alone = await node.record_message("user", "elsewhere")
        page = await node.get_history(conversation_id=first["conversation_id"])
    found = {item["conversation_id"] for item in (first, by_id, by_session, loaded, by_instance, of_client)}
    assert len(found) == 1
    assert alone["conversation_id"] not in found
    assert texts(page) == ["one", "two", "three", "four", "five"]
    assert [message["n"] for message in page["messages"]] == [1, 2, 3, 4, 5]
    assert page["left_out"] is None


async def test_an_instance_that_continues_another_conversation_records_there(db: Path) -> None:
    async with node_on(db) as plain:
        node = plain.for_client("claude-code", "new-session")
        old = await plain.record_message("user", "long ago", session_id="old-session")
        loaded = await node.load_plate(conversation_id=old["conversation_id"])
        said = await node.record_message("user", "and now", instance_id=loaded["instance_id"])
        assert said["conversation_id"] == old["conversation_id"]
        named = await node.record_message(
            "user", "mine", instance_id=loaded["instance_id"], session_id="new-session"
        )
        assert named["conversation_id"] != old["conversation_id"]


async def test_two_nodes_that_open_one_session_at_once_get_one_conversation(db: Path) -> None:
    found: set[str] = set()
    async with node_on(db, seed="a") as one, node_on(db, seed="b") as two:

        async def say(node: Node, text: str) -> None:
            found.add((await node.record_message("user", text, session_id="shared"))["conversation_id"])

        with anyio.fail_after(WAIT_S):
            async with anyio.create_task_group() as group:
                for at in range(6):
                    group.start_soon(say, (one, two)[at % 2], f"message {at}")
        listed = await one.get_history()
        page = await two.get_history(conversation_id=found.copy().pop())
    assert len(found) == len(listed["conversations"]) == 1
    assert sorted(filter(None, texts(page))) == [f"message {at}" for at in range(6)]


async def test_the_same_key_and_content_is_recorded_once(db: Path) -> None:
    async with node_on(db) as node:
        first = await node.record_message("user", "once", session_id="s", idempotency_key="k")
        again = await node.record_message("user", "once", session_id="s", idempotency_key="k")
        assert (first["already_recorded"], again["already_recorded"]) == (False, True)
        assert (again["seq"], again["n"], again["head"]) == (first["seq"], first["n"], first["head"])
        assert (await node.get_history(conversation_id=first["conversation_id"]))["total"] == 1


async def test_a_retry_that_names_no_conversation_finds_its_own_again(db: Path) -> None:
    async with node_on(db) as node:
        first = await node.record_message("user", "once", idempotency_key="k")
        again = await node.record_message("user", "once", idempotency_key="k")
        assert again["already_recorded"]
        assert again["conversation_id"] == first["conversation_id"]
        assert len((await node.get_history())["conversations"]) == 1


@pytest.mark.parametrize("where", [{}, {"session_id": "s"}, {"session_id": "another"}])
async def test_a_key_with_other_content_is_refused_and_leaves_nothing(
    db: Path, where: dict[str, str]
) -> None:
    async with node_on(db) as node:
        await node.record_message("user", "once", session_id="s", idempotency_key="k")
        before = await head_of(node)
        with pytest.raises(IdempotencyConflict):
            await node.record_message("user", "other", idempotency_key="k", **where)
        assert await head_of(node) == before


async def test_keys_of_two_principals_do_not_meet(db: Path) -> None:
    async with node_on(db) as node:
        mine = await node.record_message("user", "a", idempotency_key="k")
        theirs = await node.as_caller(Caller("other")).record_message("user", "b", idempotency_key="k")
        assert not theirs["already_recorded"]
        assert theirs["conversation_id"] != mine["conversation_id"]


# ---- what is refused, without a trace ------------------------------------------------------------------

REFUSED: Final[list[tuple[dict[str, Any], type[CcnError]]]] = [
    ({"role": "system"}, UnknownRole),
    ({"role": "tool"}, UnknownRole),
    ({"role": "User"}, UnknownRole),
    ({"role": "x" * 1_000_000}, UnknownRole),
    ({"content": ""}, EmptyContent),
    ({"content": " \n\t\u2003 "}, EmptyContent),
    ({"content": "x" * (CONTENT_BYTES_MAX + 1)}, TooLarge),
    ({"content": "é" * 1_000_000}, TooLarge),
    ({"content": "half \ud83d of it"}, BadText),
    ({"content": "nul \x00 byte"}, BadText),
    ({"conversation_id": "c_of_somebody_else"}, UnknownConversation),
    ({"conversation_id": "x" * 201}, BadInput),
    ({"conversation_id": "\x00"}, BadText),
    ({"instance_id": "i_nobody"}, UnknownInstance),
    ({"instance_id": "x" * 201}, BadInput),
    ({"session_id": "x" * 201}, BadInput),
    ({"session_id": "\ud800"}, BadText),
    ({"name": "x" * 201}, BadInput),
    ({"idempotency_key": "x" * 201}, BadInput),
    ({"idempotency_key": "ccn:session:s"}, BadInput),
    ({"idempotency_key": "\x00k"}, BadText),
]


@pytest.mark.parametrize(("wrong", "error"), REFUSED, ids=range(len(REFUSED)))
async def test_what_is_refused_leaves_no_trace(
    db: Path, wrong: dict[str, Any], error: type[CcnError]
) -> None:
    async with node_on(db) as node:
        await node.record_message("user", "before", session_id="s")
        before = await head_of(node)
        with pytest.raises(error) as caught:
            await node.record_message(**{"role": "user", "content": "fine", **wrong})
        assert await head_of(node) == before
    assert len(str(caught.value)) < 500, "the error must not echo a megabyte"


async def test_a_refusal_says_the_limit(db: Path) -> None:
    async with node_on(db) as node:
        with pytest.raises(TooLarge, match=r"2,097,152 bytes.*at most 1,048,576"):
            await node.record_message("user", "x" * 2_097_152)
        assert await head_of(node) == NOTHING, "a refused first message must not create the store"


async def test_system_and_tool_messages_come_from_hooks_and_imports(db: Path) -> None:
    async with node_on(db) as node:
        for source in ("hook", "import", "python"):
            for role in ("system", "tool"):
                await node.as_caller(Caller(source=source)).record_message(role, "text", session_id="s")
        for source in ("tool", "cli"):
            with pytest.raises(UnknownRole):
                await node.as_caller(Caller(source=source)).record_message("system", "text")


async def test_content_comes_back_as_it_went_in(db: Path) -> None:
    odd = [
        "  spaced  ",
        "\r\n\t\x01\x7f\x85\u2028\ufeff",
        "e\u0301 é",
        "👩‍👩‍👧  \ufffe",
        "x" * CONTENT_BYTES_MAX,
    ]
    async with node_on(db) as node:
        for text in odd:
            await node.record_message("user", text, session_id="s")
        found = (await node.get_history())["conversations"][0]["conversation_id"]
        page = await node.get_history(conversation_id=found, order="oldest", limit=4)
        assert texts(page) == odd[:4]
        assert (await node.verify_chain())["level"] == 1


# ---- pages ---------------------------------------------------------------------------------------------


async def filled(node: Node, clock: FakeClock, count: int) -> str:
    opened = ""
    for at in range(count):
        role = ("user", "assistant")[at % 2]
        opened = (await node.record_message(role, f"m{at}", session_id="s"))["conversation_id"]
        clock.pass_s(60)
    return opened


async def test_pages_keep_the_end_that_is_asked_for_and_read_oldest_first(db: Path) -> None:
    clock = FakeClock()
    async with node_on(db, clock=clock) as node:
        one = await filled(node, clock, 10)
        newest = await node.get_history(conversation_id=one, limit=3)
        oldest = await node.get_history(conversation_id=one, limit=3, order="oldest")
        assert (texts(newest), texts(oldest)) == (["m7", "m8", "m9"], ["m0", "m1", "m2"])
        first, last = newest["messages"][0]["seq"], oldest["messages"][-1]["seq"]
        older = await node.get_history(conversation_id=one, limit=3, before=first)
        newer = await node.get_history(conversation_id=one, limit=3, after=last, order="oldest")
        assert (texts(older), texts(newer)) == (["m4", "m5", "m6"], ["m3", "m4", "m5"])
        onward = next(call for call in calls_in(oldest["left_out"]) if "after" in call)
        backward = next(call for call in calls_in(newest["left_out"]) if "before" in call)
        assert texts(await node.get_history(**onward)) == texts(newer), "the next ones, not the last ones"
        assert texts(await node.get_history(**backward)) == texts(older)
        between = await node.get_history(conversation_id=one, after=last, before=first)
        assert texts(between) == ["m3", "m4", "m5", "m6"]
        spoken = await node.get_history(conversation_id=one, role="assistant", limit=2)
        assert (texts(spoken), spoken["total"]) == (["m7", "m9"], 5)
        window = await node.get_history(
            conversation_id=one, since="2026-11-18T11:08:40Z", until="2026-11-18T11:10:40+00:00"
        )
        assert [message["at"] for message in window["messages"]] == [
            "2026-11-18T11:08:40Z",
            "2026-11-18T11:09:40Z",
        ]
        assert (await node.get_history(conversation_id=one, since="2027-01-01"))["messages"] == []


async def test_times_are_exact_to_the_microsecond(db: Path) -> None:
    clock = FakeClock(START_US // SECOND * SECOND + 1)
    async with node_on(db, clock=clock) as node:
        one = (await node.record_message("user", "tick"))["conversation_id"]
        at = (await node.get_history(conversation_id=one))["messages"][0]["at"].removesuffix("Z")
        assert (await node.get_history(conversation_id=one, since=at + ".000001Z"))["total"] == 1
        assert (await node.get_history(conversation_id=one, until=at + ".000001Z"))["total"] == 0


BAD_PAGES: Final[list[dict[str, Any]]] = [
    {"order": "upwards"},
    {"role": "robot"},
    {"limit": 0},
    {"limit": 201},
    {"limit": -1},
    {"before": -1},
    {"after": 2**63},
    {"offset": -1},
    {"offset": 10**400},
    {"since": "yesterday"},
    {"until": "2026-13-01"},
    {"since": "9" * 300},
    {"since": "\x00"},
    {"query": "?!"},
    {"query": "x" * 401},
    {"query": "\ud800"},
    {"query": "word", "after": 3},
    {"query": "word", "since": "2026-01-01"},
]


@pytest.mark.parametrize("wrong", BAD_PAGES, ids=range(len(BAD_PAGES)))
async def test_a_page_that_cannot_be_is_refused_in_few_words(db: Path, wrong: dict[str, Any]) -> None:
    async with node_on(db) as node:
        one = (await node.record_message("user", "word"))["conversation_id"]
        with pytest.raises(BadInput) as caught:
            await node.get_history(conversation_id=one, **wrong)
    assert len(str(caught.value)) < 500


async def test_a_filter_that_the_list_does_not_take_is_not_passed_over(db: Path) -> None:
    async with node_on(db) as node:
        for wrong in ({"role": "user"}, {"since": "2026-01-01"}, {"after": 3}):
            with pytest.raises(BadInput, match="does not take"):
                await node.get_history(**wrong)


async def test_reading_before_there_is_a_store_answers_and_creates_nothing(db: Path) -> None:
    async with node_on(db) as node:
        assert (await node.get_history())["conversations"] == []
        assert (await node.get_history(query="word"))["hits"] == []
        with pytest.raises(UnknownConversation):
            await node.get_history(conversation_id="c_x")
        assert (await node.verify_chain())["entries"] == 0
        assert (await node.consensus_status())["connected"] == 0
        with pytest.raises(UnknownInstance):
            await node.load_plate(instance_id="i_x")
        with pytest.raises(UnknownConversation):
            await node.load_plate(conversation_id="c_x")
    assert list(db.parent.iterdir()) == []


# ---- how large an answer may be, and how to get the rest -----------------------------------------------

NASTY: Final[dict[str, Callable[[int], str]]] = {
    "quotes": lambda size: '"\\' * (size // 2),
    "controls": lambda size: "\x01\x1f\x7f" * (size // 3),
    "newlines": lambda size: "x\n\r\t" * (size // 4),
    "emoji": lambda size: "🦔" * (size // 4),
    "emoji in words": lambda size: "xx🦔" * (size // 6),
    "cjk": lambda size: "漢字仮名" * (size // 12),
    "plain then controls": lambda size: "x" * (size // 2) + "\x02" * (size // 2),
}


def js_chars(page: object) -> int:
    """As a JavaScript client counts them."""
    return len(json.dumps(page, ensure_ascii=False, separators=(",", ":")).encode("utf-16-le")) // 2


@pytest.mark.parametrize(
    ("kind", "size"), [("newlines", CONTENT_BYTES_MAX), *((kind, 200_000) for kind in NASTY)]
)
async def test_one_message_that_is_too_long_is_read_in_pieces_that_fit(
    db: Path, kind: str, size: int
) -> None:
    text = NASTY[kind](size)
    async with node_on(db) as node:
        one = (await node.record_message("user", "before it", session_id="s"))["conversation_id"]
        await node.record_message("user", text, session_id="s")
        await node.record_message("user", "after it", session_id="s")
        page = await node.get_history(conversation_id=one, limit=2)
        assert js_chars(page) <= RESULT_CHARS_MAX
        call = next(call for call in calls_in(page["left_out"]) if call["before"] > 1)
        page = await node.get_history(**call)
        got, steps = "", 0
        while True:
            assert js_chars(page) <= RESULT_CHARS_MAX
            assert len(json.dumps(page, ensure_ascii=False).encode()) / 3 <= 25_000, "tokens, as estimated"
            (message,) = page["messages"]
            got += message["text"] or ""
            rest = [call for call in calls_in(page["left_out"]) if call.get("offset")]
            assert bool(rest) == bool(message["cut"])
            if not rest:
                break
            page = await node.get_history(**rest[0])
            steps += 1
            assert steps < STEPS_MAX
    assert got == text


@pytest.mark.parametrize("seed", range(5))
async def test_what_was_left_out_can_all_be_reached_by_following_what_the_answers_say(
    db: Path, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311  # chooses test cases
    kinds = list(NASTY.values())
    sent: dict[int, str] = {}
    async with node_on(db) as node:
        for at in range(40):
            size = rng.choice((3, 30, 300, 3_000, 60_000))
            text = f"{at}:" + rng.choice(kinds)(size)
            done = await node.record_message(("user", "assistant")[at % 2], text, session_id="s")
            sent[done["seq"]] = text
        one = done["conversation_id"]
        middle = rng.choice(list(sent))
        start: dict[str, Any] = {"conversation_id": one, "limit": rng.choice((1, 7, 50, 200))}
        start |= rng.choice(
            (
                {},
                {"order": "oldest"},
                {"before": middle},
                {"after": middle, "order": "oldest"},
                {"after": middle},
                {"before": 0},
                {"after": 10_000},
            )
        )
        got = await everything(node, start)
        assert got == sent
        mine = await everything(node, {**start, "role": "user"})
        assert set(mine) >= {seq for at, seq in enumerate(sent) if at % 2 == 0}


async def everything(node: Node, start: dict[str, Any]) -> dict[int, str]:
    """Every text that the calls in the answers lead to; each piece put where it belongs."""
    pieces: dict[int, dict[int, str]] = {}
    waiting, seen = [start], set[str]()
    while waiting:
        call = waiting.pop()
        if (name := json.dumps(call, sort_keys=True)) in seen:
            continue
        seen.add(name)
        assert len(seen) < STEPS_MAX
        page = await node.get_history(**call)
        assert js_chars(page) <= RESULT_CHARS_MAX
        for message in page["messages"]:
            pieces.setdefault(message["seq"], {})[call.get("offset", 0)] = message["text"] or ""
        waiting += calls_in(page["left_out"])
    whole: dict[int, str] = {}
    for seq, parts in pieces.items():
        text = parts[0]
        while len(text) in parts and parts[len(text)]:
            text += parts[len(text)]
        whole[seq] = text
    return whole


async def test_long_names_count_in_a_page(db: Path) -> None:
    async with node_on(db, caller=Caller(source="import")) as node:
        for at in range(200):
            done = await node.record_message("user", f"m{at}", session_id="s", name="\x01" * 198 + "xy")
        page = await node.get_history(conversation_id=done["conversation_id"], limit=200)
        assert js_chars(page) <= RESULT_CHARS_MAX
        assert len(await everything(node, {"conversation_id": done["conversation_id"], "limit": 200})) == 200


async def test_the_list_of_conversations_fits_and_can_be_walked(db: Path) -> None:
    opened: set[str] = set()
    async with node_on(db, scope="s\x02" * 100) as node:
        for at in range(120):
            opened.add(await node.open_conversation(title="\x01" * 190 + f"{at}.", session_id=f"s{at}"))
        met: list[str] = []
        calls: list[dict[str, Any]] = [{"limit": 100}]
        while calls:
            page = await node.get_history(**calls.pop())
            assert js_chars(page) <= RESULT_CHARS_MAX
            met += [item["conversation_id"] for item in page["conversations"]]
            assert len(met) <= len(opened)
            calls += calls_in(page["left_out"])
    assert len(met) == len(opened) == 120
    assert set(met) == opened


@pytest.mark.parametrize("wrong", ["x" * 201, "\x00", "\ud800"])
async def test_a_title_that_cannot_be_kept_is_refused(db: Path, wrong: str) -> None:
    async with node_on(db) as node:
        for act in (node.open_conversation, node.load_plate):
            with pytest.raises(BadInput):
                await act(title=wrong)
        assert await head_of(node) == NOTHING


# ---- searching, and who sees what ----------------------------------------------------------------------


async def test_a_search_stays_in_its_scope_unless_all_are_asked_for(db: Path) -> None:
    async with node_on(db, scope="one") as one:
        other = scoped(one, "two")
        await one.record_message("user", "the harbour light", session_id="a")
        hidden = (await other.record_message("user", "another harbour", session_id="b"))["conversation_id"]
        mine = await one.get_history(query="harbour")
        assert [hit["excerpt"] for hit in mine["hits"]] == ["the harbour light"]
        assert len((await one.get_history(query="harb*", scope="*"))["hits"]) == 2
        assert [hit["excerpt"] for hit in (await one.get_history(query="harbour", scope="two"))["hits"]] == [
            "another harbour"
        ]
        assert (await one.get_history(query="harbour", role="assistant"))["hits"] == []
        assert hidden not in json.dumps(await one.get_history())
        assert hidden in json.dumps(await one.get_history(scope="*"))


async def test_a_search_of_adversarial_text_fits(db: Path) -> None:
    async with node_on(db) as node:
        for at in range(60):
            await node.record_message("user", f"needle {at} " + '"\x01🦔漢' * 400, session_id="s")
        page = await node.get_history(query="needle", limit=200)
    assert js_chars(page) <= RESULT_CHARS_MAX
    assert page["hits"]
    assert len(page["hits"]) == 60 or page["left_out"]


@pytest.mark.parametrize("words", ["needle", 'needle "; x=(1), "é\\', "漢 needle*"])
async def test_every_hit_of_a_search_is_reached_by_following_what_the_answers_say(
    db: Path, words: str
) -> None:
    sent: list[int] = []
    async with node_on(db) as node:
        for at in range(30):
            role = ("user", "assistant")[at % 2]
            text = f"needle 漢 x 1 é number {at} " + "🦔漢" * 300
            sent.append((await node.record_message(role, text, session_id=f"s{at % 3}"))["seq"])
        for narrower in ({}, {"role": "user"}, {"limit": 7}, {"limit": 200}):
            call: dict[str, Any] = {"query": words, **narrower}
            got: list[int] = []
            while call:
                page = await node.get_history(**call)
                assert js_chars(page) <= RESULT_CHARS_MAX
                got += [hit["seq"] for hit in page["hits"]]
                (call,) = calls_in_search(page["left_out"]) or [{}]
                assert len(got) <= len(sent)
            wanted = sent[::2] if "role" in narrower else sent
            assert got == wanted[::-1], "newest first, each once"
        with pytest.raises(BadInput, match="after"):
            await node.get_history(query=words, after=3)


def calls_in_search(left_out: str | None) -> list[dict[str, Any]]:
    """As `calls_in`, for a call that quotes whatever was searched."""
    found = re.search(r"get_history\((.*)\)\. Read around", left_out or "")
    quoted = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\d+)', found[1]) if found else []
    return [{name: json.loads(value) for name, value in quoted}] if quoted else []


async def test_search_words_are_words_and_no_operators(db: Path) -> None:
    async with node_on(db) as node:
        await node.record_message("user", "alpha beta", session_id="s")
        for words in ('alpha OR gamma"', "alpha NOT beta", "alpha NEAR(gamma)", "text:alpha AND gamma"):
            assert (await node.get_history(query=words))["hits"] == [], words
        for words in ('"alpha" beta;--', "BETA alpha", "al* be*", "(alpha)"):
            assert len((await node.get_history(query=words))["hits"]) == 1, words


@pytest.mark.parametrize("hooks", [True, False])
async def test_the_model_repeats_a_hook_only_where_hooks_may_be(db: Path, hooks: bool) -> None:
    async with node_on(db, hooks=hooks) as node:
        heard = await node.as_caller(Caller(source="hook")).record_message("user", "heard", session_id="s")
        told = await node.as_caller(Caller(source="tool")).record_message("user", "heard", session_id="s")
        assert told["conversation_id"] == heard["conversation_id"]
        assert (told["already_recorded"], told["seq"] == heard["seq"]) == (hooks, hooks)
