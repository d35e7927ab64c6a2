"""The batch from the arrays of other programs: what it is by definition, and the CUDA C++ of it, run on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forerun.ir.nodes import Launch
from forerun.kernels.persistent import join_requests
from tests.kernels.on_cpu.runner import COMPILER, CpuKernel

PAGE = 16
Arrays = dict[str, np.ndarray]
LENGTHS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 70)), min_size=0, max_size=40)


def words(values: object) -> np.ndarray:
    return np.array(values, np.int32)


def group(lengths: list[tuple[int, int]], name: str, *, last_pages: bool) -> Arrays:
    """The arrays of a group, as FlashInfer has them with ``last_pages``; one element more behind each."""
    kv = np.array([each for _, each in lengths], np.int64)
    pages = -(-kv // PAGE)
    last = np.where(pages > 0, kv - (pages - 1) * PAGE, 0)
    listed = int(pages.sum())
    return {
        f"queries_{name}": words(np.cumsum([0, *(rows for rows, _ in lengths)])),
        f"pointers_{name}": words(np.cumsum([0, *pages])),
        f"pages_{name}": words(np.append(np.arange(listed) * 7 + ord(name), 999)),
        f"lengths_{name}": words(np.append(last if last_pages else kv, -1)),
    }


def scalars(first: int, second: int, **more: int) -> dict[str, int]:
    usual = {"count_a": first, "count_b": second, "has_rows_a": 1, "has_rows_b": 1, "last_pages": 1}
    return {**usual, "page_size": PAGE, "first_row_b": 0, "most_pages": 1, "page_step": 1, **more}


@settings(max_examples=40)
@given(first=LENGTHS.filter(bool), second=LENGTHS, last_pages=st.booleans(), has_rows=st.booleans())
def test_a_batch_of_two_groups(
    first: list[tuple[int, int]], second: list[tuple[int, int]], last_pages: bool, has_rows: bool
) -> None:
    if not has_rows:
        second = [(1, kv) for _, kv in second]
    arrays = {**group(first, "a", last_pages=last_pages), **group(second, "b", last_pages=last_pages)}
    rows, everybody = sum(rows for rows, _ in first), [*first, *second]
    most = len(arrays["pages_a"]) + len(arrays["pages_b"])
    numbers = scalars(len(first), len(second), has_rows_b=has_rows, last_pages=last_pages, first_row_b=rows)
    requests, queries, kv, pointers, pages = join_requests.join(**arrays, **{**numbers, "most_pages": most})
    assert queries.tolist() == np.cumsum([0, *(rows for rows, _ in everybody)]).tolist()
    assert kv.tolist() == [kv for _, kv in everybody]
    needed = [-(-length // PAGE) for _, length in everybody]
    assert pointers.tolist() == np.cumsum([0, *needed]).tolist()
    own = [*arrays["pages_a"][: sum(needed[: len(first)])], *arrays["pages_b"][: sum(needed[len(first) :])]]
    assert pages.tolist() == own + [-1] * (most - len(own))
    assert requests[0] == max((n + 1 for n, (_, kv) in enumerate(everybody) if kv), default=0)
    if second:
        elsewhere = {**numbers, "first_row_b": rows + 1, "most_pages": most}
        assert join_requests.join(**arrays, **elsewhere)[0].tolist() == [-1]


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
@pytest.mark.parametrize(("ctas", "last_pages"), [(1, 1), (3, 0)])
def test_on_the_cpu(tmp_path: Path, ctas: int, last_pages: int) -> None:
    """Two groups, of which the second is padded; rows that do not meet; and one group alone."""
    prefill, decode = [(5, 90), (40, 40), (1, 1)], [(1, 33), (1, 700)] + [(1, 0)] * 35
    for second in (decode, []):
        arrays = {
            **group(prefill, "a", last_pages=bool(last_pages)),
            **group(second, "b", last_pages=bool(last_pages)),
        }
        most = len(arrays["pages_a"]) + len(arrays["pages_b"])
        count = len(prefill) + len(second)
        for first_row in (46, 47):
            numbers = scalars(len(prefill), len(second), has_rows_b=0, last_pages=last_pages, most_pages=most)
            numbers |= {"first_row_b": first_row, "page_step": ctas}
            expected = join_requests.join(**arrays, **numbers)
            made = {"requests": 1, "query_pointers": count + 1, "kv_lengths": count, "page_pointers": count + 1}
            found = {name: np.full(size, -77, np.int32) for name, size in {**made, "pages": most}.items()}
            shapes = {name: array.shape for name, array in {**arrays, **found}.items()}
            folder = tmp_path / f"{len(second)}.{first_row}"  # a library that is loaded keeps its path
            folder.mkdir()
            run = CpuKernel(folder, join_requests.KERNEL, shapes, Launch((ctas, 1, 1), (64, 1, 1)), **numbers)
            run({**arrays, **found})
            for array, wanted in zip(found.values(), expected, strict=True):
                np.testing.assert_array_equal(array, wanted)
            assert found["requests"][0] == (5 if second and first_row == 46 else -1 if second else 3)
