"""The shapes of Llama-architecture models: by hand, of known models, or from the metadata of a GGUF file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forerun.frontends.gguf_kinds import require_whole_model
from forerun.support.diagnostics import InvalidInput, did_you_mean

if TYPE_CHECKING:
    from forerun.frontends.gguf import GgufFile

__all__ = [
    "LLAMA_3_1_8B",
    "LLAMA_3_2_1B",
    "LLAMA_3_2_3B",
    "MISTRAL_7B",
    "QWEN2_5_0_5B",
    "QWEN3_8B",
    "ROPE_FREQUENCIES",
    "SHAPES",
    "SMOLLM2_135M",
    "TINYLLAMA_1_1B",
    "LlamaConfig",
    "read_config",
    "rope_frequencies",
    "shape_named",
    "weight_shapes",
]

ROPE_FREQUENCIES = "rope_frequencies"
"""The weight that is computed rather than read: radians a position, for each rotary pair of a head."""


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """The shapes and constants of a Llama-architecture model.

    Attributes:
        name: For graphs and messages; an identifier.
        layers: Number of transformer blocks.
        width: Elements of the residual stream.
        heads: Query heads.
        kv_heads: Key and value heads; ``heads`` is a multiple of it.
        head_size: Elements of a head; even.
        hidden: Elements between gate/up and down.
        vocabulary: Rows of the embedding table.
        context_length: Positions that the model was trained for.
        norm_epsilon: Added to the mean square in each norm.
        rope_base: Base of the rotary frequencies.
        rope_scale: Positions are divided by it (linear scaling).
        tied: Whether the embedding table is the output matrix too.
        attention_bias: Whether q, k and v have biases.
        head_norms: Whether each head of q and k is normalized before it is rotated.

    Raises:
        InvalidInput: If the numbers do not fit together.
    """

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    hidden: int
    vocabulary: int
    context_length: int
    norm_epsilon: float = 1e-5
    rope_base: float = 10000.0
    rope_scale: float = 1.0
    tied: bool = True
    attention_bias: bool = False
    head_norms: bool = False

    def __post_init__(self) -> None:
        for field in ("layers", "width", "heads", "kv_heads", "head_size", "hidden", "vocabulary", "context_length"):
            if getattr(self, field) < 1:
                raise InvalidInput(f"model '{self.name}': {field} is {getattr(self, field)}; it must be positive")
        if self.heads % self.kv_heads:
            message = f"model '{self.name}': {self.heads} heads cannot share {self.kv_heads} key and value heads"
            raise InvalidInput(message, hint="heads must be a multiple of kv_heads")
        if self.head_size % 2:
            raise InvalidInput(f"model '{self.name}': head_size {self.head_size} is odd, so it has no rotary pairs")

    @property
    def parameters(self) -> int:
        """Number of weights, computed ones left out."""
        shapes = weight_shapes(self)
        return sum(int(np.prod(shape)) for name, shape in shapes if name != ROPE_FREQUENCIES)


SMOLLM2_135M = LlamaConfig("smollm2_135m", 30, 576, 9, 3, 64, 1536, 49152, 8192, rope_base=100000.0)
TINYLLAMA_1_1B = LlamaConfig("tinyllama_1_1b", 22, 2048, 32, 4, 64, 5632, 32000, 2048, tied=False)
LLAMA_3_2_1B = LlamaConfig("llama_3_2_1b", 16, 2048, 32, 8, 64, 8192, 128256, 131072, rope_base=500000.0)
LLAMA_3_2_3B = LlamaConfig("llama_3_2_3b", 28, 3072, 24, 8, 128, 8192, 128256, 131072, rope_base=500000.0)
LLAMA_3_1_8B = LlamaConfig("llama_3_1_8b", 32, 4096, 32, 8, 128, 14336, 128256, 131072, rope_base=500000.0, tied=False)
MISTRAL_7B = LlamaConfig("mistral_7b", 32, 4096, 32, 8, 128, 14336, 32768, 32768, rope_base=1000000.0, tied=False)
QWEN2_5_0_5B = LlamaConfig(
    "qwen2_5_0_5b", 24, 896, 14, 2, 64, 4864, 151936, 32768, norm_epsilon=1e-6, rope_base=1000000.0, attention_bias=True
)
QWEN3_8B = LlamaConfig(
    "qwen3_8b", 36, 4096, 32, 8, 128, 12288, 151936, 40960, 1e-6, rope_base=1000000.0, tied=False, head_norms=True
)

SHAPES = MappingProxyType(
    {
        "smollm2-135m": SMOLLM2_135M,
        "tinyllama-1.1b": TINYLLAMA_1_1B,
        "llama-3.2-1b": LLAMA_3_2_1B,
        "llama-3.2-3b": LLAMA_3_2_3B,
        "llama-3.1-8b": LLAMA_3_1_8B,
        "mistral-7b": MISTRAL_7B,
        "qwen2.5-0.5b": QWEN2_5_0_5B,
        "qwen3-8b": QWEN3_8B,
    }
)
"""The known models, by the names that people give them."""


def shape_named(name: str) -> LlamaConfig:
    """The shapes of a known model.

    Raises:
        InvalidInput: If it is not known.

    Example:
        >>> shape_named("llama-3.2-1b").layers
        16
    """
    if name not in SHAPES:
        raise InvalidInput(f"no shape '{name}'", hint=did_you_mean(name, SHAPES))
    return SHAPES[name]


def weight_shapes(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every weight of the decode graph. Names are those of GGUF; matrices are rows x columns."""
    width, queries, keys = config.width, config.heads * config.head_size, config.kv_heads * config.head_size
    yield "token_embd.weight", (config.vocabulary, width)
    yield ROPE_FREQUENCIES, (config.head_size // 2,)
    for layer in range(config.layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", (width,)
        for part, rows in (("q", queries), ("k", keys), ("v", keys)):
            yield f"{block}.attn_{part}.weight", (rows, width)
            if config.attention_bias:
                yield f"{block}.attn_{part}.bias", (rows,)
            if config.head_norms and part != "v":
                yield f"{block}.attn_{part}_norm.weight", (config.head_size,)
        yield f"{block}.attn_output.weight", (width, queries)
        yield f"{block}.ffn_norm.weight", (width,)
        yield f"{block}.ffn_gate.weight", (config.hidden, width)
        yield f"{block}.ffn_up.weight", (config.hidden, width)
        yield f"{block}.ffn_down.weight", (width, config.hidden)
    yield "output_norm.weight", (width,)
    if not config.tied:
        yield "output.weight", (config.vocabulary, width)


def rope_frequencies(config: LlamaConfig, factors: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Radians a position for each pair: ``base ** (-2 i / head_size)``, divided by the model's own ``factors``."""
    exponents = -np.arange(0, config.head_size, 2) / config.head_size
    frequencies = (config.rope_base**exponents / config.rope_scale).astype(np.float32)
    return frequencies if factors is None else frequencies / factors


def read_config(file: GgufFile) -> LlamaConfig:
    """The shapes that the metadata of a GGUF file asks for.

    Raises:
        InvalidInput: If it is of another architecture, or a key is missing or wrong.
    """
    require_whole_model(file)
    architecture = file.text("general.architecture")
    if architecture != "llama":
        raise file.error(f"key 'general.architecture' is '{architecture}'", "only the architecture 'llama' is known")
    if file.integer("llama.expert_count", 0):
        raise file.error("key 'llama.expert_count': mixtures of experts are not supported", "use a dense model")
    layers = file.integer("llama.block_count", least=1)
    width = file.integer("llama.embedding_length", least=1)
    heads = file.same_for_all("llama.attention.head_count", layers, least=1)
    head_size = file.integer("llama.attention.key_length", width // heads, least=1)
    _check_head_size(file, head_size)
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise file.error("tensor 'token_embd.weight' is missing or not a matrix", "the file holds no whole model")
    try:
        return LlamaConfig(
            name=_name(file),
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=file.same_for_all("llama.attention.head_count_kv", layers, heads, least=1),
            head_size=head_size,
            hidden=file.same_for_all("llama.feed_forward_length", layers, least=1),
            vocabulary=embedding.shape[0],
            context_length=_positions(file),
            norm_epsilon=file.real("llama.attention.layer_norm_rms_epsilon"),
            rope_base=file.real("llama.rope.freq_base", 10000.0),
            rope_scale=_rope_scale(file),
            tied="output.weight" not in file.tensors,
            attention_bias="blk.0.attn_q.bias" in file.tensors,
        )
    except InvalidInput as error:
        if str(file.path) in error.message:
            raise
        raise file.error(error.message, error.hint) from error


def _name(file: GgufFile) -> str:
    """An identifier from what the file says of itself, such as ``smollm2_135m``."""
    parts = [file.metadata.get(f"general.{key}") for key in ("basename", "size_label")]
    text = "_".join(part for part in parts if part and isinstance(part, str))
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return name if name[:1].isalpha() else "llama"


def _positions(file: GgufFile) -> int:
    """The positions that every layer attends to in full. A window of 0 is none, as converters write it."""
    context = file.integer("llama.context_length", least=1)
    return min(context, file.integer("llama.attention.sliding_window", 0) or context)


def _check_head_size(file: GgufFile, head_size: int) -> None:
    for key in ("llama.attention.value_length", "llama.rope.dimension_count"):
        value = file.integer(key, head_size)
        if value != head_size:
            raise file.error(f"key '{key}' is {value}; only the whole head, {head_size}, is supported")


def _rope_scale(file: GgufFile) -> float:
    kind = file.text("llama.rope.scaling.type", "linear")
    if kind == "none":
        return 1.0
    if kind != "linear":
        raise file.error(f"key 'llama.rope.scaling.type' is '{kind}'", "known are none, linear, and rope_freqs.weight")
    return file.real("llama.rope.scaling.factor", file.real("llama.rope.scale_linear", 1.0))
