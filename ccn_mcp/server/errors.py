"""The one place that turns our errors into what a client shows a model.

In mcp 2.3 only the text of a `ToolError` reaches the model; every other exception is logged and withheld, so
an unforeseen failure discloses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mcp.server.mcpserver.exceptions import ToolError

from ccn_mcp.domain.errors import BadVector, CcnError


@contextmanager
def told_to_the_model() -> Iterator[None]:
    """Raise `ToolError("code: what happened; what to do next")` for every error that we foresee."""
    try:
        yield
    except CcnError as error:
        code = f"{error.code}/{error.reason}" if isinstance(error, BadVector) else error.code
        raise ToolError(f"{code}: {error}") from error
