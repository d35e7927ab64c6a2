"""Fusion rules: which kernels, one after the other, another kernel replaces.

A rule is declared beside the kernel that it introduces, with :func:`fusion_rule`; ``fuse-kernels`` applies it. It says
what a kernel computes, so it is part of what a program is: packages of kernels bring rules, and passes need not know
them. See docs/writing-a-pass.md, "Fusion rules".
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from random import Random
from types import MappingProxyType
from typing import TypeAlias

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Argument, BufferArgument, ConstantArgument, KernelNode, Launch
from forerun.support.diagnostics import InternalError, InvalidInput

__all__ = [
    "ENTRY_POINT_GROUP",
    "FusionRule",
    "Match",
    "Part",
    "Pattern",
    "Rejection",
    "Replacement",
    "fusion_rule",
    "fusion_rules",
]

ENTRY_POINT_GROUP = "forerun.fusion_rules"
"""Packages name the modules that declare their rules in this entry-point group."""


@dataclass(frozen=True)
class Part:
    """One kernel launch of a pattern.

    Attributes:
        name: What the rule calls it.
        kernels: Declarations, one of which the node launches; equal ones, since other kernels of the name do not count.
        variables: For each of the kernel's parameters a name. Parameters with one name, in any parts, are bound to the
            same bytes, as the same type, or to the same scalar.
        recomputed: The node may stay where others read what it writes; it is computed here as well, then.
    """

    name: str
    kernels: tuple[Kernel, ...]
    variables: Mapping[str, str]
    recomputed: bool = False


Pattern: TypeAlias = tuple[Part, ...]
"""Parts in launch order. Every part but the last writes a variable that a later one reads."""


@dataclass(frozen=True)
class Match:
    """Nodes of a graph that fit a pattern.

    Attributes:
        nodes: The node of each part, by the part's name, in launch order of the pattern.
        arguments: What each variable is bound to, as the first part has it that names it.
    """

    graph: Graph
    nodes: Mapping[str, KernelNode]
    arguments: Mapping[str, Argument]

    def kernel(self, part: str) -> Kernel:
        """The kernel that a part launches."""
        return self.graph.kernels[self.nodes[part].kernel]

    def buffer(self, variable: str) -> Buffer:
        """The buffer that a variable is bound to.

        Raises:
            InternalError: If it is a scalar.
        """
        argument = self.arguments[variable]
        if not isinstance(argument, BufferArgument):
            raise InternalError(f"variable '{variable}' is bound to a scalar, not to a buffer")
        return self.graph.buffers[argument.buffer]

    def shape(self, variable: str) -> tuple[int, ...]:
        """The shape of the buffer that a variable is bound to."""
        return self.buffer(variable).shape

    def constant(self, variable: str) -> int | float | None:
        """The value of a scalar that stays the same; ``None`` for one that is loaded, or named."""
        argument = self.arguments[variable]
        return argument.value if isinstance(argument, ConstantArgument) and not argument.name else None


@dataclass(frozen=True)
class Replacement:
    """What takes the place of a match; each parameter of the kernel is a variable of the pattern, or an argument."""

    kernel: Kernel
    launch: Launch
    variables: Mapping[str, str | Argument]


@dataclass(frozen=True)
class Rejection:
    """Why a match cannot be replaced, such as ``rows of 20 bytes cannot be copied 16 bytes at a time``."""

    reason: str


Replace: TypeAlias = "Callable[[Match], Replacement | Rejection]"


@dataclass(frozen=True)
class FusionRule:
    """Kernels that another kernel replaces.

    Attributes:
        name: Lower-case words joined by hyphens.
        patterns: What it replaces; the first that matches counts.
        replace: The replacement of a match, or why there is none.
        tolerance: How far a result may be from that of the parts, relative to the greatest magnitude in its buffer.
        example: A small graph in which the rule applies, of random sizes, for tests; see
            :func:`forerun.testing.check_rule`.
        defined_in: ``module:function``.
    """

    name: str
    summary: str
    patterns: tuple[Pattern, ...]
    replace: Replace
    tolerance: float
    example: Callable[[Random], Graph]
    defined_in: str = ""

    def __str__(self) -> str:
        return self.name


_rules: dict[str, FusionRule] = {}


def fusion_rule(
    name: str, *patterns: Pattern, tolerance: float, example: Callable[[Random], Graph]
) -> Callable[[Replace], FusionRule]:
    """Decorator that makes a rule of a function from matches to replacements, and makes it known.

    The first line of the function's docstring is the rule's summary. The other arguments are those of
    :class:`FusionRule`. A rule of the same module and name replaces the one before, as in notebooks.

    Raises:
        InvalidInput: If another rule has the name.
        InternalError: If the rule is not complete.
    """

    def declare(replace: Replace) -> FusionRule:
        summary = (inspect.getdoc(replace) or "").partition("\n")[0]
        place = f"{replace.__module__}:{getattr(replace, '__qualname__', name)}"
        rule = FusionRule(name, summary, patterns, replace, tolerance, example, place)
        for problem in _problems(rule):
            raise InternalError(f"fusion rule '{name}': {problem}")
        present = _rules.get(name)
        if present is not None and present.defined_in != place:
            raise InvalidInput(f"two fusion rules are named '{name}': {present.defined_in} and {place}")
        _rules[name] = rule
        return rule

    return declare


def fusion_rules() -> Mapping[str, FusionRule]:
    """All rules by name: forerun's own, those of installed packages, and those that were declared so far."""
    _load()
    return MappingProxyType(dict(sorted(_rules.items())))


def _problems(rule: FusionRule) -> Iterable[str]:
    if not rule.summary:
        yield "it has no summary; the first line of the function's docstring is that"
    if not rule.patterns or not all(rule.patterns):
        yield "it has no pattern"
    if not 0 <= rule.tolerance < 1:
        yield f"a relative tolerance is at least 0 and less than 1, not {rule.tolerance}"
    for pattern in rule.patterns:
        if len({part.name for part in pattern}) < len(pattern):
            yield "two parts have the same name"
        for part in pattern:
            for kernel in part.kernels:
                parameters = {parameter.name for parameter in kernel.parameters}
                if parameters != set(part.variables):
                    odd = sorted(parameters ^ set(part.variables))
                    yield f"part '{part.name}' and kernel '{kernel.name}' do not agree on parameters: {', '.join(odd)}"
            if not part.kernels or any(kernel.is_black_box for kernel in part.kernels):
                yield f"part '{part.name}' needs kernels with a body"


@cache
def _load() -> None:
    points = entry_points(group=ENTRY_POINT_GROUP)
    if not any(point.value.startswith("forerun.") for point in points):
        message = "forerun's own fusion rules are not there: its package metadata is missing"
        raise InvalidInput(message, hint="install forerun (pip install .) instead of only putting it on the path")
    for point in points:
        try:
            point.load()
        except (Exception, SystemExit) as error:  # whatever a foreign module raises
            message = f"fusion rules '{point.name}' ({point.value}) cannot be imported: {type(error).__name__}: {error}"
            raise InvalidInput(message) from error
