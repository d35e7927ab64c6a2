"""Writes a tiny Llama-architecture GGUF file, tokenizer included: what the tests run instead of a download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from forerun.frontends.llama import ROPE_FREQUENCIES, LlamaConfig, weight_shapes

__all__ = ["TINY", "tiny_weights", "write_tiny_gguf"]

_WORDS = ("the", "capital", "of", "France", "is", "Paris", "hello", "world")
_BYTE_LEVEL_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SENTENCE_PIECE_SPECIALS = ("<unk>", "<s>", "</s>")
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


def _byte_characters() -> list[str]:
    """GPT-2's printable character for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _byte_level() -> tuple[list[str], list[int], list[str]]:
    """Tokens, types and merges: every byte, and the steps that build each word from the left."""
    tokens = [*_BYTE_LEVEL_SPECIALS, *_byte_characters()]
    merges: dict[str, None] = {}
    for spelled in (*("Ġ" + word for word in _WORDS), *_WORDS):
        for cut in range(1, len(spelled)):
            merges[f"{spelled[:cut]} {spelled[cut]}"] = None
    joined = dict.fromkeys(merge.replace(" ", "") for merge in merges)
    tokens += [token for token in joined if token not in tokens]
    types = [_CONTROL if token in _BYTE_LEVEL_SPECIALS else _NORMAL for token in tokens]
    return tokens, types, list(merges)


def _sentence_piece() -> tuple[list[str], list[int], list[float]]:
    """Tokens, types and scores: every byte, letters, and the words with all their beginnings, longest best."""
    pieces = ["▁", *sorted({letter for word in _WORDS for letter in word})]
    for word in _WORDS:
        for spelled in (word, "▁" + word):
            pieces += [spelled[:cut] for cut in range(2, len(spelled) + 1)]
    pieces = list(dict.fromkeys(pieces))
    tokens = [*_SENTENCE_PIECE_SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    types = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, *[_NORMAL] * len(pieces)]
    scores = [0.0] * 259 + [float(len(piece) - 100) for piece in pieces]
    return tokens, types, scores


TINY = LlamaConfig(
    name="tiny_10k",
    layers=2,
    width=32,
    heads=4,
    kv_heads=2,
    head_size=8,
    hidden=64,
    vocabulary=len(_byte_level()[0]),
    context_length=64,
    norm_epsilon=2.0**-16,
    rope_base=1000.0,
)
"""The shapes of the tiny model, as the file says them (``norm_epsilon`` is an f32 there)."""


def tiny_weights(config: LlamaConfig = TINY, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of a scale at which the logits differ clearly."""
    chooser = np.random.default_rng(seed)
    weights = {}
    for name, shape in weight_shapes(config):
        if name == ROPE_FREQUENCIES:
            continue
        matrix = len(shape) == 2
        values = chooser.normal(0.0, shape[-1] ** -0.5, shape) if matrix else chooser.uniform(0.5, 1.5, shape)
        weights[name] = values.astype(np.float32)
    return weights


def write_tiny_gguf(
    path: Path,
    config: LlamaConfig = TINY,
    *,
    tokenizer: str = "gpt2",
    matrices: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray | None] | None = None,
    seed: int = 0,
) -> Path:
    """Write the model.

    Args:
        path: Where.
        config: Shapes, apart from the vocabulary, which is the tokenizer's.
        tokenizer: ``gpt2`` (byte-level) or ``llama`` (SentencePiece).
        matrices: Encoding of the matrices.
        metadata: Replaces or adds keys; ``None`` leaves a key out.
        tensors: Replaces or adds tensors; ``None`` leaves one out.
        seed: Of the random weights.

    Returns:
        ``path``.
    """
    writer = gguf.GGUFWriter(path, "llama")
    config = replace(config, vocabulary=len(_tokenizer_keys(tokenizer)["tokenizer.ggml.tokens"]))
    keys = {**_keys(config), **_tokenizer_keys(tokenizer), **(metadata or {})}
    for key, value in keys.items():
        _add(writer, key, value)
    for name, values in {**tiny_weights(config, seed=seed), **(tensors or {})}.items():
        if values is None:
            continue
        if values.ndim == 2 and matrices != gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, gguf.quantize(values, matrices), raw_dtype=matrices)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _keys(config: LlamaConfig) -> dict[str, Any]:
    return {
        "general.basename": "Tiny",
        "general.size_label": "10K",
        "llama.block_count": config.layers,
        "llama.context_length": config.context_length,
        "llama.embedding_length": config.width,
        "llama.feed_forward_length": config.hidden,
        "llama.attention.head_count": config.heads,
        "llama.attention.head_count_kv": config.kv_heads,
        "llama.rope.freq_base": config.rope_base,
        "llama.rope.dimension_count": config.head_size,
        "llama.attention.layer_norm_rms_epsilon": config.norm_epsilon,
    }


def _tokenizer_keys(kind: str) -> dict[str, Any]:
    if kind == "gpt2":
        tokens, types, merges = _byte_level()
        own: dict[str, Any] = {"pre": "smollm", "merges": merges, "add_bos_token": False, "eos_token_id": 2}
    else:
        tokens, types, scores = _sentence_piece()
        own = {"scores": scores, "unknown_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    own |= {"model": kind, "tokens": tokens, "token_type": types}
    return {f"tokenizer.ggml.{key}": value for key, value in own.items()}


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case None:
            return
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            # The writer has put the architecture there already; the last one counts.
            writer.kv_data[0].pop(key, None)
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)
