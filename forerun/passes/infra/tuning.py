"""Tunings: what was measured best for each group of kernel nodes, as data, as a file, and applied to a graph.

A group is the nodes that run the same code on buffers of the same types and shapes, whatever passes made of its body.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import BufferArgument, KernelNode, Launch
from forerun.ir.walk import kernel_nodes
from forerun.support.files import write_whole
from forerun.support.json_reader import JsonObject, read_json
from forerun.support.version import __version__

__all__ = [
    "DEFAULT_TOLERANCE",
    "Choice",
    "TriggerChoice",
    "Tuning",
    "group_of",
    "groups_of",
    "read_tuning",
    "write_tuning",
]

SCHEMA = 1

DEFAULT_TOLERANCE = 1e-4
"""By how much results may differ where launches change, unless somebody says otherwise: a relative L2 norm."""

TriggerChoice: TypeAlias = Literal["start", "after-wait", "end"]
_TRIGGERS = ("start", "after-wait", "end")


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen for a group; the default leaves everything as the passes made it.

    Attributes:
        launch: How its nodes are launched.
        trigger: Where they trigger.
        hoist: Whether they may load before they wait; ``False`` moves all phases behind the wait.
        full_from: The groups of sources whose programmatic dependencies are made full.
    """

    launch: Launch | None = None
    trigger: TriggerChoice | None = None
    hoist: bool = True
    full_from: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tuning:
    """Choices, and what they were measured on.

    Attributes:
        gpu: The product's name; empty if unknown.
        driver: The CUDA release of its driver; empty if unknown.
        choices: By group, as :func:`group_of` spells it.
        forerun: The version that measured.
        seconds: One replay before and after, as ``untuned`` and ``tuned``; empty if nothing was measured.
        tolerance: Relative L2 norm within which results stayed where launches changed.
    """

    gpu: str = ""
    driver: str = ""
    choices: Mapping[str, Choice] = field(default_factory=dict)
    forerun: str = __version__
    seconds: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = DEFAULT_TOLERANCE

    def with_choice(self, group: str, choice: Choice) -> Tuning:
        """The same, with another choice for a group."""
        choices = {**self.choices, group: choice}
        return replace(self, choices={name: found for name, found in choices.items() if found != Choice()})

    def choice(self, group: str) -> Choice:
        """What is chosen for a group."""
        return self.choices.get(group, Choice())

    def misfit(self, gpu: str, driver: str) -> str:
        """Why it says nothing about a GPU, in words; empty if it does, or if either side is unknown."""
        for what, ours, theirs in (
            ("GPU", self.gpu, gpu),
            ("driver", self.driver, driver),
            ("forerun", self.forerun, __version__),
        ):
            if ours and theirs and ours != theirs:
                return f"it was measured with {what} {ours}, and this is {theirs}"
        return ""


def group_of(graph: Graph, node: KernelNode) -> str:
    """The group of a node: its code, and the types and shapes of its buffers, which the tables of the graph have."""
    return f"{_code_of(graph.kernels[node.kernel])}({_shape_of(graph, node)})"


def groups_of(graph: Graph) -> dict[str, list[str]]:
    """The paths of the kernel nodes of each group."""
    found: dict[str, list[str]] = {}
    for path, node in kernel_nodes(graph):
        found.setdefault(group_of(graph, node), []).append(path)
    return found


def _code_of(kernel: Kernel) -> str:
    ours = next((i for i in kernel.implementations if i.language == "cuda"), None)
    ours = ours or next(iter(kernel.implementations), None)
    return f"{ours.source}#{ours.entry}" if ours is not None else kernel.name.partition(".")[0]


def _shape_of(graph: Graph, node: KernelNode) -> str:
    texts = []
    for name, argument in node.arguments:
        if isinstance(argument, BufferArgument):
            buffer = graph.buffers[argument.buffer]
            texts.append(f"{name}: {buffer.dtype}{list(buffer.shape)}")
    return ", ".join(texts)


# Files


def write_tuning(tuning: Tuning, path: str | Path) -> None:
    """Write a tuning file.

    Raises:
        InvalidInput: If it cannot be written.
    """
    write_whole(Path(path), tuning_text(tuning))


def tuning_text(tuning: Tuning) -> str:
    """What a tuning file holds: JSON, sorted, so that equal tunings are equal files."""
    data = {
        "schema": SCHEMA,
        "gpu": tuning.gpu,
        "driver": tuning.driver,
        "forerun": tuning.forerun,
        "seconds": dict(tuning.seconds),
        "tolerance": tuning.tolerance,
        "choices": [_choice_json(group, tuning.choices[group]) for group in sorted(tuning.choices)],
    }
    return json.dumps(data, indent=1) + "\n"


def read_tuning(path: str | Path) -> Tuning:
    """Read a tuning file.

    Raises:
        InvalidInput: If it cannot be read, or is none.

    Example:
        >>> write_tuning(Tuning("GPU", "13.0", {"k(x: f32[4])": Choice(trigger="end")}), "tuning.json")
        >>> read_tuning("tuning.json").choice("k(x: f32[4])").trigger
        'end'
    """
    file = read_json(path, what="the tuning file", hint="forerun.tune writes such files")
    file.require("schema", SCHEMA, "a tuning file that can be read")
    choices = {f"{item.text('kernel')}({item.text('shape')})": _choice_of(item) for item in file.each("choices")}
    seconds = file.inside("seconds", optional=True)
    measured = {name: seconds.number(name) for name in seconds}
    tolerance = file.number("tolerance") if "tolerance" in file else DEFAULT_TOLERANCE
    return Tuning(file.text("gpu"), file.text("driver"), choices, file.text("forerun"), measured, tolerance)


def _choice_json(group: str, choice: Choice) -> dict[str, Any]:
    kernel, _, shape = group.removesuffix(")").partition("(")
    data: dict[str, Any] = {"kernel": kernel, "shape": shape}
    if choice.launch is not None:
        launch = choice.launch
        data["launch"] = {"grid": list(launch.grid), "block": list(launch.block), "shared_bytes": launch.shared_bytes}
        if launch.cluster is not None:
            data["launch"]["cluster"] = list(launch.cluster)
    if choice.trigger is not None:
        data["trigger"] = choice.trigger
    if not choice.hoist:
        data["hoist"] = False
    if choice.full_from:
        data["full_from"] = list(choice.full_from)
    return data


def _choice_of(item: JsonObject) -> Choice:
    trigger = item.text("trigger", "")
    if trigger and trigger not in _TRIGGERS:
        raise item.error(f"it is {trigger!r}, and must be one of {', '.join(_TRIGGERS)}", "trigger")
    launch = None
    if "launch" in item:
        found = item.inside("launch")
        cluster = _three(found, "cluster") if "cluster" in found else None
        shared = found.integer("shared_bytes", most=_MOST)
        launch = Launch(_three(found, "grid"), _three(found, "block"), shared, cluster)
    full_from = tuple(item.list_of("full_from", str, optional=True))
    return Choice(launch, cast("TriggerChoice | None", trigger or None), item.flag("hoist", True), full_from)


_MOST = (1 << 31) - 1
"""The largest extent of a grid (CUDA C++ Programming Guide, Technical Specifications)."""


def _three(item: JsonObject, key: str) -> tuple[int, int, int]:
    numbers = item.list_of(key, int)
    if len(numbers) != 3 or not all(1 <= number <= _MOST for number in numbers):
        raise item.error(f"it must be three integers from 1 to {_MOST}", key)
    x, y, z = numbers
    return x, y, z
