"""Write docs/reference.md from the code: `uv run python docs/make_reference.py` (`--check` only compares).

Everything in it is read from what runs: the server as a client sees it, the commands, the settings, the errors,
the limits. tests/test_reference.py fails when the file is stale.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
TARGET: Final = ROOT / "docs" / "reference.md"
HEADER: Final = """\
# Reference

Made from the code by `uv run python docs/make_reference.py`; do not edit. What things are for is in the other pages.

[Tools](#tools) · [Resources](#resources) · [Prompts](#prompts) · [Commands](#commands) · [Settings](#settings) ·
[Errors](#errors) · [Exit statuses](#exit-statuses) · [Python](#python) · [Limits](#limits)
"""

TOOLS_NOTE: Final = (
    "The fields of a result are what the model and programs are given; `?` marks one that can be null."
)

Json = dict[str, Any]


def reference() -> str:
    """The whole page."""
    sections = [HEADER, *_server(), _commands(), _settings(), _errors(), _statuses(), _python(), _limits()]
    return "\n".join(section.rstrip("\n") + "\n" for section in sections)


def _table(head: str, rows: list[str]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|" + " --- |" * columns, *rows]) if rows else "None."


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _prose(docstring: str | None) -> str:
    return " ".join(inspect.cleandoc(docstring or "").split("\n\nRaises:")[0].split())


# ---- the server, as a client sees it -------------------------------------------------------------------


def _server() -> list[str]:
    import anyio

    with tempfile.TemporaryDirectory() as folder:
        seen = anyio.run(_look, Path(folder) / "nothing.db")
    tools = "\n".join(_tool(tool) for tool in seen["tools"])
    resources = [
        f"| `{item.get('uri') or item['uriTemplate']}` | {_cell(item.get('description') or item['name'])} "
        f"| {_cell(item.get('mimeType') or '')} |"
        for item in (*seen["resources"], *seen["templates"])
    ]
    prompts = [
        f"| `{item['name']}` | {_cell(item.get('description') or '')} | {_arguments_of(item)} |"
        for item in seen["prompts"]
    ]
    return [
        f"## Tools\n\n{TOOLS_NOTE}\n\n{tools}",
        "## Resources\n\n" + _table("| uri | holds | type |", resources),
        "## Prompts\n\n" + _table("| prompt | does | arguments |", prompts),
    ]


async def _look(db: Path) -> dict[str, list[Json]]:
    from mcp import Client
    from mcp.shared.exceptions import MCPError

    from ccn_mcp.server.app import build_server
    from ccn_mcp.settings import Settings

    async def listed(ask: Any, field: str) -> list[Json]:
        try:
            answer = await ask()
        except MCPError:  # the server has none of these
            return []
        found: list[Json] = answer.model_dump(mode="json", by_alias=True, exclude_none=True)[field]
        return found

    async with Client(build_server(Settings(db=db))) as client:
        return {
            "tools": await listed(client.list_tools, "tools"),
            "resources": await listed(client.list_resources, "resources"),
            "templates": await listed(client.list_resource_templates, "resourceTemplates"),
            "prompts": await listed(client.list_prompts, "prompts"),
        }


def _tool(tool: Json) -> str:
    schema = tool["inputSchema"]
    required = schema.get("required", [])
    rows = []
    for name, item in schema.get("properties", {}).items():
        wanted = " (required)" if name in required else ""
        rows.append(f"| `{name}`{wanted} | {_type(item)} | {_cell(item.get('description', ''))} |")
    hints = tool.get("annotations", {})
    said = [f"{name} {json.dumps(value)}" for name, value in sorted(hints.items()) if name != "title"]
    result = tool.get("outputSchema")
    fields = ", ".join(_fields(result)) if result else "prose, with the ids in the text and in `_meta`"
    return (
        f"### {tool['name']}\n\n{tool.get('description', '').strip()}\n\n"
        f"{_table('| argument | type | meaning |', rows)}\n\n"
        f"Result: {fields}.\n\nAnnotations: {', '.join(said) or 'none'}.\n"
    )


def _type(schema: Json) -> str:
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema.get('items', {}))}"
        case "object" if "additionalProperties" in schema:
            return f"map of {_type(schema['additionalProperties'])}"
        case found:
            return str(found or "any")


def _fields(schema: Json) -> Iterator[str]:
    for name, item in schema.get("properties", {}).items():
        options = item.get("anyOf", [item])
        kinds = [one for one in options if one.get("type") != "null"]
        inner = kinds[0].get("items", kinds[0]) if kinds else {}
        shown = f"`{name}`" + ("?" if len(kinds) < len(options) else "")
        yield shown + (f" ({', '.join(_fields(inner))})" if inner.get("properties") else "")


def _arguments_of(prompt: Json) -> str:
    shown = [
        f"`{item['name']}`{' (required)' if item.get('required') else ''}"
        + (f": {_cell(item['description'])}" if item.get("description") else "")
        for item in prompt.get("arguments", [])
    ]
    return "; ".join(shown) or "none"


# ---- the command line ----------------------------------------------------------------------------------


def _commands() -> str:
    import typer

    from ccn_mcp.cli import main

    shown = list(_walk(typer.main.get_command(main.build()), main.PROGRAM))
    return "## Commands\n\n" + "\n".join(shown)


def _walk(command: Any, path: str) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children:
        for name in sorted(children):
            yield from _walk(children[name], f"{path} {name}")
        return
    if path.endswith(" serve"):
        yield _serve(path)
        return
    yield _command(command, path)


def _serve(path: str) -> str:
    from ccn_mcp.cli import serve

    parser = serve.parser()
    rows = []
    for action in parser._actions:
        if action.dest != "help":
            name = " ".join([", ".join(action.option_strings), str(action.metavar or "")]).strip()
            rows.append(f"| `{name}` | {_cell(action.help)} |")
    return _entry(path, parser.description or "", rows, parser.epilog)


def _command(command: Any, path: str) -> str:
    rows = []
    for item in command.params:
        if "--help" in item.opts:
            continue
        if item.param_type_name == "argument":
            name = item.metavar or item.name.upper()
        else:
            names = ", ".join([*item.opts, *item.secondary_opts])
            name = (
                names if getattr(item, "is_flag", False) else f"{names} {item.metavar or item.name.upper()}"
            )
        default = (
            ""
            if item.default in (None, False, "") or callable(item.default)
            else f" Default: {item.default}."
        )
        wanted = " (required)" if item.required else ""
        rows.append(f"| `{name}`{wanted} | {_cell((item.help or '') + default)} |")
    return _entry(path, command.help or "", rows, command.epilog)


def _entry(path: str, about: str, rows: list[str], example: str | None) -> str:
    shown = [_escaped(row) for row in rows]
    examples = re.sub(r"^examples?: *", "", example or "", flags=re.IGNORECASE)
    said = "\n".join(f"    {line.strip()}" for line in examples.split(";") if line.strip())
    return f"### {path}\n\n{_cell(about)}\n\n{_table('| option | meaning |', shown)}\n" + (
        f"\n{said}\n" if said else ""
    )


def _escaped(row: str) -> str:
    """A bar inside code still ends a cell, so it is escaped there as well."""
    return re.sub(r"`[^`]*`", lambda found: re.sub(r"(?<!\\)\|", r"\\|", found[0]), row)


# ---- settings, errors, limits --------------------------------------------------------------------------


def _settings() -> str:
    from ccn_mcp.settings import VARIABLES

    rows = [f"| `{name}` | {_cell(text)} |" for name, text in VARIABLES.items()]
    return "## Settings\n\nEnvironment variables; an option goes before its variable.\n\n" + _table(
        "| variable | meaning |", rows
    )


def _errors() -> str:
    rows = [
        f"| `{kind.code}` | {kind.exit_status} | `{kind.__name__}` | {_cell(_prose(kind.__doc__))} |"
        for kind in _kinds()
    ]
    return (
        "## Errors\n\nA tool's error text begins with the code. In Python they are in `ccn_mcp.domain.errors`, all "
        "below `CcnError`.\n\n" + _table("| code | exit status | class | meaning |", rows)
    )


def _kinds() -> list[Any]:
    from ccn_mcp.domain import errors

    return [
        kind
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, errors.CcnError) and kind.__module__ == errors.__name__
    ]


def _statuses() -> str:
    from ccn_mcp.cli import main

    listed = main.STATUSES.removeprefix("Exit status: ").rstrip(".")
    rows = []
    for part in listed.split(", "):
        status, _, meaning = part.partition(" ")
        codes = [f"`{kind.code}`" for kind in _kinds() if str(kind.exit_status) == status]
        rows.append(f"| {status} | {_cell(meaning)} | {', '.join(codes)} |")
    return "## Exit statuses\n\n" + _table("| status | means | error codes |", rows)


def _python() -> str:
    from ccn_mcp import integration
    from ccn_mcp.node.node import Node

    verbs = [_signature(f"node.{name}", member) for name, member in _own(Node)]
    functions = [
        _signature(f"integration.{name}", member)
        for name, member in vars(integration).items()
        if inspect.iscoroutinefunction(member) and member.__module__ == integration.__name__
    ]
    return (
        "## Python\n\n`async with ccn_mcp.open_node(db) as node:` and `ccn_mcp.integration` "
        "([more](python.md)). All are `async`.\n\n" + _table("| call | does |", [*verbs, *functions])
    )


def _own(kind: type) -> list[tuple[str, Any]]:
    return [
        (name, member)
        for name, member in vars(kind).items()
        if inspect.iscoroutinefunction(member) and not name.startswith("_")
    ]


def _signature(name: str, function: Any) -> str:
    from ccn_mcp.integration import Integration

    given = []
    for item in inspect.signature(function).parameters.values():
        if item.kind is item.KEYWORD_ONLY and "*" not in given:
            given.append("*")
        if item.name != "self":
            given.append(item.name if item.default is item.empty else f"{item.name}={item.default!r}")
    about = function.__doc__ or ""
    if (same := re.match(r"See `Integration\.(\w+)`", about)) is not None:
        about = getattr(Integration, same[1]).__doc__ or ""
    first = _prose(about.split("\n\n")[0])
    return f"| `{name}({', '.join(given)})` | {_cell(first)} |"


def _limits() -> str:
    from ccn_mcp.domain import limits

    rows = []
    body = ast.parse(inspect.getsource(limits)).body
    for here, after in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(here, ast.AnnAssign) and isinstance(here.target, ast.Name)):
            continue
        said = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            said = str(after.value.value)
        value = getattr(limits, here.target.id)
        shown = f"{value:,}" if isinstance(value, int | float) else repr(value)
        rows.append(f"| `{here.target.id}` | {shown} | {_cell(said)} |")
    return (
        "## Limits\n\n`ccn_mcp/domain/limits.py`; the unit is in the name (`S` seconds, `US` microseconds).\n\n"
        + _table("| name | value | meaning |", rows)
    )


# ---- the program ---------------------------------------------------------------------------------------


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    options = parser.parse_args()
    text = reference()
    if options.check:
        if TARGET.is_file() and TARGET.read_text("utf-8") == text:
            return 0
        sys.stderr.write("docs/reference.md is stale; run: uv run python docs/make_reference.py\n")
        return 1
    part = TARGET.with_suffix(f".{os.getpid()}.part")
    part.write_text(text, "utf-8", newline="\n")
    part.replace(TARGET)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
