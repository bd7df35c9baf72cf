"""A bot that remembers, on `ccn_mcp.integration`: `python examples/bot.py`. Put your model into `answer`."""

import asyncio
import tempfile
from pathlib import Path

from ccn_mcp.integration import Integration


def answer(context: str, message: str) -> str:
    """Stands for a model: it is given what it starts from, and what the person says."""
    return "Seventeen herons." if "herons" in context else f"I have no record of that: {message}"


async def session(db: Path, *messages: str) -> list[str]:
    """One run of the bot."""
    async with Integration(db, client="bot", config_dir=db.parent) as ccn:
        opened = await ccn.create_conversation_with_continuity("With the bot")
        answers = []
        for message in messages:
            await ccn.record_message(opened["conversation_id"], "user", message)
            answers.append(answer(opened["context"], message))
            await ccn.record_message(opened["conversation_id"], "assistant", answers[-1])
        assert (await ccn.get_health_status(verify=True))["verified"]
        return answers


async def main() -> None:
    """Two runs: the second knows what was said in the first."""
    with tempfile.TemporaryDirectory() as folder:
        assert "no record" in (await session(Path(folder, "bot.db"), "I saw 17 herons."))[0]
        assert await session(Path(folder, "bot.db"), "What did I see?") == ["Seventeen herons."]
    print("the bot remembers")


asyncio.run(main())
