"""The identity benchmark, with the reference target in the GPU's place: its graphs, its faults, and what it reports."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from forerun.ir.kernel import Kernel, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import check
from forerun.ir.verify import verify
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.named_pipelines import EXACT_PIPELINE
from forerun.runtime.cuda.codegen.build import build_code
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.cuda.sass.inspection import inspect_code
from forerun.runtime.toolchain import missing_toolchain

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
POOL = 24


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("identity")


@pytest.fixture
def making(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("identity_graphs")


def test_the_pool_is_the_same_at_every_call(making: ModuleType) -> None:
    pool = making.kernel_pool(POOL)
    assert pool == making.kernel_pool(POOL)
    assert len({pooled.kernel for pooled in pool}) == len(pool) == POOL
    assert len({len(pooled.kernel.roles) for pooled in pool}) == 2


def test_graphs_are_streams_that_run_on_a_gpu(making: ModuleType) -> None:
    pool = making.kernel_pool(POOL)
    names = set()
    for seed in range(20):
        graph = making.random_graph(Random(seed), pool)
        assert not verify(graph)
        assert check(graph).proved
        assert graph == making.random_graph(Random(seed), pool)
        assert len(graph.dependencies) == len(graph) - 1
        names |= {unit.entry.partition("_")[0] for unit in units(graph, delays=True)[0]}
    assert {"copy", "add", "spread", "turn", "scale"} <= names
    assert len([name for name in names if name.startswith("h")]) > POOL // 2


def test_vectors_that_are_written_overlap_no_other_in_part(making: ModuleType) -> None:
    pool = making.kernel_pool(POOL)
    for seed in range(60):
        graph = making.random_graph(Random(seed), pool)
        for node in graph:
            if not isinstance(node, KernelNode) or node.kernel.startswith("h"):
                continue
            kernel = graph.kernels[node.kernel]
            buffers = {p.name: graph.buffers[node.argument(p.name).buffer] for p in kernel.buffer_parameters}
            for name in making.written_parameters(kernel):
                for other in buffers.values():
                    one = buffers[name]
                    apart = one.allocation != other.allocation or other.stop <= one.offset or one.stop <= other.offset
                    assert apart or (one.offset, one.stop) == (other.offset, other.stop)


def test_planted_faults_are_valid_and_refuted(making: ModuleType) -> None:
    pool = making.kernel_pool(POOL)
    kinds: Counter[str] = Counter()
    for seed in range(12):
        chooser = Random(seed)
        graph = PassManager(EXACT_PIPELINE, []).run(making.random_graph(chooser, pool)).graph
        for fault in making.planted(graph, chooser):
            kinds[fault.kind] += 1
            assert fault.graph != graph
            assert not verify(fault.graph)
            assert check(fault.graph).status == "refuted"
    assert set(kinds) == set(making.FAULTS)


def test_a_run_without_a_gpu(identity: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--target",
        "reference",
        "--graphs",
        "16",
        "--replays",
        "2",
        "--pool",
        "24",
        "--fault-every",
        "2",
        "--jobs",
        "1",
    ]
    assert identity.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "identity.graphs: 16 graphs" in shown
    assert "identity.mismatches: 0 graphs" in shown


def test_a_wrong_pipeline_is_found(identity: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes that lose an order show as mismatches, and the run fails."""
    right = PassManager(EXACT_PIPELINE, []).run

    class Wrong:
        def __init__(self, *_: object) -> None:
            pass

        def run(self, graph):
            result = right(graph)
            edit = result.graph.edit()
            for dependency in result.graph.dependencies:
                edit.remove_dependency(*dependency.pair)
            return replace(result, graph=edit.commit())

    monkeypatch.setattr(identity, "PassManager", Wrong)
    total = identity.Outcome()
    for seed in range(12):
        total.add(identity.examine(identity.Task(seed, "reference", 3, POOL, False)))
    assert len(total.mismatches) > 3
    assert all("rewritten: " in text for text in total.mismatches)
    assert f"{len(total.mismatches)} graphs computed something else" in identity.shortfalls(total)


def test_shortfalls_say_what_did_not_fire(identity: ModuleType) -> None:
    empty = identity.Outcome(Counter(graphs=8))
    assert identity.shortfalls(empty) == [
        "fewer than half of the graphs got programmatic dependencies",
        "fewer than a quarter of the graphs got hoisted phases",
        "0 of 0 planted faults showed",
    ]
    good = Counter(graphs=8, programmatic_graphs=4, hoisting_graphs=2)
    good.update({"planted: edge removed": 4, "seen: edge removed": 2})
    assert identity.shortfalls(identity.Outcome(good)) == []
    metric = identity.metrics_of(identity.Outcome(good))["identity.faults_seen.all"]
    assert (metric.value, round(metric.low, 2), round(metric.high, 2)) == (0.5, 0.15, 0.85)


@pytest.mark.skipif(missing_toolchain() is not None, reason=str(missing_toolchain()))
@pytest.mark.parametrize("delays", [False, True])
def test_the_machine_code_of_graphs_keeps_the_order(making: ModuleType, delays: bool) -> None:
    pool = tuple(pooled for pooled in making.kernel_pool(POOL) if len(pooled.kernel.roles) > 1)
    graphs = (PassManager(EXACT_PIPELINE, []).run(making.random_graph(Random(seed), pool)).graph for seed in count())
    graph = next(graph for graph in graphs if sum(map(_waits_in_all_roles, graph.kernels.values())) > 1)
    proofs = inspect_code(graph, build_code(graph, "sm_90", delays=delays), "sm_90", 132).proofs.values()
    assert len([proof for proof in proofs if proof.waits[0] > 1]) > 1


def _waits_in_all_roles(kernel: Kernel) -> bool:
    roles = kernel.roles or ()
    return len(roles) > 1 and all(any(isinstance(step, Wait) for step in role.steps) for role in roles)
