"""What the commands that ask a model share: whom, which model, which conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ccn_mcp.domain.errors import BadInput, NotFound

if TYPE_CHECKING:
    from ccn_mcp.node.context import Context
    from ccn_mcp.ports import LanguageModel
    from ccn_mcp.settings import Settings

CONVERSATIONS_LOOKED_AT = 20

Model = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME", help="Which model is asked. Default: CCN_MODEL, else claude-sonnet-5-5."
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="api|claude-code",
        help="Your own key, or your Claude Code's login. Default: CCN_BACKEND, else api.",
    ),
]


def port_of(backend: str | None, chosen: Settings) -> LanguageModel:
    """The back end, ready to be asked: what is missing is told before anything is recorded.

    Raises:
        BadInput: there is no such back end. NotFound: it has no credential, or its program is not there.
    """
    from ccn_mcp.claude.backends import model_of

    port = model_of(backend or chosen.backend)
    if missing := port.missing():
        raise NotFound(missing)
    return port


def model_name(named: str | None, chosen: Settings) -> str:
    """The model to ask.

    Raises:
        BadInput: an empty name.
    """
    if named is not None and not named.strip():
        raise BadInput("--model is empty; name a model, or leave it out")
    return named or chosen.model


async def last_conversation(ctx: Context) -> str:
    """The last conversation of this scope in which something was said.

    Raises:
        NotFound: there is none.
    """
    from ccn_mcp.domain.models import ConversationQuery

    query = ConversationQuery(CONVERSATIONS_LOOKED_AT, scope=ctx.settings.scope)
    for item in await ctx.store.conversations(query):
        if item.messages:
            return item.id
    raise NotFound(
        "there is no conversation in this scope to go on with; ccn-mcp history --all-scopes lists the others"
    )
