"""Ed25519 (RFC 8032) with the doors shut that plain verifiers leave open. Imports cryptography when first used.

A verifier that takes whatever decodes accepts keys of order 1 to 8: with one of those, one signature fits every
message. They have eight proper encodings and six others, which differ in the bytes. So before anything is
computed, the key and the signature's point R must each be the one proper encoding of its point (y below p, no
sign on x = 0) and not one of those eight points. S is checked to be below the group order, and the equation is
the one without cofactor, by `cryptography`. A key that an honest generator made is never refused; of the keys
that pass, some have a part of small order, which needs the owner's intent and lets only the owner quarrel
with other verifiers about their own signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_P: Final = 2**255 - 19
_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_LOW_ORDER_Y: Final = frozenset({0, 1, _P - 1, _ORDER_8, _P - _ORDER_8})
"""The y of every point of order 1, 2, 4 and 8; the sign of x makes eight points of them."""


def proper_point(encoded: bytes) -> bool:
    """Whether these bytes may be a key or an R: 32, canonical, and not of small order.

    That they are on the curve is for the verifier to see.
    """
    if len(encoded) != KEY_BYTES:
        return False
    y = int.from_bytes(encoded, "little") & (1 << 255) - 1
    # x = 0 only at y = 1 and y = -1, so the wrongly signed zeros are among those of small order.
    return y < _P and y not in _LOW_ORDER_Y


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is that of the message under the key, by the strict rules above."""
    if len(signature) != SIGNATURE_BYTES or not proper_point(public) or not proper_point(signature[:32]):
        return False
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def new_seed() -> bytes:
    """The 32 secret bytes of a new key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes_raw()


def private_key(seed: bytes) -> Ed25519PrivateKey:
    """The key of 32 secret bytes; it shows nothing of them."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed)


def public_of(key: Ed25519PrivateKey) -> bytes:
    """Its 32 public bytes."""
    return key.public_key().public_bytes_raw()
