"""Random weights for a model's shapes: enough to time a model, or to compare two ways of running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forerun.frontends.llama_config import ROPE_FREQUENCIES, LlamaConfig, rope_frequencies, weight_shapes
from forerun.ir.types import DType
from forerun.runtime.dtypes import numpy_dtype
from forerun.runtime.toolchain import processors
from forerun.support.diagnostics import InvalidInput

__all__ = ["DEVIATION", "RandomWeights"]

DEVIATION = 0.02
"""Standard deviation of the matrices, the initializer range of the published Llama configurations."""

_PART = 1 << 20
"""Elements that are drawn together, from one seed: parts are drawn on all processors at once."""


@cache
def _quantiles(dtype: np.dtype[Any], mean: int) -> NDArray[Any]:
    """65,536 equally likely values of a normal distribution: to look them up is nine times as fast as to compute."""
    count = 1 << 16
    inverse = NormalDist(0, DEVIATION).inv_cdf
    lower = [inverse((number + 0.5) / count) for number in range(count // 2)]
    return (np.array([*lower, *(-value for value in reversed(lower))]) + mean).astype(dtype)


class RandomWeights(Mapping[str, NDArray[Any]]):
    """Weights by name, drawn when they are asked for, and not kept: the same values each time.

    Matrices and biases are normal with deviation :data:`DEVIATION` (of 65,536 values, none beyond 4.4 deviations),
    norms are one plus such values (all ones would hide a norm's weight that is not applied), rotary frequencies are the
    model's own.

    Args:
        config: The shapes.
        matrices: The type of the matrices (f32, f16 or bf16); all else is f32.
        seed: Which values.

    Example:
        >>> tiny = LlamaConfig("tiny", 1, 8, 2, 1, 4, 16, 32, 64)
        >>> RandomWeights(tiny)["blk.0.attn_q.weight"].shape
        (8, 8)
    """

    def __init__(self, config: LlamaConfig, matrices: DType = DType.F32, seed: int = 0) -> None:
        if not matrices.is_float:
            raise InvalidInput(f"matrices of type {matrices} are not supported", hint="f32, f16 and bf16 are")
        self._config = config
        self._matrices = numpy_dtype(matrices)
        self._seed = seed
        self._shapes = dict(weight_shapes(config))
        self._numbers = {name: number for number, name in enumerate(self._shapes)}

    def __getitem__(self, name: str) -> NDArray[Any]:
        shape = self._shapes[name]
        if name == ROPE_FREQUENCIES:
            return rope_frequencies(self._config)
        values = np.empty(shape, self._matrices if len(shape) == 2 else np.float32)
        table = _quantiles(values.dtype, int(name.endswith("norm.weight")))
        # As words of their size: NumPy copies those of types that it does not know one by one, with its lock held.
        flat, table = (array.reshape(-1).view(f"u{values.itemsize}") for array in (values, table))

        def draw(part: int) -> None:
            place = flat[part * _PART : (part + 1) * _PART]
            chooser = np.random.default_rng([self._seed, self._numbers[name], part])
            words = chooser.integers(0, 1 << 64, -(-place.size // 4), np.uint64)
            np.take(table, words.view(np.uint16)[: place.size], out=place, mode="clip")

        with ThreadPoolExecutor(processors()) as pool:
            list(pool.map(draw, range(-(-flat.size // _PART))))
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __repr__(self) -> str:
        return f"<RandomWeights of {self._config.name}, seed {self._seed}>"
