"""Rows of quantised blocks: what the gguf package makes of them, before and after packing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from forerun.kernels.packing import PACKINGS, Q4_K, Q8_0, Packing, packed, unpacked
from forerun.support.diagnostics import InvalidInput
from tests.kernels.blocks_of_files import SCALES, dequantised, random_blocks

packings = st.sampled_from(list(PACKINGS.values()))


@settings(max_examples=60, deadline=None)
@given(packings, st.integers(1, 3), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_packed_rows_have_the_values_of_the_file_bit_by_bit(packing: Packing, rows: int, count: int, seed: int) -> None:
    columns = count * packing.block
    tiles = packing.tiles(columns)
    event(f"{packing}: {tiles} tiles")
    if tiles is None:
        with pytest.raises(InvalidInput, match="cannot be packed"):
            packing.row_bytes(columns)
        return
    raw = random_blocks(packing, rows, columns, np.random.default_rng(seed))
    found = packed(raw, packing)
    assert found.shape == (rows, packing.row_bytes(columns))
    assert found.shape[1] % (16 * tiles) == 0
    assert np.array_equal(unpacked(found, packing), dequantised(raw, packing))


@given(packings, st.integers(1, 600))
def test_rows_of_different_lengths_have_different_sizes(packing: Packing, count: int) -> None:
    lengths = [n * packing.block for n in (count, count + 1) if packing.tiles(n * packing.block) is not None]
    assert len({packing.row_bytes(columns) for columns in lengths}) == len(lengths)


def test_packing_in_parts_is_packing_at_once() -> None:
    raw = random_blocks(Q4_K, 2000, 2048, np.random.default_rng(0))  # 2.3 MB: three parts
    assert np.array_equal(packed(raw, Q4_K)[1990:], packed(raw[1990:], Q4_K))


def test_rows_of_models_grow_by_less_than_three_percent() -> None:
    for columns in (2048, 4096, 8192, 14336):
        for packing in PACKINGS.values():
            in_file = columns // packing.block * packing.block_bytes
            assert in_file <= packing.row_bytes(columns) <= 1.035 * in_file
    assert Q8_0.row_bytes(576) == 624


@pytest.mark.parametrize("packing", PACKINGS.values(), ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_scale_that_is_not_finite_is_refused_with_its_row(packing: Packing, bad: float) -> None:
    raw = random_blocks(packing, 5000, 512, np.random.default_rng(1))
    for place in SCALES[packing.name]:
        broken = raw.copy()
        broken[4321, place : place + 2] = np.array([bad], np.float16).view(np.uint8)
        with pytest.raises(InvalidInput, match="row 4321 has a block whose scale is not finite"):
            packed(broken, packing)


def test_what_is_not_whole_blocks_is_refused() -> None:
    with pytest.raises(InvalidInput, match="rows of 35 bytes are not whole blocks"):
        packed(np.zeros((2, 35), np.uint8), Q8_0)
    with pytest.raises(InvalidInput, match=r"blocks are u8\[rows, bytes\], not int8\[2, 34\]"):
        packed(np.zeros((2, 34), np.int8), Q8_0)
    with pytest.raises(InvalidInput, match="rows of 0 weights cannot be packed"):
        packed(np.zeros((2, 0), np.uint8), Q8_0)
