"""The panel in a real headless browser: in a host's sandbox, and by `ccn-mcp open`. Screenshots stay as artefacts.

The host is the official one (`AppBridge` of @modelcontextprotocol/ext-apps) over the official TypeScript client, which
talks to our server on stdin and stdout. Screenshots go to CCN_ARTEFACTS, or to the test's own folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cli.conftest import on_store
from tests.clients.harness import Json, bare_environment, server_arguments
from tests.clients.npm import (
    ESBUILD,
    EXT_APPS,
    LINUX_ONLY,
    PLAYWRIGHT,
    TS_CLIENT2,
    ZOD,
    fetched_together,
)
from tests.server.page_wire import PageServer

pytestmark = [pytest.mark.slow, LINUX_ONLY]

HERE: Final = Path(__file__).parent
BROWSERS: Final = ("chromium-headless-shell", "chromium")
LOOK_S_MAX: Final = 240.0
PNG_BYTES_MIN: Final = 5_000
WORDS: Final = "What did we decide about seventeen herons?"
HOSTILE: Final = (
    '<img src="http://outside.test/x" onerror="window.hit=1"><script>window.hit=1</script> seventeen herons'
)
DARK_MAX: Final = 80
LIGHT_MIN: Final = 200
ROW_PX_MAX: Final = 70
"""Two lines of text at most."""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Three instances with four reports each, and a message that would be markup if anybody let it."""
    path = tmp_path / "data" / "ccn.db"

    async def fill(node: Any) -> None:
        baseline = (await node.plate()).baseline
        who = [await node.load_plate(session_id=f"s{n}", model="m", title=f"Talk {n}") for n in range(3)]
        for n in range(12):
            text = HOSTILE if n == 5 else f"line {n} about ferries"
            await node.record_message(
                ("user", "assistant")[n % 2], text, conversation_id=who[0]["conversation_id"]
            )
        for turn in range(4):
            for at, loaded in enumerate(who):
                traits = [value - 0.01 * turn * (at == 2) for value in baseline]
                related = [0.8 - 0.1 * turn] * 7
                await node.report_character_vector(
                    traits, instance_id=loaded["instance_id"], relational=related
                )

    on_store(path, fill)
    return path


def look(factory: pytest.TempPathFactory, tmp_path: Path, **told: Any) -> tuple[Json, Path]:
    """Let the browser look; what it saw, and the folder of its pictures."""
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.fail("no browser: install Debian's chromium-headless-shell first")
    folder = fetched_together(factory, EXT_APPS, TS_CLIENT2, ZOD, ESBUILD, PLAYWRIGHT)
    for name in ("panel_browser.mjs", "panel_host.js"):
        shutil.copy(HERE / name, folder)  # Node looks for packages beside the script
    kept = os.environ.get("CCN_ARTEFACTS")  # noqa: TID251  # where whoever runs this wants the pictures
    pictures = Path(kept) / "panel" if kept else tmp_path / "pictures"
    wanted = {
        "chromium": chromium,
        "pictures": str(pictures),
        "host": str(folder / "panel_host.js"),
        "words": WORDS,
        **told,
    }
    node = shutil.which("node")
    assert node is not None
    done = subprocess.run(
        [node, str(folder / "panel_browser.mjs"), json.dumps(wanted)],
        env=bare_environment(tmp_path / "browser"),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LOOK_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    seen: Json = json.loads(done.stdout)
    return seen, pictures


def check(seen: Json, pictures: Path, prefix: str) -> None:
    """What holds in both places."""
    assert (seen["outside"], seen["complaints"]) == ([], [])
    found = seen["found"]
    for theme in ("light", "dark"):
        shown = found[theme]
        assert "3 connected, 3 voting" in shown["instances"]
        assert shown["drift"].count("consistency (CCC)") == 3
        assert "collaboration" in shown["traits"]
        assert "A self-report: telemetry, no proof of character." in shown["traits"]
        assert "0.98" in shown["traits"]
        assert "emotional resonance" in shown["traits"]
        for name in ("instances", "drift", "traits"):
            made = pictures / f"{prefix}-{theme}-{name}.png"
            assert made.stat().st_size > PNG_BYTES_MIN, made
    drawn = found["drawn"]
    assert list(drawn) == ["drift", "ccc", "t1", "r0"]
    assert [shown["heading"] for shown in drawn.values()] == [
        "Drift over time",
        "Consistency (CCC) over time",
        "warmth over time",
        "trust over time",
    ]
    for shown in drawn.values():
        # Four reports a line, and something else where there is something to compare with.
        assert shown["dots"] == [4, 4, 4]
        assert shown["focus"] == "measure"
    assert [len(shown["lines"]) for shown in drawn.values()] == [2, 1, 3, 1]
    # The third instance moved by .01 a report; CCC is 1 less that. The axis of trust spans 0 to 1.
    assert "CCC) of" in drawn["ccc"]["label"]
    for name, last in {"drift": "0.030", "ccc": "0.970", "t1": "0.670", "r0": "0.500"}.items():
        assert last in drawn[name]["label"]
    assert all(len(set(shown["heights"])) == 4 for shown in drawn.values()), (
        "four different values, four heights"
    )
    assert found["options"] == 2 + 16 + 7
    assert found["sparks"] == 16 + 7
    assert found["talks"] == [3, 1]
    assert channels(found["light"]["colour"]) > LIGHT_MIN
    assert channels(found["dark"]["colour"]) < DARK_MAX
    assert found["keys"] == ["Drift", "Traits", "Record", "Instances", "Record", "Instances", "instances"]
    looked = "No message has all of these words. Looked for: seventeen herons?"
    assert found["followed"] == {"looked": looked, "said": HOSTILE, "focused": "meant", "elements": 0}


def channels(colour: str) -> int:
    """The darkest and lightest channel's mean of `rgb(r, g, b)`."""
    numbers = [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    return (min(numbers) + max(numbers)) // 2


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_in_a_hosts_sandbox(
    db: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, mode: str
) -> None:
    home = tmp_path / "server"
    server = {
        "command": sys.executable,
        "args": server_arguments(db),
        "env": bare_environment(home),
        "cwd": str(home),
    }
    seen, pictures = look(tmp_path_factory, tmp_path, server=server, mode=mode)
    check(seen, pictures, "host")
    found = seen["found"]
    assert found["mime"] == "text/html;profile=mcp-app"
    assert "Assurance: level" in found["light"]["check"]
    assert found["light"]["head"].startswith("Head ")
    assert channels(found["turned"]) > LIGHT_MIN
    assert set(seen["calls"]) == {"verify_chain", "get_history"}


def test_without_claude(db: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with PageServer(db, tmp_path / "home") as page:
        seen, pictures = look(tmp_path_factory, tmp_path, url=page.url)
    check(seen, pictures, "page")
    found = seen["found"]
    assert "token" not in found["address"]
    assert "/#c/c_" in found["address"]
    assert found["again"] == HOSTILE
    assert found["hit"] == [True, ""]
    assert found["overflow"] <= 0
    assert found["tallest"] <= ROW_PX_MAX, "a narrow window must not break words"
