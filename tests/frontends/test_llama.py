"""Shapes and weights of Llama-architecture files, and the refusal of files that are something near it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from forerun.frontends.llama import (
    LLAMA_3_2_1B,
    ROPE_FREQUENCIES,
    SMOLLM2_135M,
    TINYLLAMA_1_1B,
    LlamaConfig,
    LlamaModel,
    rope_frequencies,
    weight_shapes,
)
from forerun.ir.types import DType
from forerun.support.diagnostics import InvalidInput
from tests.tiny_gguf import TINY, tiny_weights, write_tiny_gguf


def model(folder: Path, **options: Any) -> LlamaModel:
    return LlamaModel.open(write_tiny_gguf(folder / "tiny.gguf", **options))


# Shapes


def test_config_is_read_from_the_metadata(tmp_path: Path) -> None:
    assert model(tmp_path).config == TINY


def test_untied_output_and_biases_are_seen_in_the_tensors(tmp_path: Path) -> None:
    config = replace(TINY, tied=False, attention_bias=True)
    opened = model(tmp_path, config=config)
    assert opened.config == config
    assert {"output.weight", "blk.1.attn_k.bias"} <= set(opened.weights)


def test_defaults_of_keys_that_older_files_lack(tmp_path: Path) -> None:
    absent = dict.fromkeys(
        ["llama.rope.freq_base", "llama.rope.dimension_count", "general.basename", "general.size_label"]
    )
    found = model(tmp_path, metadata=absent).config
    assert found == replace(TINY, name="llama", rope_base=10000.0)


def test_a_sliding_window_bounds_the_context(tmp_path: Path) -> None:
    assert model(tmp_path, metadata={"llama.attention.sliding_window": 16}).config.context_length == 16


def test_a_sliding_window_of_zero_is_none(tmp_path: Path) -> None:
    found = model(tmp_path, metadata={"llama.attention.sliding_window": 0}).config
    assert found.context_length == TINY.context_length


@pytest.mark.parametrize("key", ["attention.head_count", "attention.head_count_kv", "feed_forward_length"])
def test_lists_of_equal_numbers_are_one_number_for_all_layers(tmp_path: Path, key: str) -> None:
    value = {"attention.head_count": 4, "attention.head_count_kv": 2, "feed_forward_length": 64}[key]
    assert model(tmp_path, metadata={f"llama.{key}": [value, value]}).config == TINY
    with pytest.raises(InvalidInput, match=rf"'llama\.{key}' differs by layer: {value} in layer 0, 1 in layer 1"):
        model(tmp_path, metadata={f"llama.{key}": [value, 1]})
    with pytest.raises(InvalidInput, match=rf"'llama\.{key}' has 3 entries for 2 layers"):
        model(tmp_path, metadata={f"llama.{key}": [value] * 3})


# Files that are not whole models


@pytest.mark.parametrize(
    ("metadata", "said", "hint"),
    [
        ({"split.count": 3, "split.no": 1}, "one part of several, part 2 of 3", "llama-gguf-split --merge"),
        ({"general.type": "adapter", "adapter.type": "lora"}, "an adapter \\(LoRA\\)", "llama-export-lora"),
        ({"adapter.type": "lora"}, "an adapter \\(LoRA\\)", "llama-export-lora"),
        ({"general.type": "mmproj"}, "a projector", "whole language model"),
        ({"general.architecture": "clip"}, "a projector", "whole language model"),
        ({"general.type": "imatrix"}, "an importance matrix", "whole language model"),
        ({"general.type": "novel"}, "'general.type' is 'novel'", "whole language model"),
    ],
)
def test_what_is_not_a_whole_model_is_named(tmp_path: Path, metadata: dict[str, object], said: str, hint: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        model(tmp_path, metadata=metadata)
    assert hint in caught.value.hint


def test_a_later_part_needs_no_other_keys_to_be_named(tmp_path: Path) -> None:
    # llama-gguf-split writes only the three split.* keys to the parts after the first.
    writer = gguf.GGUFWriter(tmp_path / "m-00002-of-00003.gguf", "llama")
    writer.kv_data[0].clear()
    writer.add_uint16("split.no", 1)
    writer.add_uint16("split.count", 3)
    writer.add_tensor("blk.1.attn_norm.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InvalidInput, match="part 2 of 3") as caught:
        LlamaModel.open(tmp_path / "m-00002-of-00003.gguf")
    assert "m-00001-of-00003.gguf" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [("m-00002-of-00003.gguf", "part 2 of 3"), ("m.gguf-split-b", "join the parts"), ("m.gguf", "")],
)
def test_names_of_parts_explain_files_that_cannot_be_read(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / name).write_bytes(b"the middle of a file that was cut")
    with pytest.raises(InvalidInput, match="not a GGUF file") as caught:
        LlamaModel.open(tmp_path / name)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("config", "parameters"),
    # As published: SmolLM2 134.5 M, TinyLlama 1.10 B, Llama 3.2 1.24 B.
    [(SMOLLM2_135M, 134_515_008), (TINYLLAMA_1_1B, 1_100_048_384), (LLAMA_3_2_1B, 1_235_814_400)],
)
def test_known_models_have_their_published_number_of_parameters(config: LlamaConfig, parameters: int) -> None:
    assert config.parameters == parameters


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": 0}, "layers is 0; it must be positive"),
        ({"vocabulary": -5}, "vocabulary is -5"),
        ({"kv_heads": 3}, "4 heads cannot share 3"),
        ({"head_size": 7}, "head_size 7 is odd"),
    ],
)
def test_shapes_that_do_not_fit_together_are_refused(change: dict[str, int], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        replace(TINY, **change)  # type: ignore[arg-type]


# Weights


def test_weights_are_those_of_the_file_and_the_frequencies(tmp_path: Path) -> None:
    weights = model(tmp_path).weights
    expected = tiny_weights()
    assert set(weights) == {*expected, ROPE_FREQUENCIES}
    assert len(weights) == len(expected) + 1
    for name, values in expected.items():
        np.testing.assert_array_equal(weights[name], values)
    assert {name: array.shape for name, array in weights.items()} == dict(weight_shapes(TINY))


def test_weights_are_decoded_when_asked_for_and_once(tmp_path: Path) -> None:
    weights = model(tmp_path).weights
    assert repr(weights) == "<LlamaWeights of tiny.gguf: 21, 0 decoded>"
    assert "blk.0.attn_q.weight" in weights
    assert weights["blk.0.attn_q.weight"] is weights["blk.0.attn_q.weight"]
    assert repr(weights) == "<LlamaWeights of tiny.gguf: 21, 1 decoded>"
    assert "rope_freqs.weight" not in weights
    with pytest.raises(KeyError):
        weights["rope_freqs.weight"]


def test_frequencies_fall_from_one_by_the_base() -> None:
    np.testing.assert_allclose(rope_frequencies(TINY), 1000.0 ** -np.array([0, 0.25, 0.5, 0.75]), rtol=1e-6)
    halved = rope_frequencies(replace(TINY, rope_scale=2.0))
    np.testing.assert_allclose(halved, rope_frequencies(TINY) / 2, rtol=1e-6)


def test_factors_of_the_file_divide_the_frequencies(tmp_path: Path) -> None:
    factors = np.array([1, 2, 4, 8], np.float32)
    weights = model(tmp_path, tensors={"rope_freqs.weight": factors}).weights
    np.testing.assert_array_equal(weights[ROPE_FREQUENCIES], rope_frequencies(TINY) / factors)
    assert "rope_freqs.weight" not in weights


def test_linear_scaling_is_read(tmp_path: Path) -> None:
    keys = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    assert model(tmp_path, metadata=keys).config.rope_scale == 4.0
    keys = {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}
    assert model(tmp_path, metadata=keys).config.rope_scale == 1.0


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
def test_matrices_are_converted_on_request_and_vectors_are_not(tmp_path: Path, dtype: DType) -> None:
    weights = model(tmp_path).weights_as(dtype)
    matrix = weights["blk.0.ffn_up.weight"]
    assert (matrix.dtype.name, matrix.itemsize) == ({DType.F16: "float16", DType.BF16: "bfloat16"}[dtype], 2)
    np.testing.assert_allclose(matrix.astype(np.float32), tiny_weights()["blk.0.ffn_up.weight"], rtol=0.01)
    assert weights["blk.0.ffn_norm.weight"].dtype == np.float32


# Refusals


def test_matrices_of_integers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="matrices of type i8 are not supported"):
        model(tmp_path).weights_as(DType.I8)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"general.architecture": "qwen2"}, "'general.architecture' is 'qwen2'"),
        ({"llama.block_count": None}, "key 'llama.block_count' is missing"),
        ({"llama.block_count": 2**31}, "tensor 'blk.2.attn_norm.weight' is missing"),
        ({"llama.block_count": "two"}, "key 'llama.block_count' must be an integer, not 'two'"),
        ({"llama.feed_forward_length": 32}, "tensor 'blk.0.ffn_gate.weight' is 64 x 32; the metadata asks for 32 x 32"),
        ({"llama.attention.head_count_kv": 3}, "4 heads cannot share 3"),
        ({"llama.attention.head_count": 0}, "'llama.attention.head_count' is 0; it must be at least 1"),
        ({"llama.attention.value_length": 16}, "only the whole head, 8, is supported"),
        ({"llama.rope.dimension_count": 4}, "only the whole head, 8, is supported"),
        ({"llama.rope.scaling.type": "yarn"}, "'llama.rope.scaling.type' is 'yarn'"),
        ({"llama.expert_count": 8}, "mixtures of experts are not supported"),
        ({"llama.attention.layer_norm_rms_epsilon": 0.0}, "must be positive and finite"),
        ({"split.count": 3}, "one part of several"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused_with_the_key(
    tmp_path: Path, metadata: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=re.escape(said)) as caught:
        model(tmp_path, metadata=metadata)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"token_embd.weight": None}, "tensor 'token_embd.weight' is missing"),
        ({"blk.1.attn_q.weight": None}, "tensor 'blk.1.attn_q.weight' is missing"),
        ({"blk.0.attn_k.weight": np.zeros((4, 32), np.float32)}, "is 4 x 32; the metadata asks for 16 x 32"),
        ({"blk.0.ffn_gate_inp.weight": np.zeros(4, np.float32)}, "'blk.0.ffn_gate_inp.weight' is not part of"),
        ({"blk.0.attn_q.bias": np.zeros(32, np.float32)}, "tensor 'blk.0.attn_k.bias' is missing"),
        ({"rope_freqs.weight": np.ones(5, np.float32)}, "'rope_freqs.weight' is 5; the metadata asks for 4"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, tensors: dict[str, np.ndarray | None], said: str
) -> None:
    with pytest.raises(InvalidInput, match=re.escape(said)):
        model(tmp_path, tensors=tensors)


def test_factors_that_are_not_positive_are_refused(tmp_path: Path) -> None:
    weights = model(tmp_path, tensors={"rope_freqs.weight": np.array([1, 0, 1, 1], np.float32)}).weights
    with pytest.raises(InvalidInput, match="factors that are not positive"):
        weights[ROPE_FREQUENCIES]


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    weights = tiny_weights()["token_embd.weight"]
    opened = model(tmp_path, tensors={"token_embd.weight": weights[:-1]})
    with pytest.raises(InvalidInput, match=r"has 321 tokens, tensor .* has 320 rows"):
        _ = opened.tokenizer
