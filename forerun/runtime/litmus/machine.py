"""The GPU and the driver that litmus tests ran on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from forerun.runtime.cuda.driver.device import open_device, release_of
from forerun.runtime.cuda.driver.driver import driver

__all__ = ["Machine", "this_machine"]

_KERNEL_MODULE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Machine:
    """What the results hold for: a product, the version of its driver (580.95.05), its compute capability (9.0)."""

    gpu: str
    driver: str
    capability: str

    def __str__(self) -> str:
        return f"{self.gpu}, driver {self.driver}"


def this_machine(device: int = 0) -> Machine:
    """The GPU and the version of its driver.

    Raises:
        Unsupported: If there is no GPU, or its driver is too old.
    """
    found = open_device(driver(), device)
    return Machine(found.name, _driver_version(), ".".join(map(str, found.capability)))


def _driver_version() -> str:
    """That of the kernel module, which Linux tells; elsewhere the version of CUDA that the driver implements."""
    try:
        match = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", _KERNEL_MODULE.read_text(encoding="utf-8"))
    except OSError:
        match = None
    return f"of CUDA {release_of(driver())}" if match is None else match[1]
