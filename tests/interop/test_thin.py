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
sys.argv = ["ccn-mcp", "hook", sys.argv[1]]
from ccn_mcp.__main__ import main
out, sys.stdout = sys.stdout, io.StringIO()
try:
    main()
except SystemExit as end:
    assert end.code == 0
print(json.dumps(sorted(sys.modules)), file=out)
"""
OURS: Final = frozenset(
    [
        "ccn_mcp",
        "ccn_mcp.__main__",
        "ccn_mcp.exclusion",
        "ccn_mcp.ports",
        "ccn_mcp.settings",
        "ccn_mcp.interop",
        "ccn_mcp.interop.claude_code",
        "ccn_mcp.interop.hook",
        "ccn_mcp.interop.privacy",
        "ccn_mcp.interop.recording",
    ]
)
PURE: Final = ("ccn_mcp.domain", "ccn_mcp.store")
HEAVY: Final = frozenset(
    [
        "asyncio",
        "anyio",
        "numpy",
        "yaml",
        "ccn_mcp.domain.consensus",
        "ccn_mcp.domain.character",
        "ccn_mcp.domain.plate",
        "ccn_mcp.store.keys",
        "ccn_mcp.store.ed25519",
        "ccn_mcp.store.sqlite.store",
        "ccn_mcp.store.timestamps",
    ]
)


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


@pytest.mark.parametrize("event", ["user-prompt-submit", "stop", "stop-failure"])
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs finds the user's folders")
def test_a_turn_loads_the_standard_library_and_the_pure_modules_alone(event: str, tmp_path: Path) -> None:
    transcript = tmp_path / "t.jsonl"
    transcript.write_text("")
    given = {
        "session_id": "s",
        "transcript_path": str(transcript),
        "prompt_id": "p",
        "prompt": "sk-ant- a prompt",
    }
    loaded = loaded_by(event, {**given, "last_assistant_message": "an answer"}, tmp_path)
    assert (tmp_path / ".local/share/ccn-mcp/ccn.db").exists(), "it has recorded something"
    ours = {name for name in loaded if name.split(".")[0] == "ccn_mcp"}
    assert {name for name in ours - OURS if not name.startswith(PURE)} == set()
    # A virtual environment's own start-up files are not the hook's.
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    tops = {name.split(".")[0] for name in loaded - set(bare.stdout.split())}
    assert tops - set(sys.stdlib_module_names) - {"ccn_mcp"} == set()
    assert not loaded & HEAVY


@pytest.mark.skipif(sys.platform != "linux", reason="only there we know the folders without platformdirs")
@pytest.mark.parametrize("named", ["", "/elsewhere", "relative"])
def test_the_user_folders_are_those_of_platformdirs(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, named)
    assert settings.data_folder() == Path(platformdirs.user_data_dir("ccn-mcp", appauthor=False))
    assert settings.named_config_folder({}) == Path(platformdirs.user_config_dir("ccn-mcp", appauthor=False))
