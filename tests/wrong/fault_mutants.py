"""Wrong checkers that take back what mended the faults in tests/faults: each fault had one of these reasons."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from forerun.ir.graph import Graph
from forerun.ir.nodes import ChildGraphNode, ConstantArgument, EventRecordNode, EventWaitNode, KernelNode, Node
from forerun.ir.refinement import body_order as rebody
from forerun.ir.refinement import certificate
from forerun.ir.refinement import rules as comparison
from forerun.ir.refinement.rules import _Comparison
from forerun.ir.semantics import NodeAccess, event_nodes, races
from forerun.ir.semantics.order import EventOrder
from forerun.ir.verify import flow, lifetimes, nodes
from tests.wrong.mutant import Patch, collector

__all__ = ["FAULT_MUTANTS"]

FAULT_MUTANTS, mutant = collector()


def _replacing(place: Any, name: str, value: object) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(place, name, value)


# Bodies


mutant(
    "asynchronous-writes-float",
    "what an asynchronous phase writes has no place in the order of its body",
    _replacing(rebody, "_ends_in_place", lambda phase: not phase.asynchronous),
)


def _ordered(order: EventOrder, later: NodeAccess, *, released: bool) -> int:
    at_once = released and not (later.early and later.asynchronous)
    return _in_order(order, replace(later, asynchronous=not at_once), released=released)


_in_order = races._ordered
mutant(
    "any-wait-serves-the-copy-engine",
    "under H8 a wait that covers nothing orders reads by the copy engine",
    _replacing(races, "_ordered", _ordered),
)


def _any_launch(self: _Comparison, old: KernelNode, new: KernelNode) -> bool:
    return old.arguments == new.arguments and old.place == new.place


mutant(
    "any-launch-is-right",
    "kernels are right for every grid and block",
    _replacing(_Comparison, "same_launch", _any_launch),
)


def _no_launch(self: _Comparison, old: KernelNode, new: KernelNode) -> bool:
    return _any_launch(self, old, new) and old.launch == new.launch


mutant(
    "declared-launches-are-unknown",
    "another launch is never as good, whatever the kernel accepts",
    _replacing(_Comparison, "same_launch", _no_launch),
)

# What covers

mutant(
    "uncertain-writes-cover",
    "what is written through a page table covers the whole view",
    _replacing(NodeAccess, "definite", property(lambda access: access.always and access.bytes.exact)),
)
mutant(
    "branches-cover",
    "what is written in a branch is always written",
    _replacing(NodeAccess, "definite", property(lambda access: access.certain and access.bytes.exact)),
)
mutant("nothing-is-definite", "no write covers anything", _replacing(NodeAccess, "definite", property(lambda _: False)))

# Constants


def _equal_values(self: ConstantArgument, other: object) -> bool:
    both = isinstance(other, ConstantArgument) and type(self.value) is type(other.value)
    return both and self.value == other.value


_equal_bits = ConstantArgument.__eq__


def _equal_zeros(self: ConstantArgument, other: object) -> bool:
    return bool(_equal_bits(self, other)) or _equal_values(self, other)


mutant("zeros-are-equal", "-0.0 is 0.0, as numbers compare", _replacing(ConstantArgument, "__eq__", _equal_zeros))


def _equal_nans(self: ConstantArgument, other: object) -> bool:
    both = isinstance(other, ConstantArgument) and math.isnan(self.value) and math.isnan(other.value)
    return both or bool(_equal_bits(self, other))


mutant("nans-are-equal", "a NaN is every other NaN", _replacing(ConstantArgument, "__eq__", _equal_nans))
mutant(
    "no-nan-is-itself",
    "a NaN differs from itself, as comparisons of floats say",
    _replacing(ConstantArgument, "__eq__", _equal_values),
)

# The world outside


def _is_event(node: Node) -> bool:
    if isinstance(node, ChildGraphNode):
        return any(_is_event(inner) for inner in node.body)
    return isinstance(node, EventRecordNode | EventWaitNode)


def _fencing(rule: Any) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (event_nodes, comparison):
            monkeypatch.setattr(module, "is_event", rule)

    return patch


mutant("host-calls-move", "a host call is ordered by what it declares alone", _fencing(_is_event))
mutant(
    "declared-host-calls-move",
    "a host call that declares some accesses does nothing else",
    _fencing(lambda node: _is_event(node) and not getattr(node, "reads", ())),
)
mutant(
    "nested-host-calls-move",
    "host calls in child graphs do not matter",
    _fencing(lambda node: _is_event(node) and not isinstance(node, ChildGraphNode)),
)
_is_event = event_nodes.is_event

# Memory

mutant(
    "alignment-is-free",
    "where a buffer begins does not matter to code",
    _replacing(certificate, "lowered", lambda before, after, names: iter(())),
)
mutant(
    "memory-lives-always",
    "memory may be used before its allocation and after its end",
    _replacing(lifetimes, "check", lambda graph: iter(())),
)


def _all_accesses(graph: Graph) -> Any:
    return (access for found in flow.accesses(graph).values() for access in found)


mutant("allocating-writes", "memory that was just allocated holds data", _replacing(flow, "_of_data", _all_accesses))
mutant(
    "only-the-last-write-counts",
    "a read that the last write does not reach reads nothing that was written",
    _replacing(flow, "_overlaps_any", lambda reach, others: bool(others) and reach.overlaps(list(others)[-1])),
)
_check_nodes = nodes.check
mutant(
    "declared-alignment-is-a-wish",
    "nodes need not keep to the alignment that their kernels declare",
    _replacing(nodes, "check", lambda graph: (found for found in _check_nodes(graph) if found.code != "N15")),
)
