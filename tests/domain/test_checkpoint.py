"""Signed notes and checkpoints: published notes open, and what the specification does not allow is refused."""

from __future__ import annotations

import base64
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccn_mcp.domain.checkpoint import (
    Checkpoint,
    Note,
    Signature,
    VerifierKey,
    ed25519_key,
    encode,
    open_checkpoint,
    open_note,
    origin_of,
    parse_checkpoint,
    parse_key,
    parse_note,
    signers_of,
)
from ccn_mcp.domain.errors import BadNote, BadSignature, NotSigned
from ccn_mcp.domain.limits import NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX
from ccn_mcp.store import ed25519

# Published by others: golang.org/x/mod/sumdb/note (its test), sum.golang.org, c2sp.org/signed-note.
PETER: Final = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH: Final = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
GO: Final = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
PETER_SEED: Final = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
TEXT: Final = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
BY_PETER: Final = (
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
BY_ENOCH: Final = (
    "— EnochRoot "
    "rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
GO_HEAD: Final = """go.sum database tree
6476701
mb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=

— sum.golang.org Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu95949rj4nPRYfvimWEPWL+o3GeoWwOoAw=
"""
GO_LATER: Final = """go.sum database tree
65209736
5+uGFjx6xBZG8ip1+wi77v+grwbhhukIrxEUS8PXvRo=

— sum.golang.org Az3grnbssgK7ubgFX36gVETtNv0U23qxyAhAMai2QUfeGa3nB/akvkMdlUErfcZz7l/R3cVtYspg3dxXABkGZZKdsQ8=
"""
POEM: Final = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)
STORE: Final = bytes(range(16))
ROOT: Final = base64.b64encode(bytes(32)).decode()
HEAD: Final = f"ccn-log/{STORE.hex()}\n7\n{ROOT}\n"


def signed(text: str, *keys: str) -> str:
    return f"{text}\n{''.join(keys)}"


# ---- published notes -----------------------------------------------------------------------------------------


def test_published_notes_open_with_their_published_keys() -> None:
    for note in (GO_HEAD, GO_LATER):
        head = open_checkpoint(note, "go.sum database tree", [parse_key(GO)], ed25519.verify)
        assert encode(head) == parse_note(note).text
        assert str(parse_note(note)) == note
    both = signed(TEXT, BY_PETER, BY_ENOCH)
    peter, enoch = parse_key(PETER), parse_key(ENOCH)
    assert [str(peter), str(enoch)] == [PETER, ENOCH]
    assert signers_of(parse_note(both), [enoch, peter], ed25519.verify) == (peter, enoch)
    assert signers_of(parse_note(both), [enoch], ed25519.verify) == (enoch,)
    assert open_note(both.encode(), [peter], ed25519.verify).text == TEXT
    twice = signed(TEXT, BY_PETER, BY_PETER)
    assert signers_of(parse_note(twice), [peter], ed25519.verify) == (peter,)


def test_the_published_private_key_signs_the_published_bytes() -> None:
    private = ed25519.private_key(PETER_SEED)
    key = ed25519_key("PeterNeumann", ed25519.public_of(private))
    assert str(key) == PETER
    assert str(Note(TEXT, (Signature(key.name, key.key_id, private.sign(TEXT.encode())),))) == signed(
        TEXT, BY_PETER
    )


def test_a_text_may_hold_empty_lines() -> None:
    note = parse_note(POEM)
    assert note.text.count("\n") == 4
    assert note.text.endswith("sera.\n")
    assert [found.name for found in note.signatures] == ["quasimodo.example/salvatore"]


# ---- believing -----------------------------------------------------------------------------------------------


def test_any_changed_byte_of_a_published_note_is_refused() -> None:
    note = GO_HEAD.encode()
    for at in range(len(note)):
        for flip in (1, 0x80):
            bad = note[:at] + bytes([note[at] ^ flip]) + note[at + 1 :]
            with pytest.raises((BadNote, BadSignature, NotSigned)):
                open_checkpoint(bad, "go.sum database tree", [parse_key(GO)], ed25519.verify)


def test_unknown_signatures_are_passed_over_and_false_ones_are_not() -> None:
    peter = parse_key(PETER)
    with pytest.raises(NotSigned):
        open_note(signed(TEXT, BY_ENOCH), [peter], ed25519.verify)
    with pytest.raises(NotSigned):
        open_note(signed(TEXT, BY_PETER), [], ed25519.verify)
    # The same name with another id, the same id with another name: other keys.
    other = BY_PETER.replace("x08g", "x08h")
    renamed = BY_PETER.replace("PeterNeumann", "PeterNeuman")
    for line in (other, renamed):
        with pytest.raises(NotSigned):
            open_note(signed(TEXT, line), [peter], ed25519.verify)
        assert open_note(signed(TEXT, line, BY_PETER), [peter], ed25519.verify).text == TEXT
    false = BY_PETER.replace("ZJku", "ZJkv")
    for lines in ((false,), (BY_PETER, false), (false, BY_PETER)):
        with pytest.raises(BadSignature, match="c74f20a3"):
            open_note(signed(TEXT, *lines), [peter], ed25519.verify)
    with pytest.raises(BadSignature):
        open_note(signed(TEXT.replace("If", "if"), BY_PETER), [peter], ed25519.verify)


def test_a_signature_of_an_unknown_algorithm_is_kept_and_not_looked_at() -> None:
    peter = parse_key(PETER)
    later = VerifierKey("PeterNeumann", b"\x01\x02\x03\x04", 6, b"a post-quantum key")
    line = str(Signature(later.name, later.key_id, b"x" * 5_000))
    assert parse_key(str(later)) == later

    def verify(public: bytes, message: bytes, signature: bytes) -> bool:
        assert public == peter.public
        return ed25519.verify(public, message, signature)

    note = open_note(signed(TEXT, line, BY_PETER), [later, peter], verify)
    assert len(note.signatures) == 2
    with pytest.raises(NotSigned):
        open_note(signed(TEXT, line), [later], verify)


def test_a_checkpoint_of_another_log_is_refused() -> None:
    with pytest.raises(BadNote, match=r"line 1: .*not of ccn-log") as wrong:
        open_checkpoint(GO_HEAD, origin_of(STORE), [parse_key(GO)], ed25519.verify)
    assert wrong.value.line == 1


# ---- notes that are none -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("note", "line", "match"),
    [
        ("", 1, "without a line feed"),
        (TEXT, 2, "no empty line"),
        (TEXT + "\n", 4, "no signature line"),
        (signed(TEXT, BY_PETER)[:-1], 4, "without a line feed"),
        ("\n" + BY_PETER, 2, "no empty line"),
        ("\n\n" + BY_PETER, 1, "no text"),
        ("\x01" + signed(TEXT, BY_PETER), 1, "control character"),
        (signed(TEXT, BY_PETER).replace("\n", "\r\n"), 1, "control character"),
        (signed(TEXT, BY_PETER).replace("answer", "ans\twer"), 1, "control character"),
        (b"\xff" + signed(TEXT, BY_PETER).encode(), None, "UTF-8"),
        ("\ud800" + signed(TEXT, BY_PETER), None, "UTF-8"),
        (signed(TEXT, BY_PETER, "Unexpected line.\n"), 5, "em dash"),
        (signed(TEXT, BY_PETER.replace("—", "-")), 4, "em dash"),
        (signed(TEXT, BY_PETER.replace("PeterNeumann", "Bad Name")), 4, "base64"),
        (signed(TEXT, BY_PETER.replace("PeterNeumann", "Bad+Name")), 4, "no plus sign"),
        (signed(TEXT, BY_PETER.replace("PeterNeumann", "Bad\N{NO-BREAK SPACE}Name")), 4, "no space"),
        (signed(TEXT, BY_PETER.replace("PeterNeumann", "")), 4, "not empty"),
        (signed(TEXT, "— PeterNeumann\n"), 4, "one space between"),
        (signed(TEXT, BY_PETER.replace(" x08", "  x08")), 4, "base64"),
        (signed(TEXT, BY_PETER.replace("=\n", "\n")), 4, "base64"),
        (signed(TEXT, BY_PETER.replace("nAM=", "nAN=")), 4, "base64"),
        (signed(TEXT, BY_PETER.replace("x08g", "x0_g")), 4, "base64"),
        (signed(TEXT, BY_PETER.replace("=\n", "= \n")), 4, "base64"),
        (signed(TEXT, "— PeterNeumann x08gow==\n"), 4, "at least one byte more"),
        (signed(TEXT, BY_PETER * NOTE_SIGNATURES_MAX, BY_PETER), 20, "more than 16"),
        (signed("a" * NOTE_BYTES_MAX + "\n", BY_PETER), None, "bytes"),
    ],
)  # fmt: skip
def test_what_is_no_note_is_refused_with_its_line(note: str | bytes, line: int | None, match: str) -> None:
    with pytest.raises(BadNote, match=match) as wrong:
        parse_note(note)
    assert wrong.value.line == line


