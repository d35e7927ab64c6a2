"""Random streams of built-in kernels: compiled, and under any schedule, they compute what they did in stream order."""

from __future__ import annotations

from hypothesis import event, given, settings
from hypothesis import strategies as st

import forerun
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter
from forerun.ir.nodes import ScalarLoad
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.types import BufferRole, DType
from forerun.kernels.builtin import DTYPES, KERNELS
from forerun.runtime.reference import ReferenceTarget
from tests.strategies import portion

WIDTH, ROWS = 4, 3
VECTORS = {"v0": 0, "v1": 8, "v2": 16, "v3": 40}
"""Byte offsets: the first three overlap each other, and the last row of the matrix overlaps ``v3``."""


@st.composite
def streams(draw: st.DrawFn) -> Graph:
    """A stream of two to eight nodes on state that overlaps in many ways."""
    dtype = draw(st.sampled_from(DTYPES))
    make = GraphBuilder("stream")
    make.allocation("arena", 96)
    make.input("row", DType.I32, (1,), bounds=(0, ROWS - 1))
    make.input("x", dtype, (WIDTH,))
    for name, offset in VECTORS.items():
        make.buffer(name, dtype, (WIDTH,), BufferRole.STATE, allocation="arena", offset=offset)
    make.buffer("m", dtype, (ROWS, WIDTH), BufferRole.STATE, allocation="arena", offset=48)
    names = st.sampled_from(sorted(VECTORS))
    for _ in range(draw(st.integers(2, 8))):
        match draw(st.sampled_from(["launch", "launch", "launch", "launch", "copy", "fill"])):
            case "copy":
                make.copy(draw(names), draw(names))
            case "fill":
                make.fill(draw(names), draw(st.integers(0, 2)))
            case _:
                _launch(draw, make, dtype, names)
    return make.build()


def _launch(draw: st.DrawFn, make: GraphBuilder, dtype: DType, names: st.SearchStrategy[str]) -> None:
    kernel = KERNELS[draw(st.sampled_from([name for name in sorted(KERNELS) if name.endswith(f"_{dtype}")]))]
    written = {access.parameter for phase in kernel.phases for access in phase.writes}
    arguments: dict[str, str | int | ScalarLoad] = {}
    for parameter in kernel.parameters:
        if not isinstance(parameter, BufferParameter):
            arguments[parameter.name] = draw(st.sampled_from([0, 2, ScalarLoad("row")]))
        elif parameter.name == "m":
            arguments["m"] = "m"
        else:
            readable = names if parameter.name in written else st.one_of(names, st.just("x"))
            arguments[parameter.name] = draw(readable)
    make.launch(kernel, **arguments)  # type: ignore[arg-type]


def outcome(graph: Graph, target: ReferenceTarget, row: int) -> list[bytes]:
    program = target.load(graph, {})
    for i in range(2):
        program.run({"row": row, "x": [i + 1, 2, 3, 4]})
    return [program.read(name).tobytes() for name in (*VECTORS, "m")]


@settings(portion(40), deadline=None)
@given(streams(), st.integers(0, ROWS - 1), st.integers(0, 1000))
def test_compiled_streams_compute_the_same(graph: Graph, row: int, seed: int) -> None:
    expected = outcome(graph, ReferenceTarget(), row)
    compiled = forerun.compile(graph).graph
    event(f"programmatic dependencies: {min(compiled.count_dependencies()['programmatic'], 3)}")
    assert outcome(compiled, ReferenceTarget(), row) == expected
    again = parse_graph(print_graph(compiled))
    for i in range(4):
        assert outcome(again, ReferenceTarget("adversarial", seed + i), row) == expected
