"""Random programs with state and work for the host, in which a function of the host raises when an input says so."""

from __future__ import annotations

from hypothesis import strategies as st

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import ScalarLoad
from forerun.ir.trust import vouch
from forerun.ir.types import HOST, BufferRole, DType
from forerun.kernels.builtin import KERNELS
from forerun.passes.infra.manager import PassManager

__all__ = ["I32", "ROWS", "UNLUCKY", "N", "failing_programs"]

vouch("tests.runtime.cuda.hosts")
I32 = DType.I32
N, ROWS = 4, 3
UNLUCKY = 13
"""What :func:`tests.runtime.cuda.hosts.fail` does not like as the first element of ``x``."""

_VECTORS = ("x", "a", "b", "total", "y")
_WRITABLE = _VECTORS[1:]


@st.composite
def failing_programs(draw: st.DrawFn) -> Graph:
    """A program with an input ``x``, an input ``row``, state ``total``, ``m`` and ``at``, and an output ``y``."""
    builder = GraphBuilder("failing")
    builder.input("x", I32, (N,))
    builder.input("row", I32, (1,), bounds=(0, ROWS - 1))
    builder.state("total", I32, (N,))
    builder.state("m", I32, (ROWS, N))
    builder.state("at", I32, (1,))
    builder.output("y", I32, (N,))
    for name in ("a", "b"):
        builder.temp(name, I32, (N,))
    here, there = (builder.buffer(name, I32, (N,), BufferRole.TEMP, place=HOST) for name in ("here", "there"))
    for name in ("a", "b", "y"):
        builder.fill(name, draw(st.integers(0, 9)))
    count = draw(st.integers(1, 7))
    call = draw(st.integers(0, count - 1))
    for number in range(count):
        kind = draw(st.sampled_from(["add", "accumulate", "turn", "put", "put_at", "move", "keep"]))
        place = "device" if kind in ("move", "keep") else draw(st.sampled_from(["host", "device"]))
        node = f"{place}{number}"
        source, target = draw(st.sampled_from(_VECTORS)), draw(st.sampled_from(_WRITABLE))
        match kind:
            case "add":
                second = draw(st.sampled_from(_VECTORS))
                builder.launch(KERNELS["add_i32"], a=source, b=second, y=target, node=node)
            case "accumulate":
                builder.launch(KERNELS["accumulate_i32"], x=source, y=target, node=node)
            case "turn":
                builder.launch(KERNELS["turn_i32"], y=target, node=node)
            case "put":
                builder.launch(KERNELS["scale_row_i32"], x=source, m="m", row=ScalarLoad("row"), node=node)
            case "put_at":
                builder.launch(KERNELS["scale_row_i32"], x=source, m="m", row=ScalarLoad("at"), node=node)
            case "move":
                builder.fill("at", draw(st.integers(0, ROWS - 1)), node=node)
            case _:
                builder.copy(
                    source, target if source != target else "total", node=node
                ) if source != "total" else builder.fill(target, 7, node=node)
        if number == call:
            builder.copy("x", here, node="down")
            builder.host("tests.runtime.cuda.hosts:fail", [here], [there], node="call")
            builder.copy(there, draw(st.sampled_from(_WRITABLE)), node="up")
    graph = builder.build()
    place = 'place{host="#host*"},' if any(name.startswith("host") for name in graph.nodes) else ""
    return PassManager(f"{place}fuse-splits").run(graph).graph
