"""The Plate that the person chose in a client's settings: taken over once, and never over one that they have set."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccn_mcp import data, open_node
from ccn_mcp import settings as settings_module
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.models import RecordQuery
from ccn_mcp.domain.plate import parse_plate
from ccn_mcp.node.node import Node
from ccn_mcp.settings import Settings

pytestmark = pytest.mark.anyio

MINE = b"# Ferry\n\nYou work with Noor.\n"
OTHER = b"# Lantern\n\nYou work with Ada.\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "my plate.md"
    made.write_bytes(MINE)
    return made


@pytest.fixture
def chosen(tmp_path: Path, file: Path) -> Settings:
    return Settings(db=tmp_path / "ccn.db", config_dir=tmp_path / "config", plate=file)


def now_holds(file: Path, content: bytes | None) -> None:
    file.unlink(missing_ok=True)
    if content is not None:
        file.write_bytes(content)


async def plates(node: Node) -> list[tuple[str, str]]:
    """Name and source of every Plate in the log, oldest first."""
    found = await node.ctx.store.records(RecordQuery(kinds=(Kind.PLATE,), oldest_first=True, limit=9))
    return [(str(item.body["name"]), str(item.body["source"])) for item in found if item.body is not None]


async def test_it_becomes_the_plate_at_the_first_load_and_the_record_says_where_from(
    chosen: Settings,
) -> None:
    async with open_node(settings=chosen) as node:
        assert not chosen.db.exists(), "a start writes nothing"
        first = await node.load_plate()
        again = await node.load_plate()
        assert await plates(node) == [("Ferry", "settings")]
        assert (await node.verify_chain())["ok"]
    for loaded in (first, again):
        assert "You work with Noor." in loaded["text"]
        assert "settings" not in loaded["text"], "nothing to say where all is as chosen"


async def test_a_starter_counts_as_none(chosen: Settings) -> None:
    async with open_node(settings=replace_plate(chosen, None)) as node:
        await node.load_plate()
    async with open_node(settings=chosen) as node:
        assert "You work with Noor." in (await node.load_plate())["text"]
        assert await plates(node) == [("Starter Plate", "python"), ("Ferry", "settings")]


async def test_a_plate_that_the_person_has_set_stays(chosen: Settings) -> None:
    async with open_node(settings=chosen) as node:
        await node.set_plate(parse_plate(OTHER))
        text = (await node.load_plate())["text"]
        assert "You work with Ada." in text
        assert "ccn-mcp plate set FILE" in text
        assert await plates(node) == [("Lantern", "python")]


async def test_a_file_that_changes_later_changes_nothing_and_this_is_said(
    chosen: Settings, file: Path
) -> None:
    async with open_node(settings=chosen) as node:
        await node.load_plate()
        now_holds(file, OTHER)
        text = (await node.load_plate())["text"]
        assert "You work with Noor." in text
        assert "a file is taken over once" in " ".join(text.split())
        assert await plates(node) == [("Ferry", "settings")]


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff\xfe", b"x" * 300_000], ids=["none", "empty", "utf16", "long"]
)
async def test_a_file_that_is_no_plate_stops_nothing(
    chosen: Settings, file: Path, content: bytes | None
) -> None:
    now_holds(file, content)
    async with open_node(settings=chosen) as node:
        text = (await node.load_plate())["text"]
        assert "cannot be used as a Plate" in text
        assert str(file.parent) not in text, "a path of the person's machine is not a model's business"
        assert await plates(node) == [("Starter Plate", "python")]
        now_holds(file, MINE)
        assert "You work with Noor." in (await node.load_plate())["text"], "mended, it counts"


async def test_a_copy_of_the_starter_is_no_choice(chosen: Settings, file: Path) -> None:
    now_holds(file, data.read("starter_plate.md"))
    async with open_node(settings=chosen) as node:
        await node.load_plate()
        assert await plates(node) == [("Starter Plate", "python")]


# ---- the settings that lead there ----------------------------------------------------------------------


def replace_plate(settings: Settings, plate: Path | None) -> Settings:
    return settings.replaced(plate=plate)


def test_what_was_left_empty_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    home = {"CCN_CONFIG_DIR": str(tmp_path)}
    usual = settings_module.load(environ=home)
    for left in ("", "${user_config.folder}"):
        found = settings_module.load(
            environ={**home, "CCN_DATA_DIR": left, "CCN_PLATE": left, "CCN_DB": left}
        )
        assert (found.db, found.plate) == (usual.db, None)


def test_a_folder_names_the_store_unless_a_file_does(tmp_path: Path) -> None:
    env = {"CCN_CONFIG_DIR": str(tmp_path), "CCN_DATA_DIR": str(tmp_path / "a b")}
    assert settings_module.load(environ=env).db == tmp_path / "a b" / "ccn.db"
    assert settings_module.load(environ={**env, "CCN_DB": "/x/own.db"}).db == Path("/x/own.db")
    assert settings_module.load("/y/own.db", env).db == Path("/y/own.db")


@pytest.mark.parametrize("inside", [{"CLAUDECODE": "1"}, {"CLAUDE_CODE_SESSION_ID": "s"}])
def test_claude_code_s_shell_chooses_no_plate(tmp_path: Path, inside: dict[str, str]) -> None:
    env = {"CCN_CONFIG_DIR": str(tmp_path), "CCN_PLATE": str(tmp_path / "p.md")}
    assert settings_module.load(environ=env).plate == tmp_path / "p.md"
    assert settings_module.load(environ={**env, **inside}).plate is None
