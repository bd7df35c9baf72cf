"""The two verifiers of bundles: each alone, against each other, and against the package's own rules."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp.data import verify_bundle
from ccn_mcp.domain import jcs, ledger
from ccn_mcp.domain.assurance import check_signatures
from ccn_mcp.domain.checkpoint import Checkpoint, encode, origin_of, parse_key
from ccn_mcp.domain.ledger import LENGTH, Head
from ccn_mcp.domain.merkle import root_of
from ccn_mcp.domain.models import Body, Group
from ccn_mcp.store import ed25519
from ccn_mcp.store.keeper import FileKeeper
from ccn_mcp.store.keys import KeyRing
from ccn_mcp.store.sqlite import signing
from ccn_mcp.store.sqlite.backup import backup
from ccn_mcp.store.sqlite.bundle import tile_name, write_bundle
from ccn_mcp.store.sqlite.log import SqliteLog
from ccn_mcp.store.sqlite.restore import restoring
from tests.bundles import (
    NODE,
    NODE_FILE,
    PYTHON_FILE,
    answer,
    keeper_at,
    keys_of,
    make_bundle,
    make_store,
    node_answers,
    run_file,
)
from tests.domain.test_ledger import GOLDEN, STORE_ID
from tests.shared_vectors import vectors
from tests.store.model import T0, said

FREE: Final = {"README.txt", "verify_bundle.py", "verify_bundle.mjs"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one, with everything in it that there is."""
    return make_bundle(tmp_path_factory.mktemp("small"))[0]


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A copy to do harm to."""
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_bundle_is_accepted_at_the_level_that_it_deserves(bundle: Path) -> None:
    first, second = keys_of(bundle)
    size = int((bundle / "head").read_text().splitlines()[1])
    status, text = answer(bundle)
    assert (status, text.startswith(f"ok: level 1, complete; signed to {size} of {size}, 1 erased\n")) == (
        0,
        True,
    )
    head = re.search("head   (.*)", text)
    assert head is not None
    assert answer(bundle, key=first)[1].startswith("ok: level 2")
    assert answer(bundle, key=second)[1].startswith("ok: level 2")
    assert answer(bundle, head=head[1])[1].startswith("ok: level 3")
    assert answer(bundle, first, head[1][:-32])[1].startswith("ok: level 3")
    names = {path.relative_to(bundle).as_posix() for path in files_of(bundle)}
    assert {"head", "keys", "checkpoint", f"tile/entries/000.p/{size}", f"payload/000.p/{size}"} < names
    assert sum(name.startswith("checkpoints/") for name in names) == 1
    assert {name for name in names if name.startswith("anchors/")} == {"anchors/7.note", "anchors/7.tsr"}


@pytest.mark.slow
def test_every_flipped_byte_is_found_and_told_where(bundle: Path) -> None:
    checked = 0
    for path in files_of(bundle):
        name, whole = path.relative_to(bundle).as_posix(), path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
            status, text = answer(bundle)
            assert status == 1, (name, at)
            assert re.search(
                r"(entry|line|hash) [0-9]|missing|second one|anchors/|not signed by the key", text
            ), text
            checked += 1
        path.write_bytes(whole)
    assert checked > 3_000
    assert answer(bundle)[0] == 0


def harms() -> dict[str, tuple[Callable[[Path], object], str]]:
    """What is done to a bundle of 10 entries, and what is said then."""

    def cut(name: str, count: int) -> Callable[[Path], object]:
        return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-count])

    def longer(path: Path) -> None:
        path.write_bytes(path.read_bytes() + b"x")

    def copy(name: str, to: str) -> Callable[[Path], object]:
        def work(folder: Path) -> None:
            (folder / to).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, folder / to)

        return work

    return {
        "cut checkpoint": (cut("checkpoint", 3), "checkpoint: line 5: ends without a line feed"),
        "cut checkpoint more": (cut("checkpoint", 140), "checkpoint: line"),
        "cut tile": (cut("tile/0/000.p/10", 32), "tile/0/000.p/10: hash 9, from entry 9 on"),
        "cut entries": (cut("tile/entries/000.p/10", 5), "tile/entries/000.p/10: entry 9: not 110 bytes"),
        "cut content": (cut("payload/000.p/10", 5), "payload/000.p/10: entry 9: the file ends"),
        "longer content": (
            lambda folder: longer(folder / "payload/000.p/10"),
            "payload/000.p/10: 1 bytes after entry 9",
        ),
        "longer tile": (
            lambda folder: longer(folder / "tile/0/000.p/10"),
            "longer than 320 bytes",
        ),
        "missing tile": (lambda folder: (folder / "tile/0/000.p/10").unlink(), "tile/0/000.p/10: missing"),
        "duplicate tile": (
            copy("tile/0/000.p/10", "tile/0/000.p/9"),
            "tile/0/000.p/9: a second one beside tile/0/",
        ),
        "full and partial": (
            copy("tile/0/000.p/10", "tile/0/000"),
            "tile/0/000: a second one beside tile/0/000.p/10",
        ),
        "extra tile": (
            copy("tile/0/000.p/10", "tile/0/001"),
            "tile/0/001: does not belong to a bundle of 10",
        ),
        "swapped": (copy("payload/000.p/10", "tile/entries/000.p/10"), "tile/entries/000.p/10: longer than"),
        "extra stamp": (copy("keys", "anchors/3.tsr"), "anchors/3.tsr: no entry holds this"),
        "missing stamp": (lambda folder: (folder / "anchors/7.tsr").unlink(), "anchors/7.tsr: missing"),
        "older signature as the newest": (
            lambda folder: shutil.copy(next((folder / "checkpoints").iterdir()), folder / "checkpoints/3"),
            "checkpoints/3: line 2: not its name",
        ),
        "no last head of the retired key": (
            lambda folder: next((folder / "checkpoints").iterdir()).unlink(),
            "missing: the head that the key before entry",
        ),
        "no keys": (
            lambda folder: (folder / "keys").write_text(""),
            "keys: line 1: not what the entries say",
        ),
        "a link": (
            lambda folder: (folder / "tile/extra").symlink_to("/dev/zero"),
            "tile/extra: no regular file",
        ),
    }


@pytest.mark.parametrize("harm", harms())
def test_each_harm_has_its_own_words(copied: Path, harm: str) -> None:
    work, words = harms()[harm]
    work(copied)
    status, text = answer(copied)
    assert (status, words in text) == (1, True), text


def test_a_wrong_key_and_a_wrong_head_are_refused(bundle: Path, tmp_path: Path) -> None:
    other, done = make_bundle(tmp_path / "other")
    assert answer(bundle, key=keys_of(other)[0]) == (
        1,
        "NOT AS IT WAS WRITTEN\n--key: the log names no such key\n",
    )
    assert (
        "--head: not a head of this log" in answer(bundle, head=f"{done.head.size}:{done.head.root.hex()}")[1]
    )
    assert "--head: not a head of this log" in answer(bundle, head=f"9999:{done.head.root.hex()}")[1]
    assert "--head: not SIZE:ROOT" in answer(bundle, head="0:" + "0" * 32)[1]


def test_what_belongs_to_another_log_is_refused(copied: Path, tmp_path: Path) -> None:
    other, _ = make_bundle(tmp_path / "other")
    for name in ("tile/entries/000.p/10", "tile/0/000.p/10", "payload/000.p/10", "checkpoint", "keys"):
        whole = (copied / name).read_bytes()
        shutil.copy(other / name, copied / name)
        assert answer(copied)[0] == 1, name
        (copied / name).write_bytes(whole)
    shutil.copy(other / "tile/entries/000.p/10", copied / "tile/entries/000.p/10")
    assert "tile/entries/000.p/10: entry 0: not an entry of this log" in answer(copied)[1]


def test_a_head_that_the_retired_key_signed_after_the_change_is_refused(tmp_path: Path) -> None:
    folder, target = tmp_path / "store", tmp_path / "store" / "bundle"
    bundle, done = make_bundle(folder, rotations=0)
    assert answer(bundle, key=keys_of(bundle)[0])[0] == 0
    thief = KeyRing(lambda: folder / "config").signer(done.store_id)
    assert thief is not None
    shutil.rmtree(bundle)
    log = SqliteLog(folder / "ccn.db", keeper=keeper_at(folder))
    log.rotate_key()
    log.close()
    target.mkdir()
    done = write_bundle(folder / "ccn.db", target, lambda *_: None)
    assert answer(bundle, key=keys_of(bundle)[0])[0] == 0
    text = encode(Checkpoint(origin_of(done.store_id), done.head.size, done.head.root))
    (bundle / "checkpoint").write_text(thief.sign(text), "utf-8")
    assert f"checkpoint: signed by a key that entry {done.head.size - 1} had replaced" in answer(bundle)[1]


def write_golden(folder: Path, kinds: tuple[int, ...], blank: tuple[int, ...] = ()) -> Head:
    """The golden entries of the format as a bundle; with other kinds, or without some content, where asked."""
    leaves, entries, payload, previous = [], b"", b"", ledger.NO_LEAF
    for seq, (kind, (_, content, blob, _)) in enumerate(zip(kinds, GOLDEN, strict=True)):
        body: Any = jcs.encode(content)  # type: ignore[arg-type]  # a dict of mixed values
        committed = ledger.commitment(bytes(16), body, blob)
        entry = ledger.entry_bytes(STORE_ID, seq, 1767225600000000 + seq, kind, previous, committed)
        previous = ledger.leaf_hash(entry)
        leaves.append(previous)
        entries += b"\0\x6e" + entry
        whole = b"\1" + bytes(16) + LENGTH.pack(len(body)) + body + LENGTH.pack(len(blob)) + blob
        payload += b"\0" if seq in blank else whole
    head = Head(3, root_of(leaves))
    for name, data in (
        ("tile/0/000.p/3", b"".join(leaves)),
        ("tile/entries/000.p/3", entries),
        ("payload/000.p/3", payload),
        ("keys", b""),
        ("head", encode(Checkpoint(origin_of(STORE_ID), 3, head.root)).encode()),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return head


NO_GENESIS: Final = "NOT AS IT WAS WRITTEN\nentry 0: the log does not begin with its one genesis entry\n"


def test_the_golden_values(tmp_path: Path) -> None:
    head = write_golden(tmp_path / "a", (1, 1, 2))
    assert head.root.hex() == "ee6ad6ad59502ddaa8e566ab7226339ea66917a13fcad3833fe5275c0033666e"
    # Every hash up to the root fits; what they lack is only looked at afterwards.
    assert answer(tmp_path / "a") == (1, NO_GENESIS)
    good = write_golden(tmp_path / "b", (0, 1, 2))
    assert answer(tmp_path / "b")[1].splitlines()[2] == f"head   3:{good.root.hex()}"
    write_golden(tmp_path / "c", (0, 1, 2), blank=(1,))
    assert "payload: entry 1: its content is gone and no later entry erased it" in answer(tmp_path / "c")[1]


def test_names_of_tiles_are_those_of_the_specification() -> None:
    for name in (tile_name, verify_bundle.tile_name):
        assert name(1_234_067, 256) == "x001/x234/067"
        assert (name(0, 256), name(999, 1), name(1_000, 255)) == ("000", "999.p/1", "x001/000.p/255")
    # The example of tlog-tiles: a tree of 70,000.
    listed = list(verify_bundle.tiles(70_000))
    assert (len(listed), listed[-1]) == (274, (273, 112))


def test_the_signatures_are_judged_as_the_package_judges_them() -> None:
    told: dict[str, Any] = json.loads(vectors("wycheproof_ed25519.json").read_text("utf-8"))
    cases = [
        (bytes.fromhex(group["publicKey"]["pk"]), bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
        for group in told["testGroups"]
        for case in group["tests"]
    ]
    listed: list[dict[str, Any]] = json.loads(vectors("cctv_ed25519.json").read_text("utf-8"))
    cases += [
        (bytes.fromhex(case["key"]), case["msg"].encode(), bytes.fromhex(case["sig"])) for case in listed[::4]
    ]
    good = 0
    for case in cases:
        assert verify_bundle.verify(*case) == ed25519.verify(*case), case
        good += ed25519.verify(*case)
    assert good > 88


def test_the_verifier_in_python_needs_nothing_and_runs_on_3_9() -> None:
    tree = ast.parse(PYTHON_FILE.read_text("utf-8"), feature_version=(3, 9))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = {"json", "re", "struct", "sys", "base64", "collections.abc", "hashlib", "pathlib", "typing"}
    assert names == allowed | {"__future__"}
    imported = set(re.findall('from "(.*?)"', NODE_FILE.read_text("utf-8")))
    assert imported == {"node:crypto", "node:fs", "node:path", "node:url"}


def test_it_runs_alone_from_another_folder(bundle: Path, tmp_path: Path) -> None:
    program = Path(shutil.copy(PYTHON_FILE, tmp_path / "check.py"))
    key = keys_of(bundle)[0]
    assert run_file(program, str(bundle), "--key", key, cwd=tmp_path) == answer(bundle, key=key)
    assert run_file(program, str(tmp_path), cwd=tmp_path) == (1, "NOT AS IT WAS WRITTEN\nhead: missing\n")


class _Careless(FileKeeper):
    """Announces a key that the one before it has not signed."""

    def next_key(self, store_id: bytes, seq: int, /, *, lost: bool) -> Body:
        """The change with a signature of something else."""
        changed = super().next_key(store_id, seq, lost=lost)
        return {**changed, "signature": super().next_key(store_id, seq + 1, lost=lost)["signature"]}


def forged_change(folder: Path) -> Path:
    """A bundle in which the old key has signed the change of keys for another position."""
    path, target = make_store(folder, rotations=0), folder / "bundle"
    keeper = _Careless(lambda: folder / "config", folder / "ccn.db")
    with closing(SqliteLog(path, keeper=keeper)) as log:
        log.rotate_key()
    target.mkdir()
    write_bundle(path, target, lambda *_: None)
    return target


def test_a_change_of_key_that_the_old_key_has_not_signed_is_refused(tmp_path: Path) -> None:
    bundle = forged_change(tmp_path)
    first, second = keys_of(bundle)
    refused = "NOT AS IT WAS WRITTEN\nentry 8: the key that was due has not signed this change of key\n"
    assert answer(bundle, key=first) == answer(bundle) == (1, refused)
    assert answer(bundle, key=second)[0] == 0  # whoever trusts the new one never asked the old one


def test_keys_are_judged_as_the_package_judges_them(tmp_path: Path) -> None:
    folder, target = tmp_path / "store", tmp_path / "store" / "bundle"
    make_bundle(folder, rotations=2)
    keeper = keeper_at(folder)
    with closing(SqliteLog(folder / "ccn.db", keeper=keeper)) as log:
        (key_file,) = (folder / "config" / "keys").glob("*.key")
        kept = key_file.read_bytes()
        key_file.unlink()
        log.rotate_key(lost=True)
        log.append_batch([Group((said("after the loss", at=9),))])
        log.rotate_key()
        log.append_batch([Group((said("and on", at=10),))])
    assert kept != key_file.read_bytes()
    shutil.rmtree(target)
    target.mkdir()
    done = write_bundle(folder / "ccn.db", target, lambda *_: None)
    with closing(sqlite3.connect(folder / "ccn.db")) as connection:
        entries = signing.key_entries(connection)
        notes = connection.execute("SELECT size, note FROM checkpoint ORDER BY size").fetchall()
    judged = []
    for key in keys_of(target):
        expected = check_signatures(done.store_id, parse_key(key), entries, notes, ed25519.verify)
        status, text = answer(target, key=key)
        assert (status == 0) == (expected.fault is None), (key, text, expected)
        assert status or f"signed to {expected.to} of {done.head.size}" in text
        judged.append(status)
    # The keys before the loss cannot vouch for the one after it.
    assert judged == [1, 1, 1, 0, 0]
    assert answer(target)[1].startswith(f"ok: level 1, complete; signed to {done.head.size} of")


def test_a_restored_log_has_keys_of_its_own(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    backup(store, tmp_path / "copy.db")
    keeper = keeper_at(tmp_path / "new")
    with restoring(tmp_path / "copy.db", tmp_path / "new" / "ccn.db") as ready:
        ready.build(T0, lambda _create: bytes(32), lambda store_id: keeper.key(store_id, create=True))
        ready.put_in_place(None)
    with closing(SqliteLog(tmp_path / "new" / "ccn.db", keeper=keeper)) as log:
        log.append_batch([Group((said("in the new one", at=20),))])
    (tmp_path / "bundle").mkdir()
    done = write_bundle(tmp_path / "new" / "ccn.db", tmp_path / "bundle", lambda *_: None)
    (key,) = keys_of(tmp_path / "bundle")
    assert origin_of(done.store_id) in key
    status, text = answer(tmp_path / "bundle", key=key)
    assert (status, text.splitlines()[0][:11]) == (0, "ok: level 2"), text


# ---- Node ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(NODE is None, reason="needs Node")
def test_both_say_the_same_of_every_flipped_byte(copied: Path) -> None:
    cases, expected = [], []
    for path in files_of(copied):
        whole = path.read_bytes()
        for at in range(len(whole)):
            bits = 1 << at % 8
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
            expected.append(answer(copied))
            cases.append((copied, None, None, (path, at, bits)))
        path.write_bytes(whole)
    found = node_answers(cases)
    for case, ours, theirs in zip(cases, expected, found, strict=True):
        assert ours == theirs, case[3]
    assert len(found) > 3_000


@pytest.mark.slow
@pytest.mark.skipif(NODE is None, reason="needs Node")
def test_both_say_the_same_of_every_harm(bundle: Path, tmp_path: Path) -> None:
    cases: list[tuple[Any, ...]] = [(bundle, None, None), *((bundle, key, None) for key in keys_of(bundle))]
    for number, (work, _) in enumerate(harms().values()):
        folder = Path(shutil.copytree(bundle, tmp_path / str(number)))
        work(folder)
        cases.append((folder, None, None))
    write_golden(tmp_path / "golden", (1, 1, 2))
    write_golden(tmp_path / "whole", (0, 1, 2))
    write_golden(tmp_path / "blank", (0, 1, 2), blank=(1,))
    cases += [(tmp_path / name, None, None) for name in ("golden", "whole", "blank")]
    other, done = make_bundle(tmp_path / "other", more=600, rotations=3)
    known = f"{done.head.size}:{done.head.root.hex()}"
    cases += [(other, None, None), (other, keys_of(other)[2], known), (bundle, keys_of(other)[0], None)]
    forged = forged_change(tmp_path / "forged")
    cases += [
        (forged, None, None),
        (bundle, None, known),
        (bundle, None, "0:" + "0" * 32),
        (bundle, "x", None),
    ]
    found = node_answers(cases)
    assert found == [answer(*case) for case in cases]
    assert sum(status == 0 for status, _ in found) == 6


@pytest.mark.slow
@pytest.mark.skipif(NODE is None, reason="needs Node")
def test_both_judge_signatures_alike(tmp_path: Path) -> None:
    listed: list[dict[str, Any]] = json.loads(vectors("cctv_ed25519.json").read_text("utf-8"))
    cases = [[case["key"], case["msg"].encode().hex(), case["sig"]] for case in listed]
    program = tmp_path / "signatures.mjs"
    program.write_text(
        f"import {{ verify }} from {json.dumps(NODE_FILE.as_uri())};\n"
        f"const hex = (text) => Buffer.from(text, 'hex');\n"
        f"console.log(JSON.stringify({json.dumps(cases)}.map((c) => verify(...c.map(hex)))));\n"
    )
    status, out = run_file(program, cwd=tmp_path)
    assert status == 0
    expected = [
        ed25519.verify(bytes.fromhex(key), bytes.fromhex(text), bytes.fromhex(sig))
        for key, text, sig in cases
    ]
    assert json.loads(out) == expected
