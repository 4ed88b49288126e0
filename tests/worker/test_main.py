"""The worker's clocks. What the loop does is shown by real processes, in tests/e2e."""

from __future__ import annotations

import pytest

from app.jobs import Beat, Lease
from worker import main
from worker.main import Every, Silence


class Clock:
    """A monotonic clock that a test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 1000.0
        monkeypatch.setattr(main.time, "monotonic", lambda: self.time)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def beat(count: int, token: str = "a") -> Beat:
    return Beat(Lease("job", 1, token), count)


def test_a_timer_is_due_at_once_and_then_every_so_often(clock: Clock) -> None:
    timer = Every(10)
    due = []
    for _ in range(5):
        due.append(timer.due())
        clock.time += 5
    assert due == [True, False, True, False, True]
    timer.at_once()
    assert timer.due()


def test_a_beat_that_stands_still_for_a_lease_is_silent(clock: Clock) -> None:
    silence = Silence(30)
    for _ in range(4):
        assert silence.observe([beat(1)]) == []
        clock.time += 9
    assert silence.observe([beat(1)]) == [beat(1)]
    assert silence.observe([beat(2)]) == [], "it beats again"


def test_a_new_attempt_s_beat_is_a_new_one(clock: Clock) -> None:
    silence = Silence(30)
    for turn in range(8):
        assert silence.observe([beat(0, token=str(turn // 3))]) == []
        clock.time += 9


def test_time_in_which_nobody_could_beat_does_not_count(clock: Clock) -> None:
    """The database was away for an hour, or this process was stopped: one long gap is not a silent worker."""
    silence = Silence(30)
    silence.observe([beat(1)])
    clock.time += 3600
    assert silence.observe([beat(1)]) == []
    clock.time += 9
    assert silence.observe([beat(1)]) == []
