"""forerun.compile: from a graph to something that runs, and what goes wrong on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import forerun
from forerun.compiler import Executable
from forerun.ir.graph import Graph
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.types import DependencyKind, DType
from forerun.kernels.builtin import KERNELS
from forerun.passes.infra.pipeline import Pipeline
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import InvalidInput, Refuted, Unsupported

INPUTS = {"x": [1.0, 2.0, 3.0], "seed": [5.0, 6.0, 7.0]}


def chain() -> forerun.GraphBuilder:
    make = forerun.GraphBuilder("chain")
    make.weight("w", DType.F32, (3,))
    make.input("x", DType.F32, (3,))
    make.input("seed", DType.F32, (3,))
    make.temp("t", DType.F32, (3,))
    make.temp("u", DType.F32, (3,))
    make.state("sum", DType.F32, (3,))
    make.output("y", DType.F32, (3,))
    make.output("z", DType.F32, (3,))
    make.launch(KERNELS["spread_f32"], a="w", b="x", y="t", z="u")
    make.launch(KERNELS["accumulate_f32"], x="t", y="sum")
    make.launch(KERNELS["add_f32"], a="w", b="sum", y="y")
    make.launch(KERNELS["add_f32"], a="u", b="seed", y="z")
    return make


GRAPH = chain().build()
WEIGHTS = {"w": np.array([10, 20, 30], np.float32)}


def two_runs(program: Executable) -> list[tuple[bytes, bytes]]:
    found = [program.run(INPUTS) for _ in range(2)]
    return [(outputs["y"].tobytes(), outputs["z"].tobytes()) for outputs in found]


EXPECTED = two_runs(forerun.compile(GRAPH, pipeline=None, weights=WEIGHTS))


def test_values() -> None:
    """t = w/2 - x/4, sum = sum/2 + t, y = w + sum; u = t - w, z = u + seed."""
    program = forerun.compile(GRAPH, weights=WEIGHTS)
    first, second = program.run(INPUTS), program.run(INPUTS)
    t = np.float32([4.75, 9.5, 14.25])
    np.testing.assert_array_equal(first["y"], WEIGHTS["w"] + t)
    np.testing.assert_array_equal(second["y"], WEIGHTS["w"] + np.float32(1.5) * t)
    np.testing.assert_array_equal(first["z"], t - WEIGHTS["w"] + np.float32(INPUTS["seed"]))


@pytest.mark.parametrize("pipeline", ["", None, "exact", Pipeline(), "infer-dependencies,insert-pdl"])
@pytest.mark.parametrize(
    "target", ["reference", "reference{schedule=adversarial,seed=5}", ReferenceTarget("adversarial")]
)
def test_every_pipeline_and_schedule_gives_the_same_bits(
    pipeline: str | Pipeline | None, target: str | ReferenceTarget
) -> None:
    with forerun.compile(GRAPH, target, pipeline, weights=WEIGHTS) as program:
        assert two_runs(program) == EXPECTED


def test_the_default_pipeline_rewrites() -> None:
    program = forerun.compile(GRAPH, weights=WEIGHTS)
    assert program.graph != GRAPH
    assert program.graph.count_dependencies()["programmatic"] > 0
    assert [one.name for one in program.summary.passes][:2] == ["fold-params", "infer-dependencies"]
    assert program.summary.status == "ok"
    assert program.summary.passes[-1].dependencies == program.graph.count_dependencies()


def test_no_pipeline_leaves_the_graph_alone() -> None:
    program = forerun.compile(GRAPH, pipeline="", weights=WEIGHTS)
    assert program.graph is GRAPH
    assert program.summary.passes == ()


def test_a_graph_read_from_text_runs_alone() -> None:
    again = parse_graph(print_graph(GRAPH))
    assert two_runs(forerun.compile(again, weights=WEIGHTS)) == EXPECTED


def test_dumps(tmp_path: Path) -> None:
    program = forerun.compile(GRAPH, dump=tmp_path / "dump", weights=WEIGHTS)
    assert program.summary.dump == tmp_path / "dump"
    assert parse_graph((tmp_path / "dump" / "00-input.fir").read_text()) == GRAPH
    summary = json.loads((tmp_path / "dump" / "summary.json").read_text())
    assert summary["status"] == "ok"
    last = max((tmp_path / "dump").glob("*.fir"))
    assert parse_graph(last.read_text()) == program.graph


def test_reset_and_schedule() -> None:
    program = forerun.compile(GRAPH, "reference{schedule=adversarial,seed=2}", weights=WEIGHTS)
    assert program.schedule is None
    assert two_runs(program) == EXPECTED
    last = program.schedule
    assert last is not None
    assert last.replay == 1
    program.reset()
    assert two_runs(program) == EXPECTED
    assert program.schedule == last
    assert forerun.compile(GRAPH, weights=WEIGHTS).schedule is None


def test_closing() -> None:
    with forerun.compile(GRAPH, weights=WEIGHTS) as program:
        program.run(INPUTS)
        assert repr(program) == "<Executable chain: 4 nodes, loaded>"
    program.close()
    assert repr(program) == "<Executable chain: 4 nodes, closed>"
    for use in (lambda: program.run(INPUTS), program.reset, lambda: program.schedule, program.__enter__):
        with pytest.raises(InvalidInput, match="the executable of graph 'chain' is closed"):
            use()
    loaded = ReferenceTarget().load(GRAPH, WEIGHTS)
    loaded.close()
    loaded.close()
    with pytest.raises(InvalidInput, match="the program is closed"):
        loaded.run(INPUTS)


def test_an_error_inside_the_block_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError), forerun.compile(GRAPH, weights=WEIGHTS) as program:
        1 / len(program.summary.error)
    with pytest.raises(InvalidInput, match="closed"):
        program.reset()


def test_a_graph_without_inputs_needs_none() -> None:
    make = forerun.GraphBuilder("g")
    make.output("y", DType.I32, (2,))
    make.fill("y", 3)
    assert forerun.compile(make.build()).run()["y"].tolist() == [3, 3]


def test_wrong_arguments() -> None:
    with pytest.raises(InvalidInput, match="compile takes a Graph, not GraphBuilder"):
        forerun.compile(chain())  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="no target 'refrence'"):
        forerun.compile(GRAPH, "refrence")
    with pytest.raises(Unsupported, match="target 'reference' cannot use memory of yours"):
        forerun.compile(GRAPH, weights=WEIGHTS, memory={"x": None})
    with pytest.raises(InvalidInput, match="no pass 'insert-pd'"):
        forerun.compile(GRAPH, pipeline="insert-pd")
    with pytest.raises(InvalidInput, match="no value for weight %w"):
        forerun.compile(GRAPH)
    edit = GRAPH.edit()
    edit.remove_buffer("t")
    with pytest.raises(InvalidInput, match="graph 'chain' is not valid"):
        forerun.compile(edit.commit(), pipeline=None, instruments=(), weights=WEIGHTS)


def racy() -> Graph:
    edit = GRAPH.edit()
    for dependency in GRAPH.dependencies:
        edit.set_dependency(type(dependency)(*dependency.pair, DependencyKind.PROGRAMMATIC))
    return edit.commit()


def test_a_race_is_refused_unless_nobody_checks() -> None:
    with pytest.raises(Refuted):
        forerun.compile(racy(), pipeline="", weights=WEIGHTS)
    wrong = 0
    for seed in range(20):
        target = ReferenceTarget("adversarial", seed)
        wrong += two_runs(forerun.compile(racy(), target, "", weights=WEIGHTS, instruments=())) != EXPECTED
    assert wrong >= 10


def test_instruments_replace_the_checks_and_not_the_dumps(tmp_path: Path) -> None:
    forerun.compile(racy(), pipeline="", weights=WEIGHTS, instruments=(), dump=tmp_path)
    assert (tmp_path / "00-input.fir").exists()


def test_importing_forerun_touches_neither_compiler_nor_driver() -> None:
    code = "import sys, forerun; print([m for m in ('numpy', 'cuda', 'forerun.compiler') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
