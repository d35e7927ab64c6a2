"""A slice of ``benchmarks/oracle.py``: nothing is proved that is wrong; and the oracle finds what is planted."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from forerun.ir.text import parse_graph
from tests.oracle.faults import FAULTS, first_unsound
from tests.oracle.runs import adversaries, in_order, run, serial
from tests.oracle.trial import trial

_QUICK = ("async-writes-unordered", "zeros-are-equal", "host-calls-unordered", "launches-are-equal", "races-ignored")


def test_what_is_proved_is_right() -> None:
    found = [trial(seed) for seed in range(10**7, 10**7 + 120)]
    assert [t.seed for t in found if t.unsound] == []
    verdicts = Counter(t.status for t in found)
    assert verdicts["proved"] > 30
    assert sum(t.differs for t in found) > 15, "some rewrites must be wrong"


@pytest.mark.parametrize("name", _QUICK)
def test_faults_are_found(name: str) -> None:
    assert name in FAULTS
    assert first_unsound(name, 300) is not None


_RACE = """
forerun 1
graph race
buffer %x : i8[4] input
buffer %t : i8[4] temp
buffer %y : i8[4] output
kernel @copy(a: i8[N], b: i8[N]) {
  role main {
    phase work reads a writes b ref "m:copy"
  }
}
node #first = @copy(a=%x, b=%t)
node #second = @copy(a=%t, b=%y)
  after #first programmatic
"""


def test_a_kernel_that_does_not_wait_shows_it() -> None:
    graph = parse_graph(_RACE)
    wanted = run(serial(graph), in_order(graph))
    assert any(run(graph, schedule) != wanted for schedule in adversaries(graph, Random(0), 0))
    waiting = parse_graph(_RACE.replace("phase work", "wait\n    phase work"))
    wanted = run(serial(waiting), in_order(waiting))
    assert all(run(waiting, schedule) == wanted for schedule in adversaries(waiting, Random(0), 4))
