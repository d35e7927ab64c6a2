"""The fused kernels: what they declare, that they compute what the plain ones do one after the other, and launches."""

from __future__ import annotations

import importlib
import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forerun.frontends.llama_config import QWEN2_5_0_5B, SMOLLM2_135M, LlamaConfig
from forerun.ir.builder import GraphBuilder
from forerun.ir.kernel import BufferParameter, Implementation, Kernel
from forerun.ir.nodes import Launch
from forerun.ir.types import BufferRole, DType
from forerun.ir.verify import require_valid
from forerun.kernels import (
    add,
    argmax_partial,
    attention,
    attention_cluster,
    gemv,
    head_norm,
    norm_gate_up,
    norm_head,
    norm_qkv_rope,
    projection_add,
    rmsnorm,
    rope_append,
    row_stream,
    silu_mul,
)
from forerun.runtime.cuda.codegen.sources import included
from forerun.runtime.dtypes import numpy_dtype
from tests.kernel_runner import phase_function, run_kernel
from tests.kernels.fast_cases import few_cases

F32, BF16, F16 = DType.F32, DType.BF16, DType.F16
TYPES = (F32, BF16, F16)
FAST = ("norm_qkv_rope", "norm_gate_up", "projection_add", "norm_head", "attention_cluster")
BIASED = norm_qkv_rope.declare(bias=True)
NORMED = norm_qkv_rope.declare(head_norms=True)
KERNELS: list[Kernel] = [importlib.import_module(f"forerun.kernels.{name}").KERNEL for name in FAST] + [BIASED, NORMED]

EARLY = {
    "norm_qkv_rope": ["load_weights", "load_scale", "load_table"],
    "norm_qkv_bias_rope": ["load_weights", "load_scale", "load_bias", "load_table"],
    "norm_qkv_norm_rope": ["load_weights", "load_scale", "load_head_scales", "load_table"],
    "norm_gate_up": ["load_weights", "load_scale"],
    "projection_add": ["load_weights"],
    "norm_head": ["load_weights", "load_scale"],
    "attention_cluster": ["load_past"],
}

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def random(chooser: np.random.Generator, *shape: int) -> np.ndarray:
    return chooser.normal(size=shape).astype(np.float32)


def empty(*shape: int) -> np.ndarray:
    return np.full(shape, np.nan, np.float32)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_what_can_be_hoisted_stands_first_in_phases_that_read_nothing_of_this_step(kernel: Kernel) -> None:
    first = kernel.phases[: len(EARLY[kernel.name])]
    assert [phase.name for phase in first] == EARLY[kernel.name]
    read = {access.parameter for phase in first for access in phase.reads}
    assert read.isdisjoint({"x", "q", "residual"})
    assert not any(phase.writes or phase.uses for phase in first)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_what_the_copy_engine_reads_is_declared_asynchronous(kernel: Kernel) -> None:
    names = {phase.name for phase in kernel.phases if phase.asynchronous}
    assert names == {name for name in EARLY[kernel.name] if name == "load_weights"}


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_phases_have_functions_of_both_kinds(kernel: Kernel) -> None:
    (implementation,) = kernel.implementations
    assert implementation == Implementation("cuda", f"forerun.kernels.cuda:{kernel.name}.cu", kernel.name)
    text = "".join(text for _, text in included(implementation.source))
    for phase in kernel.phases:
        assert f"__forceinline__ void {phase.name}(const Arguments& a, Locals&" in text
        parameters = list(inspect.signature(phase_function(phase)).parameters)
        assert parameters[len(phase.reads) :] == [*phase.uses, *phase.scalars]
    for forbidden in ("__restrict__", "__ldg", "ld.global.nc", "cooperative_groups"):
        assert forbidden not in text


def test_variants_have_different_names() -> None:
    own: list[dict[str, bool]] = [{}, {"bias": True}, {"head_norms": True}]
    kernels = [norm_qkv_rope.declare(a, b, **given) for a in TYPES for b in TYPES for given in own]
    for module in (norm_gate_up, projection_add, norm_head, attention_cluster):
        kernels += [module.declare(dtype) for dtype in TYPES]
    assert len({kernel.name for kernel in kernels}) == len(kernels) == 39
    assert norm_qkv_rope.declare(BF16, F16, bias=True).name == "norm_qkv_bias_rope_bf16_f16"


@pytest.mark.parametrize("case", list(few_cases()), ids=str)
def test_graphs_of_the_kernels_are_valid(case: object) -> None:
    from tests.kernels.test_cuda_values import graph_of

    require_valid(graph_of(case))  # type: ignore[arg-type]


# What they compute: the same as the plain kernels one after the other, up to the order of sums.


