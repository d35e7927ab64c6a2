"""Schedules as values: read, saved, replayed, and refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.kernels.builtin import KERNELS
from forerun.runtime.reference import Action, ReferenceTarget, Schedule
from forerun.support.diagnostics import InvalidInput
from tests.runtime.support import I32, adversarial, phase, serial, vector_kernel


def graph_of(*names: str) -> Graph:
    make = GraphBuilder("g")
    make.input("x", I32, (2,))
    make.state("t", I32, (2,))
    make.output("y", I32, (2,))
    for name in names:
        make.launch(KERNELS[f"{name}_i32"], x="x", y="t", node=name)
    make.copy("t", "y", node="out")
    return make.build()


GRAPH = graph_of("copy", "accumulate")
INPUTS = {"x": [3, 4]}


def test_printed_form() -> None:
    actions = (
        Action("phase", "add", "load"),
        Action("load", "add", "load", 1),
        Action("flush", "loop/add", "store", 0),
        Action("flush", "add", "store", 2, 1),
        Action("flush", "add", "store", 2, 2),
        Action("run", "copy"),
        Action("end"),
    )
    assert str(Schedule("decode", 3, 7, "pct", True, actions)).splitlines() == [
        "schedule of graph decode, replay 7, seed 3, strategy pct, with H6",
        "   0  add: phase load",
        "   1  add: read 1 of load happens",
        "   2  loop/add: write 0 of store becomes visible",
        "   3  add: write 2 of store, first piece, becomes visible",
        "   4  add: write 2 of store, second piece, becomes visible",
        "   5  copy: runs",
        "   6  the graph ends",
    ]


@pytest.mark.parametrize("seed", range(8))
def test_saved_schedules_replay_exactly(seed: int, tmp_path: Path) -> None:
    expected = serial(GRAPH, INPUTS)["y"].tolist()
    found, schedule = adversarial(GRAPH, INPUTS, seed)
    assert found["y"].tolist() == expected
    schedule.save(tmp_path / "s.json")
    assert Schedule.load(tmp_path / "s.json") == schedule
    program = ReferenceTarget(str(tmp_path / "s.json")).load(GRAPH, {})
    assert program.run(INPUTS)["y"].tolist() == expected
    assert program.last_schedule == schedule


def test_the_schedule_of_a_failed_replay_is_kept() -> None:
    make = GraphBuilder("g")
    make.input("x", I32, (2,))
    make.output("y", I32, (2,))
    make.launch(vector_kernel("k", "x y", phase("work", "raises", reads=["x"], writes=["y"])), x="x", y="y", node="n")
    program = ReferenceTarget("adversarial").load(make.build(), {})
    with pytest.raises(InvalidInput, match="raised KeyError"):
        program.run({"x": [1, 2]})
    assert program.last_schedule is not None
    assert program.last_schedule.actions == (Action("phase", "n", "work"),)


def test_serial_replays_have_no_schedule() -> None:
    program = ReferenceTarget().load(GRAPH, {})
    program.run(INPUTS)
    assert program.last_schedule is None


def test_a_schedule_of_another_graph_does_not_fit() -> None:
    _, schedule = adversarial(graph_of("accumulate"), INPUTS, 0)
    program = ReferenceTarget(schedule).load(GRAPH, {})
    with pytest.raises(InvalidInput) as caught:
        program.run(INPUTS)
    assert str(caught.value) == (
        "the schedule does not fit the graph: 'accumulate: phase load' is not possible at this point\n"
        "hint: possible are: copy: phase load"
    )


def test_a_schedule_that_is_too_short_or_too_long() -> None:
    _, schedule = adversarial(GRAPH, INPUTS, 0)
    short = Schedule("g", 0, 0, "uniform", False, schedule.actions[:3])
    with pytest.raises(InvalidInput, match="ends after 3 actions, but the graph has not ended"):
        ReferenceTarget(short).load(GRAPH, {}).run(INPUTS)
    long = Schedule("g", 0, 0, "uniform", False, (*schedule.actions, Action("run", "out")))
    with pytest.raises(InvalidInput, match="the graph ended, but 1 actions of the schedule are left"):
        ReferenceTarget(long).load(GRAPH, {}).run(INPUTS)


GOOD = Schedule("g", 0, 0, "uniform", False, (Action("run", "a"),)).to_json()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {**GOOD, "forerun_schedule": 99},
        {**GOOD, "actions": None},
        {**GOOD, "actions": [["jump", "a"]]},
        {**GOOD, "actions": ["run"]},
        {**GOOD, "actions": [["run", ["a"]]]},
        {**GOOD, "actions": [["flush", "a", "b", "0"]]},
        {**GOOD, "actions": [["flush", "a", "b", 0, 0, 0]]},
        {key: value for key, value in GOOD.items() if key != "seed"},
    ],
)
def test_what_is_not_a_schedule(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidInput, match="schedule"):
        Schedule.load(path)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(InvalidInput, match="is not JSON"):
        Schedule.load(tmp_path / "text.json")
    with pytest.raises(InvalidInput, match="cannot be read: it is a folder"):
        Schedule.load(tmp_path)
    with pytest.raises(InvalidInput, match="cannot write"):
        Schedule.from_json(GOOD).save(tmp_path / "no" / "such.json")
