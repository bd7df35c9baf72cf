"""`ccn-mcp chat`: a conversation with full continuity, in the terminal or a pipe."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.asking import Backend, Model, last_conversation, model_name, port_of
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import BadInput, CcnError, StoreError

if TYPE_CHECKING:
    from ccn_mcp.node.talking import Exchange, Talk
    from ccn_mcp.settings import Settings

T = TypeVar("T")

TWICE_S: Final = 2.0
"""Ctrl-C twice within this time ends the chat."""

PROMPT: Final = "> "
STDIN_CHARS_MAX: Final = 1_048_576
UNFINISHED_STATUS: Final = 1
INTERRUPTED_STATUS: Final = 130
HELP: Final = """\
/help             this
/exit             end the chat (so does Ctrl-D)
/model [NAME]     the model that answers; with a name, another one from here on
/cost             what this conversation and this day have cost
/plate            the Plate that the model is given
/retry            ask again for an answer to what was said last
/verify           check the whole record
Ctrl-C stops a reply and keeps what came of it; twice within two seconds ends the chat.
"""


def chat(
    message: Annotated[
        str | None, typer.Argument(metavar="[MESSAGE]", help="Say this, print the answer and stop.")
    ] = None,
    model: Model = None,
    backend: Backend = None,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Go on with the last conversation of this scope.")
    ] = False,
    conversation: Annotated[
        str | None, typer.Option("--conversation", metavar="ID", help="Go on with this conversation.")
    ] = None,
    history_tokens: Annotated[
        int | None,
        typer.Option(
            "--history-tokens",
            metavar="N",
            help="Tokens of earlier turns that are sent, about: 0 to 60000. Default: 12000.",
        ),
    ] = None,
    judge_every: Annotated[
        int | None,
        typer.Option(
            "--judge-every", metavar="N", min=1, help="Have a judge look at every N replies; that costs, too."
        ),
    ] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Talk to Claude with the Plate, the state and the record; both sides are recorded.

    With a MESSAGE, or with something piped in, it answers once, plainly. Otherwise it is a chat; /help shows what can
    be typed. What you say is sent to the model's provider, and costs what /cost shows.
    """
    chosen = output.load_settings(db)
    said = message if message is not None else _piped()
    if (as_json and said is None) or (said is not None and not said.strip()):
        raise BadInput('say something: ccn-mcp chat "What did we decide?", or pipe it in')
    with asyncio.Runner() as runner:
        session = _Session(runner, chosen)
        try:
            session.open(model, backend, conversation, go_on=go_on, history_tokens=history_tokens)
            if said is None:
                _Chat(session, judge_every).run()
            elif not session.once(said, as_json=as_json):
                raise typer.Exit(UNFINISHED_STATUS)
        finally:
            session.close()


def _piped() -> str | None:
    """What stands on standard input, if that is no terminal."""
    if sys.stdin is None:
        raise BadInput('there is nothing to read from; give a message, as in ccn-mcp chat "Hello"')
    if sys.stdin.isatty():
        return None
    return sys.stdin.read(STDIN_CHARS_MAX + 1).removesuffix("\n")


