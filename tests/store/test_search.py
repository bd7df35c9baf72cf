"""What only the SQLite back end's search can show: which candidates it ranks, and by what."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccn_mcp.domain.models import Group, SearchQuery
from ccn_mcp.store.sqlite import reads
from ccn_mcp.store.sqlite.relevance import relevance
from ccn_mcp.store.sqlite.store import SqliteStore
from tests.store.model import WORDS, opening, random_text, said, seeded

pytestmark = pytest.mark.anyio


async def test_only_the_newest_candidates_are_ranked_and_filters_come_before_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "SEARCH_CANDIDATES_MAX", 3)
    async with SqliteStore(tmp_path / "ccn.db") as store:
        await store.append(Group((opening("c1"), opening("c2"))))
        await store.append(Group((said("light light light light", "c1"),)))
        for n in range(5):
            await store.append(Group((said(f"light {n}", "c2"),)))
        page = await store.search(SearchQuery("light", 2, ranked=True))
        assert [hit.message.text for hit in page.hits] == ["light 4", "light 3"]
        page = await store.search(SearchQuery("light", 2, conversation_id="c1", ranked=True))
        assert [hit.message.text for hit in page.hits] == ["light light light light"]


async def test_what_the_index_finds_the_ranking_counts(tmp_path: Path) -> None:
    """Else a word that the two fold differently would not count at all."""
    rng = seeded(9)
    async with SqliteStore(tmp_path / "ccn.db") as store:
        await store.append(Group((opening("c1"),)))
        for _ in range(60):
            await store.append(Group((said(random_text(rng, rng.choices(list(WORDS), k=5)), "c1"),)))
        seen = 0
        for word, forms in WORDS.items():
            for asked in (*forms, f"{word[:2]}*"):
                (term,) = reads.words_of(asked)
                hits = (await store.search(SearchQuery(asked, 100))).hits
                scores = [relevance(hit.message.text, term) for hit in hits]
                assert min(scores, default=1.0) > 0, asked
                seen += len(hits)
        assert seen > 500


@pytest.mark.parametrize(
    ("better", "worse", "words"),
    [
        ("light light", "light x", "light"),
        ("light", "light " + "x" * 500, "light"),
        ("light harbour", "light light light lights", "light harbour"),
        ("light", "lights alight _lights", "light"),
        ("lights LIGHTEN", "light alight", "light*"),
        ("snake_case", "snakes", "snake"),
        ("x light", "alight", "light"),
        ("Café", "cafes", "cafe\u0301"),
        ("x", None, "x"),
    ],
)
def test_more_occurrences_in_less_text_score_higher(better: str, worse: str | None, words: str) -> None:
    high, low = relevance(better, words), relevance(worse, words)
    assert 0 <= low < high < len(words.split())
