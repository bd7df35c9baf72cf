"""Run the commands of this folder's README through MCP Inspector and check what comes back."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NODE_MIN = (22, 19)
LIMIT_S = 300


def commands() -> list[list[str]]:
    """The lines below `<!-- commands -->`."""
    text = Path(__file__).with_name("README.md").read_text("utf-8")
    block = text.split("<!-- commands -->")[1].split("```")[1]
    return [shlex.split(line) for line in block.splitlines() if line.startswith("npx ")]


def missing() -> str | None:
    """What is not there, if anything."""
    node = shutil.which("node")
    if shutil.which("npx") is None or node is None:
        return "there is no npx on the PATH"
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < NODE_MIN:
        return f"Node is {said.strip()}, and Inspector needs {NODE_MIN[0]}.{NODE_MIN[1]} or newer"
    return None


def run(command: list[str], db: Path) -> dict[str, Any]:
    """One command; its JSON answer."""
    path = os.pathsep.join((os.environ["PATH"], str(Path(sys.executable).parent)))  # noqa: TID251  # no settings of ours
    npx = shutil.which(command[0])
    assert npx is not None
    # Inspector passes on what it is given by -e and nothing else; without it the person's own store would be used.
    at = command.index("--cli") + 1
    done = subprocess.run(
        [npx, "--yes", *command[1:at], "-e", f"CCN_DB={db}", *command[at:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env={**os.environ, "PATH": path},  # noqa: TID251  # as a shell would pass it on
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    """List, record, find, verify."""
    if (lacking := missing()) is not None:
        print(f"skipped: {lacking}")
        return
    with tempfile.TemporaryDirectory() as folder:
        listed, recorded, found, checked = (run(command, Path(folder, "ccn.db")) for command in commands())
    assert {"load_plate", "record_message", "get_history"} <= {tool["name"] for tool in listed["tools"]}
    assert recorded["structuredContent"]["n"] == 1
    assert found["structuredContent"]["hits"][0]["excerpt"] == "Remember the harbour."
    assert checked["structuredContent"]["ok"] is True
    print("Inspector sees what it should")


if __name__ == "__main__":
    main()
