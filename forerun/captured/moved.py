"""Captured graphs whose memory lies elsewhere than when they were captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from forerun.captured.graph import CapturedGraph, CapturedNode

__all__ = ["moved_capture"]

_WORD = 8


def moved_capture(graph: CapturedGraph, spans: Sequence[tuple[int, int]], places: Sequence[int]) -> CapturedGraph:
    """The graph with its memory at other addresses, and with all pointers in parameters and transfers changed.

    A pointer is a word of a parameter that points into the spans: what :meth:`CapturedNode.pointers` takes for one.
    Pointers that lie in memory are not changed, since what memory held is not captured.

    Args:
        graph: The graph.
        spans: First and last address of all its memory, apart from each other.
        places: Where each of them lies now.
    """
    shifts = {span: place - span[0] for span, place in zip(spans, places, strict=True)}
    memory = sorted(
        (replace(one, address=_moved(one.address, shifts)) for one in graph.memory), key=lambda one: one.address
    )
    nodes = tuple(_moved_node(node, shifts) for node in graph.nodes)
    return replace(graph, nodes=nodes, memory=tuple(memory))


def _moved_node(node: CapturedNode, shifts: Mapping[tuple[int, int], int]) -> CapturedNode:
    parameters = [bytearray(data) for data in node.parameters]
    for number, at, value in node.pointers():
        parameters[number][at : at + _WORD] = _moved(value, shifts).to_bytes(_WORD, "little")
    transfer = node.transfer
    if transfer is not None:
        source = None if transfer.source is None else _moved(transfer.source, shifts)
        transfer = replace(transfer, source=source, destination=_moved(transfer.destination, shifts))
    body = node.body
    if body is not None:
        body = replace(body, nodes=tuple(_moved_node(one, shifts) for one in body.nodes))
    return replace(node, parameters=tuple(map(bytes, parameters)), transfer=transfer, body=body)


def _moved(address: int, shifts: Mapping[tuple[int, int], int]) -> int:
    for (begin, end), shift in shifts.items():
        if begin <= address < end:
            return address + shift
    return address
