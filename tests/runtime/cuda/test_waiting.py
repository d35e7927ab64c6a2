"""How a thread waits for the device, on a clock of our own: it sleeps while that takes long, and looks at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.waiting import LOOKING_S, EventWait

LOOK_S = 2e-6  # of one look at the event
WAKE_S = 3e-4  # by which a sleeper is late
PAUSE_S = LOOKING_S / 4


@dataclass
class Device:
    """A clock, and an event that is over at some time."""

    now: float = 0.0
    over: float = 0.0
    slept: list[float] = field(default_factory=list)
    looked: int = 0
    refuses: bool = False

    def function(self, name: str) -> Any:
        assert name == "cuEventQuery"

        def query(event: int) -> tuple[int]:
            assert event == 7
            self.now += LOOK_S
            self.looked += 1
            return (700 if self.refuses else 600 if self.now < self.over else 0,)

        return query

    def failure(self, name: str, error: int) -> RuntimeError:
        return RuntimeError(f"{name}: {error}")

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds + WAKE_S

    def waiting(self) -> EventWait:
        return EventWait(cast(Driver, self), 7, lambda: self.now, self.sleep)

    def run(self, wait: EventWait, seconds: float) -> float:
        """One wait for work of some seconds: how late it returns."""
        self.slept.clear()
        self.looked = 0
        self.over = self.now + seconds
        wait.wait()
        assert self.now >= self.over, "it returned early"
        return self.now - self.over


def test_short_work_is_looked_at_and_nobody_sleeps() -> None:
    device = Device()
    wait = device.waiting()
    for _ in range(3):
        assert device.run(wait, 1e-4) <= 2 * LOOK_S
        assert not device.slept


def test_long_work_is_slept_through_but_for_its_end() -> None:
    device = Device()
    wait = device.waiting()
    device.run(wait, 0.02)
    assert len(device.slept) > 10, "the first time nobody knows how long it takes"
    for _ in range(20):
        late = device.run(wait, 0.02)
    assert late <= 2 * LOOK_S
    assert sum(device.slept) + WAKE_S * len(device.slept) > 0.019
    assert len(device.slept) <= 15
    assert device.looked * LOOK_S <= LOOKING_S


def test_the_usual_time_is_the_shortest_of_the_last_waits() -> None:
    device = Device()
    wait = device.waiting()
    assert wait.usual == 0
    for seconds in (5e-4, 4e-4, 3e-4, 6e-4, 5e-4, 4e-4):
        device.run(wait, seconds)
    assert wait.usual == pytest.approx(3e-4, abs=2 * LOOK_S)
    device.run(wait, 7e-4)
    assert wait.usual == pytest.approx(4e-4, abs=2 * LOOK_S)


def test_work_that_gets_shorter_is_met_again() -> None:
    device = Device()
    wait = device.waiting()
    for _ in range(5):
        device.run(wait, 0.02)
    late = [device.run(wait, 0.005) for _ in range(3)]
    assert late[0] <= 0.005 / 4 + WAKE_S
    assert max(late[1:]) <= 3 * LOOK_S
    assert device.run(wait, 0.0) <= 2 * LOOK_S, "what is over is not slept for"


def test_one_long_replay_does_not_delay_the_short_ones_after_it() -> None:
    """Ways of launching that are tried by turns: one leaves a whole step to wait for, the others its last kernels."""
    device = Device()
    wait = device.waiting()
    late = [device.run(wait, seconds) for _ in range(8) for seconds in (0.019, 3e-4, 3e-4, 3e-4)]
    assert max(late[2::4] + late[3::4] + late[5::4]) <= 2 * LOOK_S
    assert max(late) <= PAUSE_S + WAKE_S + 2 * LOOK_S


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=30))
def test_whatever_came_before_little_is_overslept(times: list[float]) -> None:
    device = Device()
    wait = device.waiting()
    for seconds in times:
        assert device.run(wait, seconds) <= max(PAUSE_S, seconds / 4) + WAKE_S + 3 * LOOK_S


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=30))
def test_it_never_returns_early_and_never_looks_for_long(times: list[float]) -> None:
    device = Device()
    wait = device.waiting()
    for seconds in times:
        device.run(wait, seconds)
        pauses = len(device.slept)
        assert device.looked * LOOK_S <= LOOKING_S + (5 + pauses) * LOOK_S


def test_an_error_of_the_work_is_raised() -> None:
    device = Device(refuses=True)
    with pytest.raises(RuntimeError, match="cuEventQuery: 700"):
        device.waiting().wait()
