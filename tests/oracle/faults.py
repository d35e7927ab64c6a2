"""Wrong certificates and verifiers: each takes back a fix, or forgets a rule; the second oracle must find each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from forerun.ir.nodes import ChildGraphNode, ConstantArgument, EventRecordNode, EventWaitNode
from forerun.ir.refinement import body_order as rebody
from forerun.ir.refinement import certificate, fused
from forerun.ir.refinement import rules as comparison
from forerun.ir.refinement.rules import _Comparison
from forerun.ir.semantics import access, event_nodes, order, races
from forerun.ir.semantics.binding import NodeAccess
from tests.oracle.trial import trial

__all__ = ["FAULTS", "first_unsound", "shows"]

Patch = Callable[[pytest.MonkeyPatch], None]


def _asynchronous_writes(m: pytest.MonkeyPatch) -> None:
    m.setattr(rebody, "_ends_in_place", lambda phase: not phase.asynchronous)


def _uncertain_covers(m: pytest.MonkeyPatch) -> None:
    m.setattr(NodeAccess, "definite", property(lambda self: True))


def _equal_numbers(self: ConstantArgument, other: object) -> bool:
    return isinstance(other, ConstantArgument) and self.value == other.value


def _zeros(m: pytest.MonkeyPatch) -> None:
    m.setattr(ConstantArgument, "__eq__", _equal_numbers)


def _constants(m: pytest.MonkeyPatch) -> None:
    m.setattr(ConstantArgument, "__eq__", lambda self, other: isinstance(other, ConstantArgument))


def _host_calls(m: pytest.MonkeyPatch) -> None:
    def is_event(node: object) -> bool:
        if isinstance(node, ChildGraphNode):
            return any(map(is_event, node.body))
        return isinstance(node, EventRecordNode | EventWaitNode)

    for module in (access, event_nodes, comparison):
        m.setattr(module, "is_event", is_event)


def _launches(m: pytest.MonkeyPatch) -> None:
    m.setattr(_Comparison, "same_launch", lambda self, old, new: old.arguments == new.arguments)


def _arguments(m: pytest.MonkeyPatch) -> None:
    m.setattr(_Comparison, "same_launch", lambda self, old, new: old.launch == new.launch)


def _rule(name: str) -> Patch:
    return lambda m: m.setattr(_Comparison, name, lambda self, *rest: None)


def _races(m: pytest.MonkeyPatch) -> None:
    m.setattr(certificate, "check", lambda graph, assumptions=(): races.Verdict("proved"))


def _drained(m: pytest.MonkeyPatch) -> None:
    m.setattr(order.EventOrder, "undrained", lambda self, graph: [])


def _moves(m: pytest.MonkeyPatch) -> None:
    m.setattr(certificate, "misreads", lambda old, after, names: ())


def _body_order(m: pytest.MonkeyPatch) -> None:
    m.setattr(comparison, "lost_orders", lambda before, after: ())


def _other_bodies(m: pytest.MonkeyPatch) -> None:
    m.setattr(comparison, "other_body", lambda before, after: "")
    m.setattr(comparison, "lost_orders", lambda before, after: ())


def _fused(name: str) -> Patch:
    return lambda m: m.setattr(fused.Fused, name, lambda self, *rest: ())


FAULTS: Mapping[str, tuple[str, Patch, Mapping[str, float]]] = {
    "async-writes-unordered": (
        "what a phase writes asynchronously has no place in its body",
        _asynchronous_writes,
        {"swap phases": 1},
    ),
    "uncertain-write-covers": (
        "a write of unknown pages covers all of them",
        _uncertain_covers,
        {"fuse": 3, "relocate temporaries": 1},
    ),
    "zeros-are-equal": ("a constant -0.0 is a constant 0.0", _zeros, {"change a constant": 1}),
    "constants-are-equal": ("constants do not matter", _constants, {"change a constant": 1}),
    "host-calls-unordered": (
        "only event nodes keep their place, host calls do not",
        _host_calls,
        {"move a host call, an event or an allocation": 1, "drop an edge": 1},
    ),
    "launches-are-equal": ("any launch is as good as any other", _launches, {"change a launch": 1}),
    "arguments-are-equal": ("a node may get other arguments", _arguments, {"change an argument": 1}),
    "directions-ignored": ("conflicting nodes may change places", _rule("directions"), {"swap nodes": 1}),
    "events-ignored": (
        "event nodes may be crossed",
        _rule("events"),
        {"move a host call, an event or an allocation": 1, "drop an edge": 1},
    ),
    "races-ignored": ("a certificate looks for no races", _races, {"drop edges": 1, "weaken edges": 1}),
    "undrained-ignored": ("a certificate takes all nodes for drained", _drained, {"drop edges": 1, "weaken edges": 1}),
    "moves-unchecked": ("temporaries may share whatever bytes", _moves, {"relocate temporaries": 1}),
    "body-order-ignored": ("phases may change places", _body_order, {"swap phases": 1}),
    "bodies-are-equal": ("kernels may run other phases", _other_bodies, {"change a phase": 1}),
    "gone-nodes-ignored": ("nodes may disappear", _rule("extra"), {"drop a node": 1}),
    "fused-reads-unchecked": ("a fused node may read less", _fused("_reads"), {"fuse": 1}),
    "fused-writes-unchecked": ("a fused node may write less", _fused("_old_writes"), {"fuse": 1}),
}
"""The faults: what is wrong, how it is made, and the rewrites that show it."""


def first_unsound(name: str, most: int = 3000, first: int = 10**6) -> int | None:
    """The seed of the first pair that a fault proves although it is wrong; ``None`` if there is none.

    Args:
        name: A fault.
        most: How many pairs are tried.
        first: The first seed.
    """
    _, patch, kinds = FAULTS[name]
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        return next((seed for seed in range(first, first + most) if trial(seed, kinds).unsound), None)


def shows(name: str, seed: int) -> bool:
    """Whether the pair of a seed shows that a certificate with a fault is wrong."""
    return first_unsound(name, 1, seed) is not None
