"""Key files: made once, pinned once, changed without loss, and never shown."""

from __future__ import annotations

import os
import pickle
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest

from ccn_mcp.domain.checkpoint import Checkpoint, encode, open_checkpoint, origin_of
from ccn_mcp.domain.errors import KeyUnusable, RetiredKey
from ccn_mcp.domain.rotation import key_chain, rotation_body
from ccn_mcp.store import ed25519, keys
from ccn_mcp.store.keys import KeyRing, Signer

STORE: Final = bytes(range(16))
OTHER: Final = bytes(16)
WAIT_S: Final = 60
AT_ONCE: Final = 6
TEXT: Final = encode(Checkpoint(origin_of(STORE), 3, bytes(32)))
POSIX: Final = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "config"


@pytest.fixture
def ring(folder: Path) -> KeyRing:
    return KeyRing(lambda: folder)


def signer_of(ring: KeyRing, store_id: bytes = STORE) -> Signer:
    found = ring.signer(store_id)
    assert found is not None
    return found


def files(folder: Path) -> set[str]:
    return {path.suffix for path in (folder / "keys").iterdir()}


def key_file(folder: Path, end: str = "key") -> Path:
    return folder / "keys" / f"{STORE.hex()}.{end}"


# ---- first use -----------------------------------------------------------------------------------------------


def test_a_key_is_made_by_the_first_use_and_signs_what_its_public_half_opens(
    ring: KeyRing, folder: Path
) -> None:
    assert ring.pin(STORE) is None
    assert not folder.exists()
    signer = signer_of(ring)
    opened = open_checkpoint(signer.sign(TEXT), origin_of(STORE), [signer.key], ed25519.verify)
    assert opened == Checkpoint(origin_of(STORE), 3, bytes(32))
    assert signer_of(ring) == signer == signer_of(KeyRing(lambda: folder))
    assert ring.pin(STORE) == signer.key
    assert signer_of(ring, OTHER).key != signer.key
    assert files(folder) == {".key", ".pin"}
    assert key_file(folder).read_text("ascii").startswith(f"PRIVATE+KEY+ccn-log/{STORE.hex()}+")
    assert key_file(folder, "pin").read_text("ascii") == f"{signer.key}\n"


@POSIX
def test_folder_and_files_are_for_their_owner_only(ring: KeyRing, folder: Path) -> None:
    umask = os.umask(0)
    try:
        signer_of(ring)
        ring.rotate(STORE).prepare()
    finally:
        os.umask(umask)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "keys")} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "keys").iterdir()} == {0o600}


START: Final = f"""
import sys
from pathlib import Path
from ccn_mcp.store.keys import KeyRing
sys.stdin.readline()
print(KeyRing(lambda: Path(sys.argv[1])).signer(bytes.fromhex("{STORE.hex()}")).key)
"""


