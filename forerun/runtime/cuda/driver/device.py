"""The device: whether it can run a graph, asked before any work starts, and its primary context."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from forerun.ir.graph import Graph
from forerun.ir.kernel import Trigger, Wait
from forerun.ir.types import DependencyKind
from forerun.ir.walk import all_bodies
from forerun.runtime.cuda.driver.driver import Driver, require_no_host_node
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.gpu import missing_driver
from forerun.support.diagnostics import InvalidInput, Unsupported

__all__ = ["MINIMUM_DRIVER", "Context", "Device", "open_device", "release_of", "require_runnable", "resolve_arch"]

MINIMUM_DRIVER = 13000
"""The oldest driver that loads what the toolchain makes, as ``cuDriverGetVersion`` counts: CUDA 13.0."""

_OLDEST, _PROGRAMMATIC = (7, 5), (9, 0)
_GONE = ("CUDA_ERROR_INVALID_CONTEXT", "CUDA_ERROR_CONTEXT_IS_DESTROYED")
_NO_GPU = "run it on the CPU with target='reference', or on a machine with an NVIDIA GPU"


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU: its number in this process, the driver's handle, the product's name, and the compute capability."""

    index: int
    handle: Any
    name: str
    capability: tuple[int, int]


def open_device(driver: Driver, index: int) -> Device:
    """Start the driver, and find a device.

    Raises:
        Unsupported: If there is no GPU, or the driver is too old.
        InvalidInput: If there is no device of that number.
    """
    count = _count(driver)
    if count == 0:
        raise Unsupported("no GPU: the driver sees no device", hint=_NO_GPU)
    version = driver.call("cuDriverGetVersion")
    if version < MINIMUM_DRIVER:
        needed = _version(MINIMUM_DRIVER)
        message = f"the driver is of CUDA {_version(version)}; forerun's kernels need {needed} or later"
        raise Unsupported(message, hint="install a driver of branch 580 or later")
    if not 0 <= index < count:
        raise InvalidInput(f"there is no device {index}", hint=f"this process sees devices 0 to {count - 1}")
    return _describe(driver, index)


def _count(driver: Driver) -> int:
    try:
        driver.call("cuInit", 0)
        count: int = driver.call("cuDeviceGetCount")
    except CudaError as error:
        raise Unsupported(f"no GPU: {error.message}", hint=_NO_GPU) from error
    except RuntimeError as error:
        raise Unsupported(f"no GPU: {missing_driver(error)}", hint=_NO_GPU) from error
    return count


def release_of(driver: Driver) -> str:
    """The CUDA release that the driver is of."""
    return _version(driver.call("cuDriverGetVersion"))


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _describe(driver: Driver, index: int) -> Device:
    handle = driver.call("cuDeviceGet", index)
    major, minor = (driver.attribute(handle, f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
    return Device(index, handle, driver.name(handle), (major, minor))


def resolve_arch(device: Device, arch: str) -> str:
    """The architecture to compile for: what was asked for, or the device's own.

    Raises:
        InvalidInput: If it is not an architecture, or its code does not run on the device.
    """
    major, minor = device.capability
    if not arch:
        return f"sm_{major}{minor}"
    match = re.fullmatch(r"sm_(\d+)(\d)([af]?)", arch)
    if match is None:
        raise InvalidInput(f"target 'cuda': '{arch}' is not an architecture", hint=f"such as sm_{major}{minor}")
    given = int(match[1]), int(match[2])
    if given[0] != major or given[1] > minor or (match[3] and given != device.capability):
        message = f"code for {arch} does not run on device {device.index}, {device.name} (sm_{major}{minor})"
        raise InvalidInput(f"target 'cuda': {message}", hint="leave the option 'arch' out")
    return arch


def require_runnable(graph: Graph, device: Device) -> None:
    """Check that a device has what a graph needs.

    Raises:
        Unsupported: If its architecture is too old.
    """
    where = f"device {device.index}, {device.name}, is sm_{device.capability[0]}{device.capability[1]}"
    if device.capability < _OLDEST:
        raise Unsupported(f"{where}; the toolchain compiles for sm_75 and later", hint=_NO_GPU)
    if device.capability < _PROGRAMMATIC and _uses_programmatic_launch(graph):
        hint = "compile with pipeline='infer-dependencies' (no insert-pdl), from kernels without waits and triggers"
        message = f"{where}; programmatic dependencies, waits and triggers need sm_90 or later"
        raise Unsupported(message, hint=hint)


def _uses_programmatic_launch(graph: Graph) -> bool:
    if any(kernel.has(Wait) or kernel.has(Trigger) for kernel in graph.kernels.values()):
        return True
    bodies = (body for _, body in all_bodies(graph))
    return any(edge.kind is not DependencyKind.FULL for body in bodies for edge in body.dependencies)


class Context:
    """The primary context of a device, which torch, CuPy and the CUDA runtime use as well."""

    def __init__(self, driver: Driver, device: Device) -> None:
        self._driver = driver
        self.device = device
        self.handle = driver.primary_context(device.handle)
        self._number = int(self.handle)
        self._get_current = driver.function("cuCtxGetCurrent")

    def current(self) -> AbstractContextManager[None]:
        """Within the block the context is current on this thread.

        On a thread that has none it stays current, as after a call of the CUDA runtime.
        """
        return _Current(self)

    @contextmanager
    def current_if_possible(self) -> Iterator[None]:
        """Within the block the context is current, if it can be made so: clean-up goes on where even this fails."""
        before = None
        with suppress(CudaError):
            before = self.enter()
        try:
            yield
        finally:
            with suppress(CudaError):
                self.leave(before)

    def enter(self) -> Any:
        """Make the context current on this thread; returns what :meth:`leave` goes back to.

        Raises:
            CudaError: If the driver refuses.
        """
        require_no_host_node("cuCtxGetCurrent")
        found = self._get_current()
        if found[0]:
            raise self._driver.failure("cuCtxGetCurrent", found[0])
        before = found[1]
        number = int(before)
        if number == self._number:
            return None
        self._driver.call("cuCtxSetCurrent", self.handle)
        return before if number else None

    def leave(self, before: Any) -> None:
        """Make the context current that was before :meth:`enter`, if there was another one.

        Raises:
            CudaError: If the driver refuses.
        """
        if before is None:
            return
        try:
            self._driver.call("cuCtxSetCurrent", before)
        except CudaError as error:
            # Somebody destroyed what was current before; then this context stays.
            if error.code not in _GONE:
                raise

    def set_current(self) -> None:
        """Make the context current on this thread, for good."""
        self._driver.call("cuCtxSetCurrent", self.handle)


class _Current(AbstractContextManager[None]):
    """A block in which a context is current; not a generator, which takes longer than the driver does."""

    __slots__ = ("_before", "_context")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._before = self._context.enter()

    def __exit__(self, *error: object) -> None:
        self._context.leave(self._before)
