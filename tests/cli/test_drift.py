"""`ccn-mcp drift`: the terminal, the files, and what is refused."""

from __future__ import annotations

import json
import stat
import struct
import zlib
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest

from ccn_mcp.cli import picture
from ccn_mcp.cli.picture import BLOCKS, Picture, bounds, png, spark, svg
from ccn_mcp.domain.character import TRAITS
from tests.cli.conftest import Run, Seeded, on_store, process

SVG: Final = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def reported(db: Path) -> Path:
    """A store in which one instance has reported three times, warmth falling."""

    async def fill(node: Any) -> None:
        loaded = await node.load_plate(session_id="s", model="m")
        baseline = (await node.plate()).baseline
        for step in range(3):
            traits = [value - (0.03 * step if at == 1 else 0) for at, value in enumerate(baseline)]
            await node.report_character_vector(
                traits, instance_id=loaded["instance_id"], relational=[0.25] * 7
            )

    on_store(db, fill)
    return db


def test_the_terminal_shows_every_measure(cli: Run, reported: Path) -> None:
    ran = cli("drift", "--db", str(reported))
    assert (ran.status, ran.err) == (0, "")
    rows = {line[2:24].strip(): line[24:].split() for line in ran.out.splitlines() if line.startswith("  ")}
    for name in ("consistency (CCC)", "from the baseline", "from the consensus", *TRAITS, "shared context"):
        assert len(rows[name][0]) == 3, name
    assert rows["warmth"][1:] == ["0.640", "0.700", "0.640"]
    assert rows["trust"][1] == "0.250"
    assert rows["from the baseline"][1] == "0.015"
    assert rows["consistency (CCC)"][1] == "0.985"
    assert rows["warmth"][0][0] > rows["warmth"][0][2]


def test_one_trait_and_a_narrow_terminal_without_blocks(reported: Path) -> None:
    ran = process(
        "drift",
        "--trait",
        "warmth",
        "--db",
        str(reported),
        env={"COLUMNS": "40", "PYTHONIOENCODING": "ascii"},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.isascii()
    assert "warmth" in ran.stdout
    assert "directness" not in ran.stdout


def test_json_is_the_series(cli: Run, reported: Path, tmp_path: Path) -> None:
    file = tmp_path / "d.svg"
    found = json.loads(cli("drift", "--json", "--svg", str(file), "--db", str(reported)).out)
    assert len(found["points"]) == 3
    assert found["files"] == [str(file)]
    assert found["points"][2]["traits"][1] == 0.64


def test_the_files_are_private_and_stay_unless_forced(cli: Run, reported: Path, tmp_path: Path) -> None:
    files = {"--svg": tmp_path / "d.svg", "--png": tmp_path / "d.png"}
    for option, file in files.items():
        assert cli("drift", option, str(file), "--db", str(reported)).status == 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.write_text("mine")
        again = cli("drift", option, str(file), "--db", str(reported))
        assert (again.status, file.read_text()) == (4, "mine")
        assert "--force" in again.err
        assert cli("drift", option, str(file), "--force", "--db", str(reported)).status == 0
        assert file.stat().st_size > 1_000
    ElementTree.fromstring(files["--svg"].read_text())  # noqa: S314  # our own
    before = reported.read_bytes()
    ran = cli("drift", "--svg", str(reported), "--force", "--db", str(reported))
    assert (ran.status, reported.read_bytes() == before) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--trait", "charm"], 2, "directness"),
        (["--since", "soon"], 2, "since"),
        (["--svg", "nowhere/at/all.svg"], 2, "nowhere"),
    ],
)
def test_what_cannot_be_used(cli: Run, reported: Path, arguments: list[str], status: int, said: str) -> None:
    ran = cli("drift", *arguments, "--db", str(reported))
    assert (ran.status, ran.out) == (status, "")
    assert said in ran.err


def test_without_reports_or_without_a_store(cli: Run, reported: Path, tmp_path: Path) -> None:
    assert "No reports fit" in cli("drift", "--instance", "i_x", "--db", str(reported)).out
    assert cli("drift", "--db", str(tmp_path / "none.db")).status == 3


def test_no_report_at_all_is_not_a_filter_s_fault(cli: Run, store: Seeded) -> None:
    said = cli("drift", "--db", str(store.db)).out
    assert said.startswith("No reports yet. Instances report")


# ---- the pictures themselves ---------------------------------------------------------------------------


def test_a_spark_rises_skips_and_fits() -> None:
    assert spark([0.0, 0.5, 1.0], 80) == f"{BLOCKS[0]}{BLOCKS[4]}{BLOCKS[7]}"
    assert spark([0.0, None, 1.0], 80) == f"{BLOCKS[0]} {BLOCKS[7]}"
    long = spark([at / 999 for at in range(1_000)], 16)
    assert (len(long), list(long)) == (16, sorted(long))
    assert spark([], 10) == ""


def test_noise_is_not_drawn_as_a_mountain() -> None:
    low, high = bounds([0.50, 0.51])
    assert high - low == pytest.approx(0.2)
    assert bounds([0.99, 1.0]) == (0.8, 1.0)
    assert bounds([]) == pytest.approx((0.0, 0.2))
    assert bounds([0.0, 0.9]) == (0.0, 0.9)


def sheet() -> Picture:
    made = Picture(120, 60)
    made.plot((10, 5, 100, 50), "A <b>&", [("own", [0.0, 1.0, None, 0.5]), ("base", [0.5, 0.5])])
    return made


def test_svg_is_well_formed_and_escaped() -> None:
    root = ElementTree.fromstring(svg(sheet()))  # noqa: S314  # our own
    assert "A <b>&" in [text.text for text in root.iter(f"{SVG}text")]
    assert [path.get("class") for path in root.iter(f"{SVG}path")] == ["grid", "grid", "own", "own", "base"]


def test_png_can_be_read_back_and_has_the_lines_in_it() -> None:
    made = png(sheet())
    assert made.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(made):
        (length,) = struct.unpack(">I", made[at : at + 4])
        name, body = made[at + 4 : at + 8], made[at + 8 : at + 8 + length]
        assert struct.unpack(">I", made[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + body)
        chunks[name] = body
        at += 12 + length
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (120, 60)
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == 60 * (1 + 3 * 120)
    for kind in ("own", "base", "grid"):
        assert bytes(picture._COLOURS[kind]) in rows, kind
    assert bytes(picture._INK) in rows
