"""Consciousness Continuity Node: one Plate, one tamper-evident record, one measure of character.

The package root stays import-light: `ccn-mcp hook` and `ccn-mcp serve` pay for every import made here.
"""

__version__ = "0.1.0"
