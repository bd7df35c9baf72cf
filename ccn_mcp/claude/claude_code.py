"""A model by the person's own Claude Code: `claude -p`, with its login and no key of ours (tried with 2.1.330).

It runs without tools, servers, settings, hooks, memory or session files, in an empty folder. What is said goes in by
stdin and by a private file, never on the command line, which other users of the machine can see. Claude Code replaces
`@path` in a prompt by that file's content; that is switched off, since a transcript may hold anything.

`spawn` asks it otherwise (`within`): in the person's folder and with their settings, as the session that follows.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ccn_mcp.claude.claude_code_output import Heard
from ccn_mcp.claude.lines import CLAUDE_CODE_LINES, LINES, shown
from ccn_mcp.claude.one_prompt import prompt_of
from ccn_mcp.domain.talk import DEADLINE_S_DEFAULT, Asked, Reply

PROGRAM: Final = "claude"
GRACE_S: Final = 2.0
"""Between asking the program to end and ending it; the only time that a call may take beyond its deadline."""

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
OUTPUT_BYTES_MAX: Final = 256 * 1024 * 1024
"""Each piece of a reply comes with some 300 bytes around it."""

STDERR_BYTES_KEPT: Final = 8_192
SCHEMA_BYTES_MAX: Final = 100_000
"""It goes on the command line, where Linux takes at most 128 KiB for one argument."""

SESSION_VARIABLES: Final = frozenset(
    {
        *("CLAUDECODE", "AI_AGENT", "CLAUDE_PID", "CLAUDE_EFFORT", "CLAUDE_ENV_FILE", "CLAUDE_PROJECT_DIR"),
        *("CLAUDE_PLUGIN_ROOT", "CLAUDE_PLUGIN_DATA", "CLAUDE_CODE_CHILD_NOTES_DIR"),
        *("CLAUDE_CODE_CHILD_SESSION", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_EXECPATH"),
        *("CLAUDE_CODE_MESSAGING_SOCKET", "CLAUDE_CODE_MESSAGING_TOKEN", "CLAUDE_CODE_SESSION_ATTENDED"),
        *("CLAUDE_CODE_SESSION_ID", "CLAUDE_CODE_SESSION_KIND", "CLAUDE_CODE_SESSION_NAME"),
        *("CLAUDE_CODE_SSE_PORT", "CLAUDE_CODE_TASK_LIST_ID", "CLAUDE_CODE_TOOL_USE_ID"),
    }
)
"""What Claude Code gives the programs that it starts: with them a Claude Code believes to be inside another one.

