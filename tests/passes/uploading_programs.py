"""Random programs of small integer kernels that upload constants before they launch, as engines do; and other bytes."""

from __future__ import annotations

from hypothesis import strategies as st

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import EventRecordNode, MemcpyNode, ScalarLoad
from forerun.ir.region import BufferView, region
from forerun.ir.types import HOST, BufferRole, DType
from forerun.kernels.builtin import KERNELS

__all__ = ["uploading_programs"]

N = 4
_KERNELS = [KERNELS[f"{name}_i32"] for name in ("copy", "add", "add", "accumulate", "scale_row")]
_SLOTS = ["p", "q", "v0", "v1"]
_WRITTEN = ("y", "m")


@st.composite
def uploading_programs(draw: st.DrawFn) -> Graph:
    """A graph in launch order that copies to few slots, most of the time constants, and reads these."""
    builder = GraphBuilder("uploading")
    builder.constant("k0", "i32", [1, 2, 3, 5])
    builder.constant("k1", "i32", [7, 11, 1, 2, 3, 5])
    builder.constant("row", "i32", [1, 0])
    for name, role in (("h", BufferRole.INPUT), ("g", BufferRole.STATE)):
        builder.buffer(name, "i32", (N,), role, place=HOST)
    builder.input("i", "i32", (N,))
    builder.state("m", "i32", (2, N))
    builder.state("s", "i32", (N,))
    for name in ("p", "q", "t"):
        builder.temp(name, "i32", (N,))
    builder.allocation("arena", 6 * N)
    builder.buffer("v0", "i32", (N,), BufferRole.TEMP, allocation="arena")
    builder.buffer("v1", "i32", (N,), BufferRole.TEMP, allocation="arena", offset=2 * N)
    bounds = draw(st.sampled_from([(0, 1), (0, 1), None]))
    builder.buffer("at", DType.I32, (2,), BufferRole.TEMP, bounds=bounds)
    builder.output("o", "i32", (N,))
    filled: list[str] = ["i", "s"]
    for turn in range(draw(st.integers(2, 9))):
        what = draw(st.sampled_from(["upload"] * 4 + ["launch"] * 5 + ["event"]))
        if what == "event":
            builder.add(EventRecordNode(f"event{turn}", "e"))
        elif what == "upload":
            target = draw(st.sampled_from([*_SLOTS, *_SLOTS, "at", "at", "s"]))
            builder.add(MemcpyNode(f"upload{turn}", *_upload(draw, target)))
            filled.append(target)
        else:
            _launch(draw, builder, filled)
    builder.launch(KERNELS["copy_i32"], x=draw(st.sampled_from([n for n in filled if n != "at"])), y="o")
    return builder.build(verify=False)


def _upload(draw: st.DrawFn, target: str) -> tuple[BufferView, BufferView]:
    """What is copied to a slot: all of it, or a part."""
    if target == "at":
        return BufferView("row"), BufferView("at")
    source = draw(st.sampled_from(["k0", "k0", "k1", "k1", "h", "g"]))
    if source == "k1":
        start = draw(st.integers(0, 2))
        return BufferView("k1", region((start, start + N))), BufferView(target)
    if source == "k0" and draw(st.integers(0, 4)) == 0:
        return BufferView("k0", region((1, 3))), BufferView(target, region((0, 2)))
    return BufferView(source), BufferView(target)


def _launch(draw: st.DrawFn, builder: GraphBuilder, filled: list[str]) -> None:
    kernel = draw(st.sampled_from(_KERNELS))
    arrays = [name for name in filled if name != "at"]
    bound: dict[str, str | ScalarLoad | int] = {}
    for parameter in kernel.parameters:
        if parameter.name == "row":
            is_loaded = "at" in filled
            bound["row"] = ScalarLoad("at", *draw(st.sampled_from([(0, 0), (1, 0), (1, 1)]))) if is_loaded else 1
        elif parameter.name == "m":
            bound["m"] = "m"
        elif parameter.name == "y":
            bound["y"] = draw(st.sampled_from(["t", "t", "s", *_SLOTS]))
        else:
            bound[parameter.name] = draw(st.sampled_from(arrays))
    builder.launch(kernel, **bound)
    filled += [name for name in (bound.get("y"),) if isinstance(name, str)]