def test_sixteen_large_signatures_are_taken() -> None:
    lines = [str(Signature(f"witness{n}", bytes(4), b"x" * 5_000)) for n in range(NOTE_SIGNATURES_MAX)]
    assert len(parse_note(signed(HEAD, *lines)).signatures) == NOTE_SIGNATURES_MAX


# ---- checkpoints that are none -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "match"),
    [
        ("", 1, "three lines"),
        (HEAD[:-1], 3, "without a line feed"),
        ("a\n7\n", 3, "three lines"),
        (HEAD + "\n", 4, "empty line"),
        ("\n" + HEAD, 1, "empty line"),
        (HEAD.replace("\n7\n", "\n07\n"), 2, "leading zeros"),
        (HEAD.replace("\n7\n", "\n00\n"), 2, "leading zeros"),
        (HEAD.replace("\n7\n", "\n+7\n"), 2, "sign"),
        (HEAD.replace("\n7\n", "\n-7\n"), 2, "sign"),
        (HEAD.replace("\n7\n", "\n 7\n"), 2, "decimal"),
        (HEAD.replace("\n7\n", "\n7 \n"), 2, "decimal"),
        (HEAD.replace("\n7\n", "\n7_0\n"), 2, "decimal"),
        (HEAD.replace("\n7\n", "\n\N{ARABIC-INDIC DIGIT SEVEN}\n"), 2, "decimal"),
        (HEAD.replace("\n7\n", "\n\N{SUPERSCRIPT TWO}\n"), 2, "decimal"),
        (HEAD.replace("\n7\n", f"\n{2**63}\n"), 2, "above"),
        (HEAD.replace("\n7\n", f"\n{'9' * 5_000}\n"), 2, "above"),
        (HEAD.replace(ROOT, ROOT[:-1]), 3, "base64"),
        (HEAD.replace(ROOT, "AAAA"), 3, "the root has 3 bytes"),
        (HEAD.replace(ROOT, ROOT + "\x00"), 3, "control character"),
    ],
)
def test_what_is_no_checkpoint_is_refused_with_its_line(text: str, line: int, match: str) -> None:
    with pytest.raises(BadNote, match=match) as wrong:
        parse_checkpoint(text)
    assert wrong.value.line == line


