"""Proofs as text (C2SP tlog-proof): read back as written, refused by line where they are none."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Final

import pytest

from ccn_mcp.domain.checkpoint import Checkpoint, Note, Signature, encode, parse_note
from ccn_mcp.domain.errors import BadNote, BadProof
from ccn_mcp.domain.limits import PROOF_BYTES_MAX
from ccn_mcp.domain.proof import inclusion_proof, root_at
from ccn_mcp.domain.proof_text import InclusionText, check_inclusion, format_inclusion, parse_inclusion

LEAVES: Final = [sha256(bytes([number])).digest() for number in range(11)]


def read(_level: int, first: int, count: int) -> list[bytes]:
    return LEAVES[first : first + count]


PROOF: Final = inclusion_proof(6, 11, read)
SIGNATURE: Final = Signature("ccn-log/x", b"abcd", bytes(64))
NOTE: Final = str(Note(encode(Checkpoint("ccn-log/x", 11, root_at(11, read))), (SIGNATURE,)))
TEXT: Final = format_inclusion(6, PROOF, NOTE)

# The example of c2sp.org/tlog-proof; its shortened signature is made whole with zeros.
EXAMPLE: Final = f"""c2sp.org/tlog-proof@v1
extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6kYXJ3aW4tYXJ=
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=
RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=
AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=

example.com/fancylog
109482
sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

— example.com/fancylog {base64.b64encode(bytes(68)).decode()}
"""


def test_the_example_of_the_specification_has_this_form() -> None:
    # The published extra data is shortened too, and as it stands it is no canonical base64.
    with pytest.raises(BadNote, match=r"line 2: .*base64"):
        parse_inclusion(EXAMPLE)
    plain = "".join(line for line in EXAMPLE.splitlines(keepends=True) if not line.startswith("extra"))
    found = parse_inclusion(plain)
    assert (found.index, len(found.proof), found.extra) == (73894, 5, None)
    assert parse_note(found.note).text.startswith("example.com/fancylog\n109482\n")
    assert format_inclusion(found.index, found.proof, found.note) == plain


@pytest.mark.parametrize("extra", [None, b"", b"more"])
def test_what_is_written_is_read_back_and_shows_the_leaf(extra: bytes | None) -> None:
    text = format_inclusion(6, PROOF, NOTE, extra)
    found = parse_inclusion(text.encode())
    assert found == InclusionText(6, tuple(PROOF), NOTE, extra)
    check_inclusion(found, LEAVES[6])
    with pytest.raises(BadProof):
        check_inclusion(found, LEAVES[5])


def test_the_only_leaf_of_a_log_needs_no_hashes() -> None:
    note = str(Note(encode(Checkpoint("ccn-log/x", 1, LEAVES[0])), (SIGNATURE,)))
    text = format_inclusion(0, [], note)
    assert text.startswith("c2sp.org/tlog-proof@v1\nindex 0\n\nccn-log/x\n1\n")
    check_inclusion(parse_inclusion(text), LEAVES[0])


def test_a_flipped_byte_of_the_proof_or_the_root_never_passes() -> None:
    data = TEXT.encode()
    # Between them are the log's name and the size, which are for the signature to guard.
    places = [*range(data.index(b"ccn-log/x")), *range(data.index(b"\n11\n") + 4, data.index("—".encode()))]
    for at in places:
        bad = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises((BadNote, BadProof)):
            check_inclusion(parse_inclusion(bad), LEAVES[6])


@pytest.mark.parametrize(
    ("text", "line", "match"),
    [
        ("", 1, "begins with"),
        (TEXT.replace("@v1", "@v2"), 1, "begins with"),
        (" " + TEXT, 1, "begins with"),
        (TEXT.split("\n\n", 1)[0], 6, "no empty line"),
        (TEXT.replace("index 6\n", ""), 2, "index of the entry"),
        (TEXT.replace("index 6", "index  6"), 2, "decimal"),
        (TEXT.replace("index 6", "index 06"), 2, "leading zeros"),
        (TEXT.replace("index 6", f"index {2**63}"), 2, "above"),
        (TEXT.replace("index 6\n", "index 6\nindex 6\n"), 3, "base64"),
        (TEXT.replace("index 6\n", "extra eA==\nextra eA==\nindex 6\n"), 3, "index of the entry"),
        (TEXT.replace("index 6\n", "index 6\nextra eA==\n"), 3, "base64"),
        (TEXT.replace("index 6\n", "index 6\neA==\n"), 3, "32 bytes"),
        (TEXT.replace("index 6\n", "index 6\n" + "A" * 43 + "=\n" * 1 + ("A" * 43 + "=\n") * 63), 66, "more than 63"),
        (TEXT.replace("\n11\n", "\n011\n"), 9, "leading zeros"),
        (TEXT[:-1], 12, "line feed"),
        (TEXT.replace("\n", "\r\n"), 1, "control character"),
        (TEXT.replace("— ", "- "), 12, "em dash"),
        ("a" * (PROOF_BYTES_MAX + 1), None, "bytes"),
    ],
)  # fmt: skip
def test_what_is_no_proof_is_refused_with_its_line(text: str, line: int | None, match: str) -> None:
    with pytest.raises(BadNote, match=match) as wrong:
        parse_inclusion(text)
    assert wrong.value.line == line


def test_what_could_not_be_read_back_is_not_written() -> None:
    with pytest.raises(BadNote):
        format_inclusion(-1, PROOF, NOTE)
    with pytest.raises(BadNote):
        format_inclusion(6, [b"short"], NOTE)
    with pytest.raises(BadNote):
        format_inclusion(6, PROOF, "no note")
