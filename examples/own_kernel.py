"""A kernel of one's own, in two phases: NumPy functions, and the same in CUDA C++.

The first phase loads weights. It does not depend on the kernel in front, so the passes move it ahead of the wait.
"""

from __future__ import annotations

import numpy as np

import forerun
from forerun.ir.launches import ANY_LAUNCH
from forerun.runtime.gpu import no_gpu_reason


def load(w: np.ndarray) -> np.ndarray:
    return w


def scale(x: np.ndarray, load: np.ndarray) -> np.ndarray:
    return load * x


CUDA = """
struct Locals {
    float w[elements_a_thread<Launch, Dims::N>];
};

__device__ __forceinline__ void load(const Arguments& a, Locals& l) {
    for_each_element<Launch, Dims::N>([&] (int slot, int i) { l.w[slot] = load_global(a.w + i); });
}

__device__ __forceinline__ void scale(const Arguments& a, Locals& l) {
    for_each_element<Launch, Dims::N>([&] (int slot, int i) { a.y[i] = l.w[slot] * load_global(a.x + i); });
}
"""
SCALE = forerun.kernel("w: f32[N], x: f32[N] -> y: f32[N]", load, scale, cuda=CUDA, launches=ANY_LAUNCH)


def twice() -> forerun.Graph:
    """``y = w2 * (w1 * x)``."""
    builder = forerun.GraphBuilder("twice")
    x, between, y = builder.input("x", "f32", 8), builder.temp("between", "f32", 8), builder.output("y", "f32", 8)
    w1, w2 = builder.weight("w1", "f32", 8), builder.weight("w2", "f32", 8)
    builder.launch(SCALE, w1, x, between, node="first")
    builder.launch(SCALE, w2, between, y, node="second")
    return builder.build()


def main() -> None:
    target = "reference{schedule=adversarial}" if no_gpu_reason() else "cuda"
    weights = {"w1": np.full(8, 2, np.float32), "w2": np.full(8, 3, np.float32)}
    with forerun.compile(twice(), target, "exact", weights=weights) as program:
        result = program(x=np.ones(8, np.float32))["y"]
        second = program.graph.kernels[program.graph.nodes["second"].kernel]
    steps = [getattr(step, "name", "wait") for _, _, step in second.steps()]
    print(f"on {target}: {result}; the second kernel's steps: {', '.join(steps)}")
    assert (result == 6).all()
    assert steps.index("load") < steps.index("wait") < steps.index("scale")


if __name__ == "__main__":
    main()