def test_processes_that_start_at_once_agree_on_one_key(ring: KeyRing, folder: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", START, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(AT_ONCE)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=WAIT_S)[0].strip() for process in started}
    assert said == {str(signer_of(ring).key)}
    assert ring.pin(STORE) == signer_of(ring).key
    assert files(folder) == {".key", ".pin"}, "a draft was left behind"


def test_of_two_that_find_no_key_the_second_takes_that_of_the_first(
    ring: KeyRing, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[Signer] = []
    make = tempfile.mkstemp

    def rival(**named: Any) -> tuple[int, str]:
        # After the look whether there is a key, before ours is put there.
        monkeypatch.setattr(tempfile, "mkstemp", make)
        first.append(signer_of(KeyRing(lambda: folder)))
        return make(**named)

    monkeypatch.setattr(tempfile, "mkstemp", rival)
    assert signer_of(ring) == first[0]
    assert ring.pin(STORE) == first[0].key


def test_the_pin_is_written_once_and_made_up_for_where_the_process_ended_before_it(
    ring: KeyRing, folder: Path
) -> None:
    signer = signer_of(ring)
    key_file(folder, "pin").unlink()
    assert signer_of(ring) == signer
    assert ring.pin(STORE) == signer.key
    other = signer_of(KeyRing(lambda: folder.parent / "other"))
    assert ring.remember(STORE, other.key) == signer.key == ring.pin(STORE)


def test_where_only_the_pin_is_another_machine_signs(ring: KeyRing, folder: Path) -> None:
    theirs = signer_of(KeyRing(lambda: folder.parent / "theirs"))
    assert ring.remember(STORE, theirs.key) == theirs.key
    assert ring.signer(STORE) is None
    assert files(folder) == {".pin"}


# ---- secrecy -------------------------------------------------------------------------------------------------


def test_the_secret_is_in_no_repr_no_error_and_no_copy(ring: KeyRing, folder: Path) -> None:
    signer = signer_of(ring)
    path = key_file(folder)
    text = path.read_text("ascii")
    secret = text.split("+", 4)[4].strip()
    assert len(secret) == 44
    shown = [repr(signer), str(signer), repr(ring), repr(ring.rotate(STORE))]
    for damage in (text.replace("PRIVATE", "private"), text[:-6], text + "x", text.replace("ccn-log", "x")):
        path.write_text(damage, "ascii")
        with pytest.raises(KeyUnusable) as wrong:
            ring.signer(STORE)
        shown += [str(wrong.value), repr(wrong.value), repr(wrong.value.__cause__)]
    assert not any(secret[:20] in found for found in shown)
    with pytest.raises(TypeError):
        pickle.dumps(signer)


# ---- files that cannot be used -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "looks like"),
        (b"PRIVATE+KEY+a+b\n", "looks like"),
        (b"\xff" * 9, "no text"),
        (b"a" * 9_000, "no text"),
        (b"PRIVATE+KEY+ccn-log/x+00000000+AQ==\n", "no Ed25519"),
        (b"PRIVATE+KEY+ccn-log/x+00000000+Ag" + b"A" * 42 + b"\n", "no Ed25519|base64"),
        (b"PRIVATE+KEY+ccn-log/x+00000000+AQ" + b"A" * 42 + b"\n", "its id|base64"),
    ],
)
def test_a_damaged_key_is_named_and_left_alone(
    ring: KeyRing, folder: Path, content: bytes, match: str
) -> None:
    signer_of(ring)
    for end in ("key", "next"):
        path = key_file(folder, end)
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(KeyUnusable, match=match) as wrong:
            ring.signer(STORE) if end == "key" else ring.rotate(STORE).prepare()
        assert wrong.value.reason == "damaged"
        assert str(path) in str(wrong.value)
        assert path.read_bytes() == content


def test_a_damaged_pin_is_named(ring: KeyRing, folder: Path) -> None:
    signer_of(ring)
    small_order = ed25519_like(bytes(32))
    for content in ("", "a+b+c\n", str(signer_of(ring, OTHER).key), small_order):
        key_file(folder, "pin").write_text(content, "ascii")
        with pytest.raises(KeyUnusable) as wrong:
            ring.pin(STORE)
        assert wrong.value.reason in {"damaged", "foreign"}
    key_file(folder, "pin").unlink()


def ed25519_like(public: bytes) -> str:
    from ccn_mcp.domain.checkpoint import ed25519_key

    return str(ed25519_key(origin_of(STORE), public))


def test_the_key_of_another_store_is_not_used(ring: KeyRing, folder: Path) -> None:
    signer_of(ring, OTHER)
    signer_of(ring)
    shutil.copy(folder / "keys" / f"{OTHER.hex()}.key", key_file(folder))
    with pytest.raises(KeyUnusable, match="not of") as wrong:
        ring.signer(STORE)
    assert wrong.value.reason == "foreign"
    with pytest.raises(KeyUnusable, match="not of"):
        KeyRing(lambda: folder.parent / "new").remember(STORE, signer_of(ring, OTHER).key)


@POSIX
@pytest.mark.parametrize(("end", "mode"), [("key", 0o640), ("key", 0o604), ("pin", 0o620), ("pin", 0o602)])
def test_a_file_that_others_can_use_is_refused(ring: KeyRing, folder: Path, end: str, mode: int) -> None:
    signer_of(ring)
    key_file(folder, end).chmod(mode)
    with pytest.raises(KeyUnusable, match=f"mode {mode:o}.*chmod 600") as wrong:
        ring.signer(STORE)
    assert wrong.value.reason == "exposed"


