"""Memory of torch without a copy: a program reads and writes tensors on the GPU, on torch's stream.

It needs torch and a GPU, and says so where one of them is missing.
"""

from __future__ import annotations

import importlib.util

import forerun
from forerun.kernels import gemv
from forerun.runtime.gpu import no_gpu_reason


def projection() -> forerun.Graph:
    builder = forerun.GraphBuilder("projection")
    x, y = builder.input("x", "f32", 256), builder.output("y", "f32", 512)
    weight = builder.weight("w", "f32", (512, 256))
    builder.launch(gemv, launch=gemv.launch_for(512), w=weight, x=x, y=y)
    return builder.build()


def main() -> None:
    reason = no_gpu_reason() if importlib.util.find_spec("torch") else "torch is not installed"
    if reason is not None:
        print(f"skipped: {reason}")
        return
    import torch

    weight = torch.randn(512, 256, device="cuda")
    x = torch.randn(256, device="cuda")
    with forerun.compile(projection(), "cuda", weights={"w": weight}, memory={"x": x}) as program:
        y = torch.from_dlpack(program.buffer("y"))  # the program's memory, as a tensor
        program.launch(torch.cuda.current_stream())
        assert torch.allclose(y, weight @ x, rtol=1e-3, atol=1e-3)
        x.fill_(1)  # on the same stream, so the next replay reads it
        program.launch(torch.cuda.current_stream())
        assert torch.allclose(y, weight.sum(1), rtol=1e-3, atol=1e-3)
    print("tensors of torch were read and written in place")


if __name__ == "__main__":
    main()
