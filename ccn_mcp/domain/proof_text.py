"""An inclusion proof as one text, to be checked anywhere: C2SP tlog-proof.

c2sp.org/tlog-proof@v1
index 73894
<hashes, base64, from the leaf's sibling up, one a line>

<the signed checkpoint>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain.checkpoint import decode64, encode64, parse_checkpoint, parse_decimal, parse_note, plain
from ccn_mcp.domain.errors import BadNote
from ccn_mcp.domain.limits import PROOF_BYTES_MAX
from ccn_mcp.domain.merkle import HASH_BYTES
from ccn_mcp.domain.proof import INCLUSION_HASHES_MAX, verify_inclusion

MAGIC: Final = "c2sp.org/tlog-proof@v1"
_EXTRA: Final = "extra "
_INDEX: Final = "index "


@dataclass(frozen=True, slots=True)
class InclusionText:
    """What a proof text holds. `note` is the signed checkpoint, word for word and not yet believed.

    `extra` is not authenticated by anything.
    """

    index: int
    proof: tuple[bytes, ...]
    note: str
    extra: bytes | None = None


def format_inclusion(index: int, proof: Sequence[bytes], note: str, extra: bytes | None = None) -> str:
    """The text of a proof that leaf `index` is in the tree of the signed checkpoint `note`.

    Raises:
        BadNote: a proof that could not be read back.
    """
    lines = [MAGIC]
    if extra is not None:
        lines.append(_EXTRA + encode64(extra))
    lines += [f"{_INDEX}{index}", *map(encode64, proof), "", note]
    text = "\n".join(lines)
    parse_inclusion(text)
    return text


def parse_inclusion(data: bytes | str) -> InclusionText:
    """Read a proof text; neither the proof nor the signatures have been checked then.

    Raises:
        BadNote: for anything that C2SP tlog-proof does not allow, with the line.
    """
    head, gap, note = plain(data, PROOF_BYTES_MAX).partition("\n\n")
    lines = head.split("\n")
    if lines[0] != MAGIC:
        raise BadNote(f"a proof begins with the line {MAGIC}", 1)
    if not gap:
        raise BadNote("the proof has no empty line before its checkpoint", len(lines))
    at, extra = 1, None
    if len(lines) > at and lines[at].startswith(_EXTRA):
        extra, at = decode64(lines[at].removeprefix(_EXTRA), at + 1), at + 1
    if len(lines) <= at or not lines[at].startswith(_INDEX):
        raise BadNote("the index of the entry should be here: index, a space, a number", at + 1)
    index = parse_decimal(lines[at].removeprefix(_INDEX), at + 1)
    hashes = lines[at + 1 :]
    if len(hashes) > INCLUSION_HASHES_MAX:
        raise BadNote(f"more than {INCLUSION_HASHES_MAX} hashes", at + 2 + INCLUSION_HASHES_MAX)
    proof = tuple(_hash(line, number) for number, line in enumerate(hashes, at + 2))
    try:
        parse_checkpoint(parse_note(note).text)
    except BadNote as wrong:
        if wrong.line is None:
            raise
        raise BadNote(wrong.what, wrong.line + len(lines) + 1) from None
    return InclusionText(index, proof, note, extra)


def check_inclusion(text: InclusionText, leaf_hash: bytes) -> None:
    """Return if the proof shows the leaf in the tree of its checkpoint; who signed that is another question.

    Raises:
        BadProof: as `verify_inclusion`.
    """
    head = parse_checkpoint(parse_note(text.note).text)
    verify_inclusion(leaf_hash, text.index, head.size, text.proof, head.root)


def _hash(line: str, number: int) -> bytes:
    data = decode64(line, number)
    if len(data) != HASH_BYTES:
        raise BadNote(f"a hash has {HASH_BYTES} bytes, this one has {len(data)}", number)
    return data
