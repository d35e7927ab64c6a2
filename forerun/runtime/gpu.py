"""The one question: which GPUs can this process use, and if none, why not?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forerun.runtime.cuda.driver.driver import Driver

__all__ = ["Gpu", "missing_driver", "no_gpu_reason", "probe_gpus"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """What the driver says of a GPU.

    Attributes:
        name: The product.
        compute_capability: Such as ``9.0``.
        memory: Bytes.
        multiprocessors: How many SMs.
    """

    name: str
    compute_capability: str
    memory: int
    multiprocessors: int

    def as_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def no_gpu_reason() -> str | None:
    """Why there is no usable GPU; ``None`` if there is one."""
    return probe_gpus()[1]


def probe_gpus() -> tuple[list[Gpu], str | None]:
    """The GPUs that the driver shows; if there are none, the reason. Never raises for want of a driver."""
    try:
        from cuda.bindings import driver
    except ImportError as error:
        return [], f"cuda-bindings is not installed ({error})"
    from forerun.runtime.cuda.driver.driver import Driver
    from forerun.runtime.cuda.driver.errors import CudaError

    try:
        return _ask(Driver(driver))
    except CudaError as error:
        return [], f"{error.function}: {error.code}"
    except RuntimeError as error:
        return [], missing_driver(error)


def missing_driver(error: RuntimeError) -> str:
    """The reason that there is no GPU, from what the bindings raise when they find no driver library."""
    if type(error).__name__ == "DynamicLibNotFoundError":  # of newer bindings; its text is about how they search
        return "no CUDA driver (its library was not found)"
    first_sentence = str(error).partition("\n")[0].partition(". ")[0]
    return f"no CUDA driver ({first_sentence})"


def _ask(driver: Driver) -> tuple[list[Gpu], str | None]:
    driver.call("cuInit", 0)
    gpus = [_describe(driver, number) for number in range(driver.call("cuDeviceGetCount"))]
    return gpus, None if gpus else "the driver sees no device"


def _describe(driver: Driver, number: int) -> Gpu:
    device = driver.call("cuDeviceGet", number)
    major, minor = (driver.attribute(device, f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
    memory = int(driver.call("cuDeviceTotalMem", device))
    return Gpu(driver.name(device), f"{major}.{minor}", memory, driver.attribute(device, "MULTIPROCESSOR_COUNT"))
