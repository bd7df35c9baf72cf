"""The packaged rubric: what a score from 0 to 5 means for each trait."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Final

from ccn_mcp import data
from ccn_mcp.domain.character import TRAITS

FILE: Final = "rubric.json"


@dataclass(frozen=True, slots=True)
class Rubric:
    """Its version, the SHA-256 (hex) of its bytes, and six anchors (0 to 5) for each trait."""

    version: str
    digest: str
    anchors: Mapping[str, list[str]] = field(repr=False)

    @property
    def text(self) -> str:
        """Every trait with its anchors, a line each."""
        blocks = [
            "\n".join([name, *(f"  {score} {anchor}" for score, anchor in enumerate(self.anchors[name]))])
            for name in TRAITS
        ]
        return "\n".join(blocks)


@cache
def rubric() -> Rubric:
    """The rubric that comes with this version; read when it is first needed."""
    content = data.read(FILE)
    read = json.loads(content)
    return Rubric(read["version"], sha256(content).hexdigest(), read["anchors"])
