"""Random programs of small integer kernels in which much is computed again: from the same bytes, or from others."""

from __future__ import annotations

from hypothesis import strategies as st

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import EventRecordNode
from forerun.ir.types import BufferRole, DType
from forerun.kernels.builtin import KERNELS

__all__ = ["repeated_programs"]

N = 4
_TEMPS = ["t0", "t1", "t2", "t3", "v0", "v1"]
_KERNELS = [KERNELS[f"{name}_i32"] for name in ("copy", "copy", "add", "spread", "accumulate")]
_WRITTEN = ("y", "z")


@st.composite
def repeated_programs(draw: st.DrawFn) -> Graph:
    """A graph in launch order whose kernels read few buffers, so that some read the same."""
    builder = GraphBuilder("repeated")
    for name in ("i", "j"):
        builder.input(name, DType.I32, (N,))
    builder.state("s", DType.I32, (N,))
    builder.allocation("arena", 8 * N)
    for name in _TEMPS[:4]:
        builder.temp(name, DType.I32, (N,))
    # Views that share half of their bytes.
    builder.buffer("v0", DType.I32, (N,), BufferRole.TEMP, allocation="arena")
    builder.buffer("v1", DType.I32, (N,), BufferRole.TEMP, allocation="arena", offset=2 * N)
    for name in ("o", "p"):
        builder.output(name, DType.I32, (N,))
    known = ["i", "s"]
    again: list[tuple[int, tuple[str, ...]]] = []
    for turn in range(draw(st.integers(2, 6))):
        if draw(st.integers(0, 11)) == 0:
            builder.add(EventRecordNode(f"event{turn}", "e"))
            continue
        if again and draw(st.booleans()):
            number, sources = draw(st.sampled_from(again))
        else:
            number = draw(st.integers(0, len(_KERNELS) - 1))
            sources = tuple(draw(st.sampled_from(known)) for _ in range(2))
        again.append((number, sources))
        kernel, unread = _KERNELS[number], iter(sources)
        bound = {}
        for parameter in kernel.parameters:
            is_written = parameter.name in _WRITTEN and kernel.name != "accumulate_i32"
            bound[parameter.name] = draw(st.sampled_from([*_TEMPS, "s"])) if is_written else next(unread)
        builder.launch(kernel, **bound)
        known += [bound[name] for name in _WRITTEN if name in bound and bound[name] not in known]
    for name in ("o", "p"):
        builder.launch(KERNELS["add_i32"], a=draw(st.sampled_from(known)), b=draw(st.sampled_from(known)), y=name)
    return builder.build(verify=False)
