"""Group rules: launches over the parts of one batch, which one launch over a schedule of all its work replaces.

A rule is declared beside the kernels that it introduces, with :func:`group_rule`; ``fuse-persistent`` applies it.
Modules with rules are found as those of fusion rules are (:mod:`forerun.ir.fusion`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import TypeAlias

from forerun.ir.buffer import Buffer
from forerun.ir.fusion import Rejection, fusion_rules
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Argument, BufferArgument, KernelNode, Launch
from forerun.support.diagnostics import InternalError, InvalidInput

__all__ = [
    "Group",
    "GroupReplacement",
    "GroupRule",
    "GroupSettings",
    "Launched",
    "Preparation",
    "Rejection",
    "group_rule",
    "group_rules",
]


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What the user of the pass chooses.

    Attributes:
        policy: Which CTA gets which work.
        cuts: How work is cut into pieces: ``shares``, ``whole`` or ``invariant``.
        chunk: For ``invariant``: positions of a piece.
        ctas: CTAs of the persistent kernel.
    """

    policy: str
    cuts: str
    chunk: int
    ctas: int


@dataclass(frozen=True)
class Launched:
    """A kernel, how it is launched, and on what.

    Attributes:
        arguments: For each parameter what is bound to it, or the name that the rule gives a buffer of its own.
    """

    kernel: Kernel
    launch: Launch
    arguments: Mapping[str, str | Argument]

    def node(self, name: str, like: KernelNode, names: Mapping[str, str]) -> KernelNode:
        """It as a node at the place of another one; ``names`` are those of the rule's buffers in the graph."""
        bound = []
        for parameter in self.kernel.parameters:
            value = self.arguments[parameter.name]
            bound.append((parameter.name, BufferArgument(names[value]) if isinstance(value, str) else value))
        return KernelNode(name, self.kernel.name, tuple(bound), self.launch, like.place)


@dataclass(frozen=True)
class Preparation:
    """What runs before, for all groups over one batch: the schedule, and memory for all.

    Attributes:
        launched: The node.
        buffers: What it writes and the replacements use, each in an allocation of its own; and constants. Names are the
            rule's.
    """

    launched: Launched
    buffers: tuple[Buffer, ...]


@dataclass(frozen=True)
class Group:
    """Launches of one kernel that differ in what part of a batch they are for.

    Attributes:
        graph: The graph.
        nodes: The launches, in launch order.
    """

    graph: Graph
    nodes: tuple[KernelNode, ...]

    @property
    def kernel(self) -> Kernel:
        """What they launch."""
        return self.graph.kernels[self.nodes[0].kernel]

    def buffer(self, parameter: str) -> Buffer:
        """The buffer that all of them have for a parameter.

        Raises:
            InternalError: If it is a scalar.
        """
        argument = self.nodes[0].argument(parameter)
        if not isinstance(argument, BufferArgument):
            raise InternalError(f"parameter '{parameter}' is bound to a scalar, not to a buffer")
        return self.graph.buffers[argument.buffer]


@dataclass(frozen=True)
class GroupReplacement:
    """What takes the place of a group: a preparation, which groups share if theirs are equal, and a launch."""

    preparation: Preparation
    launched: Launched


Replace: TypeAlias = "Callable[[Group, GroupSettings], GroupReplacement | Rejection]"
Settings: TypeAlias = "Callable[[KernelNode], GroupSettings | None]"


@dataclass(frozen=True)
class GroupRule:
    """Launches over the parts of a batch that one launch replaces.

    Attributes:
        name: Lower-case words joined by hyphens.
        kernels: What is launched for each part, one of these.
        own: The parameters in which the launches of a group differ; all others are bound alike.
        batch: The parameters that say what the batch is.
        replace: The replacement of a group, or why there is none.
        settings: With which settings a preparing node was made; ``None`` if it is none of the rule's.
        tolerance: How far a result may be from that of the launches, relative to the greatest magnitude in its buffer.
        example: A small graph in which the rule applies, of random sizes, for tests.
    """

    name: str
    summary: str
    kernels: tuple[Kernel, ...]
    own: tuple[str, ...]
    batch: tuple[str, ...]
    replace: Replace
    settings: Settings
    tolerance: float
    example: Callable[[Random], Graph]

    def __str__(self) -> str:
        return self.name


_rules: dict[str, GroupRule] = {}


def group_rule(rule: GroupRule) -> GroupRule:
    """Make a rule known.

    Raises:
        InvalidInput: If another rule has the name.
        InternalError: If its kernels lack parameters that it names, or have no body.
    """
    if _rules.get(rule.name, rule) != rule:
        raise InvalidInput(f"two group rules are named '{rule.name}'")
    for kernel in rule.kernels:
        parameters = {parameter.name for parameter in kernel.parameters}
        for name in (*rule.own, *rule.batch):
            if name not in parameters:
                raise InternalError(f"group rule '{rule.name}': kernel '{kernel.name}' has no parameter '{name}'")
        if kernel.is_black_box:
            raise InternalError(f"group rule '{rule.name}': kernel '{kernel.name}' has no body")
    _rules[rule.name] = rule
    return rule


def group_rules() -> Mapping[str, GroupRule]:
    """All rules by name: those of the modules that declare fusion rules, and those that were declared so far."""
    fusion_rules()
    return MappingProxyType(dict(sorted(_rules.items())))
