"""The kernels of benchmarks/device_updatable.py compile, and link with the device runtime."""

from __future__ import annotations

import pytest

from benchmarks.device_updatable import code
from forerun.runtime.toolchain.elf import section_sizes
from forerun.runtime.toolchain.locate import missing_toolchain

MISSING = missing_toolchain()


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_its_code_is_linked() -> None:
    names = section_sizes(code("sm_90"))
    assert {".text.add", ".text.set_each", ".text.set_all"} <= set(names)
