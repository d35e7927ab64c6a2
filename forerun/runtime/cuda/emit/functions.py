"""From images to functions on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from forerun.ir.nodes import Launch
from forerun.runtime.cuda.codegen.build import Code
from forerun.runtime.cuda.codegen.condition import CONDITION_ENTRY
from forerun.runtime.cuda.codegen.hand_over import HAND_OVER_ENTRY
from forerun.runtime.cuda.codegen.saved_state import SAVE_ENTRY
from forerun.runtime.cuda.codegen.stamp import STAMP_ENTRY
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.scope import Scope

__all__ = ["Functions", "load_functions"]


@dataclass(frozen=True)
class Functions:
    """Code on the device: the ``CUfunction`` of each unit, and those of forerun's own kernels, or 0.

    ``condition`` sets conditions, ``save`` copies state, ``stamp`` notes the time, ``hand_over`` waits for the host.
    """

    code: Code
    of_unit: Sequence[int]
    condition: int
    save: int = 0
    stamp: int = 0
    hand_over: int = 0


def load_functions(scope: Scope, code: Code) -> Functions:
    """Load a graph's code into the current context.

    Raises:
        CudaError: If the driver refuses an image.
    """
    functions = [
        _load(scope, image, unit.entry, unit.launch, kernel)
        for image, unit, kernel in zip(code.images, code.units, code.kernel_of, strict=True)
    ]
    images = (
        (code.condition, CONDITION_ENTRY),
        (code.save, SAVE_ENTRY),
        (code.stamp, STAMP_ENTRY),
        (code.hand_over, HAND_OVER_ENTRY),
    )
    one = Launch(block=(1, 1, 1))
    own = [0 if image is None else _load(scope, image, entry, one, entry) for image, entry in images]
    return Functions(code, functions, *own)


def _load(scope: Scope, image: bytes, entry: str, launch: Launch, kernel: str) -> int:
    driver = scope.driver
    try:
        module = scope.own("module", driver.call("cuModuleLoadData", image), "cuModuleUnload")
        function: Any = driver.call("cuModuleGetFunction", module, entry.encode())
        for kind, value in _attributes(driver.api, launch):
            driver.call("cuFuncSetAttribute", function, kind, value)
    except CudaError as error:
        shared = launch.shared_bytes
        detail = f"{shared} bytes of dynamic shared memory were asked for" if shared else ""
        raise error.about(kernel=kernel, detail=detail) from error
    return int(function)


_PORTABLE_CLUSTER = 8
"""CTAs in a cluster that every GPU can run (CUDA C++ Programming Guide, "Thread Block Clusters")."""


def _attributes(api: Any, launch: Launch) -> Iterator[tuple[Any, int]]:
    kinds = api.CUfunction_attribute
    # The driver gives an SM as much shared memory as the running kernel needs. A neighbour that needs more could then
    # not start beside it, and a programmatic dependency would win nothing: so all that there is, for every kernel.
    yield kinds.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100
    if launch.shared_bytes:
        # Without it a kernel gets 48 KB at most, its static shared memory included.
        yield kinds.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, launch.shared_bytes
    if launch.cluster is not None and math.prod(launch.cluster) > _PORTABLE_CLUSTER:
        yield kinds.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1
