"""Negative controls of the ablation that need no GPU: what must be refuted.

A chain of projections that all hand over one scratch buffer: each node reads what the one before wrote there, or writes
over what it reads. The weights are the chain's own, so that the pipeline `exact` may load them ahead of the wait, and
only them. Where a pass (a wrong one, here) moves all phases ahead of the wait, or takes the waits out, every hand-over
is a race, and the checker must say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from common import Metric

from forerun.frontends.llama_config import shape_named
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Role, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import Verdict, check
from forerun.ir.types import DType
from forerun.kernels import add, gemv
from forerun.kernels.shapes import elementwise_launch
from forerun.passes.infra.manager import PassManager

__all__ = ["WRONG", "measure_scratch_chain", "scratch_chain", "with_roles"]

_PIPELINE = "infer-dependencies,insert-pdl,hoist-loads,reduce-edges"
_PROJECTIONS = 16


def scratch_chain(projections: int = _PROJECTIONS, size: int | None = None) -> Graph:
    """``v = scratch + v`` after ``scratch = w[i] v``, ``count`` times: one scratch buffer for all."""
    n = size or shape_named("llama-3.2-1b").width
    builder, kernel = GraphBuilder("scratch_chain"), gemv.declare(DType.BF16)
    x, y = builder.input("x", DType.F32, (n,)), builder.output("y", DType.F32, (n,))
    scratch = builder.temp("scratch", DType.F32, (n,))
    vectors = [builder.temp(f"v{i}", DType.F32, (n,)) for i in range(2)]
    source = x
    for i in range(projections):
        w = builder.weight(f"w{i}", DType.BF16, (n, n))
        target = y if i == projections - 1 else vectors[i % 2]
        builder.launch(kernel, node=f"project{i}", launch=gemv.launch_for(n, n), w=w, x=source, y=scratch)
        builder.launch(add.KERNEL, node=f"add{i}", launch=elementwise_launch(n), a=source, b=scratch, y=target)
        source = target
    return builder.build()


def _waiting_last(role: Role) -> Role:
    """Everything ahead of the wait."""
    waits = tuple(step for step in role.steps if isinstance(step, Wait))
    return replace(role, steps=(*(step for step in role.steps if not isinstance(step, Wait)), *waits))


def _without_wait(role: Role) -> Role:
    return replace(role, steps=tuple(step for step in role.steps if not isinstance(step, Wait)))


WRONG: dict[str, Callable[[Role], Role]] = {"all_hoisted": _waiting_last, "no_wait": _without_wait}
"""What a wrong pass does to bodies."""


def with_roles(graph: Graph, change: Callable[[Role], Role]) -> Graph:
    """The graph with the bodies of all its kernels changed."""
    edit = graph.edit()
    for node in graph:
        assert isinstance(node, KernelNode)
        kernel = graph.kernels[node.kernel]
        roles = tuple(map(change, kernel.roles or ()))
        if roles != kernel.roles:
            edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, roles, "wrong").name))
    return edit.commit()


def measure_scratch_chain() -> dict[str, Metric]:
    """1 for each wrong version of the chain that is refuted at every hand-over, and if the right one is proved."""
    right = PassManager(_PIPELINE).run(scratch_chain()).graph
    metrics = {"ablation.control_chain_proved": _truth(check(right).status == "proved")}
    every = len(right) - 1
    found: dict[str, Verdict] = {name: check(with_roles(right, change)) for name, change in WRONG.items()}
    for name, result in found.items():
        refuted = result.status == "refuted" and len(result.findings) >= every
        metrics[f"ablation.control_chain_{name}_refuted"] = _truth(refuted)
    metrics["ablation.control_chain_refuted"] = _truth(
        all(metric.value for name, metric in metrics.items() if name.endswith("_refuted"))
    )
    return metrics


def _truth(value: bool) -> Metric:
    return Metric(float(value), "1", float(value), float(value))