def test_what_cannot_be_read_or_made_is_said(ring: KeyRing, folder: Path) -> None:
    signer_of(ring)
    key_file(folder).unlink()
    key_file(folder).mkdir()
    with pytest.raises(KeyUnusable, match="cannot be read") as wrong:
        ring.signer(STORE)
    assert wrong.value.reason == "unreadable"
    (folder / "file").write_bytes(b"")
    with pytest.raises(KeyUnusable, match="CCN_CONFIG_DIR"):
        KeyRing(lambda: folder / "file" / "config").signer(STORE)


# ---- rotation ------------------------------------------------------------------------------------------------


def test_a_rotation_replaces_the_key_and_the_pin_stays(ring: KeyRing, folder: Path) -> None:
    old = signer_of(ring)
    rotation = ring.rotate(STORE)
    new = rotation.prepare()
    assert new != old.key
    assert rotation.prepare() == new, "begun twice, it is still one rotation"
    assert signer_of(ring) == old, "until it is announced, the old key signs"
    assert rotation.unfinished
    body = rotation_body(STORE, 5, new, old.sign_bytes)
    assert rotation.commit(new).key == new == signer_of(ring).key
    assert not ring.rotate(STORE).unfinished
    assert files(folder) == {".key", ".pin"}
    assert ring.pin(STORE) == old.key
    chain = key_chain(STORE, old.key, [(5, body)], ed25519.verify)
    late = encode(Checkpoint(origin_of(STORE), 6, bytes(32)))
    assert chain.open(signer_of(ring).sign(late), ed25519.verify).size == 6
    with pytest.raises(RetiredKey):
        chain.open(old.sign(late), ed25519.verify)


def test_the_old_key_is_overwritten(ring: KeyRing, folder: Path) -> None:
    signer_of(ring)
    with key_file(folder).open("rb") as kept:
        rotation = ring.rotate(STORE)
        rotation.commit(rotation.prepare())
        assert set(kept.read()) == {0}


@pytest.mark.parametrize("step", ["link", "replace", "sync_folder", "_destroy"])
@pytest.mark.parametrize("after", [False, True])
def test_a_rotation_that_ends_anywhere_goes_on_where_it_stopped(
    ring: KeyRing, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    old = signer_of(ring)
    rotation = ring.rotate(STORE)
    new = rotation.prepare()
    owner = os if step in {"link", "replace"} else keys
    real = getattr(owner, step)

    def stop(*args: object, **named: object) -> None:
        if after:
            real(*args, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, stop)
        with pytest.raises(KeyboardInterrupt):
            rotation.commit(new)
    assert signer_of(ring).key in {old.key, new}, "no key was lost"
    # Whatever the log turns out to hold: the entry is there, so its key is due.
    assert ring.rotate(STORE).commit(new).key == new == signer_of(ring).key
    assert files(folder) == {".key", ".pin"}
    assert signer_of(ring).sign(TEXT)


def test_a_name_of_the_key_in_use_is_not_overwritten(ring: KeyRing, folder: Path) -> None:
    old = signer_of(ring)
    rotation = ring.rotate(STORE)
    rotation.prepare()
    os.link(key_file(folder), key_file(folder, "old"))  # ended right after the link, and the log has no entry
    assert rotation.commit(old.key) == old == signer_of(ring)
    assert files(folder) == {".key", ".next", ".pin"}


def test_a_key_that_is_not_here_cannot_be_committed(ring: KeyRing, folder: Path) -> None:
    mine = signer_of(ring)
    theirs = signer_of(KeyRing(lambda: folder.parent / "theirs"))
    for prepared in (False, True):
        if prepared:
            ring.rotate(STORE).prepare()
        with pytest.raises(KeyUnusable, match="private part is not in") as wrong:
            ring.rotate(STORE).commit(theirs.key)
        assert wrong.value.reason == "missing"
        assert signer_of(ring) == mine


def test_cryptography_is_imported_by_the_first_signature_only() -> None:
    program = (
        "import sys, ccn_mcp.store.keys, ccn_mcp.domain.rotation, ccn_mcp.domain.proof;"
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=WAIT_S, check=False).returncode == 0
