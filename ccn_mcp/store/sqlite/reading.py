"""One state of a log, for what reads all of it while writers go on: proofs and bundles."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ccn_mcp.domain.errors import NoStore
from ccn_mcp.store.sqlite import connect


@contextmanager
def one_state(path: Path, wait_s: float) -> Iterator[tuple[sqlite3.Connection, bytes, int]]:
    """The connection, in a read transaction, and the log's store id and size.

    Raises:
        NoStore: there is none yet. StoreError: it cannot be read.
    """
    path = connect.real_path(path)
    missing = NoStore(f"there is no store at {path} yet; the first message or load_plate creates it")
    if connect.is_empty(path):
        raise missing
    with connect.our_words(path):
        connection = connect.connect_to_read(path, wait_s)
        if connection is None:
            raise missing
        with closing(connection):
            connection.execute("BEGIN")
            row = connection.execute("SELECT store_id, size FROM log").fetchone()
            if row is None:
                raise missing
            yield connection, row[0], row[1]
