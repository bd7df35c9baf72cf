"""Fixtures of the client tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.npm import node_program


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node program that the clients run in."""
    return node_program(tmp_path_factory)
