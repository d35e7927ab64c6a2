"""What small copies of a captured graph bring from the host: what their sources hold, and whether that changed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from forerun.captured.graph import MOST_SOURCE_BYTES, WRITERS, CapturedGraph, HostSource, Transfer, Writers
from forerun.runtime.cuda.driver.driver import Driver

__all__ = ["changed_sources", "host_sources", "is_small", "looked_at_again", "read_source"]

_HOST = 1
_OWN_MEMORY = Path("/proc/self/mem")
_OWN_MAPPINGS = Path("/proc/self/maps")


def host_sources(driver: Driver, graph: CapturedGraph, recorded: Mapping[int, bytes]) -> Mapping[int, HostSource]:
    """What small copies bring from the host, and who may write their sources, by the number of the node.

    Args:
        driver: The driver.
        graph: The captured graph.
        recorded: What was read of them while the program captured, by the number of the node. Of other copies it is
            what their sources hold now.
    """
    now = {number: _read(driver, node.transfer) for number, node in enumerate(graph.nodes)}
    found = {number: data for number, data in {**now, **recorded}.items() if data is not None}
    mappings = _mappings() if found else []
    return {
        number: HostSource(data, _writers(driver, graph, number, mappings), changed=now[number] != data)
        for number, data in sorted(found.items())
    }


def changed_sources(driver: Driver, graph: CapturedGraph, recorded: Mapping[int, bytes]) -> tuple[int, ...]:
    """The nodes whose source does not hold any more what was recorded, or is gone."""
    return tuple(number for number, data in recorded.items() if _read(driver, graph.nodes[number].transfer) != data)


def looked_at_again(driver: Driver, graph: CapturedGraph) -> CapturedGraph:
    """The graph, whose sources say whether they changed since they were recorded."""
    recorded = {number: source.contents for number, source in graph.host_sources.items()}
    changed = changed_sources(driver, graph, recorded)
    sources = {
        number: replace(source, changed=source.changed or number in changed)
        for number, source in graph.host_sources.items()
    }
    return replace(graph, host_sources=sources)


def is_small(transfer: Transfer) -> bool:
    """Whether a copy is one of launch parameters, by its size: all else is not kept."""
    return transfer.is_contiguous and 0 < transfer.width * transfer.rows <= MOST_SOURCE_BYTES


def read_source(driver: Driver, transfer: Transfer) -> bytes | None:
    """What the source of a small copy holds now; ``None`` if that is not the host's, or was freed.

    Sources may have been freed since they were captured. Memory that the driver gave out is there as long as it says
    so; all other memory is read through the system, which tells where there is none.
    """
    if transfer.source is None:
        return None
    size = transfer.width * transfer.rows
    kind = _kind(driver, transfer.source)
    if kind is None:
        return _read_through_system(transfer.source, size)
    return ctypes.string_at(transfer.source, size) if kind == _HOST else None


def _read(driver: Driver, transfer: Transfer | None) -> bytes | None:
    return None if transfer is None or not is_small(transfer) else read_source(driver, transfer)


def _kind(driver: Driver, address: int) -> int | None:
    """The driver's kind of memory at an address; ``None`` if it did not give it out."""
    kinds = driver.api.CUpointer_attribute
    error, *kind = driver.function("cuPointerGetAttribute")(kinds.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address)
    return None if error else int(kind[0])


def _read_through_system(address: int, size: int) -> bytes | None:
    """Memory of this process; ``None`` where there is none, or the system does not let it be read that way."""
    try:
        with _OWN_MEMORY.open("rb", buffering=0) as memory:
            memory.seek(address)
            data = memory.read(size)
    except (OSError, ValueError, OverflowError):
        return None
    return data if len(data) == size else None


def _writers(driver: Driver, graph: CapturedGraph, number: int, mappings: list[tuple[int, int, str]]) -> Writers:
    """Who may write what a copy reads.

    The driver's own mappings are shared ones, so that of its memory nothing can be told about other processes.
    """
    transfer = graph.nodes[number].transfer
    assert transfer is not None
    assert transfer.source is not None
    start, stop = transfer.source, transfer.source + transfer.width * transfer.rows
    if _kind(driver, start) is not None:
        return "kernels"
    flags = [flags for first, end, flags in mappings if first < stop and start < end]
    return max(map(_writers_of, flags), key=WRITERS.index, default="program")


def _writers_of(flags: str) -> Writers:
    """Who may write a mapping with such permissions: ``rw-p``, or ``r--s`` for a file that others may write."""
    return "processes" if "s" in flags else "program" if "w" in flags else "nobody"


def _mappings() -> list[tuple[int, int, str]]:
    """First address, end and permissions of this process's mappings (proc_pid_maps(5)); none where no system tells."""
    try:
        lines = _OWN_MAPPINGS.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return list(_parsed(lines))


def _parsed(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    for line in lines:
        span, flags, *_ = line.split(maxsplit=2)
        first, _, end = span.partition("-")
        yield int(first, 16), int(end, 16), flags
