"""A short run on a GPU."""

from __future__ import annotations

import pytest

from forerun.runtime.litmus import TESTS, broken_rules, graph_of, measure

SHORT = ("L1", "L1b", "L1w", "L4b", "L5", "L5bw", "L6", "L6b", "L8b", "L10w", "L11b", "L12", "L13b", "L16b", "L19")
RUNS = 30


@pytest.mark.gpu
def test_a_gpu_keeps_the_documented_rules():
    from forerun.runtime.litmus.device import GpuRunner
    from forerun.runtime.litmus.machine import this_machine

    machine = this_machine()
    assert machine.gpu
    assert machine.driver[0].isdigit() or machine.driver.startswith("of CUDA")
    bench = GpuRunner()
    bench.prepare([graph_of(TESTS[name]) for name in SHORT])
    results = {name: measure(TESTS[name], bench, RUNS) for name in SHORT}
    assert broken_rules(results) == ()
    assert results["L1b"].violated > RUNS // 2  # or else the others show nothing
    assert results["L1w"].runs == RUNS
