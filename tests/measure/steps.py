"""Made-up timelines."""

from __future__ import annotations

import numpy as np

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import Launch
from forerun.ir.types import DependencyKind, DType
from forerun.kernels.builtin import KERNELS
from forerun.runtime.timeline import Timeline, timeline_of

ORIGIN = 1_000_000_000_000_000_000
"""Such a number of nanoseconds is what %globaltimer shows."""


def chain() -> Graph:
    """Three kernels of two CTAs; the third depends on the first through a copy, on the second programmatically."""
    builder = GraphBuilder("chain")
    x, y = builder.input("x", DType.F32, (8,)), builder.output("y", DType.F32, (8,))
    spare, kept = builder.temp("spare", DType.F32, (8,)), builder.output("kept", DType.F32, (8,))
    w = builder.weight("w", DType.F32, (8,))
    launch = Launch((2, 1, 1), (32, 1, 1))
    builder.launch(KERNELS["copy_f32"], x=x, y=spare, node="a", launch=launch)
    builder.copy(spare, kept, node="copy")
    builder.launch(KERNELS["add_f32"], a=x, b=w, y=y, node="b", launch=launch, after=["a"])
    builder.launch(KERNELS["accumulate_f32"], x=x, y=y, node="c", launch=launch, after=["copy"])
    builder.depend("b", "c", DependencyKind.PROGRAMMATIC)
    return builder.build(verify=False)


RECORDS = {
    # start, wait, trigger, end, SM
    "a": [[0, None, 20, 1000, 0], [10, None, 30, 1100, 1]],
    "b": [[900, 1200, 950, 2000, 0], [990, 1150, 960, 2500, 0]],
    "c": [[1500, 2600, None, 3000, 2], [1600, 2550, None, 2900, 0]],
}


def records(shift: int = ORIGIN) -> dict[str, np.ndarray]:
    return {
        name: np.array([[0 if t is None else t + shift for t in row[:4]] + [row[4]] for row in rows], np.uint64)
        for name, rows in RECORDS.items()
    }


def made_up() -> Timeline:
    return timeline_of(chain(), records())
