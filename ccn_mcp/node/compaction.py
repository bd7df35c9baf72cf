"""A client has replaced an instance's context by a summary: that is recorded, and the measure is asked for again.

No model is called for it: the instance is asked to report, and `ccn-mcp drift` shows the reports before and after.
"""

from __future__ import annotations

from typing import Final

from ccn_mcp.domain.errors import StoreMoved
from ccn_mcp.domain.instances import Event, Instance
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import GUARD_RETRIES_MAX
from ccn_mcp.domain.models import Group, Guard
from ccn_mcp.node.context import Caller, Context, must_record
from ccn_mcp.node.instances import awake, instance_draft, seat_of, seat_of_session
from ccn_mcp.node.series import series

COMPACTED: Final = (
    "Compaction: a summary has taken the place of this session's earlier text, and the Plate above was put in again. "
    "{last} When the task at hand is done, between tasks, call report_character_vector("
    'instance_id="{instance_id}") once, from what you observe in your answers since the compaction: so that the '
    "person can see whether it changed anything. The text before it is in get_history."
)
NO_REPORT: Final = "No report of this conversation came before it."
LAST_REPORT: Final = "The last report before it came at {at}; the verdict was: {verdict}."
NOT_JUDGED: Final = "none yet"


async def compacted(ctx: Context, caller: Caller, session: str) -> str:
    """Record that this session's instance was compacted; what it is told. Nothing of both where there is none.

    Where the person has switched the measure off, the compaction is recorded and the instance is told nothing.

    Raises:
        Excluded, PrivateSession, StoreError: it was not recorded.
    """
    must_record(ctx)
    found = await seat_of_session(ctx, caller, session)
    if found is None:
        return ""
    seat = await awake(ctx, found)
    for _ in range(GUARD_RETRIES_MAX):
        size = (await ctx.store.info()).head.size
        instance = Instance.from_body((await seat_of(ctx, seat.instance_id)).snapshot)
        now = ctx.now_us()
        draft = instance_draft(instance, Event.COMPACTED, now)
        try:
            await ctx.store.append(
                Group((draft,), guard=Guard((Kind.INSTANCE,), size), touch={instance.id: now})
            )
        except StoreMoved:
            continue
        ctx.seen_us[instance.id] = now
        break
    else:
        raise StoreMoved("other writers kept coming first; the compaction was not recorded")
    if ctx.settings.character == "off":
        return ""
    last = NO_REPORT
    # By the conversation: a session that was resumed has had other instances.
    for point in (await series(ctx, conversation_id=instance.conversation_id, limit=1))["points"]:
        last = LAST_REPORT.format(at=point["at"], verdict=point["action"] or NOT_JUDGED)
    return COMPACTED.format(last=last, instance_id=seat.instance_id)
