"""`ccn-mcp drift`: the measure over time, in the terminal, as SVG and as PNG."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ccn_mcp.cli import output, picture
from ccn_mcp.cli.export import SIDE_FILES
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.cli.picture import Kind, Picture, Values
from ccn_mcp.domain.character import TRAITS
from ccn_mcp.domain.errors import BadInput, Conflict

if TYPE_CHECKING:
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.series import Point, Series

OWNERS_MAX: Final = 8
"""Series that are drawn, newest first; the rest is named."""

COMPACTIONS_MAX: Final = 20
LABEL: Final = 22
NUMBERS: Final = 21
WIDE: Final = 880

Trait = Annotated[str | None, typer.Option("--trait", metavar="NAME", help="Only this of the 16 traits.")]
Instance = Annotated[str | None, typer.Option("--instance", metavar="ID", help="Only this instance.")]
Conversation = Annotated[
    str | None, typer.Option("--conversation", metavar="ID", help="Only reports of this conversation.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only what is newer: ISO date or time.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=2_000, help="Newest reports to look at.")]
Svg = Annotated[str | None, typer.Option("--svg", metavar="FILE", help="Also draw it into this file as SVG.")]
Png = Annotated[str | None, typer.Option("--png", metavar="FILE", help="Also draw it into this file as PNG.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


def drift(
    instance: Instance = None,
    conversation: Conversation = None,
    since: Since = None,
    trait: Trait = None,
    limit: Limit = 200,
    svg: Svg = None,
    png: Png = None,
    force: Force = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """See how each instance's reports moved: consistency, distances, traits, relational metrics.

    Distances are from the Plate's baseline and from the consensus at the time of each report.
    """
    if trait is not None and trait not in TRAITS:
        raise BadInput(f"there is no trait {trait[:40]!r}; they are: {', '.join(TRAITS)}")
    chosen = output.load_settings(db)

    async def work(node: Node) -> Series:
        from ccn_mcp.node.series import series

        await output.must_exist(node)
        return await series(
            node.ctx, instance_id=instance, conversation_id=conversation, since=since, limit=limit
        )

    found = output.on_node(chosen, work)
    written = []
    for file, draw in ((svg, _as_svg), (png, _as_png)):
        if file is not None:
            written.append(str(_save(file, draw(found, trait), force, chosen.db)))
    if as_json:
        output.emit({**found, "files": written})
        return
    _show(found, trait, anything=not (instance or conversation or since))
    for name in written:
        output.say(f"Written: {name}")


def _as_svg(found: Series, trait: str | None) -> bytes:
    return picture.svg(_picture(found, trait)).encode()


def _as_png(found: Series, trait: str | None) -> bytes:
    return picture.png(_picture(found, trait))


def _owners(found: Series) -> list[tuple[str, list[Point]]]:
    """The reports by instance and conversation, the last heard first."""
    series: dict[str, list[Point]] = {}
    for point in found["points"]:
        name = " ".join(filter(None, (point["instance_id"], point["conversation_id"])))
        series.setdefault(name, []).append(point)
    return sorted(series.items(), key=lambda item: -item[1][-1]["seq"])


# ---- in the terminal -----------------------------------------------------------------------------------


def _show(found: Series, trait: str | None, *, anything: bool) -> None:
    from ccn_mcp.node.baselines import SAID

    owners = _owners(found)
    if not owners:
        none = "No reports yet." if anything else "No reports fit."
        output.tell(f"{none} Instances report with the tool report_character_vector.")
        return
    output.tell(
        "Each line is drawn to its own range, at least 0.20 wide. Numbers: last, baseline, consensus."
    )
    output.tell(f"Baseline {SAID.get(found['baseline_source'], found['baseline_source'])}.")
    for name, points in owners[:OWNERS_MAX]:
        last = points[-1]
        output.say()
        output.say(name, "cyan")
        output.tell(
            f"{output.amount(len(points), 'report')}, {output.minute(points[0]['at'])} to "
            f"{output.minute(last['at'])}, last verdict {last['action'] or 'none'}",
            indent="  ",
        )
        for label, values, numbers in _rows(found, points, trait):
            _row(label, values, numbers)
    for text in _compactions(found):
        output.tell(text)
    if len(owners) > OWNERS_MAX:
        output.say()
        output.tell(f"{len(owners) - OWNERS_MAX} more; name one with --instance or --conversation.")
    if found["left_out"]:
        output.tell(f"Left out: {found['left_out']}", style="dim")


def _rows(
    found: Series, points: list[Point], trait: str | None
) -> Iterator[tuple[str, Values, list[float | None]]]:
    if trait is None:
        yield "consistency (CCC)", [point["consistency"] for point in points], []
        yield "from the baseline", [point["from_baseline"] for point in points], []
        yield "from the consensus", [point["from_consensus"] for point in points], []
    consensus = found["consensus"]
    for at, name in enumerate(found["traits"]):
        if trait in (None, name):
            others = [found["baseline"][at], consensus[at] if consensus is not None else None]
            yield name, [point["traits"][at] for point in points], others
    if trait is None and any(point["relational"] for point in points):
        for at, name in enumerate(found["relational"]):
            yield name.replace("_", " "), _related(points, at), []


def _compactions(found: Series) -> Iterator[str]:
    """For each of the newest compactions: how the reports of its conversation beside it stood to the baseline."""
    for one in found["compactions"][-COMPACTIONS_MAX:]:
        points = [point for point in found["points"] if point["conversation_id"] == one["conversation_id"]]
        before = [point for point in points if point["seq"] < one["seq"]]
        after = [point for point in points if point["seq"] > one["seq"]]
        yield (
            f"Compacted {output.minute(one['at'])}, conversation {one['conversation_id']}: from the baseline "
            f"{_distance(before[-1:])} before, {_distance(after[:1])} after"
        )


def _distance(points: list[Point]) -> str:
    if not points:
        return "no report"
    found = points[0]["from_baseline"]
    return f"{found:.3f}" if found is not None else "not judged"


def _related(points: list[Point], at: int) -> list[float | None]:
    return [point["relational"][at] if point["relational"] else None for point in points]


def _row(label: str, values: Values, others: list[float | None]) -> None:
    room = max(8, min(output.console().width, output.WIDTH_MAX) - 2 - LABEL - NUMBERS)
    known = [value for value in values if value is not None]
    numbers = "".join(_number(value) for value in (known[-1] if known else None, *others))
    line = picture.spark(values, room, blocks=_blocks())
    output.say(f"  {label:<{LABEL}}{line:<{min(room, len(values))}}{numbers}")


def _number(value: float | None) -> str:
    return f"  {value:.3f}" if value is not None else "   none"


def _blocks() -> str:
    try:
        picture.BLOCKS.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return picture.PLAIN
    return picture.BLOCKS


# ---- as a picture --------------------------------------------------------------------------------------


def _picture(found: Series, trait: str | None) -> Picture:
    owners = _owners(found)[:OWNERS_MAX]
    high, columns = 120, 4
    names = [trait] if trait is not None else found["traits"]
    grid = len(names) > 1
    per_owner = 24 + (0 if trait else high) + (high if not grid else 4 * 90) + (2 * 90 if grid else 0)
    sheet = Picture(WIDE, 40 + per_owner * max(1, len(owners)))
    key = f"Solid: reports. Dashed: baseline ({found['baseline_source']}). Dotted: consensus, or distance from it."
    sheet.words.append((10, 20, key if owners else "No reports."))
    for number, (name, points) in enumerate(owners):
        y: float = 40 + number * per_owner
        sheet.words.append((10, y + 10, f"{name}: {points[0]['at']} to {points[-1]['at']}"))
        y += 20
        if trait is None:
            distances: list[tuple[Kind, Values]] = [
                ("own", [point["from_baseline"] for point in points]),
                ("agreed", [point["from_consensus"] for point in points]),
            ]
            ccc: list[tuple[Kind, Values]] = [("own", [point["consistency"] for point in points])]
            sheet.plot((10, y, WIDE / 2 - 20, high - 10), "distance from baseline and consensus", distances)
            sheet.plot((WIDE / 2 + 10, y, WIDE / 2 - 20, high - 10), "consistency (CCC)", ccc)
            y += high
        size = (WIDE / columns - 20, 80.0) if grid else (WIDE - 20.0, high - 10.0)
        for place, (title, lines) in enumerate(_small(found, points, names, related=grid)):
            box = (10 + place % columns * WIDE / columns, y + place // columns * 90, *size)
            sheet.plot(box, title, lines)
    return sheet


def _small(
    found: Series, points: list[Point], names: list[str], *, related: bool
) -> Iterator[tuple[str, list[tuple[Kind, Values]]]]:
    count = len(points)
    for name in names:
        at = found["traits"].index(name)
        lines: list[tuple[Kind, Values]] = [("base", [found["baseline"][at]] * max(2, count))]
        if found["consensus"] is not None:
            lines.append(("agreed", [found["consensus"][at]] * max(2, count)))
        yield name, [*lines, ("own", [point["traits"][at] for point in points])]
    if related and any(point["relational"] for point in points):
        for at, name in enumerate(found["relational"]):
            yield name.replace("_", " "), [("own", _related(points, at))]


def _save(file: str, content: bytes, force: bool, store: Path) -> Path:
    """Write the file, which only its owner can read; one that exists stays unless forced."""
    path = Path(file).expanduser().absolute()
    if any(path.resolve() == Path(f"{store}{suffix}").resolve() for suffix in SIDE_FILES):
        raise BadInput(f"{path} belongs to the store itself; choose another file")
    if path.exists() and not (path.is_file() and force):
        raise Conflict(f"{path} exists; nothing was written. Choose another file, or replace it with --force")
    part = path
    try:
        if force:
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")  # 0600
            part = Path(name)
        else:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as target:
            target.write(content)
        part.replace(path)
    except OSError as exc:
        raise BadInput(f"cannot write {path} ({exc.strerror}); choose another file") from exc
    return path
