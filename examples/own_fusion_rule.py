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
from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role
from forerun.ir.types import DType
from forerun.kernels import add, silu_mul
from forerun.passes.infra.manager import PassManager
from forerun.testing import check_rule


@forerun.register_function
def activate_add(gate: np.ndarray, up: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """What the new kernel computes, in NumPy."""
    return residual + gate / (1 + np.exp(-gate)) * up


FUSED = Kernel(
    "activate_add",
    tuple(BufferParameter(name, DType.F32, ("D",)) for name in ("gate", "up", "residual", "y")),
    (
        Role(
            "all",
            (
                Phase(
                    "activate_add",
                    reads=(Access("gate"), Access("up"), Access("residual")),
                    writes=(Access("y"),),
                    reference=f"{__name__}:activate_add",
                ),
            ),
        ),
    ),
)


def activation_and_sum(random: Random) -> Graph:
    """A graph with a match, of a random size: what the rule is tested on."""
    builder, size = forerun.GraphBuilder("activation_and_sum"), (random.randint(1, 64),)
    gate, up, residual = (builder.input(name, DType.F32, size) for name in ("gate", "up", "residual"))
    hidden, y = builder.temp("hidden", DType.F32, size), builder.output("y", DType.F32, size)
    builder.launch(silu_mul.KERNEL, node="activate", gate=gate, up=up, y=hidden)
    builder.launch(add.KERNEL, node="sum", a=residual, b=hidden, y=y)
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
    return Replacement(FUSED, match.nodes["sum"].launch, {name: name for name in names})


def main() -> None:
    result = PassManager("fuse-kernels{rules=activate-add}").run(activation_and_sum(Random(0)))
    (record,) = result.summary.passes
    print(f"nodes: {list(result.graph.nodes)}; {record.verdict}, within a tolerance of {record.tolerance}")
    assert record.verdict == "proved"
    check_rule("activate-add", examples=5, seed=1)
    print("on random sizes and values, both sides compute the same")


if __name__ == "__main__":
    main()
