"""Models of the Llama architecture in GGUF files: shapes, weights on demand, tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from forerun.frontends.llama_config import (
    LLAMA_3_2_1B,
    ROPE_FREQUENCIES,
    SMOLLM2_135M,
    TINYLLAMA_1_1B,
    LlamaConfig,
    read_config,
    rope_frequencies,
    weight_shapes,
)
from forerun.frontends.not_finite import fitted
from forerun.ir.types import DType
from forerun.kernels.packing import PACKINGS, Packing, packed
from forerun.runtime.dtypes import numpy_dtype
from forerun.support.diagnostics import InvalidInput, did_you_mean

if TYPE_CHECKING:
    from forerun.frontends.gguf import GgufFile
    from forerun.frontends.tokenizer import Tokenizer

__all__ = [
    "LLAMA_3_2_1B",
    "ROPE_FREQUENCIES",
    "SMOLLM2_135M",
    "TINYLLAMA_1_1B",
    "LlamaConfig",
    "LlamaModel",
    "LlamaWeights",
    "rope_frequencies",
    "weight_shapes",
]

_ROPE_FACTORS = "rope_freqs.weight"
_READ_TOGETHER = ("attn_q", "attn_k", "attn_v"), ("ffn_gate", "ffn_up")


class LlamaModel:
    """A Llama-architecture GGUF file: shapes, weights on demand, tokenizer.

    Attributes:
        path: The file.
        config: The shapes.
        weights: Array by buffer name of the decode graph, all f32.

    Example:
        model = LlamaModel.open("model.gguf")
        graph = decode_graph(model.config, context=256)
        executable = forerun.compile(graph, weights=model.weights)
    """

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self.path = file.path
        self.config = read_config(file)
        self.weights = LlamaWeights(file, self.config)

    @classmethod
    def open(cls, path: str | Path) -> LlamaModel:
        """Open a file and check that it holds a whole model; no tensor is read yet.

        Raises:
            InvalidInput: If the file is damaged, of another architecture, or lacks something.
        """
        from forerun.frontends.gguf import GgufFile
        from forerun.frontends.gguf_kinds import part_hint

        try:
            return cls(GgufFile(path))
        except InvalidInput as error:
            hint = part_hint(Path(path))
            if not hint or "--merge" in error.hint or not Path(path).exists():
                raise
            raise InvalidInput(error.message, hint=hint) from error

    @property
    def packings(self) -> dict[str, Packing]:
        """The matrices that need not be widened, since kernels read their blocks as they are.

        Others are of a type of floating point numbers, of a kind of blocks that no kernel reads, or have rows that
        cannot be packed (see :meth:`~forerun.kernels.packing.Packing.tiles`). So are matrices that one kernel reads, q,
        k and v or gate and up, where they differ, as in half of the layers of Q4_K_M: together in f16 they take less
        time than each for itself.
        """
        found = {}
        for name, shape in weight_shapes(self.config):
            packing = PACKINGS.get(self._file.tensors[name].type.name) if len(shape) == 2 else None
            if packing is not None and packing.tiles(shape[1]) is not None:
                found[name] = packing
        for layer in range(self.config.layers):
            for parts in _READ_TOGETHER:
                names = [f"blk.{layer}.{part}.weight" for part in parts]
                if len({found.get(name) for name in names}) > 1:
                    found = {name: packing for name, packing in found.items() if name not in names}
        return found

    def weights_as(self, dtype: DType, packings: Mapping[str, Packing] | None = None) -> LlamaWeights:
        """The weights for a decode graph whose matrices are of that floating point type, but for those of packings."""
        return LlamaWeights(self._file, self.config, dtype, packings)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the file holds."""
        from forerun.frontends.tokenizer import Tokenizer

        tokenizer = Tokenizer.from_gguf(self._file)
        if tokenizer.size != self.config.vocabulary:
            raise self._file.error(
                f"key 'tokenizer.ggml.tokens' has {tokenizer.size} tokens, tensor 'token_embd.weight' has "
                f"{self.config.vocabulary} rows"
            )
        return tokenizer


class LlamaWeights(Mapping[str, NDArray[Any]]):
    """The weights by name, decoded when first asked for, then kept. Arrays are read-only or not to be written.

    Args:
        file: Where they are.
        config: Which there must be.
        matrices: The type of the matrices; all else is f32.
        packings: The matrices that stay as they are in the file, rearranged in memory: all or some of those that
            :attr:`LlamaModel.packings` says.

    Raises:
        InvalidInput: If one is missing, has another shape or a type that cannot be decoded, or if there are tensors
            that the architecture does not have. When it is looked up: if the type of the matrices cannot hold a value.
    """

    def __init__(
        self,
        file: GgufFile,
        config: LlamaConfig,
        matrices: DType = DType.F32,
        packings: Mapping[str, Packing] | None = None,
    ) -> None:
        if matrices not in (DType.F32, DType.BF16, DType.F16):
            raise InvalidInput(f"matrices of type {matrices} are not supported", hint="f32, f16 and bf16 are")
        self._file = file
        self._config = config
        self._matrices = numpy_dtype(matrices)
        self._packings = dict(packings or {})
        self._names: dict[str, tuple[int, ...]] = {}
        self._decoded: dict[str, NDArray[Any]] = {}
        for name, shape in weight_shapes(config):
            if name != ROPE_FREQUENCIES:
                file.require(name, shape)
            self._names[name] = shape
        if _ROPE_FACTORS in file.tensors:
            file.require(_ROPE_FACTORS, (config.head_size // 2,))
        for name in file.tensors:
            if name not in self._names and name != _ROPE_FACTORS:
                raise file.error(f"tensor '{name}' is not part of the Llama architecture", "this variant is not known")
        for name, packing in self._packings.items():
            self._require_packing(name, packing)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._decoded:
            self._decoded[name] = self._decode(name, self._names[name])
        return self._decoded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __repr__(self) -> str:
        return f"<LlamaWeights of {self._file.path.name}: {len(self)}, {len(self._decoded)} decoded>"

    def _decode(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        if name == ROPE_FREQUENCIES:
            return self._frequencies()
        if name in self._packings:
            return self._packed(name, self._packings[name])
        values = self._file.tensor(name)
        return fitted(values, self._matrices, f"{self._file.path}: tensor '{name}'") if len(shape) == 2 else values

    def _require_packing(self, name: str, packing: Packing) -> None:
        """Check that a matrix can be packed so."""
        if name not in self._names:
            raise InvalidInput(f"no weight '{name}' to be packed", hint=did_you_mean(name, self._names))
        kind = self._file.tensors[name].type.name if name in self._file.tensors else "no tensor"
        if kind != packing.dimension:
            message = f"tensor '{name}' is {kind}, not {packing.dimension}"
            raise self._file.error(message, "a packing keeps what is there")
        packing.row_bytes(self._names[name][-1])

    def _packed(self, name: str, packing: Packing) -> NDArray[np.uint8]:
        try:
            return packed(self._file.blocks(name), packing)
        except InvalidInput as error:
            hint = "no type would do; the file is damaged, fetch it again"
            raise self._file.error(f"tensor '{name}': {error.message}", hint) from error

    def _frequencies(self) -> NDArray[np.float32]:
        if _ROPE_FACTORS not in self._file.tensors:
            return rope_frequencies(self._config)
        factors = self._file.tensor(_ROPE_FACTORS)
        if not (factors > 0).all():
            raise self._file.error(f"tensor '{_ROPE_FACTORS}' holds factors that are not positive")
        return rope_frequencies(self._config, factors)
