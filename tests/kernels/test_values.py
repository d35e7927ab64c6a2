"""What the phase functions compute, against the definitions written out in f64."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forerun.ir.types import DType
from forerun.kernels import (
    add,
    advance,
    argmax,
    argmax_merge,
    argmax_partial,
    attention,
    attention_merge,
    attention_split,
    embedding,
    gemv,
    rmsnorm,
    rope_append,
    silu_mul,
)
from forerun.runtime.dtypes import numpy_dtype
from tests.kernel_runner import run_kernel

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def normal(chooser: np.random.Generator, *shape: int) -> np.ndarray:
    return chooser.normal(size=shape).astype(np.float32)


def empty(*shape: int) -> np.ndarray:
    """Not a number everywhere, so that what is read before it is written shows."""
    return np.full(shape, np.nan, np.float32)


@few
@given(st.integers(1, 70), st.integers(1, 40), seeds)
def test_gemv(rows: int, columns: int, seed: int) -> None:
    chooser = np.random.default_rng(seed)
    w, x, y = normal(chooser, rows, columns), normal(chooser, columns), empty(rows)
    run_kernel(gemv.KERNEL, {"w": w, "x": x, "y": y})
    np.testing.assert_allclose(y, w.astype(np.float64) @ x.astype(np.float64), rtol=1e-4, atol=1e-4)


def test_gemv_of_bf16_weights_computes_in_f32() -> None:
    chooser = np.random.default_rng(0)
    w = normal(chooser, 6, 8).astype(ml_dtypes.bfloat16)
    x, y = normal(chooser, 8), empty(6)
    kernel = gemv.declare(DType.BF16)
    run_kernel(kernel, {"w": w, "x": x, "y": y})
    assert kernel.name == "gemv_bf16"
    np.testing.assert_allclose(y, w.astype(np.float64) @ x, rtol=1e-5, atol=1e-6)


@few
@given(st.integers(1, 200), seeds, st.sampled_from([1e-6, 1e-5, 0.1]))
def test_rmsnorm(width: int, seed: int, eps: float) -> None:
    chooser = np.random.default_rng(seed)
    x, w, y = normal(chooser, width), normal(chooser, width), empty(width)
    run_kernel(rmsnorm.KERNEL, {"x": x, "w": w, "y": y}, eps=eps)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(y, exact / np.sqrt(np.mean(exact**2) + eps) * w, rtol=1e-5, atol=1e-6)


def test_rmsnorm_of_zeros_is_zero() -> None:
    y = empty(4)
    run_kernel(rmsnorm.KERNEL, {"x": np.zeros(4, np.float32), "w": np.ones(4, np.float32), "y": y}, eps=1e-5)
    assert not y.any()


@pytest.mark.parametrize("token", [0, 3, 9])
def test_embedding_takes_the_row(token: int) -> None:
    table, y = normal(np.random.default_rng(0), 10, 4), empty(4)
    run_kernel(embedding.KERNEL, {"table": table, "y": y}, token=token)
    np.testing.assert_array_equal(y, table[token])


def test_add_and_silu_mul() -> None:
    chooser = np.random.default_rng(0)
    a, b, y = normal(chooser, 50), normal(chooser, 50), empty(50)
    run_kernel(add.KERNEL, {"a": a, "b": b, "y": y})
    np.testing.assert_array_equal(y, a + b)
    run_kernel(silu_mul.KERNEL, {"gate": a, "up": b, "y": y})
    exact = a.astype(np.float64)
    np.testing.assert_allclose(y, exact / (1 + np.exp(-exact)) * b, rtol=1e-5, atol=1e-6)


def test_silu_mul_of_large_values_neither_overflows_nor_warns() -> None:
    gate = np.array([-1e4, -100.0, 0.0, 100.0, 1e4], np.float32)
    y = empty(5)
    run_kernel(silu_mul.KERNEL, {"gate": gate, "up": np.ones(5, np.float32), "y": y})
    np.testing.assert_allclose(y, [0.0, 0.0, 0.0, 100.0, 1e4], atol=1e-4)


def test_argmax_takes_the_first_of_the_greatest_and_writes_one_element() -> None:
    tokens = np.array([7, 7, 7], np.int32)
    run_kernel(argmax.KERNEL, {"logits": np.array([0.0, 2.0, 1.0, 2.0], np.float32), "token": tokens}, index=1)
    assert tokens.tolist() == [7, 1, 7]


@few
@given(st.lists(st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 2.0, np.nan]), min_size=1, max_size=12), st.data())
def test_argmax_in_parts_is_argmax(values: list[float], data: st.DataObject) -> None:
    logits = np.array(values, np.float32)
    parts = data.draw(st.integers(1, len(values)))
    arrays = {"best": empty(parts), "place": np.full(parts, -7, np.int32), "token": np.full(2, -7, np.int32)}
    run_kernel(argmax_partial.KERNEL, {"logits": logits, **arrays}, parts=parts)
    run_kernel(argmax_merge.KERNEL, arrays, index=1)
    assert arrays["token"].tolist() == [-7, logits.argmax()]


@pytest.mark.parametrize(
    ("chosen", "index", "position", "runs"),
    [
        (4, 0, 0, True),
        (9, 0, 0, False),  # the end token
        (4, 2, 5, False),  # the limit is reached
        (4, 1, 7, False),  # no position is left
        (4, 1, 6, True),
    ],
)
def test_advance_keeps_the_choice_and_says_whether_to_go_on(chosen: int, index: int, position: int, runs: bool) -> None:
    values = {"chosen": chosen, "count": index, "token": 77, "position": position, "running": 1}
    arrays = {name: np.array([value], np.int32) for name, value in values.items()}
    arrays["tokens"] = np.zeros(5, np.int32)
    run_kernel(advance.KERNEL, arrays, index=index, limit=3, end=9, context=8)
    assert arrays["tokens"].tolist() == [chosen if i == index else 0 for i in range(5)]
    found = {name: int(arrays[name][0]) for name in values}
    following = position + 1 if runs else position
    assert found == {"chosen": chosen, "count": index + 1, "token": chosen, "position": following, "running": runs}


# Rotation


def rotate(x: np.ndarray, pos: int, frequencies: np.ndarray) -> np.ndarray:
    """Adjacent pairs as complex numbers, turned."""
    pairs = x[..., 0::2].astype(np.float64) + 1j * x[..., 1::2]
    turned = pairs * np.exp(1j * pos * frequencies.astype(np.float64))
    return np.stack((turned.real, turned.imag), axis=-1).reshape(x.shape)


@few
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 8), st.integers(0, 9), seeds)
def test_rope_append(kv: int, group: int, half: int, pos: int, seed: int) -> None:
    chooser = np.random.default_rng(seed)
    q, k, v = normal(chooser, kv * group, 2 * half), normal(chooser, kv, 2 * half), normal(chooser, kv, 2 * half)
    frequencies = chooser.uniform(0, 1, half).astype(np.float32)
    caches = normal(chooser, 2, 10, kv, 2 * half)
    arrays = {"q": q, "k": k, "v": v, "frequencies": frequencies, "q_out": empty(*q.shape)}
    arrays |= {"k_cache": caches[0].copy(), "v_cache": caches[1].copy()}
    run_kernel(rope_append.KERNEL, arrays, pos=pos)
    np.testing.assert_allclose(arrays["q_out"], rotate(q, pos, frequencies), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(arrays["k_cache"][pos], rotate(k, pos, frequencies), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(arrays["v_cache"][pos], v)
    others = [row for row in range(10) if row != pos]
    np.testing.assert_array_equal(arrays["k_cache"][others], caches[0][others])
    np.testing.assert_array_equal(arrays["v_cache"][others], caches[1][others])


def test_rotation_makes_scores_depend_on_the_distance_alone() -> None:
    chooser = np.random.default_rng(0)
    q, k = normal(chooser, 1, 8), normal(chooser, 1, 8)
    frequencies = np.float32(100.0) ** (-np.arange(4, dtype=np.float32) / 4)

    def score(q_pos: int, k_pos: int) -> float:
        turned = [
            rope_append.rotate_append(q, k, k, *rope_append.load_table(frequencies, pos)) for pos in (q_pos, k_pos)
        ]
        return float((turned[0][0] * turned[1][1][0]).sum())

    assert score(5, 2) == pytest.approx(score(13, 10), abs=1e-5)
    assert score(5, 2) != pytest.approx(score(5, 3), abs=1e-3)


# Attention


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """One head after another, in f64."""
    group = q.shape[0] // k.shape[1]
    result = np.empty(q.shape)
    for head in range(q.shape[0]):
        keys, values = k[:, head // group].astype(np.float64), v[:, head // group].astype(np.float64)
        scores = keys @ q[head] / np.sqrt(q.shape[1])
        shares = np.exp(scores - scores.max())
        result[head] = shares / shares.sum() @ values
    return result


@few
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 8), st.integers(0, 12), seeds)
def test_attention(kv: int, group: int, half: int, pos: int, seed: int) -> None:
    chooser = np.random.default_rng(seed)
    q = normal(chooser, kv * group, 2 * half)
    caches = normal(chooser, 2, 13, kv, 2 * half)
    caches[:, pos + 1 :] = np.nan  # what has not been written yet must not be read
    arrays = {"q": q, "k_cache": caches[0], "v_cache": caches[1], "y": empty(*q.shape)}
    run_kernel(attention.KERNEL, arrays, pos=pos)
    expected = attend(q, caches[0, : pos + 1], caches[1, : pos + 1])
    np.testing.assert_allclose(arrays["y"], expected, rtol=1e-4, atol=1e-5)


def test_attention_with_large_scores_neither_overflows_nor_warns() -> None:
    q = np.full((1, 2), 1e3, np.float32)
    k = np.array([[[1e3, 1e3]], [[-1e3, -1e3]]], np.float32)
    v = np.array([[[1.0, 2.0]], [[3.0, 4.0]]], np.float32)
    arrays = {"q": q, "k_cache": k, "v_cache": v, "y": empty(1, 2)}
    run_kernel(attention.KERNEL, arrays, pos=1)
    assert arrays["y"].tolist() == [[1.0, 2.0]]


@few
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 8), st.integers(0, 12), st.integers(1, 20), seeds)
def test_attention_in_parts_is_attention(kv: int, group: int, half: int, pos: int, splits: int, seed: int) -> None:
    chooser = np.random.default_rng(seed)
    q = 3 * normal(chooser, kv * group, 2 * half)
    caches = normal(chooser, 2, 13, kv, 2 * half)
    caches[:, pos + 1 :] = np.nan
    arrays = {"q": q, "k_cache": caches[0], "v_cache": caches[1], "y": empty(*q.shape)}
    arrays |= {"partial": empty(splits, *q.shape), "statistics": empty(splits, len(q), 2)}
    run_kernel(attention_split.KERNEL, arrays, pos=pos, splits=splits)
    run_kernel(attention_merge.KERNEL, arrays)
    expected = attend(q, caches[0, : pos + 1], caches[1, : pos + 1])
    np.testing.assert_allclose(arrays["y"], expected, rtol=1e-4, atol=1e-5)


def test_parts_without_rows_weigh_nothing() -> None:
    q, row = np.ones((1, 2), np.float32), np.ones((1, 1, 2), np.float32)
    arrays = {"q": q, "k_cache": row, "v_cache": 5 * row, "partial": empty(3, 1, 2), "statistics": empty(3, 1, 2)}
    run_kernel(attention_split.KERNEL, arrays, pos=0, splits=3)
    assert arrays["partial"].tolist() == [[[5.0, 5.0]], [[0.0, 0.0]], [[0.0, 0.0]]]
    assert arrays["statistics"][:, 0].tolist() == [[np.sqrt(np.float32(2)), 1.0], [-np.inf, 0.0], [-np.inf, 0.0]]


# Caches of two bytes


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_caches_of_two_bytes_are_rounded_when_written_and_widened_when_read(dtype: DType) -> None:
    chooser = np.random.default_rng(0)
    short = numpy_dtype(dtype)
    q, k, v = normal(chooser, 4, 8), normal(chooser, 2, 8), normal(chooser, 2, 8)
    caches = normal(chooser, 2, 6, 2, 8).astype(short)
    arrays = {"q": q, "k": k, "v": v, "frequencies": np.zeros(4, np.float32), "q_out": empty(4, 8)}
    arrays |= {"k_cache": caches[0], "v_cache": caches[1], "y": empty(4, 8)}
    run_kernel(rope_append.declare(dtype), arrays, pos=5)
    np.testing.assert_array_equal(caches[0, 5], k.astype(short))
    np.testing.assert_array_equal(caches[1, 5], v.astype(short))
    expected = attend(q, caches[0].astype(np.float64), caches[1].astype(np.float64))
    run_kernel(attention.declare(dtype), arrays, pos=5)
    np.testing.assert_allclose(arrays["y"], expected, rtol=1e-4, atol=1e-5)
    arrays |= {"partial": empty(2, 4, 8), "statistics": empty(2, 4, 2), "y": empty(4, 8)}
    run_kernel(attention_split.declare(dtype), arrays, pos=5, splits=2)
    run_kernel(attention_merge.KERNEL, arrays)
    np.testing.assert_allclose(arrays["y"], expected, rtol=1e-4, atol=1e-5)
