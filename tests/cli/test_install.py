"""`ccn-mcp install`: our entry comes and goes, and nothing else in a person's configuration ever does."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from ccn_mcp.cli import install_claude
from ccn_mcp.cli.install_clients import DESKTOP_FILE
from ccn_mcp.cli.install_file import inserted, is_ours, removed, write
from ccn_mcp.domain.errors import BadInput, Conflict, Refused
from tests.cli.conftest import Ran, Run
from tests.cli.test_plate import at_a_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fake programs are shell scripts")

ENTRY: dict[str, Any] = {"command": "/opt/a b/ccn-mcp", "args": ["serve"]}
OTHERS = """{
    "zeta": 1e3,
    "mcpServers": {
        "weather": {"command": "wx", "args": ["--city", "Bergen"], "env": {"KEY": "s3cret"}}
    },
    "alpha": {"unknown": [1, 2.50, null], "name": "Møns Klint"}
}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Claude Desktop's file, in its folder, with a space in the path."""
    folder = tmp_path / "a home" / "Claude"
    folder.mkdir(parents=True)
    return folder / "claude_desktop_config.json"


def put(file: Path) -> Path | None:
    return write(inserted(file, "ccn", ENTRY))


def take(file: Path) -> Path | None:
    return write(removed(file, "ccn"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def siblings(file: Path) -> list[str]:
    return sorted(path.name for path in file.parent.iterdir())


def test_everything_that_is_there_stays_in_its_order(file: Path) -> None:
    file.write_text(OTHERS)
    backup = put(file)
    after = json.loads(file.read_text())
    assert list(after) == ["zeta", "mcpServers", "alpha"]
    assert list(after["mcpServers"]) == ["weather", "ccn"]
    assert after["mcpServers"]["ccn"] == ENTRY
    del after["mcpServers"]["ccn"]
    assert after == json.loads(OTHERS)
    assert "Møns Klint" in file.read_text()
    assert '\n    "zeta"' in file.read_text(), "its own indentation stays"
    assert backup is not None
    assert (backup.read_text(), mode(backup)) == (OTHERS, 0o600)
    assert siblings(file) == [file.name, backup.name], "nothing temporary is left"


def test_undo_brings_back_every_byte(file: Path) -> None:
    file.write_text(OTHERS)
    put(file)
    assert take(file) is None
    assert file.read_text() == OTHERS
    assert siblings(file) == [file.name]
    assert not removed(file, "ccn").changes


def test_undo_after_other_changes_takes_only_ours(file: Path) -> None:
    file.write_text(OTHERS)
    put(file)
    document = json.loads(file.read_text())
    document["mcpServers"]["later"] = {"command": "x"}
    file.write_text(json.dumps(document))
    take(file)
    del document["mcpServers"]["ccn"]
    assert json.loads(file.read_text()) == document


def test_doing_it_twice_changes_nothing(file: Path) -> None:
    file.write_text(OTHERS)
    put(file)
    before = file.read_bytes()
    assert not inserted(file, "ccn", ENTRY).changes
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b" \n", b"{}", b'{"mcpServers": {}}\n', b"\xef\xbb\xbf"])
def test_an_absent_or_empty_file_becomes_one_with_our_entry(file: Path, content: bytes | None) -> None:
    if content is not None:
        file.write_bytes(content)
    put(file)
    assert json.loads(file.read_bytes()) == {"mcpServers": {"ccn": ENTRY}}
    take(file)
    held = bool((content or b"").removeprefix(b"\xef\xbb\xbf").strip())
    assert siblings(file) == ([file.name] if held else []), (
        "what we made ourselves goes, and no copy of it stays"
    )
    assert not held or file.read_bytes() == content


def test_what_somebody_added_to_a_file_of_ours_stays(file: Path) -> None:
    put(file)
    laid_out = json.dumps({"mcpServers": {"ccn": {**ENTRY, "env": {"KEY": "s3cret"}}}}, indent=2) + "\n"
    for edited in (file.read_text().replace("{", "{ ", 1), laid_out):
        file.write_text(edited)
        backup = take(file)
        assert "ccn" not in file.read_text()
        assert backup is not None
        assert backup.read_text() == edited


def test_a_file_of_ours_that_was_brought_up_to_date_goes_without_a_trace(file: Path) -> None:
    write(inserted(file, "ccn", {**ENTRY, "command": "/old/ccn-mcp"}))
    assert put(file) is None, "nothing of the person's is in it"
    take(file)
    assert siblings(file) == []


