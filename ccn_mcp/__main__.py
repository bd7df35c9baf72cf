"""`ccn-mcp` and `python -m ccn_mcp`. `serve` and `hook` start without the command line's libraries."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn

INTERRUPTED: Final = 130


def main() -> None:
    """Run the command line and exit with its status (docs/reference.md lists them)."""
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["serve"]:
            from ccn_mcp.cli.serve import serve

            sys.exit(serve(arguments[1:]))
        if arguments[:1] == ["hook"]:
            _end_now(_hook(arguments[1:]))
        from ccn_mcp.cli.main import run

        sys.exit(run(arguments))
    except KeyboardInterrupt:  # while it was starting or ending
        sys.stderr.write("ccn-mcp: stopped\n")
        sys.exit(INTERRUPTED)


def _hook(arguments: list[str]) -> int:
    gc.disable()  # it ends before there is anything to collect
    from ccn_mcp.interop.hook import main as hook

    return hook(arguments)


def _end_now(status: int) -> NoReturn:
    """End without the interpreter's own cleaning up, which takes a tenth of a hook's time.

    Nothing is left to it: the store is closed, there are no threads, and what was printed is flushed here.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
