"""`ccn-mcp judge`: have a model score the replies of a conversation, now or as a batch at half the price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ccn_mcp.cli import output
from ccn_mcp.cli.asking import Backend, Model, last_conversation, model_name, port_of
from ccn_mcp.cli.output import AsJson, Db
from ccn_mcp.domain.errors import BadInput

if TYPE_CHECKING:
    from ccn_mcp.node.judge import Prepared
    from ccn_mcp.node.judge_batch import Collected, Submitted
    from ccn_mcp.node.judgements import Judged, JudgedTrait
    from ccn_mcp.node.node import Node

# As in `domain/judging.py` and `node/judgements.py`, which help would have to import; a test compares them.
RUNS: Final = 5
LAST: Final = 40
TOKENS: Final = 20_000
BAR_CHARS: Final = 20

Conversation = Annotated[
    str | None, typer.Option("--conversation", metavar="ID", help="Judge this conversation.")
]
Newest = Annotated[bool, typer.Option("--continue", help="Judge the last conversation of this scope.")]
Instance = Annotated[
    str | None,
    typer.Option("--instance", metavar="ID", help="Whose replies. Default: the newest reply's author."),
]
Runs = Annotated[int, typer.Option("--runs", help="How often it is asked, 3 to 15; the median counts.")]
Last = Annotated[int, typer.Option("--last", help="Newest messages it is shown, at the most (2 to 200).")]
Tokens = Annotated[int, typer.Option("--tokens", help="Tokens of the conversation it is shown, about.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be sent and could be spent; send nothing.")
]
Batch = Annotated[
    bool, typer.Option("--batch", help="Send it as a batch: half the price, ready within a day.")
]
Collect = Annotated[bool, typer.Option("--collect", help="Fetch the batches that are ready.")]
NoVote = Annotated[
    bool, typer.Option("--no-vote", help="Record the judgement, and keep it out of the consensus.")
]


def judge(
    conversation: Conversation = None,
    go_on: Newest = False,
    instance: Instance = None,
    model: Model = None,
    backend: Backend = None,
    runs: Runs = RUNS,
    last: Last = LAST,
    tokens: Tokens = TOKENS,
    dry_run: DryRun = False,
    batch: Batch = False,
    collect: Collect = False,
    no_vote: NoVote = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Have a model score how a conversation's replies behave, on the sixteen traits.

    The conversation's newest messages are sent to the model's provider, and it costs what --dry-run shows at the most.
    """
    if collect:
        _collect(db, as_json=as_json)
        return
    if conversation is None and not go_on:
        raise BadInput("say what to judge: --continue for the last conversation, or --conversation ID")
    given: dict[str, Any] = {
        "instance": instance,
        "runs": runs,
        "last": last,
        "tokens": tokens,
        "vote": not no_vote,
    }
    if dry_run:
        _dry_run(db, conversation, model, given, batch=batch, as_json=as_json)
    elif batch:
        _submit(db, conversation, model, backend, given, as_json=as_json)
    else:
        _judge(db, conversation, model, backend, given, as_json=as_json)


