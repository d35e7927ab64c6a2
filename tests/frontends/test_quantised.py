"""Models whose matrices stay in the blocks of their file: the same values as widened ones, in fused kernels too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

import forerun
from forerun.frontends.decode import decode_graph, generation_graph
from forerun.frontends.generate import generate
from forerun.frontends.llama import LlamaModel
from forerun.frontends.llama_config import weight_shapes
from forerun.ir.types import DType
from forerun.kernels.packing import PACKINGS, Q4_1, Q4_K, Q8_0, Packing
from forerun.support.diagnostics import InvalidInput
from tests.kernels.blocks_of_files import random_blocks
from tests.tiny_gguf import TINY, tiny_weights, write_tiny_gguf

Kind = gguf.GGMLQuantizationType
WIDE = replace(TINY, width=256, heads=8, kv_heads=4, head_size=32, hidden=512)
"""Rows of whole blocks of every kind."""


def tiny(folder: Path, kind: Kind = Kind.Q8_0, **options: object) -> LlamaModel:
    return LlamaModel.open(write_tiny_gguf(folder / "tiny.gguf", matrices=kind, **options))  # type: ignore[arg-type]


def random_file(folder: Path, kinds: dict[str, Packing]) -> LlamaModel:
    """A file whose matrices are random blocks: of the kind of that name, or of ``""``."""
    path = write_tiny_gguf(folder / "tiny.gguf", WIDE)
    reader, chooser = gguf.GGUFReader(path), np.random.default_rng(0)
    writer = gguf.GGUFWriter(folder / "blocks.gguf", "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type)
    for tensor in reader.tensors:
        shape = tensor.shape.tolist()[::-1]
        if len(shape) == 1:
            writer.add_tensor(tensor.name, np.array(tensor.data))
            continue
        packing = kinds.get(tensor.name, kinds[""])
        writer.add_tensor(tensor.name, random_blocks(packing, *shape, chooser), raw_dtype=Kind[packing.dimension])
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    return LlamaModel.open(folder / "blocks.gguf")


def logits_and_kernels(model: LlamaModel, packings: dict[str, Packing], pipeline: str) -> tuple[np.ndarray, set[str]]:
    """The logits of a step, and the names of its kernels without what passes add to them."""
    graph = decode_graph(model.config, context=16, packings=packings, argmax_parts=8)
    with forerun.compile(graph, "reference", pipeline, weights=model.weights_as(DType.F32, packings)) as executable:
        found = executable.run({"token": np.array([7], np.int32), "position": np.array([0], np.int32)})
        return found["logits"].copy(), {name.split(".")[0] for name in executable.graph.kernels}


@pytest.mark.parametrize("packing", PACKINGS.values(), ids=str)
def test_a_step_has_the_logits_of_widened_matrices_and_is_fused_as_they_are(packing: Packing, tmp_path: Path) -> None:
    model = random_file(tmp_path, {"": packing})
    packings = model.packings
    assert set(packings) == {name for name, shape in weight_shapes(model.config) if len(shape) == 2}
    (expected, _), (plain, _) = logits_and_kernels(model, {}, ""), logits_and_kernels(model, packings, "")
    np.testing.assert_array_equal(plain, expected)
    fused, kernels = logits_and_kernels(model, packings, "fast")
    np.testing.assert_allclose(fused, expected, 1e-5, 1e-5)
    stems = "packed_embedding", "norm_qkv_rope", "projection_add", "norm_gate_up", "norm_head"
    assert {f"{stem}_{packing}" for stem in stems} <= kernels
    assert not any(name.startswith("packed_gemv") for name in kernels)


def test_matrices_that_one_kernel_reads_stay_in_blocks_only_together(tmp_path: Path) -> None:
    model = random_file(tmp_path, {"": Q4_K, "blk.1.attn_v.weight": PACKINGS["Q6_K"], "token_embd.weight": Q8_0})
    widened = {name for name, shape in weight_shapes(model.config) if len(shape) == 2} - set(model.packings)
    assert widened == {f"blk.1.attn_{part}.weight" for part in "qkv"}
    assert model.packings["token_embd.weight"] == Q8_0
    (found, kernels), (expected, _) = (
        logits_and_kernels(model, model.packings, "fast"),
        logits_and_kernels(model, {}, ""),
    )
    np.testing.assert_allclose(found, expected, 1e-5, 1e-5)
    assert {"norm_qkv_rope", "norm_qkv_rope_q4_k"} <= kernels


def test_kinds_that_no_kernel_reads_and_short_rows_are_widened(tmp_path: Path) -> None:
    assert tiny(tmp_path, Kind.Q5_0).packings == {}
    assert tiny(tmp_path, Kind.F16).packings == {}
    assert set(tiny(tmp_path, Kind.Q4_1).packings.values()) == {Q4_1}


def test_text_is_that_of_widened_matrices_and_so_is_that_of_a_loop(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    texts = set()
    for packings in ({}, model.packings):
        weights = model.weights_as(DType.F32, packings)
        for graph in (
            decode_graph(model.config, packings=packings),
            generation_graph(model.config, limit=8, eot=-1, packings=packings),
        ):
            with forerun.compile(graph, weights=weights) as executable:
                texts.add(generate(executable, model.tokenizer, "the capital of France is", 8).text)
    assert len(texts) == 1


def test_a_scale_that_is_not_finite_is_refused_with_the_tensor(tmp_path: Path) -> None:
    broken = tiny_weights()["blk.0.ffn_up.weight"]
    broken[5, 3] = 1e30  # the scale of its block is too large for f16
    with np.errstate(all="ignore"):
        model = tiny(tmp_path, tensors={"blk.0.ffn_up.weight": broken})
    weights = model.weights_as(DType.F16, model.packings)
    with pytest.raises(
        InvalidInput, match=r"tensor 'blk\.0\.ffn_up\.weight': row 5 has a block whose scale is not fin"
    ):
        weights["blk.0.ffn_up.weight"]
    assert weights["blk.0.ffn_gate.weight"].dtype == np.uint8


def test_a_file_that_becomes_shorter_is_bad_input(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    weights = model.weights_as(DType.F16, model.packings)
    with model.path.open("r+b") as handle:
        handle.truncate(5000)
    with pytest.raises(InvalidInput, match="became shorter"):
        [weights[name] for name in weights]


def test_packings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    with pytest.raises(InvalidInput, match=r"tensor 'token_embd\.weight' is Q8_0, not Q4_1"):
        model.weights_as(DType.F16, {"token_embd.weight": Q4_1})
    with pytest.raises(InvalidInput, match=r"no weight 'token_emb\.weight' to be packed"):
        model.weights_as(DType.F16, {"token_emb.weight": Q8_0})
    with pytest.raises(InvalidInput, match="is packed, but is not a matrix of the model"):
        decode_graph(model.config, packings={"blk.0.attn_norm.weight": Q8_0})
    with pytest.raises(InvalidInput, match="rows of 32 weights cannot be packed as q4_k"):
        decode_graph(model.config, packings={"token_embd.weight": Q4_K})
