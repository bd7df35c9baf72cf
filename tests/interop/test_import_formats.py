"""Each format as it is documented, and as a hostile hand would write it."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccn_mcp.domain.errors import BadInput, TooLarge
from ccn_mcp.domain.imported import (
    PART_CHARS,
    Options,
    Said,
    Skipped,
    key_of,
    micros,
    newest_path,
    original_id,
    parts_of,
)
from ccn_mcp.domain.limits import CONTENT_BYTES_MAX
from ccn_mcp.interop import reading
from ccn_mcp.interop.formats import items
from tests.interop.importing import BOTH, SESSION, chats, jsonl, line, parsed, reasons, said, texts

MARCH = 1_740_909_600_000_000  # 2025-03-02T10:00:00Z


# ---- Claude Code's transcripts -------------------------------------------------------------------------

TRANSCRIPT = jsonl(
    {"type": "summary", "summary": "Painting the boat", "leafUuid": "u-000009"},
    {"type": "file-history-snapshot", "messageId": "x", "snapshot": {}},
    line("user", "Which paint?", 0),
    line("assistant", [{"type": "thinking", "thinking": "Hm.", "signature": "x"}], 1),
    line("assistant", [{"type": "text", "text": "Let me look."}], 2),
    line("assistant", [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls\n-l"}}], 3),
    line("user", [{"type": "tool_result", "tool_use_id": "t1", "content": "paint.txt"}], 4, toolUseResult={}),
    line("assistant", [{"type": "text", "text": "The blue one."}], 5),
    line("user", "inside", 6, isSidechain=True),
    line("user", "Caveat: ...", 7, isMeta=True),
    line("user", "This session is being continued", 8, isCompactSummary=True),
    line("user", "<command-name>/clear</command-name><command-args>all of it</command-args>", 9),
    line("user", "<local-command-stdout>done</local-command-stdout>", 10),
    line("user", [{"type": "text", "text": "[Request interrupted by user]"}], 11),
    line("assistant", [{"type": "text", "text": "API Error: 500"}], 12, isApiErrorMessage=True),
    line("user", [{"type": "text", "text": "see"}, {"type": "image", "source": {}}], 13),
    line("assistant", [{"type": "hologram", "x": 1}], 14),
    {"type": "queue-operation", "operation": "enqueue"},
)


def test_a_transcript_gives_what_was_said() -> None:
    found = parsed(TRANSCRIPT, f"{SESSION}.jsonl")
    assert texts(found) == [
        ("user", "Which paint?"),
        ("assistant", "Let me look."),
        ("assistant", "The blue one."),
        ("user", "/clear all of it"),
        ("user", "see"),
    ]
    first = said(found)[0]
    assert (first.id, first.said_us) == ("u-000000", MARCH + 250_000)
    (chat,) = chats(found)
    assert (chat.session, chat.folder, chat.title) == (SESSION, "/home/ann/boat", "Painting the boat")
    assert sorted(reasons(found)) == sorted(
        [
            "not a message: summary",
            "not a message: file-history-snapshot",
            "not a message: queue-operation",
            "thinking",
            "tool use",
            "tool result",
            "said to or by a subagent",
            "written by Claude Code (meta)",
            "a compaction's summary",
            "written by Claude Code in the person's place",
            "written by Claude Code in the person's place",
            "an API error",
            "image or file inside a message",
            "unknown block: hologram",
        ]
    )


def test_what_a_tool_gave_back_is_not_the_person_speaking() -> None:
    found = parsed(
        jsonl(line("user", "written by a tool", 1, toolUseResult={"stdout": "x"}), line("user", "me", 2))
    )
    assert texts(found) == [("user", "me")]
    assert reasons(found) == ["tool result"]


def test_tools_and_thinking_come_when_asked_for() -> None:
    found = said(parsed(TRANSCRIPT, options=BOTH))
    assert ("tool", "Bash: ls -l") in texts(found)
    assert ("assistant", "[thinking]\nHm.") in texts(found)
    assert len({item.id for item in found}) == len(found)


def test_a_long_tool_use_is_one_short_line() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "Write", "input": {"content": "x\n" * 5_000}}
    ((role, text),) = texts(parsed(jsonl(line("assistant", [use], 1)), options=BOTH))
    assert role == "tool"
    assert len(text) == 200
    assert "\n" not in text


def test_a_session_that_changes_its_folder_stays_one_conversation() -> None:
    found = parsed(jsonl(line("user", "a", 0), line("user", "b", 1, cwd="/elsewhere")))
    assert {chat.session for chat in chats(found)} == {SESSION}


# ---- Claude.ai's export --------------------------------------------------------------------------------

ROOT = "00000000-0000-4000-8000-000000000000"


def message(
    number: int, sender: str, parent: str | None, *, at: int | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "uuid": f"m-{number}",
        "sender": sender,
        "text": f"old text {number}",
        "content": [{"type": "text", "text": f"text {number}"}],
        "created_at": f"2025-03-02T10:00:{number if at is None else at:02d}.000000Z",
        **({"parent_message_uuid": parent} if parent else {}),
        **more,
    }


TREE = [
    {
        "uuid": "c-1",
        "name": "Harbours",
        "created_at": "2025-03-02T10:00:00Z",
        "account": {"uuid": "a"},
        "chat_messages": [
            message(1, "human", ROOT),
            message(2, "assistant", "m-1", at=40),
            message(3, "assistant", "m-1", at=5),
            message(4, "human", "m-3", at=50),
        ],
    }
]


def test_the_path_to_the_newest_leaf_is_imported_and_the_rest_flagged() -> None:
    found = parsed(json.dumps(TREE))
    main, other = chats(found)
    assert (main.session, main.title) == ("claude.ai:c-1", "Harbours")
    assert other.title == "Harbours (other branches)"
    at = found.index(other)
    assert texts(found[:at]) == [("user", "text 1"), ("assistant", "text 3"), ("user", "text 4")]
    (left,) = said(found[at:])
    assert (left.text, left.about) == ("text 2", {"alternate": True})


def test_an_export_without_parents_is_one_path() -> None:
    flat = [{"uuid": "c", "name": "", "chat_messages": [message(n, "human", None) for n in range(3)]}]
    found = parsed(json.dumps(flat))
    assert len(chats(found)) == 1
    assert [item.text for item in said(found)] == ["text 0", "text 1", "text 2"]


def test_attachments_and_files_are_marked_blocks() -> None:
    one = message(
        1,
        "human",
        ROOT,
        attachments=[{"file_name": "log.txt", "extracted_content": "line 1\nline 2"}],
        files=[{"file_name": "boat.png"}],
    )
    old = message(2, "assistant", "m-1", content=[])
    found = parsed(json.dumps([{"uuid": "c", "chat_messages": [one, old]}]))
    assert texts(found) == [
        (
            "user",
            (
                "text 1\n\n[attached: log.txt]\nline 1\nline 2\n[end of log.txt]\n\n"
                "[attached: boat.png, which is not in the export]"
            ),
        ),
        ("assistant", "old text 2"),
    ]


def test_the_newest_leaf_is_the_one_with_the_latest_time_else_the_last() -> None:
    parents: dict[str, str | None] = {"root": None, "late": "root", "early": "root"}
    assert newest_path(parents, {"late": 9, "early": 1}) == {"root", "late"}
    assert newest_path(parents, {"late": None, "early": 1}) == {"root", "early"}
    assert newest_path(parents, {}) == {"root", "early"}
    assert newest_path(parents, {}, "late") == {"root", "late"}


def test_a_ring_of_parents_ends() -> None:
    parents: dict[str, str | None] = {"a": "b", "b": "a", "c": "b"}
    assert newest_path(parents, {}) == {"a", "b", "c"}
    assert newest_path({"a": "a"}, {}) == {"a"}


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([*"abcdefgh", None]), max_size=8), st.data()
)
def test_a_path_never_hangs_and_is_part_of_the_tree(
    parents: dict[str, str | None], data: st.DataObject
) -> None:
    times = {name: data.draw(st.one_of(st.none(), st.integers(0, 9))) for name in parents}
    path = newest_path(parents, times)
    assert path <= parents.keys()
    assert bool(path) == bool(parents)


# ---- OpenAI's shapes -----------------------------------------------------------------------------------


def node(
    own: str, parent: str | None, role: str, content: dict[str, Any], at: float, **more: Any
) -> dict[str, Any]:
    said_ = {"id": own, "author": {"role": role}, "create_time": at, "content": content, **more}
    return {"id": own, "parent": parent, "children": [], "message": said_}


def text_of(text: str) -> dict[str, Any]:
    return {"content_type": "text", "parts": [text]}


def test_a_chatgpt_export_follows_its_current_node() -> None:
    mapping = {
        # Names in no order at all: the tree says what came first.
        "n3": node("n3", "n2", "assistant", text_of("two"), 1740909602.5),
        "n4": node("n4", "n2", "assistant", text_of("other"), 1740909603.0),
        "n1": node("n1", "root", "system", text_of(""), 1740909600.0),
        "n2": node("n2", "n1", "user", text_of("one"), 1740909601.0),
        "n5": node(
            "n5", "n3", "assistant", {"content_type": "code", "text": "search('x')"}, 1, recipient="web"
        ),
        "n6": node("n6", "n5", "tool", text_of("result"), 1740909605.0),
        "n7": node("n7", "n6", "assistant", {"content_type": "thoughts", "thoughts": [{"content": "Hm"}]}, 1),
        "n8": node(
            "n8", "n7", "user", text_of("hid"), 1, metadata={"is_visually_hidden_from_conversation": True}
        ),
        "root": {"id": "root", "parent": None, "children": ["n1"], "message": None},
    }
    value = [{"id": "g-1", "title": "Boats", "current_node": "n8", "mapping": mapping}]
    found = parsed(json.dumps(value))
    main, other = chats(found)
    assert (main.session, main.title) == ("chatgpt:g-1", "Boats")
    at = found.index(other)
    assert texts(found[:at]) == [("user", "one"), ("assistant", "two")]
    assert said(found)[1].said_us == MARCH + 2_500_000
    assert [(item.text, item.about) for item in said(found[at:])] == [("other", {"alternate": True})]
    asked = texts(parsed(json.dumps(value), options=BOTH))
    assert ("tool", "web: search('x')") in asked
    assert ("assistant", "[thinking]\nHm") in asked


LIST: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": [{"type": "text", "text": "Good day"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "k", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "k", "content": "1"},
]
SAID = [("system", "Be kind."), ("user", "Hello"), ("assistant", "Good day")]


@pytest.mark.parametrize(
    "data",
    [json.dumps(LIST), json.dumps(LIST, indent=2), json.dumps({"messages": LIST}), jsonl(*LIST),
     jsonl({"messages": LIST}),
     json.dumps({"conversations": [{"messages": LIST}]}, indent=1), "\ufeff" + json.dumps(LIST)],
    ids=["list", "indented", "object", "lines", "a conversation a line", "wrapped", "bom"],
)  # fmt: skip
def test_plain_lists_in_every_wrapping(data: str) -> None:
    found = parsed(data)
    assert texts(found) == SAID
    assert sorted(reasons(found)) == ["tool result", "tool use"]
    assert ("tool", "f: {}") in texts(parsed(data, options=BOTH))


def test_a_plain_file_that_has_grown_is_recognised() -> None:
    before, after = said(parsed(jsonl(*LIST[:2]), "a")), said(parsed(jsonl(*LIST), "a"))
    assert [item.id for item in before] == [item.id for item in after][:2]
    assert chats(parsed(jsonl(*LIST[:2]), "a")) == chats(parsed(jsonl(*LIST), "a"))
    assert chats(parsed(jsonl(*LIST), "a")) != chats(parsed(jsonl(*LIST), "b"))


def test_lines_with_ids_of_their_own_keep_them() -> None:
    found = parsed(
        jsonl({"role": "human", "text": "a", "id": "7", "conversation_id": "k", "timestamp": "2025-03-02T10:00:00Z"},
              {"role": "ai", "text": "b", "id": 8, "conversation_id": "l", "timestamp": 1740909600})
    )  # fmt: skip
    assert [(chat.session, chat.origin) for chat in chats(found)] == [("plain:k", "k"), ("plain:l", "l")]
    assert [(item.id, item.said_us) for item in said(found)] == [("7", MARCH), ("8", MARCH)]


# ---- what must not be trusted --------------------------------------------------------------------------


def test_bad_lines_are_told_by_their_number_and_the_others_come_in() -> None:
    good = json.dumps(line("user", "here", 1))
    deep = '{"type":"user","message":' + "[" * 100_000 + "]" * 100_000 + "}"
    twice = '{"type":"user","type":"assistant"}'
    data = "\n".join(["{not json", good, deep, twice, "[1]", "null", '{"type":"user"}', good[:40]])
    found = parsed(data, "t.jsonl", form="claude-code")
    assert texts(found) == [("user", "here")]
    assert [(item.reason, item.where) for item in found if isinstance(item, Skipped)] == [
        ("not JSON", "t.jsonl, line 1"),
        ("JSON nested too deeply", "t.jsonl, line 3"),
        ("JSON that names a field twice", "t.jsonl, line 4"),
        ("a line that is no object", "t.jsonl, line 5"),
        ("a line that is no object", "t.jsonl, line 6"),
        ("a line without a message", "t.jsonl, line 7"),
        ("the last line is not whole", "t.jsonl, line 8"),
    ]  # fmt: skip


def test_an_array_that_ends_in_the_middle_gives_what_was_whole() -> None:
    data = json.dumps(TREE * 2)
    found = parsed(data[:-30])
    assert len(said(found)) == 4
    assert "the file ends in the middle" in reasons(found)


@pytest.mark.parametrize("wrong", [None, 7, "x", [], {}, True, [[]], [None], {"x": []}, 1.5], ids=repr)
def test_wrong_types_are_left_out_not_fatal(wrong: object) -> None:
    for value in (
        line("user", wrong, 1),
        {**line("user", "x", 1), "message": wrong},
        {**line("user", "x", 1), "uuid": wrong, "timestamp": wrong, "sessionId": wrong, "cwd": wrong},
    ):
        parsed(jsonl(value), options=BOTH)
    for value in (
        {"uuid": "c", "chat_messages": wrong},
        {"uuid": wrong, "chat_messages": [wrong]},
        {"uuid": "c", "name": wrong, "chat_messages": [message(1, "human", None) | {"content": wrong, "text": wrong}]},
        {"uuid": "c", "chat_messages": [message(1, "human", None) | {"attachments": wrong, "files": [wrong]}]},
        {"mapping": wrong},
        {"mapping": {"a": wrong, "b": {"message": wrong}, "c": {"parent": wrong, "message": {"author": wrong}}}},
        {"mapping": {"a": {"message": {"author": {"role": "user"}, "content": {"content_type": wrong}}}}},
        {"mapping": {"a": node("a", None, "user", {"content_type": "text", "parts": wrong}, 1.0)}},
        {"messages": wrong},
        {"messages": [{"role": wrong, "content": wrong}, {"role": "user", "content": wrong, "tool_calls": wrong}]},
    ):  # fmt: skip
        parsed(json.dumps([value]), options=BOTH)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["user", "assistant", "text", "tool_use", "human", "2025-03-02"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["type", "message", "content", "role", "uuid", "text", "mapping", "chat_messages", "messages", "sender",
             "author", "parent", "parts", "content_type", "sessionId", "timestamp", "id", "name", "format", "seq"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(JSON, max_size=3), st.sampled_from([None, "claude-code", "jsonl", "openai", "ccn-export"]))
def test_no_json_at_all_makes_a_parser_fail_but_in_words(values: list[Any], form: str | None) -> None:
    for data in (jsonl(*values), json.dumps(values)):
        try:
            found = parsed(data, options=BOTH, form=form)
        except BadInput:
            continue
        for item in said(found):
            assert item.text.strip()
            assert item.role in ("user", "assistant", "system", "tool")
            assert len(item.id) <= 500


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON, max_size=6), st.integers(1, 40))
def test_an_array_read_in_pieces_is_the_array(values: list[Any], chunk: int) -> None:
    class Slow(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:  # noqa: ARG002  # as a file has it
            return super().read(chunk)

    data = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")
    got = [
        json.loads((piece or b"").decode("utf-8", "surrogatepass"))
        for _, piece in reading.elements(Slow(data))
    ]
    assert repr(got) == repr(values)


def test_an_element_or_a_line_that_is_too_long_is_left_out_alone() -> None:
    data = b'[{"a":"' + b"x" * 5_000 + b'"},{"b":1}]'
    assert list(reading.elements(BytesIO(data), 1_000)) == [(1, None), (2, b'{"b":1}')]
    lines = b"x" * 5_000 + b"\n{}\n"
    assert list(reading.lines(BytesIO(lines), 1_000)) == [(1, None, True), (2, b"{}", True)]


def zipped(**members: bytes) -> BytesIO:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name.replace("__", "/").replace("_json", ".json"), data)
    file.seek(0)
    return file


def test_the_zip_of_an_export_is_read_as_it_is() -> None:
    file = zipped(data__users_json=b"[]", data__conversations_json=json.dumps(TREE).encode())
    assert len(said(items(file, "export.zip", Options()))) == 4
    with pytest.raises(BadInput, match=r"no conversations\.json"):
        list(items(zipped(users_json=b"[]"), "export.zip", Options()))


def test_a_zip_bomb_is_refused_before_and_while_it_is_unpacked() -> None:
    file = zipped(conversations_json=b"[" + b" " * 1_000_000 + b"]")
    with pytest.raises(TooLarge, match="unpacks to more"):
        list(reading.conversations_in(file, 1_000))
    liar = reading.Unpacked(BytesIO(b" " * 1_000_000), 1_000)
    with pytest.raises(TooLarge, match="unpacks to more"):
        liar.read(10_000)


def test_a_damaged_zip_is_told() -> None:
    whole = zipped(conversations_json=json.dumps(TREE * 50).encode()).getvalue()
    with pytest.raises(BadInput, match="zip is damaged"):
        list(items(BytesIO(whole[:200]), "export.zip", Options()))
    middle = bytearray(whole)
    middle[80:110] = bytes(30)
    found = list(items(BytesIO(bytes(middle)), "export.zip", Options()))
    assert any("damaged" in reason or "JSON" in reason for reason in reasons(found))


@pytest.mark.parametrize("data", ["hello", "{}", '{"a": 1}', "[1, 2]", "<html>", '{"a":', '[{"x": 1}]'])
def test_what_is_no_conversation_is_refused_with_the_formats(data: str) -> None:
    with pytest.raises(BadInput, match=r"formats that can be imported|cannot be read") as caught:
        parsed(data)
    assert "file" in str(caught.value)


def test_a_wrong_format_is_said() -> None:
    with pytest.raises(BadInput, match="not of the format claude-code"):
        parsed(json.dumps(TREE), form="claude-code")


# ---- small things --------------------------------------------------------------------------------------


def test_times_in_every_shape() -> None:
    for value in ("2025-03-02T10:00:00Z", "2025-03-02T11:00:00+01:00", "2025-03-02T10:00:00", 1740909600, 1740909600.0,
                  1740909600000):  # fmt: skip
        assert micros(value) == MARCH, value
    wrongs: tuple[object, ...] = (
        None,
        True,
        "yesterday",
        "",
        float("nan"),
        float("inf"),
        10**30,
        -(10**30),
        [],
        "9999-99-99",
    )
    for wrong in wrongs:
        assert micros(wrong) is None, wrong


def test_ids_are_kept_or_go_by_a_digest() -> None:
    assert original_id(" a ") == "a"
    assert original_id(7) == "7"
    for odd in ("x" * 201, "a\x00b", "\ud800", 10**5000):
        got = original_id(odd)
        assert got is None or got.startswith("digest:")
    assert original_id("\ud800") != original_id("\ud801")
    assert original_id(None) is original_id(True) is original_id("") is None


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3 * PART_CHARS), st.sampled_from(["a", "é", "漢", "🛶"]))
def test_parts_fit_and_add_up(length: int, letter: str) -> None:
    text = letter * length
    parts = parts_of(text)
    assert "".join(parts) == text
    assert all(len(part.encode()) <= CONTENT_BYTES_MAX for part in parts)


def test_keys_come_from_ids_alone() -> None:
    (chat,) = chats(parsed(jsonl(line("user", "a", 1))))
    one, other = Said("1", "user", "a"), Said("1", "user", "b")
    assert key_of(chat, one) == key_of(chat, other)
    assert len({key_of(chat, one), key_of(chat, one, 2), key_of(chat, Said("2", "user", "a"))}) == 3
