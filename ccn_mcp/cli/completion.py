"""`ccn-mcp completion`: a script that completes this program's words in a shell, and what that script asks.

The script calls `ccn-mcp completion --complete WORD...`, the words of the line up to the cursor, and gets one
candidate a line (zsh and fish: a tab and a description after it). Whatever goes wrong there is silence.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.domain.errors import BadInput

CANDIDATES_MAX: Final = 100
CONVERSATIONS_MAX: Final = 1_000
"""The newest conversations, among which ids and scopes are looked for."""

WAIT_S_MAX: Final = 2.0
ABOUT_CHARS_MAX: Final = 60
SHELLS: Final = ("bash", "zsh", "fish")

BASH: Final = """\
# ccn-mcp completion bash: put `source <(ccn-mcp completion bash)` into ~/.bashrc
_ccn_mcp() {
    local line word
    COMPREPLY=()
    while IFS= read -r line; do
        word="${line%%$'\\t'*}"
        COMPREPLY+=("$(printf %q "$word")")
    done < <("${COMP_WORDS[0]}" completion --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null </dev/null)
}
complete -o default -o nosort -F _ccn_mcp ccn-mcp
"""
ZSH: Final = """\
#compdef ccn-mcp
# ccn-mcp completion zsh: put `source <(ccn-mcp completion zsh)` into ~/.zshrc, after compinit
_ccn_mcp() {
    local -a found
    local line
    while IFS= read -r line; do
        found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done < <("${words[1]}" completion --complete "${(@)words[2,CURRENT]}" 2>/dev/null </dev/null)
    if (( ${#found} )); then _describe -V ccn-mcp found; else _files; fi
}
compdef _ccn_mcp ccn-mcp
"""
FISH: Final = """\
# ccn-mcp completion fish: put `ccn-mcp completion fish | source` into ~/.config/fish/config.fish
function __ccn_mcp
    set -l words (commandline -opc)
    set -l now (commandline -ct)
    set -l found ($words[1] completion --complete $words[2..-1] "$now" 2>/dev/null </dev/null)
    if count $found >/dev/null
        printf '%s\\n' $found
    else
        __fish_complete_path "$now"
    end
end
complete -c ccn-mcp -f -k -a '(__ccn_mcp)'
"""
SCRIPTS: Final = dict(zip(SHELLS, (BASH, ZSH, FISH), strict=True))

Candidate = tuple[str, str]
"""A word and what it means."""

Shell = Annotated[str, typer.Argument(metavar="|".join(SHELLS), help="Your shell.", show_default=False)]


def completion(shell: Shell) -> None:
    """Print the script that completes commands, options, conversation ids and scopes in your shell.

    It changes no file: source what it prints from your shell's own start file.
    """
    if shell not in SCRIPTS:
        raise BadInput(f"{shell!r} is not a shell that this knows; use one of: {', '.join(SHELLS)}")
    print(SCRIPTS[shell], end="")


def answer(program: Any, words: Sequence[str]) -> None:
    """Print the candidates for the last of `words`; nothing where there are none or anything fails."""
    with suppress(Exception):  # a shell's line is no place for errors
        for word, about in list(candidates(program, words))[:CANDIDATES_MAX]:
            if word.isprintable():
                said = "".join(filter(str.isprintable, output.one_line(about, ABOUT_CHARS_MAX)))
                print(f"{word}\t{said}")


def candidates(program: Any, words: Sequence[str]) -> Iterator[Candidate]:
    """What the last of `words` may become, given those before it."""
    command, path, position, pending = program, "", 0, None
    *before, now = words or [""]
    for word in before:
        if pending is not None:
            pending = None
        elif word.startswith("-"):
            pending = _wants_value(command, word)
        elif (below := getattr(command, "commands", {}).get(word)) is not None:
            command, path, position = below, f"{path} {word}".strip(), 0
        else:
            position += 1
    if pending is not None:
        found = _values(pending, before)
    elif now.startswith("-"):
        found = _options(command, path)
    elif getattr(command, "commands", None):
        found = ((name, _first(item.help)) for name, item in command.commands.items() if not item.hidden)
    else:
        found = _values(_argument(command, position), before)
    yield from ((word, about) for word, about in found if word.startswith(now))


def _wants_value(command: Any, word: str) -> Any:
    for item in command.params:
        if word in item.opts and not getattr(item, "is_flag", False) and not getattr(item, "count", False):
            return item
    return None


def _argument(command: Any, position: int) -> Any:
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    if not arguments:
        return None
    return (
        arguments[position]
        if position < len(arguments)
        else arguments[-1]
        if arguments[-1].nargs == -1
        else None
    )


def _options(command: Any, path: str) -> Iterator[Candidate]:
    if path == "serve":
        from ccn_mcp.cli.serve import parser

        for action in parser()._actions:
            yield from ((name, action.help or "") for name in action.option_strings if name.startswith("--"))
        return
    for item in command.params:
        if item.param_type_name == "option" and not item.hidden:
            yield from ((name, item.help or "") for name in item.opts if name.startswith("--"))
    yield "--help", "Show this message and exit."


def _values(item: Any, before: Sequence[str]) -> Iterator[Candidate]:
    """The values of an option or argument: what its metavar lists, or what the record has."""
    if item is None:
        return
    shown = (item.metavar or "").strip("[]")
    if "|" in shown:
        yield from ((choice, "") for choice in shown.split("|"))
    elif item.name in ("conversation", "conversation_id"):
        yield from ((found.id, found.title or found.scope) for found in _conversations(before))
    elif item.name == "scope":
        yield from dict.fromkeys((found.scope, "") for found in _conversations(before))
    elif item.name == "role":
        from ccn_mcp.domain.models import ROLES

        yield from ((role, "") for role in ROLES)


def _conversations(before: Sequence[str]) -> list[Any]:
    """The newest conversations of every scope: the line is the person's. Creates nothing."""
    from ccn_mcp.domain.models import ConversationQuery

    given = [after for word, after in itertools.pairwise(before) if word == "--db"]
    chosen = output.load_settings(given[-1] if given else None)
    if not chosen.db.is_file():
        return []

    async def read(node: Any) -> list[Any]:
        async with asyncio.timeout(WAIT_S_MAX):
            return list(await node.ctx.store.conversations(ConversationQuery(CONVERSATIONS_MAX)))

    return output.on_node(chosen, read)


def _first(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]
