"""Files that come with the package."""

from __future__ import annotations

from pathlib import Path

# Not importlib.resources: it takes longer to import than the file takes to read, and wheels are unpacked.
_FOLDER = Path(__file__).parent


def read(name: str) -> bytes:
    """The bytes of one packaged file.

    Raises:
        FileNotFoundError: no file of this name was packaged.
        ValueError: `name` is a path instead of a name.
    """
    if Path(name).name != name:
        raise ValueError(f"{name!r} is not the name of a packaged file")
    return (_FOLDER / name).read_bytes()
