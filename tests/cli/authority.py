"""A time stamp authority on loopback, made with `openssl ts`: a CA, certificates under it, an HTTP server."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

WAIT_S_MAX: Final = 30
POLL_S: Final = 0.02
CONFIG: Final = """
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
signer_cert = {folder}/{signer}.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = {digests}
accuracy = secs:1
ess_cert_id_alg = sha256
"""
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Authority:
    """Certificates and replies. `signer` is the certificate in use: tsa, expired, stranger.

    `server` is one that openssl does not sign with: it has the name, number, key and length of `tsa`, for web servers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "serial").write_text("01\n")
        self._key = rsa.generate_private_key(65_537, 2_048)
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "tsa.key").write_bytes(pem)
        for name in ("ca", "other"):
            issuer = rsa.generate_private_key(65_537, 2_048)
            self._certificate(name, name, issuer, issuer, None)
            if name == "ca":
                self._certificate("tsa", name, self._key, issuer, ExtendedKeyUsageOID.TIME_STAMPING)
                self._certificate("server", name, self._key, issuer, ExtendedKeyUsageOID.SERVER_AUTH)
                past = NOW - timedelta(days=3_000)
                self._certificate("expired", name, self._key, issuer, ExtendedKeyUsageOID.TIME_STAMPING, past)
            else:
                self._certificate("stranger", name, self._key, issuer, ExtendedKeyUsageOID.TIME_STAMPING)

    def _certificate(
        self,
        name: str,
        ca: str,
        key: rsa.RSAPrivateKey,
        issuer: rsa.RSAPrivateKey,
        use: x509.ObjectIdentifier | None,
        since: datetime = NOW,
    ) -> None:
        names = [
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Test {who}")])
            for who in (ca if use is None else "tsa", ca)
        ]
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[0])
            .issuer_name(names[1])
            .public_key(key.public_key())
            .serial_number(1 if use is None else 7)
            .not_valid_before(since)
            .not_valid_after(since + timedelta(days=2_000))
            .add_extension(x509.BasicConstraints(ca=use is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False
            )
            .add_extension(_usage(ca=use is None), critical=True)
        )
        if use is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=True)
        made = builder.sign(issuer, hashes.SHA256()).public_bytes(Encoding.PEM)
        (self.folder / f"{name}.pem").write_bytes(made)

    def der(self, name: str) -> bytes:
        """A certificate's bytes."""
        return x509.load_pem_x509_certificate((self.folder / f"{name}.pem").read_bytes()).public_bytes(
            Encoding.DER
        )

    @property
    def ca(self) -> Path:
        """The file to be trusted."""
        return self.folder / "ca.pem"

    def reply(self, query: bytes, signer: str = "tsa", digests: str = "sha256") -> bytes:
        """The answer to a question."""
        (self.folder / "query.tsq").write_bytes(query)
        text = CONFIG.format(folder=self.folder, signer=signer, digests=digests)
        (self.folder / "tsa.cnf").write_text(text)
        self._ssl("ts -reply -config tsa.cnf -queryfile query.tsq -out answer.tsr")
        return (self.folder / "answer.tsr").read_bytes()

    def query(self, data: bytes) -> bytes:
        """A question of our own, about something else or with another nonce."""
        (self.folder / "data").write_bytes(data)
        self._ssl("ts -query -data data -sha256 -cert -out other.tsq")
        return (self.folder / "other.tsq").read_bytes()

    def _ssl(self, command: str, *more: str) -> None:
        words = ["openssl", *command.split(), *more]
        done = subprocess.run(
            words, cwd=self.folder, capture_output=True, text=True, timeout=WAIT_S_MAX, check=False
        )
        assert done.returncode == 0, (words, done.stderr)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


Answer = Callable[[bytes], tuple[int, bytes]]
"""What the server answers to a question: a status and a body."""


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A loopback HTTP server that answers questions so; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/timestamp-query"
            status, body = answer(asked)
            self.send_response(status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                return  # whoever asked has gone

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/tsr"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
