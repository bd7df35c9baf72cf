"""100,000 records: the package, the verifier in Python and the one for Node agree, and hold little in memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from ccn_mcp.store.sqlite.audit import verify_file
from tests.bundles import (
    NODE,
    NODE_FILE,
    PYTHON_FILE,
    RUN_S_MAX,
    keeper_at,
    keys_of,
    make_bundle,
    run_file,
)

RECORDS: Final = 100_000
MEMORY_KIB_MAX: Final = 100 * 1024
pytestmark = [pytest.mark.slow, pytest.mark.skipif(NODE is None, reason="needs Node")]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the store, its keys and its bundle."""
    folder = tmp_path_factory.mktemp("large")
    make_bundle(folder, more=RECORDS)
    return folder


def peak_of(program: Path, bundle: Path, cwd: Path) -> int:
    """The most memory that a verifier held, in KiB, as the kernel counted it for the program itself."""
    if program.suffix == ".py":
        code = (
            f"import runpy, sys; sys.argv = ['v', {str(bundle)!r}]\n"
            f"try: runpy.run_path({str(program)!r}, run_name='__main__')\n"
            "except SystemExit: print(open('/proc/self/status').read())"
        )
        start = [sys.executable, "-I", "-S", "-c", code]
    else:
        code = (
            f"import {{ answer }} from {json.dumps(program.as_uri())}; import {{ readFileSync }} from 'node:fs';"
            f"answer({json.dumps(str(bundle))}); console.log(readFileSync('/proc/self/status', 'utf-8'))"
        )
        start = [str(NODE), "--input-type=module", "-e", code]
    done = subprocess.run(start, cwd=cwd, capture_output=True, text=True, timeout=RUN_S_MAX, check=True)
    found = re.search(r"VmHWM:\s+([0-9]+) kB", done.stdout)
    assert found is not None
    return int(found[1])


def test_all_three_agree(large: Path, tmp_path: Path) -> None:
    bundle = large / "bundle"
    first = keys_of(bundle)[0]
    checked = verify_file(large / "ccn.db", keeper=keeper_at(large))
    assert checked.fault is None
    assert checked.entries > RECORDS
    python = run_file(PYTHON_FILE, str(bundle), "--key", first, cwd=tmp_path)
    assert python == run_file(NODE_FILE, str(bundle), "--key", first, cwd=tmp_path)
    status, text = python
    lines = text.splitlines()
    told = f"signed to {checked.signed_to} of {checked.entries}, {checked.erased} erased"
    assert (status, lines[0]) == (0, f"ok: level 2, signed by the key that you gave; {told}")
    assert lines[2] == f"head   {checked.head.size}:{checked.head.root.hex()}"


@pytest.mark.parametrize(
    ("name", "at", "words"),
    [
        ("payload/200", 20_000, "payload/200: entry 51"),
        ("tile/entries/300", 112 * 77 + 50, "tile/entries/300: entry 76877: does not follow"),
        ("tile/0/100", 32 * 5, "tile/0/100: hash 5, from entry 25605 on"),
        ("tile/1/000", 32 * 7 + 31, "tile/1/000: hash 7, from entry 1792 on"),
    ],
)
def test_one_flipped_byte_is_found_at_the_same_place(
    large: Path, tmp_path: Path, name: str, at: int, words: str
) -> None:
    path = large / "bundle" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    try:
        python = run_file(PYTHON_FILE, str(large / "bundle"), cwd=tmp_path)
        assert python == run_file(NODE_FILE, str(large / "bundle"), cwd=tmp_path)
        assert (python[0], words in python[1]) == (1, True), python[1]
    finally:
        path.write_bytes(whole)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("program", [PYTHON_FILE, NODE_FILE], ids=["python", "node"])
def test_little_is_held_in_memory(large: Path, tmp_path: Path, program: Path) -> None:
    found = peak_of(program, large / "bundle", tmp_path)
    assert found <= MEMORY_KIB_MAX, f"{found} KiB"
