"""Make the folder of Claude Desktop's bundle: `uv run python deploy/desktop/make_bundle.py OUT`.

The official `mcpb pack` then makes one file of it; see docs/desktop.md. The manifest's version, tools and prompts are
read from the server that gets packed, so they cannot differ from it. What it may hold: the MCPB specification,
manifest version 0.4.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
ICON: Final = Path(__file__).with_name("icon.png")
FOLDERS: Final = ("ccn_mcp", "plugin", ".claude-plugin")
FILES: Final = ("pyproject.toml", "README.md", "LICENSE")
LEFT_OUT: Final = shutil.ignore_patterns("__pycache__", "*.py[cod]", "*.db*", ".DS_Store")

Json = dict[str, Any]

ABOUT: Final[Json] = {
    "description": "One Plate and one tamper-evident record of your conversations, kept on this computer.",
    "long_description": (
        "Claude starts each conversation from your Plate, a page that you write, and finds what was said in earlier "
        "ones. Everything stays in one file on this computer, and anyone can check that nothing in it was changed. "
        "Claude Desktop has no way to record by itself: Claude records what it is asked to record, and the rest comes "
        "from your account's export."
    ),
    "author": {"name": "ccn_mcp"},
    "license": "MIT",
    "keywords": ["memory", "history", "continuity", "audit"],
    "icon": ICON.name,
}
SERVER: Final[Json] = {
    "type": "uv",
    "entry_point": "ccn_mcp/__main__.py",
    "mcp_config": {
        "command": "uv",
        "args": ["run", "--directory", "${__dirname}", "--no-dev", "ccn-mcp", "serve"],
        # Not in args: what a person left empty would stay there as its placeholder.
        "env": {"CCN_DATA_DIR": "${user_config.folder}", "CCN_PLATE": "${user_config.plate}"},
    },
}
# A required setting without a value yields no command; one without a default stays a placeholder.
ASKED: Final[Json] = {
    "folder": {
        "type": "directory",
        "title": "Where to keep the record",
        "description": "A folder for the record's file. Left empty: where your other clients keep it, too.",
        "required": False,
        "default": "",
    },
    "plate": {
        "type": "file",
        "title": "Your Plate",
        "description": (
            "The page that Claude starts from: Markdown, who you are and how to work with you. Taken over once, "
            "where you have not set one. Left empty: a starter page."
        ),
        "required": False,
        "default": "",
    },
}
RUNS_ON: Final[Json] = {
    "platforms": ["darwin", "win32", "linux"],
    "runtimes": {"python": ">=3.11"},
}


def manifest() -> Json:
    """The whole manifest of the server in this checkout."""
    import anyio

    from ccn_mcp import __version__

    with tempfile.TemporaryDirectory() as folder:
        served = anyio.run(_served, Path(folder) / "nothing.db")
    return {
        "manifest_version": "0.4",
        "name": "ccn-mcp",
        "display_name": "Continuity record",
        "version": __version__,
        **ABOUT,
        "server": SERVER,
        "user_config": ASKED,
        **served,
        "compatibility": RUNS_ON,
    }


async def _served(db: Path) -> Json:
    """Tools and prompts, as a client is told them. A start writes nothing."""
    from mcp import Client

    from ccn_mcp.server.app import build_server
    from ccn_mcp.settings import Settings

    async with Client(build_server(Settings(db=db))) as client:
        tools = (await client.list_tools()).tools
        prompts = (await client.list_prompts()).prompts
        return {
            "tools": [{"name": tool.name, "description": tool.description} for tool in tools],
            "prompts": [
                {
                    "name": prompt.name,
                    "description": prompt.description,
                    "arguments": [argument.name for argument in prompt.arguments or ()],
                    "text": await _text(client, prompt.name),
                }
                for prompt in prompts
            ],
        }


async def _text(client: Any, name: str) -> str:
    """What the prompt says where none of its arguments is given."""
    answer = await client.get_prompt(name)
    return "\n\n".join(message.content.text for message in answer.messages)


def make(out: Path) -> None:
    """Fill `out`, which must be empty or not there: nothing that is in it is ever removed.

    Raises:
        SystemExit: it holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SystemExit(f"{out} is there already and not empty; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, out / name, ignore=LEFT_OUT)
    for source in (*(ROOT / name for name in FILES), ICON):
        shutil.copyfile(source, out / source.name)
    text = json.dumps(manifest(), indent=2, ensure_ascii=False) + "\n"
    (out / "manifest.json").write_text(text, encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the folder of Claude Desktop's bundle.")
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="a new folder; `mcpb pack` makes the bundle of it"
    )
    out: Path = parser.parse_args().out
    sys.path.insert(0, str(ROOT))  # the checkout that gets packed, not one that is installed
    make(out)
    sys.stdout.write(f"{out} is made; now: npx @anthropic-ai/mcpb pack {out} ccn-mcp.mcpb\n")


if __name__ == "__main__":
    main()
