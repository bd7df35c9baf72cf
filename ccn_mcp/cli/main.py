"""The command line's entry: builds the commands, turns every outcome into words and an exit status.

Exit statuses: 0 done, 1 unexpected, 2 bad input, 3 not found, 4 conflict or refused, 5 store, 6 verification
failed, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer
from typer.exceptions import TyperException

from ccn_mcp import __version__
from ccn_mcp.cli import (
    anchor,
    backup,
    bundle,
    chat,
    commission,
    completion,
    consensus,
    cost,
    demo,
    doctor,
    drift,
    exclude,
    export,
    history,
    import_,
    install,
    judge,
    key,
    maintain,
    open_page,
    output,
    plate,
    proof,
    redact,
    scopes,
    spawn,
    status,
    token,
    validate,
    verify,
)
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
VALUE_CHARS_MAX: Final = 40


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit status."""
    sys.stdout, sys.stderr = _open(sys.stdout), _open(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if (change := getattr(stream, "reconfigure", None)) is not None:
            # A terminal that cannot show a letter gets its number; output never fails for that.
            change(errors="backslashreplace")
    try:
        done = _run(list(arguments) or ["--help"])
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go_of_stdout()
        return 0
    except KeyboardInterrupt:
        return interrupted()
    except RuntimeError as error:
        # What comes while a class is being made, Python 3.11 wraps.
        if not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        return interrupted()
    except UnknownConversation as error:
        # The rest of its message is for instances.
        output.complain(f"{str(error).split(';')[0]}; ccn-mcp history --all-scopes lists those that are")
        return error.exit_status
    except CcnError as error:
        output.complain(str(error))
        return error.exit_status
    except OSError as error:
        output.complain(f"{error}; check the path, its permissions and the space left")
        _let_go_of_stdout()  # it may be what failed, and would fail again at exit
        return 1
    return done


def _open(stream: TextIO | None) -> TextIO:
    """The stream, or nowhere if it was closed (`>&-`)."""
    return stream if stream is not None else Path(os.devnull).open("w", encoding="utf-8")


def interrupted() -> int:
    """Say so in one line; nothing that was begun is left half-written."""
    with suppress(OSError):
        output.complain("stopped")
    return INTERRUPTED


def _run(arguments: list[str]) -> int:
    if arguments[0] == "serve":
        from ccn_mcp.cli.serve import serve

        return serve(arguments[1:])
    if arguments[0] == "hook" and not {"--help", "-h"} & {*arguments}:
        from ccn_mcp.interop.hook import main as hook

        return hook(arguments[1:])
    if arguments in (["plate"], ["token"], ["key"], ["consensus"]):
        arguments = [*arguments, "--help"]
    if arguments == ["commission"]:
        arguments = [*arguments, "status"]
    command = typer.main.get_command(build())
    if arguments[:2] == ["completion", "--complete"]:
        completion.answer(command, arguments[2:])
        return 0
    try:
        with command.make_context(PROGRAM, arguments) as context:
            command.invoke(context)
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.Abort:
        return interrupted()
    except TyperException as error:
        output.complain(f"{_in_words(error)}\n{_help_of(error)}")
        return error.exit_code
    return 0


def _in_words(error: TyperException) -> str:
    param, checked = getattr(error, "param", None), getattr(error.__cause__, "errors", None)
    if param is not None and checked is not None:
        return _wrong_value(param, checked()[0])
    text = error.format_message().strip()
    return text[:1].lower() + text[1:] if text else "that is not a command"


def _wrong_value(param: Any, wrong: dict[str, Any]) -> str:
    """What is wrong with an option's value and what would be right, instead of the validator's own words."""
    kind = param.type_descriptor.annotation
    said = f"{param.get_error_hint().strip(chr(39))} is {str(wrong['input'])[:VALUE_CHARS_MAX]!r}; "
    if isinstance(kind, type) and issubclass(kind, Enum):
        return said + "use one of: " + ", ".join(str(one.value) for one in kind)
    number = "a number" if "float" in str(kind) else "a whole number"
    least, most = getattr(param, "min", None), getattr(param, "max", None)
    if least is None:
        return f"{said}give {number}"
    return f"{said}give {number}, " + (f"{least} or more" if most is None else f"from {least} to {most:,}")


def _help_of(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"try: {context.command_path if context is not None else PROGRAM} --help"


def _let_go_of_stdout() -> None:
    """Whoever read our output has stopped; nothing more may be written, at exit either."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


HOOK_EXAMPLES: Final = ("ccn-mcp hook private on", "ccn-mcp hook statusline < session.json")


def build() -> Any:
    """The typer application. Modules of commands import what is heavy when they run."""
    app = typer.Typer(
        name=PROGRAM,
        help=SUMMARY,
        epilog=STATUSES,
        add_completion=False,
        rich_markup_mode="rich" if output.fancy() else None,  # boxes and colours are for people
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    app.command("serve", help=SERVE_SUMMARY, context_settings={"ignore_unknown_options": True})(_serve)
    app.command("hook", **output.example(*HOOK_EXAMPLES))(_hook)
    app.command(**output.example("ccn-mcp demo"))(demo.demo)
    app.command(**output.example("ccn-mcp status"))(status.status)
    app.command(**output.example("ccn-mcp verify", f"ccn-mcp verify --known-head 42:{'0' * 32}"))(
        verify.verify
    )
    app.command(**output.example("ccn-mcp history", 'ccn-mcp history --search "harbour light*"'))(
        history.history
    )
    app.command(**output.example("ccn-mcp scopes"))(scopes.scopes)
    app.command(**output.example("ccn-mcp exclude ~/private", "ccn-mcp exclude --list"))(exclude.exclude)
    app.command(
        **output.example(
            "ccn-mcp export --format markdown --output record.md", "ccn-mcp export --bundle ccn-bundle"
        )
    )(export.export)
    app.command(
        "import",
        **output.example("ccn-mcp import --claude-code --dry-run", "ccn-mcp import claude-export.zip"),
    )(import_.import_)
    app.command("verify-bundle", **output.example("ccn-mcp verify-bundle ccn-bundle"))(bundle.verify_bundle)
    app.command(**output.example("ccn-mcp proof 42 > entry-42.txt", "ccn-mcp proof --check entry-42.txt"))(
        proof.proof
    )
    app.command(
        **output.example(
            "ccn-mcp redact 42 --reason 'a password'", "ccn-mcp redact --conversation c_… --dry-run"
        )
    )(redact.redact)
    app.command(**output.example("ccn-mcp backup ~/backups", "ccn-mcp backup ccn-copy.db --force"))(
        backup.backup
    )
    app.command(
        **output.example("ccn-mcp restore ccn-copy.db", "ccn-mcp restore ccn-copy.db --to other/ccn.db")
    )(backup.restore)
    app.command(**output.example("ccn-mcp maintain", "ccn-mcp maintain --vacuum"))(maintain.maintain)
    app.add_typer(plate.build(), name="plate")
    app.add_typer(key.build(), name="key")
    anchoring = output.example("ccn-mcp anchor --tsa https://freetsa.org/tsr --tsa-ca cacert.pem")
    app.command(**anchoring)(anchor.anchor)
    _character(app)
    _models(app)
    app.add_typer(token.build(), name="token")
    app.command(**output.example("ccn-mcp install claude-code", "ccn-mcp install cursor"))(install.install)
    app.command(**output.example("ccn-mcp doctor"))(doctor.doctor)
    app.command(**output.example("source <(ccn-mcp completion bash)"))(completion.completion)
    return app


def _character(app: typer.Typer) -> None:
    """The commands about character, and the page that shows it."""
    app.add_typer(commission.build(), name="commission")
    app.add_typer(consensus.build(), name="consensus")
    app.command(**output.example("ccn-mcp drift", "ccn-mcp drift --trait warmth --svg warmth.svg"))(
        drift.drift
    )
    app.command("open", **output.example("ccn-mcp open", "ccn-mcp open --no-browser --port 8766"))(
        open_page.open_page
    )


def _models(app: typer.Typer) -> None:
    """The commands that talk to a model."""
    app.command(
        **output.example("ccn-mcp chat --continue", 'ccn-mcp chat "What did we decide about the harbour?"')
    )(chat.chat)
    app.command(**output.example("ccn-mcp validate", "ccn-mcp validate --backend claude-code"))(
        validate.validate
    )
    handed = "ccn-mcp spawn --conversation c_… --print 'Where did we stop?'"
    app.command(**output.example("ccn-mcp spawn", handed))(spawn.spawn)
    app.command(**output.example("ccn-mcp cost", "ccn-mcp cost --by call --last 5"))(cost.cost)
    app.command(
        **output.example("ccn-mcp judge --continue --dry-run", "ccn-mcp judge --conversation c_… --batch")
    )(judge.judge)


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


def _hook(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="An event of Claude Code, or private.")],
    detail: Annotated[
        str | None, typer.Argument(metavar="PART|on|off", help="session-start's part; on or off.")
    ] = None,
) -> None:
    """Record a Claude Code session from its hooks (the plugin calls this), or keep it private.

    Events: session-start, user-prompt-submit, stop, stop-failure, session-end, post-tool-use, statusline; their JSON
    comes on standard input. `private on` stops recording the session that it is typed in, `private off` goes on.
    """
    del event, detail  # shown in the help only: `run` and `__main__` send `hook` past this


def _serve() -> None:
    """Shown in the help only: `run` and `__main__` send `serve` past this."""
