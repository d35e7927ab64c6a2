"""Tunings: what was measured best for each group of kernel nodes, as data, as a file, and applied to a graph.

A group is the nodes that run the same code on buffers of the same types and shapes, whatever passes made of its body.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from forerun import __version__
from forerun.ir.diagnostics import InvalidInput
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import BufferArgument, ChildGraphNode, ConditionalNode, KernelNode, Launch

__all__ = ["Choice", "TriggerChoice", "Tuning", "group_of", "groups_of", "kernel_nodes", "read_tuning", "write_tuning"]

SCHEMA = 1

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
    """

    gpu: str = ""
    driver: str = ""
    choices: Mapping[str, Choice] = field(default_factory=dict)
    forerun: str = __version__
    seconds: Mapping[str, float] = field(default_factory=dict)

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


def kernel_nodes(graph: Graph, prefix: str = "") -> Iterator[tuple[str, KernelNode]]:
    """All kernel nodes with their paths, those in bodies as ``outer/inner``."""
    for node in graph:
        if isinstance(node, KernelNode):
            yield prefix + node.name, node
        elif isinstance(node, ChildGraphNode):
            yield from kernel_nodes(node.body, f"{prefix}{node.name}/")
        elif isinstance(node, ConditionalNode):
            for number, body in enumerate(node.bodies):
                yield from kernel_nodes(body, f"{prefix}{node.name}/{f'{number}/' if number else ''}")


def group_of(graph: Graph, node: KernelNode) -> str:
    """The group of a node: its code, and the types and shapes of its buffers.

    Args:
        graph: A graph whose tables the node names.
        node: The node.
    """
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
    """Write a tuning file: JSON, sorted, so that equal tunings are equal files.

    Raises:
        InvalidInput: If it cannot be written.
    """
    data = {
        "schema": SCHEMA,
        "gpu": tuning.gpu,
        "driver": tuning.driver,
        "forerun": tuning.forerun,
        "seconds": dict(tuning.seconds),
        "choices": [_choice_json(group, tuning.choices[group]) for group in sorted(tuning.choices)],
    }
    try:
        Path(path).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"the tuning file {path} cannot be written: {error.strerror or error}") from error


def read_tuning(path: str | Path) -> Tuning:
    """Read a tuning file.

    Raises:
        InvalidInput: If it cannot be read, or is none.

    Example:
        >>> write_tuning(Tuning("GPU", "13.0", {"k(x: f32[4])": Choice(trigger="end")}), "tuning.json")
        >>> read_tuning("tuning.json").choice("k(x: f32[4])").trigger
        'end'
    """
    try:
        data: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"the tuning file {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the tuning file {path} is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise InvalidInput(f"{path} is no tuning file of schema {SCHEMA} (it says {found!r})")
    try:
        choices = {f"{item['kernel']}({item['shape']})": _choice_of(item) for item in data["choices"]}
        seconds = {str(name): float(value) for name, value in data.get("seconds", {}).items()}
        return Tuning(str(data["gpu"]), str(data["driver"]), choices, str(data["forerun"]), seconds)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        words = f"{type(error).__name__}: {error}"
        raise InvalidInput(
            f"the tuning file {path} is damaged: {words}", hint="forerun.tune writes such files"
        ) from error


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


def _choice_of(item: Mapping[str, Any]) -> Choice:
    trigger = item.get("trigger")
    if trigger is not None and trigger not in _TRIGGERS:
        raise ValueError(f"trigger {trigger!r} is none of {', '.join(_TRIGGERS)}")
    launch = None
    if "launch" in item:
        found = item["launch"]
        cluster = _three(found["cluster"]) if "cluster" in found else None
        launch = Launch(_three(found["grid"]), _three(found["block"]), int(found["shared_bytes"]), cluster)
    full_from = tuple(str(group) for group in item.get("full_from", ()))
    return Choice(launch, cast("TriggerChoice | None", trigger), bool(item.get("hoist", True)), full_from)


def _three(numbers: Any) -> tuple[int, int, int]:
    x, y, z = (int(number) for number in numbers)
    if min(x, y, z) < 1:
        raise ValueError(f"{list(numbers)} is no extent")
    return x, y, z
