"""Every published case of Ed25519; the keys and points that a plain verifier lets through are refused."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from ccn_mcp.store import ed25519
from tests.shared_vectors import vectors

REFUSED: Final = frozenset({"low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R"})
"""Flags of CCTV that we refuse by the bytes alone. What remains is decided by the equation without cofactor."""

P: Final = 2**255 - 19


def plain(public: bytes, message: bytes, signature: bytes) -> bool:
    """What `cryptography` says by itself."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_every_case_of_wycheproof() -> None:
    told: dict[str, Any] = json.loads(vectors("wycheproof_ed25519.json").read_text("utf-8"))
    results = {"valid": 0, "invalid": 0}
    for group in told["testGroups"]:
        public = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            good = ed25519.verify(public, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            assert good == (case["result"] == "valid"), case
            results[case["result"]] += 1
    assert results == {"valid": 88, "invalid": 63}


def test_every_case_of_cctv() -> None:
    cases: list[dict[str, Any]] = json.loads(vectors("cctv_ed25519.json").read_text("utf-8"))
    accepted = let_through = 0
    for case in cases:
        flags = frozenset(case["flags"] or ())
        public, signature = bytes.fromhex(case["key"]), bytes.fromhex(case["sig"])
        good = ed25519.verify(public, case["msg"].encode(), signature)
        # With nothing left to refuse by its bytes, a signature holds exactly where no cofactor is needed.
        assert good == (not flags & REFUSED and "low_order_residue" not in flags), case
        assert ed25519.proper_point(public) == (not flags & {"low_order_A", "non_canonical_A"}), case
        accepted += good
        let_through += not good and plain(public, case["msg"].encode(), signature)
    assert (len(cases), accepted) == (914, 43)
    assert let_through > 0, "the plain verifier refuses as much, so this test shows nothing"


def test_the_points_of_small_order_are_refused_in_each_of_their_encodings() -> None:
    d = -121665 * pow(121666, P - 2, P) % P
    small = {0, 1, P - 1}
    order_8 = next(y for y in ed25519._LOW_ORDER_Y if y not in small)
    for y in (order_8, P - order_8):  # its double has y = 0, so four times it is the point of order 2
        x2 = (y * y - 1) * pow(d * y * y + 1, P - 2, P) % P
        assert (y * y + x2) % P == 0
    assert {*small, order_8, P - order_8} == ed25519._LOW_ORDER_Y
    refused = 0
    for y in ed25519._LOW_ORDER_Y:
        for shown in (y, y + P):
            for sign in (0, 1 << 255):
                if shown < 1 << 255:
                    refused += 1
                    assert not ed25519.proper_point((shown | sign).to_bytes(32, "little"))
    assert refused == 14


@pytest.mark.parametrize("y", range(P, 2**255))
def test_a_y_above_p_is_no_proper_encoding(y: int) -> None:
    for sign in (0, 1 << 255):
        assert not ed25519.proper_point((y | sign).to_bytes(32, "little"))


def test_lengths_are_exact_and_the_rest_is_for_the_equation() -> None:
    private = ed25519.private_key(bytes(range(32)))
    public, signature = ed25519.public_of(private), private.sign(b"text")
    assert ed25519.verify(public, b"text", signature)
    assert not ed25519.verify(public, b"texts", signature)
    for bad_key, bad in ((public[:31], signature), (public + b"\0", signature), (b"", b"")):
        assert not ed25519.verify(bad_key, b"text", bad)
    for bad in (signature[:63], signature + b"\0", signature[:32] + bytes(32), bytes(32) + signature[32:]):
        assert not ed25519.verify(public, b"text", bad)
    assert not ed25519.verify((2).to_bytes(32, "little"), b"text", signature), "no point of the curve"