class _Session:
    """A store, a back end and a talk, on one event loop that runs while something is awaited."""

    talk: Talk

    def __init__(self, runner: asyncio.Runner, chosen: Settings) -> None:
        self._runner = runner
        self._chosen = chosen
        self._stack = AsyncExitStack()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it; Ctrl-C cancels it and is raised once it has put away what it had."""
        return self._runner.run(work)

    def open(
        self,
        model: str | None,
        backend: str | None,
        conversation: str | None,
        *,
        go_on: bool,
        history_tokens: int | None,
    ) -> None:
        """The talk, begun or gone on with."""
        self.wait(self._open(model, backend, conversation, go_on, history_tokens))

    async def _open(
        self,
        model: str | None,
        backend: str | None,
        conversation: str | None,
        go_on: bool,
        budget: int | None,
    ) -> None:
        from ccn_mcp.app import node_of
        from ccn_mcp.domain.limits import CONTEXT_TOKENS_DEFAULT
        from ccn_mcp.node.context import Caller
        from ccn_mcp.node.talking import Talk

        port, asked = port_of(backend, self._chosen), model_name(model, self._chosen)
        self._stack.push_async_callback(port.aclose)
        caller = Caller(source="cli", client="ccn-mcp chat")
        node = await self._stack.enter_async_context(node_of(self._chosen, caller))
        if go_on and conversation is None:
            conversation = await last_conversation(node.ctx)
        talk = Talk(
            node.ctx,
            caller,
            port,
            asked,
            budget=CONTEXT_TOKENS_DEFAULT if budget is None else budget,
        )
        self.turns = await talk.open(conversation)
        self.talk, self.node = talk, node

    def close(self) -> None:
        """Let go of everything; the instance has left in good order."""
        self.wait(self._close())

    async def _close(self) -> None:
        if hasattr(self, "talk"):
            await self.talk.settle()
            await self.node.end_instances(instance_id=self.talk.instance_id)
        await self._stack.aclose()

    def once(self, said: str, *, as_json: bool) -> bool:
        """One answer, plainly; whether it is whole."""
        write = _Writer(sys.stdout)
        on_text = (lambda _: None) if as_json else write.piece
        try:
            done = self.told(write, self.talk.say(said, on_text=on_text, on_wait=output.complain))
        except KeyboardInterrupt:
            output.complain(
                f"stopped; what came is kept. To go on: ccn-mcp chat --conversation {self.talk.conversation_id}"
            )
            raise typer.Exit(INTERRUPTED_STATUS) from None
        if as_json:
            output.emit(self.wait(self.as_json(done)))
        elif done.reply.problem:
            output.complain(done.reply.problem)
        return done.reply.whole

    def told(self, write: _Writer, exchange: Coroutine[Any, Any, Exchange]) -> Exchange:
        """The exchange, whose text has gone to `write`; whatever ends it, that line has ended.

        Raises:
            StoreError: says whether it is the reply on the screen that is not in the record.
        """
        try:
            return self.wait(exchange)
        except StoreError as error:
            if not write.wrote:
                raise
            raise type(error)(f"the reply above is not in the record, what you said is: {error}") from error
        finally:
            write.end()

    async def as_json(self, done: Exchange) -> dict[str, object]:
        """One exchange as `--json` prints it."""
        return {
            "text": done.reply.text,
            "ended": done.reply.ended,
            "problem": done.reply.problem or None,
            "model": done.reply.model,
            "conversation_id": self.talk.conversation_id,
            "asked_seq": done.asked_seq,
            "seq": done.seq,
            "head": done.head,
            "usage": done.reply.usage,
            "cost_usd": _usd(done.usage.cost),
        }


def _usd(pico: int | None) -> str | None:
    from decimal import Decimal

    return None if pico is None else str(Decimal(pico) / 10**12)


class _Writer:
    """Text as it comes, with everything that a terminal would act on written out."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._last = "\n"
        self.wrote = False

    def piece(self, text: str) -> None:
        """A piece of a reply."""
        self._stream.write(output.shown(text))
        self._stream.flush()
        self._last = text[-1:] or self._last
        self.wrote = True

    def end(self) -> None:
        """The reply's last line ends."""
        if self._last != "\n":
            self._stream.write("\n")
            self._stream.flush()
        self._last = "\n"


