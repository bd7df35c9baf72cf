"""A consistency proof as one text, after the model of C2SP tlog-proof (docs/formats.md). Pure.

ccn.consistency/1
old 42 <root at that size, base64>
<hashes, base64, one a line, as RFC 6962 section 2.1.2 orders them>

<the signed checkpoint that the proof leads to>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain.checkpoint import decode64, encode64, parse_checkpoint, parse_decimal, parse_note, plain
from ccn_mcp.domain.errors import BadNote
from ccn_mcp.domain.ledger import Head
from ccn_mcp.domain.limits import PROOF_BYTES_MAX
from ccn_mcp.domain.merkle import HASH_BYTES
from ccn_mcp.domain.proof import CONSISTENCY_HASHES_MAX, verify_consistency

MAGIC: Final = "ccn.consistency/1"
_OLD: Final = "old "


@dataclass(frozen=True, slots=True)
class ConsistencyText:
    """What a proof text holds. `note` is the signed checkpoint, word for word and not yet believed."""

    old: Head
    proof: tuple[bytes, ...]
    note: str


def format_consistency(old: Head, proof: Sequence[bytes], note: str) -> str:
    """The text of a proof that the log of the signed checkpoint `note` begins with the log of the head `old`.

    Raises:
        BadNote: a proof that could not be read back.
    """
    lines = [MAGIC, f"{_OLD}{old.size} {encode64(old.root)}", *map(encode64, proof), "", note]
    text = "\n".join(lines)
    parse_consistency(text)
    return text


def parse_consistency(data: bytes | str) -> ConsistencyText:
    """Read a proof text; neither the proof nor the signatures have been checked then.

    Raises:
        BadNote: for anything else, with the line.
    """
    head, gap, note = plain(data, PROOF_BYTES_MAX).partition("\n\n")
    lines = head.split("\n")
    if lines[0] != MAGIC:
        raise BadNote(f"a consistency proof begins with the line {MAGIC}", 1)
    if not gap:
        raise BadNote("the proof has no empty line before its checkpoint", len(lines))
    if len(lines) < 2 or not lines[1].startswith(_OLD):
        raise BadNote("the old head should be here: old, its size, its root in base64", 2)
    size, _, root = lines[1].removeprefix(_OLD).partition(" ")
    old = Head(parse_decimal(size or "-", 2), _hash(root, 2))
    hashes = lines[2:]
    if len(hashes) > CONSISTENCY_HASHES_MAX:
        raise BadNote(f"more than {CONSISTENCY_HASHES_MAX} hashes", 3 + CONSISTENCY_HASHES_MAX)
    proof = tuple(_hash(line, number) for number, line in enumerate(hashes, 3))
    try:
        parse_checkpoint(parse_note(note).text)
    except BadNote as wrong:
        if wrong.line is None:
            raise
        raise BadNote(wrong.what, wrong.line + len(lines) + 1) from None
    return ConsistencyText(old, proof, note)


def check_consistency(text: ConsistencyText) -> None:
    """Return if the log of its checkpoint begins with the log of its old head; who signed is another question.

    Raises:
        BadProof: as `verify_consistency`.
    """
    new = parse_checkpoint(parse_note(text.note).text)
    verify_consistency(text.old.size, new.size, text.proof, text.old.root, new.root)


def _hash(line: str, number: int) -> bytes:
    data = decode64(line, number)
    if len(data) != HASH_BYTES:
        raise BadNote(f"a hash has {HASH_BYTES} bytes, this one has {len(data)}", number)
    return data
