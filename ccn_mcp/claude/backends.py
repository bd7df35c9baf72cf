"""Which model answers: the one place that knows every back end. Each is imported when it is asked for."""

from __future__ import annotations

from typing import Final

from ccn_mcp.domain.errors import BadInput
from ccn_mcp.ports import LanguageModel

BACKENDS: Final = ("api", "claude-code")


def model_of(backend: str) -> LanguageModel:
    """The back end of this name; nothing is connected before the first call.

    Raises:
        BadInput: there is none.
    """
    if backend == "api":
        from ccn_mcp.claude.api import ApiModel

        return ApiModel()
    if backend == "claude-code":
        from ccn_mcp.claude.claude_code import ClaudeCodeModel

        return ClaudeCodeModel()
    raise BadInput(f"there is no back end {backend!r:.80}; use one of: {', '.join(BACKENDS)}")