def test_undo_never_brings_back_an_older_entry_of_ours(file: Path) -> None:
    file.write_text(
        json.dumps({"mcpServers": {"ccn": {**ENTRY, "command": "/old/ccn-mcp"}}, "theme": "dark"})
    )
    put(file)
    take(file)
    assert json.loads(file.read_text()) == {"mcpServers": {}, "theme": "dark"}


def test_a_file_of_ours_that_changes_meanwhile_stays(file: Path) -> None:
    put(file)
    change = removed(file, "ccn")
    file.write_text('{"newer": true}')
    with pytest.raises(Conflict):
        write(change)
    assert file.read_text() == '{"newer": true}'


def test_a_new_file_is_private_and_an_old_one_keeps_its_mode(file: Path) -> None:
    put(file)
    assert mode(file) == 0o600
    file.write_text(OTHERS)
    file.chmod(0o644)
    put(file)
    assert mode(file) == 0o644
    take(file)
    assert mode(file) == 0o644


def test_a_byte_order_mark_is_read_and_left_out(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + OTHERS.replace("\n", "\r\n").encode())
    put(file)
    after = file.read_bytes()
    assert after.startswith(b"{\r\n"), "JSON may not have one; line ends stay"
    assert b"\n" not in after.replace(b"\r\n", b"")
    take(file)
    assert file.read_bytes().startswith(b"\xef\xbb\xbf"), "undo restores what was there"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{\n  // my servers\n  "a": 1\n}', "line 2, column 3.*no comments"),
        (b'{"a": 1,}', "line 1, column"),
        (b'{"a": 1, "a": 2}', "'a' twice"),
        (b'{"a": NaN}', "NaN"),
        (b"[1]", "no JSON object"),
        (b'{"mcpServers": []}', "not an object"),
        ('{"a": "é"}'.encode("latin-1"), "not UTF-8"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b"[" * 100_000, "not plain JSON"),
    ],
)
def test_what_is_not_plain_json_is_refused_and_stays(file: Path, content: bytes, said: str) -> None:
    file.write_bytes(content)
    with pytest.raises(BadInput, match=said):
        put(file)
    assert file.read_bytes() == content
    assert siblings(file) == [file.name]


def test_half_an_emoji_survives(file: Path) -> None:
    file.write_text('{"odd": "\\ud83d"}')
    put(file)
    assert json.loads(file.read_text())["odd"] == "\ud83d"


def test_a_read_only_file_is_refused(file: Path) -> None:
    file.write_text(OTHERS)
    file.chmod(0o444)
    with pytest.raises(Refused, match="read-only"):
        put(file)
    assert file.read_text() == OTHERS
    assert siblings(file) == [file.name]


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "claude.json"
    real.parent.mkdir()
    real.write_text(OTHERS)
    file.symlink_to(real)
    backup = put(file)
    assert file.is_symlink()
    assert "ccn" in json.loads(real.read_text())["mcpServers"]
    assert backup is not None
    assert backup.parent == real.parent