def _judge(
    db: str | None,
    conversation: str | None,
    model: str | None,
    backend: str | None,
    given: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    chosen = output.load_settings(db)
    port = port_of(backend, chosen)

    async def work(node: Node) -> Judged:
        from ccn_mcp.node import judge as judging

        try:
            with output.bar("Judging") as draw:
                draw(0, given["runs"])
                return await judging.judge(
                    node.ctx,
                    node.caller,
                    port,
                    model_name(model, chosen),
                    await _meant(node, conversation),
                    **given,
                    on_wait=output.complain,
                    on_run=draw,
                )
        finally:
            await port.aclose()

    done = output.on_node(chosen, work)
    if as_json:
        output.emit(done)
    else:
        show(done)


def _dry_run(
    db: str | None,
    conversation: str | None,
    model: str | None,
    given: dict[str, Any],
    *,
    batch: bool,
    as_json: bool,
) -> None:
    chosen = output.load_settings(db)

    async def work(node: Node) -> tuple[Prepared, str]:
        from ccn_mcp.domain.cost import dollars, pico_of, price
        from ccn_mcp.domain.spending import day_of
        from ccn_mcp.node.judge import prepare
        from ccn_mcp.node.usage import worst_of
        from ccn_mcp.prices import table_of

        where = await _meant(node, conversation)
        ready = await prepare(node.ctx, node.caller, model_name(model, chosen), where, **given)
        worst = worst_of(ready.asked, batch=batch)
        found = price(ready.asked.model, worst, day_of(node.ctx.now_us()), table_of(chosen))
        most = dollars(ready.order.runs * pico_of(found.usd)) if found is not None else "unknown"
        return ready, most

    ready, most = output.on_node(chosen, work)
    if as_json:
        output.emit(
            {
                "conversation_id": ready.order.conversation_id,
                "instance_id": ready.order.instance_id,
                "model": ready.asked.model,
                "runs": ready.order.runs,
                "replies": ready.examined.replies,
                "messages": [said.seq for said in ready.examined.messages],
                "system": list(ready.asked.system),
                "prompt": ready.asked.turns[0].blocks[0]["text"],
                "costs_at_most": most,
            }
        )
        return
    output.say("\n".join(ready.asked.system))
    output.say(str(ready.asked.turns[0].blocks[0]["text"]))
    output.say()
    output.tell(
        f"Nothing was sent. {output.amount(ready.order.runs, 'run')} of {ready.asked.model} on "
        f"{output.amount(ready.examined.replies, 'reply').replace('replys', 'replies')}: at most {most}."
    )


def _submit(
    db: str | None,
    conversation: str | None,
    model: str | None,
    backend: str | None,
    given: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    chosen = output.load_settings(db)
    if backend not in (None, "api"):
        raise BadInput("batches are a service of the API: leave --backend out, or leave --batch out")

    async def work(node: Node) -> Submitted:
        from ccn_mcp.claude.batches import ApiBatches
        from ccn_mcp.node.judge_batch import submit

        batches = ApiBatches()
        where = await _meant(node, conversation)
        try:
            return await submit(node.ctx, node.caller, batches, model_name(model, chosen), where, **given)
        finally:
            await batches.aclose()

    sent = output.on_node(chosen, work)
    if as_json:
        output.emit({"judgement": sent.judgement, "batch": sent.batch, "seq": sent.seq, "head": sent.head})
        return
    output.say(f"Sent as batch {sent.batch} (entry {sent.seq}).", "green")
    output.tell("It is ready within a day, most often within an hour. Then: ccn-mcp judge --collect")


def _collect(db: str | None, *, as_json: bool) -> None:
    async def work(node: Node) -> Collected:
        from ccn_mcp.claude.batches import ApiBatches
        from ccn_mcp.node.judge_batch import collect

        await output.must_exist(node)
        batches = ApiBatches()
        try:
            return await collect(node.ctx, node.caller, batches)
        finally:
            await batches.aclose()

    found = output.on_node(output.load_settings(db), work)
    if as_json:
        output.emit(
            {"judged": list(found.judged), "problems": list(found.problems), "waiting": found.waiting}
        )
        return
    for item in found.judged:
        show(item)
    for line in found.problems:
        output.tell(line, style="yellow")
    if found.waiting:
        output.tell(f"{found.waiting} still at work. Ask again later: ccn-mcp judge --collect")
    elif not found.judged and not found.problems:
        output.tell("No batch of this store waits to be collected.")


async def _meant(node: Node, conversation: str | None) -> str:
    """The conversation that was named, else the last one of this scope.

    Raises:
        NotFound: there is none. NoStore.
    """
    await output.must_exist(node)
    return conversation or await last_conversation(node.ctx)


def show(done: Judged) -> None:
    """A judgement for the person: each trait's median and range, and what became of it."""
    from ccn_mcp.node.baselines import SAID

    output.say(f"Judgement {done['judgement']} (entry {done['seq']})", "cyan")
    output.tell(
        f"{done['model']}, {done['usable']} of {done['runs']} runs usable, {done['replies']} replies",
        indent="  ",
    )
    for name, trait in done["traits"].items():
        output.say(f"  {name:<14}{_line(trait)}")
    if done["unproved"]:
        output.tell(
            f"{output.amount(done['unproved'], 'score')} did not count: the quoted words are in no reply",
            indent="  ",
        )
    if done["unmeasured"]:
        output.tell(f"Unmeasured: {', '.join(done['unmeasured'])}", indent="  ", style="yellow")
    if done["no_vote"] is not None:
        output.tell(f"Not in the consensus: {done['no_vote']}", indent="  ")
    elif done["action"] is not None:
        output.tell(
            f"In the consensus as `judge` (entry {done['vote_seq']}): {done['action']}, {done['why']}",
            indent="  ",
        )
        output.tell(f"Baseline: {SAID[str(done['baseline_source'])]}", indent="  ")
    else:
        output.tell(f"In the consensus as `judge` (entry {done['vote_seq']}); no verdict yet", indent="  ")


def _line(trait: JudgedTrait) -> str:
    median, lowest, highest = trait["median"], trait["lowest"], trait["highest"]
    if median is None or lowest is None or highest is None:
        return f"unmeasured ({trait['runs']} runs)"
    filled = round(median * BAR_CHARS)
    return f"{median:.2f}  {'#' * filled:<{BAR_CHARS}}  {lowest:.2f} to {highest:.2f}  ({trait['runs']} runs)"
