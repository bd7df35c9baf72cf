"""Stores, bundles and the two verifiers, for the tests of bundles."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from ccn_mcp.data import verify_bundle
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import Draft, Group
from ccn_mcp.store.keeper import FileKeeper
from ccn_mcp.store.sqlite.bundle import Bundled, write_bundle
from ccn_mcp.store.sqlite.log import SqliteLog
from tests.store.model import T0, opening, report, said, snapshot

DATA: Final = Path(verify_bundle.__file__).parent
PYTHON_FILE: Final = DATA / "verify_bundle.py"
NODE_FILE: Final = DATA / "verify_bundle.mjs"
RUN_S_MAX: Final = 280.0
TOKEN: Final = b"\x30\x82time stamp token"

NODE: Final = shutil.which("node")


def keeper_at(folder: Path) -> FileKeeper:
    """A keeper whose keys and heads lie in `folder`."""
    return FileKeeper(lambda: folder / "config", folder / "ccn.db")


def make_store(folder: Path, *, rotations: int = 1, more: int = 0) -> Path:
    """A store with content and blobs, an erased message, an anchor and changes of key."""
    path = folder / "ccn.db"
    folder.mkdir(parents=True, exist_ok=True)
    log = SqliteLog(path, keeper=keeper_at(folder), secret=lambda _create: bytes(32))
    groups = [
        (opening("c1", title="hé €"),),
        (said("seventeen herons"),),
        (said("forget this", at=1),),
        (snapshot("i1", conversation="c1", at=2), report("i1", 0.1, -2.5, at=3)),
    ]
    try:
        log.append_batch([Group(drafts) for drafts in groups])
        log.erase([Draft(Kind.REDACTION, T0 + 4, {"target": "3", "by": "me", "reason": "asked"})])
        log.append_batch([Group((Draft(Kind.ANCHOR, T0 + 5, {"note": "a note\n"}, TOKEN),))])
        for _ in range(rotations):
            log.rotate_key()
            log.append_batch([Group((said("after the change", at=6),))])
        for first in range(0, more, 500):
            texts = range(first, min(first + 500, more))
            log.append_batch([Group((said(f"note {number}", at=7 + number),)) for number in texts])
    finally:
        log.close()
    return path


def make_bundle(folder: Path, *, rotations: int = 1, more: int = 0) -> tuple[Path, Bundled]:
    """A bundle of such a store."""
    target = folder / "bundle"
    store = make_store(folder, rotations=rotations, more=more)
    target.mkdir(mode=0o700)
    return target, write_bundle(store, target, lambda *_: None)


def keys_of(bundle: Path) -> list[str]:
    """The keys in the order in which the log named them."""
    return [line.split(" ")[1] for line in (bundle / "keys").read_text().splitlines()]


def answer(bundle: Path, key: str | None = None, head: str | None = None) -> tuple[int, str]:
    """Status and words of the verifier in Python, in this process."""
    try:
        return 0, verify_bundle.report(verify_bundle.check(bundle, key, head))
    except verify_bundle.Fault as fault:
        return 1, f"NOT AS IT WAS WRITTEN\n{fault}\n"


def run_file(program: Path, *arguments: str, cwd: Path) -> tuple[int, str]:
    """A verifier as a stranger runs it: alone, elsewhere, without site packages."""
    start = [sys.executable, "-I", "-S"] if program.suffix == ".py" else [str(NODE)]
    done = subprocess.run(
        [*start, str(program), *arguments],
        cwd=cwd,
        env={},
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
        encoding="utf-8",
    )
    assert done.stderr == "", done.stderr
    return done.returncode, done.stdout


Case = tuple[Path, str | None, str | None]

MANY: Final = """
import { answer } from %s;
import { readFileSync, writeFileSync } from "node:fs";
const out = [];
for (const [folder, key, head, change] of JSON.parse(readFileSync(0, "utf-8"))) {
  let kept;
  if (change) {
    kept = readFileSync(change[0]);
    const data = Buffer.from(kept);
    data[change[1]] ^= change[2];
    writeFileSync(change[0], data);
  }
  out.push(answer(folder, key ?? undefined, head ?? undefined));
  if (change) writeFileSync(change[0], kept);
}
console.log(JSON.stringify(out));
"""


def node_answers(cases: Iterable[tuple[Any, ...]]) -> list[tuple[int, str]]:
    """What the verifier for Node says of each (folder, key, head[, (file, position, bits to flip)]), in one process."""
    listed = [[str(case[0]), *case[1:3], *case[3:]] for case in cases]
    program = MANY % json.dumps(NODE_FILE.as_uri())
    done = subprocess.run(
        [str(NODE), "--input-type=module", "-e", program],
        input=json.dumps(listed, default=str),
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return [(status, text) for status, text in json.loads(done.stdout)]