def test_a_link_to_itself_and_a_folder_are_refused(file: Path) -> None:
    file.symlink_to(file)
    with pytest.raises((BadInput, OSError)):
        put(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(BadInput, match="no regular file"):
        put(file)


def test_another_program_of_that_name_is_left_alone(file: Path) -> None:
    other = '{"mcpServers": {"ccn": {"command": "npx", "args": ["ccn-other"]}}}'
    file.write_text(other)
    with pytest.raises(Conflict):
        put(file)
    with pytest.raises(Conflict):
        take(file)
    assert file.read_text() == other


def test_an_older_entry_of_ours_keeps_what_the_person_added(file: Path) -> None:
    old = {"command": "/old/ccn-mcp.exe", "args": ["serve", "--db", "/my/own.db"], "env": {"CCN_SCOPE": "x"}}
    file.write_text(json.dumps({"mcpServers": {"ccn": old}}))
    put(file)
    after = json.loads(file.read_text())["mcpServers"]["ccn"]
    assert after == {**ENTRY, "args": ["serve", "--db", "/my/own.db"], "env": {"CCN_SCOPE": "x"}}


def test_a_file_that_changes_meanwhile_is_not_overwritten(file: Path) -> None:
    file.write_text(OTHERS)
    change = inserted(file, "ccn", ENTRY)
    file.write_text('{"newer": true}')
    with pytest.raises(Conflict):
        write(change)
    assert file.read_text() == '{"newer": true}'


def test_backups_never_replace_each_other(file: Path) -> None:
    kept = []
    for number in range(3):
        file.write_text(json.dumps({"number": number}))
        kept.append(put(file))
    assert len(set(kept)) == 3
    assert [json.loads(path.read_text())["number"] for path in kept if path] == [0, 1, 2]


@pytest.mark.parametrize(
    ("entry", "ours"),
    [
        ({"command": "ccn-mcp", "args": ["serve"]}, True),
        ({"command": r"C:\Tools\ccn-mcp.exe", "args": ["serve"]}, True),
        ({"command": "uv", "args": ["run", "--directory", "/x", "ccn-mcp", "serve"]}, True),
        ({"command": "/usr/bin/python3", "args": ["-m", "ccn_mcp", "serve"]}, True),
        ({"command": "npx", "args": ["weather"]}, False),
        ({"url": "https://example.com/ccn-mcp"}, False),
        ("ccn-mcp", False),
        ({"command": "x", "args": "ccn-mcp"}, False),
    ],
)
def test_is_ours(entry: object, ours: bool) -> None:
    assert is_ours(entry) is ours


# ---- the command ---------------------------------------------------------------------------------------


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Claude Desktop of this test's home folder, on Linux."""
    monkeypatch.setattr(sys, "platform", "linux")
    folder = tmp_path / "home" / ".config" / "Claude"
    folder.mkdir(parents=True)
    return folder / DESKTOP_FILE


def test_without_a_terminal_it_only_shows(cli: Run, desktop: Path) -> None:
    desktop.write_text(OTHERS)
    ran = cli("install", "claude-desktop")
    assert ran.status == 0
    assert '+        "ccn": {' in ran.out
    assert "--yes" in ran.out
    assert desktop.read_text() == OTHERS
    assert siblings(desktop) == [desktop.name]


def test_done_then_again_then_undone(cli: Run, desktop: Path) -> None:
    desktop.write_text(OTHERS)
    ran = cli("install", "claude-desktop", "--yes", "--json")
    done = json.loads(ran.out)
    assert (done["written"], done["file"]) == (True, str(desktop))
    entry = json.loads(desktop.read_text())["mcpServers"]["ccn"]
    assert Path(entry["command"]).is_absolute(), "Claude Desktop does not know the PATH of a shell"
    assert entry["args"][-1] == "serve"
    assert "connected already" in cli("install", "claude-desktop", "--yes").out
    assert "+" not in cli("install", "claude-desktop").out
    assert cli("install", "claude-desktop", "--undo").status == 0
    assert "ccn" in json.loads(desktop.read_text())["mcpServers"], "undo, too, only shows without --yes"
    assert cli("install", "claude-desktop", "--undo", "--yes").status == 0
    assert desktop.read_text() == OTHERS
    assert "no entry of ours" in cli("install", "claude-desktop", "--undo", "--yes").out


def test_the_chosen_store_goes_into_the_entry(cli: Run, desktop: Path, tmp_path: Path) -> None:
    own = str(tmp_path / "my data" / "own.db")
    assert cli("install", "claude-desktop", "--yes", "--db", own).status == 0
    assert json.loads(desktop.read_text())["mcpServers"]["ccn"]["args"][-2:] == ["--db", own]


def test_the_shell_s_ccn_db_goes_into_the_entry(
    cli: Run, desktop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CCN_DB", str(tmp_path / "own.db"))
    cli("install", "claude-desktop", "--yes")
    assert str(tmp_path / "own.db") in json.loads(desktop.read_text())["mcpServers"]["ccn"]["args"]


def test_a_client_that_has_not_run_is_not_found(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    ran = cli("install", "claude-desktop", "--yes")
    assert ran.status == 3
    assert "Start it once" in ran.err


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["emacs"], 2),
        (["claude-desktop", "--project", "."], 2),
        (["claude-code", "--project", "no-such-folder"], 3),
        (["cursor", "--server-only"], 2),
    ],
)
def test_what_it_cannot_do(cli: Run, arguments: list[str], status: int) -> None:
    ran = cli("install", *arguments)
    assert (ran.status, ran.out) == (status, "")


