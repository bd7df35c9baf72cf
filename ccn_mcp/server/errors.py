"""The one place that turns our errors into what a client shows a model.

In mcp 2.3 only the text of a `ToolError` reaches the model; every other exception is logged and withheld, so
an unforeseen failure discloses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from pydantic import ValidationError

from ccn_mcp.domain.errors import BadInput, BadVector, CcnError

FAULTS_TOLD_MAX: Final = 5
NAME_CHARS_MAX: Final = 60


@contextmanager
def told_to_the_model() -> Iterator[None]:
    """Raise `ToolError("code: what happened; what to do next")` for every error that we foresee."""
    try:
        yield
    except CcnError as error:
        code = f"{error.code}/{error.reason}" if isinstance(error, BadVector) else error.code
        raise ToolError(f"{code}: {error}") from error


class PlainTool(Tool):
    """A tool whose errors begin with their code, and that passes over no argument in silence.

    The SDK puts a prefix before each error, shows pydantic's own text (with the rejected values) for wrong
    arguments, and drops arguments that it does not know, so that a misspelt filter would filter nothing.
    """

    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> Any:
        """See `Tool.run`."""
        if unknown := [name for name in arguments if name not in self.parameters["properties"]]:
            names = ", ".join(repr(name[:NAME_CHARS_MAX]) for name in unknown[:FAULTS_TOLD_MAX])
            known = ", ".join(self.parameters["properties"])
            raise ToolError(f"{BadInput.code}: unknown argument {names}; {self.name} takes {known}")
        try:
            return await super().run(arguments, context, convert_result)
        except UnexpectedToolError:
            raise
        except ToolError as error:
            if isinstance(error.__cause__, ToolError):
                raise ToolError(str(error.__cause__)) from error.__cause__
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(f"{BadInput.code}: {_in_words(error.__cause__)}") from error.__cause__
            raise


def _in_words(error: ValidationError) -> str:
    # Without the values: they are the caller's data, and may be a megabyte.
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    said = [f"{fault['loc'][0]}: {fault['msg']}" for fault in faults[:FAULTS_TOLD_MAX] if fault["loc"]]
    return "; ".join(said) + "; correct that and call again"
