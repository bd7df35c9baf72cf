"""Small JSON schemas from the result types. Every byte of the catalogue is paid in every context.

Made here instead of by pydantic: half the bytes, and nothing to build at start-up. The tests check each result
against its schema, and each schema against the JSON Schema meta-schema.
"""

from __future__ import annotations

import types
import typing
from typing import Any, Union, get_args, get_origin

from typing_extensions import is_typeddict

_PLAIN: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON schema of a TypedDict, a list or dict of such, an optional, or a plain type.

    Raises:
        TypeError: a type that has no place in a result.
    """
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        return {
            "type": "object",
            "properties": {name: schema_of(hint) for name, hint in hints.items()},
            "required": list(hints),
        }
    origin, args = get_origin(kind), get_args(kind)
    if origin is list:
        return {"type": "array", "items": schema_of(args[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(args[1])}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(arg) for arg in args]}
    raise TypeError(f"no schema for {kind!r}")
