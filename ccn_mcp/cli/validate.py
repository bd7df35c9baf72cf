"""`ccn-mcp validate`: does the Plate make a difference to what a model answers?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.asking import Backend, Model, model_name, port_of
from ccn_mcp.cli.output import AsJson, Db

if TYPE_CHECKING:
    from ccn_mcp.node.node import Node
    from ccn_mcp.node.questioning import Arm, Comparison

NO_DIFFERENCE_STATUS = 4


def validate(
    model: Model = None,
    backend: Backend = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Ask a model the six questions with the Plate and without it, and compare.

    It shows that the delivered text arrives and is used; it is an open-book exam and says nothing about character.
    Two calls of the model. Exit status 4 where the Plate made no difference, or there was no answer.
    """
    from ccn_mcp.node.questioning import compare

    chosen = output.load_settings(db)
    asked, port = model_name(model, chosen), port_of(backend, chosen)

    async def work(node: Node) -> Comparison:
        try:
            return await compare(node.ctx, node.caller, port, asked, on_wait=output.complain)
        finally:
            await port.aclose()

    found = output.on_node(chosen, work)
    if as_json:
        output.emit(_document(asked, found))
    else:
        _show(asked, found)
    if found.with_plate is not None and not found.makes_a_difference:
        raise typer.Exit(NO_DIFFERENCE_STATUS)


def _document(asked: str, found: Comparison) -> dict[str, Any]:
    def arm(one: Arm | None) -> dict[str, Any] | None:
        return None if one is None else one._asdict()

    return {
        "model": asked,
        "questions": found.questions,
        "with_plate": arm(found.with_plate),
        "without": arm(found.without),
        "makes_a_difference": found.makes_a_difference,
        "note": found.note,
    }


def _show(asked: str, found: Comparison) -> None:
    if found.with_plate is not None and found.with_plate.recall is not None:
        output.say(f"{'':<14}  {'with the Plate':<16}  without")
        for item in found.questions:
            name = item["name"]
            output.say(f"{name:<14}  {_outcome(found.with_plate, name):<16}  {_outcome(found.without, name)}")
        output.say(f"{'passed':<14}  {_passed(found.with_plate):<16}  {_passed(found.without)}")
        output.say(
            f"{'state':<14}  {found.with_plate.state:<16}  {found.without.state if found.without else '-'}"
        )
    output.tell(
        f"{asked}: {found.note}" if found.with_plate is not None else f"Nothing was asked. {found.note}"
    )


def _outcome(arm: Arm | None, name: str) -> str:
    return arm.recall["outcomes"][name] if arm is not None and arm.recall is not None else "-"


def _passed(arm: Arm | None) -> str:
    return (
        f"{arm.recall['passed']} of {arm.recall['of']}" if arm is not None and arm.recall is not None else "-"
    )
