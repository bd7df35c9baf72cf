"""The end of a session: its instances are ended, so that the others do not wait for them."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from ccn_mcp.domain import instances
from ccn_mcp.domain.instances import Event, Instance, State
from ccn_mcp.domain.models import Seat
from ccn_mcp.interop.recording import HOOK_WAIT_S_MAX, PRINCIPAL, SessionLog
from ccn_mcp.node.instances import instance_draft
from ccn_mcp.store.sqlite import connect, reads

if TYPE_CHECKING:
    from ccn_mcp.interop.hook import Call


def end(call: Call) -> None:
    """Record that this session's live instances are terminated.

    Raises:
        CcnError: it was not recorded; their leases run out.
    """
    with SessionLog(call.chosen, call.config, call.session) as log:
        for seat in seats_of(call):
            instance = Instance.from_body(seat.snapshot)
            if instance.state is not State.TERMINATED:
                now = time.time_ns() // 1_000
                log.append(instance_draft(instances.terminated(instance), Event.TERMINATED, now))


def seats_of(call: Call) -> list[Seat]:
    """The instances that this session has had, the one seen last first."""
    path = connect.real_path(call.chosen.db)
    if connect.is_empty(path):
        return []
    with connect.our_words(path), closing(connect.connect(path, HOOK_WAIT_S_MAX)) as reader:
        if not connect.read_format(reader, path):
            return []  # another process is just creating it
        rows = reader.execute(*reads.seats(0, None)).fetchall()
    found = [reads.seat(row) for row in rows]
    return [
        seat
        for seat in found
        if seat.snapshot.get("session") == call.session and seat.snapshot.get("principal") == PRINCIPAL
    ]
