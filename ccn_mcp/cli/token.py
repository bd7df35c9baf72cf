"""`ccn-mcp token`: show the token of `serve --http`, or replace it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.output import AsJson

if TYPE_CHECKING:
    from ccn_mcp.server.token import TokenFile


def build() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(
        help="Show or replace the token that clients of `serve --http` need.",
        rich_markup_mode="rich" if output.fancy() else None,
    )
    app.command("show", **output.example("ccn-mcp token show"))(show)
    app.command("new", **output.example("ccn-mcp token new"))(new)
    return app


def show(as_json: AsJson = False) -> None:
    """Show the token: on a terminal, or with --json.

    So it comes into no file or pipe by accident.
    """
    from ccn_mcp.domain.errors import Refused

    file = _file()
    token = file.read()
    if not (as_json or sys.stdout.isatty()):
        raise Refused("the token is shown on a terminal only; where a program needs it, add --json")
    _show(file, token, as_json=as_json)


def new(as_json: AsJson = False) -> None:
    """Replace the token. The old one opens nothing from then on.

    Servers that run take the new one at once; their clients need it too.
    """
    file = _file()
    token = file.new()
    if as_json or sys.stdout.isatty():
        _show(file, token, as_json=as_json)
    else:
        output.say(f"The new token is in {file.path}")


def _file() -> TokenFile:
    from ccn_mcp.server.token import TokenFile  # not needed to show help

    return TokenFile(output.load_settings(None))


def _show(file: TokenFile, token: str, *, as_json: bool) -> None:
    if as_json:
        output.emit({"token": token, "header": f"Authorization: Bearer {token}", "file": str(file.path)})
        return
    output.say(token)
    output.say()
    output.tell(f"Clients send it as the header `Authorization: Bearer TOKEN`. It is kept in {file.path}")
