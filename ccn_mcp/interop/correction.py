"""An instance is in the group of the model that its session's transcript names, whatever it was declared to be.

Only loaded where a correction is due: that is seldom, and a hook is waited for.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from ccn_mcp.domain.errors import StoreMoved
from ccn_mcp.domain.instances import Event, Instance, State, group_of
from ccn_mcp.domain.ledger import Kind
from ccn_mcp.domain.limits import GUARD_RETRIES_MAX
from ccn_mcp.domain.models import Draft, Guard
from ccn_mcp.interop.recording import HOOK_WAIT_S_MAX, SessionLog
from ccn_mcp.interop.session_end import seats_of
from ccn_mcp.node.instances import described, instance_draft
from ccn_mcp.store.sqlite import connect

if TYPE_CHECKING:
    from ccn_mcp.interop.claude_code import Answered
    from ccn_mcp.interop.hook import Call


def correct(call: Call, log: SessionLog, by: Answered) -> None:
    """Record which model and thinking mode this session's live instances have, where that was not known or was wrong.

    Raises:
        CcnError: it was not recorded; the next answer brings it.
    """
    path = connect.real_path(call.chosen.db)
    for _ in range(GUARD_RETRIES_MAX):
        with connect.our_words(path):
            with closing(connect.connect(path, HOOK_WAIT_S_MAX)) as reader:
                (size,) = reader.execute("SELECT size FROM log").fetchone()
            drafts = _due(call, by)
        if not drafts:
            return
        try:
            # A snapshot from before an evaluation flagged the instance would take the flag away.
            log.append(*drafts, guard=Guard((Kind.INSTANCE,), size))
        except StoreMoved:
            continue
        return
    raise StoreMoved("other writers kept coming first; the instance's model was not recorded")


def _due(call: Call, by: Answered) -> list[Draft]:
    now = time.time_ns() // 1_000
    drafts = []
    ended = (State.TERMINATED, State.FAILED)
    live = [seat for seat in seats_of(call) if Instance.from_body(seat.snapshot).state not in ended]
    for place, seat in enumerate(live):
        if place and now - seat.seen_us > call.chosen.lease_us:
            continue  # another one took its place, and an entry would renew its lease
        instance = Instance.from_body(seat.snapshot)
        known, changed = described(instance, client="", model=by.model, thinking=by.thinking)
        if group_of(known) != group_of(instance):
            # What was reported before that model was asked, another one has reported.
            known = replace(known, reports_from_us=max(known.reports_from_us, by.since_us))
        if changed:
            drafts.append(instance_draft(known, Event.CORRECTED, now))
    return drafts
