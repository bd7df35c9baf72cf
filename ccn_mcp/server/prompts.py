"""Prompts that a person picks, and the completion of their arguments.

Arguments are single words, because clients split a command line at its spaces. The prompts are made by hand:
the SDK's own way builds a model of each at start-up.
"""

from __future__ import annotations

from typing import Final

from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.prompts.base import PromptArgument
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from ccn_mcp.domain.errors import CcnError
from ccn_mcp.domain.limits import PAGE_CONVERSATIONS_MAX
from ccn_mcp.domain.models import ROLES, ConversationQuery
from ccn_mcp.node.conversations import require_conversation
from ccn_mcp.node.rubric import rubric
from ccn_mcp.server.resources import current_node

COMPLETIONS_MAX: Final = 100
PAGES_MAX: Final = 20
"""Pages of conversations that a prefix is looked for in; older ids have to be typed whole."""

CONTINUE: Final = (
    "Call load_plate{arguments} and read what it returns: the Plate, and records of earlier sessions. Then say in "
    "two or three sentences where the conversation stopped and what was still open, from the record alone; what is "
    "not in it, look up with get_history, and say so if it is not there either. Do not start on anything open before "
    "I say so."
)
REFLECT: Final = (
    "Look at your own answers in this conversation, the latest ones first, and rate how they were on each of the 16 "
    "traits from 0 to 5 by the anchors below (rubric version {version}). Rate what you observe, not what you would "
    "like or what the Plate asks for; leave nothing out. Then call report_character_vector with your instance_id, "
    'scale="rubric" and traits as a map by name, and tell me in one sentence what it returned.\n\n{anchors}'
)
VALIDATE: Final = (
    "Call validate_character with your instance_id. If it returns questions, answer each in one or two full sentences "
    "from what load_plate gave you, within its limit, call it again with the run_id and the answers, and tell me the "
    "state that it returned. It shows whether the Plate arrived; it is no test of character."
)
COMMISSION: Final = (
    "Call load_plate with your model id, then answer three questions about this project as you would at work, each in "
    "a paragraph: what is known, what is open, what you would do next. Then call validate_character with your "
    "instance_id and kind=commission, rate those answers on each trait by the rubric that it returns, and call it "
    "again with the run_id and scores as a map by name. Tell me how many reports there are and how many are needed."
)


def prompts() -> list[Prompt]:
    """The prompts as the SDK takes them."""
    conversation = PromptArgument(
        name="conversation", description="id of the conversation; without it the last one", required=False
    )
    return [
        Prompt(
            name="continue",
            title="Continue",
            description="Load the Plate and pick up where the last conversation stopped.",
            arguments=[conversation],
            fn=continue_,
            context_kwarg=None,
        ),
        Prompt(
            name="reflect",
            title="Reflect",
            description="Rate your recent answers on 16 traits by anchors from 0 to 5, then report them.",
            arguments=[],
            fn=reflect,
            context_kwarg=None,
        ),
        Prompt(
            name="validate",
            title="Validate",
            description="Answer the six recall questions: did the Plate arrive?",
            arguments=[],
            fn=validate,
            context_kwarg=None,
        ),
        Prompt(
            name="commission",
            title="Commission",
            description="Report once towards a measured baseline; eight or more, each in a new session.",
            arguments=[],
            fn=commission,
            context_kwarg=None,
        ),
    ]


async def continue_(conversation: str = "") -> str:
    """The text of `continue`.

    Raises:
        MCPError: there is no such conversation.
    """
    wanted = conversation.strip()
    if wanted:
        try:
            await require_conversation(current_node().ctx, wanted)
        except CcnError as error:
            raise MCPError(INVALID_PARAMS, f"{error.code}: {error}") from error
    return CONTINUE.format(arguments=f'(conversation_id="{wanted}")' if wanted else "")


async def reflect() -> str:
    """The text of `reflect`, with the rubric."""
    found = rubric()
    return REFLECT.format(version=found.version, anchors=found.text)


async def validate() -> str:
    """The text of `validate`."""
    return VALIDATE


async def commission() -> str:
    """The text of `commission`."""
    return COMMISSION


# ---- completion ----------------------------------------------------------------------------------------


async def complete(
    ref: PromptReference | ResourceTemplateReference,  # noqa: ARG001 - an argument means the same everywhere
    argument: CompletionArgument,
    context: CompletionContext | None,  # noqa: ARG001 - no argument depends on another
) -> Completion | None:
    """Values for an argument: conversation ids, newest first, or roles."""
    if argument.name == "role":
        return _completion([role for role in ROLES if role.startswith(argument.value)])
    if argument.name in ("id", "conversation", "conversation_id"):
        try:
            return _completion(await _conversations(argument.value))
        except CcnError as error:
            raise MCPError(INTERNAL_ERROR, f"{error.code}: {error}") from error
    return None


def _completion(values: list[str]) -> Completion:
    return Completion(values=values[:COMPLETIONS_MAX], has_more=len(values) > COMPLETIONS_MAX)


async def _conversations(prefix: str) -> list[str]:
    """Ids of this scope's conversations with this prefix, one more than are shown."""
    ctx = current_node().ctx
    found: list[str] = []
    before: int | None = None
    for _ in range(PAGES_MAX):
        query = ConversationQuery(PAGE_CONVERSATIONS_MAX + 1, scope=ctx.settings.scope, before=before)
        page = await ctx.store.conversations(query)
        found += [item.id for item in page if item.id.startswith(prefix)]
        if len(page) < query.limit or len(found) > COMPLETIONS_MAX:
            break
        before = page[-1].last_seq
    return found
