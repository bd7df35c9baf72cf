"""`ccn-mcp` and `python -m ccn_mcp`. `serve` and `hook` start without the command line's libraries."""

from __future__ import annotations

import gc
import sys
from typing import Final

INTERRUPTED: Final = 130


def main() -> None:
    """Run the command line and exit with its status (docs/reference.md lists them)."""
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["serve"]:
            from ccn_mcp.cli.serve import serve

            sys.exit(serve(arguments[1:]))
        if arguments[:1] == ["hook"]:
            gc.disable()  # it ends before there is anything to collect
            from ccn_mcp.interop.hook import main as hook

            sys.exit(hook(arguments[1:]))
        from ccn_mcp.cli.main import run

        sys.exit(run(arguments))
    except KeyboardInterrupt:  # while it was starting or ending
        sys.stderr.write("ccn-mcp: stopped\n")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
