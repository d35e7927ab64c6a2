"""Counting, on the reference target: it can show exactly what the rules do not forbid."""

from __future__ import annotations

import numpy as np
import pytest

from forerun.runtime.litmus import TESTS, Counts, measure, needed_assumptions
from tests.litmus.benches import SERIAL, Reference, ReferenceRunner, adversarial, small

RARE = {"L16b", "L17"}
"""Needs luck: the reference target becomes old and new in other ways than a GPU."""


@pytest.mark.parametrize("name", TESTS)
def test_a_serial_machine_violates_nothing(name):
    assert measure(small(TESTS[name]), ReferenceRunner(SERIAL), 2) == Counts(2)


@pytest.mark.parametrize("name", TESTS)
def test_a_machine_that_keeps_the_strict_rules_only(name):
    test = small(TESTS[name])
    counts = measure(test, adversarial(), 25)
    assert counts.foreign == 0
    if needed_assumptions(test) == frozenset():
        assert counts == Counts(25)
    elif name not in RARE:
        assert counts.violated > 0


@pytest.mark.parametrize("name", [name for name, test in TESTS.items() if needed_assumptions(test) == {"H6"}])
def test_a_machine_that_keeps_h6_too(name):
    assert measure(small(TESTS[name]), adversarial(h6=True), 25) == Counts(25)


@pytest.mark.parametrize("name", [name for name, test in TESTS.items() if "H6" in test.controls])
def test_controls_show_violations_on_a_machine_that_keeps_h6(name):
    assert measure(small(TESTS[name]), adversarial(h6=True), 25).violated > 0


class Doctored(ReferenceRunner):
    """A machine on which one cell comes out changed."""

    def __init__(self, change):
        super().__init__(SERIAL)
        self.change = change

    def open(self, graph):
        program = super().open(graph)
        read = program.read

        def changed(buffer):
            values = read(buffer)
            values[-1] += self.change
            return values

        program.read = changed
        return program


@pytest.mark.parametrize(("change", "foreign"), [(-16, 0), (16, 5), (1, 5), (-1000, 5)])
def test_one_wrong_cell_is_noticed(change, foreign):
    """The value of the replay before is stale; those of later ones, or of no writer, are a fault of the test."""
    assert measure(small(TESTS["L1w"]), Doctored(change), 5) == Counts(5, violated=5, foreign=foreign)


def test_only_cells_with_a_new_value_are_looked_at():
    """L16b: where the second store was not seen, a missing first one means nothing."""

    class Blind(Doctored):
        def open(self, graph):
            program = ReferenceRunner.open(self, graph)
            read = program.read
            program.read = lambda buffer: read(buffer) - 16
            return program

    assert measure(TESTS["L16b"], Blind(0), 5) == Counts(0)
    assert measure(TESTS["L16b"], Doctored(-16), 5) == Counts(0)


def test_the_host_reads_what_the_launch_left():
    class Early(ReferenceRunner):
        """The outputs are read before the last store; later, all is there."""

        def open(self, graph):
            return EarlyProgram(self.target.load(graph, {}))

    class EarlyProgram(Reference):
        def __init__(self, program):
            super().__init__(program)
            before = {"x": np.zeros(1, np.int32)}

            def run(inputs):
                early = dict(before)
                before.update(program.run(inputs))
                return early

            self.run = run

    assert measure(TESTS["L8b"], Early(SERIAL), 4) == Counts(4, violated=4)
    assert measure(TESTS["L1"], Early(SERIAL), 4) == Counts(4)


def test_programs_are_closed_when_a_replay_fails():
    closed = []

    class Failing(ReferenceRunner):
        def open(self, graph):
            program = super().open(graph)
            program.run = lambda inputs: 1 / 0
            program.close = lambda: closed.append(graph.name)
            return program

    with pytest.raises(ZeroDivisionError):
        measure(TESTS["L1"], Failing(SERIAL), 1)
    assert closed == ["L1"]