By name, because others that begin alike are the person's login (CLAUDE_CODE_OAUTH_TOKEN, CLAUDE_CODE_USE_BEDROCK).
"""

ALONE: Final[Mapping[str, str]] = {
    # None of our hooks, wherever they are set up, records what is said here.
    "CCN_PRIVATE": "1",
    # `@path` in a prompt would be read and sent; either of the two is enough.
    "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
    # Nothing from the person's folders comes in, and nothing is left there.
    "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_SKIP_PROMPT_HISTORY": "1",
    # The model that was asked for answers, once: what came is not asked for again by itself.
    "CLAUDE_CODE_NO_MODEL_FALLBACK": "1",
    "CLAUDE_CODE_DISABLE_REFUSAL_FALLBACK": "1",
    "CLAUDE_CODE_DISABLE_REFUSAL_RETRY": "1",
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    "CLAUDE_CODE_DISABLE_ULTRATHINK": "1",
    "CLAUDE_CODE_MAX_RETRIES": "4",
}


class ClaudeCodeModel:
    """`claude -p`, a process for each call. Turns go in as one prompt (`one_prompt`): it takes no others' words."""

    backend = "claude_code"

    def __init__(
        self,
        program: str = PROGRAM,
        *,
        environment: Mapping[str, str] | None = None,
        deadline_s: float = DEADLINE_S_DEFAULT,
        within: Path | None = None,
    ) -> None:
        """`within`: not alone, but as a session of the person would begin in that folder (see `arguments`)."""
        self._program = program
        self._within = within
        self._environment = environment
        self._deadline_s = deadline_s

    def missing(self) -> str:
        """See `ports.LanguageModel`."""
        environment = os.environ if self._environment is None else self._environment  # noqa: TID251  # the child's
        found = shutil.which(self._program, path=environment.get("PATH"))
        return "" if found is not None else CLAUDE_CODE_LINES["no_program"]

    async def answer(
        self,
        asked: Asked,
        reply: Reply,
        *,
        on_text: Callable[[str], None] = lambda _: None,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        """See `ports.LanguageModel`."""
        reply.model = asked.model
        heard: Heard | None = None
        try:
            async with asyncio.timeout(self._deadline_s) as limit:
                heard = Heard(asked, reply, on_text, on_wait, limit)
                await self._ask(asked, heard)
        except TimeoutError:
            if not limit.expired():  # a caller's own
                raise
            reply.end("deadline", LINES["deadline"].format(seconds=f"{self._deadline_s:g}"))
        except asyncio.CancelledError:
            reply.end("cancelled")
            raise
        finally:
            if heard is not None:
                heard.keep()

    async def _ask(self, asked: Asked, heard: Heard) -> None:
        environment = child_environment(
            os.environ if self._environment is None else self._environment,  # noqa: TID251  # the child's, not ours
            asked,
        )
        found = shutil.which(self._program, path=environment.get("PATH"))
        if found is None:
            heard.reply.end("no_program", CLAUDE_CODE_LINES["no_program"])
            return
        schema = "" if asked.schema is None else json.dumps(asked.schema, separators=(",", ":"))
        if len(schema) > SCHEMA_BYTES_MAX:
            said = f"the schema has more than {SCHEMA_BYTES_MAX} bytes"
            heard.reply.end("unsent", LINES["unsent"].format(said=said))
            return
        # It is for us alone: 0700.
        with tempfile.TemporaryDirectory(prefix="ccn-", ignore_cleanup_errors=True) as folder:
            system, empty = _laid_out(Path(folder), asked)
            try:
                process = await asyncio.create_subprocess_exec(
                    found,
                    *arguments(asked, system, schema, alone=self._within is None),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=self._within or empty,
                    env=environment,
                    limit=LINE_BYTES_MAX,
                    **_apart(),
                )
            except OSError as error:
                said = shown(error.strerror or type(error).__name__)
                heard.failed("could not be started", said)
                return
            try:
                await _converse(process, prompt_of(asked), heard)
            finally:
                await _end(process)

    async def aclose(self) -> None:
        """Nothing is held between calls."""


def _laid_out(folder: Path, asked: Asked) -> tuple[Path, Path]:
    """The system parts in a file, and an empty folder to run in."""
    system, empty = folder / "system.md", folder / "empty"
    system.write_bytes("\n\n".join(asked.system).encode("utf-8", "replace"))
    empty.mkdir()
    return system, empty


def arguments(asked: Asked, system: Path, schema: str, *, alone: bool = True) -> list[str]:
    """The command line; nothing that anybody said is on it.

    Not `alone`, the system parts come after Claude Code's own and the person's settings count, as in a session.
    """
    given = ["-p", "--model", asked.model]
    given += ["--system-prompt-file" if alone else "--append-system-prompt-file", str(system)]
    given += ["--tools", "", "--strict-mcp-config", "--disable-slash-commands"]
    given += ["--setting-sources", ""] if alone else []
    given += ["--no-session-persistence", "--output-format", "stream-json", "--include-partial-messages"]
    given += ["--verbose"]  # `-p` streams JSON only with it
    if asked.effort is not None:
        given += ["--effort", asked.effort]
    return given if not schema else [*given, "--json-schema", schema]


def child_environment(environment: Mapping[str, str], asked: Asked) -> dict[str, str]:
    """The person's environment for the child: their login and proxies, but no session around it."""
    kept = {name: value for name, value in environment.items() if name not in SESSION_VARIABLES}
    return {**kept, **ALONE, "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(asked.max_tokens)}


# ---- the process ---------------------------------------------------------------------------------------


async def _converse(process: Process, prompt: str, heard: Heard) -> None:
    """Say the prompt and hear the answer, until it or the program is at its end."""
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise RuntimeError("the pipes of a process were asked for and are not there")
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    beside = (
        asyncio.create_task(_feed(stdin, prompt.encode("utf-8", "replace"))),
        complaining := asyncio.create_task(_tail(stderr)),
    )
    try:
        # Where it did not come to its own end, the caller ends it; nothing more is awaited from it.
        if await _listen(stdout, heard):
            status = await process.wait()
            heard.finish(status, await complaining)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def _listen(stdout: asyncio.StreamReader, heard: Heard) -> bool:
    """Hand on each line; whether they came to their own end."""
    read = 0
    while True:
        try:
            line = await stdout.readline()
        except ValueError:  # longer than LINE_BYTES_MAX
            line, read = b"", OUTPUT_BYTES_MAX + 1
        read += len(line)
        if read > OUTPUT_BYTES_MAX:
            said = f"{OUTPUT_BYTES_MAX} bytes, or {LINE_BYTES_MAX} in one line"
            heard.reply.end("output_too_large", CLAUDE_CODE_LINES["output_too_large"].format(said=said))
            return False
        if not line:
            return True
        if not heard.line(line):
            return False


async def _feed(stdin: asyncio.StreamWriter, prompt: bytes) -> None:
    """Where the program ends before it has read everything this raises, and nobody minds: its output says why."""
    stdin.write(prompt)
    await stdin.drain()
    stdin.close()
    await stdin.wait_closed()


async def _tail(stderr: asyncio.StreamReader) -> str:
    """The end of what the program complained of."""
    kept = b""
    while more := await stderr.read(STDERR_BYTES_KEPT):
        kept = (kept + more)[-STDERR_BYTES_KEPT:]
    return kept.decode("utf-8", "replace")


async def _end(process: Process) -> None:
    """End the program and whatever it started, kindly, then not; nothing of it is left when this returns."""
    if process.returncode is not None:
        return
    try:
        _tell(process, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await process.wait()
    finally:
        _tell(process, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await process.communicate()  # the ends of its pipes


def _tell(process: Process, what: signal.Signals) -> None:
    """Signal the program's group: what it started is in it."""
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.terminate()
        else:
            os.killpg(process.pid, what)


def _apart() -> dict[str, Any]:
    """A group of its own: Ctrl-C goes to us alone, and we end the whole of it."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
