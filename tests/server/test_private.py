"""Private mode binds the server: the model is told that nothing was recorded, and nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ccn_mcp.interop import privacy
from tests.server.test_scopes import called, connected

pytestmark = pytest.mark.anyio
SESSION = "d7c9e9e8"


@pytest.mark.parametrize("chosen", [{"private": True}, {"session_id": SESSION}], ids=["CCN_PRIVATE", "marks"])
async def test_nothing_is_recorded_while_it_is_on_and_the_model_is_told(
    tmp_path: Path, chosen: dict[str, Any]
) -> None:
    config = tmp_path / "config"
    privacy.put(config, SESSION, privacy.ON)
    db = tmp_path / "ccn.db"
    async with connected(db, config_dir=config, **chosen) as client:
        for tool, arguments in (
            ("record_message", {"role": "user", "content": "a hidden word"}),
            ("report_character_vector", {"traits": [0.5] * 16, "instance_id": "i_1"}),
        ):
            failed, text, _ = await called(client, tool, **arguments)
            assert failed
            assert "private: the person has switched recording off for this session, so nothing was" in text
        failed, text, _ = await called(client, "load_plate")
        assert not failed
        assert "no messages are to be recorded here" in text
        assert not db.exists()
        privacy.put(config, SESSION, privacy.OFF)
        failed, _, _ = await called(client, "record_message", role="user", content="an open word")
        assert failed == ("private" in chosen)


async def test_marks_that_cannot_be_read_count_as_private(tmp_path: Path) -> None:
    config = tmp_path / "config"
    privacy.put(config, SESSION, privacy.OFF)
    (mark,) = (config / privacy.FOLDER).iterdir()
    mark.unlink()
    mark.mkdir()
    async with connected(tmp_path / "ccn.db", config_dir=config, session_id=SESSION) as client:
        failed, text, _ = await called(client, "record_message", role="user", content="a word")
    assert failed
    assert "private: " in text
