"""docs/reference.md says what the code does, now, on any machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from ccn_mcp.domain import errors
from ccn_mcp.server.catalogue import CATALOGUE
from ccn_mcp.settings import VARIABLES

ROOT: Final = Path(__file__).parents[1]
MAKE: Final = ROOT / "docs" / "make_reference.py"
PAGE: Final = ROOT / "docs" / "reference.md"
WAIT_S: Final = 120
MACHINE: Final = re.compile(r"(?<![\w`<])(/(home|root|Users|tmp|work|var|opt)\b|[A-Z]:\\)")


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    # A home folder and settings of its own: nothing of a machine may get into the page.
    home = {"HOME": str(tmp_path), "CCN_DB": str(tmp_path / "other.db"), "COLUMNS": "40"}
    done = subprocess.run(
        [sys.executable, str(MAKE), "--check"],
        cwd=tmp_path,
        env={"PATH": os.defpath, "LANG": "C.UTF-8", **home},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    if done.returncode:
        pytest.fail(done.stderr)
    assert not list(tmp_path.iterdir()), "making it writes nothing but the page"


def test_the_page_names_everything() -> None:
    text = PAGE.read_text("utf-8")
    for tool in CATALOGUE:
        assert f"\n### {tool}\n" in text
    for variable in VARIABLES:
        assert f"| `{variable}` |" in text
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.CcnError):
            assert f"| `{kind.code}` | {kind.exit_status} | `{kind.__name__}` |" in text
    for command in ("serve", "demo", "install", "plate set"):
        assert f"\n### ccn-mcp {command}\n" in text


def test_the_page_holds_no_path_of_a_machine() -> None:
    text = PAGE.read_text("utf-8")
    assert not MACHINE.search(text)
    assert str(ROOT) not in text
    assert str(Path.home()) not in text


def test_every_row_of_a_table_has_the_columns_of_its_head() -> None:
    columns = 0
    for line in PAGE.read_text("utf-8").splitlines():
        if not line.startswith("|"):
            columns = 0
            continue
        found = len(re.findall(r"(?<!\\)\|", line))
        columns = columns or found
        assert found == columns, line
