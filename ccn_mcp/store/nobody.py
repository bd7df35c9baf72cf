"""The keeper of stores that have no config folder. Apart, because the hook imports nothing that it can spare."""

from __future__ import annotations

from ccn_mcp.domain.errors import KeyUnusable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from ccn_mcp.domain.anchors import Stamp
    from ccn_mcp.domain.entries import Body
    from ccn_mcp.domain.ledger import Head
    from ccn_mcp.domain.models import Claim
    from ccn_mcp.ports import Keeper


class _Nobody:
    """Keeps nothing and signs nothing: for stores that are opened without a config folder."""

    def key(self, _store_id: bytes, /, *, create: bool) -> None:  # noqa: ARG002  # the port's name
        return None

    def pinned(self, _store_id: bytes, /) -> None:
        return None

    def sign(self, _store_id: bytes, _head: Head, /) -> None:
        return None

    def remember(self, _store_id: bytes, _head: Head, _note: bytes, /) -> None:
        return None

    def next_key(self, store_id: bytes, _seq: int, /, *, lost: bool) -> Body:  # noqa: ARG002  # the port's name
        raise KeyUnusable("missing", f"nobody here has a key for the store {store_id.hex()}")

    def settle(self, _store_id: bytes, _announced: str, /, *, lost: bool = False) -> None:  # noqa: ARG002  # the same
        return None

    def stamp(self, _note: bytes, _token: bytes, /) -> Stamp:
        from ccn_mcp.domain.anchors import Stamp

        return Stamp(why="nobody here trusts an authority")

    def heads(self, _store_id: bytes, /) -> Sequence[Claim]:
        return ()

    def heads_elsewhere(self, _store_id: bytes, /) -> Sequence[Claim]:
        return ()


NOBODY: Final[Keeper] = _Nobody()