# ---- Claude Code ---------------------------------------------------------------------------------------

FAKE = r"""#!/bin/sh
cd "$HOME" || exit 9
echo "$@" >> calls
case "$1 $2 $3" in
  "plugin list --json") [ -f plugin ] && echo '[{"id": "ccn@ccn-mcp", "scope": "user", "enabled": true}]' || echo '[]';;
  "plugin marketplace list") [ -f market ] && sed 's|.*|[{"name": "ccn-mcp", "path": "&"}]|' market || echo '[]';;
  "plugin marketplace add") echo "$4" > market;;
  "plugin marketplace remove") rm market;;
  "plugin install ccn@ccn-mcp") [ -f market ] && touch plugin;;
  "plugin uninstall ccn@ccn-mcp") rm plugin;;
  "mcp get ccn") [ -f known ] && cat known && exit 0; echo "No MCP server found" >&2; exit 1;;
  "mcp add --scope") shift 6; printf 'ccn:\n  Scope: User config\n  Command: %s\n' "$1" > known; shift
       printf '  Args: %s\n' "$*" >> known;;
  "mcp remove --scope") rm known;;
  *) echo "unknown: $*" >&2; exit 8;;
esac
"""
"""As Claude Code 2.1.330 does it; `test_install_real.py` holds that to the real one."""


@pytest.fixture
def claude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a `claude` that remembers how it was called; `ccn-mcp` is not on the PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "claude").write_text(FAKE)
    (programs / "claude").chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join((str(programs), os.defpath)))
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    return home


@pytest.fixture
def on_path(claude: Path, tmp_path: Path) -> Path:
    """The same with `ccn-mcp` on the PATH, so that a plugin's hooks would work."""
    (tmp_path / "bin" / "ccn-mcp").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "ccn-mcp").chmod(0o755)
    return claude


def calls(home: Path, *, changing: bool = True) -> list[str]:
    """How `claude` was called: as far as that changes something."""
    file = home / "calls"
    called = file.read_text().splitlines() if file.exists() else []
    return [call for call in called if not (changing and ("list" in call or call.startswith("mcp get")))]


MARKET = str(install_claude.marketplace())
PLUGIN = [f"plugin marketplace add {MARKET}", "plugin install ccn@ccn-mcp"]


def test_claude_code_gets_the_plugin_by_its_own_commands(cli: Run, on_path: Path) -> None:
    shown = cli("install", "claude-code").out
    assert all(f"claude {command}" in shown for command in PLUGIN)
    assert calls(on_path) == []
    assert "It records by" in cli("install", "claude-code", "--yes").out
    assert calls(on_path) == PLUGIN
    assert "connected already" in cli("install", "claude-code", "--yes").out
    assert calls(on_path) == PLUGIN
    assert cli("install", "claude-code", "--undo", "--yes").status == 0
    assert calls(on_path)[2:] == ["plugin uninstall ccn@ccn-mcp", "plugin marketplace remove ccn-mcp"]
    assert "no entry" in cli("install", "claude-code", "--undo", "--yes").out


def test_the_plugin_takes_the_place_of_the_server(cli: Run, on_path: Path) -> None:
    assert cli("install", "claude-code", "--server-only", "--yes").status == 0
    assert cli("install", "claude-code", "--yes").status == 0
    assert calls(on_path)[1:] == ["mcp remove --scope user ccn", *PLUGIN]
    assert "connected already" in cli("install", "claude-code", "--server-only", "--yes").out


def test_a_program_that_has_moved_moves_its_plugin(cli: Run, on_path: Path) -> None:
    (on_path / "market").write_text("/where/it/was")
    (on_path / "plugin").touch()
    assert cli("install", "claude-code", "--yes").status == 0
    assert calls(on_path) == PLUGIN[:1]


def test_a_store_of_its_own_is_not_promised_to_hooks(cli: Run, on_path: Path, tmp_path: Path) -> None:
    ran = cli("install", "claude-code", "--yes", "--db", str(tmp_path / "own.db"))
    assert ran.status == 2
    assert "--server-only" in ran.err
    assert calls(on_path) == []


