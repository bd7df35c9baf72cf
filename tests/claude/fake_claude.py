"""A small `claude` for tests: it prints what the real one printed (recorded/*.jsonl, by 2.1.330), and nothing else.

FAKE_RECORDING names the file; FAKE_SEEN gets what it was given, as JSON. FAKE_HOLD makes it stop after that many
pieces of text, forever; FAKE_STUBBORN ignores requests to end, in a child of its own too. FAKE_STATUS and FAKE_STDERR
are how it ends; FAKE_REST prints raw text after the recording.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
)


def main() -> int:
    """The program."""
    env = os.environ  # noqa: TID251  # the test's means to say what it does
    prompt = sys.stdin.buffer.read().decode()
    child = 0
    if "FAKE_STUBBORN" in env:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        started = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
        assert started.stdout is not None
        started.stdout.readline()
        child = started.pid
    if "FAKE_SEEN" in env:
        named = sys.argv[sys.argv.index("--system-prompt-file") + 1]
        seen = {
            "prompt": prompt,
            "arguments": sys.argv[1:],
            "environment": dict(env),
            "cwd": os.listdir(),  # noqa: PTH208  # names are enough
            "system": Path(named).read_text("utf-8"),
            "system_mode": Path(named).parent.stat().st_mode & 0o777,
            "pids": [os.getpid(), child],
        }
        Path(env["FAKE_SEEN"]).write_text(json.dumps(seen), "utf-8")
    pieces = 0
    if "FAKE_RECORDING" in env:
        for line in Path(env["FAKE_RECORDING"]).read_text("utf-8").splitlines():
            print(line, flush=True)
            pieces += '"text_delta"' in line
            if str(pieces) == env.get("FAKE_HOLD"):
                while True:
                    signal.pause()
    sys.stdout.write(env.get("FAKE_REST", ""))
    sys.stderr.write(env.get("FAKE_STDERR", ""))
    return int(env.get("FAKE_STATUS", "0"))


if __name__ == "__main__":
    sys.exit(main())
