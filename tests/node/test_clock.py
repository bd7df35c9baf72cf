"""The process's own clock: leases and ages are differences of it, so it does not run backwards."""

from __future__ import annotations

import pytest

from ccn_mcp.app import SET_BACK_US_MAX, SystemClock

HOUR_US = 3_600_000_000


class Hands:
    """The two clocks of a machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_us, self.tick_us = 1_795_000_000_000_000, 5_000_000
        monkeypatch.setattr("ccn_mcp.app.time.time_ns", lambda: self.wall_us * 1_000)
        monkeypatch.setattr("ccn_mcp.app.time.monotonic_ns", lambda: self.tick_us * 1_000)

    def move(self, wall: int, tick: int) -> None:
        self.wall_us += wall
        self.tick_us += tick


def test_a_wall_clock_that_is_set_back_does_not_turn_time_back(monkeypatch: pytest.MonkeyPatch) -> None:
    hands, clock = Hands(monkeypatch), SystemClock()
    begun = clock.now_us()
    assert begun == hands.wall_us
    hands.move(-HOUR_US, 60_000_000)
    assert clock.now_us() == begun + 60_000_000
    hands.move(60_000_000, 60_000_000)
    assert clock.now_us() == begun + 120_000_000, "at the monotonic clock's pace until the wall has caught up"
    hands.move(2 * HOUR_US, 0)
    assert clock.now_us() == hands.wall_us, "forwards it is followed: a machine that slept"


def test_a_clock_that_was_far_ahead_is_put_right(monkeypatch: pytest.MonkeyPatch) -> None:
    hands, clock = Hands(monkeypatch), SystemClock()
    clock.now_us()
    hands.move(-SET_BACK_US_MAX - 1, 0)
    assert clock.now_us() == hands.wall_us
