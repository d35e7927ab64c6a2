"""Which way of launching is the fastest, found out while a program runs: on a clock of our own, and a fake driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.types import HOST, BufferRole
from forerun.kernels.builtin import KERNELS
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.measured_splits import ROUNDS, MeasuredSplits
from forerun.support.diagnostics import InvalidInput
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.graphs import I32, N
from tests.runtime.cuda.support import on_fake

STREAM = object()


@dataclass
class Machine:
    """Ways that take some seconds, and the replays that they launched."""

    seconds: dict[str, float]
    now: float = 0.0
    launched: list[str] = field(default_factory=list)

    def splits(self) -> MeasuredSplits:
        return MeasuredSplits(
            {name: lambda stream, name=name: self.launch(name, stream) for name in self.seconds}, lambda: self.now
        )

    def launch(self, name: str, stream: Any) -> None:
        assert stream is STREAM
        self.launched.append(name)
        # The first replay of each way is slower than all others.
        self.now += self.seconds[name] + (100.0 if self.launched.count(name) == 1 else 0.0)


@pytest.mark.parametrize("fastest", ["graph", "plans", "synchronous"])
def test_each_way_is_tried_and_the_fastest_one_stays(fastest: str) -> None:
    machine = Machine({"graph": 3.0, "plans": 3.0, "synchronous": 3.0} | {fastest: 2.0})
    splits = machine.splits()
    for _ in range(3 * ROUNDS):
        assert splits.chosen == ""
        splits.launch(STREAM)
        splits.note_end()
    assert {name: machine.launched.count(name) for name in machine.seconds} == dict.fromkeys(machine.seconds, ROUNDS)
    assert splits.chosen == fastest
    machine.launched.clear()
    machine.seconds[fastest] = 9.0  # what was measured once stays
    for _ in range(5):
        splits.launch(STREAM)
        splits.note_end()
    assert machine.launched == [fastest] * 5


def test_ways_change_only_while_nothing_is_in_flight() -> None:
    machine = Machine({"graph": 1.0, "plans": 2.0})
    splits = machine.splits()
    for _ in range(4):
        splits.launch(STREAM)
        splits.launch(STREAM)
        splits.note_end()
    assert machine.launched == ["graph"] * 8, "replays in a row are no measurement"
    splits.launch(STREAM)
    splits.note_end()
    splits.launch(STREAM)
    assert machine.launched[-1] == "plans"
    splits.launch(STREAM)
    assert machine.launched[-1] == "plans"
    splits.note_end()
    splits.note_end()
    assert splits.chosen == ""


def test_a_failed_replay_is_not_measured() -> None:
    machine = Machine({"graph": 5.0, "plans": 1.0})
    splits = machine.splits()
    while not splits.chosen:
        splits.launch(STREAM)
        failed = machine.launched[-1] == "graph" and machine.launched.count("graph") % 2 == 0
        machine.now -= 100.0 if failed else 0.0
        splits.note_end(failed=failed)
    assert splits.chosen == "plans"
    assert machine.launched.count("graph") == 2 * ROUNDS - 1


def test_a_program_counts_on_whichever_way_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each replay makes twice the total plus ``x``; a function of the host refuses 13: then nothing has happened."""
    api = FakeCuda()
    with on_fake(monkeypatch, api) as driver:
        builder = GraphBuilder("counting")
        x, total = builder.input("x", I32, (N,)), builder.state("total", I32, (N,))
        here, y = (
            builder.buffer(name, I32, (N,), role, place=HOST)
            for name, role in (("here", BufferRole.TEMP), ("y", BufferRole.OUTPUT))
        )
        builder.launch(KERNELS["accumulate_i32"], x=x, y=total)
        builder.copy(total, here)
        builder.host("tests.runtime.cuda.hosts:fail", [here], [y])
        program = CudaTarget(splits="measured").load(builder.build(), {})
        ones, expected = np.ones(N, np.int32), 0
        for number in range(3 * ROUNDS + 2):
            if number in (4, 11):  # 2 * 3 + 7 is 13, while a way is tried and another one was before
                program.reset()
                program.run({"x": ones})
                program.run({"x": ones})
                with pytest.raises(InvalidInput, match="thirteen"):
                    program.run({"x": 7 * ones})
                assert program.read("total").tolist() == [3] * N
                expected = 3
            expected = 2 * expected + 1
            assert program.run({"x": ones})["y"].tolist() == [expected] * N
        program.close()
        assert (api.leaks(), driver.handles.live()) == ({}, ())


def test_each_way_has_a_wait_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One way leaves a whole step to wait for, others little: what is usual in one says nothing about the others."""
    api = FakeCuda()
    with on_fake(monkeypatch, api):
        builder = GraphBuilder("one_call")
        x = builder.buffer("x", I32, (N,), BufferRole.INPUT, place=HOST)
        y = builder.buffer("y", I32, (N,), BufferRole.OUTPUT, place=HOST)
        builder.host("tests.runtime.cuda.hosts:fail", [x], [y])
        program = CudaTarget(splits="measured").load(builder.build(), {})
        waits: dict[str, set[int]] = {}
        splits = program._split
        assert isinstance(splits, MeasuredSplits)
        for _ in range(3 * ROUNDS):
            program.run({"x": np.ones(N, np.int32)})
            waits.setdefault(splits._way, set()).add(id(program._resources._wait))
        assert [len(found) for found in waits.values()] == [1, 1, 1]
        assert len(set.union(*waits.values())) == 3
        program.close()
