"""The one question: which GPUs can this process use, and if none, why not?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

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
    try:
        return _ask(driver)
    except _DriverError as error:
        return [], str(error)
    except RuntimeError as error:
        return [], missing_driver(error)


def missing_driver(error: RuntimeError) -> str:
    """The reason that there is no GPU, from what the bindings raise when they find no driver library."""
    if type(error).__name__ == "DynamicLibNotFoundError":  # of newer bindings; its text is about how they search
        return "no CUDA driver (its library was not found)"
    first_sentence = str(error).partition("\n")[0].partition(". ")[0]
    return f"no CUDA driver ({first_sentence})"


class _DriverError(Exception):
    """A driver call returned an error."""


def _ask(driver: Any) -> tuple[list[Gpu], str | None]:
    _checked(driver, "cuInit", 0)
    count = _checked(driver, "cuDeviceGetCount")
    gpus = [_describe(driver, number) for number in range(count)]
    return gpus, None if gpus else "the driver sees no device"


def _describe(driver: Any, number: int) -> Gpu:
    device = _checked(driver, "cuDeviceGet", number)
    kinds = driver.CUdevice_attribute

    def attribute(name: str) -> int:
        return int(_checked(driver, "cuDeviceGetAttribute", getattr(kinds, f"CU_DEVICE_ATTRIBUTE_{name}"), device))

    name = _checked(driver, "cuDeviceGetName", 128, device).split(b"\0")[0].decode()
    capability = f"{attribute('COMPUTE_CAPABILITY_MAJOR')}.{attribute('COMPUTE_CAPABILITY_MINOR')}"
    memory = int(_checked(driver, "cuDeviceTotalMem", device))
    return Gpu(name, capability, memory, attribute("MULTIPROCESSOR_COUNT"))


def _checked(driver: Any, function: str, *arguments: object) -> Any:
    """Call the driver; what it returns besides the error."""
    error, *values = getattr(driver, function)(*arguments)
    if error != driver.CUresult.CUDA_SUCCESS:
        raise _DriverError(f"{function}: {error.name}")
    return values[0] if values else None
