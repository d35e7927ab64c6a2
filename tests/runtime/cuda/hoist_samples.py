"""A kernel that adds weights to a sum, in ways that the assembler treats differently."""

from __future__ import annotations

from pathlib import Path

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Access, BufferParameter, Implementation, Kernel, Phase, Role, Step, Trigger, Wait
from forerun.ir.nodes import Launch
from forerun.ir.trust import vouch
from forerun.ir.types import DType
from forerun.passes.infra.manager import PassManager

__all__ = ["LOAD", "PLAIN", "UNORDERED", "hoisting_graph", "weigh_kernel"]

PLAIN = "l.weight = load_global(a.w + thread_of<Launch>());"
UNORDERED = """
    float v;
    asm volatile("ld.global.nc.f32 %0, [%1];" : "=f"(v) : "l"(a.w + thread_of<Launch>()));
    l.weight = v;"""
RESTRICTED = """
    const float* __restrict__ w = a.w;
    l.weight = __ldg(w + thread_of<Launch>());"""

_SOURCE = """
struct Locals {{ float weight; float sum; }};
__device__ __forceinline__ void load(const Arguments& a, Locals& l) {{ {load} }}
__device__ __forceinline__ void multiply(const Arguments& a, Locals& l) {{
    l.sum = l.weight * a.x[thread_of<Launch>()];
}}
__device__ __forceinline__ void store(const Arguments& a, Locals& l) {{ a.y[thread_of<Launch>()] = l.sum; }}
"""

LOAD = Phase("load", reads=(Access("w"),), defines=("weight",))
_MULTIPLY = Phase("multiply", reads=(Access("x"),), uses=("weight",), defines=("sum",))
_STORE = Phase("store", writes=(Access("y"),), uses=("sum",))
N = 64


def weigh_kernel(folder: Path, load: str, steps: tuple[Step, ...] | None = None) -> Kernel:
    """The kernel, its source written to a folder."""
    path = folder / "weigh.cu"
    path.write_text(_SOURCE.format(load=load), encoding="utf-8")
    vouch(path)
    parameters = tuple(BufferParameter(name, DType.F32, ("N",)) for name in ("w", "x", "y"))
    body = steps or (LOAD, _MULTIPLY, _STORE)
    return Kernel("weigh", parameters, (Role("all", body),), (Implementation("cuda", str(path), "weigh"),))


def all_steps(*, trigger_first: bool = False) -> tuple[Step, ...]:
    """A body with a hoisted load, a wait and a trigger."""
    if trigger_first:
        return (Trigger(), LOAD, Wait(), _MULTIPLY, _STORE)
    return (LOAD, Wait(), _MULTIPLY, Trigger(), _STORE)


def hoisting_graph(kernel: Kernel, pipeline: str = "exact", launch: Launch | None = None) -> Graph:
    """Three launches, one after the other, through a pipeline."""
    builder = GraphBuilder("weigh")
    x = builder.input("x", DType.F32, (N,))
    for number in range(3):
        w = builder.weight(f"w{number}", DType.F32, (N,))
        y = builder.output("y", DType.F32, (N,)) if number == 2 else builder.temp(f"t{number}", DType.F32, (N,))
        builder.launch(kernel, node=f"n{number}", launch=launch or Launch(block=(N, 1, 1)), w=w, x=x, y=y)
        x = y
    return PassManager(pipeline).run(builder.build()).graph
