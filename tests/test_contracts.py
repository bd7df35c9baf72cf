"""Who may import whom, and what the two paths that every user waits for may import at all."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from importlinter.cli import lint_imports

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = ROOT / "ccn_mcp"
WAIT_S: Final = 60
DOMAIN_MAY_USE: Final = frozenset({"numpy", "yaml"})
"""Third parties that pure code may use; both are imported late where the start path would pay for them."""

SDK: Final = frozenset({"mcp", "mcp_types"})
KNOW_THE_SDK: Final = ("server", "cli/demo", "cli/doctor", "claude")

BUILD_A_SERVER: Final = """
import json, sys
from pathlib import Path
from ccn_mcp.server.app import build_server
from ccn_mcp.settings import Settings
before = "rich" in sys.modules
build_server(Settings(db=Path("nowhere.db")))
# The SDK's own constructor looks for rich, and its request signing brings cryptography in.
print(json.dumps(sorted({*sys.modules} - ({"rich"} if not before else set()))))
"""
TOO_HEAVY_TO_START: Final = ("anthropic", "typer", "rich", "numpy", "yaml", "aiosqlite", "platformdirs")

IMPORT_THE_LOG: Final = """
import json, sys
import ccn_mcp.store.sqlite.log
print(json.dumps(sorted(sys.modules)))
"""
TOO_HEAVY_FOR_A_HOOK: Final = (
    *TOO_HEAVY_TO_START,
    *("mcp", "mcp_types", "pydantic", "asyncio", "anyio", "starlette", "httpx", "cryptography"),
)


def test_the_contracts_hold() -> None:
    assert lint_imports(config_filename=str(ROOT / ".importlinter"), no_cache=True) == 0


def imports_of(path: Path) -> set[str]:
    """The top-level names that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add((node.module or "").split(".")[0])
    return found


def modules(folder: str = "") -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py"))


def test_the_domain_is_pure() -> None:
    impure = {
        "os",
        "time",
        "random",
        "secrets",
        "socket",
        "subprocess",
        "sqlite3",
        "asyncio",
        "pathlib",
        "io",
    }
    for path in modules("domain"):
        found = imports_of(path)
        outside = found - set(sys.stdlib_module_names) - {"ccn_mcp"}
        assert outside <= DOMAIN_MAY_USE, f"{path.name} imports {outside - DOMAIN_MAY_USE}"
        assert not found & impure, f"{path.name} imports {found & impure}: effects belong to the edges"


def test_only_the_server_knows_the_sdk() -> None:
    for path in modules():
        where = path.relative_to(PACKAGE).with_suffix("").as_posix()
        if SDK & imports_of(path):
            assert where.startswith(KNOW_THE_SDK), f"{where} imports the SDK"


def loaded_by(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    assert done.stderr == ""
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("program", "too_heavy"),
    [(BUILD_A_SERVER, TOO_HEAVY_TO_START), (IMPORT_THE_LOG, TOO_HEAVY_FOR_A_HOOK)],
    ids=["serve", "hook"],
)
def test_a_path_that_everybody_waits_for_stays_thin(program: str, too_heavy: tuple[str, ...]) -> None:
    loaded = loaded_by(program)
    assert "ccn_mcp" in loaded
    assert not loaded & set(too_heavy)
