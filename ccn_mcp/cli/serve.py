"""`ccn-mcp serve`: argparse only, so that nothing is imported that serving does not need."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Sequence

from ccn_mcp import settings
from ccn_mcp.domain.errors import BadInput, CcnError
from ccn_mcp.domain.limits import HTTP_HOST_DEFAULT, HTTP_PORT_DEFAULT

SUMMARY = "Serve MCP on stdin and stdout. Clients start this; you only configure it. Or over HTTP: --http."
EXAMPLE = "Examples: claude mcp add --scope user ccn -- ccn-mcp serve; ccn-mcp serve --http 8765"
INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser("ccn-mcp serve", description=SUMMARY, epilog=EXAMPLE)
    made.add_argument("--db", metavar="PATH", help="store file (default: CCN_DB, else the user data folder)")
    made.add_argument(
        "--http",
        nargs="?",
        const=str(HTTP_PORT_DEFAULT),
        metavar="[HOST:]PORT",
        help="serve over HTTP instead, to clients that have the token (default: "
        f"{HTTP_HOST_DEFAULT}:{HTTP_PORT_DEFAULT}; port 0 takes any that is free)",
    )
    made.add_argument("--no-auth", action="store_true", help="with --http: no token; on loopback only")
    made.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="with --http: a further Host header to let in, such as a proxy's; may be repeated",
    )
    return made


def serve(arguments: Sequence[str]) -> int:
    """Parse and serve; never prints to stdout, which belongs to MCP."""
    # Start-up makes a hundred thousand objects that live for good; looking through them for garbage costs a
    # fifth of it. `serve_stdio` and `serve_http` turn collecting on again.
    gc.disable()
    options = parser().parse_args(arguments)
    # Clients show stderr lines as errors; a crash's details would be there for nobody to read.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        chosen = settings.load(options.db)
        if options.http is not None:
            status = _over_http(chosen, options)
        elif options.no_auth or options.allow_host:
            raise BadInput("--no-auth and --allow-host go with --http; on stdin and stdout there is no token")
        else:
            from ccn_mcp.server.app import serve_stdio  # the SDK; not needed for --help or a wrong setting

            status = serve_stdio(chosen)
    except CcnError as error:
        print(f"ccn-mcp serve: {error}", file=sys.stderr)
        return error.exit_status
    sys.stderr.flush()
    # The SDK's thread may still be blocked reading stdin; waiting for it would wait for the client.
    os._exit(status)


def _over_http(chosen: settings.Settings, options: argparse.Namespace) -> int:
    from ccn_mcp.server.http import parse_address, serve_http  # uvicorn; not needed on stdin and stdout

    host, port = parse_address(options.http)
    try:
        return serve_http(chosen, host, port, auth=not options.no_auth, names=options.allow_host)
    except KeyboardInterrupt:
        return INTERRUPTED  # before it served
