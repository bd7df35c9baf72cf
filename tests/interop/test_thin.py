"""What a hook imports: it runs at every prompt, so each module here is waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import ccn_mcp
from ccn_mcp import settings

WAIT_S: Final = 60
RUN: Final = """
import io, json, sys
sys.stdin = io.TextIOWrapper(io.BytesIO(sys.argv[2].encode()))
import ccn_mcp.__main__
from ccn_mcp.interop.hook import main
out, sys.stdout = sys.stdout, io.StringIO()
assert main([sys.argv[1]]) == 0
print(json.dumps(sorted(sys.modules)), file=out)
"""
OURS: Final = frozenset(
    {
        "ccn_mcp",
        "ccn_mcp.__main__",
        "ccn_mcp.domain",
        "ccn_mcp.domain.entries",
        "ccn_mcp.domain.errors",
        "ccn_mcp.domain.jcs",
        "ccn_mcp.domain.ledger",
        "ccn_mcp.domain.limits",
        "ccn_mcp.domain.masking",
        "ccn_mcp.domain.merkle",
        "ccn_mcp.domain.projection",
        "ccn_mcp.domain.values",
        "ccn_mcp.exclusion",
        "ccn_mcp.interop",
        "ccn_mcp.interop.hook",
        "ccn_mcp.interop.privacy",
        "ccn_mcp.interop.recording",
        "ccn_mcp.settings",
        "ccn_mcp.store",
        "ccn_mcp.store.folders",
        "ccn_mcp.store.lock",
        "ccn_mcp.store.nobody",
        "ccn_mcp.store.secret",
        "ccn_mcp.store.sqlite",
        "ccn_mcp.store.sqlite.append",
        "ccn_mcp.store.sqlite.checks",
        "ccn_mcp.store.sqlite.connect",
        "ccn_mcp.store.sqlite.insert",
        "ccn_mcp.store.sqlite.nodes",
        "ccn_mcp.store.sqlite.tail",
    }
)
"""What a recorded prompt loads of this program, and nothing else. Each one more is some 0.4 ms at every prompt."""

STANDARD: Final = frozenset(
    {
        *(
            "collections",
            "contextlib",
            "copyreg",
            "datetime",
            "enum",
            "errno",
            "fcntl",
            "fnmatch",
            "functools",
            "gc",
        ),
        *(
            "hashlib",
            "ipaddress",
            "itertools",
            "json",
            "keyword",
            "math",
            "nt",
            "ntpath",
            "operator",
            "pathlib",
            "re",
        ),
        *("reprlib", "signal", "sqlite3", "struct", "types", "urllib", "warnings"),
    }
)
"""And of the standard library: most of it comes with json, sqlite3, hashlib and pathlib. `typing` and `dataclasses`
(which brings `inspect`) would be 5 ms and 19 ms more on a start of 11 ms (docs/decisions.md)."""

OF_LATER_VERSIONS: Final = frozenset({"glob", "grp", "pwd"})
"""What the same modules bring in where Python is 3.13 or newer."""

STOP: Final = frozenset({"ccn_mcp.interop.claude_code"})
"""And nothing to correct an instance with, as long as it is the model that answers."""

ANSWER: Final = """\
{"type": "user", "promptId": "p", "timestamp": "2126-01-01T00:00:00Z", "message": {"content": "asked"}}
{"type": "assistant", "message": {"model": "m", "content": [{"type": "text", "text": "an answer"}]}}
"""


def loaded_by(event: str, given: dict[str, object], folder: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, event, json.dumps(given)],
        cwd=Path(ccn_mcp.__file__).parents[1],
        env={"PATH": os.defpath, "HOME": str(folder), "CLAUDE_PROJECT_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    assert done.stderr == ""
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("event", "ours"), [("user-prompt-submit", OURS), ("stop", OURS | STOP), ("stop-failure", OURS | STOP)]
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs finds the user's folders")
def test_a_turn_loads_what_is_listed_here_and_nothing_else(
    event: str, ours: frozenset[str], tmp_path: Path
) -> None:
    transcript = tmp_path / "t.jsonl"
    transcript.write_text(ANSWER)
    given = {
        "session_id": "s",
        "transcript_path": str(transcript),
        "prompt_id": "p",
        "prompt": "sk-ant- a prompt",
    }
    # The second of a store: the first one makes it.
    loaded_by(event, {**given, "prompt_id": "first", "last_assistant_message": "the first answer"}, tmp_path)
    loaded = loaded_by(event, {**given, "last_assistant_message": "an answer"}, tmp_path)
    assert (tmp_path / ".local/share/ccn-mcp/ccn.db").exists(), "it has recorded something"
    assert not (tmp_path / ".config/ccn-mcp/hook-trouble").exists()
    # A virtual environment's own start-up files are not the hook's.
    bare = subprocess.run(
        [sys.executable, "-c", "import io, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    added = loaded - set(bare.stdout.split())
    assert {name for name in added if name.split(".")[0] == "ccn_mcp"} == ours
    others = {name.split(".")[0] for name in added} - {"ccn_mcp"}
    # Those with an underscore are how CPython makes the ones without; they differ from version to version.
    assert {name for name in others if not name.startswith("_")} <= STANDARD | OF_LATER_VERSIONS


@pytest.mark.skipif(sys.platform != "linux", reason="only there we know the folders without platformdirs")
@pytest.mark.parametrize("named", ["", "/elsewhere", "relative"])
def test_the_user_folders_are_those_of_platformdirs(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, named)
    assert settings.data_folder() == Path(platformdirs.user_data_dir("ccn-mcp", appauthor=False))
    assert settings.named_config_folder({}) == Path(platformdirs.user_config_dir("ccn-mcp", appauthor=False))
