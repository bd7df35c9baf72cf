"""What a recorded prompt costs: `ccn-mcp hook user-prompt-submit` from process start to exit, beside `python -c pass`.

    python bench/hook.py [RUNS]

They are run in turn, and what counts is the median of the ratios round by round, so that a slow minute of the machine
hits all alike. The hook writes to a store that other sessions have used before and that no server holds open. Shown
beside it, without a limit: the least that a durable chained insert costs with the public modules of the standard
library, and `hook stop` with a transcript of a few hundred lines.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

RUNS_DEFAULT: Final = 40
RUNS_MIN: Final = 30
RATIO_MAX: Final = 4.0
RUN_S_MAX: Final = 60
TURNS: Final = 200
"""Prompts with an answer each that the transcript has."""

CHAINED: Final = """
import hashlib, json, sqlite3, sys
given = json.load(sys.stdin)
log = sqlite3.connect(sys.argv[1], isolation_level=None)
log.execute("PRAGMA journal_mode = WAL")
log.execute("PRAGMA synchronous = FULL")
log.execute("CREATE TABLE IF NOT EXISTS entry (seq INTEGER PRIMARY KEY, leaf BLOB, body BLOB)")
log.execute("BEGIN IMMEDIATE")
last = log.execute("SELECT leaf FROM entry ORDER BY seq DESC LIMIT 1").fetchone() or (bytes(32),)
body = json.dumps(given).encode()
log.execute("INSERT INTO entry (leaf, body) VALUES (?, ?)", (hashlib.sha256(last[0] + body).digest(), body))
log.execute("COMMIT")
log.close()
"""


def timed(command: list[str], stdin: bytes, env: dict[str, str]) -> float:
    """Milliseconds of one process, which has to succeed."""
    begun = time.perf_counter()
    subprocess.run(command, input=stdin, env=env, capture_output=True, check=True, timeout=RUN_S_MAX)
    return (time.perf_counter() - begun) * 1_000


def line_of(side: str, number: int, at_s: float = 0) -> str:
    """One line of a transcript, as Claude Code writes them."""
    text = f"{side} of turn {number}. " * 20
    content = text if side == "user" else [{"type": "text", "text": text}]
    return json.dumps(
        {
            "type": side,
            "uuid": f"{side}-{number}",
            "promptId": f"p{number}",
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.999Z", time.gmtime(at_s)),
            "message": {"role": side, "model": "a-model", "content": content},
        }
    )


def main() -> int:
    """Print all of them and their ratios; 1 if that of the prompt is above the limit."""
    runs = max(RUNS_MIN, int(sys.argv[1]) if len(sys.argv) > 1 else RUNS_DEFAULT)
    with tempfile.TemporaryDirectory() as folder:
        env = {
            "PATH": os.defpath,
            "HOME": folder,
            "CCN_DB": f"{folder}/ccn.db",
            "CCN_CONFIG_DIR": f"{folder}/config",
        }
        script = str(Path(sys.executable).with_name("ccn-mcp"))
        transcript = Path(folder, "transcript.jsonl")
        sides = ("user", "assistant")
        transcript.write_text("".join(f"{line_of(side, at)}\n" for at in range(TURNS) for side in sides))

        def given(number: int, **more: str) -> bytes:
            return json.dumps(
                {"session_id": "bench", "cwd": folder, "prompt_id": f"p{number}", **more}
            ).encode()

        def floor(_number: int) -> float:
            return timed([sys.executable, "-c", "pass"], b"", env)

        def chained(number: int) -> float:
            return timed([sys.executable, "-c", CHAINED, f"{folder}/chained.db"], given(number), env)

        def prompt(number: int) -> float:
            said = given(number, prompt=f"Prompt {number}. " * 20)
            return timed([script, "hook", "user-prompt-submit"], said, env)

        def stop(number: int) -> float:
            # An answer that the transcript does not have would be waited for.
            with transcript.open("a") as out:
                out.write("".join(f"{line_of(side, TURNS + number, time.time())}\n" for side in sides))
            answer = f"assistant of turn {TURNS + number}. " * 20
            said = given(TURNS + number, transcript_path=str(transcript), last_assistant_message=answer)
            return timed([script, "hook", "stop"], said, env)

        kinds = {"python -c pass": floor, "chained insert": chained, "hook prompt": prompt, "hook stop": stop}
        for warm in (-1, -2):
            for run in kinds.values():
                run(warm)
        rounds = [[run(number) for run in kinds.values()] for number in range(runs)]
    ratios = []
    for name, times in zip(kinds, zip(*rounds, strict=True), strict=True):
        ratios.append(statistics.median(one / first[0] for one, first in zip(times, rounds, strict=True)))
        print(
            f"{name:15} min {min(times):6.1f} ms  median {statistics.median(times):6.1f} ms  "
            f"{ratios[-1]:5.2f} times the first (median of {runs} rounds)"
        )
    print(f"limit of `hook prompt`: {RATIO_MAX:g}")
    return int(ratios[2] > RATIO_MAX)


if __name__ == "__main__":
    sys.exit(main())
