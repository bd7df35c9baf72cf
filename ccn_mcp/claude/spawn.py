"""The person's own Claude Code as a process of a new instance: what it is given, and what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from ccn_mcp.claude.claude_code import PROGRAM, SESSION_VARIABLES
from ccn_mcp.claude.claude_code_output import price_of
from ccn_mcp.claude.lines import shown
from ccn_mcp.domain.errors import NotFound
from ccn_mcp.domain.talk import Reply
from ccn_mcp.settings import Settings

PROGRAM_OURS: Final = "ccn-mcp"
NO_PROGRAM: Final = (
    "Claude Code was not found: install it, or put `claude` on the PATH. To talk without it: ccn-mcp chat"
)
RESULT_BYTES_MAX: Final = 64 * 1024 * 1024


class Session(NamedTuple):
    """A session that is about to begin."""

    program: str
    arguments: list[str]
    environment: dict[str, str]


def find_program() -> str:
    """Where `claude` is.

    Raises:
        NotFound: it is not on the PATH.
    """
    found = shutil.which(PROGRAM)
    if found is None:
        raise NotFound(NO_PROGRAM)
    return found


@contextmanager
def prepared(
    chosen: Settings,
    context: str,
    session_id: str,
    *,
    model: str | None,
    plugin: Path | None,
    further: Sequence[str] = (),
) -> Iterator[Session]:
    """A session that begins with `context` after Claude Code's own prompt; the file with it goes afterwards.

    `plugin` is the folder of our plugin, for who has not installed it: its hooks record.
    """
    with tempfile.TemporaryDirectory(
        prefix="ccn-", ignore_cleanup_errors=True
    ) as folder:  # for us alone: 0700
        system = Path(folder) / "context.md"
        system.write_bytes(context.encode("utf-8", "replace"))
        arguments = ["--session-id", session_id, "--append-system-prompt-file", str(system)]
        if model is not None:
            arguments += ["--model", model]
        if plugin is not None:
            arguments += ["--plugin-dir", str(plugin)]
        environment = environment_of(os.environ, chosen, Path(folder))  # noqa: TID251  # the child's, not ours
        yield Session(find_program(), [*arguments, *further], environment)


def environment_of(environment: Mapping[str, str], chosen: Settings, folder: Path) -> dict[str, str]:
    """The person's environment with this store named, and this program first on the PATH: the hooks call it.

    The program alone, by a link in `folder`: beside it stands a Python that the person's own work must not get.
    """
    kept = {name: value for name, value in environment.items() if name not in SESSION_VARIABLES}
    script = Path(sys.executable).with_name(PROGRAM_OURS)
    if script.exists() and sys.platform != "win32":
        (folder / "bin").mkdir()
        (folder / "bin" / PROGRAM_OURS).symlink_to(script)
        kept["PATH"] = os.pathsep.join([str(folder / "bin"), kept.get("PATH", os.defpath)])
    kept["CCN_DB"] = str(chosen.db)
    return kept


def talk(session: Session) -> int:
    """The session in this terminal, until the person ends it; its exit status."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is Claude Code's here
    try:
        return subprocess.call([session.program, *session.arguments], env=session.environment)
    finally:
        signal.signal(signal.SIGINT, before)


def once(session: Session, prompt: str, reply: Reply) -> int:
    """One prompt, without a terminal; fills `reply`. The exit status of Claude Code."""
    arguments = [session.program, "-p", "--output-format", "json", *session.arguments]
    done = subprocess.run(
        arguments,
        env=session.environment,
        input=prompt.encode("utf-8", "replace"),
        capture_output=True,
        check=False,
    )
    result = _result(done.stdout[:RESULT_BYTES_MAX])
    if result is None:
        complaint = shown(done.stderr.decode("utf-8", "replace")[-300:]) or f"exit status {done.returncode}"
        reply.end("failed", f"Claude Code gave no answer: {complaint}")
        return max(1, done.returncode)
    reply.text = str(result.get("result") or "")
    usage = result.get("usage")
    reply.usage = usage if isinstance(usage, dict) else None
    models = result.get("modelUsage")
    if isinstance(models, dict) and len(models) == 1:
        reply.model = str(next(iter(models)))
    reply.spent_usd = price_of(result)
    reply.counted = reply.usage is not None
    if result.get("is_error"):
        reply.end("failed", f"Claude Code could not answer: {shown(reply.text)}")
    else:
        reply.end("end_turn")
    return max(0, done.returncode) or int(not reply.whole)


def _result(output: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(output)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("type") == "result" else None
