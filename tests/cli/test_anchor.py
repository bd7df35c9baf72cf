"""`ccn-mcp anchor` against an authority made with `openssl ts`: what counts, and everything that must not."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp import settings
from ccn_mcp.cli import doctor_keys, tsa
from ccn_mcp.domain.anchors import anchor_body
from ccn_mcp.domain.errors import BadTimestamp
from ccn_mcp.domain.ledger import Head, Kind
from ccn_mcp.domain.models import Draft, Group, Record, RecordQuery
from ccn_mcp.node.node import Node
from ccn_mcp.store import timestamps
from ccn_mcp.store.keeper import FileKeeper
from tests.cli.authority import WAIT_S_MAX, Authority, serving
from tests.cli.conftest import Run, Seeded, on_store

pytestmark = [
    pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its authority with openssl"),
    pytest.mark.skipif(sys.platform == "win32", reason="openssl of POSIX systems"),
]

HANG_S: float = 0.5


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "tsa")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "config"
    monkeypatch.setenv("CCN_CONFIG_DIR", str(folder))
    return folder


@pytest.fixture
def signed(config: Path, store: Seeded) -> Seeded:
    """A store whose heads are signed; the config folder has to be known first."""
    return store


def verified(cli: Run, db: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli("verify", "--db", str(db), "--json").out)
    return found


def anchors(db: Path) -> int:
    query = RecordQuery(kinds=(Kind.ANCHOR,), limit=100)

    async def ask(node: Node) -> int:
        return len(await node.ctx.store.records(query))

    return int(on_store(db, ask))


def test_a_witnessed_head_is_level_4(cli: Run, signed: Seeded, authority: Authority, config: Path) -> None:
    before = verified(cli, signed.db)
    assert before["level"] == 2
    with serving(lambda query: (200, authority.reply(query))) as url:
        ran = cli("anchor", "--tsa", url, "--tsa-ca", str(authority.ca), "--db", str(signed.db), "--json")
        assert ran.status == 0, ran.err
        done = json.loads(ran.out)
        assert (done["verified"], done["size"], done["authority"]) == (True, before["signed_to"], url)
        found = verified(cli, signed.db)
        assert (found["level"], found["witnessed_to"], found["fault"]) == (4, done["size"], None)
        assert found["signed_to"] == done["seq"] + 1
        # Trusted from then on: no file has to be named again.
        again = json.loads(cli("anchor", "--tsa", url, "--db", str(signed.db), "--json").out)
    assert again["verified"]
    assert verified(cli, signed.db)["witnessed_to"] == again["size"] > done["size"]
    (kept,) = (config / "anchors").iterdir()
    assert kept.read_bytes() == authority.ca.read_bytes()
    assert kept.stat().st_mode & 0o777 == 0o600
    shown = cli("status", "--db", str(signed.db)).out
    assert f"Witnessed to   {again['size']} by {url}" in shown
    findings = {item.check: item for item in doctor_keys.signing(settings.load(signed.db))}
    assert findings["witnesses"].status == "ok"
    assert url in findings["witnesses"].found


def test_openssl_agrees_with_what_was_recorded(
    cli: Run, signed: Seeded, authority: Authority, tmp_path: Path
) -> None:
    with serving(lambda query: (200, authority.reply(query))) as url:
        ran = cli("anchor", "--tsa", url, "--tsa-ca", str(authority.ca), "--db", str(signed.db))
    assert ran.status == 0

    async def ask(node: Node) -> Record:
        (record,) = await node.ctx.store.records(RecordQuery(kinds=(Kind.ANCHOR,)))
        return record

    record: Record = on_store(signed.db, ask)
    (tmp_path / "n.tsr").write_bytes(record.blob)
    (tmp_path / "n.note").write_text(str((record.body or {})["note"]))
    words = ["openssl", "ts", "-verify", "-in", "n.tsr", "-data", "n.note", "-CAfile", str(authority.ca)]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S_MAX, check=False
    )
    assert (done.returncode, "Verification: OK" in done.stdout) == (0, True), done.stderr


def test_a_stamp_of_a_head_that_the_logs_own_key_did_not_sign_is_no_witness(
    cli: Run, signed: Seeded, authority: Authority, config: Path
) -> None:
    """An authority stamps whatever it is sent: a record that was forged whole can have one too."""
    (config / "anchors").mkdir()
    shutil.copy(authority.ca, config / "anchors" / "trusted.pem")
    with closing(sqlite3.connect(signed.db)) as connection:
        (kept,) = connection.execute("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
        (store_id,) = connection.execute("SELECT store_id FROM log").fetchone()
    note = kept.decode()
    at = len(note) - 20
    forged = (note[:at] + ("B" if note[at] == "A" else "A") + note[at + 1 :]).encode()

    def stamped(note: bytes) -> Draft:
        body = anchor_body(note, "https://tsa.example", 1, "cli", verified=True)
        return Draft(Kind.ANCHOR, 1_000_000, body, authority.reply(timestamps.request(note)[0]))

    async def add(node: Node, draft: Draft) -> None:
        await node.ctx.store.append(Group((draft,)))

    on_store(signed.db, lambda node: add(node, stamped(forged)))
    found = verified(cli, signed.db)
    assert (found["ok"], found["level"], found["witnessed_to"]) == (True, 2, 0)
    assert "trusts for this log" in " ".join(found["remarks"])
    on_store(signed.db, lambda node: add(node, stamped(kept)))
    assert verified(cli, signed.db)["level"] == 4, "the one with the right signature counts"
    (config / "keys" / f"{store_id.hex()}.pin").unlink()
    (config / "keys" / f"{store_id.hex()}.key").unlink()
    found = verified(cli, signed.db)
    assert (found["level"], found["witnessed_to"]) == (1, 0), "an account that trusts no key has no witness"


def test_without_a_trusted_ca_it_is_recorded_and_does_not_count(
    cli: Run, signed: Seeded, authority: Authority, config: Path
) -> None:
    with serving(lambda query: (200, authority.reply(query))) as url:
        ran = cli("anchor", "--tsa", url, "--db", str(signed.db))
        assert ran.status == 0, ran.err
        assert "nobody has checked" in " ".join(ran.out.split())
        found = verified(cli, signed.db)
        assert (found["level"], found["witnessed_to"]) == (2, 0)
        assert "trusts no time stamp authority" in found["remarks"][0]
        # What was recorded counts as soon as its CA is trusted.
        assert cli("anchor", "--tsa", url, "--tsa-ca", str(authority.ca), "--db", str(signed.db)).status == 0
    assert verified(cli, signed.db)["level"] == 4
    shutil.rmtree(config / "anchors")
    assert verified(cli, signed.db)["level"] == 2


def test_an_answer_that_shows_something_else_is_not_recorded(
    cli: Run, signed: Seeded, authority: Authority, config: Path
) -> None:
    another = authority.query(b"something else")
    answers = {
        "wrong imprint": lambda _: authority.reply(another),
        "not our nonce": lambda query: authority.reply(_with_another_nonce(query)),
        "signed by a stranger": lambda query: authority.reply(query, "stranger"),
        "expired": lambda query: authority.reply(query, "expired"),
        "refused": lambda query: authority.reply(query, digests="sha512"),
        "nothing": lambda _: b"",
        "a page": lambda _: b"<html>please log in</html>",
        "torn": lambda query: authority.reply(query)[:-40],
        "flipped": lambda query: _flipped(authority.reply(query)),
    }
    words = {
        "wrong imprint": "something else than this head",
        "not our nonce": "another question",
        "refused": "refused (status 2",
        "signed by a stranger": "by an authority that you trust",
        "expired": "by an authority that you trust",
    }
    for name, answer in answers.items():
        with serving(lambda query, answer=answer: (200, answer(query))) as url:  # type: ignore[misc]  # bound now
            ran = cli("anchor", "--tsa", url, "--tsa-ca", str(authority.ca), "--db", str(signed.db))
        assert ran.status == 6, (name, ran)
        assert words.get(name, "") in ran.err, name
    assert anchors(signed.db) == 0
    assert not (config / "anchors").exists(), "a CA whose stamp did not fit is not trusted"


def _with_another_nonce(query: bytes) -> bytes:
    """The same question with one byte of its nonce changed."""
    at = query.rindex(b"\x02\x08") if b"\x02\x08" in query else query.rindex(b"\x02", 0, -4)
    changed = bytearray(query)
    changed[at + 4] ^= 1
    return bytes(changed)


def _flipped(answer: bytes) -> bytes:
    return answer[:-3] + bytes([answer[-3] ^ 1]) + answer[-2:]


def test_a_certificate_that_is_not_for_time_stamping_is_refused(authority: Authority) -> None:
    """openssl does not sign with one, so it is put into a good answer in the place of its twin."""
    note = b"note"
    query, nonce = timestamps.request(note)
    answer = authority.reply(query)
    known = timestamps.read_authorities([authority.ca])
    assert timestamps.verify(answer, note, known, nonce)
    good, bad = authority.der("tsa"), authority.der("server")
    assert len(good) == len(bad)
    assert answer.count(good) == 1
    with pytest.raises(BadTimestamp, match="by an authority that you trust"):
        timestamps.verify(answer.replace(good, bad), note, known, nonce)


def test_what_the_net_does_is_told_and_nothing_recorded(
    cli: Run, signed: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tsa, "ASK_S_MAX", HANG_S)
    gone = threading.Event()

    def hang(_: bytes) -> tuple[int, bytes]:
        gone.wait()
        return 200, b""

    said = {
        "HTTP 500": lambda _: (500, b"no"),
        "HTTP 302": lambda _: (302, b""),
        "has more than": lambda _: (200, bytes(10_000_000)),
        "did not answer within": hang,
    }
    for words, answer in said.items():
        with serving(answer) as url:
            ran = cli("anchor", "--tsa", url, "--db", str(signed.db))
            gone.set() if answer is hang else None
        assert (ran.status, words in ran.err) == (1, True), (words, ran)
    ran = cli("anchor", "--tsa", "http://127.0.0.1:9/tsr", "--db", str(signed.db))
    assert ran.status == 1
    assert anchors(signed.db) == 0


def test_only_addresses_that_nobody_can_answer_for(cli: Run, signed: Seeded) -> None:
    for url in (
        "http://example.org/tsr",
        "ftp://127.0.0.1/",
        "https://me:secret@example.org/",
        "nonsense",
        "http://[::1",
    ):
        ran = cli("anchor", "--tsa", url, "--db", str(signed.db))
        assert ran.status == 2, url
        assert "secret" not in ran.err
    assert tsa.checked_url("https://example.org:8443/tsr?token=1") == "https://example.org:8443/tsr"
    assert tsa.checked_url("http://[::1]:80/x") == "http://[::1]:80/x"


def test_it_is_the_persons_and_needs_a_signed_store(
    cli: Run, db: Path, config: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("anchor", "--tsa", "https://example.org/", "--db", str(db)).status == 3
    monkeypatch.setenv("CLAUDECODE", "1")
    ran = cli("anchor", "--tsa", "https://example.org/", "--db", str(db))
    assert (ran.status, "Claude Code" in ran.err) == (4, True)


def test_without_the_extra_it_says_what_to_install(
    cli: Run, signed: Seeded, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda query: (200, authority.reply(query))) as url:
        assert cli("anchor", "--tsa", url, "--tsa-ca", str(authority.ca), "--db", str(signed.db)).status == 0
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    found = verified(cli, signed.db)
    assert (found["level"], found["ok"]) == (2, True)
    assert "ccn-mcp[anchors]" in found["remarks"][0]
    ran = cli("anchor", "--tsa", "https://example.org/", "--db", str(signed.db))
    assert (ran.status, "ccn-mcp[anchors]" in ran.err) == (1, True)


def test_a_stamp_of_another_history_is_a_fault(
    cli: Run, signed: Seeded, authority: Authority, config: Path
) -> None:
    """The log is rewritten and its newer entries kept: the stamp of the old head gives it away."""
    with closing(sqlite3.connect(signed.db)) as connection:
        ((store_id, size),) = connection.execute("SELECT store_id, size FROM log").fetchall()
    forged = FileKeeper(lambda: config, signed.db).sign(store_id, Head(size, bytes(32)))
    assert forged is not None
    query, _ = timestamps.request(forged)
    answer = authority.reply(query)
    with serving(lambda query: (200, authority.reply(query))) as url:
        assert cli("anchor", "--tsa", url, "--tsa-ca", str(authority.ca), "--db", str(signed.db)).status == 0

    async def record(node: Node) -> None:
        body = anchor_body(forged, "https://example.org/", 0, "cli", verified=True)
        await node.ctx.store.append(Group((Draft(Kind.ANCHOR, 0, body, answer),)))

    on_store(signed.db, record)
    found = verified(cli, signed.db)
    assert (found["level"], found["fault"]["code"]) == (0, "anchor")
    assert f"{size}:" in found["fault"]["detail"]


def test_noise_is_no_answer(authority: Authority) -> None:
    """Whatever comes, it is refused in words: cut and flipped at every step of a good answer."""
    note = b"note"
    query, nonce = timestamps.request(note)
    answer = authority.reply(query)
    known = timestamps.read_authorities([authority.ca])
    assert timestamps.verify(answer, note, known, nonce)
    passed = 0
    for at in range(len(answer)):
        changed = bytearray(answer)
        changed[at] ^= 1 << (at % 8)
        try:
            timestamps.verify(bytes(changed), note, known, nonce)
            passed += 1
        except BadTimestamp:
            pass
        with pytest.raises(BadTimestamp):
            timestamps.verify(answer[:at], note, known, nonce)
    # The certificate of the CA comes along for convenience, and is not what is trusted.
    assert passed < len(answer) // 2
