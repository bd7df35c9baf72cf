"""Consciousness Continuity Node: one Plate, one tamper-evident record, one measure of character.

The package root stays import-light: `ccn-mcp hook` and `ccn-mcp serve` pay for every import made here.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["CcnError", "Node", "__version__", "open_node"]

TYPE_CHECKING = False  # for checkers: `typing` costs a hook more than its message does
if TYPE_CHECKING:
    from typing import Any

    from ccn_mcp.app import open_node
    from ccn_mcp.domain.errors import CcnError
    from ccn_mcp.node.node import Node

_HOMES = {
    "open_node": "ccn_mcp.app",
    "CcnError": "ccn_mcp.domain.errors",
    "Node": "ccn_mcp.node.node",
}


def __getattr__(name: str) -> Any:
    if (home := _HOMES.get(name)) is None:
        raise AttributeError(f"module 'ccn_mcp' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
