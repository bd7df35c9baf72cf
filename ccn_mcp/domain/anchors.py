"""Anchors: a signed head of this log with an outside authority's time stamp of it (RFC 3161), as entry kind 7. Pure.

The time stamp is over SHA-256 of the signed note's bytes, so the entry holds the note word for word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain.checkpoint import Checkpoint, check_origin, origin_of, parse_checkpoint, parse_note
from ccn_mcp.domain.errors import BadNote
from ccn_mcp.domain.models import Body, Fault

FORMAT: Final = "rfc3161"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a time stamp is worth here: its time, or why it is not known who made it."""

    time_us: int | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Witnessed:
    """How far an outside authority that this account trusts has witnessed a log, in entries, when, and who.

    `remark` says why stamps that are there do not count.
    """

    to: int = 0
    time_us: int | None = None
    authority: str | None = None
    fault: Fault | None = None
    remark: str | None = None


def anchor_body(note: bytes, authority: str, time_us: int, source: str, *, verified: bool) -> Body:
    """What an anchor entry says; its blob is the authority's answer (DER TimeStampResp).

    Raises:
        BadNote: it is no signed head.
    """
    checkpoint = parse_checkpoint(parse_note(note).text)
    return {
        "format": FORMAT,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "note": note.decode(),
        "authority": authority,
        "time": time_us,
        "verified": verified,
        "source": source,
    }


def anchored(store_id: bytes, body: Body) -> tuple[bytes, Checkpoint]:
    """The note that was stamped, and the head in it. What else the body says of them is not relied on.

    Raises:
        BadNote: there is none in the body, or one of another log.
    """
    note = body.get("note")
    if not isinstance(note, str):
        raise BadNote("the anchor holds no signed head")
    checkpoint = parse_checkpoint(parse_note(note).text)
    check_origin(checkpoint, origin_of(store_id))
    return note.encode(), checkpoint
