"""A pass of one's own: kernels with few weights start after the kernel in front, not beside it.

A kernel that starts early holds registers and shared memory while it waits. That pays if it loads weights meanwhile.
This pass makes the programmatic dependencies of the other kernels full again. On the command line:

    forerun opt graph.fir --load own_pass.py --pipeline 'exact,late-small-kernels{kilobytes=64}'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import forerun
from forerun.ir.graph import Graph
from forerun.ir.nodes import BufferArgument, KernelNode
from forerun.ir.types import BufferRole, DependencyKind
from forerun.kernels import add, gemv
from forerun.kernels.shapes import elementwise_launch
from forerun.passes import Pass, PassContext, option, register
from forerun.passes.infra.manager import PassManager


@register
@dataclass(frozen=True)
class LateSmallKernels(Pass):
    """Makes programmatic dependencies full where the target reads few weights."""

    name: ClassVar[str] = "late-small-kernels"
    statistics: ClassVar[Mapping[str, str]] = {"made_full": "dependencies made full"}

    kilobytes: int = option(64, help="kernels with fewer weights than this start late")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        for dependency in graph.dependencies:
            is_early = dependency.kind is DependencyKind.PROGRAMMATIC
            if is_early and weight_bytes(graph, dependency.target) < 1024 * self.kilobytes and context.should_apply():
                edit.set_dependency(replace(dependency, kind=DependencyKind.FULL))
                context.count("made_full")
        return edit.commit()


def weight_bytes(graph: Graph, node_name: str) -> int:
    """The bytes of the weights that a kernel node is given."""
    node = graph.nodes[node_name]
    assert isinstance(node, KernelNode)
    given = [graph.buffers[argument.buffer] for _, argument in node.arguments if isinstance(argument, BufferArgument)]
    return sum(buffer.size for buffer in given if buffer.role is BufferRole.WEIGHT)


def two_kernels() -> Graph:
    """A large projection, then a sum that reads no weights."""
    builder = forerun.GraphBuilder("two_kernels")
    x, y = builder.input("x", "f32", 256), builder.output("y", "f32", 256)
    weight, partial = builder.weight("w", "f32", (256, 256)), builder.temp("partial", "f32", 256)
    last = builder.output("last", "f32", 256)
    builder.launch(gemv, node="project", launch=gemv.launch_for(256), w=weight, x=x, y=partial)
    builder.launch(add, node="sum", launch=elementwise_launch(256), a=x, b=partial, y=y)
    builder.launch(gemv, node="again", launch=gemv.launch_for(256), w=weight, x=y, y=last)
    return builder.build()


def main() -> None:
    result = PassManager("exact,late-small-kernels").run(two_kernels())
    for record in result.summary.passes:
        print(f"{record.name:20} {record.verdict:10} {record.dependencies}")
    kinds = {d.pair: d.kind for d in result.graph.dependencies}
    assert kinds["project", "sum"] is DependencyKind.FULL
    assert kinds["sum", "again"] is DependencyKind.PROGRAMMATIC
    print("the sum starts late, the projection after it early")


if __name__ == "__main__":
    main()
