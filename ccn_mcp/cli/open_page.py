"""`ccn-mcp open`: the panel in a browser, without Claude; it shows and never changes."""

from __future__ import annotations

import sys
import webbrowser
from typing import Annotated, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson, Db

IDLE_MIN_DEFAULT: Final = 30
IDLE_MIN_MAX: Final = 24 * 60
PORT_MAX: Final = 65_535

NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Print the address and open no browser.")]
Port = Annotated[
    int, typer.Option("--port", min=0, max=PORT_MAX, help="Port on 127.0.0.1; 0 takes any free.")
]
Idle = Annotated[
    float,
    typer.Option("--idle", metavar="MINUTES", min=0.01, max=IDLE_MIN_MAX, help="End after so long unused."),
]


def open_page(
    no_browser: NoBrowser = False,
    port: Port = 0,
    idle: Idle = IDLE_MIN_DEFAULT,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Look at the record in your browser: who is connected, drift over time, search, every conversation.

    On this machine only, with an address that works once, and for looking only. Ctrl-C ends it.
    """
    chosen = output.load_settings(db)
    output.on_node(chosen, output.must_exist)

    def ready(address: str) -> None:
        if as_json:
            output.emit({"url": address, "idle_minutes": idle})
        elif no_browser or not webbrowser.open(address):
            output.say(f"Open this in a browser on this machine; it works once: {address}")
        else:
            output.say("Opened in your browser. Ctrl-C ends it.")
        sys.stdout.flush()  # whoever started this waits for the address

    from ccn_mcp.server.page import serve_page  # uvicorn; not needed to show help

    serve_page(chosen, port=port, idle_s=idle * 60, ready=ready)
