"""Host functions that return what does not fit, raise what cannot be told, or run the program that calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.ir.graph import Graph
from forerun.ir.types import HOST, BufferRole
from forerun.kernels.builtin import KERNELS
from forerun.support.diagnostics import InvalidInput

ONES = np.ones(4, np.int32)


class Untold(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def too_large(x: Any) -> Any:
    return np.asarray(x, np.int64) << 40


def too_small(x: Any) -> Any:
    return np.asarray(x, np.int64) - (1 << 40)


def wider(x: Any) -> Any:
    return np.asarray(x, np.int64) + 1


def untold(_: Any) -> Any:
    raise Untold


def calls_back(x: Any) -> Any:
    called.append(RUNNING[0]())
    return x


called: list[object] = []
RUNNING: list[Callable[[], object]] = []


def program_of(function: Callable[..., Any]) -> Graph:
    """Adds the input to a state, and gives it to a host function."""
    builder = forerun.GraphBuilder("sums")
    x = builder.buffer("x", "i32", 4, BufferRole.INPUT, place=HOST)
    y = builder.buffer("y", "i32", 4, BufferRole.OUTPUT, place=HOST)
    total = builder.state("total", "i32", 4)
    builder.copy(x, builder.temp("here", "i32", 4))
    builder.launch(KERNELS["accumulate_i32"], x="here", y=total)
    builder.host(function, [x], [y])
    return builder.build()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (too_large, f"returned {1 << 40} for %y, which does not fit int32"),
        (too_small, f"returned {1 - (1 << 40)} for %y, which does not fit int32"),
        (untold, "raised Untold: (its text cannot be told: RuntimeError)"),
    ],
)
def test_what_does_not_fit_or_cannot_be_told(function: Callable[..., Any], message: str) -> None:
    with forerun.compile(program_of(function), "reference") as program:
        with pytest.raises(InvalidInput) as caught:
            program.run({"x": ONES})
        assert message in str(caught.value)
        assert not program.read("total").any()


def test_integers_of_another_width_that_fit() -> None:
    with forerun.compile(program_of(wider), "reference") as program:
        assert program.run({"x": ONES})["y"].tolist() == [2, 2, 2, 2]


@contextmanager
def during(action: Callable[[], object]) -> Iterator[None]:
    RUNNING[:] = [action]
    called.clear()
    yield
    assert called


@pytest.mark.parametrize("action", ["run", "write", "reset"])
def test_a_function_cannot_change_the_program_that_calls_it(action: str) -> None:
    with forerun.compile(program_of(calls_back), "reference") as program:
        act = {
            "run": lambda: program.run({"x": ONES}),
            "write": lambda: program.write("total", ONES),
            "reset": program.reset,
        }[action]
        RUNNING[:] = [act]
        with pytest.raises(InvalidInput, match="the program is running"):
            program.run({"x": ONES})
        with during(lambda: None):
            assert program.run({"x": ONES})["y"].tolist() == [1, 1, 1, 1]
        assert program.read("total").tolist() == [1, 1, 1, 1]


def test_a_function_cannot_make_its_plan_another_graph() -> None:
    with forerun.Plan(program_of(calls_back)) as plan:
        RUNNING[:] = [lambda: plan.update(program_of(wider))]
        with pytest.raises(InvalidInput, match="is in flight"):
            plan.run({"x": ONES})
        with during(lambda: None):
            assert plan.run({"x": ONES})["y"].tolist() == [1, 1, 1, 1]


def test_another_thread_cannot_run_the_same_program_meanwhile() -> None:
    """Not even one that the function waits for, which therefore must not be made to wait."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(program.run({"x": ONES}))
        except InvalidInput as error:
            found.append(error.message)

    def in_a_thread() -> None:
        thread = Thread(target=run)
        thread.start()
        thread.join()

    with forerun.compile(program_of(calls_back), "reference") as program, during(in_a_thread):
        assert program.run({"x": ONES})["y"].tolist() == [1, 1, 1, 1]
        assert found == ["the program is running"]


@pytest.mark.parametrize("name", [None, 5])
def test_names_that_are_no_text(name: Any) -> None:
    with forerun.compile(program_of(wider), "reference") as program, pytest.raises(InvalidInput, match="no buffer"):
        program.read(name)


def test_inputs_without_names() -> None:
    inputs: Any = 5
    with forerun.Plan(program_of(wider)) as plan, pytest.raises(InvalidInput, match="are arrays by name, not int"):
        plan.run(inputs)


@pytest.mark.parametrize("budget", [0, -1, True, 1.5, None])
def test_a_budget_that_is_set_is_looked_at(budget: Any) -> None:
    with forerun.PlanCache(budget=1 << 20) as cache:
        with pytest.raises(InvalidInput, match="is a number of bytes"):
            cache.budget = budget
        assert cache.budget == 1 << 20
