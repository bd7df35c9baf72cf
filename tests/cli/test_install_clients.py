"""Where each client keeps its servers, on every platform: a pure function, so all of them are tried on each."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccn_mcp.cli.install_clients import CLIENTS, DESKTOP_FILE, place
from ccn_mcp.domain.errors import Refused

DESKTOP = CLIENTS["claude-desktop"]
MAC, ROAMING = "Library/Application Support", "AppData/Roaming"


@pytest.mark.parametrize(
    ("client", "platform", "expected"),
    [
        ("claude-desktop", "darwin", f"{MAC}/Claude/claude_desktop_config.json"),
        ("claude-desktop", "linux", ".config/Claude/claude_desktop_config.json"),
        ("claude-desktop", "win32", f"{ROAMING}/Claude/claude_desktop_config.json"),
        ("vscode", "darwin", f"{MAC}/Code/User/mcp.json"),
        ("vscode", "linux", ".config/Code/User/mcp.json"),
        ("vscode", "win32", f"{ROAMING}/Code/User/mcp.json"),
        *(("cursor", platform, ".cursor/mcp.json") for platform in ("darwin", "linux", "win32")),
    ],
)
def test_the_file_of_each_client_on_each_platform(
    tmp_path: Path, client: str, platform: str, expected: str
) -> None:
    assert place(CLIENTS[client], platform, {}, tmp_path) == tmp_path / expected


@pytest.mark.parametrize("client", ["claude-desktop", "vscode"])
def test_a_platform_s_variable_moves_it(tmp_path: Path, client: str) -> None:
    moved = {"XDG_CONFIG_HOME": "/elsewhere/config", "APPDATA": "/elsewhere/roaming"}
    found = {
        name: place(CLIENTS[client], name, moved, tmp_path).as_posix()
        for name in ("darwin", "linux", "win32")
    }
    assert found["linux"].startswith("/elsewhere/config/")
    assert found["win32"].startswith("/elsewhere/roaming/")
    assert found["darwin"].startswith(tmp_path.as_posix())


def test_a_relative_xdg_folder_counts_for_nothing(tmp_path: Path) -> None:
    found = place(DESKTOP, "linux", {"XDG_CONFIG_HOME": "somewhere"}, tmp_path)
    assert found.parent == tmp_path / ".config" / "Claude", "the XDG specification wants it ignored"


def packaged(home: Path, name: str) -> Path:
    folder = home / "AppData" / "Local" / "Packages" / name / "LocalCache" / "Roaming" / "Claude"
    folder.mkdir(parents=True)
    return folder


def test_a_packaged_installation_on_windows_goes_first(tmp_path: Path) -> None:
    (tmp_path / "AppData" / "Roaming" / "Claude").mkdir(parents=True)
    folder = packaged(tmp_path, "Claude_pzs8sxrjxfjjc")
    assert place(DESKTOP, "win32", {}, tmp_path).parent == folder


def test_of_several_packaged_installations_the_one_in_use(tmp_path: Path) -> None:
    packaged(tmp_path, "Claude_a")
    second = packaged(tmp_path, "Claude_b")
    with pytest.raises(Refused, match="several"):
        place(DESKTOP, "win32", {}, tmp_path)
    (second / DESKTOP_FILE).write_text("{}")
    assert place(DESKTOP, "win32", {}, tmp_path).parent == second
