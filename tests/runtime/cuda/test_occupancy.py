"""What fits on a multiprocessor together."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from forerun.ir.graph import Graph
from forerun.ir.nodes import Launch
from forerun.ir.types import BufferRole
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.driver.driver import driver
from forerun.runtime.cuda.sass.occupancy import LIMITS, Footprint, Occupancy, footprint, occupancy
from forerun.runtime.toolchain import EntryFacts
from tests.runtime.cuda.hoist_samples import PLAIN, hoisting_graph, weigh_kernel
from tests.tuner.tuning_samples import tuned_decode

H100 = LIMITS["sm_90"]


def of(tmp_path: Path, launch: Launch, facts: EntryFacts, pipeline: str = "exact", sms: int = 132) -> Occupancy:
    graph = hoisting_graph(weigh_kernel(tmp_path, PLAIN), pipeline, launch)
    found = occupancy(graph, dict.fromkeys(graph.nodes, facts), "sm_90", sms)
    assert found is not None
    return found


def launch(ctas: int, threads: int, shared: int = 0) -> Launch:
    return Launch((ctas, 1, 1), (threads, 1, 1), shared)


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "expected"),
    [
        (128, 128, 0, 4),  # registers: 16,384 a CTA
        (128, 129, 0, 3),  # in units of 256 a warp: 136 a thread
        (256, 32, 0, 8),  # threads
        (32, 16, 0, 32),  # CTAs
        (32, 255, 0, 8),  # 8,192 a warp; the driver counts so too
        (256, 32, 227 * 1024, 1),
        (256, 32, 113 * 1024, 2),  # each with 1 KB that is reserved
        (256, 32, 113 * 1024 + 1, 1),
        (48, 16, 0, 32),  # half a warp is a warp
        (1024, 65, 0, 0),
    ],
)
def test_ctas_a_multiprocessor(tmp_path: Path, threads: int, registers: int, shared: int, expected: int) -> None:
    """As NVIDIA's occupancy calculator says for compute capability 9.0."""
    found = of(tmp_path, launch(1000, threads, shared), EntryFacts(registers))
    assert {kernel.fit for kernel in found.kernels.values()} == {expected}


def test_a_footprint_counts_static_and_reserved_shared_memory() -> None:
    facts = EntryFacts(120, shared_bytes=200)
    assert footprint(launch(1, 256, 98304), facts) == Footprint(30720, 99584, 256)
    assert footprint(launch(1, 256), facts).times(3).ctas == 3


def test_neighbours_that_fit(tmp_path: Path) -> None:
    found = of(tmp_path, launch(132, 256, 107 * 1024), EntryFacts(120))
    assert [edge.overlap for edge in found.edges] == ["whole", "whole"]
    # Two of one kernel fit too, which costs more than it brings, but not while the one before it is there.
    assert [kernel.doubles for kernel in found.kernels.values()] == [True] * 3
    assert [edge.apart for edge in found.edges] == [True, True]
    (remark,) = found.remarks()
    assert str(remark).startswith("note[R2]: node n0: one CTA a multiprocessor is launched, but 2 fit on one")


@pytest.mark.parametrize(("ctas", "shared"), [(132, 70), (128, 107)], ids=["small", "not everywhere"])
def test_neighbours_that_fit_twice(tmp_path: Path, ctas: int, shared: int) -> None:
    found = of(tmp_path, launch(ctas, 256, shared * 1024), EntryFacts(60))
    assert [edge.apart for edge in found.edges] == [False, False]
    (remark,) = found.remarks()
    assert "so do 2 more" in remark.message


def test_neighbours_that_do_not_fit(tmp_path: Path) -> None:
    found = of(tmp_path, launch(132, 256, 120 * 1024), EntryFacts(120))
    assert [(edge.source, edge.target, edge.overlap) for edge in found.edges] == [
        ("n0", "n1", "none"),
        ("n1", "n2", "none"),
    ]
    (remark,) = found.remarks()
    assert str(remark).startswith("warning[R1]: dependency n0 -> n1: cannot overlap")
    assert "247,808 bytes of shared memory of 233,472" in remark.message


def test_a_full_multiprocessor_overlaps_at_the_tail(tmp_path: Path) -> None:
    found = of(tmp_path, launch(2000, 512), EntryFacts(64))
    assert {edge.overlap for edge in found.edges} == {"tail"}
    assert "CTAs" not in found.edges[0].reason
    assert found.remarks() == ()


def test_small_grids_share_a_multiprocessor(tmp_path: Path) -> None:
    found = of(tmp_path, launch(1, 1024), EntryFacts(32))
    assert {edge.overlap for edge in found.edges} == {"whole"}
    assert not any(kernel.doubles for kernel in found.kernels.values())


def test_clusters_are_not_said_to_double_up(tmp_path: Path) -> None:
    clustered = Launch((128, 1, 1), (64, 1, 1), cluster=(8, 1, 1))
    assert not any(kernel.doubles for kernel in of(tmp_path, clustered, EntryFacts(32)).kernels.values())


def test_full_dependencies_are_no_concern(tmp_path: Path) -> None:
    assert of(tmp_path, launch(132, 256, 200 * 1024), EntryFacts(32), pipeline="").edges == ()


def test_nodes_without_facts_and_unknown_architectures() -> None:
    assert occupancy(Graph("nothing"), {}, "sm_75") is None
    found = occupancy(Graph("nothing"), {})
    assert found is not None
    assert (found.kernels, found.edges, found.remarks()) == ({}, (), ())
    assert H100.shared_bytes == 233472


@pytest.mark.gpu
def test_the_driver_counts_alike_on_a_gpu() -> None:
    """Every kernel of a decode step, as the driver's occupancy calculator has it."""
    graph = tuned_decode()
    weights = {b.name: np.zeros(b.shape, np.float32) for b in graph.buffers.values() if b.role is BufferRole.WEIGHT}
    program = CudaTarget().load(graph, weights)
    try:
        assert program.inspection is not None
        found = program.inspection.occupancy
        if found is None:
            pytest.skip("the limits of this architecture are not known")
        functions, current = program._loaded.functions, driver()
        with program._loaded.resources.context.current():
            for path, number in functions.code.unit_of.items():
                own, handle = functions.code.units[number].launch, current.api.CUfunction(functions.of_unit[number])
                threads = math.prod(own.block)
                counted = current.call("cuOccupancyMaxActiveBlocksPerMultiprocessor", handle, threads, own.shared_bytes)
                assert found.kernels[path].fit == counted, path
    finally:
        program.close()