@few
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 4),
    seeds,
    st.sampled_from(("", "bias", "norm")),
    st.sampled_from(TYPES),
)
def test_norm_qkv_rope(groups: int, kv_heads: int, pairs: int, seed: int, own: str, cache: DType) -> None:
    chooser = np.random.default_rng(seed)
    heads, size, width, position = groups * kv_heads, 2 * pairs, 12, int(chooser.integers(0, 6))
    x, scale, normed = random(chooser, width), random(chooser, width), empty(width)
    arrays = {"x": x, "scale": scale, "frequencies": random(chooser, pairs), "q_out": empty(heads, size)}
    arrays |= {name: np.zeros((6, kv_heads, size), numpy_dtype(cache)) for name in ("k_cache", "v_cache")}
    run_kernel(rmsnorm.KERNEL, {"x": x, "w": scale, "y": normed}, eps=1e-5)
    plain = {name: array.copy() for name, array in arrays.items() if name not in ("x", "scale")}
    for part, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
        w, y = random(chooser, count * size, width), empty(count * size)
        run_kernel(gemv.KERNEL, {"w": w, "x": normed, "y": y})
        arrays[f"w_{part}"] = w
        if own == "bias":
            arrays[f"b_{part}"] = random(chooser, count * size)
            run_kernel(add.KERNEL, {"a": arrays[f"b_{part}"], "b": y.copy(), "y": y})
        plain[part] = y.reshape(count, size)
        if own == "norm" and part != "v":
            arrays[f"{part}_scale"] = random(chooser, size)
            operands = {"x": plain[part], "w": arrays[f"{part}_scale"], "y": empty(count, size)}
            run_kernel(head_norm.KERNEL, operands, eps=1e-5)
            plain[part] = operands["y"]
    run_kernel(rope_append.declare(cache), plain, pos=position)
    kernel = norm_qkv_rope.declare(F32, cache, bias=own == "bias", head_norms=own == "norm")
    run_kernel(kernel, arrays, pos=position, eps=1e-5)
    for name in ("q_out", "k_cache", "v_cache"):
        np.testing.assert_allclose(arrays[name].astype(np.float32), plain[name].astype(np.float32), 1e-6, 1e-6)


@few
@given(st.integers(1, 30), st.integers(1, 30), seeds)
def test_norm_gate_up(rows: int, width: int, seed: int) -> None:
    chooser = np.random.default_rng(seed)
    x, scale, normed = random(chooser, width), random(chooser, width), empty(width)
    w_gate, w_up, gate, up = random(chooser, rows, width), random(chooser, rows, width), empty(rows), empty(rows)
    run_kernel(rmsnorm.KERNEL, {"x": x, "w": scale, "y": normed}, eps=1e-5)
    run_kernel(gemv.KERNEL, {"w": w_gate, "x": normed, "y": gate})
    run_kernel(gemv.KERNEL, {"w": w_up, "x": normed, "y": up})
    expected, found = empty(rows), empty(rows)
    run_kernel(silu_mul.KERNEL, {"gate": gate, "up": up, "y": expected})
    fused = {"x": x, "scale": scale, "w_gate": w_gate, "w_up": w_up, "y": found}
    run_kernel(norm_gate_up.KERNEL, fused, eps=1e-5)
    np.testing.assert_allclose(found, expected, 1e-6, 1e-6)


@few
@given(st.integers(1, 30), st.integers(1, 30), seeds)
def test_projection_add(rows: int, width: int, seed: int) -> None:
    chooser = np.random.default_rng(seed)
    w, x, residual, product = random(chooser, rows, width), random(chooser, width), random(chooser, rows), empty(rows)
    expected, found = empty(rows), empty(rows)
    run_kernel(gemv.KERNEL, {"w": w, "x": x, "y": product})
    run_kernel(add.KERNEL, {"a": residual, "b": product, "y": expected})
    run_kernel(projection_add.KERNEL, {"w": w, "x": x, "residual": residual, "y": found})
    np.testing.assert_allclose(found, expected, 1e-6, 1e-6)


@few
@given(st.integers(1, 40), st.integers(1, 30), seeds, st.data())
def test_norm_head(rows: int, width: int, seed: int, data: st.DataObject) -> None:
    parts = data.draw(st.integers(1, rows))
    chooser = np.random.default_rng(seed)
    x, scale, w, normed = random(chooser, width), random(chooser, width), random(chooser, rows, width), empty(width)
    found, expected = (
        {"logits": empty(rows), "best_value": empty(parts), "best_index": np.full(parts, -7, np.int32)}
        for _ in range(2)
    )
    run_kernel(rmsnorm.KERNEL, {"x": x, "w": scale, "y": normed}, eps=1e-5)
    run_kernel(gemv.KERNEL, {"w": w, "x": normed, "y": expected["logits"]})
    partial = {"logits": expected["logits"], "best": expected["best_value"], "place": expected["best_index"]}
    run_kernel(argmax_partial.KERNEL, partial, parts=parts)
    run_kernel(norm_head.KERNEL, {"x": x, "scale": scale, "w": w, **found}, eps=1e-5, parts=parts)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, 1e-6, 1e-6)


