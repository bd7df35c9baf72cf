"""`ccn-mcp` and `python -m ccn_mcp`. `serve` starts without the command line's libraries."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status (docs/reference.md lists them)."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        from ccn_mcp.cli.serve import serve

        sys.exit(serve(arguments[1:]))
    from ccn_mcp.cli.main import run

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
