"""`ccn-mcp hook private on|off`: the person's own switch for one session of Claude Code."""

from __future__ import annotations

import sys
from typing import Final

from ccn_mcp import settings
from ccn_mcp.domain.errors import CcnError
from ccn_mcp.interop import privacy

BAD_INPUT: Final = 2
NO_SESSION: Final = (
    "ccn-mcp: this is for one session of Claude Code, and there is none here. Type it there, after an exclamation "
    "mark: ! ccn-mcp hook private on\n"
)


def switch(arguments: list[str]) -> int:
    """Do it and say so; 0, or 2 where it could not be done."""
    if arguments not in (["on"], ["off"]):
        sys.stderr.write("usage: ccn-mcp hook private on|off\n")
        return BAD_INPUT
    try:
        chosen = settings.load()
        if not chosen.session_id:
            sys.stderr.write(NO_SESSION)
            return BAD_INPUT
        kind = privacy.ON if arguments == ["on"] else privacy.OFF
        privacy.put(settings.config_folder(chosen), chosen.session_id, kind)
    except (CcnError, OSError) as error:
        sys.stderr.write(f"ccn-mcp: nothing was changed: {error}\n")
        return BAD_INPUT
    if kind == privacy.ON:
        sys.stdout.write(
            "From here on nothing of this session is recorded, until: ccn-mcp hook private off\n"
        )
    else:
        sys.stdout.write("From here on this session is recorded again. What was said in between stays out.\n")
    return 0
