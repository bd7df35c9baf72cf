"""`ccn-mcp open` over the wire: who is let in, what may be asked, and that nothing can be changed."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from ccn_mcp import data
from ccn_mcp.server.page import Door, policy
from tests.cli.conftest import on_store
from tests.server.page_wire import PageServer

HOSTILE: Final = "<img src=x onerror=alert(1)></script><script>alert(2)</script> seventeen herons"
API: Final = ("status", "consensus_status", "series", "get_history", "verify_chain")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "data" / "ccn.db"

    async def fill(node: Any) -> None:
        loaded = await node.load_plate(session_id="s", model="m", title="Birds")
        await node.record_message("user", HOSTILE, conversation_id=loaded["conversation_id"])
        await node.report_character_vector([0.9] * 16, instance_id=loaded["instance_id"])

    on_store(path, fill)
    return path


@pytest.fixture(scope="module")
def page(db: Path) -> Iterator[PageServer]:
    with PageServer(db, db.parent.parent / "home") as served:
        yield served


@pytest.fixture(scope="module")
def cookie(page: PageServer) -> str:
    assert page.get("/").status == 403
    assert page.get("/?token=guess").status == 403
    return page.enter()


def test_the_token_opens_once_and_the_cookie_from_then_on(page: PageServer, cookie: str) -> None:
    again = page.get("/" + page.url.partition("/?")[2].join(("?", "")))
    assert (again.status, "set-cookie" in again.headers) == (403, False)
    assert b"ccn-mcp open" in again.body
    assert page.get("/", cookie=cookie).status == 200
    assert page.get("/").status == 403
    assert page.get("/", cookie=cookie + "x").status == 403
    assert page.get("/", cookie="\x7f;;=").status == 403


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites() -> None:
    door = Door(1234)
    assert door.exchange("") is None
    token = door.address.partition("token=")[2]
    line = door.exchange(token)
    assert line is not None
    assert line.startswith("ccn_page_1234=")
    assert line.endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert token not in line
    assert door.exchange(token) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1"},
        {"host": "localhost:1"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
    ids=str,
)
def test_others_are_not_let_in_even_with_the_cookie(
    page: PageServer, cookie: str, headers: dict[str, str]
) -> None:
    for path in ("/", "/api/status"):
        assert page.get(path, cookie=cookie, **headers).status == 403
    own = {"host": f"localhost:{page.port}", "origin": f"http://localhost:{page.port}"}
    assert page.get("/api/status", cookie=cookie, sec_fetch_site="same-origin", **own).status == 200


@pytest.mark.parametrize("name", API)
def test_without_the_cookie_nothing_is_answered(page: PageServer, cookie: str, name: str) -> None:
    assert page.get(f"/api/{name}").status == 403
    shown = page.get(f"/api/{name}", cookie=cookie)
    assert (shown.status, shown.headers["content-type"]) == (200, "application/json")
    assert shown.content()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_it_only_shows(page: PageServer, cookie: str, method: str) -> None:
    before = page.get("/api/status", cookie=cookie).content()["head"]
    assert page.get("/api/get_history", method=method, cookie=cookie).status == 405
    for name in ("record_message", "redact_message", "load_plate", "../mcp", "", "report_character_vector"):
        assert page.get(f"/api/{name}", cookie=cookie).status == 404
    for name in API:
        page.get(f"/api/{name}", cookie=cookie)
    assert page.get("/api/status", cookie=cookie).content()["head"] == before


def test_search_leads_to_the_message_and_what_was_said_stays_data(page: PageServer, cookie: str) -> None:
    found = page.get(f"/api/get_history?query={quote('seventeen herons')}", cookie=cookie)
    assert found.headers["x-content-type-options"] == "nosniff"
    (hit,) = found.content()["hits"]
    asked = f"/api/get_history?conversation_id={hit['conversation_id']}&before={hit['seq'] + 1}&limit=1"
    (message,) = page.get(asked, cookie=cookie).content()["messages"]
    assert (message["seq"], message["text"]) == (hit["seq"], HOSTILE)
    (listed,) = page.get("/api/get_history", cookie=cookie).content()["conversations"]
    assert listed["title"] == "Birds"


def test_the_numbers_are_there_for_the_person(page: PageServer, cookie: str) -> None:
    (point,) = page.get("/api/series", cookie=cookie).content()["points"]
    assert point["traits"] == [0.9] * 16
    status = page.get("/api/consensus_status", cookie=cookie)
    assert len(status.content()["consensus"]) == 16
    assert b'"ccn/panel"' in status.body


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("get_history?limit=many", 400),
        ("get_history?limit=0", 400),
        ("get_history?conversation_id=c_x", 404),
        ("consensus_status?instance_id=i_x", 404),
        ("series?since=soon", 400),
        ("get_history?" + "&".join(f"a{n}=1" for n in range(30)), 400),
        ("get_history?query=" + "x" * 10_000, 414),
    ],
)
def test_a_wrong_question_is_answered_in_words(
    page: PageServer, cookie: str, asked: str, status: int
) -> None:
    shown = page.get(f"/api/{asked}", cookie=cookie)
    assert shown.status == status
    assert shown.body


def test_every_answer_forbids_what_the_page_does_not_need(page: PageServer, cookie: str) -> None:
    for path in ("/", "/api/status", "/nothing"):
        headers = page.get(path, cookie=cookie).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"


def test_the_policy_allows_exactly_the_pages_own_script_and_style() -> None:
    html = data.read("panel.html").decode()
    said = policy(html)
    for tag in ("script", "style"):
        (part,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in said
    assert said.count("sha256-") == 2


def test_it_ends_by_itself_when_nobody_asks_and_quietly_on_a_signal(db: Path, tmp_path: Path) -> None:
    with PageServer(db, tmp_path / "home", "--idle", "0.01") as page:
        assert page.end() == (0, "")
    with PageServer(db, tmp_path / "home") as page:
        page.process.terminate()
        assert page.end() == (0, "")


def test_without_a_store_there_is_nothing_to_open(tmp_path: Path) -> None:
    page = PageServer(tmp_path / "none.db", tmp_path / "home")
    status, said = page.end()
    assert status == 3
    assert "no store" in said
