"""Which tables, indexes, views and triggers a store has, and which it should have."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from typing import Final

from ccn_mcp.store.sqlite import connect


@cache
def _definitions(version: int) -> frozenset[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:")) as fresh:
        for schema in connect.SCHEMAS[:version]:
            fresh.executescript(schema.read_text("utf-8"))
        return frozenset(fresh.execute(DEFINITIONS))


DEFINITIONS: Final = (
    "SELECT type, name, sql FROM sqlite_master WHERE type IN ('trigger', 'view') "
    "OR (name NOT LIKE 'sqlite^_%' ESCAPE '^' AND NOT (type = 'table' AND name IN "
    "('message_fts_data', 'message_fts_idx', 'message_fts_docsize', 'message_fts_config')))"
)
"""Ours; the tables that SQLite and its full-text index make for themselves differ between versions of SQLite."""


def changed_definitions(connection: sqlite3.Connection) -> list[str]:
    """Names of tables, indexes, views and triggers that are not those of the format: added, gone or other."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return sorted({name for _, name, _ in _definitions(version) ^ set(connection.execute(DEFINITIONS))})