@few
@given(st.integers(1, 4), st.integers(1, 3), seeds)
def test_attention_cluster(groups: int, kv_heads: int, seed: int) -> None:
    chooser = np.random.default_rng(seed)
    q, k, v = random(chooser, groups * kv_heads, 8), random(chooser, 9, kv_heads, 8), random(chooser, 9, kv_heads, 8)
    found = []
    for kernel in (attention.KERNEL, attention_cluster.KERNEL):
        arrays = {"q": q, "k_cache": k, "v_cache": v, "y": empty(*q.shape)}
        run_kernel(kernel, arrays, pos=6)
        found.append(arrays["y"])
    np.testing.assert_array_equal(*found)


# Launches.


@pytest.mark.parametrize(
    ("columns", "dtype", "split"),
    [
        (2048, BF16, 1),
        (2048, F32, 2),
        (576, BF16, 1),
        (896, BF16, 1),
        (1536, BF16, 1),
        (4864, BF16, 4),
        (5632, F16, 4),
        (8192, BF16, 4),
        (8192, F32, 8),
        (8, BF16, 1),
        (4, F32, 1),
        (4, BF16, None),  # not 16 bytes
        (2056, BF16, None),  # halves are not multiples of 16 bytes
        (32768, BF16, None),  # more than 8 warps have
    ],
)
def test_rows_are_split_among_as_few_warps_as_hold_them(columns: int, dtype: DType, split: int | None) -> None:
    assert row_stream.split_of(columns, dtype) == split
    assert row_stream.streams(columns, dtype) == (split is not None)
    assert norm_gate_up.fits(columns, dtype) == projection_add.fits(columns, dtype) == norm_head.fits(columns, dtype)
    assert norm_qkv_rope.fits(columns, 64, dtype) == (split is not None)


def test_the_sums_of_a_cta_must_fit_beside_its_tiles() -> None:
    assert norm_head.fits(2048, BF16, 128256, 132)
    assert norm_head.fits(2048, BF16, 128256, 4)
    assert not norm_head.fits(2048, BF16, 128256, 2)


def test_integers_and_odd_heads_do_not_fit() -> None:
    assert not row_stream.streams(2048, DType.I32)
    assert not norm_qkv_rope.fits(2048, 63, BF16)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "dtype", "fits"),
    [
        (32, 8, 64, BF16, True),
        (9, 3, 64, F32, True),
        (14, 2, 64, BF16, True),
        (28, 4, 128, F16, True),
        (8, 1, 128, F32, True),
        (9, 1, 64, BF16, False),  # too many heads for the registers
        (8, 8, 80, BF16, False),  # 10 lanes
        (8, 8, 4, BF16, False),
        (8, 8, 512, BF16, False),  # 64 lanes
        (8, 8, 64, DType.I32, False),
    ],
)
def test_heads_that_a_cluster_takes(heads: int, kv_heads: int, size: int, dtype: DType, fits: bool) -> None:
    assert attention_cluster.fits(heads, kv_heads, size, dtype) == fits


SHARED_OF_AN_SM = 227 * 1024 + 1024
RESERVED = 1024


def taken(*resident: Launch) -> int:
    """The shared memory of an SM with these."""
    return sum(launch.shared_bytes + RESERVED for launch in resident)


@pytest.mark.parametrize("config", [SMOLLM2_135M, QWEN2_5_0_5B], ids=lambda config: config.name)
def test_launches_of_small_matrices_fit_beside_their_neighbours_but_not_twice(config: LlamaConfig) -> None:
    width, queries, keys = config.width, config.heads * config.head_size, config.kv_heads * config.head_size
    qkv, head = norm_qkv_rope.launch_for(queries, keys, width), norm_head.launch_for(config.vocabulary, width)
    gate_up = norm_gate_up.launch_for(config.hidden, width)
    output, down = projection_add.launch_for(width, queries), projection_add.launch_for(width, config.hidden)
    assert {launch.grid for launch in (qkv, output, gate_up, down, head)} == {(132, 1, 1)}
    for first, second in ((qkv, output), (output, gate_up), (gate_up, down), (down, qkv), (down, head), (head, qkv)):
        assert taken(first, second) <= SHARED_OF_AN_SM < taken(first, second, second)
    assert taken(gate_up, gate_up) > SHARED_OF_AN_SM


