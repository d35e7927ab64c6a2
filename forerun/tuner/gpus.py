"""What the cost model knows of GPUs: measured for some, calibrated by a short run for others.

They were measured on one H100 80GB HBM3 and one H200 with driver 580 (CUDA graphs; docs/tuning.md has the table).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from forerun.runtime.cache_folder import cache_folder
from forerun.support.diagnostics import Unsupported
from forerun.support.files import write_whole
from forerun.support.json_reader import read_json

__all__ = ["CALIBRATE", "H100", "H200", "KNOWN", "Constants", "constants_of", "keep_constants"]

CALIBRATE = "forerun info --calibrate"
"""The command that measures the constants of the GPU that is there."""


@dataclass(frozen=True, slots=True)
class Constants:
    """What is known of a GPU; seconds, bytes, and bytes a second. The figures in the words are of an H100.

    Attributes:
        bandwidth: Reading memory, by a plain kernel over gigabytes: 3,070 to 3,140 GB/s were measured.
        of_registers: The same by kernels that load into registers instead of rings of bulk copies. Fitted to Llama's
            step of 245 small kernels, with full dependencies and with hoisted loads. The probe's kernels, which were
            launched with more L1, came to the whole bandwidth: such loads pass L1, and forerun gives nearly all of that
            to shared memory. Not proved.
        of_multiprocessor: The most that one can take; 64 bytes a clock, not measured.
        full: From one kernel to the next with a full dependency: 0.89 to 0.91 us, with kernels that read a few cached
            bytes.
        programmatic: The same with a programmatic one: 0.59 to 0.62 us.
        ramp: From the first load to bytes at full rate. Fitted: a chain of 81 GEMVs with full dependencies loses 2.6 us
            a node, with programmatic ones 2.4, with loads before the wait 1.0 (bulk copies) to 1.3 (registers).
        latency: What of it a kernel pays that reads next to nothing: one round of loads, 0.7 us on timelines of a step.
        inside: What large kernels lose beside that, as a part of the time of their bytes, since their CTAs do not end
            together: chains of one kernel lost 0.4 us of 21.4 (gate and up) and 3.5 of 167.8 (the head).
        exchange: What CTAs of a cluster need to tell each other what they have found. Attention by clusters took 4 to 5
            us on timelines, of which loads were 1.
        tail: From the last byte to stores that are visible. Fitted as well.
        late_trigger: How much of the ramp comes back if sources trigger after their waits: 0.15 us a node (registers)
            to 0.67 (bulk copies) were measured.
        multiprocessors: How many there are.
        cache: Bytes of the L2 cache.
        index: Until a kernel has read from memory where to read on (shapes, strides, a position), unless it does so
            before its wait. Fitted on an H200, where a step of 362 kernels takes 188 us less if these are constants.
        copy: What a copy of a few bytes from the host takes beside a kernel of that size. Fitted on an H200: 1,810 of
            them take 2.4 us each in a chain, boundaries included.
        registers_a_thread: Bytes that a thread can keep before its wait: 32 loads of 16.
    """

    bandwidth: float
    of_registers: float
    of_multiprocessor: float
    full: float
    programmatic: float
    ramp: float
    latency: float
    inside: float
    exchange: float
    tail: float
    late_trigger: float
    multiprocessors: int
    cache: int
    index: float
    copy: float
    registers_a_thread: int = 512


H100 = Constants(
    bandwidth=3.13e12,
    of_registers=1.79e12,
    of_multiprocessor=1.1e11,
    full=0.90e-6,
    programmatic=0.61e-6,
    ramp=1.40e-6,
    latency=0.70e-6,
    inside=0.02,
    exchange=3.0e-6,
    tail=0.35e-6,
    late_trigger=0.40e-6,
    multiprocessors=132,
    cache=50_000_000,
    index=0.83e-6,
    copy=0.50e-6,
)

H200 = replace(
    H100,
    bandwidth=4.6e12,
    of_registers=2.02e12,
    full=0.95e-6,
    programmatic=0.65e-6,
    cache=60_000_000,
)
"""One H200, driver 580: bandwidth and boundaries calibrated; the rate into registers, ``index`` and ``copy`` fitted to
five graphs of small kernels (benchmarks/cost_records.py says which); all else as on the H100."""

KNOWN: Mapping[str, Constants] = MappingProxyType({"NVIDIA H100 80GB HBM3": H100, "NVIDIA H200": H200})
"""By the name that the driver gives."""


def constants_of(gpu: str) -> Constants:
    """The constants of a GPU: calibrated here, or else known.

    Args:
        gpu: Its name, as :meth:`~forerun.runtime.device.DeviceTarget.identity` tells it.

    Raises:
        Unsupported: If nothing is known of it.
    """
    path = _path(gpu)
    if path.is_file():
        file = read_json(path, what="the calibration", hint=f"make it again: {CALIBRATE}").inside("constants")
        whole = ("multiprocessors", "cache", "registers_a_thread")
        numbers: dict[str, Any] = {
            field.name: file.integer(field.name) if field.name in whole else file.number(field.name)
            for field in fields(Constants)
        }
        return Constants(**numbers)
    if gpu not in KNOWN:
        raise Unsupported(
            f"the cost model knows nothing of '{gpu}'", hint=f"measure it, on a machine with one: {CALIBRATE}"
        )
    return KNOWN[gpu]


def keep_constants(gpu: str, constants: Constants) -> Path:
    """Write the constants of a GPU into the user's cache, where :func:`constants_of` finds them.

    Raises:
        InvalidInput: If they cannot be written.
    """
    path = _path(gpu)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"gpu": gpu, "constants": asdict(constants)}, indent=1) + "\n")
    return path


def _path(gpu: str) -> Path:
    return cache_folder() / "gpus" / f"{re.sub('[^a-z0-9]+', '-', gpu.lower()).strip('-')}.json"
