"""The ledger form of a pinned baseline (kind 11, event `commission_pinned`): encode, decode, replay.

The blob holds three rows of 16 little-endian float64: the baseline, sigma sixteen times, and the standard deviation of
each trait. Together with the reports that the body names, it can be computed again, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ccn_mcp.domain.character import TRAITS, Vector, from_blob, to_blob
from ccn_mcp.domain.commissioning import commission, trait_deviations
from ccn_mcp.domain.errors import BadVector, CcnError, VerificationFailed
from ccn_mcp.domain.jcs import Json
from ccn_mcp.domain.models import Body

FORMAT: Final = "ccn.commission/1"
OPENED: Final = "commission_opened"
REPORTED: Final = "commission_reported"
PINNED: Final = "commission_pinned"
CANCELLED: Final = "commission_cancelled"
ROWS: Final = 3
_ROW_BYTES: Final = 8 * len(TRAITS)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A measured baseline as an entry holds it. `reports` are the positions of the reports that it was made from."""

    group: str
    plate_digest: str
    baseline: Vector
    sigma: float
    deviations: Vector
    repeats: int
    reports: tuple[int, ...]


def encode(vectors: Sequence[Vector]) -> tuple[Body, bytes]:
    """Return what the measurement adds to a body, and the blob.

    Raises:
        BadInput: fewer than 8 reports. TooLarge: more than 50.
    """
    measured = commission(vectors)
    sigma = (measured.sigma,) * len(TRAITS)
    body: Body = {
        "deviation_e4": round(measured.deviation * 10_000),
        "repeats": measured.repeats,
        "vec": {"dtype": "f8le", "shape": [ROWS, len(TRAITS)]},
    }
    return body, b"".join(to_blob(row) for row in (measured.baseline, sigma, trait_deviations(vectors)))


def decode(body: Mapping[str, Json], blob: bytes) -> Pinned:
    """Return the baseline of an entry that `encode` wrote.

    Raises:
        VerificationFailed: it does not have that form.
    """
    group, digest, repeats, reports = (
        body.get(name) for name in ("group", "plate_digest", "repeats", "reports")
    )
    if len(blob) != ROWS * _ROW_BYTES or not (isinstance(group, str) and isinstance(digest, str)):
        raise _damaged()
    if not isinstance(repeats, int) or not isinstance(reports, list):
        raise _damaged()
    try:
        rows = [from_blob(blob[at : at + _ROW_BYTES], len(TRAITS)) for at in range(0, len(blob), _ROW_BYTES)]
    except BadVector as exc:
        raise _damaged() from exc
    seqs = tuple(seq for seq in reports if isinstance(seq, int))
    return Pinned(group, digest, rows[0], rows[1][0], rows[2], repeats, seqs)


def differs(body: Mapping[str, Json], blob: bytes, vectors: Sequence[Vector]) -> str | None:
    """Compute a pinned baseline again from its reports' vectors, in their order; None, or what differs."""
    try:
        again, blob_again = encode(vectors)
    except CcnError as exc:
        return f"the reports are not acceptable: {exc}"
    fields = [name for name, value in again.items() if body.get(name) != value]
    fields += ["blob"] if blob_again != blob else []
    return f"computed again, these differ: {', '.join(fields)}" if fields else None


def _damaged() -> VerificationFailed:
    return VerificationFailed("this baseline's entry is damaged; run ccn-mcp verify")
