"""Published cases live beside the repository in `../shared/vectors`; they are not copied into it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "vectors"


def vectors(name: str) -> Path:
    """The path of a published case file or folder; skipped where absent, failed where CI needs it."""
    path = FOLDER / name
    if not path.exists():
        reason = f"the published cases are not beside this checkout: shared/vectors/{name}"
        if os.environ.get("CI"):
            pytest.fail(reason + " (CI must have them)")
        pytest.skip(reason)
    return path