def test_off_the_path_only_the_server_is_connected(cli: Run, claude: Path) -> None:
    ran: Ran = cli("install", "claude-code")
    assert "claude mcp add --scope user ccn -- " in ran.out
    assert calls(claude) == []
    for said in (ran, cli("install", "claude-code", "--yes")):
        words = " ".join(said.out.split())
        assert "The server alone records nothing by itself" in words
        assert "needs ccn-mcp on your PATH: run `uv tool install .`" in words
    assert [call.split()[1] for call in calls(claude)] == ["add"]
    assert "connected already" in cli("install", "claude-code", "--yes").out
    assert [call.split()[1] for call in calls(claude)] == ["add"]
    assert cli("install", "claude-code", "--undo", "--yes").status == 0
    assert calls(claude)[-1] == "mcp remove --scope user ccn"
    assert "no entry" in cli("install", "claude-code", "--undo", "--yes").out


def test_an_older_entry_in_claude_code_is_replaced(cli: Run, claude: Path) -> None:
    (claude / "known").write_text("ccn:\n  Command: /old/ccn-mcp\n  Args: serve\n")
    assert cli("install", "claude-code", "--yes").status == 0
    assert [call.split()[1] for call in calls(claude)] == ["remove", "add"]


def test_another_program_in_claude_code_is_left_alone(cli: Run, claude: Path) -> None:
    (claude / "known").write_text("ccn:\n  Command: npx\n  Args: other\n")
    for more in ([], ["--undo"]):
        assert cli("install", "claude-code", "--yes", *more).status == 4
    assert calls(claude) == []


def test_a_failing_claude_is_reported(cli: Run, claude: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "claude").write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    ran = cli("install", "claude-code", "--yes")
    assert ran.status == 4
    assert "broken" in ran.err


@pytest.mark.parametrize("more", [[], ["--yes"], ["--undo"], ["--server-only"]], ids=" ".join)
def test_without_claude_it_says_so_at_once(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = cli("install", "claude-code", *more)
    assert (ran.status, ran.out) == (3, "")
    assert "no program `claude`" in ran.err
    assert "--project" in ran.err


def test_the_server_alone_on_purpose_is_told_how_to_get_the_plugin(cli: Run, on_path: Path) -> None:
    assert "records nothing" not in cli("install", "claude-code", "--server-only").out, (
        "it is what was asked for"
    )
    ran = cli("install", "claude-code", "--server-only", "--yes")
    assert "without --server-only" in " ".join(ran.out.split())
    assert calls(on_path)


def test_a_project_gets_its_own_file(cli: Run, tmp_path: Path) -> None:
    project = tmp_path / "my project"
    project.mkdir()
    assert cli("install", "claude-code", "--project", str(project), "--yes").status == 0
    file = project / ".mcp.json"
    assert is_ours(json.loads(file.read_text())["mcpServers"]["ccn"])
    assert cli("install", "claude-code", "--project", str(project), "--undo", "--yes").status == 0
    assert not list(project.iterdir())


@pytest.mark.parametrize(
    ("client", "place", "servers"),
    [("cursor", ".cursor/mcp.json", "mcpServers"), ("vscode", ".vscode/mcp.json", "servers")],
)
def test_a_project_s_folder_of_settings_is_made(
    cli: Run, tmp_path: Path, client: str, place: str, servers: str
) -> None:
    project = tmp_path / "my project"
    project.mkdir()
    cli("install", client, "--project", str(project))
    assert not list(project.iterdir()), "looking makes nothing"
    assert cli("install", client, "--project", str(project), "--yes").status == 0
    assert is_ours(json.loads((project / place).read_text())[servers]["ccn"])
    ran = cli("install", client, "--project", str(project), "--undo", "--yes")
    assert "no file then" in ran.out
    assert "ccn is gone; restart" in ran.out
    assert not any(hint in ran.out for hint in ("Settings", "List Servers", "Backup"))
    assert not list((project / place).parent.iterdir())


# ---- asking --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "done"), [("y\n", True), ("YES\n", True), ("\n", False), ("no\n", False)])
def test_at_a_terminal_it_asks(desktop: Path, typed: str, done: bool) -> None:
    desktop.write_text(OTHERS)
    status, screen = at_a_terminal("install", "claude-desktop", typed=typed, NO_COLOR="1")
    assert status == 0
    assert "Do this? [y/N]" in screen
    assert ("ccn" in json.loads(desktop.read_text())["mcpServers"]) is done
    assert ("Nothing was changed." in screen) is not done
    assert "--yes" not in screen, "the person has answered"
