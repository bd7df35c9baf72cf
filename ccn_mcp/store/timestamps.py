"""Time stamps of outside authorities (RFC 3161), by the extra `anchors`; imports it when first used.

    anchors/<name>.pem    certificates that this account trusts to vouch for time stamps: the person's choice

A stamp counts where its imprint is SHA-256 of what was stamped, its signer's certificate is for time stamping and
nothing else decides, and leads to one of those. Certificates have to be valid at the time of the stamp, not now.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ccn_mcp.domain.anchors import Stamp
from ccn_mcp.domain.errors import BadInput, BadTimestamp, CcnError, ExtraMissing
from ccn_mcp.store.folders import make_folders, sync_folder

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampResponse

FOLDER: Final = "anchors"
TOKEN_BYTES_MAX: Final = 131_072
"""One answer of an authority; common ones have 2 to 8 kB."""

CA_BYTES_MAX: Final = 1_048_576
CA_FILES_MAX: Final = 100
CERTIFICATES_MAX: Final = 100
"""In one file, or inside one time stamp."""

EXTRA: Final = "pip install 'ccn-mcp[anchors]'"
_SHA256: Final = "2.16.840.1.101.3.4.2.1"
_GRANTED: Final = 0
"""PKIStatus granted (RFC 3161 section 2.4.2)."""


@dataclass(frozen=True, slots=True)
class Authorities:
    """Certificates that are trusted: `roots` vouch for themselves, `others` only help to reach one."""

    roots: Sequence[Certificate]
    others: Sequence[Certificate]


# ---- who is trusted --------------------------------------------------------------------------------------


def read_authorities(paths: Iterable[Path]) -> Authorities:
    """The certificates in PEM files.

    Raises:
        BadInput: a file cannot be read, or holds none. ExtraMissing.
    """
    _need()
    found: dict[bytes, Certificate] = {}
    for path in paths:
        for certificate in _certificates(path):
            found[certificate.tbs_certificate_bytes + certificate.signature] = certificate
    roots = [one for one in found.values() if one.issuer == one.subject]
    return Authorities(roots, [one for one in found.values() if one.issuer != one.subject])


def trusted(config: Path) -> Authorities:
    """Those that this account trusts; none where it never chose any.

    Raises:
        BadInput: a file of them cannot be used. ExtraMissing.
    """
    return read_authorities(sorted((config / FOLDER).glob("*.pem"))[:CA_FILES_MAX])


def trust(config: Path, source: Path) -> Path:
    """Copy a file of certificates to those that this account trusts; where it lies now.

    Raises:
        BadInput: it cannot be read. OSError: it cannot be copied.
    """
    data = _read(source)
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", source.stem)[:60] or "ca"
    path = config / FOLDER / f"{stem}-{sha256(data).hexdigest()[:8]}.pem"
    if not path.exists():
        make_folders(path.parent)
        draft = path.with_suffix(".part")
        draft.write_bytes(data)
        draft.chmod(0o600)
        draft.replace(path)
        sync_folder(path.parent)
    return path


def _certificates(path: Path) -> Sequence[Certificate]:
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(_read(path))
    except ValueError as wrong:
        raise BadInput(
            f"{path} holds no certificate in PEM ({wrong}); ask the authority for its CA file"
        ) from wrong
    if len(found) > CERTIFICATES_MAX:
        raise BadInput(f"{path} holds {len(found):,} certificates; at most {CERTIFICATES_MAX}")
    return found


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(CA_BYTES_MAX + 1)
    except OSError as wrong:
        raise BadInput(f"cannot read {path}: {wrong.strerror}; check the name") from wrong
    if len(data) > CA_BYTES_MAX:
        raise BadInput(f"{path} has more than {CA_BYTES_MAX:,} bytes; a CA file is some certificates")
    return data


def _need() -> None:
    try:
        import rfc3161_client  # noqa: F401  # only whether it is there
    except ImportError as missing:
        raise ExtraMissing(f"time stamps need the extra `anchors`: {EXTRA}") from missing


# ---- one stamp -------------------------------------------------------------------------------------------


def request(note: bytes) -> tuple[bytes, int]:
    """A question for a time stamp of SHA-256(note), in DER, and the nonce in it.

    Raises:
        ExtraMissing.
    """
    _need()
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    asked = TimestampRequestBuilder().data(note).hash_algorithm(HashAlgorithm.SHA256).build()
    if asked.nonce is None:
        raise ExtraMissing("the installed rfc3161-client makes no nonce; install a newer one")
    return asked.as_bytes(), asked.nonce


def read(answer: bytes, note: bytes, nonce: int | None = None) -> int:
    """The time, in microseconds UTC, that the answer gives for the note. Who signed it is not looked at.

    Raises:
        BadTimestamp: it is no answer, a refusal, one of something else, or one to another question. ExtraMissing.
    """
    return _time(_parsed(answer, note, nonce))


def verify(answer: bytes, note: bytes, known: Authorities, nonce: int | None = None) -> int:
    """As `read`, signed by an authority that leads to one of the known ones.

    Raises:
        BadTimestamp: as `read`, or it is not. ExtraMissing.
    """
    parsed = _parsed(answer, note, nonce)
    from rfc3161_client.verify import VerifierBuilder

    if not known.roots:
        raise BadTimestamp(
            "none of the trusted certificates is a root that vouches for itself; add the CA's root"
        )
    verifier = VerifierBuilder(roots=list(known.roots), intermediates=list(known.others), nonce=nonce).build()
    try:
        _check_signer(parsed)
        verifier.verify(parsed, sha256(note).digest())
    except Exception as wrong:  # hostile bytes make the library raise whatever it likes
        raise BadTimestamp(
            f"the time stamp is not signed by an authority that you trust, for time stamping, at that time ({wrong})"
        ) from wrong
    return _time(parsed)


def checked(config: Path, note: bytes, token: bytes) -> Stamp:
    """What a recorded time stamp is worth to this account."""
    try:
        known = trusted(config)
        if not known.roots:
            return Stamp(
                why="this account trusts no time stamp authority; `ccn-mcp anchor --tsa-ca FILE` does"
            )
        return Stamp(verify(token, note, known))
    except CcnError as wrong:
        return Stamp(why=str(wrong))


def _parsed(answer: bytes, note: bytes, nonce: int | None) -> TimeStampResponse:
    _need()
    from rfc3161_client import decode_timestamp_response

    if len(answer) > TOKEN_BYTES_MAX:
        raise BadTimestamp(f"the answer has more than {TOKEN_BYTES_MAX:,} bytes")
    try:
        parsed = decode_timestamp_response(answer)
        _check(parsed, note, nonce)
        _time(parsed)
    except BadTimestamp:
        raise
    except Exception as wrong:  # as above
        raise BadTimestamp(
            f"the answer is no time stamp ({wrong}); is this the address of an RFC 3161 authority?"
        ) from wrong
    return parsed


def _check(parsed: TimeStampResponse, note: bytes, nonce: int | None) -> None:
    if parsed.status != _GRANTED:
        said = "; ".join(parsed.status_string or [])[:200]
        raise BadTimestamp(f"the authority refused (status {parsed.status}{f': {said}' if said else ''})")
    info = parsed.tst_info
    imprint = info.message_imprint
    if imprint.hash_algorithm.dotted_string != _SHA256 or imprint.message != sha256(note).digest():
        raise BadTimestamp("the time stamp is of something else than this head")
    if nonce is not None and info.nonce != nonce:
        raise BadTimestamp(
            "the time stamp answers another question (its nonce is not ours): an old one, replayed"
        )


def _check_signer(parsed: TimeStampResponse) -> None:
    """One signer with one certificate: of two under the same name, one could be signed with and another looked at."""
    from cryptography import x509

    signed = parsed.signed_data
    signers = list(signed.signer_infos)
    if len(signers) != 1 or len(signed.certificates) > CERTIFICATES_MAX:
        raise ValueError("more than one signer, or too many certificates")
    fitting = [
        certificate
        for certificate in map(x509.load_der_x509_certificate, signed.certificates)
        if (certificate.issuer, certificate.serial_number) == (signers[0].issuer, signers[0].serial_number)
    ]
    if len(fitting) != 1:
        raise ValueError(f"{len(fitting)} certificates fit its signer")


def _time(parsed: TimeStampResponse) -> int:
    return int(parsed.tst_info.gen_time.timestamp() * 1_000_000)
