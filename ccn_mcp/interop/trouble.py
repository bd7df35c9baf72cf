"""What went wrong in a hook, for `ccn-mcp doctor`: a hook itself never complains and never holds anybody up."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from ccn_mcp.domain.errors import CcnError
from ccn_mcp.store.folders import make_folders

FILE: Final = "hook-trouble"
LINES_MAX: Final = 50
LINE_CHARS_MAX: Final = 400


def note(folder: Path, event: str, error: BaseException | str) -> None:
    """Keep one line about it, the newest `LINES_MAX` of them; where even that fails, nothing.

    Of an error that this program did not foresee only its kind and place are kept: its words may quote a message.
    """
    with suppress(OSError, ValueError):
        make_folders(folder)
        file = folder / FILE
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {event}: {_words(error)}"
        kept = [*read(folder), " ".join(line.split())[:LINE_CHARS_MAX]][-LINES_MAX:]
        draft = file.with_name(f"{FILE}.{os.getpid()}")
        with os.fdopen(
            os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as out:
            out.write("".join(f"{item}\n" for item in kept))
        draft.replace(file)


def read(folder: Path) -> list[str]:
    """What hooks could not do, oldest first, a line each (time, event, reason); at most `LINES_MAX`."""
    with suppress(OSError):
        return (folder / FILE).read_text("utf-8", "replace").splitlines()[-LINES_MAX:]
    return []


def _words(error: BaseException | str) -> str:
    if isinstance(error, str):
        return error
    if isinstance(error, CcnError):
        return f"{error.code}: {error}"
    place, trace = "", error.__traceback__
    while trace is not None:
        place, trace = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}", trace.tb_next
    return f"unexpected {type(error).__name__}{place}"
