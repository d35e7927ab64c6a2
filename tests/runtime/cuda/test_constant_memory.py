"""Memory for constants on a GPU: places do not overlap, gaps are used again, blocks that are empty go back."""

from __future__ import annotations

import ctypes
import gc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forerun.ir.buffer import ALLOCATION_ALIGNMENT
from forerun.runtime.constants import HeldConstant
from forerun.runtime.cuda.driver.device import open_device
from forerun.runtime.cuda.memory.constants import DeviceConstants
from tests.runtime.plans.fake import fake_gpu


def device_constants(own: Any) -> DeviceConstants:
    return DeviceConstants(own, open_device(own, 0))


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.lists(st.integers(0, 2000), max_size=6, unique=True), st.integers(0, 30)), min_size=1, max_size=20
    )
)
def test_places_never_overlap_and_hold_what_was_put_there(steps: list[list[int] | int]) -> None:
    """Lists are sizes that are put there together; numbers say which one goes."""
    with pytest.MonkeyPatch.context() as patch, fake_gpu(patch) as (api, own):
        memory, held, serial = device_constants(own), list[HeldConstant](), 0
        for step in steps:
            if isinstance(step, int):
                if held:
                    memory.free(held.pop(step % len(held)).place)
            elif step:
                serial += 1
                data = [bytes([serial]) * size for size in step]
                held += memory.put(data)
                assert [one.contents for one in held[-len(step) :]] == data
            spans = sorted((one.place, one.place + max(1, len(one.contents))) for one in held)
            assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
            assert all(one.place % ALLOCATION_ALIGNMENT == 0 for one in held)
            assert memory.size_bytes == sum(map(len, api.memory.values()))
            assert all(ctypes.string_at(one.place, len(one.contents)) == one.contents for one in held)
        while held:
            memory.free(held.pop().place)
        assert memory.size_bytes == 0
        memory.close()
        gc.collect()
        assert (api.leaks(), own.handles.live()) == ({}, ())


def test_a_gap_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu(monkeypatch) as (_, own):
        memory = device_constants(own)
        first = memory.put([b"a" * 300, b"b" * 10, b"c" * 10])
        memory.free(first[1].place)
        (again,) = memory.put([b"d" * 20])
        assert again.place == first[1].place
        assert memory.size_bytes == 4 * ALLOCATION_ALIGNMENT
        memory.close()
