"""What a target and a loaded program are, and the targets by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from forerun.ir.graph import Graph
from forerun.support.diagnostics import InternalError, InvalidInput, did_you_mean
from forerun.support.option_text import OptionTextError, parse_item
from forerun.support.options import build

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "AdjustableProgram",
    "Program",
    "ScheduledProgram",
    "Target",
    "register_target",
    "resolve_target",
    "target_names",
]


class Program(Protocol):
    """A graph that was loaded on a target, with memory of its own."""

    def run(self, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        """Replay the graph once.

        Args:
            inputs: A value for every input buffer, by name.

        Returns:
            A copy of every output buffer, by name.

        Raises:
            InvalidInput: If an input is missing, unknown, of another type or shape, or out of its bounds.
        """
        ...

    def read(self, buffer: str) -> NDArray[Any]:
        """A copy of what a buffer of any role holds now.

        Raises:
            InvalidInput: If there is no such buffer.
        """
        ...

    def write(self, buffer: str, value: ArrayLike) -> None:
        """Set a state buffer, such as a KV cache that was read before.

        Raises:
            InvalidInput: If there is no such buffer, it is not state, or the value does not fit.
        """
        ...

    def reset(self) -> None:
        """Set all state to zeros, as after loading."""
        ...

    def close(self) -> None:
        """Give back the memory. Closing twice is fine."""
        ...


@runtime_checkable
class ScheduledProgram(Program, Protocol):
    """A program that tells in which order things happened.

    Attributes:
        last_schedule: The order of events of the last replay, also of one that failed.
    """

    last_schedule: Any


@runtime_checkable
class AdjustableProgram(Program, Protocol):
    """A program whose named constants can be changed between replays."""

    def assign(self, values: Mapping[str, int | float]) -> None:
        """Give named constants other values, for replays from now on.

        Args:
            values: By name, of the type of the constant, in its range.

        Raises:
            Unsupported: If the target cannot change one of them; then none changes.
        """
        ...


@runtime_checkable
class Target(Protocol):
    """Something that graphs run on. Targets are frozen dataclasses whose fields are their options."""

    name: ClassVar[str]

    def load(self, graph: Graph, weights: Mapping[str, ArrayLike]) -> Program:
        """Make a graph ready to run.

        Args:
            graph: A valid graph.
            weights: A value for every weight buffer, by name. Each is looked up once, so the mapping may be lazy.

        Raises:
            InvalidInput: If a weight is missing, unknown, or of another type or shape.
            Unsupported: If the target cannot run some node.
        """
        ...


_targets: dict[str, str | type[Target]] = {
    "cuda": "forerun.runtime.cuda:CudaTarget",
    "reference": "forerun.runtime.reference:ReferenceTarget",
}


def register_target(cls: type[Target]) -> type[Target]:
    """Class decorator (outside ``@dataclass``) that makes a target known by its ``name``.

    Raises:
        InvalidInput: If another class has the name.
    """
    present = _targets.get(cls.name)
    path = f"{cls.__module__}:{cls.__qualname__}"
    if present is not None and _path(present) != path:
        raise InvalidInput(f"two targets are named '{cls.name}': {_path(present)} and {path}")
    _targets[cls.name] = cls
    return cls


def target_names() -> tuple[str, ...]:
    """The names of the targets that can be asked for, sorted."""
    return tuple(sorted(_targets))


def resolve_target(target: str | Target) -> Target:
    """The target that a text describes.

    Args:
        target: A name with options, such as ``reference{schedule=adversarial,seed=3}``, or a target, which is returned
            as it is.

    Raises:
        InvalidInput: If there is no such target or option, or an option's value is wrong.

    Example:
        >>> resolve_target("reference{seed=3}")
        ReferenceTarget(schedule='serial', seed=3, h6=False, loop_limit=10000)
    """
    if not isinstance(target, str):
        if not isinstance(target, Target) or isinstance(target, type):
            raise InvalidInput(f"{target!r} is not a target", hint="pass a name, such as 'reference', or a target")
        return target
    item = parse_item(target, "target")
    if item.name not in _targets:
        hint = did_you_mean(item.name, target_names())
        raise OptionTextError.of("target", target, [("O2", f"no target '{item.name}'", item.span, hint)])
    made, findings = build(_class(item.name), item)
    if made is None:
        raise OptionTextError.of("target", target, findings)
    return made


def _class(name: str) -> type[Target]:
    found = _targets[name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = _targets[name] = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, type):
        raise InternalError(f"target '{name}' is registered as {found!r}, not a class")
    return found


def _path(target: str | type[Target]) -> str:
    return target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"
