"""A fusion rule of one's own: an activation and the sum after it become one kernel.

The rule says which kernels it replaces and by what; ``fuse-kernels`` finds the places, and proves each replacement.
On the command line:

    forerun opt graph.fir --load own_fusion_rule.py --pipeline 'fuse-kernels{rules=activate-add}'
"""

from __future__ import annotations

from random import Random

import numpy as np

import forerun
from forerun.ir.fusion import Match, Part, Rejection, Replacement, fusion_rule
from forerun.ir.graph import Graph
from forerun.kernels import add, silu_mul
from forerun.testing import check_rule


@forerun.kernel("gate: f32[D], up: f32[D], residual: f32[D] -> y: f32[D]")
def activate_add(gate: np.ndarray, up: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """What the new kernel computes, in NumPy."""
    return residual + gate / (1 + np.exp(-gate)) * up


def activation_and_sum(random: Random) -> Graph:
    """A graph with a match, of a random size: what the rule is tested on."""
    builder, size = forerun.GraphBuilder("activation_and_sum"), random.randint(1, 64)
    gate, up, residual = (builder.input(name, "f32", size) for name in ("gate", "up", "residual"))
    hidden, y = builder.temp("hidden", "f32", size), builder.output("y", "f32", size)
    builder.launch(silu_mul, node="activate", gate=gate, up=up, y=hidden)
    builder.launch(add, node="sum", a=residual, b=hidden, y=y)
    return builder.build()


@fusion_rule(
    "activate-add",
    (
        Part("activate", (silu_mul.KERNEL,), {"gate": "gate", "up": "up", "y": "hidden"}),
        Part("sum", (add.KERNEL,), {"a": "residual", "b": "hidden", "y": "y"}),
    ),
    tolerance=1e-5,
    example=activation_and_sum,
)
def fuse_activation(match: Match) -> Replacement | Rejection:
    """An activation, and the sum that takes its result."""
    names = ("gate", "up", "residual", "y")
    return Replacement(activate_add.KERNEL, match.nodes["sum"].launch, {name: name for name in names})


def main() -> None:
    result = forerun.PassManager("fuse-kernels{rules=activate-add}").run(activation_and_sum(Random(0)))
    (record,) = result.summary.passes
    print(f"nodes: {list(result.graph.nodes)}; {record.verdict}, within a tolerance of {record.tolerance}")
    assert record.verdict == "proved"
    check_rule("activate-add", examples=5, seed=1)
    print("on random sizes and values, both sides compute the same")


if __name__ == "__main__":
    main()
