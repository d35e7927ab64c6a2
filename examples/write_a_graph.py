"""Build a graph by hand, compile it, look at what the passes did, and run it.

A block of two matrices with a norm and a residual: ``y = x + down @ silu(gate @ norm(x)) * (up @ norm(x))``.
"""

from __future__ import annotations

import numpy as np

import forerun
from forerun.kernels import add, gemv, rmsnorm, silu_mul
from forerun.kernels.shapes import elementwise_launch

WIDTH, HIDDEN = 64, 256


def feed_forward() -> forerun.Graph:
    """The graph, in stream order: each node depends on the one launched before it."""
    build = forerun.GraphBuilder("feed_forward")
    x, y = build.input("x", "f32", WIDTH), build.output("y", "f32", WIDTH)
    scale = build.weight("norm.weight", "f32", WIDTH)
    gate = build.weight("gate.weight", "f32", (HIDDEN, WIDTH))
    up = build.weight("up.weight", "f32", (HIDDEN, WIDTH))
    down = build.weight("down.weight", "f32", (WIDTH, HIDDEN))
    normed = build.temp("normed", "f32", WIDTH)
    gated, lifted, hidden = (build.temp(name, "f32", HIDDEN) for name in ("gated", "lifted", "hidden"))
    lowered = build.temp("lowered", "f32", WIDTH)

    rows, columns = gemv.launch_for(HIDDEN), gemv.launch_for(WIDTH)
    build.launch(rmsnorm, node="norm", launch=rmsnorm.launch_for(WIDTH), x=x, w=scale, y=normed, eps=1e-5)
    build.launch(gemv, node="gate", launch=rows, w=gate, x=normed, y=gated)
    build.launch(gemv, node="up", launch=rows, w=up, x=normed, y=lifted)
    launch = elementwise_launch(HIDDEN)
    build.launch(silu_mul, node="activate", launch=launch, gate=gated, up=lifted, y=hidden)
    build.launch(gemv, node="down", launch=columns, w=down, x=hidden, y=lowered)
    build.launch(add, node="residual", launch=elementwise_launch(WIDTH), a=x, b=lowered, y=y)
    return build.build()


def main() -> None:
    graph = feed_forward()
    chooser = np.random.default_rng(0)
    weights = {
        name: chooser.normal(0.0, 0.1, buffer.shape).astype(np.float32)
        for name, buffer in graph.buffers.items()
        if name.endswith(".weight")
    }
    x = chooser.normal(size=WIDTH).astype(np.float32)
    with forerun.compile(graph, weights=weights) as program:
        y = program.run({"x": x})["y"]
        print("dependencies as written: ", graph.count_dependencies())
        print("dependencies as compiled:", program.graph.count_dependencies())
        for dependency in program.graph.dependencies:
            reasons = ", ".join(map(str, dependency.hazards))
            print(f"  {dependency.source} -> {dependency.target}: {dependency.kind}, because of {reasons}")

    normed = x / np.sqrt((x * x).mean() + 1e-5) * weights["norm.weight"]
    gated = weights["gate.weight"] @ normed
    hidden = gated / (1 + np.exp(-gated)) * (weights["up.weight"] @ normed)
    assert np.allclose(y, x + weights["down.weight"] @ hidden, atol=1e-5)
    print("the result is that of the formula")


if __name__ == "__main__":
    main()