@pytest.mark.parametrize(
    ("rows", "columns", "ctas", "rings"),
    [
        (2048, 2048, 1, 64),  # the output projections of Llama-3.2-1B, 3B, Llama-3.1-8B
        (3072, 3072, 2, 96),
        (4096, 4096, 1, 192),
        (2048, 8192, 2, 192),  # the down projections
        (3072, 8192, 2, 192),
        (4096, 14336, 1, 64),
    ],
)
def test_how_much_of_a_projection_is_on_its_way_depends_on_its_size(
    rows: int, columns: int, ctas: int, rings: int
) -> None:
    launch = projection_add.launch_for(rows, columns)
    own = -(-rows // (132 * ctas)) * (row_stream.split_of(columns, BF16) or 1)
    assert launch.grid == (132 * ctas, 1, 1)
    assert 0 <= ctas * (launch.shared_bytes - 4 * own) - 1024 * rings < 1024
    assert taken(*[launch] * ctas) <= SHARED_OF_AN_SM


@pytest.mark.parametrize(
    ("queries", "keys", "columns", "ctas", "threads"),
    [(2048, 512, 2048, 4, 64), (3072, 1024, 3072, 2, 256), (4096, 1024, 4096, 1, 256), (896, 128, 896, 1, 256)],
)
def test_queries_and_keys_that_rings_hold_are_read_by_small_ctas(
    queries: int, keys: int, columns: int, ctas: int, threads: int
) -> None:
    launch = norm_qkv_rope.launch_for(queries, keys, columns)
    assert (launch.grid, launch.block) == ((132 * ctas, 1, 1), (threads, 1, 1))
    assert taken(*[launch] * ctas) <= SHARED_OF_AN_SM


def test_the_head_has_as_many_warps_as_registers_hold() -> None:
    assert [norm_head.launch_for(128256, width).block[0] // 32 for width in (896, 2048, 3072, 4096)] == [24, 12, 24, 12]
    assert norm_head.launch_for(128256, 16384).block[0] // 32 == row_stream.WARPS  # 12 warps cannot share it by 8
    assert [norm_gate_up.launch_for(4864, width).block[0] // 32 for width in (896, 2048)] == [16, 8]


def test_rings_of_llama() -> None:
    for launch, columns, rows, normalized, depth in (
        (norm_qkv_rope.launch_for(2048, 512, 2048), 2048, 6, True, 3),
        (norm_gate_up.launch_for(8192, 2048), 2048, 126, True, 4),
        (norm_head.launch_for(128256, 2048), 2048, 972, True, 3),
        (projection_add.launch_for(2048, 2048), 2048, 16, False, 2),
        (projection_add.launch_for(2048, 8192), 8192, 8, False, 3),
    ):
        assert row_stream.ring_depth(columns, BF16, rows, launch, normalized=normalized) == depth


def test_short_rows_have_deeper_rings_but_not_deeper_than_they_have_rows() -> None:
    launch = norm_gate_up.launch_for(576, 576)
    assert row_stream.ring_depth(576, BF16, 1000, launch, normalized=True) == 13
    assert row_stream.ring_depth(576, BF16, 16, launch, normalized=True) == 2


def test_small_matrices_have_small_grids_and_long_contexts_large_clusters() -> None:
    assert projection_add.launch_for(5, 64).grid == (5, 1, 1)
    assert norm_head.launch_for(1000, 64, parts=7).grid == (7, 1, 1)
    assert attention_cluster.launch_for(8) == Launch((64, 1, 1), (128, 1, 1), cluster=(8, 1, 1))
    assert attention_cluster.launch_for(8, 2032) == Launch((128, 1, 1), (128, 1, 1), cluster=(16, 1, 1))


def test_biases_are_parameters_only_where_there_are_any() -> None:
    names = [p.name for p in norm_qkv_rope.KERNEL.parameters]
    assert [p.name for p in BIASED.parameters if p.name not in names] == ["b_q", "b_k", "b_v"]
    builder = GraphBuilder("biased")
    shapes = {"NQ": 8, "NK": 4, "K": 8, "P": 2, "H": 2, "HD": 4, "T": 3, "KV": 1}
    arguments = {}
    for parameter in BIASED.parameters:
        if isinstance(parameter, BufferParameter):
            extents = tuple(shapes[dim] for dim in parameter.dims or () if isinstance(dim, str))
            arguments[parameter.name] = builder.buffer(parameter.name, F32, extents, BufferRole.STATE)
    builder.launch(BIASED, launch=norm_qkv_rope.launch_for(8, 4, 8, F32), pos=0, eps=1e-5, **arguments)
    require_valid(builder.build())
