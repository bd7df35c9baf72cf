"""The command line's entry; commands are added by their own modules."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit status."""
    print(f"ccn-mcp: unknown command {arguments[:1]}", file=sys.stderr)
    return 2
