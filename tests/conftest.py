"""Fixtures that every part of the suite may use."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Async tests are marked `anyio` and run on asyncio, as the program does."""
    return "asyncio"
