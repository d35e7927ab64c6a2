"""The PTX that the nodes of a captured graph run, and code that is made of changed texts for them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache

from forerun.frontends.ptx_phases import polls
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ptx import parse_module, summarise
from forerun.ptx.cfg import control_flow
from forerun.runtime.cuda.capture.assembled import MadeCode
from forerun.runtime.cuda.capture.session import LiveCapture
from forerun.runtime.cuda.capture.verified import assemble_as
from forerun.runtime.toolchain import processors

__all__ = ["NodeText", "NodeTexts", "assemble_all", "node_texts"]

_REGISTERS, _MOST_REGISTERS = 65536, 255
_BOUNDS = (".maxntid", ".reqntid", ".maxnreg")


@dataclass(frozen=True, slots=True)
class NodeText:
    """The PTX that a node runs.

    Attributes:
        node: Its name.
        number: Its number in the captured graph.
        entry: The kernel.
        text: The PTX.
        options: For ptxas.
        assembler: The path of that ptxas, and the architecture.
    """

    node: str
    number: int
    entry: str
    text: str = field(repr=False)
    options: tuple[str, ...]
    assembler: tuple[str, str]


@dataclass(frozen=True)
class NodeTexts:
    """The texts of those nodes that may run other code, by name; and why other kernel nodes may not."""

    texts: Mapping[str, NodeText]
    kept: Mapping[str, str]


def node_texts(live: LiveCapture, names: tuple[str, ...], graph: Graph, made: Mapping[str, MadeCode]) -> NodeTexts:
    """The texts of the nodes of a graph.

    Args:
        live: The captured graph.
        names: The nodes' names, in the order of the captured ones.
        graph: What it became.
        made: The new code of that, by the kernels' names.
    """
    may_poll = cache(_may_poll)
    texts: dict[str, NodeText] = {}
    kept: dict[str, str] = {}
    for number, (name, captured) in enumerate(zip(names, live.graph.nodes, strict=True)):
        if captured.kind != "kernel":
            continue
        function = live.graph.function_of(captured)
        source, node = live.graph.texts.get(function.text), graph.nodes[name]
        if source is None:
            kept[name] = "its PTX is not known"
        elif captured.unsupported:
            kept[name] = "; ".join(captured.unsupported)
        elif captured.attributes.get("cooperative") or may_poll(source.text, function.name):
            kept[name] = "its CTAs may wait for each other, so they must all be resident"
        else:
            new = made.get(node.kernel) if isinstance(node, KernelNode) else None
            text = source.text if new is None else new.text
            options = source.options + _limit(text, math.prod(captured.block), source.options)
            texts[name] = NodeText(name, number, function.name, text, options, live.assemblers[function.text])
    return NodeTexts(texts, kept)


def _may_poll(text: str, entry: str) -> bool:
    """Whether a kernel may wait for what others write."""
    function = parse_module(text).entry(entry)
    flow = control_flow(function)
    return polls(flow, summarise(function, flow).global_accesses) is not None


def _limit(text: str, threads: int, options: tuple[str, ...]) -> tuple[str, ...]:
    """So that a launch with that many threads has the registers: what is added to a text needs some."""
    fit = _REGISTERS // (-(-threads // 128) * 128) & ~7
    is_bound = any(word in text for word in _BOUNDS) or any("maxrregcount" in option for option in options)
    return () if is_bound or fit >= _MOST_REGISTERS else (f"--maxrregcount={fit}",)


def assemble_all(wanted: Collection[tuple[NodeText, str]]) -> list[bytes | str]:
    """The code of changed texts, all processors at once; or why there is none.

    Args:
        wanted: What a node runs now, and the text that it is to run.
    """

    def assemble(one: NodeText, text: str) -> bytes | str:
        code, log = assemble_as(text, one.options, *one.assembler)
        return code or f"ptxas refuses it: {log.strip()[:300]}"

    different = {(one.entry, text, one.options): one for one, text in wanted}
    with ThreadPoolExecutor(processors()) as workers:
        made = workers.map(lambda key: assemble(different[key], key[1]), different)
        found = dict(zip(different, made, strict=True))
    return [found[one.entry, text, one.options] for one, text in wanted]
