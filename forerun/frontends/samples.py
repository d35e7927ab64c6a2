"""Small graphs to try things on: ``forerun export --sample NAME`` writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from forerun.frontends.decode import decode_graph, generation_graph
from forerun.frontends.llama_config import LlamaConfig
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.kernels import gemv
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["SAMPLES", "sample_named"]

_TINY = LlamaConfig("tiny", 2, 64, 2, 1, 32, 96, 128, 64)


def _two_layers(name: str, *, ordered: bool) -> Graph:
    """Two products of a matrix and a vector, one after the other; or nothing orders the second after the first."""
    matvec, launch = gemv.declare(DType.F32), gemv.launch_for(256)
    builder = GraphBuilder(name)
    x = builder.input("x", DType.F32, (256,))
    w1, w2 = (builder.weight(weight, DType.F32, (256, 256)) for weight in ("w1", "w2"))
    hidden, y = builder.temp("hidden", DType.F32, (256,)), builder.output("y", DType.F32, (256,))
    builder.launch(matvec, node="first", launch=launch, w=w1, x=x, y=hidden)
    builder.launch(matvec, node="second", launch=launch, after=None if ordered else [], w=w2, x=hidden, y=y)
    return builder.build()


SAMPLES: Mapping[str, Callable[[], Graph]] = MappingProxyType(
    {
        "two-layers": lambda: _two_layers("two_layers", ordered=True),
        "race": lambda: _two_layers("race", ordered=False),
        "decode": lambda: decode_graph(_TINY, splits=4, argmax_parts=2),
        "loop": lambda: generation_graph(_TINY, limit=8, eot=2),
    }
)
"""What makes each graph, by name: the last two are a decode step, and a loop of steps that ends on the device."""


def sample_named(name: str) -> Graph:
    """A sample graph.

    Raises:
        InvalidInput: If there is none of that name.
    """
    make = SAMPLES.get(name)
    if make is None:
        raise InvalidInput(f"no sample '{name}'", hint=did_you_mean(name, SAMPLES))
    return make()
