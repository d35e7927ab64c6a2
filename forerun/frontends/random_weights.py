"""Random weights for a model's shapes: enough to time a model, or to compare two ways of running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
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


class RandomWeights(Mapping[str, NDArray[Any]]):
    """Weights by name, drawn when they are asked for, and not kept: the same values each time.

    Matrices and biases are normal with deviation :data:`DEVIATION`, norms are one plus such values (all ones would hide
    a norm's weight that is not applied), rotary frequencies are the model's own.

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
        flat = values.reshape(-1)
        mean = np.float32(name.endswith("norm.weight"))

        def draw(part: int) -> None:
            place = flat[part * _PART : (part + 1) * _PART]
            chooser = np.random.default_rng([self._seed, self._numbers[name], *([part] if part else [])])
            drawn = chooser.standard_normal(place.size, np.float32)
            place[...] = drawn * np.float32(DEVIATION) + mean

        with ThreadPoolExecutor(processors()) as pool:
            list(pool.map(draw, range(-(-flat.size // _PART))))
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __repr__(self) -> str:
        return f"<RandomWeights of {self._config.name}, seed {self._seed}>"
