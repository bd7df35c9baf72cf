"""What a recorded prompt costs: `ccn-mcp hook user-prompt-submit` from process start to exit, beside `python -c pass`.

    python bench/hook.py [RUNS]

The two are run in turn, and what counts is the median of the ratios pair by pair, so that a slow minute of the machine
hits both alike. The hook writes to a store that other sessions have used before and that no server holds open.
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


def timed(command: list[str], stdin: bytes, env: dict[str, str]) -> float:
    """Milliseconds of one process, which has to succeed."""
    begun = time.perf_counter()
    subprocess.run(command, input=stdin, env=env, capture_output=True, check=True, timeout=RUN_S_MAX)
    return (time.perf_counter() - begun) * 1_000


def main() -> int:
    """Print both and their ratio; 1 if it is above the limit."""
    runs = max(RUNS_MIN, int(sys.argv[1]) if len(sys.argv) > 1 else RUNS_DEFAULT)
    with tempfile.TemporaryDirectory() as folder:
        env = {
            "PATH": os.defpath,
            "HOME": folder,
            "CCN_DB": f"{folder}/ccn.db",
            "CCN_CONFIG_DIR": f"{folder}/config",
        }
        script = str(Path(sys.executable).with_name("ccn-mcp"))

        def hook(number: int) -> float:
            given = {
                "session_id": "bench",
                "cwd": folder,
                "prompt_id": f"p{number}",
                "prompt": f"Prompt {number}. " * 20,
            }
            return timed([script, "hook", "user-prompt-submit"], json.dumps(given).encode(), env)

        def floor() -> float:
            return timed([sys.executable, "-c", "pass"], b"", env)

        for warm in (-1, -2):
            hook(warm), floor()
        pairs = [(hook(number), floor()) for number in range(runs)]
    hooks, floors = zip(*pairs, strict=True)
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"hook   min {min(hooks):6.1f} ms  median {statistics.median(hooks):6.1f} ms")
    print(f"floor  min {min(floors):6.1f} ms  median {statistics.median(floors):6.1f} ms   (python -c pass)")
    print(
        f"ratio  min/min {min(hooks) / min(floors):.2f}  median of {runs} pairs {ratio:.2f}  (limit {RATIO_MAX:g})"
    )
    return int(ratio > RATIO_MAX)


if __name__ == "__main__":
    sys.exit(main())
