"""Finds the nodes that fit a pattern: from its last part back, along the def_use of data."""

from __future__ import annotations

from dataclasses import dataclass, field

from forerun.ir.fusion import FusionRule, Match, Part, Pattern
from forerun.ir.graph import Graph
from forerun.ir.nodes import Argument, BufferArgument, KernelNode
from forerun.passes.fusion.def_use import DefUse, identity, launched, read_parameters, written_parameters

__all__ = ["Attempt", "attempts", "best_attempt"]


@dataclass
class Attempt:
    """A pattern, as far as it fits with its last part at some node; ``reason`` says why it does not, if so."""

    graph: Graph
    pattern: Pattern
    nodes: dict[str, KernelNode] = field(default_factory=dict)
    reason: str = ""
    _identities: dict[str, object] = field(default_factory=dict)

    @property
    def match(self) -> Match | None:
        """The match, if all parts fit."""
        if self.reason:
            return None
        arguments: dict[str, Argument] = {}
        for part in self.pattern:
            for parameter, argument in self.nodes[part.name].arguments:
                arguments.setdefault(part.variables[parameter], argument)
        return Match(self.graph, {part.name: self.nodes[part.name] for part in self.pattern}, arguments)

    def bind(self, part: Part, node: KernelNode) -> bool:
        """Take a node for a part, unless a variable is bound to something else already."""
        bound = {part.variables[name]: identity(self.graph, argument) for name, argument in node.arguments}
        odd = [name for name, value in bound.items() if self._identities.get(name, value) != value]
        agree = all(bound[part.variables[name]] == identity(self.graph, a) for name, a in node.arguments)
        if odd or not agree:
            self.reason = f"'{node.name}' has another {odd[0] if odd else 'argument'} than the others"
            return False
        self._identities.update(bound)
        self.nodes[part.name] = node
        return True

    def producer(self, def_use: DefUse, part: Part) -> str | None:
        """Who last wrote what the parts that are bound read of a part that is not."""
        kernel = part.kernels[0]
        given = {part.variables[name] for name in written_parameters(kernel)}
        for other in self.pattern:
            node = self.nodes.get(other.name)
            if node is None:
                continue
            for parameter in sorted(read_parameters(self.graph.kernels[node.kernel])):
                argument = node.argument(parameter)
                if other.variables[parameter] in given and isinstance(argument, BufferArgument):
                    return def_use.last_writer(node.name, argument.buffer)
        return None


def attempts(graph: Graph, def_use: DefUse, rule: FusionRule, node: str) -> list[Attempt]:
    """The rule's patterns whose last part fits a node."""
    found = []
    for pattern in rule.patterns:
        anchor = launched(graph, node, pattern[-1].kernels)
        if anchor is not None:
            attempt = Attempt(graph, pattern)
            if attempt.bind(pattern[-1], anchor):
                _complete(attempt, def_use)
            found.append(attempt)
    return found


def best_attempt(found: list[Attempt]) -> Attempt | None:
    """The first that fits, else the one of which most parts fit; ``None`` if there is none."""
    fitting = [attempt for attempt in found if not attempt.reason]
    return fitting[0] if fitting else max(found, key=lambda attempt: len(attempt.nodes), default=None)


def _complete(attempt: Attempt, def_use: DefUse) -> None:
    for part in reversed(attempt.pattern[:-1]):
        name = attempt.producer(def_use, part)
        if name is None:
            attempt.reason = f"nothing in the graph writes what '{part.name}' would give"
            return
        node = launched(attempt.graph, name, part.kernels)
        if node is None:
            known = ", ".join(f"@{kernel.name}" for kernel in part.kernels[:3])
            attempt.reason = f"'{name}', which would be '{part.name}', does not launch {known}"
            return
        if not attempt.bind(part, node):
            return
