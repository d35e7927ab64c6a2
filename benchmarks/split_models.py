"""Programs for ``splits.py``: layers of gpt-oss-20b's shapes, and decode steps of Llama's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import LlamaConfig
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole, DType
from forerun.kernels import add, expert_gemv, expert_sum, gemv, rmsnorm, router, silu_mul
from forerun.kernels.shapes import elementwise_launch
from forerun.runtime.dtypes import numpy_dtype

__all__ = ["LLAMA_1B", "LLAMA_8B", "SMALL", "Layers", "Shapes", "decode_step", "model", "weights_of"]

BF16 = DType.BF16


@dataclass(frozen=True)
class Shapes:
    """The shapes of a model; by default those of gpt-oss-20b."""

    layers: int = 24
    width: int = 2880
    hidden: int = 2880
    experts: int = 32
    chosen: int = 4
    attention: int = 4096


SMALL = Shapes(4, 64, 64, 4, 2, 64)


class Layers:
    """Declares the weights of two sets, ``device.*`` and ``host.*``, and emits layers that use one of them."""

    def __init__(self, name: str, shapes: Shapes) -> None:
        self.builder, self.shapes = GraphBuilder(name), shapes
        s = shapes
        for kind in ("device", "host"):
            for part in ("gate", "up"):
                self.builder.weight(f"{kind}.{part}_exps", BF16, (s.experts, s.hidden, s.width))
            self.builder.weight(f"{kind}.down_exps", BF16, (s.experts, s.width, s.hidden))
        self.builder.weight("norm", DType.F32, (s.width,))
        self.builder.weight("router", BF16, (s.experts, s.width))
        self.builder.weight("attn_in", BF16, (s.attention, s.width))
        self.builder.weight("attn_out", BF16, (s.width, s.attention))

    def chain(self, prefix: str, host_layers: set[int]) -> None:
        """All layers on an input of their own; experts of some layers are of the set ``host``."""
        x = self.builder.input(f"{prefix}x", DType.F32, (self.shapes.width,))
        for layer in range(self.shapes.layers):
            x = self._attention(f"{prefix}{layer}", x)
            x = self._experts(f"{prefix}{layer}", x, "host" if layer in host_layers else "device")
        y = self.builder.output(f"{prefix}y", DType.F32, (self.shapes.width,))
        self._launch(add.KERNEL, f"{prefix}end", elementwise_launch(self.shapes.width), a=x, b=x, y=y)

    def _temp(self, name: str, shape: tuple[int, ...], dtype: DType = DType.F32) -> str:
        return self.builder.temp(name, dtype, shape)

    def _launch(self, kernel: Any, node: str, launch: Any, **arguments: Any) -> None:
        self.builder.launch(kernel, node=node, launch=launch, **arguments)

    def _gemv(self, node: str, w: str, x: str, rows: int, columns: int) -> str:
        y = self._temp(f"{node}.out", (rows,))
        self._launch(gemv.declare(BF16), node, gemv.launch_for(rows, columns, BF16), w=w, x=x, y=y)
        return y

    def _add(self, node: str, a: str, b: str) -> str:
        y = self._temp(f"{node}.out", (self.shapes.width,))
        self._launch(add.KERNEL, node, elementwise_launch(self.shapes.width), a=a, b=b, y=y)
        return y

    def _attention(self, layer: str, x: str) -> str:
        s = self.shapes
        inner = self._gemv(f"{layer}.attn_in", "attn_in", x, s.attention, s.width)
        return self._add(f"{layer}.attn", x, self._gemv(f"{layer}.attn_out", "attn_out", inner, s.width, s.attention))

    def _experts(self, layer: str, x: str, kind: str) -> str:
        s, b = self.shapes, self.builder
        normed = self._temp(f"{layer}.norm.out", (s.width,))
        self._launch(rmsnorm.KERNEL, f"{layer}.norm", rmsnorm.launch_for(s.width), x=x, w="norm", y=normed, eps=1e-5)
        logits = self._gemv(f"{layer}.router", "router", normed, s.experts, s.width)
        chosen, share = self._temp(f"{layer}.chosen", (s.chosen,), DType.I32), self._temp(f"{layer}.share", (s.chosen,))
        arguments = {"logits": logits, "chosen": chosen, "share": share, "count": s.chosen}
        self._launch(router.KERNEL, f"{layer}.route", router.LAUNCH, **arguments)
        row = b.buffer(f"{layer}.row", DType.F32, (1, s.width), BufferRole.TEMP, allocation=normed)
        flat = {}
        for part in ("gate", "up", "act"):
            y = self._temp(f"{layer}.{part}", (s.chosen, s.hidden))
            flat[part] = b.buffer(f"{y}.flat", DType.F32, (s.chosen * s.hidden,), BufferRole.TEMP, allocation=y)
            if part != "act":
                self._expert_gemv(f"{layer}.{part}_exps", f"{kind}.{part}_exps", row, chosen, y, s.chosen * s.hidden)
        size = elementwise_launch(s.chosen * s.hidden)
        self._launch(silu_mul.KERNEL, f"{layer}.act", size, gate=flat["gate"], up=flat["up"], y=flat["act"])
        down, total = self._temp(f"{layer}.down", (s.chosen, s.width)), self._temp(f"{layer}.sum.out", (s.width,))
        rows = s.chosen * s.width
        self._expert_gemv(f"{layer}.down_exps", f"{kind}.down_exps", f"{layer}.act", chosen, down, rows)
        self._launch(expert_sum.KERNEL, f"{layer}.sum", elementwise_launch(s.width), x=down, share=share, y=total)
        return self._add(f"{layer}.experts", x, total)

    def _expert_gemv(self, node: str, w: str, x: str, chosen: str, y: str, rows: int) -> None:
        kernel, launch = expert_gemv.declare(BF16), expert_gemv.launch_for(rows)
        self._launch(kernel, node, launch, w=w, x=x, chosen=chosen, y=y)


def model(shapes: Shapes, host_layers: int, sequences: int = 1) -> Graph:
    """Sequences of all layers, of which some, evenly spread, have their experts on the host."""
    layers = Layers(f"experts_{host_layers}_{sequences}", shapes)
    on_host = {shapes.layers * (2 * i + 1) // (2 * host_layers) for i in range(host_layers)}
    for number in range(sequences):
        layers.chain(f"s{number}.", on_host)
    return layers.builder.build()


LLAMA_8B = LlamaConfig("llama_3_1_8b", 32, 4096, 32, 8, 128, 14336, 128256, 131072, rope_base=500000.0)
LLAMA_1B = LlamaConfig("llama_3_2_1b", 16, 2048, 32, 8, 64, 8192, 128256, 131072, rope_base=500000.0)
TINY = LlamaConfig("tiny", 2, 64, 2, 1, 32, 128, 96, 64)


def decode_step(shapes: Shapes, config: LlamaConfig) -> Graph:
    """A decode step of a Llama in bf16, over a cache of 512 positions; a tiny one in dry runs."""
    small = shapes == SMALL
    return decode_graph(TINY if small else config, context=64 if small else 512, dtype=BF16)


def weights_of(graph: Graph) -> Mapping[str, np.ndarray]:
    """Small numbers, made quickly: a random row, again and again. Weights of one shape are the same array."""
    return _Weights(graph)


@cache
def _array(shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    row = (np.random.default_rng(0).normal(size=shape[-1]) * 0.02).astype(numpy_dtype(dtype))
    return np.ascontiguousarray(np.broadcast_to(row, shape))


class _Weights(Mapping[str, np.ndarray]):
    def __init__(self, graph: Graph) -> None:
        self._buffers = {b.name: b for b in graph.buffers.values() if b.role is BufferRole.WEIGHT}

    def __getitem__(self, name: str) -> np.ndarray:
        return _array(self._buffers[name].shape, self._buffers[name].dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._buffers)

    def __len__(self) -> int:
        return len(self._buffers)
