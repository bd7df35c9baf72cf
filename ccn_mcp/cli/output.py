"""What every command prints with: plain words that survive pipes, narrow terminals and hostile text."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ccn_mcp.node.node import Node
    from ccn_mcp.settings import Settings

T = TypeVar("T")

WIDTH_MAX: Final = 100
_UNSHOWABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)

Db = Annotated[
    str | None,
    typer.Option("--db", metavar="PATH", help="Store file. Default: CCN_DB, else the user data folder."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


@cache
def _console_class() -> type[Console]:
    from rich.console import Console

    class PatientConsole(Console):
        """rich would end the program with status 1 where the reader has stopped; `run` knows better."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return PatientConsole


def console(*, stderr: bool = False) -> Console:
    """A console that adds colour on a terminal only, and never breaks or styles what it is given."""
    return _console_class()(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def fancy() -> bool:
    """Whether stdout is a terminal whose owner has not set NO_COLOR."""
    out = console()
    return out.is_terminal and not out.no_color


def say(text: str = "", style: str = "") -> None:
    """Print one piece of text as it is: never cut, never broken, so that ids and paths can be copied."""
    from rich.text import Text

    console().print(Text(shown(text), style=style))


def tell(text: str, *, indent: str = "", style: str = "") -> None:
    """Print prose, broken between words where the terminal ends."""
    from rich.cells import cell_len  # some letters take two places

    room = max(20, min(console().width, WIDTH_MAX)) - len(indent)
    lines: list[str] = []
    for word in re.findall(" *[^ ]+", shown(text).replace("\n", " ")):
        if lines and cell_len(lines[-1]) + cell_len(word) <= room:
            lines[-1] += word
        else:
            lines.append(word.strip() if lines else word)
    say("\n".join(indent + line for line in lines), style)


def complain(message: str) -> None:
    """Print an error for the person on stderr."""
    print(f"ccn-mcp: {shown(message)}", file=sys.stderr)


def beside(as_json: bool) -> AbstractContextManager[object]:
    """Inside, what is printed for the person goes to stderr if stdout is one JSON document's."""
    return redirect_stdout(sys.stderr) if as_json else nullcontext()


def emit(value: object) -> None:
    """Print the one JSON document of `--json`."""
    plain = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") != "utf8"
    text = json.dumps(value, ensure_ascii=plain, indent=2)
    # JSON lets these stand, and a terminal would act on them.
    sys.stdout.write(re.sub("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]", _escaped, text) + "\n")


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


@contextmanager
def bar(label: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, if that is a terminal; it goes away when the work is done. Tell it (done, total)."""
    if not (shown and sys.stderr.isatty()):
        yield lambda *_: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as drawn:
        task = drawn.add_task(label, total=None)
        yield lambda done, total: drawn.update(task, completed=done, total=total)


def shown(text: str) -> str:
    """`text` with everything that a terminal would act on written out: recorded text is not ours."""
    return _UNSHOWABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text.replace("\r\n", "\n"))


def one_line(text: str, most: int = 200) -> str:
    """`text` on one line, cut after `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def amount(count: int, noun: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(count: int) -> str:
    """A number of bytes for people."""
    if count < 10_000:
        return f"{count:,} bytes"
    return f"{count / 1_000:,.0f} kB" if count < 10_000_000 else f"{count / 1_000_000:,.1f} MB"


def minute(at: str) -> str:
    """`2026-11-22T15:52:07Z` as `2026-11-22 15:52:07 UTC`."""
    return at.replace("T", " ").replace("Z", " UTC")


def load_settings(db: str | None) -> Settings:
    """The settings in force.

    Raises:
        BadInput: a setting has a value that it cannot have.
    """
    from ccn_mcp import settings

    return settings.load(db)


def on_node(chosen: Settings, work: Callable[[Node], Awaitable[T]]) -> T:
    """Run `work` on a node of its own and return what it returns."""
    import asyncio  # not needed to show help

    from ccn_mcp.app import node_of
    from ccn_mcp.node.context import Caller

    async def inside() -> T:
        async with node_of(chosen, Caller(source="cli", client="ccn-mcp")) as node:
            return await work(node)

    return asyncio.run(inside())


async def must_exist(node: Node) -> None:
    """Go on only if there is a store.

    Raises:
        NoStore.
    """
    from ccn_mcp.domain.errors import NoStore

    if (await node.ctx.store.info()).store_id is None:
        raise NoStore(
            f"there is no store at {node.ctx.settings.db} yet; the first message or load_plate creates it. "
            "If you keep yours elsewhere, name it with --db or CCN_DB"
        )


def example(*lines: str) -> dict[str, Any]:
    """The `epilog` of a command: its examples, one a line."""
    word = "Example" if len(lines) == 1 else "Examples"
    return {"epilog": f"{word}: " + "; ".join(lines)}
