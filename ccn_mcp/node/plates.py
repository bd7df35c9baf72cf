"""The Plate in force, its versions, and setting another one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

from ccn_mcp import data
from ccn_mcp.domain.character import DEFAULT_BASELINE, Vector
from ccn_mcp.domain.errors import BadPlate, StoreMoved, VerificationFailed
from ccn_mcp.domain.jcs import Json, replace_unstorable
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import GUARD_RETRIES_MAX, ID_CHARS_MAX
from ccn_mcp.domain.models import Body, Draft, Group, Guard, Record, RecordQuery
from ccn_mcp.domain.plate import Plate, is_starter, parse_plate
from ccn_mcp.domain.prompt import NOTICE_FILE_DIFFERS, NOTICE_FILE_UNUSED
from ccn_mcp.node.context import Caller, Context

STARTER = "starter_plate.md"
SETTINGS: Final = "settings"
"""The source of a Plate that the person chose in a client's settings."""

VERSIONS_MAX = 200
VERSIONS_AT_ONCE: Final = 20
"""An imported Plate's entry holds its original too, which may be an image; they are not all read at once."""


@dataclass(frozen=True, slots=True)
class PlateInForce:
    """A Plate and where it stands in the log; `seq` is None for a starter that was never delivered."""

    plate: Plate
    seq: int | None
    set_us: int | None

    @property
    def baseline(self) -> Vector:
        """What instances are measured against."""
        return self.plate.baseline or DEFAULT_BASELINE

    @property
    def baseline_source(self) -> str:
        """`authored` in the Plate by somebody, or the program's `default`; neither was measured."""
        return "authored" if self.plate.baseline else "default"


@dataclass(frozen=True, slots=True)
class Original:
    """What an imported Plate was made from: its format, and the files (name, bytes) as they came."""

    format: str
    files: tuple[tuple[str, bytes], ...] = field(repr=False)


async def current_plate(ctx: Context) -> PlateInForce:
    """The Plate that was set last; the packaged starter until a person has set one."""
    starter = parse_plate(data.read(STARTER))
    records = await ctx.store.records(RecordQuery(kinds=(Kind.PLATE,), limit=1))
    if not records:
        return PlateInForce(starter, None, None)
    recorded = _parsed(records[0])
    if is_starter(recorded.plate) and recorded.plate.digest != starter.digest:
        # The package brought a newer starter and nobody has chosen anything yet.
        return PlateInForce(starter, None, None)
    return recorded


async def delivered_plate(ctx: Context, caller: Caller) -> PlateInForce:
    """The Plate in force, in the log from its first delivery on, the starter too.

    Where nobody has set one, the file that the person chose in a client's settings becomes it, once.
    """
    for _ in range(GUARD_RETRIES_MAX):
        size = (await ctx.store.info()).head.size
        current = await current_plate(ctx)
        chosen = _chosen(ctx)[0] if is_starter(current.plate) else None
        if current.seq is not None and chosen is None:
            return current
        # Guarded from before the look: neither may come after a Plate that a person has set.
        who = caller if chosen is None else replace(caller, source=SETTINGS)
        if (recorded := await _record(ctx, who, chosen or current.plate, size)) is not None:
            return recorded
    raise StoreMoved("other writers kept setting Plates; nothing was delivered, try again")


def chosen_notice(ctx: Context, current: PlateInForce) -> str:
    """What is to be said of the file that the person chose: that it cannot be used, or is not what is in force."""
    plate, trouble = _chosen(ctx)
    if trouble:
        return NOTICE_FILE_UNUSED.format(why=trouble)
    differs = plate is not None and plate.digest != current.plate.digest
    return NOTICE_FILE_DIFFERS if differs else ""


def _chosen(ctx: Context) -> tuple[Plate | None, str]:
    """The Plate in the file that the person chose, or why there is none in it; the path is nobody else's business."""
    if ctx.chosen_plate is None:
        return None, ""
    try:
        plate = parse_plate(ctx.chosen_plate())
    except BadPlate as exc:
        return None, str(exc)
    except OSError as exc:
        return None, exc.strerror or str(exc)
    return (None if is_starter(plate) else plate), ""


async def set_plate(
    ctx: Context, caller: Caller, plate: Plate, original: Original | None = None
) -> PlateInForce:
    """Record `plate` as the one in force. Whether the person asked for it is decided by the command line.

    `original` is kept in the same entry, behind the Plate's source. Setting the Plate that is in force
    already changes nothing, unless it brings another original.
    """
    for _ in range(GUARD_RETRIES_MAX):
        size = (await ctx.store.info()).head.size
        records = await ctx.store.records(RecordQuery(kinds=(Kind.PLATE,), limit=1))
        if records and _holds(records[0], plate, original):
            return _parsed(records[0])
        if (recorded := await _record(ctx, caller, plate, size, original)) is not None:
            return recorded
    raise StoreMoved("other writers kept setting Plates; nothing was set by this one, try again")


