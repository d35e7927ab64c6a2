"""Weights that a type cannot hold, and logits that are not finite: refused, with the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.frontends.decode import decode_graph, generation_graph
from forerun.frontends.generate import generate
from forerun.frontends.llama import LlamaModel
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.support.diagnostics import InvalidInput
from tests.tiny_gguf import tiny_weights, write_tiny_gguf

MATRIX = "blk.1.ffn_down.weight"


def model(folder: Path, name: str, value: float, place: Any = (2, 5)) -> LlamaModel:
    """A tiny model with one weight replaced."""
    weights = tiny_weights()[name]
    weights[place] = value
    return LlamaModel.open(write_tiny_gguf(folder / "tiny.gguf", tensors={name: weights}))


@pytest.mark.parametrize(
    ("value", "dtype", "said", "hint"),
    [
        (70000.0, DType.F16, r"holds 70000\.0 at \[2, 5\], which float16 cannot hold \(1 such", "bf16 or f32"),
        (-1e9, DType.F16, r"holds -1000000000\.0 at \[2, 5\]", "bf16 or f32"),
        (3.402e38, DType.F16, "which float16 cannot hold", "ask for f32"),
        (3.402e38, DType.BF16, "which bfloat16 cannot hold", "ask for f32"),
    ],
)
def test_weights_that_the_type_cannot_hold_are_refused(
    tmp_path: Path, value: float, dtype: DType, said: str, hint: str
) -> None:
    opened = model(tmp_path, MATRIX, value)
    with pytest.raises(InvalidInput, match=said) as caught:
        opened.weights_as(dtype)[MATRIX]
    assert f"tensor '{MATRIX}'" in caught.value.message
    assert hint in caught.value.hint
    assert np.isfinite(opened.weights[MATRIX]).all()


def test_weights_that_the_type_can_hold_are_taken(tmp_path: Path) -> None:
    found = model(tmp_path, MATRIX, 65504.0).weights_as(DType.F16)[MATRIX]
    assert found[2, 5] == 65504.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_in_the_file_that_are_not_finite_are_refused_for_each_type(tmp_path: Path, value: float) -> None:
    opened = model(tmp_path, MATRIX, value)
    for dtype in (DType.F32, DType.F16, DType.BF16):
        with pytest.raises(InvalidInput, match=rf"{value} at \[2, 5\], 1 in all") as caught:
            opened.weights_as(dtype)[MATRIX]
        assert "no type would do" in caught.value.hint


# Logits. The last norm's weight is finite, but its product with the residual is not.


@pytest.fixture
def overflowing(tmp_path: Path) -> LlamaModel:
    return model(tmp_path, "output_norm.weight", 3e38, ...)


def graph_of(opened: LlamaModel, kind: str) -> Graph:
    match kind:
        case "step":
            return decode_graph(opened.config)
        case "splits":
            return decode_graph(opened.config, splits=4, argmax_parts=2)
        case _:
            return generation_graph(opened.config, limit=4, eot=2)


@pytest.mark.parametrize("kind", ["step", "splits", "loop"])
@pytest.mark.parametrize("pipeline", ["", "exact"])
def test_logits_that_are_not_finite_stop_with_the_first_node(overflowing: LlamaModel, kind: str, pipeline: str) -> None:
    pieces: list[str] = []
    with (
        np.errstate(all="ignore"),
        forerun.compile(graph_of(overflowing, kind), pipeline=pipeline, weights=overflowing.weights) as executable,
        pytest.raises(InvalidInput, match="logits at position 0 are not finite, so no token was chosen") as caught,
    ):
        generate(executable, overflowing.tokenizer, "the capital", 4, pieces.append)
    assert pieces == []
    # The product overflows in the node that applies the norm, or where its sums are formed, in the next.
    assert "first, node '" in caught.value.message
    assert "output" in caught.value.message.partition("first, node '")[2].partition("'")[0]


@pytest.mark.gpu
@pytest.mark.parametrize("pipeline", ["exact", "fast"])
def test_so_they_do_on_a_gpu(overflowing: LlamaModel, pipeline: str) -> None:
    with (
        np.errstate(all="ignore"),
        forerun.compile(decode_graph(overflowing.config), "cuda", pipeline, weights=overflowing.weights) as executable,
        pytest.raises(InvalidInput, match="logits at position 0 are not finite, so no token was chosen"),
    ):
        generate(executable, overflowing.tokenizer, "the capital", 4)


def test_a_weight_that_is_not_finite_is_named_itself(overflowing: LlamaModel) -> None:
    weights = dict(overflowing.weights)
    weights[MATRIX] = np.array(weights[MATRIX])
    weights[MATRIX][1, 3] = np.inf
    with (
        np.errstate(all="ignore"),
        forerun.compile(decode_graph(overflowing.config), weights=weights) as executable,
        pytest.raises(InvalidInput, match=rf"first, weight '{MATRIX}' holds inf at \[1, 3\]"),
    ):
        generate(executable, overflowing.tokenizer, "the capital", 4)
