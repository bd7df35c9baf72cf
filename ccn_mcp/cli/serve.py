"""`ccn-mcp serve`: argparse only, so that nothing is imported that serving does not need."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Sequence

from ccn_mcp import settings
from ccn_mcp.domain.errors import CcnError

SUMMARY = "Serve MCP on stdin and stdout. Clients start this; you only configure it."
EXAMPLE = "example: claude mcp add ccn -- ccn-mcp serve"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser("ccn-mcp serve", description=SUMMARY, epilog=EXAMPLE)
    made.add_argument("--db", metavar="PATH", help="store file (default: CCN_DB, else the user data folder)")
    return made


def serve(arguments: Sequence[str]) -> int:
    """Parse and serve; never prints to stdout, which belongs to MCP."""
    # Start-up makes a hundred thousand objects that live for good; looking through them for garbage costs a
    # fifth of it. `serve_stdio` turns collecting on again.
    gc.disable()
    options = parser().parse_args(arguments)
    try:
        chosen = settings.load(options.db)
    except CcnError as error:
        print(f"ccn-mcp serve: {error}", file=sys.stderr)
        return error.exit_status
    # Clients show stderr lines as errors; a crash's details would be there for nobody to read.
    logging.getLogger().addHandler(logging.NullHandler())
    from ccn_mcp.server.app import serve_stdio  # the SDK; not needed for --help or a wrong setting

    status = serve_stdio(chosen)
    sys.stderr.flush()
    # The SDK's thread may still be blocked reading stdin; waiting for it would wait for the client.
    os._exit(status)
