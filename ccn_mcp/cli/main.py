"""The command line's entry: builds the commands, turns every outcome into words and an exit status.

Exit statuses: 0 done, 1 unexpected, 2 bad input, 3 not found, 4 conflict or refused, 5 store, 6 verification
failed, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, Final

import typer
from typer.exceptions import TyperException

from ccn_mcp import __version__
from ccn_mcp.cli import demo, doctor, export, history, install, output, plate, redact, status, token, verify
from ccn_mcp.cli.serve import SUMMARY as SERVE_SUMMARY
from ccn_mcp.domain.errors import CcnError, UnknownConversation

PROGRAM: Final = "ccn-mcp"
SUMMARY: Final = (
    "One Plate, one tamper-evident record and one measure of character for your Claude sessions, kept in one "
    "file on this machine. New here? Try: ccn-mcp demo"
)
STATUSES: Final = (
    "Exit status: 0 done, 1 unexpected, 2 bad input, 3 not found, 4 conflict or refused, 5 store, "
    "6 verification failed, 130 interrupted."
)
INTERRUPTED: Final = 130


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if (change := getattr(stream, "reconfigure", None)) is not None:
            # A terminal that cannot show a letter gets its number; output never fails for that.
            change(errors="backslashreplace")
    try:
        done = _run(list(arguments) or ["--help"])
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _let_go_of_stdout()
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except UnknownConversation as error:
        # The rest of its message is for instances.
        output.complain(f"{str(error).split(';')[0]}; ccn-mcp history --all-scopes lists those that are")
        return error.exit_status
    except CcnError as error:
        output.complain(str(error))
        return error.exit_status
    except OSError as error:
        output.complain(f"{error}; check the path, its permissions and the space left")
        return 1
    return done


def _run(arguments: list[str]) -> int:
    if arguments[0] == "serve":
        from ccn_mcp.cli.serve import serve

        return serve(arguments[1:])
    if arguments in (["plate"], ["token"]):
        arguments = [*arguments, "--help"]
    command = typer.main.get_command(build())
    try:
        with command.make_context(PROGRAM, arguments) as context:
            command.invoke(context)
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.Abort:
        return INTERRUPTED
    except TyperException as error:
        output.complain(f"{_in_words(error)}\n{_help_of(error)}")
        return error.exit_code
    return 0


def _in_words(error: TyperException) -> str:
    text = error.format_message().strip()
    return text[:1].lower() + text[1:] if text else "that is not a command"


def _help_of(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"try: {context.command_path if context is not None else PROGRAM} --help"


def _let_go_of_stdout() -> None:
    """Whoever read our output has stopped; nothing more may be written, at exit either."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build() -> Any:
    """The typer application. Modules of commands import what is heavy when they run."""
    app = typer.Typer(
        name=PROGRAM,
        help=SUMMARY,
        epilog=STATUSES,
        add_completion=False,
        # Boxes and colours are for people at a terminal.
        rich_markup_mode="rich" if output.fancy() else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    app.command("serve", help=SERVE_SUMMARY, context_settings={"ignore_unknown_options": True})(_serve)
    app.command(**output.example("ccn-mcp demo"))(demo.demo)
    app.command(**output.example("ccn-mcp status"))(status.status)
    app.command(**output.example("ccn-mcp verify", f"ccn-mcp verify --known-head 42:{'0' * 32}"))(
        verify.verify
    )
    app.command(**output.example("ccn-mcp history", 'ccn-mcp history --search "harbour light*"'))(
        history.history
    )
    app.command(**output.example("ccn-mcp export --format markdown --output record.md"))(export.export)
    app.command(**output.example("ccn-mcp redact 42 --reason 'a password'"))(redact.redact)
    app.add_typer(plate.build(), name="plate")
    app.add_typer(token.build(), name="token")
    app.command(**output.example("ccn-mcp install claude-desktop", "ccn-mcp install claude-desktop --write"))(
        install.install
    )
    app.command(**output.example("ccn-mcp doctor"))(doctor.doctor)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        output.say(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    del version  # acted on by its callback


def _serve() -> None:
    """Shown in the help only: `run` and `__main__` send `serve` past this."""