def test_what_could_not_be_read_back_is_not_written() -> None:
    good = Checkpoint(origin_of(STORE), 7, bytes(32))
    assert encode(good) == HEAD
    assert str(good.head) == "7:" + "0" * 32
    for bad in (
        Checkpoint("", 7, bytes(32)),
        Checkpoint("a\nb", 7, bytes(32)),
        Checkpoint("a", -1, bytes(32)),
        Checkpoint("a", 2**63, bytes(32)),
        Checkpoint("a", 7, bytes(31)),
        Checkpoint("a", 7, bytes(32), ("",)),
        Checkpoint("a", 7, bytes(32), ("x\ny",)),
    ):
        with pytest.raises(BadNote):
            encode(bad)


LINES: Final = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(
    LINES,
    st.integers(0, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(LINES, max_size=3).map(tuple),
    st.binary(min_size=1, max_size=80),
)
def test_what_is_written_is_read_back(
    origin: str, size: int, root: bytes, extensions: tuple[str, ...], data: bytes
) -> None:
    checkpoint = Checkpoint(origin, size, root, extensions)
    note = Note(encode(checkpoint), (Signature("a", b"abcd", data), Signature("b", bytes(4), data)))
    assert parse_note(str(note)) == note
    assert parse_checkpoint(note.text) == checkpoint


# ---- keys ----------------------------------------------------------------------------------------------------


def test_no_mangling_of_a_key_is_a_key() -> None:
    for start in range(len(PETER)):
        for end in range(start + 1, len(PETER) + 1):
            if (start, end) != (0, len(PETER)):
                with pytest.raises(BadNote):
                    parse_key(PETER[start:end])
    for at, character in enumerate(PETER):
        if PETER[at - 1] == "+" and at > 20:
            continue  # the algorithm, which is open
        with pytest.raises(BadNote):
            parse_key(PETER[:at] + chr(ord(character) + 1) + PETER[at + 1 :])


@pytest.mark.parametrize(
    ("key", "match"),
    [
        ("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==", "base64|bytes"),
        (PETER.replace("c74f20a3", "C74F20A3"), "lower case"),
        (PETER.replace("c74f20a3", "c74f20a4"), "not that of this key"),
        (PETER.replace("PeterNeumann", "Peter Neumann"), "no space"),
        (PETER.replace("PeterNeumann", "Peter\nNeumann"), "no space"),
        (PETER + "\n", "base64"),
        ("a+00000000+", "no algorithm byte"),
        ("a+00000000+AQ==", "32 bytes"),
        ("a" * 9_000, "at most"),
    ],
)
def test_what_is_no_key_is_refused(key: str, match: str) -> None:
    with pytest.raises(BadNote, match=match):
        parse_key(key)
