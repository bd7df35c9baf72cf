"""Which folders are excluded: the file, the variable, links, case, what cannot be read."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from ccn_mcp import exclusion, settings
from ccn_mcp.domain.errors import BadInput
from ccn_mcp.domain.limits import EXCLUDED_FOLDERS_MAX

POSIX = sys.platform != "win32"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "ccn-mcp" / "excluded"


def load(file: Path, **env: str) -> Path | None:
    return settings.load(file.with_name("ccn.db"), {"CCN_CONFIG_DIR": str(file.parent), **env}).excluded


def test_the_file_is_private_and_comes_back_as_written(file: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "a b", tmp_path / "Ünïcode"]
    if sys.platform == "linux":
        folders.append(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")))
    exclusion.write(file, folders)
    assert exclusion.read(file) == folders
    assert [path.name for path in file.parent.iterdir()] == ["excluded"]
    if POSIX:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_folder_and_everything_below_it_and_nothing_beside_it(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    (secret / "deep" / "er").mkdir(parents=True)
    beside = tmp_path / "secret-not"
    beside.mkdir()
    exclusion.write(file, [secret])
    for inside in (secret, secret / "deep", secret / "deep" / "er", secret / "not there yet"):
        assert load(file, CLAUDE_PROJECT_DIR=str(inside)) == secret
    for outside in (beside, tmp_path):
        assert load(file, CLAUDE_PROJECT_DIR=str(outside)) is None


def test_no_way_round_by_a_link_or_a_dotted_path(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    (secret / "deep").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(secret, target_is_directory=True)
    exclusion.write(file, [secret])
    assert load(file, CLAUDE_PROJECT_DIR=str(link / "deep")) == secret
    assert load(file, CLAUDE_PROJECT_DIR=str(tmp_path / "other" / ".." / "secret")) == secret
    exclusion.write(file, [link])
    assert load(file, CLAUDE_PROJECT_DIR=str(secret)) == link
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert exclusion.covering(loop, [secret]) is None


def test_letters_in_another_case_where_the_system_takes_them_as_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [tmp_path / "Café"]
    asked = tmp_path / "cafe\u0301" / "menu"
    if sys.platform == "linux":
        assert exclusion.covering(asked, listed) is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert exclusion.covering(asked, listed) == listed[0]


def test_the_working_folder_counts_too_and_so_does_the_variable(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    assert load(file, CCN_EXCLUDE=str(secret)) is None
    monkeypatch.chdir(secret)
    assert load(file) is None
    both = os.pathsep.join(["", str(tmp_path / "x"), str(secret)])
    assert load(file, CCN_EXCLUDE=both) == secret
    assert load(file, CCN_EXCLUDE=both, CLAUDE_PROJECT_DIR=str(tmp_path)) == secret
    assert load(file, CCN_EXCLUDE=both, CCN_SCOPE="named") == secret


def test_lines_of_a_person(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME" if POSIX else "USERPROFILE", str(tmp_path))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"# mine\r\n\r\n  ~/secret  \r\n")
    assert exclusion.read(file) == [tmp_path / "secret"]


@pytest.mark.parametrize("content", [b"relative/folder\n", b"~nobody-of-this-name/x\n"])
def test_what_cannot_be_understood_stops_instead_of_recording(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(BadInput, match="no full path"):
        load(file)
    with pytest.raises(BadInput, match="CCN_EXCLUDE"):
        load(file.parent / "none" / "excluded", CCN_EXCLUDE="relative")
    file.unlink()
    file.mkdir()
    with pytest.raises(BadInput, match="not known which folders"):
        load(file)


def test_the_maximum_is_kept_to_on_both_ways(file: Path, tmp_path: Path) -> None:
    many = [tmp_path / str(number) for number in range(EXCLUDED_FOLDERS_MAX + 1)]
    with pytest.raises(BadInput, match="at most"):
        exclusion.write(file, many)
    assert not file.exists()
    exclusion.write(file, many[:-1])
    file.write_text("\n".join(map(str, many)))
    with pytest.raises(BadInput, match="at most"):
        exclusion.read(file)
    with pytest.raises(BadInput, match="line end"):
        exclusion.write(file, [tmp_path / "a\nb"])