async def _record(
    ctx: Context, caller: Caller, plate: Plate, size: int, original: Original | None = None
) -> PlateInForce | None:
    """Append `plate`; None if another one has come at or after `size`."""
    now = ctx.now_us()
    body: Body = {
        "digest": plate.digest,
        "format": "ccn.plate/1",
        "name": plate.name,
        "principal": caller.principal,
        "source": caller.source,
        "version": plate.version,
    }
    blob = plate.source
    if original is not None:
        originals = b"".join(content for _, content in original.files)
        body["blob"] = {
            "files": list(_files(original)),
            "format": original.format,
            "original": len(originals),
            "source": len(plate.source),
        }
        blob += originals
    draft = Draft(Kind.PLATE, now, body, blob)
    try:
        done = await ctx.store.append(Group((draft,), guard=Guard((Kind.PLATE,), size)))
    except StoreMoved:
        return None
    return PlateInForce(plate, done.receipts[0].seq, now)


def _holds(record: Record, plate: Plate, original: Original | None) -> bool:
    """Whether this entry is that Plate, with that original if there is one."""
    if _parsed(record).plate.digest != plate.digest:
        return False
    return original is None or _files(original) == _files(_original(record))


def _files(original: Original | None) -> list[Json]:
    """The files as the body names them."""
    return [
        {
            "bytes": len(content),
            "name": replace_unstorable(name)[0][-ID_CHARS_MAX:],
            "sha256": sha256(content).hexdigest(),
        }
        for name, content in (original.files if original is not None else ())
    ]


async def plate_versions(ctx: Context) -> list[PlateInForce]:
    """Every Plate that was in force and was not erased, newest first, at most `VERSIONS_MAX`."""
    found: deque[PlateInForce] = deque(maxlen=VERSIONS_MAX)
    query = RecordQuery(kinds=(Kind.PLATE,), oldest_first=True, limit=VERSIONS_AT_ONCE)
    while records := await ctx.store.records(query):
        found.extendleft(_parsed(record) for record in records if record.body is not None)
        query = replace(query, after=records[-1].seq)
    return list(found)


async def original_of(ctx: Context, item: PlateInForce) -> Original | None:
    """What this Plate was imported from, byte for byte; None for one that was set as it is.

    Raises:
        VerificationFailed: the entry does not hold what it says.
    """
    if item.seq is None:
        return None
    records = await ctx.store.records(RecordQuery(kinds=(Kind.PLATE,), seqs=(item.seq,)))
    return _original(records[0]) if records else None


def _original(record: Record) -> Original | None:
    shape = record.body.get("blob") if record.body is not None else None
    if not isinstance(shape, dict):
        return None
    files: list[tuple[str, bytes]] = []
    listed = shape.get("files")
    at = _source_bytes(record, shape)
    for item in listed if isinstance(listed, list) else []:
        about = item if isinstance(item, dict) else {}
        count, name = about.get("bytes"), about.get("name")
        content = record.blob[at : at + count] if isinstance(count, int) and count >= 0 else b""
        if not isinstance(name, str) or sha256(content).hexdigest() != about.get("sha256"):
            raise _differs(record, "original file")
        files.append((name, content))
        at += len(content)
    if at != len(record.blob):
        raise _differs(record, "original file")
    return Original(str(shape.get("format")), tuple(files))


def _source_bytes(record: Record, shape: dict[str, Json]) -> int:
    """How much of the blob is the Plate itself."""
    source, original = shape.get("source"), shape.get("original")
    if not isinstance(source, int) or not isinstance(original, int) or min(source, original) < 0:
        raise _differs(record, "Plate")
    if source + original != len(record.blob):
        raise _differs(record, "Plate")
    return source


def _differs(record: Record, what: str) -> VerificationFailed:
    return VerificationFailed(
        f"the {what} at entry {record.seq} is not the one that was recorded: its digest differs. "
        "Run ccn-mcp verify, then set the Plate again with ccn-mcp plate set FILE"
    )


def _parsed(record: Record) -> PlateInForce:
    if record.body is None:
        raise VerificationFailed(f"the Plate at entry {record.seq} cannot be read; run ccn-mcp verify")
    shape = record.body.get("blob")
    source = _source_bytes(record, shape) if isinstance(shape, dict) else len(record.blob)
    plate = parse_plate(record.blob[:source])
    if plate.digest != record.body.get("digest"):
        raise _differs(record, "Plate")
    return PlateInForce(plate, record.seq, record.time_us)