class _Chat:
    """Lines in, replies out."""

    def __init__(self, session: _Session, judge_every: int | None) -> None:
        self._session = session
        self._judge_every = judge_every
        self._stopped_at = float("-inf")
        self._commands: Mapping[str, Callable[[str], None]] = {
            "/help": lambda _: output.say(HELP.rstrip("\n")),
            "/model": self._model,
            "/cost": lambda _: self._cost(),
            "/plate": lambda _: self._plate(),
            "/retry": lambda _: self._answer(
                lambda **told: self._session.talk.again(**told),
            ),
            "/verify": lambda _: self._verify(),
        }

    def run(self) -> None:
        """Until /exit, Ctrl-D, or Ctrl-C twice."""
        self._greet()
        while True:
            try:
                line = _line()
                if line is None or line.strip() == "/exit":
                    break
                if line.strip():
                    self._do(line)
            except KeyboardInterrupt:
                now = time.monotonic()
                if now - self._stopped_at < TWICE_S:
                    break
                self._stopped_at = now
                output.say("\n(Ctrl-C again ends the chat)", "dim")
            except CcnError as error:
                output.complain(str(error))
        output.say(f"To go on later: ccn-mcp chat --conversation {self._session.talk.conversation_id}", "dim")

    def _do(self, line: str) -> None:
        word, _, rest = line.strip().partition(" ")
        if (command := self._commands.get(word)) is not None:
            command(rest.strip())
        elif word.startswith("/") and word[1:].isalpha() and not rest:
            raise BadInput(f"there is no {word}; /help shows what there is. To say it, put a space before it")
        else:
            self._answer(lambda **told: self._session.talk.say(line, **told))

    def _answer(self, ask: Callable[..., Coroutine[Any, Any, Exchange]]) -> None:
        write = _Writer(sys.stdout)
        on_wait = functools.partial(_aside, write)
        try:
            done = self._session.told(write, ask(on_text=write.piece, on_wait=on_wait))
        except KeyboardInterrupt:
            output.say("(what came is kept)", "dim")
            raise
        if done.reply.problem:
            output.tell(done.reply.problem, style="yellow")
        output.say(self._session.wait(_cost_line(self._session.talk, done)), "dim")
        if self._judge_every is not None and done.seq is not None:
            self._session.wait(_judged(self._session.talk, self._judge_every))

    def _greet(self) -> None:
        talk = self._session.talk
        plate = self._session.wait(self._session.node.plate()).plate
        output.say(
            f"{talk.model}, Plate {output.one_line(plate.name, 60)} {output.one_line(plate.version, 20)}; "
            "both sides are recorded. /help shows what can be typed.",
            "dim",
        )
        if self._session.turns:
            output.say(f"Going on from {output.amount(self._session.turns, 'turn')}.", "dim")

    def _model(self, name: str) -> None:
        if name:
            self._session.wait(self._session.talk.use(name))
        output.say(self._session.talk.model)

    def _cost(self) -> None:
        from ccn_mcp.node.usage import spent

        ctx, conversation = self._session.talk.ctx, self._session.talk.conversation_id

        async def both() -> tuple[str, str]:
            day = iso(ctx.now_us())[:10]
            return str(await spent(ctx, conversation=conversation)), str(await spent(ctx, period=day))

        from ccn_mcp.node.context import iso

        here, today = self._session.wait(both())
        output.say(f"This conversation  {here}")
        output.say(f"Today (UTC)        {today}")

    def _plate(self) -> None:
        plate = self._session.wait(self._session.node.plate()).plate
        output.say(f"{output.one_line(plate.name, 60)}, version {output.one_line(plate.version, 20)}")
        output.say(plate.body)

    def _verify(self) -> None:
        found = self._session.wait(self._session.node.verify_chain())
        good = (
            f"as they were written (level {found['level']}; ccn-mcp verify says what that means)"
            if found["ok"]
            else "SOMETHING DOES NOT FIT: ccn-mcp verify says what"
        )
        output.say(f"{found['entries']:,} entries, {good}; head {found['head']}")


def _aside(write: _Writer, said: str) -> None:
    """A line of ours between the model's."""
    write.end()
    output.say(f"({said})", "dim")


async def _judged(talk: Talk, every: int) -> None:
    """A judge's look at the newest replies, if it is time for one; what it cannot do does not end the chat."""
    from ccn_mcp.node.judge import due, judge

    if not await due(talk.ctx, talk.conversation_id, every):
        return
    output.say("(a judge is looking at the newest replies; Ctrl-C leaves that out)", "dim")
    try:
        await judge(
            talk.ctx, talk.caller, talk.port, talk.model, talk.conversation_id, instance=talk.instance_id
        )
    except CcnError as error:
        output.complain(str(error))
        return
    output.say("(judged: ccn-mcp drift shows it)", "dim")


async def _cost_line(talk: Talk, done: Exchange) -> str:
    from ccn_mcp.domain.spending import total_of
    from ccn_mcp.node.usage import spent
    from ccn_mcp.prices import table_of

    usage = done.usage.usage
    parts = [f"{total_of(done.usage, table_of(talk.ctx.settings))} this message"]
    parts.append(f"{await spent(talk.ctx, conversation=talk.conversation_id)} this conversation")
    if usage is not None:
        cached = f", {usage.read:,} of them from the cache" if usage.read else ""
        parts.append(f"{usage.prompt:,} tokens in{cached}, {usage.output:,} out")
    return "; ".join(parts)


def _line() -> str | None:
    """What the person types; None at the end of the input."""
    from contextlib import suppress

    with suppress(ImportError):  # editing and recalling lines, and a paste of several lines as one
        import readline  # noqa: F401 - its import is what it does
    try:
        return input(PROMPT)
    except EOFError:
        output.say()
        return None
